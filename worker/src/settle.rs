//! Which events of a group are new, and what they add: the heart of *counted once*.
//!
//! ```text
//! batches ─┬─ all numbers new, none too old ──► its cells as they are
//!          ├─ all numbers known ──────────────► nothing: a duplicate
//!          └─ else ───────────────────────────► event by event
//! applied numbers of the producer (locked) ◄── grow with each batch, so a number that stands twice in the group
//!                                               is new only once
//! ```
//!
//! Numbers of events that are too old are applied too, so that they don't come again, but add nothing to the
//! counts: they go to the losses. Pure; tested against a set of numbers.

use crate::batch::{Batch, index};
use crate::ranges::{Overlap, Ranges};
use logweir_proto::{Level, ProducerId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A producer with so many ranges may get no more without a reason. An honest one retires at 500 gaps, and only rejected
/// events can bring it here: batches are on their way already when it hears of them.
pub(crate) const MAX_RANGES: usize = 1_000;
/// With so many it may get no more at all. Twice what an agent of the usual settings, half of whose events are rejected,
/// can have on its way: 16 batches of 5,000 events.
const MOST_RANGES: usize = 100_000;
/// Of a producer with many ranges, a batch that fits in between two rejected events must have so many events for each
/// range that it adds.
const EVENTS_EACH: usize = 100;

/// What one batch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done; the numbers are events.
    Done { counted: u64, duplicate: u64, too_old: u64 },
    /// It failed by its own fault, and changed nothing.
    Refused(String),
}

/// A cell of the counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) minute_ms: i64,
    pub(crate) service: Arc<str>,
    pub(crate) level: Level,
}

/// What is added to a cell, or is missing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// Events that were too old to be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) producer: ProducerId,
    pub(crate) agent: String,
    pub(crate) minute_ms: i64,
    pub(crate) sum: Sum,
}

/// What the producers of a group have applied: from Postgres, by locked rows.
pub(crate) type Ledger = BTreeMap<ProducerId, Result<Ranges, String>>;

/// What a group comes to.
#[derive(Debug, Default)]
pub(crate) struct Settlement {
    /// One for each batch, in their order.
    pub(crate) verdicts: Vec<Verdict>,
    /// The producers whose numbers grew, with the time of the newest event that may be among these.
    pub(crate) changed: BTreeMap<ProducerId, i64>,
    pub(crate) counts: HashMap<Key, Sum>,
    pub(crate) losses: Vec<Loss>,
}

/// Settles a group. Events before `oldest_ms` are too old. `ledger` must hold each producer, and grows.
pub(crate) fn settle(batches: &[&Batch], ledger: &mut Ledger, oldest_ms: i64) -> Settlement {
    let mut settlement = Settlement::default();
    for batch in batches {
        let verdict = match ledger.get_mut(&batch.producer) {
            Some(Ok(applied)) => settlement.take(batch, applied, oldest_ms),
            Some(Err(why)) => Verdict::Refused(format!("the producer's row in batch_ledger is {why}")),
            None => Verdict::Refused("the producer has no row in batch_ledger".to_owned()),
        };
        settlement.verdicts.push(verdict);
    }
    settlement
}

impl Settlement {
    fn take(&mut self, batch: &Batch, applied: &mut Ranges, oldest_ms: i64) -> Verdict {
        let mut grown = applied.clone();
        grown.add(&batch.numbers);
        if applied.len() >= MAX_RANGES && !has_reason(batch, applied.len(), grown.len()) {
            return Verdict::Refused(format!(
                "its producer has {} gaps, which only a broken one has; a new producer is needed",
                applied.len()
            ));
        }
        let nothing = Ranges::default();
        let known = if cfg!(feature = "fault-ledger-off") { &nothing } else { &*applied };
        let too_old = batch.oldest_ms.is_some_and(|oldest| oldest < oldest_ms);
        let verdict = match batch.numbers.overlap(known) {
            Overlap::None if !too_old => self.count_whole(batch),
            Overlap::Whole => Verdict::Done { counted: 0, duplicate: count(batch.events.len()), too_old: 0 },
            Overlap::None | Overlap::Part => self.count_new(batch, known, oldest_ms),
        };
        if grown != *applied {
            *applied = grown;
            let newest_ms = batch.newest_ms.unwrap_or(i64::MIN);
            let known = self.changed.entry(batch.producer).or_insert(newest_ms);
            *known = newest_ms.max(*known);
        }
        verdict
    }

