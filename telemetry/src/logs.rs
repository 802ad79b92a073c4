//! Structured logs, to stderr.

use crate::exit::Exit;
use clap::{Args, ValueEnum};
use std::io::{IsTerminal as _, Write as _};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

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

/// Starts logging for the whole process. Call it once, before the first task.
///
/// # Errors
/// [`Exit::Usage`], when the filter of `--log-level` doesn't parse or logging has been started already; why stands
/// on stderr, since there is no log to write it to.
pub fn init(args: &LogArgs) -> Result<(), Exit> {
    start(args).map_err(|error| match writeln!(std::io::stderr(), "error: {error}") {
        Ok(()) | Err(_) => Exit::Usage,
    })
}

fn start(args: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log_level)
        .map_err(|e| format!("--log-level {:?} is no level and no filter: {e}", args.log_level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let done = match args.log_format {
        LogFormat::Pretty => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|e| e.to_string())
}
