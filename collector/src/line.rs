//! Those who wait for room in a full shard of the queue. Pure: the time is passed in.
//!
//! ```text
//! room ─ what is on its way ─ what is promised > 0?   newcomers go on
//!                                        else         each gets a place in the line, at the time when what drains
//!                                                     until then has made room for all before it, and for it
//! ```
//!
//! Who comes back at its time goes on, whoever else came meanwhile: so the times that are told are true, as long as
//! the queue drains as it did. A place that nobody comes for is given up some time later.
//!
//! Limits: `--max-promises` places in all shards, and [`MOST`] for one agent. Who finds none is told a time as well, but no
//! room is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most places of one agent, so that none takes the line for itself.
const MOST: usize = 16;
/// How long after its time a place is kept: half as long again as the wait, since clients add jitter, and no less
/// and no more than this.
const KEPT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// Who comes: an agent, and what stands for the batch's identity, if it has one.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) agent: Arc<str>,
    pub(crate) mark: Option<u64>,
}

#[derive(Debug)]
struct Place {
    mark: Option<u64>,
    due: Instant,
    until: Instant,
}

/// What somebody is told who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Go on.
    Now,
    /// This is early: your place is due after that time.
    Early(Duration),
    /// There is no room, and no place of yours.
    Full,
}

/// The line of one shard.
#[derive(Debug)]
pub(crate) struct Line {
    places: HashMap<Arc<str>, Vec<Place>>,
    promised: usize,
    max: usize,
    /// Batches that are being added just now.
    coming: u64,
    /// Counts who was turned away.
    turned_away: u64,
}

impl Line {
    /// With at most `max` places.
    pub(crate) fn new(max: usize) -> Self {
        Self { places: HashMap::new(), promised: 0, max, coming: 0, turned_away: 0 }
    }

    /// How many places are kept.
    pub(crate) fn promised(&self) -> usize {
        self.promised
    }

    /// How many will take room before a newcomer may.
    pub(crate) fn ahead(&self) -> u64 {
        self.coming.saturating_add(u64::try_from(self.promised).unwrap_or(u64::MAX))
    }

    /// A number that is another each time.
    pub(crate) fn next_turn(&mut self) -> u64 {
        self.turned_away = self.turned_away.wrapping_add(1);
        self.turned_away
    }

    /// Whether `who` may come, when there is room for `free` batches.
    pub(crate) fn look(&self, now: Instant, who: &Who, free: u64) -> Turn {
        if let Some(place) = self.place_of(now, who).and_then(|at| self.places.get(&who.agent)?.get(at)) {
            let early = place.due.saturating_duration_since(now);
            // Its own place is among those ahead.
            let room_for_all = free >= self.ahead();
            return if early.is_zero() || room_for_all { Turn::Now } else { Turn::Early(early) };
        }
        if free > self.ahead() { Turn::Now } else { Turn::Full }
    }

    /// The same, for a batch that is added right now if it may: its place is taken, and [`Line::arrived`] must follow.
    pub(crate) fn claim(&mut self, now: Instant, who: &Who, free: u64) -> Turn {
        let turn = self.look(now, who, free);
        if turn == Turn::Now {
            self.remove(now, who);
            self.coming += 1;
        }
        turn
    }

    /// A batch that was claimed has been added, or has not.
    pub(crate) fn arrived(&mut self) {
        self.coming = self.coming.saturating_sub(1);
    }

    /// Keeps a place, due after `wait`, for somebody who was told to come after `told`. Says whether there was one.
    pub(crate) fn promise(&mut self, now: Instant, who: &Who, wait: Duration, told: Duration) -> bool {
        let mine = self.places.get(&who.agent).map_or(0, Vec::len);
        if self.promised >= self.max || mine >= MOST {
            return false;
        }
        let kept = (told / 2).clamp(KEPT.0, KEPT.1);
        let place = Place { mark: who.mark, due: now + wait, until: now + told + kept };
        self.places.entry(who.agent.clone()).or_default().push(place);
        self.promised += 1;
        true
    }

