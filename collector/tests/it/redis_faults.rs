//! What may happen to Redis, to the collector as it is installed: each fault is answered in time, named in `/readyz`, and
//! over as soon as Redis is well again, without a restart.

use crate::common::http::{Answer, Client, get};
use crate::common::process::Process;
use crate::common::redis::{Redis, Value};
use crate::common::{BATCH, NDJSON, event, wait_for};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a call to Redis may take, which is the default: so an answer comes within a second.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_millis(800);
/// What a busy machine may add to that.
pub(crate) const SLACK: Duration = Duration::from_millis(1_200);

/// The collector, and what it has acknowledged.
struct Poster {
    process: Process,
    next: u64,
    acknowledged: Vec<u64>,
}

impl Poster {
    fn start(url: &str) -> Self {
        let timeout = format!("--redis-timeout={}ms", REDIS_TIMEOUT.as_millis());
        Self { process: Process::start_unready(url, &[&timeout]), next: 1, acknowledged: Vec::new() }
    }

    async fn post(&mut self) -> Answer {
        let seq = self.next;
        self.next += 1;
        let mut client = Client::connect(self.process.public).await;
        let batch = format!("{BATCH}/{seq}");
        let answer = client.post(&[NDJSON, ("Logweir-Batch", &batch)], event("a").as_bytes()).await;
        if answer.status == 202 {
            self.acknowledged.push(seq);
        }
        answer
    }

    /// Each in time, whether the fault is known already or met just now.
    async fn refuses(&mut self) {
        for _ in 0..4 {
            let begun = Instant::now();
            self.post().await.problem(503, "queue_unavailable");
            let took = begun.elapsed();
            assert!(took < REDIS_TIMEOUT + SLACK, "{took:?}");
        }
    }

    async fn says(&self, parts: &[&str]) {
        let admin = self.process.admin;
        let said = wait_for("the reason", async || {
            let answer = get(admin, "/readyz").await;
            let text = answer.text();
            (answer.status == 503 && parts.iter().all(|part| text.contains(part))).then_some(text)
        });
        assert!(said.await.contains("\"redis\""));
    }

    async fn is_ready(&self) {
        let admin = self.process.admin;
        wait_for("readiness", async || (get(admin, "/readyz").await.status == 200).then_some(())).await;
    }

    /// By itself, without a request that would try; and then it takes batches, the first of them already.
    async fn is_well(&mut self) {
        self.is_ready().await;
        self.post().await.accepted();
    }

    /// What was acknowledged is there. What was refused may be there too, and is counted once all the same.
    fn has_lost_nothing(&self, redis: &Redis) {
        let there: Vec<u64> = redis
            .entries()
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry["seq"]).parse().unwrap())
            .collect();
        assert!(self.acknowledged.len() >= 2);
        for seq in &self.acknowledged {
            assert!(there.contains(seq), "{seq} of {there:?}");
        }
    }
}

fn is_ok(answer: Value) {
    assert_eq!(answer, Value::Text(b"OK".to_vec()));
}

