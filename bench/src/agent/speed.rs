//! An agent with a backlog in many files, and a collector that takes everything at once.
//!
//! Rows come in pairs: the state directory on the disk, and in memory, where a sync costs nothing. So a pair shows what
//! the journal's syncs cost at full speed, and the agent's own clock of them says the same.

use super::{mib, rounded, settled, write};
use crate::args::SpeedArgs;
use crate::machine::Machine;
use crate::output::{Report, Row, note, per};
use crate::place::Place;
use crate::reaper;
use crate::services::{self, Tailing};
use crate::sink::Sink;
use anyhow::Context as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &SpeedArgs, place: &Place) -> anyhow::Result<Report> {
    let load = place.folder("load")?;
    let bytes = write(&load, args.files, args.lines)?;
    let mut machine = Machine::look(place, None, None).await?;
    let within = std::path::absolute(&args.memory_dir)?;
    let memory = tempfile::Builder::new().prefix("logweir-bench-").tempdir_in(&within);
    let memory: TempDir = memory.with_context(|| format!("--memory-dir {}", within.display()))?;
    reaper::say(&format!("dir {}", memory.path().display()))?;
    let mut rows = Vec::new();
    for round in 1..=args.rounds {
        // Whichever is first has the caches of the one before.
        let mut kinds = [("disk", place.path()), ("memory", memory.path())];
        if round % 2 == 0 {
            kinds.reverse();
        }
        for (kind, within) in kinds {
            let state = tempfile::tempdir_in(within)?;
            let row = Row::default().with("round", round).with("state", kind);
            rows.push(measure(args, place, &load, bytes, state.path(), row).await?);
        }
        note(&format!("round {round} of {}: done", args.rounds));
    }
    machine.look_again(place)?;
    Ok(Report {
        title: format!(
            "agent speed: {} files, {} lines, {} MiB",
            args.files,
            args.files * args.lines,
            mib(bytes)
        ),
        machine,
        rows,
        notes: vec![
            "from the appearance of the files until all is acknowledged; their collector is this program, on the same cores"
                .to_owned(),
            "CPU us: the agent's CPU for each event, in microseconds; so it is seconds for each million".to_owned(),
            "syncs %: the share of the time that the agent waited for its journal's fsyncs".to_owned(),
        ],
        wrong: Vec::new(),
    })
}

async fn measure(
    args: &SpeedArgs,
    place: &Place,
    load: &Path,
    bytes: u64,
    state: &Path,
    row: Row,
) -> anyhow::Result<Row> {
    let events = args.files * args.lines;
    let tail = place.folder("tail")?;
    let sink = Sink::start().await?;
    let tailing =
        Tailing { id: "speed", collector: sink.address, state, pattern: &tail.join("*").join("*.log") };
    let mut agent = services::agent(place, &tailing, &args.agent_arg)?;
    agent.ready().await?;
    // Moved in when everything is ready, so that no start is measured.
    let (here, start, before) = (tail.join("load"), Instant::now(), agent.process.usage());
    std::fs::rename(load, &here)?;
    settled(&mut agent, events, Duration::from_millis(25)).await?;
    let took = start.elapsed();
    let cpu = agent.process.usage() - before;
    let (memory, metrics) = (agent.process.memory(), agent.metrics().await?);
    agent.process.terminate().await?;
    std::fs::rename(&here, load)?;
    anyhow::ensure!(sink.events() == events, "{events} events were written, and {} came", sink.events());
    let syncs = metrics.sum("logweir_agent_journal_sync_seconds_total ");
    Ok(row
        .seconds("seconds", took)
        .rate("events/s", events, took)
        .with("MiB/s", rounded(per(bytes, took.as_secs_f64()) / 1_048_576.0, 1))
        .seconds("CPU_s", cpu)
        .with("CPU_us", rounded(cpu.as_secs_f64() * 1e6 / per(events, 1.0), 3))
        .with("batches", sink.batches())
        .with("syncs", metrics.sum("logweir_agent_journal_syncs_total "))
        .with("syncs_%", rounded(100.0 * syncs / took.as_secs_f64(), 2))
        .with("peak_MiB", mib(memory.peak)))
}
