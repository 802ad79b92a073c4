//! From what was read to batches that can be counted: off the runtime's threads, and guarded.

use crate::batch::{Batch, Bounds, decode};
use logweir_queue::Entry;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

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

/// Into how many slices the time of a batch is cut. A process that was stopped for a while finds one slice over, not
/// all of them: that was not the batch's fault.
const SLICES: u32 = 20;

/// Decodes a portion; a panic, or taking longer than `limit`, is a failure of the batch that it happened in.
pub(crate) async fn decode_all(
    entries: Vec<Entry>,
    bounds: Bounds,
    limit: Duration,
) -> Vec<(Entry, Result<Batch, String>)> {
    let decode = move |entry: &Entry, given_up: &AtomicBool| guarded(|| decode(entry, bounds, given_up));
    one_by_one(entries, limit, decode).await
}

async fn one_by_one<D>(entries: Vec<Entry>, limit: Duration, decode: D) -> Vec<(Entry, Result<Batch, String>)>
where
    D: Fn(&Entry, &AtomicBool) -> Result<Batch, String> + Clone + Send + 'static,
{
    let mut done = Vec::with_capacity(entries.len());
    let mut waiting = entries.into_iter();
    while !waiting.as_slice().is_empty() {
        let mut run = Run::start(waiting.as_slice().to_vec(), decode.clone());
        for entry in waiting.by_ref() {
            let Some(decoded) = run.next(limit).await else {
                done.push((entry, Err(format!("decoding it took longer than {limit:?}: --batch-timeout"))));
                // The others begin anew, on another thread.
                break;
            };
            done.push((entry, decoded));
        }
    }
    done
}

/// Batches that are decoded one after another on a thread for such work; dropping it ends that soon.
struct Run {
    results: mpsc::Receiver<Result<Batch, String>>,
    given_up: Arc<AtomicBool>,
}

impl Run {
    fn start<D>(entries: Vec<Entry>, decode: D) -> Self
    where
        D: Fn(&Entry, &AtomicBool) -> Result<Batch, String> + Send + 'static,
    {
        let (sender, results) = mpsc::channel(entries.len().max(1));
        let given_up = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&given_up);
        drop(spawn_blocking(move || {
            for entry in entries {
                // There is room for each.
                if sender.try_send(decode(&entry, &flag)).is_err() {
                    break;
                }
            }
        }));
        Self { results, given_up }
    }

    /// `None` when it takes longer than `limit`.
    async fn next(&mut self, limit: Duration) -> Option<Result<Batch, String>> {
        for _ in 0..SLICES {
            if let Ok(decoded) = timeout(limit / SLICES, self.results.recv()).await {
                // Without an answer only when the runtime ends: nothing was done, and nobody will be told.
                return Some(decoded.unwrap_or_else(|| Err("the worker stops".to_owned())));
            }
        }
        None
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
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
    use crate::batch::tests::{decoded, entry};

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

    /// The slow ones never end by themselves. Whatever the machine does meanwhile, they fail and no other does.
    #[tokio::test]
    async fn a_slow_batch_fails_alone_and_is_ended() {
        let entries: Vec<Entry> = (1..=6).map(|seq| entry(seq, 0, &[], "")).collect();
        let (tell, ended) = std::sync::mpsc::sync_channel(3);
        let slow = move |entry: &Entry, given_up: &AtomicBool| {
            let seq = entry.batch.seq.get();
            if ![2, 3, 6].contains(&seq) {
                return decoded(entry).map_err(|error| error.to_string());
            }
            while !given_up.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            tell.send(seq).unwrap();
            Err("nobody is told".to_owned())
        };
        let done = one_by_one(entries, Duration::from_millis(500), slow).await;
        let failed = |seq: &u64| [2, 3, 6].contains(seq);
        for (at, (entry, decoded)) in (1u64..).zip(&done) {
            assert_eq!(entry.batch.seq.get(), at);
            match decoded {
                Ok(_) => assert!(!failed(&at), "{at}"),
                Err(error) => assert!(failed(&at) && error.contains("longer than 500ms"), "{at}: {error}"),
            }
        }
        assert_eq!(done.len(), 6);
        let mut ended: Vec<u64> = ended.iter().collect();
        ended.sort_unstable();
        assert_eq!(ended, [2, 3, 6]);
    }
}
