//! Which of the collectors is asked: the first in the list that isn't down.
//!
//! ```text
//!   up ── no answer, an error, draining, its queue away ──► down until a time
//!    ▲                                                         │ the time is over: one attempt looks
//!    └──────────── it judged a batch ──────────────────────────┘ (meanwhile the others go on elsewhere)
//! ```
//!
//! Invariants: a batch keeps its identity wherever it is sent, so an attempt whose answer was lost may be repeated at
//! another collector; with several collectors all down, the one that is due first is asked, so there is always one.
//! What people must mend (401, 403, a wrong address) and what all collectors share (the agent's quota, a full queue)
//! is no reason to go elsewhere.

use crate::retry::Backoff;
use crate::send::policy::{Hold, Reason, Wait};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// For how long a collector that failed isn't asked, while there are others: doubling, with half of it left to chance.
const DOWN: (Duration, Duration, f64) = (Duration::from_secs(1), Duration::from_secs(60), 0.5);

/// The collectors, in the order of preference.
#[derive(Debug)]
pub(crate) struct Collectors {
    all: Mutex<Vec<State>>,
}

#[derive(Debug)]
struct State {
    /// Not asked before; `None` while it is up.
    down_until: Option<Instant>,
    backoff: Backoff,
}

/// Those that were asked in one turn.
#[derive(Debug, Default)]
pub(crate) struct Asked(Vec<usize>);

impl Collectors {
    /// `count` collectors (at least one), all up.
    pub(crate) fn new(count: usize) -> Self {
        let collectors = Self { all: Mutex::default() };
        collectors.reset(count);
        collectors
    }

    /// They are others now: so many, all up.
    pub(crate) fn reset(&self, count: usize) {
        let (first, cap, jitter) = DOWN;
        let up = || State { down_until: None, backoff: Backoff::new(first, cap, jitter) };
        *self.lock() = (0..count.max(1)).map(|_| up()).collect();
    }

    /// The next one to ask in this turn: one is always found for the first question of a turn.
    pub(crate) fn next(&self, asked: &mut Asked) -> Option<usize> {
        let now = Instant::now();
        let mut all = self.lock();
        let due = |state: &State| state.down_until.is_none_or(|until| until <= now);
        let free = |index: &usize| !asked.0.contains(index);
        let mut chosen = (0..all.len()).filter(free).find(|index| due(&all[*index]));
        if chosen.is_none() && asked.0.is_empty() {
            chosen = (0..all.len()).min_by_key(|index| all[*index].down_until);
        }
        let index = chosen?;
        let several = all.len() > 1;
        let state = &mut all[index];
        if several && state.down_until.is_some() {
            // This attempt looks; the others don't wait for it.
            state.down_until = Some(now + state.backoff.next(rand::random()));
        }
        asked.0.push(index);
        Some(index)
    }

    /// The one that would be asked next; asking it tells nothing here.
    pub(crate) fn preferred(&self) -> usize {
        self.lock().iter().position(|state| state.down_until.is_none()).unwrap_or(0)
    }

    /// It has to wait. Returns whether another one may be asked instead.
    pub(crate) fn held(&self, index: usize, hold: &Hold) -> bool {
        if !is_its_own(hold.reason) {
            return false;
        }
        let mut all = self.lock();
        let several = all.len() > 1;
        if let Some(state) = all.get_mut(index).filter(|_| several) {
            let now = Instant::now();
            let wait = match hold.wait {
                Wait::Told(told) => told,
                Wait::Backoff | Wait::Long if state.down_until.is_none_or(|until| until <= now) => {
                    state.backoff.next(rand::random())
                }
                // Whoever went to look has set the time already.
                Wait::Backoff | Wait::Long => Duration::ZERO,
            };
            if state.down_until.is_none() {
                tracing::warn!(
                    collector = index,
                    detail = hold.detail,
                    "this collector fails; asking the next one"
                );
            }
            state.down_until = Some(state.down_until.map_or(now + wait, |until| until.max(now + wait)));
        }
        several
    }

