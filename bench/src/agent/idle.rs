//! An agent whose files are all quiet: what it costs that it is there.

use super::{mib, rounded, settled, write};
use crate::args::IdleArgs;
use crate::machine::Machine;
use crate::output::{Report, Row};
use crate::place::Place;
use crate::process::Thread;
use crate::services::{self, Tailing};
use crate::sink::Sink;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lines in each file.
const LINES: u64 = 10;
/// Until what is done some seconds after the last event is done too.
const REST: Duration = Duration::from_secs(8);

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &IdleArgs, place: &Place) -> anyhow::Result<Report> {
    let mut machine = Machine::look(place, None, None).await?;
    let tail = place.folder("tail")?;
    write(&tail, args.files, LINES)?;
    let sink = Sink::start().await?;
    let (state, pattern) = (place.folder("state")?, tail.join("*.log"));
    let tailing = Tailing { id: "idle", collector: sink.address, state: &state, pattern: &pattern };
    let mut agent = services::agent(place, &tailing, &args.agent_arg)?;
    agent.ready().await?;
    settled(&mut agent, args.files * LINES, Duration::from_millis(200)).await?;
    tokio::time::sleep(REST).await;

    let (threads, usage, start) = (agent.process.threads(), agent.process.usage(), Instant::now());
    tokio::time::sleep(args.duration).await;
    let took = start.elapsed();
    let ticks = agent.process.usage() - usage;
    let spent = spent(&threads, agent.process.threads());
    agent.process.check()?;
    let memory = agent.process.memory();
    machine.look_again(place)?;
    let all = spent.values().fold((Duration::ZERO, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let percent = |cpu: Duration| rounded(100.0 * cpu.as_secs_f64() / took.as_secs_f64(), 3);
    let row = |name: &str, (cpu, wakes): (Duration, u64)| {
        let wakes = rounded(wakes as f64 / took.as_secs_f64(), 2);
        Row::default().with("threads", name).with("CPU_%_of_a_core", percent(cpu)).with("wakes/s", wakes)
    };
    let mut rows: Vec<Row> = spent.iter().map(|(name, one)| row(name, *one)).collect();
    rows.push(row("all", all));
    Ok(Report {
        title: format!(
            "agent idle: {} quiet files, {:.0} s: {} % of a core, {} MiB resident",
            args.files,
            took.as_secs_f64(),
            percent(all.0),
            mib(memory.resident)
        ),
        machine,
        rows,
        notes: vec![
            format!(
                "memory: {} MiB resident ({} at most), of which {} heap and stacks, the rest of the program's file; {} \
                 with its share only of what others have in memory too",
                mib(memory.resident),
                mib(memory.peak),
                mib(memory.own),
                mib(memory.proportional)
            ),
            format!("by the system's clock of ticks, which is coarse: {} % of a core", percent(ticks)),
            "wakes: how often a thread had waited for something and went on".to_owned(),
        ],
        wrong: if sink.events() == args.files * LINES {
            Vec::new()
        } else {
            vec![format!("{} events were written, and {} came", args.files * LINES, sink.events())]
        },
    })
}

/// CPU and wakes between two looks, by the threads' names.
fn spent(before: &BTreeMap<u32, Thread>, after: BTreeMap<u32, Thread>) -> BTreeMap<String, (Duration, u64)> {
    let mut all: BTreeMap<String, (Duration, u64)> = BTreeMap::new();
    for (id, now) in after {
        let (cpu, wakes) = before.get(&id).map_or((Duration::ZERO, 0), |then| (then.cpu, then.wakes));
        let sum = all.entry(now.name).or_default();
        sum.0 += now.cpu.saturating_sub(cpu);
        sum.1 += now.wakes.saturating_sub(wakes);
    }
    all
}
