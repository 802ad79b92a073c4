//! What one core of a collector takes in.

use crate::args::CollectorArgs;
use crate::clock::now_ms;
use crate::http::Connection;
use crate::load::{Generator, Keys};
use crate::machine::Machine;
use crate::output::{Report, Row, note};
use crate::place::Place;
use crate::process::own_usage;
use crate::queue;
use crate::servers::Redis;
use crate::services::{self, Service};
use bytes::Bytes;
use hyper::StatusCode;
use redis::aio::MultiplexedConnection;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// The core of the collector; Redis and the load keep to the others.
pub(crate) const CORE: usize = 0;
/// Different bodies of each size; sending costs no compression.
const BODIES: u64 = 8;

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &CollectorArgs, place: &Place) -> anyhow::Result<Report> {
    let redis = Redis::start(place).await?;
    let mut machine = Machine::look(place, Some(&redis), None).await?;
    let mut queue = redis.connect().await?;
    let mut collector = services::collector(place, &redis, Some(CORE), &services::no_quota())?;
    collector.ready().await?;
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for size in &args.sizes {
        rows.push(measure(args, *size, &redis, &mut queue, &mut collector, &mut wrong).await?);
        note(&format!("batches of {size}: done"));
    }
    machine.look_again(place)?;
    Ok(Report {
        title: format!(
            "collector on one core: zstd NDJSON over {} connections, one request at a time on each",
            args.connections
        ),
        machine,
        rows,
        notes: vec![
            "from the first request until the last answer; latencies are those of the load's own clock"
                .to_owned(),
            "the collector has core 0 alone; Redis and the load (prepared bodies) share the others"
                .to_owned(),
            "CPU is in seconds: what nears `seconds` is what limits, unless it is the sync of the disk"
                .to_owned(),
        ],
        wrong,
    })
}

async fn measure(
    args: &CollectorArgs,
    size: u64,
    redis: &Redis,
    queue: &mut MultiplexedConnection,
    collector: &mut Service,
    wrong: &mut Vec<String>,
) -> anyhow::Result<Row> {
    queue::clear(queue).await?;
    let mut generator = Generator::new(Keys::Hot, now_ms());
    let bodies: Vec<Bytes> = (0..BODIES).map(|_| generator.body(size)).collect::<anyhow::Result<_>>()?;
    let bytes = bodies.first().map_or(0, Bytes::len);
    let bodies: Arc<[Bytes]> = bodies.into();
    let left = Arc::new(AtomicU64::new(args.requests));
    let before = (collector.process.usage(), redis.process.usage(), own_usage());
    let start = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..args.connections {
        connections.spawn(connection(
            collector.listen,
            Arc::clone(&bodies),
            size,
            Arc::clone(&left),
            start + args.duration,
        ));
    }
    let mut times = Vec::new();
    let mut refused = 0;
    while let Some(done) = connections.join_next().await {
        let (its_times, its_refused) = done??;
        times.extend(its_times);
        refused += its_refused;
    }
    let took = start.elapsed();
    let after = (collector.process.usage(), redis.process.usage(), own_usage());
    collector.process.check()?;
    let taken = u64::try_from(times.len())?;
    let queued = queue::depth(queue).await?;
    if queued != taken {
        wrong.push(format!("batches of {size}: {taken} were acknowledged, {queued} are in the queue"));
    }
    times.sort_unstable();
    let at = |share: usize| {
        let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    };
    Ok(Row::default()
        .with("batch", size)
        .with("bytes", bytes)
        .with("requests", taken)
        .with("refused", refused)
        .seconds("seconds", took)
        .rate("requests/s", taken, took)
        .rate("events/s", taken * size, took)
        .millis("p50_ms", at(50))
        .millis("p99_ms", at(99))
        .millis("max_ms", at(100))
        .seconds("CPU_collector", after.0 - before.0)
        .seconds("CPU_Redis", after.1 - before.1)
        .seconds("CPU_load", after.2 - before.2))
}

/// Sends until the end. Answers the time of each request that was taken, and how many were refused.
async fn connection(
    to: SocketAddr,
    bodies: Arc<[Bytes]>,
    size: u64,
    left: Arc<AtomicU64>,
    end: Instant,
) -> anyhow::Result<(Vec<Duration>, u64)> {
    let mut connection = Connection::open(to).await?;
    let producer = Uuid::new_v4();
    let mut seq = 1;
    let mut times = Vec::new();
    let mut refused = 0;
    for body in bodies.iter().cycle() {
        let one = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if one.is_err() || Instant::now() >= end {
            break;
        }
        let before = Instant::now();
        let status = connection.post("bench", &format!("{producer}/{seq}"), body.clone()).await?;
        seq += size;
        if status == StatusCode::ACCEPTED {
            times.push(before.elapsed());
        } else {
            refused += 1;
        }
    }
    Ok((times, refused))
}
