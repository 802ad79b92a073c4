//! The whole path: a file through agent, collector, Redis and workers into Postgres.

use crate::args::PathArgs;
use crate::clock::{now_ms, until};
use crate::load::{Generator, difference};
use crate::machine::Machine;
use crate::output::{Report, Row};
use crate::place::Place;
use crate::process::Process;
use crate::servers::{Postgres, Redis};
use crate::services;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &PathArgs, place: &Place) -> anyhow::Result<Report> {
    let file = place.path().join("load.log");
    let mut generator = Generator::new(args.keys, now_ms());
    let bytes = write(&file, &mut generator, args.lines)?;
    let tail = place.folder("tail")?;

    let (redis, postgres) = tokio::try_join!(Redis::start(place), Postgres::start(place))?;
    services::migrate(place, &postgres).await?;
    let mut machine = Machine::look(place, Some(&redis), Some(&postgres)).await?;
    let database = postgres.connect().await?;
    let mut collector = services::collector(place, &redis, None, &services::no_quota())?;
    let mut all = Vec::new();
    for number in 0..args.workers {
        let name = format!("worker {number}");
        all.push((services::worker(place, &redis, &postgres, &name, &[])?, name));
    }
    let (state, pattern) = (place.folder("agent-state")?, tail.join("*.log"));
    let tailing =
        services::Tailing { id: "agent", collector: collector.listen, state: &state, pattern: &pattern };
    let mut agent = services::agent(place, &tailing, &args.agent_arg)?;
    collector.ready().await?;
    for (worker, _) in &mut all {
        worker.ready().await?;
    }
    agent.ready().await?;
    all.push((collector, "collector".to_owned()));
    all.push((agent, "agent".to_owned()));

    // The file appears when everything is ready, so that no start is measured.
    let start = Instant::now();
    std::fs::rename(&file, tail.join("load.log"))?;
    until("everything is counted", Duration::from_secs(3600), Duration::from_millis(50), async || {
        for (service, _) in &mut all {
            service.process.check()?;
        }
        Ok(database.counted().await? >= args.lines)
    })
    .await?;
    let took = start.elapsed();

    let services = all.iter().rev().map(|(service, name)| (name.as_str(), &service.process));
    let servers = [("Redis", &redis.process), ("Postgres", &postgres.process)];
    let rows = services.chain(servers).map(|(name, process)| row(name, process)).collect();
    let cells = database.cells().await?;
    let rate = Row::default().rate("events/s", args.lines, took);
    machine.look_again(place)?;
    Ok(Report {
        title: format!(
            "path: {} lines ({bytes} bytes, {:?} keys) counted in {:.2} s: {} events/s",
            args.lines,
            args.keys,
            took.as_secs_f64(),
            rate.shown("events/s")
        ),
        machine,
        rows,
        notes: vec![
            "from the appearance of the file until everything is counted, journal and fsyncs included".to_owned(),
            "CPU since each process' start; Postgres' CPU is that of all its processes, its memory that of the largest"
                .to_owned(),
        ],
        wrong: difference("path", &generator.cells(), &cells).into_iter().collect(),
    })
}

fn row(name: &str, process: &Process) -> Row {
    let usage = process.usage();
    Row::default().with("process", name).seconds("CPU_s", usage.cpu).with("peak_MiB", usage.peak_bytes >> 20)
}

/// Answers how many bytes it has.
fn write(path: &Path, generator: &mut Generator, lines: u64) -> anyhow::Result<u64> {
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut line = Vec::new();
    let mut bytes = 0;
    for _ in 0..lines {
        line.clear();
        generator.line(&mut line)?;
        file.write_all(&line)?;
        bytes += u64::try_from(line.len())?;
    }
    file.flush()?;
    Ok(bytes)
}
