//! What can be set, which settings make no sense together, and the values that they become.

mod commands;
mod lines;
mod rules;
mod sending;

pub(crate) use commands::{Command, ResendArgs, StatusArgs};
pub(crate) use lines::{KeyRules, LineArgs};
pub(crate) use rules::RuleArgs;
pub(crate) use sending::{SendArgs, Sending};

use crate::files::discover::Patterns;
use crate::handoff::Guidance;
use crate::settings::{From, Reading, Room};
use crate::spool::WhenFull;
use clap::Parser;
use logweir_proto::Limits;
use logweir_proto::limits::MAX_SERVICE_CHARS;
use logweir_proto::line;
use logweir_telemetry::config::{BY_HAND, CommonArgs, duration, size};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where the admin server listens when nothing else is said.
const ADMIN: &str = "127.0.0.1:4804";
/// The path that is no file's.
const STDIN: &str = "-";
/// The state of a service that root starts.
const SYSTEM_STATE_DIR: &str = "/var/lib/logweir-agent";
/// How often patterns are looked up.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  Follow what is there and what will come (quote globs, so that the agent sees new files too):
    logweir-agent --collector http://127.0.0.1:4801 '/var/log/myapp/*.log'
  Only what is written from now on, under one service name:
    logweir-agent --collector https://logs.example.org --token-file /etc/logweir/token --from end \\
                  --service checkout /var/log/checkout.log
  Backfill: read to the end, wait until all is acknowledged, exit:
    logweir-agent --collector http://127.0.0.1:4801 --once old-logs/*.log
  What does it see in my logs, and why?
    logweir-agent --explain /var/log/myapp/app.log
  Without health checks, and without what nobody should read:
    logweir-agent --collector http://127.0.0.1:4801 --exclude-lines 'GET /healthz' --redact email,card,bearer \
                  --redact-regex 'sid=[0-9a-f]+=>sid=***' '/var/log/myapp/*.log'
  From a pipe:
    myapp 2>&1 | logweir-agent --collector http://127.0.0.1:4801 --service myapp -

A batch is sent until the collector has taken it, however long that takes. What was read is remembered in the
state directory: stop, kill or move on, and the next run goes on where this one was. One state directory serves one
agent. Events that break the schema are kept in STATE_DIR/rejects.ndjson; what was deleted or truncated before it
could be read is named in STATE_DIR/losses.ndjson.

Each setting may also stand in the environment (LOGWEIR_ and the flag in capitals) or in a TOML file (--config), whose
keys are the flags; the paths are `paths` there. The file is read again when it changes and on SIGHUP: most settings
change at once, a warning names those that need a restart, and a wrong file changes nothing. A file whose path is taken
out keeps its place for when the path comes back.

Exit codes: 0 done; 1 with --once: events were rejected or lost, or it was stopped early; at stdin's end: lines were
dropped (--spool-full); 2 wrong usage, configuration or state directory.";

