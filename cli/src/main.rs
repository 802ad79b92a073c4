//! The operator's tool of logweir.
//!
//! ```text
//! flags, LOGWEIR_…, --config ──► args ──► one command ──► stdout: data (table, --json, --csv)
//!                                             │            stderr: everything else
//!                                             └─► exit 0 done · 1 a negative answer · 2 usage · 3 unreachable
//! ```
//!
//! Invariants: with `--json` a command prints one JSON document on stdout and nothing else; every call outward
//! has a deadline; an error says what to do next; no password is ever printed.

mod args;
mod batch;
mod dlq;
mod failure;
mod output;
mod postgres;
mod query;
mod queue;
mod token;
mod up;
mod verify;

use args::{Cli, Command};
use logweir_telemetry::exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli: Cli = logweir_telemetry::config::parse();
    match start(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = failure::exit_of(&error);
            if exit != Exit::Done {
                output::note(&format!("logweir: {error:#}"));
            }
            exit.into()
        }
    }
}

fn start(cli: &Cli) -> anyhow::Result<Exit> {
    if let Err(exit) = logweir_telemetry::logs::init(&cli.shared.logs()) {
        return Ok(exit);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(cli))
}

async fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let shared = &cli.shared;
    match &cli.command {
        Command::Up(args) => Box::pin(up::run(args, shared)).await,
        Command::Query(args) => query::run(args, shared).await,
        Command::Verify(args) => verify::run(args, shared).await,
        Command::Batch(args) => batch::run(args, shared).await,
        Command::Dlq(args) => dlq::run(args, shared).await,
        Command::Token(args) => token::run(args, shared),
    }
}
