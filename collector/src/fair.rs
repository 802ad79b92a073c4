//! Who works on a body next: each agent in its turn, so that one agent's many or large bodies don't delay another's.
//!
//! ```text
//!  a: ▇▇▇▇▇▇ ─┐
//!  b: ▂ ──────┼─ in turn ─► at most N at a time, of one agent at most N − 1
//!  c: ▂▂ ─────┘
//! ```
//!
//! Limits: so many may wait together. When that many do, the newest of the agent with the most gives way to one whose agent
//! has fewer; otherwise who comes is refused.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Too many wait, or this one had to give way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// The places for work, shared by all requests.
#[derive(Debug)]
pub(crate) struct Fair {
    state: Mutex<State>,
    /// At most so many of one agent at a time.
    each: usize,
    max_waiting: usize,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: usize,
    lanes: HashMap<Arc<str>, Lane>,
    /// The agents that wait, the next one first.
    turns: VecDeque<Arc<str>>,
}

/// One agent's; there is none for an agent that neither works nor waits.
#[derive(Debug, Default)]
struct Lane {
    working: usize,
    queue: VecDeque<oneshot::Sender<()>>,
}

/// A place for work, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    fair: Arc<Fair>,
    agent: Arc<str>,
}

/// Waits; dropped, it gives back what it may have been given meanwhile.
struct Waiter {
    given: Option<oneshot::Receiver<()>>,
    fair: Arc<Fair>,
    agent: Arc<str>,
}

impl Fair {
    /// `places` at a time (at least 1), and `max_waiting` that wait.
    pub(crate) fn new(places: usize, max_waiting: usize) -> Arc<Self> {
        let free = places.max(1);
        let state = State { free, waiting: 0, lanes: HashMap::new(), turns: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state), each: (free - 1).max(1), max_waiting })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Waits for a place. Cancel safe.
    ///
    /// # Errors
    /// [`Crowded`].
    pub(crate) async fn acquire(self: &Arc<Self>, agent: &Arc<str>) -> Result<Permit, Crowded> {
        let waiter = {
            let mut state = self.state();
            if state.may_work(agent, self.each) {
                state.begin(agent);
                return Ok(Permit { fair: self.clone(), agent: agent.clone() });
            }
            if state.waiting >= self.max_waiting && !state.make_way(agent) {
                return Err(Crowded);
            }
            Waiter { given: Some(state.wait(agent)), fair: self.clone(), agent: agent.clone() }
        };
        waiter.permit().await
    }

    fn end(&self, agent: &Arc<str>) {
        let mut state = self.state();
        state.free += 1;
        if let Some(lane) = state.lanes.get_mut(agent) {
            lane.working = lane.working.saturating_sub(1);
            if lane.working == 0 && lane.queue.is_empty() {
                state.lanes.remove(agent);
            }
        }
        state.give(self.each);
    }
}

impl State {
    /// Whether a place is free for an agent, and nobody of it waits for one.
    fn may_work(&self, agent: &Arc<str>, each: usize) -> bool {
        self.free > 0 && self.lanes.get(agent).is_none_or(|lane| lane.working < each && lane.queue.is_empty())
    }

    fn begin(&mut self, agent: &Arc<str>) {
        self.free -= 1;
        self.lanes.entry(agent.clone()).or_default().working += 1;
    }

    fn wait(&mut self, agent: &Arc<str>) -> oneshot::Receiver<()> {
        let (give, given) = oneshot::channel();
        let lane = self.lanes.entry(agent.clone()).or_default();
        if lane.queue.is_empty() {
            self.turns.push_back(agent.clone());
        }
        lane.queue.push_back(give);
        self.waiting += 1;
        given
    }

    /// Sends away the newest of the agent with the most, if `agent` has fewer.
    fn make_way(&mut self, agent: &Arc<str>) -> bool {
        let mine = self.lanes.get(agent).map_or(0, |lane| lane.queue.len());
        let Some((longest, lane)) = self.lanes.iter_mut().max_by_key(|(_, lane)| lane.queue.len()) else {
            return false;
        };
        if lane.queue.len() <= mine + 1 {
            return false;
        }
        lane.queue.pop_back();
        self.waiting -= 1;
        tracing::debug!(agent = %longest, "a body of the agent with the most gives way to another's");
        true
    }

