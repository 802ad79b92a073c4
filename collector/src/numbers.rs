//! The collector as a producer: it numbers the events of those who post without an identity.
//!
//! Invariant: a number is never given to other content once its batch may have reached the queue. What is
//! given up stays a gap, and after [`MAX_GAPS`] gaps a new producer begins, since each gap costs a range in the
//! ledger.

use logweir_proto::batch::MAX_NUMBER;
use logweir_proto::{BatchId, ProducerId, Seq};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// How many gaps one producer may leave.
const MAX_GAPS: u64 = 500;

/// Who numbers, and how far it has come.
#[derive(Debug)]
struct Run {
    producer: ProducerId,
    next: u64,
    gaps: u64,
}

/// The counter.
#[derive(Debug)]
pub(crate) struct Numbers {
    run: Mutex<Run>,
    fresh: fn() -> Uuid,
}

/// Numbers that were given to one batch. Dropped without a word, their fate is unknown, and they are a gap.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    numbers: &'a Numbers,
    batch: BatchId,
    events: u64,
    settled: bool,
}

impl Numbers {
    /// Begins with the producer that `fresh` makes; it must give another random UUID each time.
    pub(crate) fn new(fresh: fn() -> Uuid) -> Self {
        Self { run: Mutex::new(Run::new(fresh())), fresh }
    }

    /// Numbers for `events` events (at least one).
    pub(crate) fn take(&self, events: u64) -> Given<'_> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.gaps >= MAX_GAPS || run.next.saturating_add(events) > MAX_NUMBER {
            *run = Run::new((self.fresh)());
        }
        let seq = Seq::new(run.next).unwrap_or(Seq::FIRST);
        run.next += events;
        Given { numbers: self, batch: BatchId { producer: run.producer, seq }, events, settled: false }
    }
}

impl Run {
    fn new(uuid: Uuid) -> Self {
        Self { producer: ProducerId::new(uuid), next: Seq::FIRST.get(), gaps: 0 }
    }
}

impl Given<'_> {
    pub(crate) fn batch(&self) -> BatchId {
        self.batch
    }

    /// The batch is in the queue, without the events at the indices `skip` (ascending).
    pub(crate) fn added(mut self, skip: &[u64]) {
        let runs =
            skip.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() + usize::from(!skip.is_empty());
        self.settle(|run, _, _| run.gaps += u64::try_from(runs).unwrap_or(u64::MAX));
    }

    /// The batch is certainly not in the queue: its numbers may be given again when they are still the last.
    pub(crate) fn unused(mut self) {
        self.settle(|run, seq, events| {
            if run.next == seq + events {
                run.next = seq;
            } else {
                run.gaps += 1;
            }
        });
    }

    fn settle(&mut self, how: impl FnOnce(&mut Run, u64, u64)) {
        self.settled = true;
        let mut run = self.numbers.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.producer == self.batch.producer {
            how(&mut run, self.batch.seq.get(), self.events);
        }
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(|run, _, _| run.gaps += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn name(given: &Given<'_>) -> (ProducerId, u64) {
        (given.batch().producer, given.batch().seq.get())
    }

    #[test]
    fn numbers_follow_one_another() {
        let numbers = Numbers::new(Uuid::new_v4);
        let a = numbers.take(10);
        let b = numbers.take(1);
        assert_eq!((name(&a).1, name(&b).1), (1, 11));
        a.added(&[]);
        b.added(&[]);
        assert_eq!(name(&numbers.take(1)).1, 12);
    }

    #[test]
    fn numbers_that_were_never_sent_are_given_again_and_unknown_ones_never() {
        let numbers = Numbers::new(Uuid::new_v4);
        numbers.take(5).unused();
        let a = numbers.take(5);
        assert_eq!(name(&a).1, 1);
        let b = numbers.take(5);
        a.unused();
        assert_eq!(name(&b).1, 6);
        drop(b);
        assert_eq!(name(&numbers.take(1)).1, 11);
    }

    #[test]
    fn after_500_gaps_a_new_producer_begins() {
        let numbers = Numbers::new(Uuid::new_v4);
        let first = name(&numbers.take(1)).0;
        // One gap from above; runs of skipped events count once each.
        numbers.take(10).added(&[1, 2, 3, 7]);
        for _ in 0..496 {
            assert_eq!(name(&numbers.take(2)).0, first);
        }
        let last = numbers.take(2);
        assert_eq!(name(&last).0, first);
        let late = numbers.take(2);
        drop(last);
        let (second, seq) = name(&numbers.take(3));
        assert_ne!(second, first);
        assert_eq!(seq, 1);
        // What the old producer still leaves is not the new one's.
        drop(late);
        assert_eq!(name(&numbers.take(1)), (second, 4));
    }

    #[test]
    fn no_number_is_given_twice() {
        let numbers = Numbers::new(Uuid::new_v4);
        let mut used = HashSet::new();
        for round in 0_u64..5_000 {
            let given = numbers.take(1 + round % 7);
            let (producer, seq) = name(&given);
            if round % 3 == 0 {
                given.unused();
                continue;
            }
            for n in seq..seq + 1 + round % 7 {
                assert!(used.insert((producer, n)), "{n} was given twice");
            }
            if round % 2 == 0 {
                given.added(&[0]);
            }
        }
        assert!(used.len() > 5_000);
    }
}
