//! The configuration while the agent runs: `--config` is read again when it changes, and on SIGHUP.
//!
//! ```text
//! SIGHUP, a change ─► the whole file, validated as at the start ─┬─ wrong: all stays, and is said
//!                                                                └─► reader, sender, metrics, logs
//! ```
//!
//! Invariants: a file that is wrong in any place changes nothing; what only a restart can change ([`FIXED`]) keeps the
//! value that runs, and is named.

use crate::config::{Args, Settings};
use crate::handoff::Wake;
use crate::metrics::{ConfigMetrics, Metrics};
use crate::send::delivery::Shared;
use crate::send::http::Http;
use logweir_telemetry::admin::Readiness;
use logweir_telemetry::config::{Origin, Parsed, Values, sentence};
use logweir_telemetry::logs::Level;
use logweir_telemetry::watched::{FileMetrics, Marks, Watched};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The name of the remark in `/readyz`.
const REMARK: &str = "config";
/// The keys that are no flags: the paths, and stdin among them.
const PATHS: &str = "paths";
const STDIN: &str = "-";

/// Settings that a running agent keeps: they are in the names of things, in what is open, or in what was started.
const FIXED: [&str; 11] = [
    "admin",
    "check",
    "concurrency",
    "id",
    "log-format",
    "max-line-bytes",
    "once",
    "shutdown-timeout",
    "spool-bytes",
    "spool-full",
    "state-dir",
];

/// What the way to the collectors is made of.
const TARGET: [&str; 8] = [
    "ca-file",
    "client-cert",
    "client-key",
    "collector",
    "connect-timeout",
    "proxy",
    "request-timeout",
    "token-file",
];

/// The configuration as it was read, and how to read it again.
pub(crate) struct Config {
    origin: Origin,
    /// The file before it was read.
    seen: Marks,
    values: Values,
    parsed: Parsed<Args>,
}

/// How the file stands to what runs; for people.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ConfigStatus {
    pub(crate) file: Option<String>,
    /// Why the file as it is now can't be used; what was read before is in force.
    pub(crate) error: Option<String>,
    /// What only a restart puts in force.
    pub(crate) restart: Vec<String>,
}

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedStatus(Arc<Mutex<ConfigStatus>>);