    /// Gives free places to those who wait, in turn.
    fn give(&mut self, each: usize) {
        let mut passed_over = 0;
        while self.free > 0 && passed_over < self.turns.len() {
            let Some(agent) = self.turns.pop_front() else { return };
            let Some(lane) = self.lanes.get_mut(&agent) else { continue };
            if lane.working >= each && !lane.queue.is_empty() {
                self.turns.push_back(agent);
                passed_over += 1;
                continue;
            }
            passed_over = 0;
            if let Some(give) = lane.queue.pop_front() {
                self.waiting -= 1;
                // Who has gone needs none.
                if give.send(()).is_ok() {
                    lane.working += 1;
                    self.free -= 1;
                }
            }
            if !lane.queue.is_empty() {
                self.turns.push_back(agent);
            } else if lane.working == 0 {
                self.lanes.remove(&agent);
            }
        }
    }
}

impl Waiter {
    async fn permit(mut self) -> Result<Permit, Crowded> {
        let Some(given) = &mut self.given else { return Err(Crowded) };
        let outcome = given.await;
        self.given = None;
        let permit = || Permit { fair: self.fair.clone(), agent: self.agent.clone() };
        outcome.map(|()| permit()).map_err(|_| Crowded)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(mut given) = self.given.take() else { return };
        given.close();
        if given.try_recv().is_ok() {
            self.fair.end(&self.agent);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.fair.end(&self.agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    fn id(agent: &str) -> Arc<str> {
        agent.into()
    }

    /// Bodies of these agents, each a second of work, that come at once in this order. Returns who ended when.
    async fn run(fair: &Arc<Fair>, bodies: &[&'static str]) -> Vec<(&'static str, u64)> {
        let start = Instant::now();
        let mut jobs = JoinSet::new();
        for agent in bodies.iter().copied() {
            let fair = fair.clone();
            jobs.spawn(async move {
                let Ok(_permit) = fair.acquire(&id(agent)).await else { return (agent, 0) };
                sleep(Duration::from_secs(1)).await;
                (agent, (Instant::now() - start).as_secs())
            });
            // In this order.
            tokio::task::yield_now().await;
        }
        let mut done = jobs.join_all().await;
        done.sort_by_key(|(_, at)| *at);
        done
    }

    #[tokio::test(start_paused = true)]
    async fn one_agent_never_takes_the_last_place_and_each_has_its_turn() {
        let fair = Fair::new(3, 100);
        let done = run(&fair, &["a", "a", "a", "a", "a", "a", "b", "b", "c"]).await;
        // a and b at once; then the third place goes round.
        let at = |agent: &str| done.iter().filter(|d| d.0 == agent).map(|d| d.1).collect::<Vec<_>>();
        assert_eq!(at("b"), [1, 2]);
        assert_eq!(at("c"), [2]);
        assert_eq!(at("a"), [1, 1, 2, 3, 3, 4]);
        assert_eq!((fair.waiting(), fair.state().free), (0, 3));
        assert!(fair.state().lanes.is_empty() && fair.state().turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_are_refused_and_the_one_with_the_most_gives_way() {
        let fair = Fair::new(2, 4);
        // One a works, four wait; b works at once, its second one takes the place of the newest a, and so does its
        // third; then both have as many as the other.
        let done = run(&fair, &["a", "a", "a", "a", "a", "a", "b", "b", "b", "b"]).await;
        let refused = |agent| done.iter().filter(|d| d.0 == agent && d.1 == 0).count();
        assert_eq!((refused("a"), refused("b")), (3, 1), "{done:?}");
        assert_eq!((fair.waiting(), fair.state().free), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_takes_nothing_along() {
        let fair = Fair::new(1, 100);
        let (b, c) = (id("b"), id("c"));
        let first = fair.acquire(&id("a")).await.unwrap();
        {
            let mut waiting = Box::pin(fair.acquire(&b));
            assert!(futures_now(&mut waiting).await.is_none());
            drop(first);
            // It has been given the place, and goes without having looked.
        }
        let mut next = Box::pin(fair.acquire(&c));
        assert!(futures_now(&mut next).await.is_some());
        drop(next);
        let held = fair.acquire(&id("a")).await.unwrap();
        {
            let mut waiting = Box::pin(fair.acquire(&b));
            assert!(futures_now(&mut waiting).await.is_none());
        }
        drop(held);
        assert_eq!((fair.waiting(), fair.state().free), (0, 1));
        assert!(fair.state().lanes.is_empty());
    }

    /// What a future gives without waiting.
    async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
