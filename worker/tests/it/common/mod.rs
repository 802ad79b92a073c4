//! What the tests share: both servers, batches, and workers in this process.

pub(crate) mod postgres;
pub(crate) mod redis;

use self::postgres::Postgres;
use self::redis::Redis;
use logweir_proto::encoding::{Encoding, encode_zstd};
use logweir_proto::{BatchId, ProducerId, Seq};
use logweir_queue::{Ack, Depth, Enqueued, EntryId, NewEntry, Queue, QueueError, QueueLimits, Settings};
use logweir_worker::Worker;
use logweir_worker::config::Args;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a test waits for something that must come.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Both servers.
pub(crate) struct Rig {
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    pub(crate) queue: Queue,
}

/// A batch to be put into the queue.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) producer: u128,
    pub(crate) seq: u64,
    pub(crate) events: u64,
    pub(crate) skip: Vec<u64>,
    pub(crate) agent: String,
    pub(crate) body: Vec<u8>,
    pub(crate) enc: Encoding,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let redis = Redis::start();
        let settings = Settings::new(&redis.url(), Ack::Memory, Duration::from_secs(2));
        let queue = Queue::new(settings).unwrap();
        let rig = Self { postgres: Postgres::start().await, queue, redis };
        eventually("Redis answers", async || rig.queue.check().await.is_ok()).await;
        rig
    }

    pub(crate) async fn put(&self, batch: &Batch) -> EntryId {
        let producer = ProducerId::new(Uuid::from_u128(batch.producer));
        let entry = NewEntry {
            agent: &batch.agent,
            batch: BatchId { producer, seq: Seq::new(batch.seq).unwrap() },
            events: batch.events,
            skip: &batch.skip,
            enc: batch.enc,
            at_ms: now_ms(),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            body: &batch.body,
        };
        let limits = QueueLimits { entries: 1 << 20, bytes: 1 << 40 };
        let deadline = Instant::now() + SOON;
        loop {
            match self.queue.enqueue(&entry, limits, None).await {
                Ok(Enqueued::Added { id, .. }) => return id,
                // Just after Redis came back: the connection is the old one's.
                Err(QueueError::Unavailable(_)) if Instant::now() < deadline => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn depth(&self) -> Depth {
        self.queue.depth().await.unwrap()
    }

    /// Waits until nothing is left in the queue.
    pub(crate) async fn drained(&self) {
        eventually("the queue is empty", async || self.queue.depth().await.is_ok_and(|d| d.entries == 0))
            .await;
    }

    pub(crate) async fn worker(&self, flags: &[&str]) -> Running {
        Running::start(&self.redis.url(), &self.postgres.url(), flags).await
    }

    /// The sum of the counts of a service, with their bytes.
    pub(crate) async fn count(&self, service: &str) -> (u64, u64) {
        let sql = format!(
            "SELECT coalesce(sum(count), 0), coalesce(sum(bytes), 0) FROM log_counts WHERE service = '{service}'"
        );
        let row = self.postgres.row(&sql).await;
        let (count, bytes) = row.split_once(' ').unwrap();
        (count.parse().unwrap(), bytes.parse().unwrap())
    }

    pub(crate) async fn applied(&self, producer: u128) -> String {
        let producer = Uuid::from_u128(producer);
        self.postgres.row(&format!("SELECT applied FROM batch_ledger WHERE producer = '{producer}'")).await
    }
}

impl Batch {
    /// Events of this minute, of level info; those at the indices in `skip` are left out.
    pub(crate) fn new(producer: u128, seq: u64, events: u64, service: &str) -> Self {
        Self::with_skip(producer, seq, events, &[], service)
    }

    pub(crate) fn with_skip(producer: u128, seq: u64, events: u64, skip: &[u64], service: &str) -> Self {
        let indices = (0..events).filter(|index| !skip.contains(index));
        let lines = indices.map(|_| line(now_ms(), service, "info") + "\n");
        Self {
            producer,
            seq,
            events,
            skip: skip.to_vec(),
            agent: "web-1".to_owned(),
            body: encode_zstd(lines.collect::<String>().as_bytes(), 3),
            enc: Encoding::Zstd,
        }
    }

    pub(crate) fn of_lines(producer: u128, seq: u64, lines: &[String]) -> Self {
        let body = lines.iter().map(|line| line.clone() + "\n").collect::<String>().into_bytes();
        let events = u64::try_from(lines.len()).unwrap();
        Self {
            producer,
            seq,
            events,
            skip: Vec::new(),
            agent: "web-1".to_owned(),
            body,
            enc: Encoding::Identity,
        }
    }
}

/// A worker in this process.
pub(crate) struct Running {
    admin: SocketAddr,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Running {
    pub(crate) async fn start(redis: &str, postgres: &str, flags: &[&str]) -> Self {
        let fixed = ["logweir-worker", "--admin=127.0.0.1:0", "--redis", redis, "--postgres", postgres];
        let argv: Vec<OsString> = fixed.iter().chain(flags).map(Into::into).collect();
        let args: Args = logweir_telemetry::config::try_parse(argv, |_| None).unwrap();
        let worker = Worker::bind(args).await.unwrap();
        let (admin, stop) = (worker.admin_addr(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(worker.work(stop.clone()));
        Self { admin, stop, task }
    }

    /// The status and the text of one of the admin address' pages.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path)
    }

    pub(crate) async fn ready(&self) {
        eventually("readiness", async || self.get("/readyz").0 == 200).await;
    }

    /// The value of one series, 0 when there is none.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").1;
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Stops and waits for the end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap();
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().unwrap_or_default();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

/// Asks until it is so.
pub(crate) async fn eventually(what: &str, ask: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !ask().await {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub(crate) fn line(at_ms: i64, service: &str, level: &str) -> String {
    format!(r#"{{"timestamp":{at_ms},"service":"{service}","level":"{level}","message":"m"}}"#)
}
