//! Redis away, slow or unfit, and the process itself: signals, exit codes, settings.

use crate::common::http::Client;
use crate::common::redis::Redis;
use crate::common::{NDJSON, Running, event, wait_for};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

async fn takes_again(collector: &Running) {
    wait_for("a 202", async || {
        (collector.post(&[NDJSON], event("back").as_bytes()).await.status == 202).then_some(())
    })
    .await;
    collector.ready(true).await;
}

async fn refuses_within_a_second(collector: &Running) {
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = collector.post(&[NDJSON], event("away").as_bytes()).await;
        answer.problem(503, "queue_unavailable");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let after = answer.json()["retry_after_ms"].as_u64().unwrap();
        assert!((1_000..=2_000).contains(&after), "{after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_is_503_within_a_second_and_heals_by_itself() {
    let mut redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    redis.kill();
    refuses_within_a_second(&collector).await;
    let reason = collector.ready(false).await;
    assert!(reason.contains("\"redis\""), "{reason}");
    assert!(collector.metric("logweir_collector_redis_up").await < 0.5);
    // Now that it is known, the body isn't even asked for.
    let mut client = collector.client().await;
    client.head(&[NDJSON, ("Expect", "100-continue")], 1_000).await;
    client.answer().await.problem(503, "queue_unavailable");
    redis.restart();
    takes_again(&collector).await;
    assert!(collector.metric("logweir_collector_redis_up").await > 0.5);
    // What was acknowledged before is still there.
    assert!(String::from_utf8_lossy(&redis.entries()[0]["body"]).contains("\"a\""));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_paused_is_503_within_a_second_and_heals_by_itself() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    redis.pause();
    refuses_within_a_second(&collector).await;
    collector.ready(false).await;
    redis.resume();
    takes_again(&collector).await;
    collector.stop().await;
}

/// It answers, and takes nothing: without memory, and without the replicas that it is told to have.
#[tokio::test(flavor = "multi_thread")]
async fn redis_that_takes_no_writes_is_seen_and_refuses_before_the_body() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    for (setting, refusing, willing, says) in
        [("maxmemory", "1", "0", "OOM"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")]
    {
        redis.command(&["CONFIG", "SET", setting, refusing]);
        refuses_within_a_second(&collector).await;
        let reason = collector.ready(false).await;
        assert!(reason.contains(says), "{reason}");
        assert!(collector.metric("logweir_collector_redis_up").await < 0.5);
        let mut client = collector.client().await;
        client.head(&[NDJSON, ("Expect", "100-continue")], 1_000).await;
        client.answer().await.problem(503, "queue_unavailable");
        // One that starts now sees it without a request.
        let other = Running::start_unready(&redis.url(), &[]).await;
        wait_for("the reason", async || other.ready(false).await.contains(says).then_some(())).await;
        redis.command(&["CONFIG", "SET", setting, willing]);
        // By itself, without a request that would try.
        collector.ready(true).await;
        other.ready(true).await;
        takes_again(&collector).await;
        other.stop().await;
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_comes_later_is_waited_for() {
    let mut redis = Redis::start();
    redis.kill();
    let collector = Running::start_unready(&redis.url(), &[]).await;
    refuses_within_a_second(&collector).await;
    collector.ready(false).await;
    redis.restart();
    takes_again(&collector).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_forgets_is_not_used_until_it_is_mended() {
    let redis = Redis::with(&["--appendonly", "no"]);
    let collector = Running::start_unready(&redis.url(), &[]).await;
    let reason = wait_for("the reason", async || {
        let text = collector.ready(false).await;
        text.contains("append").then_some(text)
    })
    .await;
    assert!(reason.contains("\"redis\""), "{reason}");
    collector.post(&[NDJSON], event("a").as_bytes()).await.problem(503, "queue_unavailable");
    assert_eq!(redis.entries().len(), 0);
    redis.command(&["CONFIG", "SET", "appendonly", "yes"]);
    redis.command(&["CONFIG", "SET", "appendfsync", "always"]);
    takes_again(&collector).await;
    collector.stop().await;
    // For those who accept that.
    let redis = Redis::with(&["--appendonly", "no"]);
    let collector = Running::start(&redis, &["--ack=memory"]).await;
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_flushed_is_no_trouble() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    redis.command(&["FLUSHALL"]);
    collector.post(&[NDJSON], event("b").as_bytes()).await.accepted();
    assert_eq!(redis.entries().len(), 1);
    collector.stop().await;
}

fn binary(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logweir-collector"));
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end, which must come soon.
fn run(flags: &[&str]) -> Output {
    let mut child = binary(flags).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{flags:?} runs on: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn settings_are_checked_before_anything_else() {
    let checked = run(&["--check", "--redis=redis://127.0.0.1:1"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(String::from_utf8_lossy(&checked.stderr).contains("valid") && checked.stdout.is_empty());
    for (flags, word) in [
        (&["--listen=0.0.0.0:0"][..], "--insecure"),
        (&["--check", "--listen=0.0.0.0:0"][..], "--insecure"),
        (&["--tokens=/nowhere/tokens"][..], "/nowhere/tokens"),
        (&["--rate=0"][..], "--rate"),
        (&["--redis=http://x"][..], "redis"),
        (&["--hold=soon"][..], "--hold"),
        (&["--no-such-flag"][..], "--no-such-flag"),
    ] {
        let output = run(flags);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(word), "{flags:?}: {text}");
    }
}

/// The binary, with its addresses taken from its log.
struct Process {
    child: Child,
    public: std::net::SocketAddr,
}

impl Process {
    fn start(flags: &[&str]) -> Self {
        let fixed = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--log-format=json"];
        let mut child = binary(&[&fixed[..], flags].concat()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let public = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
            let json: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(address) = json["listen"].as_str() {
                break address.parse().unwrap();
            }
        };
        // The pipe must not fill up; the thread ends with the process.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, public }
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    async fn exit_code(&mut self) -> Option<i32> {
        wait_for("the exit", async || self.child.try_wait().unwrap()).await.code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_order_with_code_0() {
    let redis = Redis::start();
    let mut process = Process::start(&["--redis", &redis.url()]);
    let mut client = Client::connect(process.public).await;
    wait_for("a 202", async || {
        let mut client = Client::connect(process.public).await;
        (client.post(&[NDJSON], event("a").as_bytes()).await.status == 202).then_some(())
    })
    .await;
    let before = redis.entries().len();
    client.head(&[NDJSON, ("Expect", "100-continue")], 1_000).await;
    assert_eq!(client.answer().await.status, 100);
    process.signal("-TERM");
    wait_for("draining", async || {
        let mut other = Client::connect(process.public).await;
        (other.post(&[NDJSON], event("b").as_bytes()).await.status == 503).then_some(())
    })
    .await;
    client.send(format!("{:1000}", event("c")).as_bytes()).await;
    client.answer().await.accepted();
    assert_eq!(process.exit_code().await, Some(0));
    assert!(redis.entries().len() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_does_not_hold_the_end_up() {
    let redis = Redis::start();
    let mut process = Process::start(&["--redis", &redis.url(), "--shutdown-timeout=500ms"]);
    let mut client = Client::connect(process.public).await;
    client.head(&[NDJSON, ("Expect", "100-continue")], 1_000).await;
    assert_eq!(client.answer().await.status, 100);
    let begun = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
