//! Events, always the same ones for the same time: what is put in is known without keeping it.

use bytes::Bytes;
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::io::Write as _;
use uuid::Uuid;

const LEVELS: [&str; 8] = ["debug", "info", "info", "info", "info", "info", "warn", "error"];

/// Counts by minute since 1970, service and level.
pub(crate) type Cells = BTreeMap<(i64, String, String), u64>;

/// What events are counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keys {
    /// 10 services within the last minute: few rows, which all workers want at once
    Hot,
    /// 1,000 services within the last hour: almost every event has a row of its own
    Spread,
}

/// One batch, not sent yet.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Who numbers its events.
    pub(crate) producer: Uuid,
    /// The first number.
    pub(crate) seq: u64,
    /// How many.
    pub(crate) events: u64,
    /// zstd NDJSON.
    pub(crate) body: Bytes,
}

/// Makes events, and remembers what they are to be counted as.
#[derive(Debug)]
pub(crate) struct Generator {
    keys: Keys,
    now_ms: i64,
    made: u64,
    cells: BTreeMap<(i64, u64, &'static str), u64>,
}

impl Generator {
    /// Of events before this time (Unix ms).
    pub(crate) fn new(keys: Keys, now_ms: i64) -> Self {
        Self { keys, now_ms, made: 0, cells: BTreeMap::new() }
    }

    /// How many were made.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Appends one line.
    pub(crate) fn line(&mut self, to: &mut Vec<u8>) -> anyhow::Result<()> {
        let index = self.made;
        self.made += 1;
        let dice = mixed(index);
        let (services, within_ms) = match self.keys {
            Keys::Hot => (10, 60_000),
            Keys::Spread => (1_000, 3_600_000),
        };
        let service = dice % services;
        let ago = i64::try_from((dice >> 16) % within_ms)?;
        let level = LEVELS[usize::try_from((dice >> 40) % 8)?];
        let ms = self.now_ms - ago;
        *self.cells.entry((ms.div_euclid(60_000), service, level)).or_default() += 1;
        writeln!(
            to,
            r#"{{"timestamp":{ms},"service":"svc-{service}","level":"{level}","message":"request {index} served in {} ms","path":"/api/v1/items/{}"}}"#,
            (dice >> 44) % 97,
            (dice >> 50) % 1_000,
        )?;
        Ok(())
    }

    /// So many lines, compressed.
    pub(crate) fn body(&mut self, events: u64) -> anyhow::Result<Bytes> {
        let mut lines = Vec::new();
        for _ in 0..events {
            self.line(&mut lines)?;
        }
        Ok(zstd::bulk::compress(&lines, 1)?.into())
    }

    /// What all of them are to be counted as.
    pub(crate) fn cells(&self) -> Cells {
        self.cells
            .iter()
            .map(|((minute, service, level), count)| {
                ((*minute, format!("svc-{service}"), (*level).to_owned()), *count)
            })
            .collect()
    }
}

/// What is wrong with the counts, if anything.
pub(crate) fn difference(case: &str, expected: &Cells, counted: &Cells) -> Option<String> {
    if expected == counted {
        return None;
    }
    let (put, got): (u64, u64) = (expected.values().sum(), counted.values().sum());
    let cells = expected.iter().filter(|(key, count)| counted.get(key) != Some(count)).count()
        + counted.keys().filter(|key| !expected.contains_key(key)).count();
    Some(format!("{case}: {put} events were put in, {got} are counted; {cells} cells differ"))
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): spreads neighbouring numbers.
fn mixed(index: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_expected_once() {
        for keys in [Keys::Hot, Keys::Spread] {
            let mut generator = Generator::new(keys, 1_764_000_000_000);
            generator.body(1_000).unwrap();
            assert_eq!(generator.cells().values().sum::<u64>(), 1_000);
            assert_eq!(generator.made(), 1_000);
            let services: std::collections::BTreeSet<String> =
                generator.cells().into_keys().map(|(_, service, _)| service).collect();
            assert!(if keys == Keys::Hot { services.len() == 10 } else { services.len() > 500 });
        }
    }

    #[test]
    fn a_difference_is_told_in_numbers() {
        let cell = |n: i64| (n, "svc-1".to_owned(), "info".to_owned());
        let put = Cells::from([(cell(1), 2), (cell(2), 3)]);
        assert_eq!(difference("x", &put, &put), None);
        let got = Cells::from([(cell(1), 2), (cell(3), 3)]);
        assert_eq!(
            difference("x", &put, &got).unwrap(),
            "x: 5 events were put in, 5 are counted; 2 cells differ"
        );
    }
}
