//! The collector as a producer: it numbers the events of those who post without an identity.
//!
//! Invariant: a number is never given to other content once its batch may have reached the queue. What is
//! given up stays a gap, and after [`MAX_GAPS`] gaps a new producer begins, since each gap costs a range in the
//! ledger, and the worker refuses a producer with a thousand. So the gaps of rejected events are counted when the
//! numbers are given, and no more than [`MAX_OPEN`] batches may be on their way, each of which may yet become a gap.

use logweir_proto::batch::MAX_NUMBER;
use logweir_proto::{BatchId, ProducerId, Seq};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// How many gaps one producer may leave; a batch with more of its own has a producer of its own.
const MAX_GAPS: u64 = 500;
/// How many batches of one producer may be on their way to the queue.
const MAX_OPEN: u64 = 400;

/// Who numbers, and how far it has come.
#[derive(Debug)]
struct Run {
    producer: ProducerId,
    next: u64,
    gaps: u64,
    /// Batches whose fate isn't known yet.
    open: u64,
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
    gaps: u64,
    settled: bool,
}

impl Numbers {
    /// Begins with the producer that `fresh` makes; it must give another random UUID each time.
    pub(crate) fn new(fresh: fn() -> Uuid) -> Self {
        Self { run: Mutex::new(Run::new(fresh())), fresh }
    }

    /// Who numbers now.
    pub(crate) fn producer(&self) -> ProducerId {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).producer
    }

    /// Numbers for `events` events (at least one), of which those at the indices `skip` (ascending) are rejected.
    pub(crate) fn take(&self, events: u64, skip: &[u64]) -> Given<'_> {
        let gaps = runs(skip);
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.is_full(events, gaps) {
            *run = Run::new((self.fresh)());
        }
        let seq = Seq::new(run.next).unwrap_or(Seq::FIRST);
        run.next += events;
        run.gaps += gaps;
        run.open += 1;
        Given { numbers: self, batch: BatchId { producer: run.producer, seq }, events, gaps, settled: false }
    }
}

impl Run {
    fn new(uuid: Uuid) -> Self {
        Self { producer: ProducerId::new(uuid), next: Seq::FIRST.get(), gaps: 0, open: 0 }
    }

    /// Whether the next batch needs a new producer.
    fn is_full(&self, events: u64, gaps: u64) -> bool {
        let is_new = self.next == Seq::FIRST.get();
        let too_many = self.gaps >= MAX_GAPS || (self.gaps + gaps > MAX_GAPS && !is_new);
        too_many || self.open >= MAX_OPEN || self.next.saturating_add(events) > MAX_NUMBER
    }
}

/// How many gaps these indices (ascending) are: neighbours are one.
fn runs(skip: &[u64]) -> u64 {
    let apart = skip.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    u64::try_from(apart + usize::from(!skip.is_empty())).unwrap_or(u64::MAX)
}

