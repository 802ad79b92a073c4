//! `logweir up`: the whole system on this machine.
//!
//! ```text
//! flags ──► plan (pure: programs, arguments, ports)
//!             └─► system: Redis, Postgres ─► collector, workers, agents ─► apps      each with its log, and a reaper
//!                   └─► each second: watch (metrics, counts) ──► screen (pure) ──► stdout
//!                         └─► finish: the apps stop, all drains, their counts beside those of Postgres
//! ```
//!
//! Invariants: whatever ends `up`, no process stays behind; what says that all is ready is written when all is
//! ready; the data directory belongs to one `up` at a time, and the next one goes on with it.

mod apps;
mod child;
pub(crate) mod data;
mod finish;
mod http;
mod metrics;
mod plan;
pub(crate) mod ports;
mod programs;
mod reaper;
mod screen;
mod servers;
mod system;
mod watch;

use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use data::DataDir;
use logweir_queue::Shards;
use logweir_telemetry::config::{duration, size};
use logweir_telemetry::exit::Exit;
use logweir_telemetry::shutdown;
use plan::Plan;
use screen::Screen;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use system::System;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use watch::Watch;

/// How often the screen is brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// Run the whole system on this machine
///
/// Starts a Redis and a Postgres of its own below --data, a collector, workers, and either three simulated apps
/// with an agent beside each, or with --tail one agent on your files. Everything listens on 127.0.0.1. What was
/// counted stays in --data, and the next `logweir up` goes on with it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir up                                          simulated apps, until Ctrl-C
  logweir up --tail '/var/log/*.log'                  your files, from their beginning
  logweir up --for 30s --pause-workers 10s --max-queue-entries 40
                                                      see the queue fill, and everything drain; exit 1 when an
                                                      app's own count isn't what Postgres holds
  logweir up --tail '*.log' --agent-arg=--timezone=Europe/Berlin")]
pub(crate) struct Args {
    /// Tail these files from the beginning, instead of simulated apps; may be given several times
    #[arg(long, value_name = "GLOB")]
    tail: Vec<String>,
    /// End after so long; with simulated apps their own counts are then compared with Postgres [default: until
    /// Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// Write the addresses, URLs and process IDs as JSON to this file when everything is ready
    #[arg(long, value_name = "FILE")]
    ports_file: Option<PathBuf>,
    /// The collector's public address [default: 127.0.0.1:4801, or a free port when that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How many workers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Into how many shards the queue is divided, 1 to 64
    #[arg(long, value_name = "N", default_value_t = Shards::default())]
    shards: Shards,
    /// Pause the workers for so long in the middle of --for
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "run_for")]
    pause_workers: Option<Duration>,
    /// Lines per second that each simulated app writes
    #[arg(long, value_name = "LINES", default_value_t = 20)]
    rate: u32,
    /// The collector's queue is full when it holds so many batches [default: the collector's]
    #[arg(long, value_name = "N")]
    max_queue_entries: Option<u64>,
    /// The collector's queue is full when its batches have so many bytes [default: the collector's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_queue_bytes: Option<u64>,
    /// A further argument for the collector, such as --collector-arg=--burst=100; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    collector_arg: Vec<OsString>,
    /// A further argument for each worker
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    worker_arg: Vec<OsString>,
    /// A further argument for each agent
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    agent_arg: Vec<OsString>,
}

