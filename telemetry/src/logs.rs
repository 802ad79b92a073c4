//! Structured logs, to stderr.

use crate::exit::Exit;
use clap::{Args, ValueEnum};
use std::io::{IsTerminal as _, Stderr, Write as _};
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, FmtSpan, Format};
use tracing_subscriber::{EnvFilter, reload};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line, for machines.
    Json,
}

/// The flags of the logs; flatten them into a program's own.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// How log lines look on stderr
    #[arg(long, value_enum, default_value = "pretty", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// The least level that is logged: error, warn, info, debug, trace, or a filter such as `info,logweir_agent=debug`
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// Changes the level of the logs while they are written.
pub struct Level(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl Level {
    /// From now on this is the value of `--log-level`.
    ///
    /// # Errors
    /// A sentence, when it is no level and no filter.
    pub fn set(&self, level: &str) -> Result<(), String> {
        (self.0)(filter(level)?)
    }

    /// Whether this is a level or a filter.
    ///
    /// # Errors
    /// As for [`Level::set`].
    pub fn check(level: &str) -> Result<(), String> {
        filter(level).map(drop)
    }
}

/// Starts logging for the whole process. Call it once, before the first task.
///
/// # Errors
/// [`Exit::Usage`], when the filter of `--log-level` doesn't parse or logging has been started already; why stands
/// on stderr, since there is no log to write it to.
pub fn init(args: &LogArgs) -> Result<(), Exit> {
    let start = |builder: Builder| match args.log_format {
        LogFormat::Pretty => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    builder(args).and_then(|builder| start(builder).map_err(|e| e.to_string())).map_err(complain)
}

/// The same, with a level that can be changed.
///
/// # Errors
/// As for [`init`].
pub fn init_changeable(args: &LogArgs) -> Result<Level, Exit> {
    let level = |set: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>| {
        Level(Box::new(move |filter| set(filter).map_err(|e| e.to_string())))
    };
    let start = |builder: Builder| match args.log_format {
        LogFormat::Pretty => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| level(Box::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| level(Box::new(move |filter| handle.reload(filter))))
        }
    };
    builder(args).and_then(|builder| start(builder).map_err(|e| e.to_string())).map_err(complain)
}

type Builder = SubscriberBuilder<DefaultFields, Format, EnvFilter, fn() -> Stderr>;

fn builder(args: &LogArgs) -> Result<Builder, String> {
    let filter = filter(&args.log_level)?;
    let writer: fn() -> Stderr = std::io::stderr;
    Ok(tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()))
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|e| format!("--log-level {level:?} is no level and no filter: {e}"))
}

fn complain(error: String) -> Exit {
    match writeln!(std::io::stderr(), "error: {error}") {
        Ok(()) | Err(_) => Exit::Usage,
    }
}
