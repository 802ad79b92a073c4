//! How fast to send: additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does it.
//!
//! ```text
//!   speed   1/16 ……………………… 1 ……………………… --concurrency
//!           lingers longer      batches at a time
//! ```
//!
//! Each batch that a queue with room takes raises the speed by one batch a round; a refusal, or a queue that is nearly
//! full (`Logweir-Pressure`), halves it, at most once in [`COOL`], since the answers of one round tell one thing.
//! Below 1 there is one batch at a time, and the linger is stretched instead: batches grow, and requests become fewer.

use crate::handoff::Guidance;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// From this pressure on the speed falls, so that the queue need not refuse.
const HIGH: f64 = 0.8;
/// Up to this pressure it rises.
const LOW: f64 = 0.5;
/// The slowest: the linger is so many times its setting.
const SLOWEST: f64 = 1.0 / 16.0;
/// What is added below 1 for each batch that was taken.
const STEP: f64 = 1.0 / 8.0;
/// Between two falls.
const COOL: Duration = Duration::from_secs(1);

/// The speed of now.
#[derive(Debug)]
pub(crate) struct Pace {
    most: f64,
    state: Mutex<State>,
    guidance: Guidance,
}

#[derive(Debug)]
struct State {
    speed: f64,
    fell: Option<Instant>,
}

impl Pace {
    /// Begins at full speed.
    pub(crate) fn new(concurrency: usize, guidance: Guidance) -> Self {
        let most = f64::from(u32::try_from(concurrency.max(1)).unwrap_or(u32::MAX));
        Self { most, state: Mutex::new(State { speed: most, fell: None }), guidance }
    }

    /// How many batches at a time.
    pub(crate) fn window(&self) -> usize {
        let speed = self.state.lock().unwrap_or_else(PoisonError::into_inner).speed;
        whole(speed.max(1.0)).try_into().unwrap_or(usize::MAX)
    }

    /// A batch was taken, and the queue was so full.
    pub(crate) fn taken(&self, pressure: f64) {
        if pressure >= HIGH {
            return self.refused();
        }
        if pressure <= LOW {
            self.change(|state| {
                let step = if state.speed < 1.0 { STEP } else { 1.0 / state.speed };
                state.speed = (state.speed + step).min(self.most);
            });
        }
    }

    /// A batch was told to come back later.
    pub(crate) fn refused(&self) {
        let now = Instant::now();
        self.change(|state| {
            if state.fell.is_none_or(|fell| now.duration_since(fell) >= COOL) {
                state.speed = (state.speed / 2.0).max(SLOWEST);
                state.fell = Some(now);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.guidance.set_stretch(whole((1.0 / state.speed).max(1.0)));
    }
}

/// The whole part of a small positive number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and --concurrency, which is a u16"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_halve_it_and_what_is_taken_raises_it_again() {
        let guidance = Guidance::default();
        let pace = Pace::new(8, guidance.clone());
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push((pace.window(), guidance.stretch()));
            pace.refused();
            tokio::time::advance(COOL).await;
        }
        assert_eq!(seen, [(8, 1), (4, 1), (2, 1), (1, 1), (1, 2), (1, 4), (1, 8), (1, 16)]);
        assert_eq!((pace.window(), guidance.stretch()), (1, 16), "there is a slowest");
        let mut taken = 0;
        while pace.window() < 8 {
            pace.taken(0.0);
            taken += 1;
        }
        assert!((20..60).contains(&taken), "one more batch a round: {taken}");
        assert_eq!(guidance.stretch(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_nearly_full_queue_is_heeded_before_it_refuses() {
        let pace = Pace::new(4, Guidance::default());
        for _ in 0..100 {
            pace.taken(0.9);
        }
        assert_eq!(pace.window(), 2, "the answers of one round tell one thing");
        for _ in 0..100 {
            pace.taken(0.6);
        }
        assert_eq!(pace.window(), 2, "in between it stays");
    }
}
