//! The same schedules on a real Redis and a real Postgres, through the queue's own calls and `Store::apply`.

#[path = "../../../tests/it/common/postgres.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "shared with other tests, which need more of it")]
mod postgres;
#[path = "../../../tests/it/common/redis.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "shared with other tests, which need more of it")]
mod redis;

use super::*;
use crate::failure::Failure;
use crate::migrate::migrate;
use crate::postgres::Database;
use crate::transaction::{Committed, Store};
use logweir_queue::{
    Ack, Burial, DeadLimits, Done, Enqueued, Item, NewEntry, Queue, QueueLimits, Reader, Replay, Settings,
    Shard,
};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use uuid::Uuid;

/// How many schedules run by default.
const RUNS: u64 = 400;
const ROOMY: QueueLimits = QueueLimits { entries: 1_000, bytes: 1 << 30 };

/// What is cut shall often be cut in its commit, which is too short otherwise.
const SLOW_COMMITS: &str = "
    CREATE TABLE slowness (seconds double precision);
    INSERT INTO slowness VALUES (0);
    CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_sleep(seconds) FROM slowness WHERE seconds > 0; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON batch_ledger DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION be_slow()";

struct Servers {
    redis: redis::Redis,
    _postgres: postgres::Postgres,
    queue: Queue,
    readers: Vec<Reader>,
    databases: Vec<Database>,
    stores: Vec<Store>,
    /// Asks, and breaks the others' connections.
    client: Client,
    source: Source,
}

/// The name that a worker's connections to Postgres bear.
fn name(worker: usize) -> String {
    format!("worker-{worker}")
}

fn verdicts(outcome: Result<Committed, Failure>) -> Verdicts {
    outcome.map(|committed| committed.verdicts).map_err(|failure| format!("{failure:?}"))
}

fn entry_of(item: Item) -> Entry {
    match item {
        Item::Batch(entry) => entry,
        Item::Unreadable(unreadable) => panic!("{unreadable:?}"),
    }
}

impl Servers {
    async fn start() -> Self {
        let (redis, postgres) = (redis::Redis::start(), postgres::Postgres::start().await);
        let queue = Queue::new(Settings::new(&redis.url(), Ack::Memory, Duration::from_secs(5))).unwrap();
        while queue.check().await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        // Nothing dies here but connections.
        redis.cli(&["CONFIG", "SET", "appendfsync", "no"]);
        let database = |worker| {
            let url = format!("{}?application_name={}", postgres.url(), name(worker));
            Database::new(&url.parse().unwrap(), &Default::default(), Duration::from_secs(10)).unwrap()
        };
        migrate(&database(0)).await.unwrap();
        postgres.run(SLOW_COMMITS).await;
        Self {
            readers: (0..WORKERS).map(|worker| queue.reader(&name(worker))).collect(),
            databases: (0..WORKERS).map(database).collect(),
            stores: (0..WORKERS).map(|worker| Store::new(database(worker))).collect(),
            client: postgres.connect().await,
            source: Source { producers: [ProducerId::new(Uuid::new_v4()); 2], prefix: String::new() },
            redis,
            _postgres: postgres,
            queue,
        }
    }

    /// Each schedule has its own producers and services.
    fn source(&mut self, seed: u64) -> Source {
        let producer = |n| ProducerId::new(Uuid::from_u64_pair(seed, n));
        self.source = Source { producers: [producer(1), producer(2)], prefix: format!("s{seed}-") };
        self.source.clone()
    }

    async fn apply(&mut self, worker: usize, group: &[&Batch], cut: Option<Duration>) -> Verdicts {
        let applying = self.stores[worker].apply(group, OLDEST);
        let Some(cut) = cut else { return verdicts(applying.await) };
        self.client.execute("UPDATE slowness SET seconds = 0.005", &[]).await.unwrap();
        let outcome = if cut.as_micros().is_multiple_of(4) {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
            let breaking = async {
                sleep(cut).await;
                self.client.execute(sql, &[&name(worker)]).await.unwrap();
            };
            let outcome = tokio::join!(applying, breaking).0;
            // It may have committed before it was cut. Then its next transaction must not be the one that finds out.
            self.stores[worker] = Store::new(self.databases[worker].clone());
            verdicts(outcome)
        } else {
            // Postgres goes on with what it was asked last, be it the commit.
            let applied = timeout(cut, applying).await;
            applied.map_or_else(|_| Err("given up".to_owned()), verdicts)
        };
        self.client.execute("UPDATE slowness SET seconds = 0", &[]).await.unwrap();
        outcome
    }

    async fn is_connected(&self, worker: usize) -> bool {
        let sql = "SELECT FROM pg_stat_activity WHERE application_name = $1";
        !self.client.query(sql, &[&name(worker)]).await.unwrap().is_empty()
    }

    fn producers(&self) -> Vec<Uuid> {
        self.source.producers.map(ProducerId::uuid).to_vec()
    }
}

impl World for Servers {
    async fn enqueue(&mut self, entry: &Entry) {
        let new = NewEntry {
            agent: &entry.agent,
            batch: entry.batch,
            events: entry.events,
            skip: &entry.skip,
            enc: entry.enc,
            at_ms: entry.at_ms,
            traceparent: None,
            body: &entry.body,
        };
        let added = self.queue.enqueue(&new, ROOMY, None).await.unwrap();
        assert!(matches!(added, Enqueued::Added { .. }), "{added:?}");
    }

