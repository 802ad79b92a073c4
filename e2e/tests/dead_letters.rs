//! Dead letters through the programs themselves: what is replayed counts at most once, and what is dropped never.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::bins::bin;
use logweir_e2e::client::Post;
use logweir_e2e::eventually;
use logweir_e2e::lines::{event, now_ms};
use logweir_e2e::postgres::Connection;
use logweir_e2e::redis::DEAD;
use logweir_e2e::stack::Stack;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: u64 = 3;

/// A collector, workers with two attempts, and a constraint that batches of the services poison… break.
struct Rig {
    stack: Stack,
    to: SocketAddr,
    sql: Connection,
}

impl Rig {
    async fn start(workers: usize) -> Self {
        let mut stack = Stack::start("dead").await;
        let to = stack.add_collector(&[]);
        for _ in 0..workers {
            stack.add_worker(&["--max-attempts", "2", "--concurrency", "2"]);
        }
        stack.start_all();
        stack.ready().await;
        let sql = stack.postgres.database.connect().await.unwrap();
        let rig = Self { stack, to, sql };
        rig.run("ALTER TABLE log_counts ADD CONSTRAINT no_poison CHECK (service NOT LIKE 'poison%')").await;
        rig
    }

    async fn run(&self, sql: &str) {
        self.sql.client.batch_execute(sql).await.unwrap();
    }

    async fn mend(&self) {
        self.run("ALTER TABLE log_counts DROP CONSTRAINT no_poison").await;
    }

    /// One number.
    async fn ask(&self, sql: &str) -> u64 {
        let row = self.sql.client.query_one(sql, &[]).await.unwrap();
        u64::try_from(row.get::<_, i64>(0)).unwrap()
    }

    async fn counted(&self, service: &str) -> u64 {
        let sql = "SELECT coalesce(sum(count), 0)::bigint FROM log_counts WHERE service";
        self.ask(&format!("{sql} = '{service}'")).await
    }

    async fn lost(&self, producer: Uuid) -> u64 {
        let sql = "SELECT coalesce(sum(events), 0)::bigint FROM losses WHERE reason = 'dropped'";
        self.ask(&format!("{sql} AND producer = '{producer}'")).await
    }

    async fn post(&self, producer: Uuid, service: &str) {
        self.post_at(now_ms(), producer, service).await;
    }

    async fn post_at(&self, at_ms: i64, producer: Uuid, service: &str) {
        let lines: Vec<Vec<u8>> =
            (0..EVENTS).map(|n| event(at_ms, service, "info", &format!("number {n}"))).collect();
        let post = Post::ndjson([lines.join(&b'\n'), b"\n".to_vec()].concat()).agent("web-1");
        post.batch(producer, 1).send_until_taken(self.to, LIMIT).await;
    }

    async fn drained(&self, dead: u64) {
        eventually("all is counted or dead", LIMIT, || async {
            let depth = self.stack.redis.queue.depth().await.unwrap();
            (depth.queued, depth.dead) == (0, dead)
        })
        .await;
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(bin("logweir"));
        command.args(words).args(["--redis", &self.stack.redis.queue.url()]);
        command.args(["--postgres", &self.stack.postgres.database.url(), "--json"]).stdin(Stdio::null());
        command
    }

    /// The exit code, the JSON on stdout, and stderr.
    fn logweir(&self, words: &[&str]) -> (i32, Value, String) {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let json = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
        (status.code().unwrap(), json, String::from_utf8(stderr).unwrap())
    }

    fn state(&self, producer: Uuid) -> (i32, Value) {
        let (code, answer, _) = self.logweir(&["batch", &format!("{producer}/1")]);
        (code, answer["state"].clone())
    }