impl SharedStatus {
    /// How it is now.
    pub(crate) fn get(&self) -> ConfigStatus {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, ConfigStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Config {
    /// This process' configuration.
    ///
    /// # Errors
    /// clap's, which says how to end.
    pub(crate) fn of_process() -> Result<Self, clap::Error> {
        Self::of(Origin::of_process())
    }

    fn of(origin: Origin) -> Result<Self, clap::Error> {
        let paths: Vec<PathBuf> = origin.file().map(PathBuf::from).into_iter().collect();
        let seen = Marks::of(&paths);
        let (values, parsed) = origin.load()?;
        Ok(Self { origin, seen, values, parsed })
    }

    /// What was read.
    pub(crate) const fn args(&self) -> &Args {
        &self.parsed.args
    }
}

/// Where other settings go.
pub(crate) struct Targets {
    pub(crate) reader: mpsc::Sender<Wake>,
    pub(crate) sender: Arc<Shared<Http>>,
    pub(crate) metrics: Metrics,
    pub(crate) level: Level,
    pub(crate) status: SharedStatus,
}

struct Running {
    values: Values,
    parsed: Parsed<Args>,
    /// Whether it reads stdin, whatever the file says by now.
    stdin: bool,
}

/// Puts what it reads in force.
struct Reload {
    origin: Origin,
    running: Mutex<Running>,
    targets: Targets,
    metrics: ConfigMetrics,
}

/// Looks after the configuration; see [`Watched::run`].
pub(crate) fn watched(config: Config, targets: Targets, readiness: Readiness) -> Watched {
    let Config { origin, seen, values, parsed } = config;
    let paths: Vec<PathBuf> = origin.file().map(PathBuf::from).into_iter().collect();
    targets.status.lock().file = paths.first().map(|path| path.display().to_string());
    let metrics = targets.metrics.config.clone();
    let files = FileMetrics { errors: metrics.failed(), stale: metrics.stale.clone() };
    let stdin = parsed.args.reads_stdin();
    let running = Mutex::new(Running { values, parsed, stdin });
    let reload = Reload { origin, running, targets, metrics };
    Watched {
        what: "the configuration file",
        remark: REMARK,
        paths,
        seen,
        every: LOOK,
        load: Arc::new(move || reload.load()),
        metrics: files,
        readiness,
    }
}

/// What a file comes to.
struct Next {
    values: Values,
    parsed: Parsed<Args>,
    settings: Settings,
    changed: Vec<String>,
    restart: Vec<String>,
}

impl Reload {
    fn load(&self) -> Result<(), String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let done = next(&self.origin, &running).and_then(|next| self.apply(next, &mut running));
        let done = done.map_err(|error| self.with_path(error));
        self.targets.status.lock().error = done.as_ref().err().cloned();
        done
    }

    fn with_path(&self, error: String) -> String {
        let path = self.origin.file().map(|path| path.display().to_string());
        match path.filter(|path| !error.contains(path)) {
            Some(path) => format!("{path}: {error}"),
            None => error,
        }
    }

    fn apply(&self, next: Next, running: &mut Running) -> Result<(), String> {
        let Next { values, parsed, settings, changed, restart } = next;
        let Targets { reader, sender, metrics, level, status } = &self.targets;
        let has = |key: &str| changed.iter().any(|changed| changed == key);
        let way = if TARGET.into_iter().any(has) {
            Some(Http::new(&settings.sending.target).map_err(|e| e.to_string())?)
        } else {
            None
        };
        if !changed.is_empty() {
            let wake = Wake::Settings(Box::new(settings.reading));
            reader.blocking_send(wake).map_err(|_| "the agent is about to end".to_owned())?;
        }
        if let Some(way) = way {
            sender.post.go_as(&way);
            sender.target_has_changed();
        }
        if has("max-rate") {
            sender.rates.set_max_rate(settings.sending.max_rate);
        }
        metrics.label_files(settings.max_file_labels);
        if has("log-level") {
            level.set(&parsed.args.common.logs.log_level)?;
        }
        let restart: Vec<String> = restart.iter().map(|key| flag(key)).collect();
        let said = std::mem::replace(&mut status.lock().restart, restart.clone());
        if !restart.is_empty() && said != restart {
            let settings = restart.join(", ");
            tracing::warn!(
                settings,
                "these settings have changed in the file: restart to change them; the values from before stay in force"
            );
        }
        let changed = if changed.is_empty() { "nothing".to_owned() } else { flags(&changed) };
        tracing::info!(changed, "the configuration was read again");
        self.metrics.ok().inc();
        self.metrics.pending.set(i64::try_from(restart.len()).unwrap_or(i64::MAX));
        *running = Running { values, parsed, stdin: running.stdin };
        Ok(())
    }
}

/// Reads the file, and finds what of it can be put in force.
fn next(origin: &Origin, running: &Running) -> Result<Next, String> {
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let parse = |values: &Values| origin.parse::<Args>(values).map_err(|e| sentence(&e));
    let mut values = origin.read()?;
    // As a restart would take it.
    let whole = parse(&values)?;
    whole.args.settings(env)?;
    Level::check(&whole.args.common.logs.log_level)?;
    values.keep(&FIXED, &running.values);
    let parsed = parse(&values)?;
    let mut settings = parsed
        .args
        .settings(env)
        .map_err(|error| format!("{error} (together with the values that only a restart changes)"))?;
    let mut restart: Vec<String> = whole.differences(&parsed).map(str::to_owned).collect();
    if settings.reading.stdin != running.stdin {
        settings.reading.stdin = running.stdin;
        restart.push(STDIN.to_owned());
    }
    let changed = parsed.differences(&running.parsed).map(str::to_owned).collect();
    Ok(Next { values, parsed, settings, changed, restart })
}

fn flags(keys: &[String]) -> String {
    let flags: Vec<String> = keys.iter().map(|key| flag(key)).collect();
    flags.join(", ")
}

fn flag(key: &str) -> String {
    match key {
        PATHS => "paths".to_owned(),
        STDIN => "- (stdin)".to_owned(),
        key => format!("--{key}"),
    }
}