    fn count_whole(&mut self, batch: &Batch) -> Verdict {
        for cell in &batch.cells {
            let key =
                Key { minute_ms: cell.minute_ms, service: Arc::clone(&cell.service), level: cell.level };
            let sum = self.counts.entry(key).or_default();
            sum.events += cell.events;
            sum.bytes += cell.bytes;
        }
        Verdict::Done { counted: count(batch.events.len()), duplicate: 0, too_old: 0 }
    }

    fn count_new(&mut self, batch: &Batch, known: &Ranges, oldest_ms: i64) -> Verdict {
        let mut new = vec![Sum::default(); batch.cells.len()];
        let mut lost: BTreeMap<i64, Sum> = BTreeMap::new();
        let (mut counted, mut duplicate, mut too_old) = (0, 0, 0);
        for event in &batch.events {
            let cell = index(event.cell);
            let sum = if known.contains(event.number) {
                duplicate += 1;
                continue;
            } else if event.at_ms < oldest_ms {
                too_old += 1;
                batch.cells.get(cell).map(|cell| lost.entry(cell.minute_ms).or_default())
            } else {
                counted += 1;
                new.get_mut(cell)
            };
            if let Some(sum) = sum {
                sum.events += 1;
                sum.bytes += u64::from(event.bytes);
            }
        }
        for (cell, new) in batch.cells.iter().zip(new).filter(|(_, new)| new.events > 0) {
            let key =
                Key { minute_ms: cell.minute_ms, service: Arc::clone(&cell.service), level: cell.level };
            let sum = self.counts.entry(key).or_default();
            sum.events += new.events;
            sum.bytes += new.bytes;
        }
        self.losses.extend(lost.into_iter().map(|(minute_ms, sum)| Loss {
            producer: batch.producer,
            agent: batch.agent.clone(),
            minute_ms,
            sum,
        }));
        Verdict::Done { counted, duplicate, too_old }
    }
}

