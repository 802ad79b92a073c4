//! The four outages that everybody asks for first, by name. Each says what it shows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::client::{self, Answer, Post};
use logweir_e2e::eventually;
use logweir_e2e::lines::{self, cell, now_ms};
use logweir_e2e::postgres::Database;
use logweir_e2e::source::Source;
use logweir_e2e::stack::{AgentSpec, Stack};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// An agent on one file, and the file's writer.
fn add_tailed_file(stack: &mut Stack, collector: SocketAddr) -> Source {
    let source = Source::file(0, &stack.apps(), 1, stack.truth.clone());
    let paths = vec![source.path().display().to_string()];
    let agent =
        stack.add_agent(AgentSpec { collector: format!("http://{collector}"), paths, ..Default::default() });
    agent.process.start();
    source
}

/// So many events in one batch, recorded first.
fn numbered(stack: &Stack, producer: Uuid, seq: u64, count: u64) -> Post {
    let ms = now_ms();
    let mut body = Vec::new();
    for n in seq..seq + count {
        stack.truth.add(cell(ms, "direct", "info"), &format!("{producer}/{n}"));
        body.extend_from_slice(&lines::event(ms, "direct", "info", &format!("{n}")));
        body.push(b'\n');
    }
    Post::ndjson(body).agent("direct").batch(producer, seq)
}

/// The answer is a refusal that says when to come back, in both places, and the two agree.
fn assert_comes_back(answer: &Answer, status: u16, code: &str) -> Duration {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
    let seconds: u64 = answer.header("Retry-After").parse().unwrap_or_else(|e| panic!("{e}: {answer:?}"));
    assert!((1..=30).contains(&seconds), "{answer:?}");
    let retry =
        answer.body["retry_after_ms"].as_u64().unwrap_or_else(|| panic!("no retry_after_ms: {answer:?}"));
    assert!(retry <= seconds * 1_000, "the header is rounded up: {answer:?}");
    millis(retry)
}

/// While Redis is down or hangs, each POST is answered 503 within a second and says when to come back, the collector
/// is alive and says that it is not ready, the agent keeps its lines; when Redis is back, everything is counted
/// once, and nobody had to be restarted.
#[tokio::test(flavor = "multi_thread")]
async fn redis_unavailable() {
    let mut stack = Stack::with_services("redis-unavailable", &[], 1).await;
    let (to, admin) = (stack.collectors[0].listen, stack.collectors[0].admin);
    let mut source = add_tailed_file(&mut stack, to);
    source.write_lines(300).await;
    assert!(stack.drained(30 * SECOND).await.is_equal());
    let producer = Uuid::from_u128(1);
    let mut seq = 1;

    for hang in [false, true] {
        if hang {
            stack.redis.process.pause();
        } else {
            stack.redis.process.kill();
        }
        let outage = Instant::now();
        while outage.elapsed() < 4 * SECOND {
            source.write_lines(50).await;
            let post = numbered(&stack, producer, seq, 3);
            seq += 3;
            let asked = Instant::now();
            let answer = post.send(to).await.unwrap();
            assert!(asked.elapsed() < SECOND, "answered after {:?}", asked.elapsed());
            assert_comes_back(&answer, 503, "queue_unavailable");
            // Sent again when all is well.
            stack.retry_later(to, post);
        }
        assert_eq!(client::get(admin, "/healthz").await.unwrap().0, 200);
        let (status, why) = client::get(admin, "/readyz").await.unwrap();
        assert_eq!(status, 503);
        assert!(why.to_lowercase().contains("redis"), "{why}");
        stack.heal();
        stack.redis.queue.ready().await;
        stack.send_what_was_refused().await;
    }
    stack.assert_exact(60 * SECOND, false).await;
    stack.ready().await;
}

/// Whether some connection to Postgres waits for a lock.
async fn somebody_waits_for_a_lock(database: &Database) -> bool {
    let Ok(connection) = database.connect().await else { return false };
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    connection.client.query_one(sql, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) > 0)
}

