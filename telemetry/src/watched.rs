//! Files that are read again when they change, and at SIGHUP.
//!
//! What was read before stays in force until a change could be read whole: a file that vanishes, is half written or
//! wrong neither opens the door nor brings anything back that was revoked. It is said in the log, in a metric and in
//! `/readyz`, and looked at again from time to time.

use crate::admin::Readiness;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How often files are usually looked at. That costs one `stat` each.
pub const LOOK: Duration = Duration::from_millis(500);
/// So long after a change it is read: whoever writes several files, or one in several steps, may be done by then.
const SETTLE: Duration = Duration::from_millis(200);
/// Far more than anyone writes; a larger file is a mistake, and would be read into memory.
const MAX_BYTES: u64 = 64 << 20;
/// So long after a file couldn't be read, it is tried again although it hasn't changed.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What shows that a file has changed; `None` when it isn't there.
type Mark = Option<(i64, i64, i64, i64, u64, u64)>;

/// What the files looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// Looks at them. Do it before reading, so that no change is missed.
    pub fn of(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| mark(path)).collect())
    }

    /// Of files that haven't been looked at: they will be read.
    pub fn none() -> Self {
        Self(Vec::new())
    }
}

/// Reads a file of at most 64 MiB.
///
/// # Errors
/// Why it can't be read.
pub fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let mut file = File::open(path).map_err(|e| e.to_string())?.take(MAX_BYTES + 1);
    file.read_to_string(&mut text).map_err(|e| e.to_string())?;
    if file.limit() == 0 { Err(format!("it is larger than {MAX_BYTES} bytes")) } else { Ok(text) }
}

fn mark(path: &Path) -> Mark {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.size(), meta.ino()))
}

/// Reads, and puts in force what it has read. The error is a sentence.
pub type Load = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is measured of files that are read again; clones share it.
#[derive(Debug, Clone, Default)]
pub struct FileMetrics {
    /// Changes that couldn't be read.
    pub errors: Counter,
    /// 1 while what was read before is in force, since what is there now can't be.
    pub stale: Gauge,
}

impl FileMetrics {
    /// Under names that begin with this one.
    pub fn register(&self, registry: &mut Registry, name: &str) {
        let (errors, stale) = (self.errors.clone(), self.stale.clone());
        registry.register(format!("{name}_errors"), "Changes that couldn't be read", errors);
        registry.register(
            format!("{name}_stale"),
            "Whether it can't be read now (1), so that what it said before is in force",
            stale,
        );
    }
}

/// Some files that are read together.
pub struct Watched {
    /// For people, such as "the tokens file".
    pub what: &'static str,
    /// The name of the remark in `/readyz`.
    pub remark: &'static str,
    /// Where they are.
    pub paths: Vec<PathBuf>,
    /// As they were before they were first read.
    pub seen: Marks,
    /// How often they are looked at.
    pub every: Duration,
    /// What is done when they change.
    pub load: Load,
    /// What is measured of them.
    pub metrics: FileMetrics,
    /// Where the remark is made.
    pub readiness: Readiness,
}

impl Watched {
    /// Looks after the files until `stop`, and reads them again too each time that `reload` changes.
    pub async fn run(mut self, mut reload: watch::Receiver<()>, stop: CancellationToken) {
        let mut trouble: Option<String> = None;
        let mut tried = Instant::now();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(self.every), if !self.paths.is_empty() => false,
                Ok(()) = reload.changed() => true,
            };
            let overdue = trouble.is_some() && tried.elapsed() >= TRY_AGAIN;
            let changed = self.look().await.is_some_and(|now| now != self.seen);
            if !(asked || changed || overdue) {
                continue;
            }
            if changed {
                sleep(SETTLE).await;
            }
            tried = Instant::now();
            let Some(now) = self.look().await else { continue };
            self.seen = now;
            let load = Arc::clone(&self.load);
            let Ok(outcome) = tokio::task::spawn_blocking(move || load()).await else { continue };
            trouble = self.note(outcome, trouble.as_ref(), !(asked || changed));
        }
    }

    async fn look(&self) -> Option<Marks> {
        let paths = self.paths.clone();
        tokio::task::spawn_blocking(move || Marks::of(&paths)).await.ok()
    }

    /// Says how it went; a try that nobody asked for only says what is new. Returns the trouble that there is now.
    fn note(&self, outcome: Result<(), String>, before: Option<&String>, on_its_own: bool) -> Option<String> {
        let trouble = outcome.err();
        self.metrics.stale.set(i64::from(trouble.is_some()));
        match &trouble {
            None if before.is_some() => {
                self.readiness.remark(self.remark, None);
                tracing::info!("{} can be used again", self.what);
            }
            Some(error) if !on_its_own || before != Some(error) => {
                self.metrics.errors.inc();
                let text =
                    format!("{} can't be used; what was read before stays in force: {error}", self.what);
                tracing::error!("{text}");
                self.readiness.remark(self.remark, Some(text));
            }
            _ => {}
        }
        trouble
    }
}

/// Tells the receivers of each SIGHUP until `stop`. Without it, a SIGHUP would end the process; from the call on it
/// doesn't.
pub fn on_hangup(reload: watch::Sender<()>, stop: CancellationToken) -> impl Future<Output = ()> + Send {
    let hangups = signal(SignalKind::hangup());
    async move {
        let mut hangups = match hangups {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "SIGHUP can't be caught, and would end the process");
                return;
            }
        };
        while stop.run_until_cancelled(hangups.recv()).await.is_some() {
            tracing::info!("SIGHUP: reading the files again");
            reload.send_replace(());
        }
    }
}
