//! A private redis-server for one test, and what the tests say to it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use logweir_proto::encoding::Encoding;
use logweir_proto::{BatchId, ProducerId, Seq};
use logweir_queue::{
    Ack, Burial, DeadLimits, Enqueued, EntryId, Item, NewEntry, Queue, QueueLimits, Settings, Shards,
};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value, cmd};
use rustix::process::{Pid, Signal, kill_process};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use uuid::Uuid;

/// The deadline of the tests' queues.
pub const DEADLINE: Duration = Duration::from_millis(900);
/// How long a test waits for something that must come.
pub const SOON: Duration = Duration::from_secs(20);
pub const ROOMY: QueueLimits = QueueLimits { entries: 1_000_000, bytes: 1 << 40 };

/// One redis-server with a directory and a Unix socket of its own; it ends with the test.
pub struct Server {
    dir: TempDir,
    args: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Durable, as the default `--ack` requires.
    pub async fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    pub async fn start_with(args: &[&str]) -> Self {
        Self::launch(args, 0).await
    }

    /// One that listens on loopback too, for whoever can't use a socket file.
    pub async fn start_on_tcp(args: &[&str]) -> Self {
        Self::launch(args, free_port()).await
    }

    async fn launch(args: &[&str], port: u16) -> Self {
        let dir = TempDir::with_prefix("logweir-redis-").unwrap();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut server = Self { dir, args, port, child: None };
        server.restart().await;
        server
    }

    /// Starts it again on the same directory, and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + SOON;
        loop {
            self.spawn();
            while Instant::now() < deadline {
                if self.answers().await {
                    return;
                }
                // The port may have been taken by another: then it ends at once, and another port is as good.
                if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(Instant::now() < deadline, "redis-server does not start: {}", self.log());
            if self.port != 0 {
                self.port = free_port();
            }
        }
    }

    fn spawn(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let binary = std::env::var("LOGWEIR_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(binary)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--unixsocket", self.socket().to_str().unwrap(), "--save", "", "--dir"])
            .arg(self.dir.path())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server must be in PATH");
        self.child = Some(child);
    }

    async fn answers(&self) -> bool {
        let Ok(mut connection) = self.try_raw().await else { return false };
        let pong: Result<Value, _> = cmd("PING").query_async(&mut connection).await;
        // An error such as NOAUTH is an answer too; only while it loads it is not there yet.
        !matches!(pong, Err(error) if error.is_io_error() || error.code() == Some("LOADING"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub fn port(&self) -> u16 {
        assert_ne!(self.port, 0, "started without a port");
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    pub fn queue(&self) -> Queue {
        self.queue_with(Ack::Fsync)
    }

    pub fn queue_with(&self, ack: Ack) -> Queue {
        queue_at(&self.url(), ack)
    }

    /// One of several shards.
    pub fn sharded(&self, shards: u16) -> Queue {
        let settings = Settings::new(&self.url(), Ack::Fsync, DEADLINE);
        Queue::new(Settings { shards: Shards::new(shards).unwrap(), ..settings }).unwrap()
    }

    async fn try_raw(&self) -> redis::RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(SOON));
        Client::open(self.url())?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A connection of the test's own.
    pub async fn raw(&self) -> MultiplexedConnection {
        self.try_raw().await.unwrap()
    }

    /// One command, such as `CONFIG SET appendfsync no`.
    pub async fn say<T: redis::FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut self.raw().await).await.unwrap()
    }

    /// The sum of all names and values among the dead letters, counted one by one.
    pub async fn dead_bytes_by_hand(&self) -> u64 {
        let entries: Vec<(String, Vec<Vec<u8>>)> = self.say("XRANGE logweir:{0}:dead - +").await;
        entries.iter().flat_map(|(_, parts)| parts).map(|part| u64::try_from(part.len()).unwrap()).sum()
    }

    /// The sum of all bodies in the stream, counted one by one.
    pub async fn bytes_by_hand(&self) -> u64 {
        let entries: redis::streams::StreamRangeReply = self.say("XRANGE logweir:{0}:queue - +").await;
        let length = |value: &Value| match value {
            Value::BulkString(body) => u64::try_from(body.len()).unwrap(),
            other => panic!("{other:?}"),
        };
        entries.ids.iter().filter_map(|entry| entry.map.get("body")).map(length).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process as well.
        self.kill();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

pub fn queue_at(url: &str, ack: Ack) -> Queue {
    patient_queue_at(url, ack, DEADLINE)
}

pub fn patient_queue_at(url: &str, ack: Ack, deadline: Duration) -> Queue {
    Queue::new(Settings::new(url, ack, deadline)).unwrap()
}

/// The batch `seq` of one producer.
pub fn batch(seq: u64) -> BatchId {
    let producer = ProducerId::new(Uuid::from_u128(0x0b6e_2a52_6d0e_4b1c_9c0a_6f4d_5c1f_7a10));
    BatchId { producer, seq: Seq::new(seq).unwrap() }
}

pub fn entry(seq: u64, body: &[u8]) -> NewEntry<'_> {
    NewEntry {
        agent: "web-1",
        batch: batch(seq),
        events: 3,
        skip: &[1],
        enc: Encoding::Zstd,
        at_ms: 1_764_000_000_000,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        body,
    }
}

/// Enqueues, and returns the ID.
pub async fn add(queue: &Queue, seq: u64, body: &[u8]) -> EntryId {
    match queue.enqueue(&entry(seq, body), ROOMY, None).await.unwrap() {
        Enqueued::Added { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

/// Makes an entry a dead letter; `None` when it is gone.
pub async fn bury(queue: &Queue, id: &EntryId, worker: &str, error: &str) -> Option<EntryId> {
    match queue.dead_letter(id, worker, error, DeadLimits::NONE).await.unwrap() {
        Burial::Dead(letter) => Some(letter),
        Burial::Gone => None,
        full @ Burial::Full { .. } => panic!("{full:?}"),
    }
}

/// The numbers of the batches among some items.
pub fn seqs<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<u64> {
    let seq = |item: &Item| match item {
        Item::Batch(entry) => entry.batch.seq.get(),
        Item::Unreadable(unreadable) => panic!("{unreadable:?}"),
    };
    items.into_iter().map(seq).collect()
}

/// Stands between queue and Redis, and lets everything through only after a while.
pub struct Slow {
    pub url: String,
    _task: JoinSet<()>,
}

impl Slow {
    pub async fn before(port: u16, delay: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut pumps = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                pumps.spawn(pump(from_near, to_far, delay));
                pumps.spawn(pump(from_far, to_near, Duration::ZERO));
            }
        });
        Self { url, _task: task }
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(delay).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Tries until it succeeds, and says how it failed when it doesn't soon.
pub async fn eventually<T, E: std::fmt::Debug>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
