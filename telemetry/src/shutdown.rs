//! The signal to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Listens for SIGTERM and SIGINT until it is dropped.
#[derive(Debug)]
pub struct Signals {
    stop: CancellationToken,
    _listening: JoinSet<()>,
}

/// Begins to listen, within a runtime. The first signal cancels the token; a second SIGINT ends the process at once
/// with code 130, for the person who doesn't want to wait.
#[must_use]
pub fn listen() -> Signals {
    let stop = CancellationToken::new();
    let mut listening = JoinSet::new();
    let on_signal = on_signal(stop.clone());
    listening.spawn(async move {
        if let Err(error) = on_signal.await {
            tracing::error!(%error, "signals can't be caught; a stop will be abrupt");
        }
    });
    Signals { stop, _listening: listening }
}

impl Signals {
    /// Cancelled by the first signal.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }
}

async fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
        _ = int.recv() => tracing::info!(signal = "SIGINT", "stopping; a second one ends at once"),
        () = stop.cancelled() => {}
    }
    stop.cancel();
    int.recv().await;
    std::process::exit(130);
}
