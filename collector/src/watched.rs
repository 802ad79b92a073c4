//! A settings file that is read again when it changes, and when the process gets a SIGHUP.
//!
//! A file that can't be read, or is wrong, changes nothing: it is logged and counted once, and what was read before
//! stays in force.

use prometheus_client::metrics::counter::Counter;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at. Its time, size and inode are compared, so this costs one `stat`.
const LOOK: Duration = Duration::from_secs(1);
/// Far more than anyone writes; a larger file is a mistake, and would be read into memory.
const MAX_BYTES: u64 = 64 << 20;

/// What shows that a file has changed.
type Mark = (Option<SystemTime>, u64, u64);

/// Reads a file of at most 64 MiB.
///
/// # Errors
/// Why it can't be read.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    if mark(path)?.1 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

fn mark(path: &Path) -> Result<Mark, String> {
    let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
    Ok((meta.modified().ok(), meta.len(), meta.ino()))
}

/// What is looked after.
pub(crate) struct Watched {
    /// What it is, for the log.
    pub(crate) what: &'static str,
    pub(crate) path: PathBuf,
    /// Counts changes that couldn't be read.
    pub(crate) errors: Counter,
}

impl Watched {
    /// Looks after the file until `stop`, and gives its text to `apply` after each change and each time that
    /// `reload` changes; once at the beginning, too, so that what changed after the start isn't missed.
    pub(crate) async fn run(
        self,
        apply: impl Fn(&str) -> Result<(), String>,
        mut reload: watch::Receiver<()>,
        stop: CancellationToken,
    ) {
        let mut seen: Option<Result<Mark, String>> = None;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => false,
                Ok(()) = reload.changed() => true,
            };
            let path = self.path.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || mark(&path)).await else { continue };
            if !asked && seen.as_ref() == Some(&now) {
                continue;
            }
            seen = Some(now);
            let path = self.path.clone();
            let Ok(text) = tokio::task::spawn_blocking(move || read(&path)).await else { continue };
            if let Err(error) = text.and_then(|text| apply(&text)) {
                self.errors.inc();
                tracing::error!(
                    path = %self.path.display(), %error,
                    "{} can't be used; what was read before stays in force", self.what
                );
            }
        }
    }
}

/// Tells the receivers of each SIGHUP until `stop`. Without it, a SIGHUP would end the process.
pub(crate) async fn on_hangup(reload: watch::Sender<()>, stop: CancellationToken) {
    let mut hangups = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::error!(%error, "SIGHUP can't be caught, and would end the collector");
            return;
        }
    };
    while stop.run_until_cancelled(hangups.recv()).await.is_some() {
        tracing::info!("SIGHUP: reading the files again");
        reload.send_replace(());
    }
}
