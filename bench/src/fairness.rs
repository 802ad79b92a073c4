//! What ten agents that keep to their quota notice of one that sends a hundred times its share.
//!
//! ```text
//! this ── starts a collector with quotas, and again and again:
//!           load process: 10 agents, each at half its quota                       ► their latencies
//!           the same, and a second load process: 1 agent at 100 times its quota   ► their latencies
//! ```
//!
//! Load is open: each request has its moment, and a latency is counted from then, not from when it could be sent.

use crate::args::{FairnessArgs, LoadArgs};
use crate::clock::now_ms;
use crate::http::Connection;
use crate::load::{Generator, Keys};
use crate::machine::Machine;
use crate::output::{Report, Row, note};
use crate::place::Place;
use crate::queue;
use crate::servers::Redis;
use crate::services;
use anyhow::Context as _;
use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

/// Events in a batch.
const EVENTS: u64 = 100;
/// How many agents keep to their quota.
const MODEST: u64 = 10;
/// How many times its quota the other one sends.
const GREED: u64 = 100;

/// What one load process saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    taken: u64,
    refused: u64,
    /// Of those that were taken, in microseconds.
    latencies_us: Vec<u64>,
}

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &FairnessArgs, place: &Place) -> anyhow::Result<Report> {
    let redis = Redis::start(place).await?;
    let mut machine = Machine::look(place, Some(&redis), None).await?;
    let mut queue = redis.connect().await?;
    let quota = [format!("--rate={}", args.rate), "--rate-bytes=1GiB".to_owned(), "--hold=0s".to_owned()];
    let mut collector = services::collector(place, &redis, None, &quota)?;
    collector.ready().await?;
    let batches = (args.rate / EVENTS).max(1);
    let modest = load(collector.listen, "modest", MODEST, MODEST * batches / 2, args.duration);
    let greedy = load(collector.listen, "greedy", 1, GREED * batches, args.duration);
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        for with_greedy in [false, true] {
            queue::clear(&mut queue).await?;
            let (seen, other) = if with_greedy {
                tokio::try_join!(start(&modest), start(&greedy))?
            } else {
                (start(&modest).await?, Seen::default())
            };
            collector.process.check()?;
            if seen.refused > 0 {
                wrong.push(format!("{} requests within their quota were refused", seen.refused));
            }
            rows.push(
                row(&seen.latencies_us)
                    .with("round", round)
                    .with("greedy_sent", other.taken + other.refused)
                    .with("greedy_taken", other.taken),
            );
            (if with_greedy { &mut beside } else { &mut alone }).extend(seen.latencies_us);
        }
        note(&format!("round {round} of {}: done", args.rounds));
    }
    machine.look_again(place)?;
    let (before, after) = (at(&mut alone, 99), at(&mut beside, 99));
    Ok(Report {
        title: format!(
            "fairness: {MODEST} agents at half of {} events/s, without and with one at {GREED} times of it",
            args.rate
        ),
        machine,
        rows,
        notes: vec![
            format!(
                "p99 over all rounds: {:.2} ms without it, {:.2} ms with it: {:.2} times",
                before as f64 / 1_000.0,
                after as f64 / 1_000.0,
                after as f64 / before.max(1) as f64
            ),
            "latencies are the modest agents', from the moment at which each request was due".to_owned(),
            "each kind of agent is a process of its own; they share the cores with the collector and Redis"
                .to_owned(),
        ],
        wrong,
    })
}

fn row(latencies: &[u64]) -> Row {
    let mut sorted = latencies.to_vec();
    let mut millis = |share| Duration::from_micros(at(&mut sorted, share));
    Row::default()
        .with("requests", latencies.len())
        .millis("p50_ms", millis(50))
        .millis("p99_ms", millis(99))
        .millis("max_ms", millis(100))
}

fn at(latencies: &mut [u64], share: usize) -> u64 {
    latencies.sort_unstable();
    let index = (latencies.len() * share / 100).min(latencies.len().saturating_sub(1));
    latencies.get(index).copied().unwrap_or_default()
}

/// The arguments of a load process: `rate` requests per second in all.
fn load(to: SocketAddr, name: &str, agents: u64, rate: u64, duration: Duration) -> Vec<String> {
    vec![
        "load".to_owned(),
        format!("--to={to}"),
        format!("--name={name}"),
        format!("--agents={agents}"),
        format!("--requests-per-second={rate}"),
        format!("--duration={}ms", duration.as_millis()),
    ]
}

async fn start(args: &[String]) -> anyhow::Result<Seen> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    let output =
        command.args(args).kill_on_drop(true).stderr(std::process::Stdio::inherit()).output().await?;
    anyhow::ensure!(output.status.success(), "the load ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("what the load says")
}

/// `load`: sends, and says what it saw, as JSON.
///
/// # Errors
/// When the collector doesn't answer.
pub(crate) async fn send(args: &LoadArgs) -> anyhow::Result<String> {
    let mut generator = Generator::new(Keys::Hot, now_ms());
    let body = generator.body(EVENTS)?;
    // Enough connections that a request seldom waits for one.
    let each = (args.requests_per_second / args.agents.max(1) / 20).clamp(2, 64);
    let start = Instant::now() + Duration::from_millis(100);
    let mut connections = JoinSet::new();
    for agent in 0..args.agents {
        let next = Arc::new(AtomicU64::new(0));
        for _ in 0..each {
            let name = format!("{}-{agent}", args.name);
            connections.spawn(connection(args.clone(), agent, name, start, Arc::clone(&next), body.clone()));
        }
    }
    let mut all = Seen::default();
    while let Some(seen) = connections.join_next().await {
        let seen = seen??;
        all.taken += seen.taken;
        all.refused += seen.refused;
        all.latencies_us.extend(seen.latencies_us);
    }
    Ok(serde_json::to_string(&all)?)
}

/// Takes the agent's next moment, waits for it, and sends.
async fn connection(
    args: LoadArgs,
    agent: u64,
    name: String,
    start: Instant,
    next: Arc<AtomicU64>,
    body: Bytes,
) -> anyhow::Result<Seen> {
    let mut connection = Connection::open(args.to).await?;
    let gap = Duration::from_secs(args.agents) / u32::try_from(args.requests_per_second)?;
    // The agents' moments lie between one another's.
    let first = start + gap * u32::try_from(agent)? / u32::try_from(args.agents)?;
    let (producer, mut seq) = (Uuid::new_v4(), 1);
    let mut seen = Seen::default();
    loop {
        let due = first + gap * u32::try_from(next.fetch_add(1, Ordering::Relaxed))?;
        if due >= start + args.duration {
            return Ok(seen);
        }
        sleep_until(due).await;
        let status = connection.post(&name, &format!("{producer}/{seq}"), body.clone()).await?;
        seq += EVENTS;
        if status == StatusCode::ACCEPTED {
            seen.taken += 1;
            seen.latencies_us.push(u64::try_from(due.elapsed().as_micros())?);
        } else {
            seen.refused += 1;
        }
    }
}
