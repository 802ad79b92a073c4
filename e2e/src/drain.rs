//! The verdict: waits until everything has come through, and compares every cell.

use crate::postgres::Database;
use crate::redis::{Depth, Queue};
use crate::truth::{Difference, Truth, differences};
use std::fmt;
use std::time::{Duration, Instant};

/// How long nothing may move before it is said that nothing will.
const STALL: Duration = Duration::from_secs(45);

/// What came out.
#[derive(Debug)]
pub struct Verdict {
    /// The cells that differ; none is what is promised.
    pub differences: Vec<Difference>,
    /// What was left in the queue.
    pub depth: Depth,
}

impl Verdict {
    /// Whether truth and database are the same, and nothing is left.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.depth == Depth::default()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut missing, mut surplus) = (0, 0);
        for difference in &self.differences {
            missing += difference.truth.saturating_sub(difference.counted);
            surplus += difference.counted.saturating_sub(difference.truth);
        }
        let Depth { queued, pending, dead } = self.depth;
        writeln!(
            f,
            "{} cells differ: {missing} events missing, {surplus} too many; queued {queued}, pending {pending}, dead letters {dead}",
            self.differences.len()
        )?;
        for difference in self.differences.iter().take(20) {
            writeln!(f, "  {difference}")?;
        }
        if self.differences.len() > 20 {
            writeln!(f, "  …")?;
        }
        Ok(())
    }
}

/// How long that, when there are events too many and the queue is empty: a count never falls, but a proxy may
/// learn a moment later that an event was taken.
const SURPLUS: Duration = Duration::from_secs(3);

/// Polls until Postgres equals the truth and the queue is empty, until nothing has moved for long, or until `limit`.
///
/// # Panics
/// When Postgres or Redis can't be asked for long.
pub async fn drained(database: &Database, queue: &Queue, truth: &Truth, limit: Duration) -> Verdict {
    let start = Instant::now();
    let mut moved = Instant::now();
    let mut last = (None, None);
    loop {
        let seen = (database.counts().await.ok(), queue.depth().await.ok());
        if let (Some(counted), Some(depth)) = &seen {
            let verdict = Verdict { differences: differences(&truth.cells(), counted), depth: *depth };
            let too_many = verdict.differences.iter().any(|d| d.counted > d.truth);
            let over = start.elapsed() > limit || moved.elapsed() > STALL;
            let surplus = too_many && depth.queued == 0 && moved.elapsed() > SURPLUS;
            if verdict.is_equal() || over || surplus {
                return verdict;
            }
        }
        assert!(start.elapsed() < limit + STALL, "Postgres or Redis can't be asked");
        if seen != last {
            moved = Instant::now();
            last = seen;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}