impl Args {
    fn validate(&self) -> Result<(), Failure> {
        if self.tail.iter().any(|glob| glob == "-") {
            let text = "--tail takes files and globs; for stdin run: … | logweir-agent --service NAME -";
            return Err(Failure::Usage(text.to_owned()));
        }
        match (self.run_for, self.pause_workers) {
            (Some(run_for), Some(pause)) if pause >= run_for => {
                Err(Failure::Usage("--pause-workers must be shorter than --for".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// Runs it.
pub(crate) async fn run(args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    args.validate()?;
    let signals = shutdown::listen();
    let stop = signals.stop();
    let data = tokio::select! {
        data = DataDir::open(shared.data.as_deref()) => data?,
        () = stop.cancelled() => return Ok(Exit::Done),
    };
    let plan = Plan::new(args, shared, &data)?;
    let mut system = System::new(&data)?;
    let outcome = whole_run(args, shared, &data, &plan, &mut system, &stop).await;
    data.forget_ports();
    if outcome.is_ok() {
        output::note("stopping");
    }
    system.stop_all().await;
    outcome
}

async fn whole_run(
    args: &Args,
    shared: &Shared,
    data: &DataDir,
    plan: &Plan,
    system: &mut System,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    output::note(&format!("starting; data and logs: {}", data.root().display()));
    tokio::select! {
        started = system.start(plan) => started?,
        () = stop.cancelled() => return Ok(ended_early(args)),
    }
    let ports = system.ports(plan);
    ports.write(&data.path("ports.json"))?;
    data::write_private(&data.path("postgres.url"), ports.postgres.as_bytes())?;
    if let Some(file) = &args.ports_file {
        ports.write(file)?;
    }
    for line in how_to_ask(shared, data, plan) {
        output::note(&line);
    }
    let mut screen = Screen::new(plan, shared.json);
    let mut watch = Watch::new(plan)?;
    let went_on = live(args, system, &mut watch, &mut screen, stop).await?;
    if !went_on {
        return Ok(ended_early(args));
    }
    tokio::select! {
        exit = finish::finish(args, shared, plan, system, &mut watch, &mut screen) => exit,
        () = stop.cancelled() => Ok(ended_early(args)),
    }
}

/// A run without an end ends well by a signal; one that was to compare counts did not come to that.
fn ended_early(args: &Args) -> Exit {
    if args.run_for.is_none() {
        return Exit::Done;
    }
    output::note("interrupted before the counts could be compared");
    Exit::Negative
}

fn how_to_ask(shared: &Shared, data: &DataDir, plan: &Plan) -> Vec<String> {
    let root = data.root().display();
    let flag = if shared.data.is_some() { format!(" --data '{root}'") } else { String::new() };
    let mut lines = vec![format!("ready; the collector listens on {}", plan.ports.collector)];
    if plan.is_elsewhere {
        lines.push("  (not on 4801, which is taken)".to_owned());
    }
    lines.extend([
        "ask in another terminal:".to_owned(),
        format!("  logweir query --since 10m{flag}"),
        format!("  psql \"$(cat '{root}/postgres.url')\""),
        format!("  LOGWEIR_POSTGRES=\"$(cat '{root}/postgres.url')\" logweir query --since 10m"),
    ]);
    lines
}

/// From ready to the end of `--for`; false when it was stopped before.
async fn live(
    args: &Args,
    system: &mut System,
    watch: &mut Watch,
    screen: &mut Screen,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let start = Instant::now();
    let end = args.run_for.map(|run_for| start + run_for);
    let mut schedule = Schedule::new(args, start);
    let mut next = start;
    loop {
        let wake = [Some(next), end, schedule.next()].into_iter().flatten().min().unwrap_or(next);
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = sleep_until(wake) => {}
        }
        let now = Instant::now();
        match schedule.due(now) {
            Some(Due::Pause(pause)) => {
                system.pause_workers();
                screen.event(&format!("the workers are paused for {pause:?} (SIGSTOP)"))?;
            }
            Some(Due::Resume) => {
                system.resume_workers();
                screen.event("the workers go on (SIGCONT)")?;
            }
            None => {}
        }
        if end.is_some_and(|end| now >= end) {
            return Ok(true);
        }
        system.check()?;
        if now >= next {
            next = now + TICK;
            let sample = tokio::select! {
                sample = watch.sample() => sample,
                () = stop.cancelled() => return Ok(false),
            };
            screen.show(sample)?;
        }
    }
}

/// When the workers are paused and go on.
#[derive(Debug)]
struct Schedule {
    pause: Option<Instant>,
    resume: Option<Instant>,
    length: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Pause(Duration),
    Resume,
}

impl Schedule {
    fn new(args: &Args, start: Instant) -> Self {
        let length = args.pause_workers.unwrap_or_default();
        let pause = args.pause_workers.and(args.run_for).map(|run_for| start + (run_for - length) / 2);
        Self { pause, resume: None, length }
    }

    fn next(&self) -> Option<Instant> {
        self.pause.or(self.resume)
    }

    fn due(&mut self, now: Instant) -> Option<Due> {
        if self.pause.is_some_and(|at| now >= at) {
            self.pause = None;
            self.resume = Some(now + self.length);
            return Some(Due::Pause(self.length));
        }
        self.resume.take_if(|at| now >= *at).map(|_| Due::Resume)
    }
}

#[cfg(test)]
mod tests;
