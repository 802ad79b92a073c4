//! The worker: read → aggregate → commit → acknowledge.
//!
//! ```text
//! queue (Redis) ──► lanes ──────────────────────────────────────────► Postgres
//!                   │ grip     what a lane holds, leases renewed        ▲   ▲
//!                   │ portion  decode, validate          (batch)        │   │ schema       migrations
//!                   │ transaction  lock, settle, commit  (settle, ranges)   │ housekeeping partitions, old rows
//!                   └ narrow, failure   whose fault it was                  │ health       each second
//! ```
//!
//! Pure, without clock and I/O: `ranges`, `batch`, `settle`, `narrow`, `failure`. The others are the shell around them.
//!
//! Invariants: an event's number is applied in the transaction that counts it, and nothing is acknowledged before
//! that commit; a failure is either the world's (wait, for ever) or the batch's (an attempt), never both.
//! This crate knows neither HTTP nor files.

mod batch;
pub mod config;
mod cpu;
mod failure;
#[cfg(test)]
mod fuzz;
mod grip;
mod health;
mod housekeeping;
mod lane;
mod metrics;
mod migrate;
mod narrow;
mod partitions;
mod portion;
mod postgres;
mod ranges;
mod schema;
mod settle;
mod transaction;
mod unknown;
mod wait;

pub use migrate::SchemaError;

use crate::config::Args;
use crate::health::Health;
use crate::lane::Lane;
use crate::metrics::Metrics;
use crate::postgres::Database;
use crate::schema::Schema;
use crate::unknown::Unknown;
use logweir_queue::Queue;
use logweir_telemetry::admin::{Admin, Readiness};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a lane that panicked stays away.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Why the worker doesn't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is wrong: a person must mend that.
    #[error("{0}")]
    Settings(String),
    /// The admin address can't be listened on.
    #[error("cannot listen on {address} (--admin): {source}")]
    Listen {
        /// Its value.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What all tasks of the worker share.
pub(crate) struct Shared {
    pub(crate) args: Args,
    pub(crate) queue: Queue,
    pub(crate) database: Database,
    pub(crate) schema: Schema,
    pub(crate) health: Health,
    pub(crate) unknown: Arc<Unknown>,
    pub(crate) metrics: Metrics,
}

/// The worker, bound to its admin address and not yet working.
pub struct Worker {
    shared: Arc<Shared>,
    admin: Admin,
    address: SocketAddr,
}

/// Validates settings as a start would, without binding or connecting.
///
/// # Errors
/// [`StartError::Settings`].
pub fn check(args: &Args) -> Result<(), StartError> {
    prepare(args.clone()).map(|_| ())
}

/// Brings the schema up to date. Returns the names of the migrations that it applied, which may be none.
///
/// # Errors
/// See [`SchemaError`].
pub async fn migrate(args: &Args) -> Result<Vec<String>, SchemaError> {
    let database = database(args).map_err(SchemaError::Unfit)?;
    migrate::migrate(&database).await
}

fn database(args: &Args) -> Result<Database, String> {
    args.validate()?;
    let database = Database::new(&args.postgres, &args.postgres_access, args.deadline)?;
    Ok(database.insist_on_sync_standby(args.postgres_sync_standby))
}

fn prepare(args: Args) -> Result<(Shared, Readiness, Registry), StartError> {
    let database = database(&args).map_err(StartError::Settings)?;
    let queue = Queue::new(args.queue_settings())
        .map_err(|e| StartError::Settings(format!("--redis {}: {e}", args.redis)))?;
    let (metrics, registry) = Metrics::new();
    let readiness = Readiness::default();
    let health = Health::new(readiness.clone(), metrics.clone());
    let unknown = Arc::new(Unknown::new(metrics.clone()));
    let shared = Shared { args, queue, database, schema: Schema::new(), health, unknown, metrics };
    Ok((shared, readiness, registry))
}

/// A name among the consumers that nobody else has, living or dead.
pub(crate) fn consumer_name(role: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "worker" } else { host.trim() };
    format!("{host}-{}-{role}-{:08x}", std::process::id(), rand::random::<u32>())
}

