//! What should come out: a set of numbers, and counts that grow by one.

use super::*;

#[derive(Clone, Default)]
pub(super) struct Reference {
    /// The numbers that are counted, too old, or dropped.
    pub(super) applied: BTreeSet<(ProducerId, u64)>,
    counts: BTreeMap<Key, Sum>,
    lost: u64,
}

impl Reference {
    pub(super) fn commit(&mut self, source: &Source, part: &Part) -> Vec<Verdict> {
        let count = |entry| self.count(source, entry);
        part.iter().map(|(entry, _)| entry).map(count).collect()
    }

    fn count(&mut self, source: &Source, entry: &Entry) -> Verdict {
        let (mut counted, mut duplicate, mut too_old) = (0, 0, 0);
        for (producer, number) in numbers(entry) {
            let (at_ms, service, level) = source.event(number);
            if !self.applied.insert((producer, number)) {
                duplicate += 1;
            } else if at_ms < OLDEST {
                too_old += 1;
            } else {
                counted += 1;
                let key = Key { minute_ms: at_ms - at_ms % MINUTE, service: service.into(), level };
                let sum = self.counts.entry(key).or_default();
                sum.events += 1;
                sum.bytes += source.line(number).len() as u64;
            }
        }
        self.lost += too_old;
        Verdict::Done { counted, duplicate, too_old }
    }

    /// A dead letter is dropped: its numbers are done, and add nothing.
    pub(super) fn close(&mut self, entry: &Entry) {
        self.applied.extend(numbers(entry));
    }

    pub(super) fn totals(&self) -> Totals {
        let mut applied: BTreeMap<ProducerId, Vec<(u64, u64)>> = BTreeMap::new();
        for (producer, number) in &self.applied {
            let ranges = applied.entry(*producer).or_default();
            match ranges.last_mut() {
                Some((_, end)) if *end == *number => *end += 1,
                _ => ranges.push((*number, number + 1)),
            }
        }
        let text = |ranges: Vec<(u64, u64)>| {
            let ranges: Vec<String> = ranges.iter().map(|(start, end)| format!("[{start},{end})")).collect();
            format!("{{{}}}", ranges.join(","))
        };
        let applied = applied.into_iter().map(|(producer, ranges)| (producer, text(ranges))).collect();
        Totals { counts: self.counts.clone(), applied, lost: self.lost }
    }
}
