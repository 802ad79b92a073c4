//! What `/readyz` says of Postgres and Redis, from those who use them; each change is logged once.

use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::postgres::{Connection, Database, within};
use logweir_queue::{DeadLimits, Depth, Queue};
use logweir_telemetry::admin::Readiness;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The names of the checks in `/readyz`.
pub(crate) const REDIS: &str = "redis";
pub(crate) const POSTGRES: &str = "postgres";
pub(crate) const SCHEMA: &str = "schema";
pub(crate) const DEAD_LETTERS: &str = "dead_letters";

/// How often both are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a look at Postgres may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(3);

/// What is known of Postgres: from a look each second, and from the lanes, who may find what a look doesn't.
pub(crate) struct Health {
    pub(crate) readiness: Readiness,
    metrics: Metrics,
    state: Mutex<State>,
}

struct State {
    look: Result<(), String>,
    lanes: BTreeMap<usize, String>,
}

impl Health {
    pub(crate) fn new(readiness: Readiness, metrics: Metrics) -> Self {
        for check in [REDIS, POSTGRES, SCHEMA] {
            readiness.require(check);
        }
        let state = State { look: Err("not checked yet".to_owned()), lanes: BTreeMap::new() };
        Self { readiness, metrics, state: Mutex::new(state) }
    }

    /// What a lane met: `None` after a commit.
    pub(crate) fn lane(&self, lane: usize, trouble: Option<String>) {
        self.change(|state| match trouble {
            Some(trouble) => drop(state.lanes.insert(lane, trouble)),
            None => drop(state.lanes.remove(&lane)),
        });
    }

    fn look(&self, look: Result<(), String>) {
        self.change(|state| state.look = look);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let now = match (&state.look, state.lanes.values().next()) {
            (Err(why), _) | (Ok(()), Some(why)) => Err(why.clone()),
            (Ok(()), None) => Ok(()),
        };
        let up = now.is_ok();
        self.metrics.postgres_up.set(i64::from(up));
        // The lock is still held, so that two changes are logged in their order.
        if self.readiness.set(POSTGRES, now.clone()) {
            match now {
                Ok(()) => tracing::info!("Postgres can be used"),
                Err(error) => {
                    tracing::warn!(%error, "Postgres can't be used; keeping the batches until it is back")
                }
            }
        }
    }

    /// Looks at Postgres each second, until `stop`.
    pub(crate) async fn watch_postgres(&self, database: &Database, stop: CancellationToken) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection: Option<Connection> = None;
        let mut first = true;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let looked = within(LOOK_DEADLINE, "to answer", async {
                let connection = match &mut connection {
                    Some(connection) => connection,
                    none => none.insert(database.connect().await?),
                };
                let row = connection.query_one("SELECT pg_is_in_recovery()", &[]).await?;
                Ok(row.try_get::<_, bool>(0)?)
            })
            .await;
            let outcome = match looked {
                Ok(false) => Ok(()),
                Ok(true) => Err("it is a standby, which takes no counts".to_owned()),
                Err(Failure::World(trouble)) => Err(trouble.detail),
                Err(Failure::Batch(detail)) => Err(detail),
            };
            if outcome.is_err() {
                connection = None;
            }
            if std::mem::take(&mut first)
                && let Err(error) = &outcome
            {
                tracing::warn!(%error, "waiting for Postgres");
            }
            self.look(outcome);
        }
    }

    /// Whether the dead letters of a shard are full. The worker stays ready: it counts whatever can be counted.
    pub(crate) fn dead_letters(&self, letters: u64, bytes: u64, limits: DeadLimits) {
        let full = letters >= limits.letters || bytes >= limits.bytes;
        let detail = full.then(|| {
            format!(
                "full: {letters} of {} letters, {bytes} of {} bytes; batches that can't be counted stay in the queue",
                limits.letters, limits.bytes
            )
        });
        // Lanes and the look each second may tell at the same time.
        let _in_order = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.dead_letters_full.set(i64::from(full));
        let was_full = self.readiness.remark(DEAD_LETTERS, detail).is_some();
        match (was_full, full) {
            (false, true) => tracing::error!(
                letters,
                bytes,
                "the dead letters are full: further batches that can't be counted stay in the queue until \
                 `logweir dlq` replays or drops some, or --max-dead-entries and --max-dead-bytes are raised"
            ),
            (true, false) => tracing::info!(letters, bytes, "the dead letters have room again"),
            _ => {}
        }
    }

    /// Looks at Redis each second, until `stop`.
    pub(crate) async fn watch_redis(&self, queue: &Queue, limits: DeadLimits, stop: CancellationToken) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut up = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let looked = async {
                let server = if up == Some(true) { None } else { Some(queue.check().await?) };
                Ok::<_, logweir_queue::QueueError>((server, queue.depths().await?))
            };
            match looked.await {
                Ok((server, depths)) => {
                    if let Some(server) = server {
                        tracing::info!(version = %server.version, "the queue can be used");
                    }
                    let depths = || depths.iter().map(|(_, depth)| depth);
                    self.metrics.depth(Depth::of_all(depths()));
                    let letters = depths().map(|depth| depth.dead).max().unwrap_or(0);
                    let bytes = depths().map(|depth| depth.dead_bytes).max().unwrap_or(0);
                    self.dead_letters(letters, bytes, limits);
                    self.metrics.redis_up.set(1);
                    self.readiness.set(REDIS, Ok(()));
                    up = Some(true);
                }
                Err(error) => {
                    if up != Some(false) {
                        tracing::warn!(%error, "the queue can't be used; waiting until it can");
                    }
                    self.metrics.redis_up.set(0);
                    self.readiness.set(REDIS, Err(error.to_string()));
                    up = Some(false);
                }
            }
        }
    }
}
