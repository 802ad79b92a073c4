//! One connection to Redis: made when it is needed, checked each time it is made, replaced when it breaks.
//!
//! ```text
//!           ┌── I/O error, timeout, "not me" ───┐
//!           ▼                                   │
//!  none ─ connect ─ check ─ fits ─► open ── calls, pipelined
//!   ▲                 └ unfit ─► said to every call for a while, then checked again
//! ```
//!
//! While one task connects, the others wait for the same attempt, and share its failure. After a timeout the
//! connection is dropped: what Redis answers too late is read by nobody. A call that was cancelled leaves its
//! answer to be skipped, so answers and calls stay matched.

use crate::connection::Settings;
use crate::durability::{Facts, SETTINGS, ServerInfo, Wait};
use crate::error::{QueueError, breaks_connection, has_code, is_moved};
use crate::fence::{Fence, Held};
use crate::keys::Shard;
use crate::place::Place;
use crate::request::{Request, send, together};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, Value, cmd};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a failed check stands before it is made again: a mended setting is noticed soon, and a flood of calls
/// doesn't become a flood of checks.
const UNFIT_FOR: Duration = Duration::from_millis(500);
/// What WAITAOF may take beyond the deadline: with `appendfsync everysec` the next fsync is up to a second away,
/// and may itself be slow.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// A connection that passed its check.
#[derive(Clone)]
struct Open {
    number: u64,
    connection: MultiplexedConnection,
    info: ServerInfo,
    fence: Option<Arc<Fence>>,
    disk_patience: Duration,
}

/// What the last attempt to connect came to, and is held while one is under way.
#[derive(Default)]
struct Attempts {
    unfit: Option<(Instant, String)>,
    failure: Option<QueueError>,
}

pub(crate) struct Link {
    settings: Arc<Settings>,
    place: Arc<Place>,
    current: Mutex<Option<Open>>,
    attempts: tokio::sync::Mutex<Attempts>,
    /// How many attempts have come to an end.
    ended: AtomicU64,
}

impl Link {
    pub(crate) fn new(settings: Arc<Settings>) -> Result<Self, QueueError> {
        let place = Place::new(&settings.url, settings.access.clone())?;
        Ok(Self::of(Arc::new(place), settings))
    }

    /// Another connection to the same place.
    pub(crate) fn like(other: &Self, settings: Arc<Settings>) -> Self {
        Self::of(Arc::clone(&other.place), settings)
    }

    fn of(place: Arc<Place>, settings: Arc<Settings>) -> Self {
        Self {
            settings,
            place,
            current: Mutex::new(None),
            attempts: tokio::sync::Mutex::new(Attempts::default()),
            ended: AtomicU64::new(0),
        }
    }

    /// Asks, within the deadline.
    pub(crate) async fn ask(&self, request: Request<'_>) -> Result<Value, QueueError> {
        self.ask_for(Duration::ZERO, request).await
    }

    /// Asks what Redis may take `patience` to answer, beyond the deadline.
    pub(crate) async fn ask_for(
        &self,
        patience: Duration,
        request: Request<'_>,
    ) -> Result<Value, QueueError> {
        let until = Instant::now() + self.settings.deadline;
        let open = self.open_until(until).await?;
        self.on(&open, until + patience, async {
            send(&open.connection, &request).await.map_err(Held::Redis)
        })
        .await
    }

    /// Asks, and waits until what it wrote is as durable as the settings say.
    pub(crate) async fn ask_durably(&self, request: Request<'_>) -> Result<Value, QueueError> {
        let until = Instant::now() + self.settings.deadline;
        let open = self.open_until(until).await?;
        if let Some(fence) = &open.fence {
            self.on(&open, until, fence.prove(until)).await?;
        }
        let call = async { send(&open.connection, &request).await.map_err(Held::Redis) };
        let value = self.on(&open, until, call).await?;
        if let Some(fence) = &open.fence {
            let until = until + open.disk_patience;
            self.on(&open, until, fence.pass(until)).await?;
        }
        Ok(value)
    }

    /// Runs the check now, on the connection that there is or on a new one.
    pub(crate) async fn check(&self) -> Result<ServerInfo, QueueError> {
        let until = Instant::now() + self.settings.deadline;
        let current = self.current().clone();
        let open = match current {
            Some(open) => open,
            None => self.connected_until(until, true).await?,
        };
        let facts = self.on(&open, until, self.facts(&open.connection)).await?;
        match facts.judge(self.settings.ack) {
            // What to wait for may have changed with the settings, and belongs to the connection.
            Ok((info, wait)) if wait == open.fence.as_ref().map(|fence| fence.wait()).unwrap_or_default() => {
                if let Some(fence) = &open.fence {
                    fence.note_connected(facts.connected_replicas())?;
                    self.on(&open, until, fence.prove(until)).await?;
                }
                Ok(info)
            }
            Ok(_) => {
                self.discard(open.number);
                Ok(self.connected_until(until, true).await?.info)
            }
            Err(why) => {
                self.discard(open.number);
                // Whoever connects at this moment finds out by himself.
                if let Ok(mut attempts) = self.attempts.try_lock() {
                    attempts.unfit = Some((Instant::now(), why.clone()));
                }
                Err(QueueError::Unfit(why))
            }
        }
    }

    /// Drops the connection, and with it whatever Redis would still answer on it.
    pub(crate) fn reset(&self) {
        self.current().take();
    }