/// Whether a batch may add to the ranges of a producer that has many already: where its rejected events explain it.
fn has_reason(batch: &Batch, before: usize, after: usize) -> bool {
    let own = Some(batch.numbers.len()).filter(|ranges| *ranges > 1).unwrap_or(0);
    let more = after.saturating_sub(before);
    more == 0 || (before < MOST_RANGES && more <= own + batch.events.len() / EVENTS_EACH)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[cfg(not(feature = "fault-ledger-off"))]
mod interleavings;

#[cfg(test)]
#[cfg(not(feature = "fault-ledger-off"))]
mod tests {
    use super::*;
    use crate::batch::tests::decoded;
    use crate::batch::tests::{AT, entry, line};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    const DAY: i64 = 86_400_000;

    fn producer() -> ProducerId {
        ProducerId::new(Uuid::from_u128(1))
    }

    fn empty() -> Ledger {
        Ledger::from([(producer(), Ok(Ranges::default()))])
    }

    /// The event with number n is of the minute n % 3, of the service n % 2; each seventh is too old.
    fn text(number: u64) -> String {
        let n = i64::try_from(number).unwrap();
        let old = if number.is_multiple_of(7) { DAY } else { 0 };
        line(AT + n % 3 * 60_000 - old, if number.is_multiple_of(2) { "a" } else { "b" }, "info")
    }

    fn batch(first: u64, events: u64, skip: &[u64]) -> Batch {
        let numbers = (0..events).filter(|index| !skip.contains(index)).map(|index| first + index);
        let body: String = numbers.map(|number| text(number) + "\n").collect();
        decoded(&entry(first, events, skip, &body)).unwrap()
    }

    proptest! {
        /// The twin keeps the numbers it has seen in a set, and counts one by one.
        #[test]
        fn each_number_counts_once(
            batches in prop::collection::vec((1u64..60, 1u64..20, prop::collection::btree_set(0u64..20, 0..3)), 1..10),
            groups in 1usize..4,
        ) {
            let batches: Vec<Batch> = batches.into_iter().map(|(first, events, skip)| {
                let skip: Vec<u64> = skip.into_iter().filter(|index| *index < events).collect();
                batch(first, events, &skip)
            }).collect();
            let mut seen = BTreeSet::new();
            let (mut twin, mut twin_lost): (BTreeMap<Key, Sum>, u64) = Default::default();
            for batch in &batches {
                for event in &batch.events {
                    if !seen.insert(event.number) {
                        continue;
                    }
                    if event.number.is_multiple_of(7) {
                        twin_lost += 1;
                        continue;
                    }
                    let cell = &batch.cells[index(event.cell)];
                    let key = Key { minute_ms: cell.minute_ms, service: cell.service.clone(), level: cell.level };
                    let sum = twin.entry(key).or_default();
                    sum.events += 1;
                    sum.bytes += u64::from(event.bytes);
                }
            }
            let mut ledger = empty();
            let (mut counts, mut lost): (BTreeMap<Key, Sum>, u64) = Default::default();
            for group in batches.chunks(groups) {
                let group: Vec<&Batch> = group.iter().collect();
                let settled = settle(&group, &mut ledger, AT - DAY / 2);
                for (key, sum) in settled.counts {
                    let total = counts.entry(key).or_default();
                    total.events += sum.events;
                    total.bytes += sum.bytes;
                }
                lost += settled.losses.iter().map(|loss| loss.sum.events).sum::<u64>();
                for (batch, verdict) in group.iter().zip(&settled.verdicts) {
                    let Verdict::Done { counted, duplicate, too_old } = verdict else { panic!("{verdict:?}") };
                    prop_assert_eq!(counted + duplicate + too_old, count(batch.events.len()));
                }
            }
            prop_assert_eq!(counts, twin);
            prop_assert_eq!(lost, twin_lost);
            let applied = ledger[&producer()].as_ref().unwrap();
            prop_assert!((0..100).all(|number| applied.contains(number) == seen.contains(&number)));
        }
    }

    #[test]
    fn a_duplicate_changes_nothing() {
        let one = batch(1, 5, &[]);
        let mut ledger = empty();
        let first = settle(&[&one, &one], &mut ledger, AT - DAY / 2);
        assert_eq!(first.verdicts[0], Verdict::Done { counted: 5, duplicate: 0, too_old: 0 });
        assert_eq!(first.verdicts[1], Verdict::Done { counted: 0, duplicate: 5, too_old: 0 });
        assert_eq!(first.changed, BTreeMap::from([(producer(), AT + 2 * 60_000)]));
        let again = settle(&[&one], &mut ledger, AT - DAY / 2);
        assert!(again.changed.is_empty() && again.counts.is_empty());
    }

    #[test]
    fn a_rejected_number_stays_open_for_its_mended_event() {
        let mut ledger = empty();
        settle(&[&batch(1, 3, &[1])], &mut ledger, AT - DAY / 2);
        let mended = settle(&[&batch(2, 1, &[])], &mut ledger, AT - DAY / 2);
        assert_eq!(mended.verdicts, [Verdict::Done { counted: 1, duplicate: 0, too_old: 0 }]);
        assert_eq!(ledger[&producer()].as_ref().unwrap().to_string(), "{[1,4)}");
    }

    #[test]
    fn past_a_thousand_ranges_only_what_adds_none_is_taken() {
        let mut ledger = empty();
        for n in 0..count(MAX_RANGES) {
            let verdict = settle(&[&batch(n * 2 + 1, 1, &[])], &mut ledger, 0).verdicts.remove(0);
            assert!(matches!(verdict, Verdict::Done { .. }), "{n}");
        }
        let one_more = settle(&[&batch(5_001, 1, &[])], &mut ledger, 0);
        assert!(matches!(&one_more.verdicts[..], [Verdict::Refused(why)] if why.contains("1000 gaps")));
        assert!(one_more.changed.is_empty() && one_more.counts.is_empty());
        for fitting in [batch(2, 1, &[]), batch(1, 1, &[]), batch(2_000, 1, &[])] {
            let settled = settle(&[&fitting], &mut ledger, 0);
            assert!(matches!(&settled.verdicts[..], [Verdict::Done { .. }]));
        }
    }

    /// An agent, half of whose events are rejected, has 16 batches on their way before it hears of it.
    #[test]
    fn rejected_events_are_a_reason_for_thousands_of_gaps() {
        let mut ledger = empty();
        let odd: Vec<u64> = (0..5_000).filter(|index| index % 2 == 1).collect();
        for n in [3, 0, 15, 7, 8] {
            let verdict = settle(&[&batch(1 + n * 5_000, 5_000, &odd)], &mut ledger, 0).verdicts.remove(0);
            assert_eq!(verdict, Verdict::Done { counted: 2_500, duplicate: 0, too_old: 0 });
        }
        // Without any, what lies between the others is large.
        let (small, large) = (batch(5_002, 99, &[]), batch(5_002, 100, &[]));
        let refused = settle(&[&small], &mut ledger, 0);
        assert!(matches!(&refused.verdicts[..], [Verdict::Refused(why)] if why.contains("12500 gaps")));
        assert!(matches!(
            &settle(&[&large], &mut ledger, 0).verdicts[..],
            [Verdict::Done { counted: 100, .. }]
        ));
        let mended = settle(&[&batch(2, 1, &[])], &mut ledger, 0);
        assert_eq!(mended.verdicts, [Verdict::Done { counted: 1, duplicate: 0, too_old: 0 }]);
    }

    #[test]
    fn there_is_an_end_to_every_reason() {
        let ranges = (0..count(MOST_RANGES)).map(|n| format!("[{},{})", n * 2 + 2, n * 2 + 3));
        let text = format!("{{{}}}", ranges.collect::<Vec<_>>().join(","));
        let mut ledger = Ledger::from([(producer(), text.parse())]);
        let further = settle(&[&batch(1 << 20, 3, &[1])], &mut ledger, 0);
        assert!(matches!(&further.verdicts[..], [Verdict::Refused(_)]));
    }

    #[test]
    fn an_unreadable_row_concerns_its_own_producer_only() {
        let mut ledger = Ledger::from([(producer(), Err("no set".to_owned()))]);
        let settled = settle(&[&batch(1, 1, &[])], &mut ledger, 0);
        assert!(matches!(&settled.verdicts[..], [Verdict::Refused(why)] if why.contains("no set")));
    }
}

#[cfg(test)]
#[cfg(feature = "fault-ledger-off")]
mod fault {
    use super::*;
    use crate::batch::tests::decoded;
    use crate::batch::tests::{AT, entry, line};

    #[test]
    fn what_comes_twice_counts_twice() {
        let one = decoded(&entry(1, 1, &[], &line(AT, "a", "info"))).unwrap();
        let mut ledger = Ledger::from([(one.producer, Ok(Ranges::default()))]);
        let counted = settle(&[&one, &one], &mut ledger, 0).counts;
        assert_eq!(counted.values().map(|sum| sum.events).sum::<u64>(), 2);
    }
}