    /// Whether an agent has a place.
    pub(crate) fn knows(&self, agent: &str) -> bool {
        self.places.contains_key(agent)
    }

    /// Gives up the places that nobody came for.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.places.retain(|_, mine| {
            let before = mine.len();
            mine.retain(|place| place.until >= now);
            self.promised -= before - mine.len();
            !mine.is_empty()
        });
    }

    /// With a mark, the place of that batch; without, any that is due and has none.
    fn place_of(&self, now: Instant, who: &Who) -> Option<usize> {
        let mine = self.places.get(&who.agent)?;
        match who.mark {
            Some(_) => mine.iter().position(|place| place.mark == who.mark),
            None => mine.iter().position(|place| place.mark.is_none() && place.due <= now),
        }
    }

    /// Gives up a place, if there is one.
    pub(crate) fn remove(&mut self, now: Instant, who: &Who) {
        let Some(at) = self.place_of(now, who) else { return };
        if let Some(mine) = self.places.get_mut(&who.agent) {
            mine.swap_remove(at);
            self.promised -= 1;
            if mine.is_empty() {
                self.places.remove(&who.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn who(agent: &str, mark: u64) -> Who {
        Who { agent: agent.into(), mark: (mark > 0).then_some(mark) }
    }

    #[test]
    fn nobody_overtakes_those_who_were_promised_a_place() {
        let now = Instant::now();
        let mut line = Line::new(100);
        assert!(line.promise(now, &who("a", 1), S, S));
        assert!(line.promise(now, &who("b", 0), 2 * S, 2 * S));
        assert_eq!(line.look(now, &who("c", 1), 2), Turn::Full);
        assert_eq!(line.look(now, &who("c", 1), 3), Turn::Now);
        // The batch itself is early, unless there is room for all; and another of the same agent has no place.
        assert_eq!(line.look(now, &who("a", 1), 2), Turn::Now);
        assert_eq!(line.look(now, &who("a", 1), 1), Turn::Early(S));
        assert_eq!(line.look(now, &who("a", 2), 1), Turn::Full);
        assert_eq!(line.look(now, &who("b", 0), 1), Turn::Full);
        let later = now + S;
        assert_eq!(line.claim(later, &who("a", 1), 0), Turn::Now);
        assert_eq!(line.claim(later, &who("a", 1), 0), Turn::Full, "a place is good for once");
        // It is on its way, and takes room until it has arrived.
        assert_eq!(line.ahead(), 2);
        line.arrived();
        assert_eq!(line.ahead(), 1);
        assert_eq!(line.claim(now + 2 * S, &who("b", 0), 0), Turn::Now);
        line.arrived();
        assert_eq!((line.ahead(), line.promised()), (0, 0));
        assert!(line.places.is_empty());
    }

    #[test]
    fn a_place_that_nobody_comes_for_is_given_up() {
        let now = Instant::now();
        let mut line = Line::new(100);
        line.promise(now, &who("a", 1), S, S);
        line.promise(now, &who("b", 0), 20 * S, 20 * S);
        line.forget(now + 3 * S);
        assert_eq!(line.promised(), 2);
        line.forget(now + 4 * S);
        assert_eq!(line.promised(), 1);
        line.forget(now + 29 * S);
        assert_eq!(line.promised(), 1);
        line.forget(now + 31 * S);
        assert_eq!(line.promised(), 0);
        assert!(line.places.is_empty());
    }

    #[test]
    fn the_line_is_bounded_for_each_and_for_all() {
        let now = Instant::now();
        let mut line = Line::new(20);
        let made = (1..=40).filter(|mark| line.promise(now, &who("a", *mark), S, S)).count();
        assert_eq!(made, MOST);
        let made = (1..=40).filter(|n| line.promise(now, &who(&format!("b{n}"), 0), S, S)).count();
        assert_eq!(made, 20 - MOST);
    }
}
