//! The collector: authenticate → admit → decode → validate → enqueue → acknowledge.
//!
//! ```text
//! server ──► service ──► intake ───────────────────────► enqueue ──► queue (Redis)
//! accept,    who, path,   upload → verdict → quota →       202 only after its yes
//! drain      pressure     read     decode,   per agent
//!               ▲                  validate
//!             gate ◄── the queue's depth, each 200 ms
//! ```
//!
//! Pure, without clock and I/O: `auth` (who), `route` (path, method, query), `request` (headers), `verdict` (events), `pressure` (room),
//! `answer` (problems), `numbers` (the collector as a producer). The others are the shell around them.
//!
//! Invariants: nothing is acknowledged before the queue has it; nobody unauthenticated makes the collector read
//! a body; each body's memory is reserved before it is used; what a client sends reaches a log line only
//! escaped, and never a metric's label.
//! This crate knows neither Postgres nor files other than its own settings.

mod answer;
mod auth;
mod budget;
pub mod config;
mod documents;
mod enqueue;
mod fair;
#[cfg(test)]
mod fuzz;
mod gate;
mod hands;
mod intake;
mod line;
mod metrics;
mod numbers;
mod own_limits;
mod pressure;
mod quota;
mod request;
mod request_id;
mod room;
mod route;
mod series;
mod server;
mod service;
mod summary;
mod tls;
mod tokens_file;
mod upload;
mod verdict;

use crate::budget::Budget;
use crate::config::Args;
use crate::fair::Fair;
use crate::gate::{Gate, REDIS_CHECK, Watcher};
use crate::hands::Hands;
use crate::metrics::Metrics;
use crate::numbers::Numbers;
use crate::quota::Limiters;
use crate::quota::table::Table;
use crate::series::Series;
use crate::service::Shared;
use crate::tls::Tls;
use crate::tls::handshakes::Handshakes;
use crate::tokens_file::TokensFile;
use logweir_queue::Queue;
use logweir_telemetry::admin::{Admin, Readiness};
use logweir_telemetry::watched::{self, Marks, Watched};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The name of the check in `/readyz` that fails while the collector stops.
const DRAINING_CHECK: &str = "draining";

/// Why the collector doesn't start, or ends before its time.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is wrong: a person must mend that.
    #[error("{0}")]
    Settings(String),
    /// An address can't be listened on.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Listen {
        /// The setting.
        flag: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The collector, bound to its addresses and not yet serving.
pub struct Collector {
    shared: Arc<Shared>,
    readiness: Readiness,
    listener: TcpListener,
    admin: Admin,
    addresses: (SocketAddr, SocketAddr),
}

/// The quotas of all agents, with those of the file as it is now.
fn quotas(args: &Args) -> Result<Table, String> {
    let Some(path) = &args.quotas else { return Ok(Table::new(args.default_quotas())) };
    let table = watched::read(path).and_then(|text| Table::parse(&text, args.default_quotas()));
    let table = table.map_err(|error| format!("the quotas file {}: {error}", path.display()))?;
    tracing::info!(path = %path.display(), entries = table.len(), "quotas read");
    Ok(table)
}

/// The quotas file, to be read again.
fn watched_quotas(shared: &Arc<Shared>, path: PathBuf, readiness: Readiness) -> Watched {
    let (file, metrics) = (path.clone(), shared.metrics.quotas_file.clone());
    let shared = Arc::clone(shared);
    let load = move || {
        let table = watched::read(&file).and_then(|text| Table::parse(&text, shared.args.default_quotas()));
        let table = table.map_err(|error| format!("{}: {error}", file.display()))?;
        let entries = table.len();
        if shared.limiters.change(table) {
            tracing::info!(entries, "quotas read again");
        }
        Ok(())
    };
    // Read once more at the beginning: what changed since the start must not be missed.
    let seen = Marks::none();
    Watched {
        what: "the quotas file",
        remark: "quotas_file",
        paths: vec![path],
        seen,
        every: watched::LOOK,
        load: Arc::new(load),
        metrics,
        readiness,
    }
}

/// Validates settings as a start would, without binding or connecting.
///
/// # Errors
/// [`StartError::Settings`].
pub fn check(args: &Args) -> Result<(), StartError> {
    prepare(args.clone()).map(|_| ())
}

