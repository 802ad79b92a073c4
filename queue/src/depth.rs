//! How full the queue is.

use crate::connection::Queue;
use crate::error::QueueError;
use crate::link::Request;
use crate::reader::GROUP;
use crate::{reply, scripts};

/// The queue's state, from one script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Entries that are not acknowledged (XLEN).
    pub entries: u64,
    /// The sum of their bodies, in bytes.
    pub bytes: u64,
    /// Those of them that a worker holds.
    pub pending: u64,
    /// The age of the oldest, in milliseconds by Redis' clock; `None` when there is none.
    pub oldest_age_ms: Option<u64>,
    /// Dead letters.
    pub dead: u64,
    /// All that they hold, in bytes.
    pub dead_bytes: u64,
}

impl Queue {
    /// How full the queue is; all zero when nothing has been enqueued yet.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let keys = self.keys();
        let keys = [keys.queue.as_str(), &keys.bytes, &keys.dead, &keys.dead_bytes];
        let fill = |call: &mut redis::Cmd| {
            call.arg(GROUP);
        };
        let answer = self.link().ask(Request::Script(&scripts::DEPTH, &keys, &fill)).await?;
        let [entries, bytes, pending, age, dead, dead_bytes] = reply::tuple(answer)?;
        Ok(Depth {
            entries: reply::count(&entries)?,
            bytes: reply::count(&bytes)?,
            pending: reply::count(&pending)?,
            oldest_age_ms: u64::try_from(reply::number(&age)?).ok(),
            dead: reply::count(&dead)?,
            dead_bytes: reply::count(&dead_bytes)?,
        })
    }
}
