//! How full the queue is, whether it can be reached, and when there will be room: what is decided before a body
//! is read.
//!
//! ```text
//! each 200 ms: depth ──► DrainMeter ──► View ──► requests (refuse, hold, go on)
//!   each enqueue's answer ─────────────► View
//! ```
//!
//! A view may be 200 ms old; the queue's own limit is checked atomically when a batch is added. So a view that
//! says "full" wrongly costs a retry, and one that says "room" wrongly costs a body.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

/// `Retry-After` is at least a second, and at most this.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(1);
/// When nothing drains, nobody knows when there will be room; agents ask again after this, spread by as much.
const STALLED: Duration = Duration::from_secs(2);
/// How far the drain rate looks back.
const MEMORY: Duration = Duration::from_secs(3);
/// Without a drained entry for so long, the queue stands still.
const STANDSTILL: Duration = Duration::from_secs(2);
/// Agents come back when this share of the limit is left in the queue.
const TARGET: f64 = 0.8;

/// The limits of each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// What is known of one shard of the queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct View {
    /// `None` until the first look; then why it can't be used, if so.
    pub(crate) trouble: Option<Result<(), Arc<str>>>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest_age_ms: u64,
    pub(crate) drain: Drain,
}

/// How fast the queue drains, per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Drain {
    pub(crate) entries: f64,
    pub(crate) bytes: f64,
}

impl View {
    /// Why the queue can't be used, as far as is known.
    pub(crate) fn unavailable(&self) -> Option<Arc<str>> {
        self.trouble.as_ref().and_then(|t| t.as_ref().err()).cloned()
    }

    /// Whether a batch would surely be refused.
    pub(crate) fn is_full(&self, room: Room) -> bool {
        self.entries >= room.entries || self.bytes >= room.bytes
    }

    /// For how many batches there is room; their size is that of those in the queue.
    pub(crate) fn free(&self, room: Room) -> u64 {
        let bytes = room.bytes.saturating_sub(self.bytes).div_ceil(self.mean_bytes());
        room.entries.saturating_sub(self.entries).min(bytes)
    }

    fn mean_bytes(&self) -> u64 {
        self.bytes.checked_div(self.entries).unwrap_or(1).max(1)
    }

    /// When there will be room for one batch more, with `ahead` others to come first: zero when there is, `None`
    /// when nothing drains.
    pub(crate) fn room_in(&self, room: Room, ahead: u64) -> Option<Duration> {
        self.drained_in(room, 1.0, ahead)
    }

    /// When whoever is refused now should come back, with `ahead` others to come first: the time until the queue
    /// has drained to 80 % of its limits, and room for them and for one more has come. What is kept free is for
    /// what nobody knows: a drain that slows down, and other collectors.
    pub(crate) fn place_in(&self, room: Room, ahead: u64) -> Option<Duration> {
        self.drained_in(room, TARGET, ahead)
    }

    fn drained_in(&self, room: Room, target: f64, ahead: u64) -> Option<Duration> {
        let more = ahead.saturating_add(1) as f64;
        let entries = self.entries as f64 + more - room.entries as f64 * target;
        let bytes = self.bytes as f64 + more * self.mean_bytes() as f64 - room.bytes as f64 * target;
        let entries = seconds(entries, self.drain.entries)?;
        let bytes = seconds(bytes, self.drain.bytes)?;
        Duration::try_from_secs_f64(entries.max(bytes)).ok()
    }

    /// How full the queue is, 0 to 1.
    pub(crate) fn pressure(&self, room: Room) -> f64 {
        let entries = self.entries as f64 / room.entries as f64;
        let bytes = self.bytes as f64 / room.bytes as f64;
        entries.max(bytes).clamp(0.0, 1.0)
    }
}

/// How long `amount` takes at `rate` per second; `None` when that is no time that will come.
fn seconds(amount: f64, rate: f64) -> Option<f64> {
    if amount <= 0.0 {
        Some(0.0)
    } else if rate > 0.0 {
        Some(amount / rate)
    } else {
        None
    }
}

/// What somebody is told whose place in the line is due after `place` (`None`: nobody knows when), in its turn-th
/// refusal: between 1 and 30 s, and spread, so that agents don't come back together.
pub(crate) fn told(place: Option<Duration>, agent: &str, turn: u64) -> Duration {
    let Some(place) = place else { return STALLED + spread(agent, turn, STALLED) };
    // Two thirds, so that those who must wait longest are spread as well.
    let base = place.clamp(SHORTEST, LONGEST * 2 / 3);
    base + spread(agent, turn, (base / 2).max(SHORTEST))
}