    fn current(&self) -> MutexGuard<'_, Option<Open>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn discard(&self, number: u64) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|open| open.number == number) {
            current.take();
        }
    }

    /// One exchange on an open connection, which is dropped when it turns out to be broken.
    async fn on<T>(
        &self,
        open: &Open,
        until: Instant,
        exchange: impl Future<Output = Result<T, Held>>,
    ) -> Result<T, QueueError> {
        match timeout_at(until, exchange).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Held::Short(error))) => Err(error),
            Ok(Err(Held::Redis(error))) => {
                if breaks_connection(&error) {
                    self.discard(open.number);
                }
                Err(error.into())
            }
            Err(_) => {
                self.discard(open.number);
                Err(QueueError::Timeout(self.settings.deadline))
            }
        }
    }

    async fn open_until(&self, until: Instant) -> Result<Open, QueueError> {
        let current = self.current().clone();
        match current {
            Some(open) => Ok(open),
            None => self.connected_until(until, false).await,
        }
    }

    async fn connected_until(&self, until: Instant, now: bool) -> Result<Open, QueueError> {
        timeout_at(until, self.connected(now))
            .await
            .unwrap_or_else(|_| Err(QueueError::Timeout(self.settings.deadline)))
    }

    /// Waits for the attempt that is under way, or makes one. With `now` a failed check of a moment ago is no reason
    /// not to check.
    async fn connected(&self, now: bool) -> Result<Open, QueueError> {
        let ended = self.ended.load(Ordering::SeqCst);
        let mut attempts = self.attempts.lock().await;
        if let Some(open) = self.current().clone() {
            return Ok(open);
        }
        if let Some(failure) =
            attempts.failure.as_ref().filter(|_| self.ended.load(Ordering::SeqCst) != ended)
        {
            return Err(failure.clone());
        }
        if let Some((_, why)) = attempts.unfit.as_ref().filter(|(at, _)| !now && at.elapsed() < UNFIT_FOR) {
            return Err(QueueError::Unfit(why.clone()));
        }
        let number = self.ended.load(Ordering::SeqCst).wrapping_add(1);
        // Rare, and large beside what every call needs.
        let made = Box::pin(self.make(number)).await;
        attempts.unfit = match &made {
            Err(QueueError::Unfit(why)) => Some((Instant::now(), why.clone())),
            _ => None,
        };
        attempts.failure = made.as_ref().err().cloned();
        if let Ok(open) = &made {
            *self.current() = Some(open.clone());
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
        made
    }

    async fn make(&self, number: u64) -> Result<Open, QueueError> {
        let connection = self.place.connect(self.settings.deadline).await?;
        let facts = self.facts(&connection).await?;
        if self.place.is_watched() && !facts.is_master() {
            let why = "Sentinel still names a server that is no master (any more)".to_owned();
            return Err(QueueError::unavailable(why));
        }
        let (info, wait) = facts.judge(self.settings.ack).map_err(QueueError::Unfit)?;
        let fence = if wait == Wait::default() {
            None
        } else {
            let second = self.place.connect(self.settings.deadline).await?;
            // Behind one address there may be two servers, and a fence in one says nothing of the other.
            if self.facts(&second).await?.run_id() != facts.run_id() {
                return Err(QueueError::unavailable("its address leads to two different servers".to_owned()));
            }
            Some(Arc::new(Fence::new(second, wait, Shard::default().fence())))
        };
        let disk_patience = if wait.disk { DISK_PATIENCE } else { Duration::ZERO };
        tracing::debug!(version = %info.version, "connected to Redis");
        Ok(Open { number, connection, info, fence, disk_patience })
    }

    /// What Redis says of itself.
    async fn facts(&self, connection: &MultiplexedConnection) -> Result<Facts, Held> {
        let mut connection = connection.clone();
        let info: String = match cmd("INFO").query_async(&mut connection).await {
            Err(error) if has_code(&error, "NOPERM") => {
                let why = "INFO is not allowed, so its settings can't be checked: allow it with \
                           `redis-cli ACL SETUSER NAME +info`";
                return Err(Held::Short(QueueError::Unfit(why.to_owned())));
            }
            answer => answer?,
        };
        let mut config = Ok(HashMap::new());
        for setting in SETTINGS {
            let mut get = cmd("CONFIG");
            get.arg("GET").arg(setting);
            match get.query_async::<HashMap<String, String>>(&mut connection).await {
                Ok(values) => drop(config.as_mut().map(|config| config.extend(values))),
                Err(error) if breaks_connection(&error) => return Err(Held::Redis(error)),
                Err(error) => {
                    config = Err(error.to_string());
                    break;
                }
            }
        }
        let mut facts = Facts::new(&info, config);
        if facts.is_cluster() {
            self.find_elsewhere(&mut connection, &mut facts).await?;
        }
        Ok(facts)
    }

    /// A cluster may have some of the shards on other nodes.
    async fn find_elsewhere(
        &self,
        connection: &mut MultiplexedConnection,
        facts: &mut Facts,
    ) -> Result<(), Held> {
        let mut lengths = Pipeline::new();
        for shard in self.settings.shards.all() {
            lengths.cmd("XLEN").arg(shard.queue());
        }
        let answers = together(connection, lengths).await?;
        for (shard, answer) in self.settings.shards.all().zip(answers) {
            if let Value::ServerError(error) = answer {
                let error = RedisError::from(error);
                if is_moved(&error) {
                    facts.note_elsewhere(shard, &error.to_string());
                }
            }
        }
        Ok(())
    }
}
