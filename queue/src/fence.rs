//! Waiting until what was written is on the disk or on the replicas, together.
//!
//! WAIT and WAITAOF block their connection, so they have one of their own. What was written earlier on another
//! connection stands before the fence's own write in the one stream that goes to the disk and to the replicas; so
//! when the fence's write has arrived, all of it has. One wait serves everybody who wrote before it began:
//!
//! ```text
//! enqueue A ─ written ─┐                 ┌─ confirmed
//! enqueue B ─ written ─┤ SET, WAIT ──────┤
//! enqueue C ─────── written ┄┄ (too late) ┄ SET, WAIT ── confirmed
//! ```
//!
//! Nothing is written for replicas that have not confirmed anything yet, or not the last time: what was refused for
//! their sake would stand in the queue all the same, once more with each attempt.

use crate::durability::Wait;
use crate::error::QueueError;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, cmd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex as Cell, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The most of the deadline that is left for Redis' answer when its own wait is over. Redis looks at that only ten
/// times a second, so little would not be enough.
const MARGIN: Duration = Duration::from_millis(500);
/// How long a wait that came to nothing stands for the ones after it: replicas that are back are noticed soon, and
/// meanwhile nobody waits for what isn't there.
const SHORT_FOR: Duration = Duration::from_millis(500);

pub(crate) struct Fence {
    connection: MultiplexedConnection,
    wait: Wait,
    key: String,
    started: AtomicU64,
    /// The last that was passed; held while one is under way.
    passed: Mutex<u64>,
    replicas: Cell<Replicas>,
}

/// What the last wait for replicas came to.
#[derive(Clone)]
enum Replicas {
    Unknown,
    Confirmed,
    Short(Instant, QueueError),
}

/// Why an exchange with Redis came to nothing.
pub(crate) enum Held {
    /// The connection, or Redis.
    Redis(RedisError),
    /// Its answers were whole, but not what is needed.
    Short(QueueError),
}

impl From<Held> for QueueError {
    fn from(held: Held) -> Self {
        match held {
            Held::Redis(error) => error.into(),
            Held::Short(error) => error,
        }
    }
}

impl From<RedisError> for Held {
    fn from(error: RedisError) -> Self {
        Held::Redis(error)
    }
}

impl Fence {
    pub(crate) fn new(connection: MultiplexedConnection, wait: Wait, key: String) -> Self {
        Self {
            connection,
            wait,
            key,
            started: AtomicU64::new(0),
            passed: Mutex::new(0),
            replicas: Cell::new(Replicas::Unknown),
        }
    }

    /// Returns when so many replicas as [`Wait`] says have confirmed the last that they were asked to: to be called
    /// before anything is written for them.
    pub(crate) async fn prove(&self, until: Instant) -> Result<(), Held> {
        if self.wait.replicas == 0 {
            return Ok(());
        }
        let last = self.replicas.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Replicas::Confirmed => Ok(()),
            Replicas::Short(at, error) if at.elapsed() < SHORT_FOR => Err(Held::Short(error)),
            Replicas::Short(..) | Replicas::Unknown => self.pass(until).await,
        }
    }

    /// So many replicas are connected: with too few it needn't be waited for them.
    pub(crate) fn note_connected(&self, connected: usize) -> Result<(), QueueError> {
        let wanted = self.wait.replicas;
        if usize::try_from(wanted).is_ok_and(|wanted| connected >= wanted) {
            return Ok(());
        }
        let error = QueueError::unavailable(format!("only {connected} of {wanted} replicas are connected"));
        self.note(Replicas::Short(Instant::now(), error.clone()));
        Err(error)
    }

    fn note(&self, replicas: Replicas) {
        *self.replicas.lock().unwrap_or_else(PoisonError::into_inner) = replicas;
    }

    /// What it waits for.
    pub(crate) fn wait(&self) -> Wait {
        self.wait
    }

    /// Returns when everything that was answered before the call is where [`Wait`] says. Dropping it is harmless.
    pub(crate) async fn pass(&self, until: Instant) -> Result<(), Held> {
        let seen = self.started.load(Ordering::SeqCst);
        let mut passed = self.passed.lock().await;
        if *passed > seen {
            return Ok(());
        }
        let mine = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let mut connection = self.connection.clone();
        cmd("SET").arg(&self.key).arg(mine).exec_async(&mut connection).await?;
        if self.wait.disk {
            let mut call = cmd("WAITAOF");
            call.arg(1).arg(0).arg(left_ms(until));
            let (on_disk, _): (i64, i64) = call.query_async(&mut connection).await?;
            if on_disk < 1 {
                let why = "it has not synced its append-only file in time".to_owned();
                return Err(Held::Short(QueueError::unavailable(why)));
            }
        }
        let wanted = self.wait.replicas;
        if wanted > 0 {
            let mut call = cmd("WAIT");
            call.arg(wanted).arg(left_ms(until));
            let confirmed: i64 = call.query_async(&mut connection).await?;
            if confirmed < i64::from(wanted) {
                let why = format!("only {confirmed} of {wanted} replicas confirmed in time");
                let error = QueueError::unavailable(why);
                self.note(Replicas::Short(Instant::now(), error.clone()));
                return Err(Held::Short(error));
            }
            self.note(Replicas::Confirmed);
        }
        *passed = mine;
        Ok(())
    }
}

/// At least 1, since Redis takes 0 for ever.
fn left_ms(until: Instant) -> u64 {
    let left = until.saturating_duration_since(Instant::now());
    let wait = left.saturating_sub(MARGIN.min(left / 4));
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
}