/// The longest time after which a place in the line is due: who must wait longer is told to ask again before.
pub(crate) const FURTHEST: Duration = Duration::from_secs(20);

/// A time within `span` that agent and turn decide, so that neither agents nor the requests of one come back
/// together.
pub(crate) fn spread(agent: &str, turn: u64, span: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    agent.hash(&mut hasher);
    turn.hash(&mut hasher);
    let share = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    span.mul_f64(share)
}

/// Measures how fast the queue drains: what has gone is what was there, and what was added, less what is there.
///
/// What other collectors add meanwhile is not known here, so with several of them the queue seems to drain more
/// slowly than it does; when it is full, nobody adds, and the measure is right again.
#[derive(Debug, Clone, Default)]
pub(crate) struct DrainMeter {
    last: Option<Sample>,
    drain: Drain,
    still: Duration,
}

/// What was seen at one moment. The added ones are sums since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) added_entries: u64,
    pub(crate) added_bytes: u64,
}

impl DrainMeter {
    /// Takes a sample; times go forward.
    pub(crate) fn observe(&mut self, now: Sample) -> Drain {
        if let Some(last) = self.last {
            let passed = now.at.saturating_sub(last.at);
            let gone = |before: u64, added: u64, after: u64| (before + added).saturating_sub(after) as f64;
            let entries = gone(last.entries, now.added_entries - last.added_entries, now.entries);
            let bytes = gone(last.bytes, now.added_bytes - last.added_bytes, now.bytes);
            self.fold(passed, entries, bytes, last.entries > 0);
        }
        self.last = Some(now);
        self.drain
    }

    fn fold(&mut self, passed: Duration, entries: f64, bytes: f64, had_work: bool) {
        let passed_s = passed.as_secs_f64();
        if passed_s <= 0.0 {
            return;
        }
        self.still = if entries > 0.0 { Duration::ZERO } else { self.still + passed };
        if !had_work && entries <= 0.0 {
            // An empty queue doesn't drain, which says nothing about how fast it could.
            self.still = Duration::ZERO;
            return;
        }
        if self.still >= STANDSTILL {
            self.drain = Drain::default();
            return;
        }
        let keep =
            if self.drain == Drain::default() { 0.0 } else { (-passed_s / MEMORY.as_secs_f64()).exp() };
        self.drain.entries = self.drain.entries * keep + entries / passed_s * (1.0 - keep);
        self.drain.bytes = self.drain.bytes * keep + bytes / passed_s * (1.0 - keep);
    }