/// A fault that one command makes, and another ends.
async fn command_fault(redis: &Redis, url: &str, make: &[&[&str]], says: &[&str], mend: &[&[&str]]) {
    let mut poster = Poster::start(url);
    poster.is_well().await;
    for words in make {
        redis.command(words);
    }
    poster.refuses().await;
    poster.says(says).await;
    // One that is started now says the same, without a request.
    let mut other = Poster::start(url);
    other.says(says).await;
    other.refuses().await;
    for words in mend {
        redis.command(words);
    }
    poster.is_well().await;
    other.is_well().await;
    poster.has_lost_nothing(redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn away() {
    let mut redis = Redis::start();
    let mut poster = Poster::start(&redis.url());
    poster.is_well().await;
    redis.kill();
    poster.refuses().await;
    poster.says(&["Connection refused", &redis.port().to_string()]).await;
    redis.restart();
    poster.is_well().await;
    poster.has_lost_nothing(&redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen() {
    let redis = Redis::start();
    let mut poster = Poster::start(&redis.url());
    poster.is_well().await;
    redis.pause();
    poster.refuses().await;
    poster.says(&["did not answer within 800ms"]).await;
    redis.resume();
    poster.is_well().await;
    poster.has_lost_nothing(&redis);
}

/// Restarted while batches come: some may be refused, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn restarted() {
    let mut redis = Redis::start();
    let mut poster = Poster::start(&redis.url());
    poster.is_well().await;
    for _ in 0..3 {
        redis.kill();
        poster.post().await.problem(503, "queue_unavailable");
        redis.restart();
        wait_for("a 202", async || {
            let answer = poster.post().await;
            if answer.status != 202 {
                answer.problem(503, "queue_unavailable");
            }
            (answer.status == 202).then_some(())
        })
        .await;
        poster.is_well().await;
    }
    poster.has_lost_nothing(&redis);
}

/// Nothing to be refused: what is gone was Redis', and the next batch makes what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn flushed() {
    let redis = Redis::start();
    let mut poster = Poster::start(&redis.url());
    poster.is_well().await;
    is_ok(redis.command(&["FLUSHALL"]));
    is_ok(redis.command(&["SCRIPT", "FLUSH"]));
    poster.acknowledged.clear();
    poster.post().await.accepted();
    poster.post().await.accepted();
    poster.is_ready().await;
    poster.has_lost_nothing(&redis);
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory() {
    let redis = Redis::start();
    let set = |value| ["CONFIG", "SET", "maxmemory", value];
    command_fault(&redis, &redis.url(), &[&set("1")], &["OOM"], &[&set("0")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_replica() {
    let redis = Redis::start();
    let says = ["role is `slave`", "give the master's URL"];
    let make = ["REPLICAOF", "127.0.0.1", "1"];
    command_fault(&redis, &redis.url(), &[&make], &says, &[&["REPLICAOF", "NO", "ONE"]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password() {
    let redis = Redis::start();
    redis.command(&["ACL", "SETUSER", "weir", "on", ">right", "~*", "+@all"]);
    let url = redis.url().replace("redis://", "redis://weir:right@");
    let make: [&[&str]; 2] =
        [&["ACL", "SETUSER", "weir", "resetpass", ">other"], &["CLIENT", "KILL", "TYPE", "normal"]];
    command_fault(&redis, &url, &make, &["assword"], &[&["ACL", "SETUSER", "weir", ">right"]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn can_not_save() {
    let redis = Redis::start();
    // Where the snapshot should be, there is a folder.
    let file = redis.dir().join("dump.rdb");
    std::fs::create_dir(&file).unwrap();
    is_ok(redis.command(&["CONFIG", "SET", "save", "3600 1"]));
    let mut poster = Poster::start(&redis.url());
    poster.is_well().await;
    save(&redis, "err").await;
    poster.refuses().await;
    poster.says(&["MISCONF"]).await;
    std::fs::remove_dir(&file).unwrap();
    save(&redis, "ok").await;
    poster.is_well().await;
    poster.has_lost_nothing(&redis);
}

/// Takes a snapshot, which ends in this way.
async fn save(redis: &Redis, how: &str) {
    redis.command(&["BGSAVE"]);
    wait_for(how, async || {
        let Value::Text(info) = redis.command(&["INFO", "persistence"]) else { panic!("no text") };
        let info = String::from_utf8_lossy(&info).into_owned();
        let ended = info.contains("rdb_bgsave_in_progress:0");
        (ended && info.contains(&format!("rdb_last_bgsave_status:{how}"))).then_some(())
    })
    .await;
}

/// Stands between collector and Redis, and holds back what passes.
struct Slow {
    url: String,
    delay: watch::Sender<Duration>,
    _task: JoinSet<()>,
}

impl Slow {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (delay, delays) = watch::channel(Duration::ZERO);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut pumps = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                pumps.spawn(pump(from_near, to_far, delays.clone()));
                pumps.spawn(pump(from_far, to_near, delays.clone()));
            }
        });
        Self { url, delay, _task: task }
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: watch::Receiver<Duration>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let delay = *delay.borrow();
        tokio::time::sleep(delay).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Written by hand, an ID that none can follow. All else answers as ever, so that only the log can say it.
#[tokio::test(flavor = "multi_thread")]
async fn no_id_left() {
    let redis = Redis::start();
    let mut poster = Poster::start(&redis.url());
    poster.is_well().await;
    let last = "18446744073709551615-18446744073709551615";
    redis.command(&["XADD", "logweir:{0}:queue", last, "body", "x"]);
    poster.refuses().await;
    let told = || poster.process.log().matches("last possible ID").count();
    wait_for("the reason", async || (told() > 0).then_some(())).await;
    redis.command(&["DEL", "logweir:{0}:queue"]);
    assert_eq!(told(), 1);
    poster.is_well().await;
}

/// Each way takes two seconds, so that whoever waited for Redis' answer would take four.
#[tokio::test(flavor = "multi_thread")]
async fn slow() {
    let redis = Redis::start();
    let proxy = Slow::before(redis.port()).await;
    let mut poster = Poster::start(&proxy.url);
    poster.is_well().await;
    proxy.delay.send_replace(REDIS_TIMEOUT + SLACK);
    poster.refuses().await;
    poster.says(&["did not answer within 800ms"]).await;
    poster.refuses().await;
    proxy.delay.send_replace(Duration::ZERO);
    poster.is_well().await;
    poster.has_lost_nothing(&redis);
}
