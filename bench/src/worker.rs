//! How fast workers empty a queue.

use crate::args::WorkerArgs;
use crate::clock::{now_ms, until};
use crate::load::{Cells, Generator, difference};
use crate::machine::Machine;
use crate::output::{Report, Row, note, per};
use crate::place::Place;
use crate::process::Usage;
use crate::queue;
use crate::servers::{Connection, Postgres, Redis};
use crate::services::{self, Service};
use redis::aio::MultiplexedConnection;
use std::time::{Duration, Instant};

/// One case.
#[derive(Debug, Clone, Copy)]
struct Case {
    workers: u64,
    concurrency: u64,
    group: u64,
}

/// What all cases have.
struct Bench<'a> {
    place: &'a Place,
    redis: Redis,
    postgres: Postgres,
    queue: MultiplexedConnection,
    database: Connection,
    batches: u64,
    events: u64,
    bytes: u64,
    expected: Cells,
}

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &WorkerArgs, place: &Place) -> anyhow::Result<Report> {
    let (redis, postgres) = tokio::try_join!(Redis::start(place), Postgres::start(place))?;
    services::migrate(place, &postgres).await?;
    let mut machine = Machine::look(place, Some(&redis), Some(&postgres)).await?;
    let mut queue = redis.connect().await?;
    let database = postgres.connect().await?;

    let mut generator = Generator::new(args.keys, now_ms());
    let bytes = queue::keep(&mut queue, &mut generator, args.batches, args.events, args.producers).await?;
    let mut bench = Bench {
        place,
        redis,
        postgres,
        queue,
        database,
        batches: args.batches,
        events: generator.made(),
        bytes,
        expected: generator.cells(),
    };
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    // Once for nothing: partitions are made, and caches are filled.
    bench.measure(Case { workers: 1, concurrency: 1, group: 64 }, &mut wrong).await?;
    for concurrency in &args.concurrency {
        for workers in &args.workers {
            for group in &args.group {
                let case = Case { workers: *workers, concurrency: *concurrency, group: *group };
                rows.push(bench.measure(case, &mut wrong).await?);
                note(&format!("{case:?}: done"));
            }
        }
    }
    machine.look_again(place)?;
    Ok(Report {
        title: format!(
            "worker: {} batches of {} events ({:?} keys) from {} producers, {} cells, {} bytes in Redis",
            args.batches,
            args.events,
            args.keys,
            args.producers,
            bench.expected.len(),
            bytes
        ),
        machine,
        rows,
        notes: vec![
            "from the first batch that is read until the queue is empty; each row counts the same batches".to_owned(),
            "CPU is in seconds, of all workers together; Postgres' with all its processes".to_owned(),
            "per million events: row versions that were replaced, how many of them no vacuum or pruning has removed \
             yet, and WAL"
                .to_owned(),
        ],
        wrong,
    })
}

impl Bench<'_> {
    async fn measure(&mut self, case: Case, wrong: &mut Vec<String>) -> anyhow::Result<Row> {
        self.database.forget().await?;
        queue::clear(&mut self.queue).await?;
        queue::fill(&mut self.queue, self.bytes).await?;
        let wal = self.wal().await?;
        let flags = [format!("--concurrency={}", case.concurrency), format!("--group={}", case.group)];
        let mut workers = Vec::new();
        for number in 0..case.workers {
            let name = format!("worker-{number}");
            workers.push(services::worker(self.place, &self.redis, &self.postgres, &name, &flags)?);
        }
        let queue = &mut self.queue;
        let batches = self.batches;
        until("a worker reads", Duration::from_secs(30), Duration::from_millis(2), async || {
            check(&mut workers)?;
            Ok(queue::held(queue).await? > 0 || queue::depth(queue).await? < batches)
        })
        .await?;
        let start = Instant::now();
        let before = (used(&workers), self.redis.process.usage(), self.postgres.process.usage());
        until("the queue is empty", Duration::from_secs(600), Duration::from_millis(5), async || {
            check(&mut workers)?;
            Ok(queue::depth(queue).await? == 0)
        })
        .await?;
        let took = start.elapsed();
        let after = (used(&workers), self.redis.process.usage(), self.postgres.process.usage());
        let wal = self.wal().await? - wal;
        for worker in &mut workers {
            worker.process.terminate().await?;
        }
        let sessions = "SELECT count(*) FROM pg_stat_activity \
                        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        until("the workers' sessions end", Duration::from_secs(10), Duration::from_millis(5), async || {
            Ok(self.database.client.query_one(sessions, &[]).await?.get::<_, i64>(0) == 0)
        })
        .await?;
        wrong.extend(difference(&format!("{case:?}"), &self.expected, &self.database.cells().await?));
        let (replaced, dead) = self.replaced().await?;
        let million = per(self.events, 1_000_000.0);
        Ok(Row::default()
            .with("workers", case.workers)
            .with("concurrency", case.concurrency)
            .with("group", case.group)
            .seconds("seconds", took)
            .rate("batches/s", self.batches, took)
            .rate("events/s", self.events, took)
            .seconds("CPU_worker", after.0 - before.0)
            .seconds("CPU_Redis", after.1 - before.1)
            .seconds("CPU_Postgres", after.2 - before.2)
            .with("replaced/M", per(replaced, million).round())
            .with("dead/M", per(dead, million).round())
            .with("WAL_KiB/M", (per(wal, million) / 1024.0).round()))
    }

    /// Where the write-ahead log is, in bytes.
    async fn wal(&self) -> anyhow::Result<u64> {
        let query = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        Ok(u64::try_from(self.database.client.query_one(query, &[]).await?.get::<_, i64>(0))?)
    }

    /// Row versions that were replaced since the last [`Connection::forget`], and those that are still there. The
    /// workers' sessions must have ended: then their statistics are in.
    async fn replaced(&self) -> anyhow::Result<(u64, u64)> {
        let query = "SELECT coalesce(sum(n_tup_upd + n_tup_del), 0)::bigint, coalesce(sum(n_dead_tup), 0)::bigint \
                     FROM pg_stat_user_tables";
        let row = self.database.client.query_one(query, &[]).await?;
        Ok((u64::try_from(row.get::<_, i64>(0))?, u64::try_from(row.get::<_, i64>(1))?))
    }
}

fn check(workers: &mut [Service]) -> anyhow::Result<()> {
    workers.iter_mut().try_for_each(|worker| worker.process.check())
}

fn used(workers: &[Service]) -> Usage {
    let cpu = workers.iter().map(|worker| worker.process.usage().cpu).sum();
    Usage { cpu, peak_bytes: 0 }
}