impl Worker {
    /// Validates the settings and binds the admin address; port 0 picks a free one. Neither Redis nor Postgres need
    /// be there.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(args: Args) -> Result<Self, StartError> {
        let address = args.admin;
        let (shared, readiness, registry) = prepare(args)?;
        let failed = |source| StartError::Listen { address, source };
        let admin =
            Admin::bind(address, registry, readiness, None, axum::Router::new()).await.map_err(failed)?;
        let address = admin.local_addr().map_err(failed)?;
        Ok(Self { shared: Arc::new(shared), admin, address })
    }

    /// The admin address.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.address
    }

    /// Works until `stop`, then finishes the batches in hand within `--shutdown-timeout`.
    pub async fn work(self, stop: CancellationToken) {
        let Self { shared, admin, address } = self;
        tracing::info!(admin = %address, redis = %shared.args.redis, postgres = %shared.args.postgres, "the worker runs");
        if cfg!(feature = "fault-ledger-off") {
            tracing::error!(
                "this worker has a fault built in: it counts duplicates. It is made for a test only"
            );
        }
        // The helpers outlive the lanes: who finishes is still looked at.
        let ended = CancellationToken::new();
        let mut helpers = JoinSet::new();
        let (of, end) = (Arc::clone(&shared), ended.clone());
        helpers.spawn(async move { of.health.watch_postgres(&of.database, end).await });
        let (of, end) = (Arc::clone(&shared), ended.clone());
        helpers.spawn(async move { of.health.watch_redis(&of.queue, of.args.dead_limits(), end).await });
        let (of, end) = (Arc::clone(&shared), ended.clone());
        helpers.spawn(async move { of.schema.run(&of.database, &of.health, end).await });
        let (of, end) = (Arc::clone(&shared), stop.clone());
        helpers.spawn(async move { housekeeping::run(&of, end).await });
        let end = ended.clone();
        helpers.spawn(async move {
            if let Err(error) = admin.serve(end).await {
                tracing::error!(%error, "the admin address is not served any more");
            }
        });
        run_lanes(&shared, &stop).await;
        ended.cancel();
        // A scrape that hangs on the admin address must not hold the end up.
        helpers.shutdown().await;
        tracing::info!("the worker has ended");
    }
}

/// Runs the lanes until the stop, and a moment longer. A lane that panics is replaced: what it held is taken over
/// after the lease, and tried with suspicion.
async fn run_lanes(shared: &Arc<Shared>, stop: &CancellationToken) {
    let mut lanes = JoinSet::new();
    let start = |lanes: &mut JoinSet<usize>, number: usize, after: Duration| {
        let (shared, stop) = (Arc::clone(shared), stop.clone());
        lanes
            .spawn(async move {
                if stop.run_until_cancelled(tokio::time::sleep(after)).await.is_some() || after.is_zero() {
                    Lane::new(shared, number, stop).run().await;
                }
                number
            })
            .id()
    };
    let mut numbers = std::collections::HashMap::new();
    for number in 0..shared.args.concurrency {
        numbers.insert(start(&mut lanes, number, Duration::ZERO), number);
    }
    while !stop.is_cancelled() {
        // A lane ends by itself only at the stop.
        let Some(Some(Err(error))) = stop.run_until_cancelled(lanes.join_next()).await else { break };
        let number = numbers.remove(&error.id()).unwrap_or_default();
        tracing::error!(%error, lane = number, "a lane failed, and starts anew");
        numbers.insert(start(&mut lanes, number, AFTER_PANIC), number);
    }
    let finish = async { while lanes.join_next().await.is_some() {} };
    if timeout(shared.args.shutdown_timeout, finish).await.is_err() {
        tracing::warn!(
            lanes = lanes.len(),
            "not finished within --shutdown-timeout; what they hold is taken over by others after the lease"
        );
    }
    lanes.shutdown().await;
}
