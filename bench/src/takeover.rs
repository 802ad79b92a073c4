//! How long after a worker's sudden death its batches are counted by another.

use crate::args::TakeoverArgs;
use crate::clock::{now_ms, until};
use crate::load::{Generator, Keys, difference};
use crate::machine::Machine;
use crate::output::{Report, Row, note};
use crate::place::Place;
use crate::queue;
use crate::servers::{Postgres, Redis};
use crate::services;
use std::time::{Duration, Instant};

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &TakeoverArgs, place: &Place) -> anyhow::Result<Report> {
    let (redis, postgres) = tokio::try_join!(Redis::start(place), Postgres::start(place))?;
    services::migrate(place, &postgres).await?;
    let mut machine = Machine::look(place, Some(&redis), Some(&postgres)).await?;
    let mut times = Vec::new();
    let mut wrong = Vec::new();
    for run in 0..args.runs {
        times.push(once(args, place, &redis, &postgres, &mut wrong).await?);
        note(&format!("run {} of {}: done", run + 1, args.runs));
    }
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    let row = Row::default()
        .with("lease", humantime::format_duration(args.lease).to_string())
        .with("runs", args.runs)
        .seconds("least_s", at(0))
        .seconds("median_s", at(times.len() / 2))
        .seconds("most_s", at(times.len().saturating_sub(1)));
    machine.look_again(place)?;
    Ok(Report {
        title: format!("takeover: a worker that holds {} batches is killed beside another", args.batches),
        machine,
        rows: vec![row],
        notes: vec!["from SIGKILL until all of its events are counted in Postgres".to_owned()],
        wrong,
    })
}

async fn once(
    args: &TakeoverArgs,
    place: &Place,
    redis: &Redis,
    postgres: &Postgres,
    wrong: &mut Vec<String>,
) -> anyhow::Result<Duration> {
    let mut queue = redis.connect().await?;
    let database = postgres.connect().await?;
    let gate = postgres.connect().await?;
    database.forget().await?;
    queue::clear(&mut queue).await?;
    let lease = format!("--lease={}", humantime::format_duration(args.lease)).replace(' ', "");
    let flags = [lease, "--concurrency=1".to_owned()];
    let mut doomed = services::worker(place, redis, postgres, "doomed", &flags)?;
    doomed.ready().await?;

    // It reads all, and gets stuck before this lock: so it holds them when it dies.
    gate.client.batch_execute("BEGIN; LOCK TABLE batch_ledger IN ACCESS EXCLUSIVE MODE").await?;
    let mut generator = Generator::new(Keys::Hot, now_ms());
    let bytes = queue::keep(&mut queue, &mut generator, args.batches, args.events, 1).await?;
    queue::fill(&mut queue, bytes).await?;
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("a worker holds all", Duration::from_secs(30), Duration::from_millis(5), async || {
        doomed.process.check()?;
        let waits = database.client.query_one(stuck, &[]).await?.get::<_, i64>(0) > 0;
        Ok(waits && queue::held(&mut queue).await? == args.batches)
    })
    .await?;
    let mut heir = services::worker(place, redis, postgres, "heir", &flags)?;
    heir.ready().await?;

    let start = Instant::now();
    doomed.process.kill();
    // Its session hasn't noticed, and must not finish what it began.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    database.client.query(end, &[]).await?;
    gate.client.batch_execute("ROLLBACK").await?;
    let limit = args.lease * 4 + Duration::from_secs(30);
    until("another counts them", limit, Duration::from_millis(5), async || {
        heir.process.check()?;
        Ok(database.counted().await? >= generator.made())
    })
    .await?;
    let took = start.elapsed();
    until("the queue is empty", limit, Duration::from_millis(5), async || {
        Ok(queue::depth(&mut queue).await? == 0)
    })
    .await?;
    heir.process.terminate().await?;
    wrong.extend(difference("takeover", &generator.cells(), &database.cells().await?));
    Ok(took)
}