    /// It judged a batch.
    pub(crate) fn went(&self, index: usize) {
        if let Some(state) = self.lock().get_mut(index)
            && state.down_until.take().is_some()
        {
            state.backoff.reset();
            tracing::info!(collector = index, "this collector answers again");
        }
    }

    /// How many are down.
    pub(crate) fn down(&self) -> usize {
        self.which_are_down().into_iter().filter(|down| *down).count()
    }

    /// For each whether it is down.
    pub(crate) fn which_are_down(&self) -> Vec<bool> {
        self.lock().iter().map(|state| state.down_until.is_some()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is this collector's trouble, so that another one may do better.
const fn is_its_own(reason: Reason) -> bool {
    match reason {
        Reason::Unreachable
        | Reason::TimedOut
        | Reason::Error
        | Reason::Draining
        | Reason::Overloaded
        | Reason::QueueUnavailable => true,
        Reason::RateLimited
        | Reason::QueueFull
        | Reason::Unauthenticated
        | Reason::Forbidden
        | Reason::Configuration => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(reason: Reason, wait: Wait) -> Hold {
        Hold { reason, wait, detail: "test".to_owned() }
    }

    fn first(collectors: &Collectors) -> usize {
        collectors.next(&mut Asked::default()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_while_one_is_down_and_back_after_a_while() {
        let collectors = Collectors::new(3);
        let mut turn = Asked::default();
        assert_eq!(collectors.next(&mut turn), Some(0));
        assert!(collectors.held(0, &hold(Reason::Unreachable, Wait::Backoff)));
        assert_eq!(collectors.next(&mut turn), Some(1));
        collectors.went(1);
        assert_eq!((first(&collectors), collectors.down()), (1, 1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(first(&collectors), 0, "one looks");
        assert_eq!(first(&collectors), 1, "and the others don't wait for it");
        collectors.went(0);
        assert_eq!((first(&collectors), collectors.down()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_says_of_when_is_heeded() {
        let collectors = Collectors::new(2);
        first(&collectors);
        collectors.held(0, &hold(Reason::Draining, Wait::Told(Duration::from_secs(20))));
        for _ in 0..19 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(first(&collectors), 1);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(first(&collectors), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_asked_once_a_turn_and_one_always() {
        let collectors = Collectors::new(2);
        for _ in 0..50 {
            let mut turn = Asked::default();
            let mut asked = 0;
            while let Some(index) = collectors.next(&mut turn) {
                collectors.held(index, &hold(Reason::Unreachable, Wait::Backoff));
                asked += 1;
            }
            assert!((1..=2).contains(&asked), "{asked}");
            tokio::time::advance(Duration::from_millis(300)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_one_is_asked_ever_less_often_but_at_least_once_a_minute() {
        let collectors = Collectors::new(2);
        let mut looks = Vec::new();
        for second in 0..600 {
            if first(&collectors) == 0 {
                looks.push(second);
                collectors.held(0, &hold(Reason::Unreachable, Wait::Backoff));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((10..=30).contains(&looks.len()), "{looks:?}");
        assert!(looks.windows(2).all(|pair| pair[1] - pair[0] <= 61), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_and_what_people_must_mend_is_no_reason_to_go_elsewhere() {
        let collectors = Collectors::new(2);
        for reason in [
            Reason::RateLimited,
            Reason::QueueFull,
            Reason::Unauthenticated,
            Reason::Forbidden,
            Reason::Configuration,
        ] {
            assert!(!collectors.held(0, &hold(reason, Wait::Long)), "{reason:?}");
            assert_eq!(first(&collectors), 0);
        }
        let alone = Collectors::new(1);
        assert!(!alone.held(0, &hold(Reason::Unreachable, Wait::Backoff)));
        assert_eq!((first(&alone), alone.down()), (0, 0));
    }
}
