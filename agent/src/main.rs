//! Tails logs and sends each event under a number that never changes.
//!
//! ```text
//! files, stdin ─► reader (a thread): parse, number, seal, journal ─► sender: post until acknowledged
//! ```
//!
//! This file is the binary's edge: settings, logs and the exit code around [`agent`].

mod agent;
mod batch;
mod config;
mod explain;
mod files;
#[cfg(test)]
mod fuzz;
mod handoff;
mod journal;
mod metrics;
mod reader;
mod records;
mod reload;
mod resend;
mod retry;
mod send;
mod settings;
mod spool;
mod status;

use agent::AgentError;
use config::{Args, Command, ResendArgs, Settings, StatusArgs};
use logweir_telemetry::config::CommonArgs;
use logweir_telemetry::exit::Exit;
use logweir_telemetry::logs::{self, Level};
use reload::Config;
use status::command::StatusError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long threads that hang in the operating system may keep the process.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The reader, a look at the files of TLS and token, and some that hang in the operating system.
const BLOCKING_THREADS: usize = 8;

fn main() -> ExitCode {
    let config = match Config::of_process() {
        Ok(config) => config,
        Err(error) => error.exit(),
    };
    let args: Args = config.args().clone();
    match args.command {
        Some(Command::Resend(args)) => return command(&args.common, resend_command(&args)),
        Some(Command::Status(args)) => return command(&args.common, status_command(&args)),
        None => {}
    }
    let level = match logs::init_changeable(&args.common.logs) {
        Ok(level) => level,
        Err(exit) => return exit.into(),
    };
    if let Some(path) = &args.explain {
        let parser = args.parser_of(path);
        return match parser.and_then(|parser| explain::run(path, &parser, args.json)) {
            Ok(()) => Exit::Done.into(),
            Err(error) => {
                tracing::error!("{error}");
                Exit::Usage.into()
            }
        };
    }
    let settings = match args.settings(|name| std::env::var_os(name).map(PathBuf::from)) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Usage.into();
        }
    };
    let result = if args.common.check { check(&settings) } else { run(settings, config, level) };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            tracing::error!("{error}");
            Exit::Usage.into()
        }
    }
}

/// One of the commands beside following files, which runs to its end.
fn command(common: &CommonArgs, work: impl Future<Output = Result<Exit, String>>) -> ExitCode {
    if let Err(exit) = logs::init(&common.logs) {
        return exit.into();
    }
    let done = tokio::runtime::Runtime::new()
        .map_err(|e| AgentError::Runtime(e).to_string())
        .and_then(|runtime| runtime.block_on(work));
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            tracing::error!("{error}");
            Exit::Usage.into()
        }
    }
}

async fn resend_command(args: &ResendArgs) -> Result<Exit, String> {
    let sending = args.sending.settings()?;
    if args.common.check {
        return send::http::Http::new(&sending.target).map(|_| Exit::Done).map_err(|e| e.to_string());
    }
    resend::run(sending, &args.files).await.map_err(|e| e.to_string())
}

async fn status_command(args: &StatusArgs) -> Result<Exit, String> {
    match status::command::run(args).await {
        Ok(exit) => Ok(exit),
        Err(error @ StatusError::Unreachable { .. }) => {
            tracing::error!("{error}");
            Ok(Exit::Unreachable)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn check(settings: &Settings) -> Result<Exit, AgentError> {
    send::http::Http::new(&settings.sending.target)?;
    tracing::info!(state_dir = %settings.reading.state_dir.display(), "the configuration is valid");
    Ok(Exit::Done)
}

fn run(settings: Settings, config: Config, level: Level) -> Result<Exit, AgentError> {
    // Sending needs no second thread beside the reader's: each one more would cost memory and wake-ups.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(AgentError::Runtime)?;
    let result = runtime.block_on(agent::run(settings, config, level));
    // A read of stdin can't be interrupted; it must not keep the process.
    runtime.shutdown_timeout(LAST_WAIT);
    result
}