impl Given<'_> {
    pub(crate) fn batch(&self) -> BatchId {
        self.batch
    }

    /// The batch is in the queue.
    pub(crate) fn added(mut self) {
        self.settle(|_, _| {});
    }

    /// The batch is certainly not in the queue: its numbers may be given again when they are still the last.
    pub(crate) fn unused(mut self) {
        self.settle(|run, given| {
            run.gaps = run.gaps.saturating_sub(given.gaps);
            if run.next == given.batch.seq.get() + given.events {
                run.next = given.batch.seq.get();
            } else {
                run.gaps += 1;
            }
        });
    }

    fn settle(&mut self, how: impl FnOnce(&mut Run, &Self)) {
        self.settled = true;
        let mut run = self.numbers.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.producer == self.batch.producer {
            run.open = run.open.saturating_sub(1);
            how(&mut run, self);
        }
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(|run, _| run.gaps += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn name(given: &Given<'_>) -> (ProducerId, u64) {
        (given.batch().producer, given.batch().seq.get())
    }

    #[test]
    fn numbers_follow_one_another() {
        let numbers = Numbers::new(Uuid::new_v4);
        let a = numbers.take(10, &[]);
        let b = numbers.take(1, &[]);
        assert_eq!((name(&a).1, name(&b).1), (1, 11));
        a.added();
        b.added();
        assert_eq!(name(&numbers.take(1, &[])).1, 12);
    }

    #[test]
    fn numbers_that_were_never_sent_are_given_again_and_unknown_ones_never() {
        let numbers = Numbers::new(Uuid::new_v4);
        numbers.take(5, &[]).unused();
        let a = numbers.take(5, &[]);
        assert_eq!(name(&a).1, 1);
        let b = numbers.take(5, &[]);
        a.unused();
        assert_eq!(name(&b).1, 6);
        drop(b);
        assert_eq!(name(&numbers.take(1, &[])).1, 11);
    }

    #[test]
    fn after_500_gaps_a_new_producer_begins() {
        let numbers = Numbers::new(Uuid::new_v4);
        let first = name(&numbers.take(1, &[])).0;
        // One gap from above; runs of skipped events count once each.
        numbers.take(10, &[1, 2, 3, 7]).added();
        for _ in 0..496 {
            assert_eq!(name(&numbers.take(2, &[])).0, first);
        }
        let last = numbers.take(2, &[]);
        assert_eq!(name(&last).0, first);
        let late = numbers.take(2, &[]);
        drop(last);
        let (second, seq) = name(&numbers.take(3, &[]));
        assert_ne!(second, first);
        assert_eq!(seq, 1);
        // What the old producer still leaves is not the new one's.
        drop(late);
        assert_eq!(name(&numbers.take(1, &[])), (second, 4));
    }

    /// The gaps of each producer, as the worker would find them when every batch on its way became one.
    #[test]
    fn however_many_are_on_their_way_no_producer_gets_a_thousand_gaps() {
        let numbers = Numbers::new(Uuid::new_v4);
        let mut on_their_way = Vec::new();
        let mut gaps: HashMap<ProducerId, u64> = HashMap::new();
        for round in 0_u64..4_000 {
            let skip: &[u64] = if round % 3 == 0 { &[1, 3, 5] } else { &[] };
            let given = numbers.take(10, skip);
            *gaps.entry(given.batch().producer).or_default() += runs(skip) + 1;
            on_their_way.push(given);
        }
        assert!(gaps.values().all(|gaps| *gaps < 1_000), "{:?}", gaps.values());
        assert!(gaps.len() < 20, "{}", gaps.len());
    }

    #[test]
    fn a_batch_with_many_gaps_has_a_producer_of_its_own() {
        let numbers = Numbers::new(Uuid::new_v4);
        let odd: Vec<u64> = (0..5_000).filter(|index| index % 2 == 1).collect();
        let before = name(&numbers.take(1, &[])).0;
        let large = numbers.take(5_000, &odd);
        let (own, seq) = name(&large);
        assert!(own != before && seq == 1);
        large.added();
        assert_ne!(name(&numbers.take(1, &[])).0, own);
        // Not taken, it leaves nothing behind.
        let numbers = Numbers::new(Uuid::new_v4);
        let unused = numbers.take(5_000, &odd);
        let first = name(&unused);
        unused.unused();
        assert_eq!(name(&numbers.take(1, &[])), first);
    }

    #[test]
    fn no_number_is_given_twice() {
        let numbers = Numbers::new(Uuid::new_v4);
        let mut used = HashSet::new();
        for round in 0_u64..5_000 {
            let given = numbers.take(1 + round % 7, &[]);
            let (producer, seq) = name(&given);
            if round % 3 == 0 {
                given.unused();
                continue;
            }
            for n in seq..seq + 1 + round % 7 {
                assert!(used.insert((producer, n)), "{n} was given twice");
            }
            if round % 2 == 0 {
                given.added();
            }
        }
        assert!(used.len() > 5_000);
    }
}
