//! From what was read to batches that can be counted: off the runtime's threads, and guarded.

use crate::batch::{Batch, decode};
use logweir_queue::Entry;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::task::spawn_blocking;

/// The most events that are decoded at a time: it bounds the memory of a lane (24 bytes each) and a transaction. A
/// single batch that is larger stands alone.
const EVENTS: u64 = 500_000;

/// A batch with the entry that it came in.
#[derive(Debug)]
pub(crate) struct Countable {
    pub(crate) entry: Entry,
    pub(crate) batch: Batch,
}

/// Cuts what was read into portions of a bounded number of events, in their order.
pub(crate) fn portions(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut portions: Vec<Vec<Entry>> = Vec::new();
    let mut sum = 0u64;
    for entry in entries {
        let grown = sum.saturating_add(entry.events);
        match portions.last_mut() {
            Some(portion) if grown <= EVENTS => {
                sum = grown;
                portion.push(entry);
            }
            _ => {
                sum = entry.events;
                portions.push(vec![entry]);
            }
        }
    }
    portions
}

/// Decodes a portion; a panic is a failure of the batch that it happened in.
pub(crate) async fn decode_all(entries: Vec<Entry>, max_bytes: usize) -> Vec<(Entry, Result<Batch, String>)> {
    let spare = entries.clone();
    let decode_each = move || {
        let decoded = |entry: Entry| {
            let batch = guarded(|| decode(&entry, max_bytes));
            (entry, batch)
        };
        entries.into_iter().map(decoded).collect()
    };
    match spawn_blocking(decode_each).await {
        Ok(decoded) => decoded,
        // Only when the runtime ends: nothing was done, and nobody will be told.
        Err(error) => spare.into_iter().map(|entry| (entry, Err(error.to_string()))).collect(),
    }
}

fn guarded<E: ToString>(decode: impl FnOnce() -> Result<Batch, E>) -> Result<Batch, String> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(batch) => batch.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("decoding it panicked: {}", message(panic.as_ref()))),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::entry;

    #[test]
    fn portions_are_bounded_and_keep_the_order() {
        let sizes = [300_000, 200_000, 1, 900_000, u64::MAX >> 2, 1, 2];
        let entries: Vec<Entry> =
            (1u64..).zip(sizes).map(|(seq, events)| entry(seq, events, &[], "")).collect();
        let cut: Vec<Vec<u64>> =
            portions(entries).iter().map(|p| p.iter().map(|e| e.batch.seq.get()).collect()).collect();
        assert_eq!(cut, [vec![1, 2], vec![3], vec![4], vec![5], vec![6, 7]]);
        assert!(portions(Vec::new()).is_empty());
    }

    #[test]
    fn a_panic_is_the_batchs_failure() {
        let failed = guarded(|| -> Result<Batch, String> { panic!("too much") });
        assert!(failed.is_err_and(|error| error == "decoding it panicked: too much"));
    }
}
