//! The oracle can fail: with the ledger's check turned off, or the journal ignored, it reports a difference. The
//! same runs with the honest programs are exact.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::bins::{bin, faulty_bin};
use logweir_e2e::client::Post;
use logweir_e2e::eventually;
use logweir_e2e::lines::{cell, event, now_ms};
use logweir_e2e::proxy::{Faults, Proxy};
use logweir_e2e::source::Source;
use logweir_e2e::stack::{AgentSpec, Stack};
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(30);

/// The same batch is posted twice.
async fn with_worker(program: PathBuf) -> Stack {
    let mut stack = Stack::start("ledger").await;
    let to = stack.add_collector(&[]);
    stack.add_worker_of(program, &[]);
    stack.start_all();
    stack.ready().await;
    let ms = now_ms();
    stack.truth.add(cell(ms, "twice", "info"), "");
    let post = Post::ndjson(event(ms, "twice", "info", "")).batch(Uuid::from_u128(7), 1);
    for _ in 0..2 {
        assert_eq!(post.send(to).await.unwrap().status, 202);
    }
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sees_a_ledger_that_is_not_asked() {
    let mut honest = with_worker(bin("logweir-worker")).await;
    honest.assert_exact(LIMIT, false).await;

    let faulty = with_worker(faulty_bin("logweir-worker")).await;
    let queue = &faulty.redis.queue;
    eventually("both are worked off", LIMIT, || async { queue.depth().await.is_ok_and(|d| d.queued == 0) })
        .await;
    let verdict = faulty.drained(Duration::from_secs(1)).await;
    assert_eq!(verdict.differences.len(), 1, "{verdict}");
    assert_eq!((verdict.differences[0].truth, verdict.differences[0].counted), (1, 2), "{verdict}");
}

/// All batches are taken and none is answered; then the agent is killed and started again.
async fn with_agent(program: PathBuf) -> Stack {
    let mut stack = Stack::with_services("journal", &[], 1).await;
    let upstreams = vec![stack.collectors[0].listen];
    let proxy = Proxy::start(upstreams, Faults::default(), 1, stack.truth.clone()).await;
    proxy.swallow_answers();
    let mut source = Source::file(0, &stack.apps(), 1, stack.truth.clone());
    source.write_lines(500).await;
    let paths = vec![source.path().display().to_string()];
    stack.add_agent(AgentSpec {
        collector: proxy.url(),
        paths,
        program: Some(program),
        ..Default::default()
    });
    stack.start_all();
    let verdict = stack.drained(LIMIT).await;
    assert!(verdict.is_equal(), "before the kill: {verdict}");
    stack.agents[0].process.kill();
    proxy.calm();
    stack.agents[0].finish(false).await;
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sees_a_journal_that_is_not_read() {
    let mut honest = with_agent(bin("logweir-agent")).await;
    honest.assert_exact(LIMIT, false).await;

    let faulty = with_agent(faulty_bin("logweir-agent")).await;
    let queue = &faulty.redis.queue;
    eventually("all is worked off", LIMIT, || async { queue.depth().await.is_ok_and(|d| d.queued == 0) })
        .await;
    let verdict = faulty.drained(Duration::from_secs(1)).await;
    assert!(verdict.differences.iter().any(|d| d.counted > d.truth), "{verdict}");
}