    async fn read(&mut self, worker: usize, count: usize) -> Vec<Entry> {
        let items = self.readers[worker].read(count, Duration::ZERO).await.unwrap();
        items.into_iter().map(entry_of).collect()
    }

    /// A lease that expires at once.
    async fn reclaim(&mut self, worker: usize, count: usize) -> Vec<Entry> {
        let claimed = self.readers[worker].reclaim(Duration::ZERO, count).await.unwrap();
        claimed.into_iter().map(|(item, _)| entry_of(item)).collect()
    }

    async fn renew(&mut self, worker: usize, ids: &[EntryId]) {
        self.readers[worker].renew(ids).await.unwrap();
    }

    async fn wait(&mut self, _time: Duration) {}

    async fn commit(&mut self, worker: usize, group: &[&Batch], cut: Option<Duration>) -> Verdicts {
        let verdicts = self.apply(worker, group, cut).await;
        // What was given up may still be committing.
        while verdicts.is_err() && self.is_connected(worker).await {
            sleep(Duration::from_millis(1)).await;
        }
        verdicts
    }

    async fn commit_both(&mut self, workers: [usize; 2], [one, two]: [&[&Batch]; 2]) -> [Verdicts; 2] {
        let [mine, yours] = self.stores.get_disjoint_mut(workers).unwrap();
        let both = tokio::join!(mine.apply(one, OLDEST), yours.apply(two, OLDEST));
        [verdicts(both.0), verdicts(both.1)]
    }

    async fn is_applied(&mut self, producer: ProducerId, number: u64) -> bool {
        let sql = "SELECT applied @> $2::bigint FROM batch_ledger WHERE producer = $1";
        let number = i64::try_from(number).unwrap();
        let row = self.client.query_opt(sql, &[&producer.uuid(), &number]).await.unwrap();
        row.is_some_and(|row| row.get(0))
    }

    async fn acknowledge(&mut self, entries: &[Entry]) {
        let done: Vec<Done> = entries.iter().cloned().map(|entry| Item::Batch(entry).done()).collect();
        self.queue.acknowledge(&done).await.unwrap();
    }

    async fn bury(&mut self, worker: usize, id: &EntryId) -> Option<EntryId> {
        match self.queue.dead_letter(id, &name(worker), "given up", DeadLimits::NONE).await.unwrap() {
            Burial::Dead(letter) => Some(letter),
            Burial::Gone => None,
            full @ Burial::Full { .. } => panic!("{full:?}"),
        }
    }

    async fn replay(&mut self, letter: &EntryId) -> bool {
        matches!(self.queue.replay(letter).await.unwrap(), Replay::Queued(_))
    }

    async fn delete_letter(&mut self, letter: &EntryId) -> bool {
        self.queue.remove_dead_letter(letter).await.unwrap()
    }

    async fn lose_group(&mut self) {
        if self.queue.depth().await.unwrap().entries > 0 {
            self.redis.cli(&["XGROUP", "DESTROY", &Shard::default().queue(), "workers"]);
        }
    }

    async fn depth(&mut self) -> (u64, u64) {
        let depth = self.queue.depth().await.unwrap();
        if depth.entries == 0 {
            assert_eq!((depth.bytes, depth.pending), (0, 0));
        }
        (depth.entries, depth.dead)
    }

    async fn totals(&mut self) -> Totals {
        let mut totals = Totals::default();
        let sql = "SELECT extract(epoch FROM bucket)::bigint, service, level, count, bytes FROM log_counts
                   WHERE starts_with(service, $1)";
        for row in self.client.query(sql, &[&self.source.prefix]).await.unwrap() {
            let (second, service, level): (i64, &str, &str) = (row.get(0), row.get(1), row.get(2));
            let level = Level::ALL.into_iter().find(|known| known.as_str() == level).unwrap();
            let key = Key { minute_ms: second * 1_000, service: service.into(), level };
            let of = |column| u64::try_from(row.get::<_, i64>(column)).unwrap();
            totals.counts.insert(key, Sum { events: of(3), bytes: of(4) });
        }
        let sql = "SELECT producer, applied::text FROM batch_ledger WHERE producer = ANY ($1) AND NOT isempty(applied)";
        for row in self.client.query(sql, &[&self.producers()]).await.unwrap() {
            totals.applied.insert(ProducerId::new(row.get(0)), row.get(1));
        }
        let sql = "SELECT coalesce(sum(events), 0)::bigint FROM losses WHERE producer = ANY ($1)";
        let row = self.client.query_one(sql, &[&self.producers()]).await.unwrap();
        totals.lost = u64::try_from(row.get::<_, i64>(0)).unwrap();
        totals
    }
}

#[tokio::test]
async fn any_order_of_anything_counts_once_on_real_servers() {
    let mut servers = Servers::start().await;
    let begun = Instant::now();
    let (mut steps, (seeds, runs)) = (0, seeds(RUNS));
    for seed in seeds {
        let source = servers.source(seed);
        let mut decoder = Decoder::default();
        let mut run = Run::new(&mut servers, source, &mut decoder, seed, true);
        if let Err(why) = run.run().await {
            panic!("LOGWEIR_MODEL_SEED={seed}\n  {}\n{why}", run.log.unwrap_or_default().join("\n  "));
        }
        steps += run.steps;
    }
    println!("{runs} schedules on Redis and Postgres, {steps} steps, {:.1?}", begun.elapsed());
}
