//! Many agents whose applications write several times of what their quota lets through.

use super::{mib, rounded};
use crate::args::QuotaArgs;
use crate::clock::now_ms;
use crate::load::{Generator, Keys};
use crate::machine::Machine;
use crate::output::{Report, Row, per};
use crate::place::Place;
use crate::servers::Redis;
use crate::services::{self, Service, Tailing};
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often each application writes.
const WRITES: u32 = 4;

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &QuotaArgs, place: &Place) -> anyhow::Result<Report> {
    let redis = Redis::start(place).await?;
    let mut machine = Machine::look(place, Some(&redis), None).await?;
    let quota = [format!("--rate={}", args.rate), "--rate-bytes=1GiB".to_owned()];
    let mut collector = services::collector(place, &redis, None, &quota)?;
    collector.ready().await?;
    let tail = place.folder("tail")?;
    let (mut agents, mut files) = (Vec::new(), Vec::new());
    for number in 0..args.agents {
        let id = format!("agent-{number}");
        let (state, pattern) = (place.folder(&format!("state-{number}"))?, tail.join(format!("{id}.log")));
        files.push(File::create(&pattern)?);
        let tailing = Tailing { id: &id, collector: collector.listen, state: &state, pattern: &pattern };
        agents.push(services::agent(place, &tailing, &args.agent_arg)?);
    }
    for agent in &mut agents {
        agent.ready().await?;
    }
    let mut writing = JoinSet::new();
    writing.spawn(write(files, args.rate * args.times / u64::from(WRITES)));
    tokio::time::sleep(args.settle).await;

    let mut rows = Vec::new();
    let mut before = look(&agents).await?;
    for _ in 0..args.rows {
        tokio::time::sleep(args.duration).await;
        let after = look(&agents).await?;
        rows.push(row(args, &before, &after));
        before = after;
    }
    if let Some(written) = writing.try_join_next() {
        written??;
    }
    collector.process.check()?;
    let mut memory: Vec<u64> = Vec::new();
    for agent in &mut agents {
        agent.process.check()?;
        memory.push(agent.process.memory().peak);
    }
    machine.look_again(place)?;
    Ok(Report {
        title: format!(
            "agent quota: {} agents, each with a quota of {} events/s and {} times of it to send",
            args.agents, args.rate, args.times
        ),
        machine,
        rows,
        notes: vec![
            "% of quota: of all agents together, and of the slowest and the fastest one".to_owned(),
            "refused: attempts that were answered 429; %: their share of all attempts".to_owned(),
            format!("the largest agent held {} MiB at most", mib(memory.into_iter().max().unwrap_or(0))),
        ],
        wrong: Vec::new(),
    })
}

/// For ever: so many lines into each file, some times a second.
async fn write(mut files: Vec<File>, lines: u64) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / WRITES);
    loop {
        tick.tick().await;
        let mut generator = Generator::new(Keys::Hot, now_ms());
        let mut text = Vec::new();
        for _ in 0..lines {
            generator.line(&mut text)?;
        }
        for file in &mut files {
            file.write_all(&text)?;
        }
    }
}

/// What an agent has done so far.
#[derive(Debug, Clone, Copy)]
struct Done {
    at: Instant,
    sent: f64,
    attempts: f64,
    refused: f64,
}

async fn look(agents: &[Service]) -> anyhow::Result<Vec<Done>> {
    let mut all = Vec::new();
    for agent in agents {
        let metrics = agent.metrics().await?;
        all.push(Done {
            at: Instant::now(),
            sent: metrics.sum("logweir_agent_events_sent_total "),
            attempts: metrics.sum("logweir_agent_answers_total{"),
            refused: metrics.sum("logweir_agent_answers_total{status=\"429\"}"),
        });
    }
    Ok(all)
}

fn row(args: &QuotaArgs, before: &[Done], after: &[Done]) -> Row {
    let pairs = || before.iter().zip(after);
    let sum = |of: fn(&Done) -> f64| pairs().map(|(before, after)| of(after) - of(before)).sum::<f64>();
    let rate = per(args.rate, 1.0);
    let shares: Vec<f64> = pairs()
        .map(|(before, after)| {
            100.0 * (after.sent - before.sent) / (after.at - before.at).as_secs_f64() / rate
        })
        .collect();
    let (least, most) =
        shares.iter().fold((f64::MAX, 0_f64), |(least, most), share| (least.min(*share), most.max(*share)));
    let mean = shares.iter().sum::<f64>() / per(args.agents, 1.0);
    let minutes = args.duration.as_secs_f64() / 60.0;
    let (attempts, refused) = (sum(|done| done.attempts), sum(|done| done.refused));
    Row::default()
        .with("%_of_quota", rounded(mean, 1))
        .with("least_%", rounded(least, 1))
        .with("most_%", rounded(most, 1))
        .with("attempts", attempts)
        .with("refused", refused)
        .with("refused_%", rounded(100.0 * refused / attempts.max(1.0), 2))
        .with("refused/min_and_agent", rounded(refused / minutes / per(args.agents, 1.0), 2))
}