/// The agent of logweir: follows log files and sends each event until it is counted, exactly once.
#[derive(Debug, Clone, Parser)]
#[command(name = "logweir-agent", version, max_term_width = 110, after_help = EXAMPLES,
    args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) sending: SendArgs,
    /// Files and globs to follow; - is stdin, with whose end the agent ends too, also when it follows files beside
    #[arg(value_name = "PATH-OR-GLOB")]
    pub(crate) paths: Vec<String>,
    /// Show what is found in the first lines of this file (- is stdin), and by which rule, and stop. Nothing is sent or
    /// remembered; the flags about lines count
    #[arg(long, value_name = "FILE", help_heading = BY_HAND, conflicts_with = "paths")]
    pub(crate) explain: Option<PathBuf>,
    /// With --explain: as one JSON document
    #[arg(long, requires = "explain", help_heading = BY_HAND)]
    pub(crate) json: bool,
    /// Files and folders to leave out: a glob of their names, or of whole paths where it has a /; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Leave files alone that were last written to longer ago than this, until they are written to again (then all of
    /// them is read); a file that is followed already stays so
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub(crate) ignore_older: Option<Duration>,
    /// The service of every event [default: a JSON line's own, else the file's name without its endings]
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    #[command(flatten)]
    pub(crate) lines: LineArgs,
    #[command(flatten)]
    pub(crate) rules: RuleArgs,
    /// Where files that are there at the first start are read from; later ones, and all with --once, from the beginning
    #[arg(long, value_enum, default_value = "beginning", value_name = "WHERE")]
    pub(crate) from: From,
    /// Read to the end of the inputs, gzip files too, wait until all is acknowledged, and exit
    #[arg(long)]
    pub(crate) once: bool,
    /// Journal, spool, rejects and losses [default: $STATE_DIRECTORY, for root /var/lib/logweir-agent, else
    /// $XDG_STATE_HOME/logweir-agent or ~/.local/state/logweir-agent]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// How long the first event of a batch waits for others
    #[arg(long, value_parser = duration, default_value = "500ms", value_name = "DURATION")]
    pub(crate) linger: Duration,
    /// A batch with so many events is sent
    #[arg(long, default_value_t = 5_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch_events: u64,
    /// A batch with so many bytes (before compression) is sent
    #[arg(long, value_parser = size, default_value = "4MiB", value_name = "SIZE")]
    pub(crate) batch_bytes: u64,
    /// A longer line is not sent, but named in the rejects file
    #[arg(long, value_parser = size, default_value = "256KiB", value_name = "SIZE")]
    pub(crate) max_line_bytes: u64,
    /// With so many batches that are not acknowledged, reading stops
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) window_batches: u16,
    /// The same, in bytes after compression
    #[arg(long, value_parser = size, default_value = "32MiB", value_name = "SIZE")]
    pub(crate) window_bytes: u64,
    /// How much of stdin is kept on disk until it is acknowledged
    #[arg(long, value_parser = size, default_value = "64MiB", value_name = "SIZE")]
    pub(crate) spool_bytes: u64,
    /// What becomes of stdin when that is reached
    #[arg(long, value_enum, default_value = "wait", value_name = "WHAT")]
    pub(crate) spool_full: WhenFull,
    /// How many files are followed; further ones are named in the log and left alone
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_files: u32,
    /// A deleted file that can't be read to its end, since the collector takes nothing, is closed after this, and its rest
    /// named as lost; until then it takes room on the disk
    #[arg(long, value_parser = duration, default_value = "30m", value_name = "DURATION")]
    pub(crate) close_deleted: Duration,
    /// The same, but after 10 s in which nothing of it could be read, while its file system has less room than this: a size,
    /// or a part of the whole such as 1%; 0 never
    #[arg(long, default_value = "1%", value_name = "SIZE-OR-PERCENT")]
    pub(crate) close_deleted_below: Room,
    /// How many of them are held open; the others, which have rested longest, are looked at once a second
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_open_files: u32,
    /// How many files have a series of their own in the metrics; the others are counted together as `other`
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) max_file_labels: u32,

    /// The admin address: /metrics, /healthz, /readyz [default: 127.0.0.1:4804; with --once none]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
    /// How long sending may go on after SIGTERM, or after stdin's end (then for ever with --once); what is left then is
    /// sent by the next run
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "DURATION")]
    pub(crate) shutdown_timeout: Duration,

    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// Valid settings.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) reading: Reading,
    pub(crate) sending: Sending,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) max_file_labels: usize,
}