    /// Forgets the last sample, when some are missing.
    pub(crate) fn interrupt(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { entries: 1_000, bytes: 1 << 20 };

    fn view(entries: u64, bytes: u64, drain: Drain) -> View {
        View { entries, bytes, drain, ..View::default() }
    }

    fn close(a: Duration, b: f64) -> bool {
        (a.as_secs_f64() - b).abs() < 1e-6
    }

    #[test]
    fn full_is_what_the_queue_itself_calls_full() {
        let drain = Drain::default();
        assert!(!view(999, 0, drain).is_full(ROOM));
        assert!(view(1_000, 0, drain).is_full(ROOM));
        assert!(!view(0, (1 << 20) - 1, drain).is_full(ROOM));
        assert!(view(0, 1 << 20, drain).is_full(ROOM));
    }

    #[test]
    fn room_comes_when_the_excess_has_drained_and_those_before_have_come() {
        let drain = Drain { entries: 10.0, bytes: 1e9 };
        assert_eq!(view(10, 10, drain).room_in(ROOM, 0), Some(Duration::ZERO));
        assert!(close(view(1_000, 10, drain).room_in(ROOM, 0).unwrap(), 0.1));
        assert!(close(view(1_099, 10, drain).room_in(ROOM, 0).unwrap(), 10.0));
        assert!(close(view(1_000, 10, drain).room_in(ROOM, 30).unwrap(), 3.1));
        assert_eq!(view(1_000, 10, Drain::default()).room_in(ROOM, 0), None);
        // By bytes: batches of 2 KiB, and room for one more.
        let drain = Drain { entries: 1e9, bytes: 2_048.0 };
        assert!(close(view(512, 1 << 20, drain).room_in(ROOM, 4).unwrap(), 5.0));
    }

    #[test]
    fn the_room_is_that_of_the_scarcer_of_the_two() {
        let drain = Drain::default();
        assert_eq!(view(0, 0, drain).free(ROOM), 1_000);
        assert_eq!(view(990, 990, drain).free(ROOM), 10);
        assert_eq!(view(510, 510 * 2_048, drain).free(ROOM), 2);
        assert_eq!(view(510, (1 << 20) - 1, drain).free(ROOM), 1);
        assert_eq!(view(510, 1 << 20, drain).free(ROOM), 0);
        assert_eq!(view(2_000, 10, drain).free(ROOM), 0);
    }

    #[test]
    fn a_place_is_due_when_the_queue_has_drained_to_its_target_and_those_before_have_come() {
        let drain = Drain { entries: 50.0, bytes: 1e9 };
        // 200 entries over the target of 800, at 50 a second.
        assert!(close(view(999, 10, drain).place_in(ROOM, 0).unwrap(), 4.0));
        assert!(close(view(999, 10, drain).place_in(ROOM, 100).unwrap(), 6.0));
        assert_eq!(view(1_000, 10, Drain::default()).place_in(ROOM, 0), None);
    }

    #[test]
    fn what_is_told_is_never_too_early_between_1_and_30_seconds_and_spread() {
        for place in [0.0, 0.1, 1.0, 4.0, 20.0, 1e9] {
            let place = Duration::from_secs_f64(place);
            let least = place.clamp(SHORTEST, FURTHEST);
            let times: Vec<f64> =
                (0..1_000).map(|n| told(Some(place), &n.to_string(), n).as_secs_f64()).collect();
            let (from, span) = (least.as_secs_f64(), (least / 2).max(SHORTEST).as_secs_f64());
            assert!(times.iter().all(|t| (from..=30.0).contains(t)));
            for tenth in 0..10_u32 {
                let from = from + span * f64::from(tenth) / 10.0;
                let here = times.iter().filter(|t| (from..from + span / 10.0).contains(*t)).count();
                assert!((60..=140).contains(&here), "{here} of 1000 in {from}");
            }
        }
        let unknown = told(None, "a", 1);
        assert!(unknown >= STALLED && unknown <= STALLED * 2);
    }

    #[test]
    fn pressure_is_the_fuller_of_the_two() {
        let drain = Drain::default();
        assert!((view(500, 0, drain).pressure(ROOM) - 0.5).abs() < 1e-9);
        assert!((view(500, 3 << 18, drain).pressure(ROOM) - 0.75).abs() < 1e-9);
        assert!((view(5_000, 0, drain).pressure(ROOM) - 1.0).abs() < 1e-9);
    }

    fn sample(at_ms: u64, entries: u64, added_entries: u64) -> Sample {
        let at = Duration::from_millis(at_ms);
        Sample { at, entries, bytes: entries * 100, added_entries, added_bytes: added_entries * 100 }
    }

    #[test]
    fn the_meter_finds_the_rate_while_the_queue_fills_and_while_it_empties() {
        let mut meter = DrainMeter::default();
        let mut drain = Drain::default();
        // 30 added and 20 drained each 200 ms, then nothing added.
        let (mut entries, mut added) = (0, 0);
        for step in 0..100 {
            if step < 50 {
                entries += 30;
                added += 30;
            }
            if step > 0 {
                entries -= 20_u64.min(entries);
            }
            drain = meter.observe(sample(step * 200, entries, added));
            if step > 10 && entries > 0 {
                assert!((95.0..=105.0).contains(&drain.entries), "{drain:?} at {step}");
                assert!((9_500.0..=10_500.0).contains(&drain.bytes), "{drain:?} at {step}");
            }
        }
        // The queue is empty: what it could do is remembered.
        assert!(drain.entries > 50.0, "{drain:?}");
    }

    #[test]
    fn a_queue_that_stands_still_has_no_rate() {
        let mut meter = DrainMeter::default();
        let mut drain = Drain::default();
        for step in 0..10 {
            drain = meter.observe(sample(step * 200, 1_000 - step * 10, 0));
        }
        assert!((45.0..=55.0).contains(&drain.entries), "{drain:?}");
        for step in 10..25 {
            drain = meter.observe(sample(step * 200, 910, 0));
        }
        assert_eq!(drain, Drain::default());
        assert_eq!(view(1_000, 0, drain).place_in(ROOM, 0), None);
        drain = meter.observe(sample(25 * 200, 900, 0));
        assert!((45.0..=55.0).contains(&drain.entries), "{drain:?}");
    }
}
