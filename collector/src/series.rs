//! How many services are counted: in each hour of this collector's clock, the first `--max-series` that come.
//! Further ones are counted as [`logweir_proto::OVERFLOW_SERVICE`].
//!
//! Memory: 8 bytes a name (a keyed hash of it), and the table's slack. Each collector has its own set, and a new one begins with
//! each hour and each start; so together they may let in more names than one would, and a batch that is judged
//! differently by two of them is still counted once: as the first one that the worker sees.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

const HOUR_MS: i64 = 3_600_000;
/// How many agents are named in the log in an hour.
const MAX_NAMED: usize = 1_000;

/// The services of this hour.
#[derive(Debug)]
pub(crate) struct Series {
    max: usize,
    hasher: RandomState,
    hour: RwLock<Hour>,
}

#[derive(Debug, Default)]
struct Hour {
    number: i64,
    names: HashSet<u64>,
    /// Agents that were named in the log already.
    named: HashSet<Arc<str>>,
}

/// Asks for the names of one batch, at one time.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    series: &'a Series,
    hour: i64,
    /// The last name and its verdict: neighbours are often of one service.
    last: Option<(u64, bool)>,
}

impl Series {
    /// At most `max` names in an hour.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, hasher: RandomState::new(), hour: RwLock::default() }
    }

    /// For a batch that is judged now (Unix ms).
    pub(crate) fn asker(&self, now_ms: i64) -> Asker<'_> {
        Asker { series: self, hour: now_ms.div_euclid(HOUR_MS), last: None }
    }

    /// How many names there are in this hour.
    pub(crate) fn count(&self) -> usize {
        self.hour.read().unwrap_or_else(PoisonError::into_inner).names.len()
    }

    /// Whether this agent's overflow is to be told in the log: once an hour.
    pub(crate) fn is_news(&self, agent: &Arc<str>) -> bool {
        let mut hour = self.hour.write().unwrap_or_else(PoisonError::into_inner);
        hour.named.len() < MAX_NAMED && hour.named.insert(agent.clone())
    }

    fn takes(&self, number: i64, name: u64) -> bool {
        {
            let hour = self.hour.read().unwrap_or_else(PoisonError::into_inner);
            // One that began before the hour's end counts to the next: it never goes back.
            if hour.number >= number && (hour.names.contains(&name) || hour.names.len() >= self.max) {
                return hour.names.contains(&name);
            }
        }
        let mut hour = self.hour.write().unwrap_or_else(PoisonError::into_inner);
        if hour.number < number {
            *hour = Hour { number, ..Hour::default() };
        }
        hour.names.contains(&name) || (hour.names.len() < self.max && hour.names.insert(name))
    }
}

impl Asker<'_> {
    /// Whether this service is counted under its own name.
    pub(crate) fn takes(&mut self, service: &str) -> bool {
        let name = self.series.hasher.hash_one(service);
        if let Some((last, verdict)) = self.last
            && last == name
        {
            return verdict;
        }
        let verdict = self.series.takes(self.hour, name);
        self.last = Some((name, verdict));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_of_an_hour_are_taken_and_the_next_hour_begins_anew() {
        let series = Series::new(3);
        let takes = |now_ms: i64, names: &[&str]| {
            let mut asker = series.asker(now_ms);
            names.iter().map(|name| asker.takes(name)).collect::<Vec<_>>()
        };
        assert_eq!(takes(10, &["a", "b", "a", "b"]), [true; 4]);
        assert_eq!(takes(20, &["c", "d", "a", "d", "e", "c"]), [true, false, true, false, false, true]);
        assert_eq!(series.count(), 3);
        assert_eq!(takes(HOUR_MS - 1, &["d"]), [false]);
        assert_eq!(takes(HOUR_MS, &["d", "e", "f", "a"]), [true, true, true, false]);
        // A batch of the hour before, judged a little later.
        assert_eq!(takes(HOUR_MS - 1, &["d", "a"]), [true, false]);
        assert_eq!(series.count(), 3);
    }

    #[test]
    fn an_agent_is_news_once_an_hour() {
        let series = Series::new(1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert!(series.is_news(&a) && series.is_news(&b) && !series.is_news(&a));
        series.asker(HOUR_MS).takes("x");
        assert!(series.is_news(&a));
    }
}