fn prepare(args: Args) -> Result<(Shared, Registry), StartError> {
    args.validate().map_err(StartError::Settings)?;
    let queue = Queue::new(args.queue_settings())
        .map_err(|e| StartError::Settings(format!("--redis {}: {e}", args.redis)))?;
    let tokens = args.tokens.clone().map(TokensFile::open).transpose().map_err(StartError::Settings)?;
    let tls = Tls::open(&args.transport).map_err(StartError::Settings)?;
    let (metrics, registry) = Metrics::new();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shared = Shared {
        limits: args.limits(),
        queue,
        gate: Arc::new(Gate::new(args.shards, args.room(), args.max_promises)),
        tokens: tokens.map(Arc::new),
        tls: tls.map(Arc::new),
        handshakes: Handshakes::new(args.transport.max_handshakes, metrics.transport.handshakes.clone()),
        limiters: Limiters::new(args.max_agents, quotas(&args).map_err(StartError::Settings)?),
        numbers: Numbers::new(Uuid::new_v4),
        metrics,
        budget: Budget::new(args.max_in_flight_bytes, args.one_body()),
        in_flight: Arc::new(Semaphore::new(args.max_in_flight.min(Semaphore::MAX_PERMITS))),
        holding: Semaphore::new(args.max_holding.min(Semaphore::MAX_PERMITS)),
        series: Arc::new(Series::new(args.max_series)),
        hands: Hands::default(),
        decoding: Fair::new(args.decoders.unwrap_or(cores + 1), args.max_waiting_bodies),
        draining: AtomicBool::new(false),
        args,
    };
    Ok((shared, registry))
}

impl Collector {
    /// Validates the settings and binds both addresses; port 0 picks a free one. Redis needn't be there.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(args: Args) -> Result<Self, StartError> {
        let (listen, admin_address) = (args.listen, args.admin);
        if args.is_open_to_all() && args.insecure {
            tracing::warn!(%listen, "INSECURE: everybody who can reach this address may post events under any name");
        } else if args.tokens.is_some() && args.transport.tls_cert.is_none() && !listen.ip().is_loopback() {
            tracing::warn!(
                %listen,
                "tokens come in the clear here: give --tls-cert and --tls-key, unless TLS ends just before this"
            );
        }
        let (shared, registry) = prepare(args)?;
        server::allow_connections(shared.args.transport.max_connections);
        let readiness = Readiness::default();
        readiness.require(REDIS_CHECK);
        readiness.set(DRAINING_CHECK, Ok(()));
        let failed = |flag, address| move |source| StartError::Listen { flag, address, source };
        let listener = TcpListener::bind(listen).await.map_err(failed("--listen", listen))?;
        let admin = Admin::bind(admin_address, registry, readiness.clone(), None, axum::Router::new())
            .await
            .map_err(failed("--admin", admin_address))?;
        let public = listener.local_addr().map_err(failed("--listen", listen))?;
        let admin_address = admin.local_addr().map_err(failed("--admin", admin_address))?;
        let addresses = (public, admin_address);
        Ok(Self { shared: Arc::new(shared), readiness, listener, admin, addresses })
    }

    /// The public address.
    #[must_use]
    pub fn public_addr(&self) -> SocketAddr {
        self.addresses.0
    }

    /// The admin address.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.addresses.1
    }

    /// Serves until `stop`, then drains: within `--shutdown-timeout`, it answers what is in hand, and after
    /// `--drain-grace` says `draining` to what is new.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { shared, readiness, listener, admin, addresses } = self;
        tracing::info!(listen = %addresses.0, admin = %addresses.1, redis = %shared.args.redis, tls = shared.tls.is_some(), "the collector runs");
        // The helpers outlive the requests: who drains still needs the queue's depth, and is still looked at.
        let ended = CancellationToken::new();
        let mut helpers = JoinSet::new();
        let watcher = Watcher {
            gate: shared.gate.clone(),
            queue: shared.queue.clone(),
            readiness: readiness.clone(),
            metrics: shared.metrics.clone(),
        };
        helpers.spawn(watcher.run(ended.clone()));
        helpers.spawn(summary::run(shared.metrics.clone(), ended.clone()));
        let reload = watch::Sender::new(());
        let files = [
            shared.args.quotas.clone().map(|path| watched_quotas(&shared, path, readiness.clone())),
            shared.tokens.as_ref().map(|tokens| tokens.watched(&shared.metrics, readiness.clone())),
            shared.tls.as_ref().map(|tls| tls.watched(&shared.metrics, readiness.clone())),
        ];
        for files in files.into_iter().flatten() {
            helpers.spawn(files.run(reload.subscribe(), ended.clone()));
        }
        helpers.spawn(watched::on_hangup(reload, ended.clone()));
        let admin_ended = ended.clone();
        helpers.spawn(async move {
            if let Err(error) = admin.serve(admin_ended).await {
                tracing::error!(%error, "the admin address is not served any more");
            }
        });
        let draining = stop.clone();
        helpers.spawn(async move {
            draining.cancelled().await;
            readiness.set(DRAINING_CHECK, Err("the collector is stopping".to_owned()));
        });
        server::run(shared, listener, stop).await;
        ended.cancel();
        // A scrape that hangs on the admin address must not hold the end up.
        helpers.shutdown().await;
        tracing::info!("the collector has ended");
    }
}
