//! From what was read to batches that can be counted: off the runtime's threads, and guarded.

use crate::batch::{Batch, Bounds, decode};
use crate::cpu::ThreadClock;
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
    pub(crate) entry: Arc<Entry>,
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

/// How often it is looked how long a batch has been computed, for each time that it may take.
const LOOKS: u32 = 20;

/// Decodes a portion; a panic, or computing for longer than `limit`, is a failure of the batch that it happened in.
/// While the machine gives the decoding no time, nothing fails.
pub(crate) async fn decode_all(
    entries: Vec<Entry>,
    bounds: Bounds,
    limit: Duration,
) -> Vec<(Arc<Entry>, Result<Batch, String>)> {
    let decode = move |entry: &Entry, given_up: &AtomicBool| guarded(|| decode(entry, bounds, given_up));
    one_by_one(entries, limit, decode).await
}

async fn one_by_one<D>(
    entries: Vec<Entry>,
    limit: Duration,
    decode: D,
) -> Vec<(Arc<Entry>, Result<Batch, String>)>
where
    D: Fn(&Entry, &AtomicBool) -> Result<Batch, String> + Clone + Send + 'static,
{
    let mut done = Vec::with_capacity(entries.len());
    let mut waiting = entries.into_iter().map(Arc::new).collect::<Vec<_>>().into_iter();
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
    clock: Arc<ThreadClock>,
    given_up: Arc<AtomicBool>,
}

impl Run {
    fn start<D>(entries: Vec<Arc<Entry>>, decode: D) -> Self
    where
        D: Fn(&Entry, &AtomicBool) -> Result<Batch, String> + Send + 'static,
    {
        let (sender, results) = mpsc::channel(entries.len().max(1));
        let (clock, given_up) = (Arc::new(ThreadClock::default()), Arc::new(AtomicBool::new(false)));
        let (of_thread, flag) = (Arc::clone(&clock), Arc::clone(&given_up));
        drop(spawn_blocking(move || {
            of_thread.start();
            for entry in entries {
                // There is room for each.
                if sender.try_send(decode(&entry, &flag)).is_err() {
                    break;
                }
            }
        }));
        Self { results, clock, given_up }
    }

    /// `None` when the thread has computed for longer than `limit`.
    async fn next(&mut self, limit: Duration) -> Option<Result<Batch, String>> {
        // From the first look on, all that the thread does is this batch: what is done comes first.
        let mut before = None;
        loop {
            if let Ok(decoded) = timeout(limit / LOOKS, self.results.recv()).await {
                // Without an answer only when the runtime ends: nothing was done, and nobody will be told.
                return Some(decoded.unwrap_or_else(|| Err("the worker stops".to_owned())));
            }
            let used = self.clock.used();
            if used.saturating_sub(*before.get_or_insert(used)) >= limit {
                return None;
            }
        }
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

    /// A thread that gets no time of the machine is slow by no fault of the batch.
    #[tokio::test]
    async fn waiting_for_the_machine_is_no_failure() {
        let limit = Duration::from_millis(40);
        let starved = move |entry: &Entry, _: &AtomicBool| {
            std::thread::sleep(limit * 5);
            decoded(entry).map_err(|error| error.to_string())
        };
        let entries = (1..=2).map(|seq| entry(seq, 0, &[], "")).collect();
        let done = one_by_one(entries, limit, starved).await;
        assert!(done.len() == 2 && done.iter().all(|(_, decoded)| decoded.is_ok()), "{done:?}");
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
