//! Redis away, slow or unfit, and the process itself: signals, exit codes, settings.

use crate::common::http::Client;
use crate::common::process::Process;
use crate::common::redis::Redis;
use crate::common::{NDJSON, Running, event, wait_for};
use crate::redis_faults::{REDIS_TIMEOUT, SLACK};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

async fn takes_again(collector: &Running) {
    wait_for("a 202", async || {
        (collector.post(&[NDJSON], event("back").as_bytes()).await.status == 202).then_some(())
    })
    .await;
    collector.ready(true).await;
}

async fn refuses_in_time(collector: &Running) {
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = collector.post(&[NDJSON], event("away").as_bytes()).await;
        answer.problem(503, "queue_unavailable");
        assert!(begun.elapsed() < REDIS_TIMEOUT + SLACK, "{:?}", begun.elapsed());
        let after = answer.json()["retry_after_ms"].as_u64().unwrap();
        assert!((1_000..=2_000).contains(&after), "{after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_is_503_in_time_and_heals_by_itself() {
    let mut redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    redis.kill();
    refuses_in_time(&collector).await;
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
async fn redis_paused_is_503_in_time_and_heals_by_itself() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    redis.pause();
    refuses_in_time(&collector).await;
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
        refuses_in_time(&collector).await;
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
    refuses_in_time(&collector).await;
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

/// Runs it to its end, which must come soon.
fn run(flags: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_logweir-collector"))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_order_with_code_0() {
    let redis = Redis::start();
    let mut process = Process::start_unready(&redis.url(), &[]);
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
    let mut process = Process::start_unready(&redis.url(), &["--shutdown-timeout=500ms"]);
    let mut client = Client::connect(process.public).await;
    client.head(&[NDJSON, ("Expect", "100-continue")], 1_000).await;
    assert_eq!(client.answer().await.status, 100);
    let begun = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.exit_code().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