impl Args {
    /// The settings; `env` looks a variable up.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub(crate) fn settings(&self, env: impl Fn(&str) -> Option<PathBuf>) -> Result<Settings, String> {
        self.check_sizes()?;
        if self.paths.is_empty() {
            return Err("there is nothing to follow: give files or globs, such as '/var/log/myapp/*.log', or - for stdin \
                        (`paths` in the configuration file)"
                .to_owned());
        }
        if let Some(service) = &self.service
            && !is_name(service, MAX_SERVICE_CHARS)
        {
            return Err(format!("--service {service:?}: {NAME_RULE}"));
        }
        let once = self.once;
        let admin = self.admin.or_else(|| if once { None } else { ADMIN.parse().ok() });
        Ok(Settings {
            reading: self.reading(env)?,
            sending: self.sending.settings()?,
            admin,
            shutdown_timeout: self.shutdown_timeout,
            max_file_labels: usize::try_from(self.max_file_labels).unwrap_or(usize::MAX),
        })
    }

    /// Whether stdin is among the paths.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.paths.iter().any(|path| path == STDIN)
    }

    fn check_sizes(&self) -> Result<(), String> {
        for (flag, value) in [
            ("batch-bytes", self.batch_bytes),
            ("max-line-bytes", self.max_line_bytes),
            ("multiline-bytes", self.lines.multiline_bytes),
            ("window-bytes", self.window_bytes),
            ("spool-bytes", self.spool_bytes),
        ] {
            if value == 0 {
                return Err(format!("--{flag} must be at least 1"));
            }
        }
        let limits = Limits::default();
        let most = u64::try_from(limits.batch_events).unwrap_or(u64::MAX);
        if self.batch_events > most {
            return Err(format!("--batch-events must be at most {most}: collectors take no more"));
        }
        // The event that fills a batch goes into it.
        let most = u64::try_from(limits.decoded_bytes).unwrap_or(u64::MAX);
        if self.batch_bytes.saturating_add(self.max_line_bytes) > most {
            return Err(format!(
                "--batch-bytes and --max-line-bytes must be at most {most} together: collectors take no more"
            ));
        }
        Ok(())
    }

    /// What `--explain` must know: how the lines of a file are read.
    ///
    /// # Errors
    /// As for [`Args::settings`].
    pub(crate) fn parser_of(&self, path: &Path) -> Result<line::Settings, String> {
        Ok(line::Settings {
            format: self.lines.format.into(),
            service: self.service.clone(),
            file_service: line::service_of_path(path),
            origin: line::Origin::of_path(path),
            keys: self.lines.keys().of(path),
            default_level: self.lines.default_level,
            timezone: self.lines.zone()?.0,
            multiline_start: self.lines.multiline_start.clone(),
            max_event_bytes: self.multiline_bytes(),
            rules: Arc::new(self.rules.rules()?),
        })
    }

    fn multiline_bytes(&self) -> usize {
        usize::try_from(self.lines.multiline_bytes.min(self.max_line_bytes)).unwrap_or(usize::MAX)
    }

    fn reading(&self, env: impl Fn(&str) -> Option<PathBuf>) -> Result<Reading, String> {
        let (timezone, timezone_name) = self.lines.zone()?;
        let state_dir = match &self.state_dir {
            Some(dir) => dir.clone(),
            None => default_state_dir(env, rustix::process::geteuid().is_root())
                .ok_or("there is no home directory to keep the state in: say --state-dir DIR")?,
        };
        let patterns: Vec<String> = self.paths.iter().filter(|path| *path != STDIN).cloned().collect();
        // The reader makes its own; here a wrong one is said before anything else happens, and with --check.
        Patterns::new(&patterns, &self.exclude)?;
        Ok(Reading {
            state_dir,
            patterns,
            exclude: self.exclude.clone(),
            ignore_older: self.ignore_older,
            stdin: self.reads_stdin(),
            once: self.once,
            from: if self.once { From::Beginning } else { self.from },
            format: self.lines.format.into(),
            service: self.service.clone(),
            default_level: self.lines.default_level,
            keys: self.lines.keys(),
            multiline_start: self.lines.multiline_start.clone(),
            patience: self.lines.patience(),
            multiline_bytes: self.multiline_bytes(),
            rules: Arc::new(self.rules.rules()?),
            timezone,
            timezone_name,
            linger: self.linger,
            guidance: Guidance::default(),
            batch_events: self.batch_events,
            batch_bytes: self.batch_bytes,
            max_line_bytes: usize::try_from(self.max_line_bytes).unwrap_or(usize::MAX),
            window_batches: self.window_batches.into(),
            window_bytes: self.window_bytes,
            spool_bytes: self.spool_bytes,
            spool_full: self.spool_full,
            max_files: usize::try_from(self.max_files).unwrap_or(usize::MAX),
            close_deleted: self.close_deleted,
            close_deleted_below: self.close_deleted_below,
            max_open_files: usize::try_from(self.max_open_files).unwrap_or(usize::MAX),
            scan_interval: SCAN_INTERVAL,
        })
    }
}

const NAME_RULE: &str =
    "it must be 1 to 128 characters of A-Z a-z 0-9 . _ / : - and begin with a letter or digit";

/// The rule for services and agents alike.
fn is_name(text: &str, most_chars: usize) -> bool {
    text.len() <= most_chars
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b':' | b'-'))
}

fn default_state_dir(env: impl Fn(&str) -> Option<PathBuf>, root: bool) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).filter(|path| path.is_absolute());
    if let Some(dirs) = env("STATE_DIRECTORY") {
        // systemd separates several by colons; the unit's first one is the agent's.
        let text = dirs.to_string_lossy();
        let first = text.split(':').next().unwrap_or_default();
        if first.starts_with('/') {
            return Some(first.into());
        }
    }
    if root {
        return Some(SYSTEM_STATE_DIR.into());
    }
    let state_home = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state_home?.join("logweir-agent"))
}

#[cfg(test)]
mod tests;