/// A worker is killed while it certainly holds a batch: its transaction is open, and waits for a lock. Another
/// worker takes the batch over when the lease has ended, and it is counted once.
#[tokio::test(flavor = "multi_thread")]
async fn worker_crash_mid_batch() {
    let mut stack = Stack::with_services("worker-crash", &[], 1).await;
    let to = stack.collectors[0].listen;
    let database = stack.postgres.database.clone();
    let queue = stack.redis.queue.clone();
    let holder = database.connect().await.unwrap();
    holder.client.batch_execute("BEGIN; LOCK TABLE batch_ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();

    assert_eq!(numbered(&stack, Uuid::from_u128(2), 1, 100).send(to).await.unwrap().status, 202);
    eventually("the worker is in the middle of the batch", 10 * SECOND, || async {
        queue.depth().await.is_ok_and(|depth| depth.pending == 1)
            && somebody_waits_for_a_lock(&database).await
    })
    .await;
    stack.workers[0].process.kill();
    holder.client.batch_execute("ROLLBACK").await.unwrap();
    tokio::time::sleep(millis(200)).await;
    assert_eq!(database.counts().await.unwrap().len(), 0, "nothing is counted by halves");

    let takeover = Instant::now();
    stack.add_worker(&[]);
    stack.workers[1].process.start();
    let verdict = stack.drained(30 * SECOND).await;
    assert!(verdict.is_equal(), "{verdict}");
    // The lease is 2 s; the rest is a generous pause between two looks.
    assert!(takeover.elapsed() < 10 * SECOND, "taken over after {:?}", takeover.elapsed());
    stack.workers[0].process.start();
    stack.assert_exact(30 * SECOND, false).await;
}

/// Postgres dies for much longer than attempts × lease. Nothing goes to the dead letters; the queue fills up to its limit,
/// then 503 `queue_full` walks backwards to the agent, which keeps its lines; when Postgres is back, all is counted.
#[tokio::test(flavor = "multi_thread")]
async fn database_failure() {
    let flags = ["--max-queue-entries", "20", "--hold", "100ms"];
    let mut stack = Stack::start("database-failure").await;
    let to = stack.add_collector(&flags);
    stack.add_worker(&["--lease", "1s", "--max-attempts", "2"]);
    stack.add_worker(&["--lease", "1s", "--max-attempts", "2"]);
    stack.start_all();
    stack.ready().await;
    let mut source = add_tailed_file(&mut stack, to);
    source.write_lines(300).await;
    assert!(stack.drained(30 * SECOND).await.is_equal());

    stack.postgres.process.kill();
    let producer = Uuid::from_u128(3);
    let mut seq = 1;
    let full = loop {
        let post = numbered(&stack, producer, seq, 1);
        seq += 1;
        let answer = post.send(to).await.unwrap();
        if answer.status != 202 {
            stack.retry_later(to, post);
            break answer;
        }
        assert!(seq < 40, "20 batches are the limit");
    };
    assert_comes_back(&full, 503, "queue_full");
    let outage = Instant::now();
    while outage.elapsed() < 6 * SECOND {
        source.write_lines(100).await;
        let depth = stack.redis.queue.depth().await.unwrap();
        assert!(depth.queued <= 20 && depth.dead == 0, "{depth:?}");
        tokio::time::sleep(millis(100)).await;
    }
    let worker = stack.workers[0].admin;
    assert_eq!(client::get(worker, "/healthz").await.unwrap().0, 200);
    let (status, why) = client::get(worker, "/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(why.to_lowercase().contains("postgres"), "{why}");

    stack.heal();
    stack.send_what_was_refused().await;
    stack.assert_exact(60 * SECOND, false).await;
    assert_eq!(stack.redis.queue.depth().await.unwrap().dead, 0);
}

/// Above its quota an agent is answered 429 with the time until its bucket holds the batch: true to the millisecond,
/// so that coming back then works at once. The agent settles at its quota, others are not concerned, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_exceeded() {
    let flags = ["--rate", "500", "--burst", "500", "--hold", "0s"];
    let mut stack = Stack::with_services("rate-limit", &flags, 1).await;
    let to = stack.collectors[0].listen;
    let producer = Uuid::from_u128(4);

    let first = numbered(&stack, producer, 1, 500).send(to).await.unwrap();
    assert_eq!(first.status, 202, "the burst: {first:?}");
    let post = numbered(&stack, producer, 501, 300);
    let answer = post.send(to).await.unwrap();
    let wait = assert_comes_back(&answer, 429, "rate_limited");
    assert!(wait <= millis(700) && wait >= millis(100), "300 events at 500/s are 600 ms: {answer:?}");
    assert!(
        !answer.header("RateLimit").is_empty() && !answer.header("RateLimit-Policy").is_empty(),
        "{answer:?}"
    );
    tokio::time::sleep(wait).await;
    let again = post.send(to).await.unwrap();
    assert_eq!(again.status, 202, "after the time that was said: {again:?}");

    // More than the burst at once is let through on credit.
    tokio::time::sleep(SECOND).await;
    assert_eq!(numbered(&stack, producer, 801, 700).send(to).await.unwrap().status, 202);

    let mut source = add_tailed_file(&mut stack, to);
    let start = Instant::now();
    source.write_lines(3_500).await;
    let verdict = stack.drained(60 * SECOND).await;
    let took = start.elapsed();
    assert!(verdict.is_equal(), "{verdict}");
    // Beyond the burst there are 3,000 events at 500/s.
    assert!(took >= millis(5_500), "faster than its quota: {took:?}");
    assert!(took <= 15 * SECOND, "far below its quota: {took:?}");
    let limited = client::metric(stack.collectors[0].admin, "logweir_collector_rate_limited_total").await;
    assert!(limited.is_some_and(|n| n >= 2.0), "{limited:?}");
    stack.assert_exact(30 * SECOND, false).await;
}
