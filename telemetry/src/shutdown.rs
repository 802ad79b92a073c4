//! The signal to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Waits for SIGTERM or SIGINT, then cancels `stop`. Run it as a task beside the service; it ends as well when
/// `stop` is cancelled by somebody else. A second signal ends the process at once with code 130, for the
/// person who doesn't want to wait.
///
/// # Errors
/// When the signal handlers can't be installed.
pub async fn on_signal(stop: CancellationToken) -> std::io::Result<()> {
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
