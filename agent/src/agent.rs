//! The assembly: the reader's thread, the sender, the admin server, signals, and the order in which they end.
//!
//! ```text
//! SIGTERM ─► Wake::Stop ─► the reader seals what it has read ─► all settled, or --shutdown-timeout ─► Wake::End
//! stdin's end ───────────► the reader reads the spool on ─────► the same                         │
//! the reader has ended ◄──────────────────────────────────────────────────────────────────────────┘ ─► sender, admin end
//! ```
//!
//! The agent ends when its reader does: of itself with `--once` or at stdin's end, after a stop, or by an error. What
//! is in the channels then is in the journal too.

use crate::config::Settings;
use crate::handoff::{Condition, Ended, Guidance, ReadError, Sealed, Wake};
use crate::metrics::Metrics;
use crate::reader::Reader;
use crate::reload::{self, Config, SharedStatus, Targets};
use crate::send::delivery::{Shared, Speed};
use crate::send::gate::Gate;
use crate::send::http::{Http, TargetError};
use crate::send::{SendError, Sender};
use crate::status;
use logweir_telemetry::admin::{Admin, Readiness};
use logweir_telemetry::exit::Exit;
use logweir_telemetry::logs::Level;
use logweir_telemetry::{shutdown, watched};
use prometheus_client::registry::Registry;
use reqwest::Url;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The check in `/readyz` for the state directory and its reader.
const CHECK: &str = "state";
/// Room for wakes besides one for each unsettled batch, so that nobody who wakes the reader waits for it.
const WAKES: usize = 64;
/// How often a run with `--once` says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long the reader may take to end when it must.
const END: Duration = Duration::from_secs(5);

/// Why the agent can't begin or go on.
#[derive(Debug, Error)]
pub(crate) enum AgentError {
    #[error("the runtime doesn't start: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("--admin {address}: {source}; is another agent running? Give this one another address")]
    Admin { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("a part of the agent broke off: {0}")]
    Broken(#[from] JoinError),
    #[error("the reader didn't end within {}", humantime::format_duration(END))]
    Stuck,
}

/// Runs until the reader has ended.
///
/// # Errors
/// See [`AgentError`].
pub(crate) async fn run(settings: Settings, config: Config, level: Level) -> Result<Exit, AgentError> {
    let http = Http::new(&settings.sending.target)?;
    let (metrics, registry) = Metrics::new();
    metrics.label_files(settings.max_file_labels);
    let readiness = Readiness::default();
    readiness.require(CHECK);
    let gate = Gate::new(metrics.clone(), readiness.clone());
    let window = settings.reading.window_batches;
    let (to_sender, sealed) = mpsc::channel::<Sealed>(window);
    let (wake, wakes) = mpsc::channel::<Wake>(window + WAKES);
    let guidance = Guidance::default();
    let speed = Speed {
        concurrency: settings.sending.concurrency,
        max_rate: settings.sending.max_rate,
        guidance: guidance.clone(),
    };
    let shared = Shared::new(http, Arc::clone(&gate), metrics.clone(), speed);
    let once = settings.reading.once;
    let config_status = SharedStatus::default();
    let signals = shutdown::listen();
    let stop = signals.stop();
    let mut beside = JoinSet::new();
    if !once {
        let targets = Targets {
            reader: wake.clone(),
            sender: Arc::clone(&shared),
            metrics: metrics.clone(),
            level,
            status: config_status.clone(),
        };
        let (hangup, hangups) = watch::channel(());
        beside.spawn(reload::watched(config, targets, readiness.clone()).run(hangups, stop.clone()));
        beside.spawn(watched::on_hangup(hangup, stop.clone()));
    }
    let routes = status::routes(Arc::clone(&shared), wake.clone(), config_status);
    let admin = bind_admin(settings.admin, registry, &readiness, &gate, routes).await?;
    let state_dir = settings.reading.state_dir.clone();
    let reader = {
        let (mut reading, metrics, wake) = (settings.reading, metrics.clone(), wake.clone());
        reading.guidance = guidance.clone();
        tokio::task::spawn_blocking(move || Reader::open(reading, metrics, wakes, wake)).await??
    };
    readiness.set(CHECK, Ok(()));
    let collectors: Vec<&str> = settings.sending.target.collectors.iter().map(Url::as_str).collect();
    tracing::info!(collectors = collectors.join(", "), state_dir = %state_dir.display(), once, "the agent runs");

    let admin_stop = CancellationToken::new();
    if let Some(admin) = admin {
        let stop = admin_stop.clone();
        beside.spawn(async move {
            if let Err(error) = admin.serve(stop).await {
                tracing::error!(%error, "the admin server has failed");
            }
        });
    }
    if once {
        beside.spawn(say_progress(metrics.clone(), Arc::clone(&gate)));
    }
    let mut sending = JoinSet::new();
    sending.spawn(Sender::new(shared).run(sealed, wake.clone()));
    let mut reading = JoinSet::new();
    let health = readiness.clone();
    let stdin_end = CancellationToken::new();
    let ending = stdin_end.clone();
    let tell = move |Condition { state, stdin_ended }| {
        health.set(CHECK, state);
        if stdin_ended {
            ending.cancel();
        }
    };
    reading.spawn_blocking(move || reader.run(to_sender, tell));

    let mut agent = Running { reading, sending, wake, shutdown_timeout: settings.shutdown_timeout };
    let result = agent.until_the_end(&stop, &stdin_end).await;
    readiness.set(CHECK, Err("the agent has ended".to_owned()));
    agent.sending.shutdown().await;
    admin_stop.cancel();
    beside.shutdown().await;
    let ended = result?;
    Ok(verdict(ended, once, stop.is_cancelled(), &metrics, &state_dir))
}

struct Running {
    reading: JoinSet<Result<Ended, ReadError>>,
    sending: JoinSet<Result<(), SendError>>,
    wake: mpsc::Sender<Wake>,
    shutdown_timeout: Duration,
}

impl Running {
    async fn until_the_end(
        &mut self,
        stop: &CancellationToken,
        stdin_end: &CancellationToken,
    ) -> Result<Ended, AgentError> {
        tokio::select! {
            ended = self.reader_or_failure() => return ended,
            () = stop.cancelled() => {}
            () = stdin_end.cancelled() => {
                let limit = humantime::format_duration(self.shutdown_timeout);
                tracing::info!(%limit, "stdin has ended; ending when all of it is acknowledged, or at the limit");
            }
        }
        let limit = self.shutdown_timeout;
        let orderly = async {
            // At stdin's end the reader stops of itself, once it has read what is spooled.
            tokio::select! {
                ended = self.reader_or_failure() => return ended,
                () = stop.cancelled() => {}
            }
            // The reader may be gone already; then its end is there to be read.
            if self.wake.send(Wake::Stop).await.is_err() {
                tracing::debug!("the reader had ended");
            }
            self.reader_or_failure().await
        };
        if let Ok(ended) = tokio::time::timeout(limit, orderly).await {
            return ended;
        }
        self.end_now().await
    }