    fn dead_ids(&self) -> Vec<String> {
        let (code, listed, stderr) = self.logweir(&["dlq", "list", "--limit", "1000"]);
        assert_eq!(code, 0, "{stderr}");
        listed.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn producer(n: usize) -> Uuid {
    Uuid::from_u128(0x1000 + u128::try_from(n).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_never_counts_and_is_noted_once() {
    let rig = Rig::start(1).await;
    let mine = producer(1);
    rig.post_at(now_ms() + 300_000, mine, "poison").await;
    rig.drained(1).await;
    assert_eq!(rig.state(mine), (0, json!("dead")));
    let file = rig.stack.dir().join("dead.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(rig.logweir(&["dlq", "export", file]).0, 0);
    let id = rig.dead_ids().remove(0);

    // Without a word of consent nothing is given up.
    let (code, _, stderr) = rig.logweir(&["dlq", "drop", "--all"]);
    assert!(code == 2 && stderr.contains("--yes"), "{code} {stderr}");
    let (code, dropped, stderr) = rig.logweir(&["dlq", "drop", &id, "1-1"]);
    assert_eq!((code, &dropped["unknown"]), (1, &json!(["1-1"])), "{stderr}");
    assert_eq!(
        dropped["dropped"],
        json!([{"id": id, "batch": format!("{mine}/1"), "events": 3, "known": 0}])
    );
    let row = rig
        .sql
        .client
        .query_one("SELECT producer, agent, reason, events, bytes, detail, bucket IS NULL FROM losses", &[]);
    let row = row.await.unwrap();
    let bytes: usize =
        (0..EVENTS).map(|n| event(now_ms(), "poison", "info", &format!("number {n}")).len()).sum();
    assert_eq!((row.get::<_, Uuid>(0), row.get::<_, &str>(1)), (mine, "web-1"));
    assert_eq!((row.get::<_, &str>(2), row.get::<_, i64>(3)), ("dropped", 3));
    assert_eq!(row.get::<_, i64>(4), i64::try_from(bytes).unwrap());
    // The row outlives its events, which are ahead of the clock.
    let ahead = format!(
        "SELECT count(*) FROM batch_ledger WHERE producer = '{mine}' AND updated_at > now() + interval '3 minutes'"
    );
    assert_eq!(rig.ask(&ahead).await, 1);
    let detail: String = row.get(5);
    assert!(detail.starts_with("numbers 1-3: ") && detail.contains("no_poison"), "{detail}");
    let (code, answer, _) = rig.logweir(&["batch", &format!("{mine}/2")]);
    assert_eq!((code, &answer["state"], &answer["agent"]), (0, &json!("dropped"), &json!("web-1")));
    assert_eq!(rig.logweir(&["dlq", "drop", &id]).0, 1, "it is gone");

    // As if the drop had died between Postgres and Redis: done again, nothing changes but that the letter goes.
    assert_eq!(rig.logweir(&["dlq", "import", file]).0, 0);
    let (code, dropped, _) = rig.logweir(&["dlq", "drop", "--all", "--yes"]);
    assert_eq!(
        (code, &dropped["dropped"][0]["events"], &dropped["dropped"][0]["known"]),
        (0, &json!(0), &json!(3))
    );
    assert_eq!(rig.ask("SELECT count(*) FROM losses").await, 1);

    // Mended, neither a late duplicate nor a replay of a copy counts.
    rig.mend().await;
    rig.post(mine, "poison").await;
    assert_eq!(rig.logweir(&["dlq", "import", file]).0, 0);
    assert_eq!(rig.logweir(&["dlq", "replay", "--all"]).0, 0);
    rig.drained(0).await;
    assert_eq!((rig.counted("poison").await, rig.lost(mine).await), (0, 3));
    assert_eq!(rig.state(mine), (0, json!("dropped")));
}

/// An entry that isn't even a batch: it leaves no numbers, and is noted once all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_bears_no_numbers_can_be_dropped_too() {
    let rig = Rig::start(1).await;
    let mut redis = rig.stack.redis.queue.connect().await.unwrap();
    let mut add = redis::cmd("XADD");
    add.arg("logweir:{0}:queue")
        .arg("*")
        .arg("v")
        .arg("1")
        .arg("agent")
        .arg("odd\0one")
        .arg("body")
        .arg("xyz");
    add.query_async::<String>(&mut redis).await.unwrap();
    rig.drained(1).await;
    let file = rig.stack.dir().join("dead.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(rig.logweir(&["dlq", "export", file, "--all"]).0, 0);
    for round in 0..2 {
        let (code, dropped, stderr) = rig.logweir(&["dlq", "drop", "--all", "--yes"]);
        assert_eq!((code, &dropped["dropped"][0]["batch"]), (0, &Value::Null), "{stderr}");
        assert_eq!(rig.ask("SELECT count(*) FROM losses").await, 1);
        if round == 0 {
            assert_eq!(rig.logweir(&["dlq", "import", file]).0, 0);
        }
    }
    let row =
        rig.sql.client.query_one("SELECT agent, detail, events IS NULL FROM losses", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(2)), ("odd\u{fffd}one", true));
    assert!(row.get::<_, &str>(1).contains("`producer` is missing"));
}

/// Whichever wins: each batch is counted, or lost and noted, whole, and never both.
#[tokio::test(flavor = "multi_thread")]
async fn drops_and_replays_race() {
    const BATCHES: usize = 24;
    let rig = Rig::start(2).await;
    for n in 0..BATCHES {
        rig.post(producer(n), &format!("poison-{n}")).await;
    }
    rig.drained(u64::try_from(BATCHES).unwrap()).await;
    let file = rig.stack.dir().join("dead.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(rig.logweir(&["dlq", "export", file]).0, 0);
    rig.mend().await;
    let ids = rig.dead_ids();
    let mut running = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let mut words = [["dlq", "drop", id], ["dlq", "replay", id]];
        if n % 2 == 0 {
            words.reverse();
        }
        for words in words {
            running.push(rig.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        }
        // The original once more, from somewhere on its way.
        rig.post(producer(n), &format!("poison-{n}")).await;
        if n % 4 == 3 {
            for mut child in running.drain(..) {
                // The one that came too late says so.
                assert!(matches!(child.wait().unwrap().code(), Some(0 | 1)));
            }
        }
    }
    // Copies of all of them, replayed by two at once.
    assert_eq!(rig.logweir(&["dlq", "import", file]).0, 0);
    let replay =
        || rig.command(&["dlq", "replay", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    for mut child in [replay().unwrap(), replay().unwrap()] {
        assert!(child.wait().unwrap().success());
    }
    rig.drained(0).await;
    for n in 0..BATCHES {
        let (counted, lost) = (rig.counted(&format!("poison-{n}")).await, rig.lost(producer(n)).await);
        assert!(matches!((counted, lost), (EVENTS, 0) | (0, EVENTS)), "{n}: {counted} counted, {lost} lost");
        let state = if lost == 0 { "counted" } else { "dropped" };
        assert_eq!(rig.state(producer(n)), (0, json!(state)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_count_once_while_workers_are_killed() {
    const BATCHES: usize = 30;
    let mut rig = Rig::start(2).await;
    for n in 0..BATCHES {
        rig.post(producer(n), "poison").await;
    }
    rig.drained(u64::try_from(BATCHES).unwrap()).await;
    let file = rig.stack.dir().join("dead.ndjson");
    let file = file.to_str().unwrap().to_owned();
    assert_eq!(rig.logweir(&["dlq", "export", &file]).0, 0);
    rig.mend().await;
    for round in 0..4usize {
        // Held up in the middle of its transaction, then killed.
        rig.run("BEGIN; LOCK TABLE log_counts IN EXCLUSIVE MODE").await;
        assert_eq!(rig.logweir(&["dlq", "replay", "--all"]).0, 0);
        assert_eq!(rig.logweir(&["dlq", "import", &file]).0, 0);
        eventually("some are held", LIMIT, || async {
            rig.stack.redis.queue.depth().await.unwrap().pending > 0
        })
        .await;
        rig.stack.workers[round % 2].process.kill();
        rig.run("COMMIT").await;
        rig.stack.start_all();
    }
    assert_eq!(rig.logweir(&["dlq", "replay", "--all"]).0, 0);
    rig.drained(0).await;
    assert_eq!(rig.counted("poison").await, EVENTS * u64::try_from(BATCHES).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_found_wherever_it_is() {
    let mut rig = Rig::start(1).await;
    let mine = producer(1);
    assert_eq!(rig.state(mine), (1, json!("unknown")));
    rig.run("BEGIN; LOCK TABLE log_counts IN EXCLUSIVE MODE").await;
    rig.post(mine, "api").await;
    eventually("it is held", LIMIT, || async { rig.stack.redis.queue.depth().await.unwrap().pending == 1 })
        .await;
    let (code, held, _) = rig.logweir(&["batch", &format!("{mine}/1")]);
    assert_eq!((code, &held["state"], &held["events"]), (0, &json!("held"), &json!(3)));
    assert_eq!((&held["agent"], &held["deliveries"]), (&json!("web-1"), &json!(1)));
    assert!(held["worker"].as_str().is_some_and(|name| !name.is_empty()), "{held}");
    let (_, within, _) = rig.logweir(&["batch", &format!("{mine}/3")]);
    assert_eq!(within["within"], json!(format!("{mine}/1")));
    assert_eq!(rig.logweir(&["batch", &format!("{mine}/4")]).0, 1);
    rig.run("COMMIT").await;
    rig.drained(0).await;
    assert_eq!(rig.state(mine), (0, json!("counted")));

    rig.stack.workers[0].process.kill();
    rig.post(producer(2), "api").await;
    assert_eq!(rig.state(producer(2)), (0, json!("queued")));
    // A duplicate of what is counted is counted.
    rig.post(mine, "api").await;
    assert_eq!(rig.state(mine), (0, json!("counted")));
    rig.stack.start_all();
    rig.drained(0).await;

    // What failed and is failing again stands with its attempts and errors.
    rig.post(producer(3), "poison").await;
    rig.drained(1).await;
    let (_, dead, _) = rig.logweir(&["batch", &format!("{}/1", producer(3))]);
    assert_eq!(
        (&dead["state"], &dead["attempts"], &dead["applied_events"]),
        (&json!("dead"), &json!(2), &json!(0))
    );
    let (_, shown, _) = rig.logweir(&["dlq", "show", dead["dead_id"].as_str().unwrap()]);
    assert_eq!(shown["log"].as_array().unwrap().len(), 2);
    assert!(shown["log"][0]["error"].as_str().unwrap().contains("no_poison"), "{shown}");
    let mut redis = rig.stack.redis.queue.connect().await.unwrap();
    assert_eq!(redis::cmd("XLEN").arg(DEAD).query_async::<u64>(&mut redis).await.unwrap(), 1);
}
