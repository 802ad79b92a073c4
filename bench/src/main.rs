//! Load, measurement and comparison of logweir's services.
//!
//! ```text
//! bench ── private Redis, Postgres, services ──► load ──► wait until it is done ──► table or --json
//!               (own folder, own ports)                        │
//!                                                              └─► are the counts what was put in? else exit 1
//! ```
//!
//! It knows the services by their outward names alone: flags, HTTP, the queue's keys, Postgres' tables. It measures
//! and compares within one run, and asserts no timing. It ends what it started, however it ends itself, and every
//! load has an end in count and in time.

mod agent;
mod args;
mod attack;
mod clock;
mod collector;
mod fairness;
mod hostile;
mod http;
mod load;
mod machine;
mod output;
mod path;
mod place;
mod process;
mod queue;
mod reaper;
mod servers;
mod services;
mod sink;
mod takeover;
mod worker;

use args::{AgentCommand, Args, Command};
use clap::Parser as _;
use output::Report;
use std::io::Write as _;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let args = Args::parse();
    if let Command::Attack(what) = &args.command {
        return attack(what);
    }
    if let Command::Load(what) = &args.command {
        return load(what);
    }
    match start(&args) {
        Ok(report) => {
            if let Err(error) = report.print(args.json) {
                output::note(&format!("logweir-bench: {error:#}"));
                return ExitCode::from(3);
            }
            for wrong in &report.wrong {
                output::note(&format!("logweir-bench: {wrong}"));
            }
            ExitCode::from(u8::from(!report.wrong.is_empty()))
        }
        Err(error) => {
            output::note(&format!("logweir-bench: {error:#}"));
            ExitCode::from(3)
        }
    }
}

/// For the process of the hostile clients.
fn attack(what: &args::AttackArgs) -> ExitCode {
    let done = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(attack::run(what)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("logweir-bench attack: {error:#}"));
            ExitCode::from(3)
        }
    }
}

/// A part of a measurement: what it saw goes to stdout, for the program that started it.
fn load(args: &args::LoadArgs) -> ExitCode {
    let seen = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(fairness::send(args)));
    match seen.and_then(|seen| Ok(std::io::stdout().write_all(seen.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("logweir-bench load: {error:#}"));
            ExitCode::from(3)
        }
    }
}

fn start(args: &Args) -> anyhow::Result<Report> {
    if matches!(args.command, Command::Collector(_)) {
        // Before there are other threads: they are bound likewise.
        process::leave_core(collector::CORE)?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // What is dropped here ends the processes that it started.
        tokio::select! {
            report = tokio::time::timeout(args.limit, run(args)) => report.unwrap_or_else(|_| {
                anyhow::bail!("not done within --limit {}", humantime::format_duration(args.limit))
            }),
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

async fn run(args: &Args) -> anyhow::Result<Report> {
    let place = place::Place::new(args)?;
    match &args.command {
        Command::Worker(what) => Box::pin(worker::run(what, &place)).await,
        Command::Takeover(what) => Box::pin(takeover::run(what, &place)).await,
        Command::Collector(what) => Box::pin(collector::run(what, &place)).await,
        Command::Hostile(what) => Box::pin(hostile::run(what, &place)).await,
        Command::Attack(_) => anyhow::bail!("`attack` is not measured"),
        Command::Fairness(what) => Box::pin(fairness::run(what, &place)).await,
        Command::Load(_) => anyhow::bail!("this makes no report"),
        Command::Path(what) => Box::pin(path::run(what, &place)).await,
        Command::Agent(AgentCommand::Idle(what)) => Box::pin(agent::idle::run(what, &place)).await,
        Command::Agent(AgentCommand::Speed(what)) => Box::pin(agent::speed::run(what, &place)).await,
        Command::Agent(AgentCommand::Quota(what)) => Box::pin(agent::quota::run(what, &place)).await,
    }
}