    /// Waits for the reader. A sender that breaks off first ends the agent with its error.
    async fn reader_or_failure(&mut self) -> Result<Ended, AgentError> {
        let error = loop {
            tokio::select! {
                Some(ended) = self.reading.join_next() => return Ok(ended??),
                Some(sent) = self.sending.join_next() => match sent {
                    // The reader has let go of its channel: it is about to end.
                    Ok(Ok(())) | Ok(Err(SendError::ReaderGone)) => {}
                    Ok(Err(error)) => break AgentError::from(error),
                    Err(error) => break error.into(),
                },
                else => return Err(AgentError::Stuck),
            }
        };
        // Its journal shall be closed in order; the error is what is told.
        if let Err(error) = self.end_now().await {
            tracing::debug!(%error, "the reader didn't end in order");
        }
        Err(error)
    }

    async fn end_now(&mut self) -> Result<Ended, AgentError> {
        let end = async {
            if self.wake.send(Wake::End).await.is_err() {
                tracing::debug!("the reader had ended");
            }
            self.reading.join_next().await
        };
        match tokio::time::timeout(END, end).await {
            Ok(Some(ended)) => Ok(ended??),
            Ok(None) | Err(_) => Err(AgentError::Stuck),
        }
    }
}

async fn bind_admin(
    address: Option<SocketAddr>,
    registry: Registry,
    readiness: &Readiness,
    gate: &Arc<Gate>,
    routes: axum::Router,
) -> Result<Option<Admin>, AgentError> {
    let Some(address) = address else { return Ok(None) };
    let gate = Arc::clone(gate);
    let refresh = Arc::new(move || gate.refresh_metrics());
    let admin = Admin::bind(address, registry, readiness.clone(), Some(refresh), routes).await;
    let admin = admin.map_err(|source| AgentError::Admin { address, source })?;
    let address = admin.local_addr().unwrap_or(address);
    tracing::info!(%address, "admin: /metrics, /healthz, /readyz, /status");
    Ok(Some(admin))
}

/// For ever: how far a long backfill is, and what holds it back.
async fn say_progress(metrics: Metrics, gate: Arc<Gate>) {
    loop {
        tokio::time::sleep(PROGRESS).await;
        let (events_sent, bytes_behind) = (metrics.events_sent.get(), metrics.behind_in_all());
        let unsettled_batches = metrics.unsettled_batches.get();
        match gate.trouble() {
            Some((reason, lasts)) => {
                let (held_by, held_seconds) = (reason.as_str(), lasts.as_secs());
                tracing::info!(
                    events_sent,
                    bytes_behind,
                    unsettled_batches,
                    held_by,
                    held_seconds,
                    "at work"
                );
            }
            None => tracing::info!(events_sent, bytes_behind, unsettled_batches, "at work"),
        }
    }
}

/// Says how it ended, and with which code.
fn verdict(ended: Ended, once: bool, stopped: bool, metrics: &Metrics, state_dir: &Path) -> Exit {
    let Ended { unsettled, spooled, rejected, losses, dropped } = ended;
    let file = |name: &str| -> PathBuf { state_dir.join(name) };
    if rejected > 0 {
        let rejects = file("rejects.ndjson");
        tracing::warn!(rejected, file = %rejects.display(), "events were rejected; this is where they lie");
    }
    if dropped > 0 {
        tracing::warn!(lines = dropped, "lines of stdin were dropped, since the spool was full");
    }
    if losses > 0 {
        tracing::warn!(losses, file = %file("losses.ndjson").display(), "something was lost; this is what is known of it");
    }
    let events_sent = metrics.events_sent.get();
    if unsettled > 0 {
        tracing::warn!(
            events_sent,
            batches = unsettled,
            "ended with batches that the collector hasn't acknowledged; they are in the journal, and the next run sends them"
        );
    } else if !spooled {
        tracing::info!(events_sent, "ended; nothing is left to send");
    }
    if spooled {
        tracing::warn!(
            "ended with lines of stdin that were not sent; they are in the spool, and the next run sends them"
        );
    }
    if once && stopped {
        tracing::warn!("stopped early; the same command goes on from there");
    }
    let negative = once && (rejected > 0 || losses > 0 || unsettled > 0 || stopped);
    // Without --once an agent ends of itself only where stdin does.
    let negative = negative || (dropped > 0 && !stopped);
    if negative { Exit::Negative } else { Exit::Done }
}
