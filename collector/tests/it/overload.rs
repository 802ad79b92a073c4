//! More than the collector can do at a time: it stays within its memory, and no agent pays for another.

use crate::common::http::Client;
use crate::common::process::Process;
use crate::common::redis::Redis;
use crate::common::{NDJSON, Running, ZSTD, event, events, now_ms, zstd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinSet;

/// A batch of about so many MiB.
fn large(mib: usize) -> Vec<u8> {
    let message = "m".repeat(1_000);
    let line = format!(
        "{{\"timestamp\":{},\"service\":\"api\",\"level\":\"info\",\"message\":\"{message}\"}}\n",
        now_ms()
    );
    line.repeat((mib << 20) / line.len()).into_bytes()
}

/// Decodes to so many MiB of nothing.
fn bomb(mib: usize) -> Vec<u8> {
    let mut out = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![b'\n'; 1 << 20];
    for _ in 0..mib {
        std::io::Write::write_all(&mut out, &zeros).unwrap();
    }
    out.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agents_large_batches_dont_hold_up_anothers_small_ones() {
    let redis = Redis::start();
    let collector = Process::start(&redis, &["--decoders=2", "--rate-bytes=1GiB"]).await;
    let body: Arc<[u8]> = zstd(&large(6)).into();
    let done = Arc::new(AtomicUsize::new(0));
    let mut greedy = JoinSet::new();
    for _ in 0..12 {
        let (public, body, done) = (collector.public, body.clone(), done.clone());
        greedy.spawn(async move {
            let answer =
                Client::connect(public).await.post(&[NDJSON, ZSTD, ("Logweir-Agent", "greedy")], &body).await;
            answer.accepted();
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    // It has begun.
    while done.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let small = zstd(events(20).as_bytes());
    collector.post(&[NDJSON, ZSTD, ("Logweir-Agent", "modest")], &small).await.accepted();
    let before = done.load(Ordering::Relaxed);
    greedy.join_all().await;
    // One of two places at least was not the greedy one's, so nobody waited for the rest of its batches.
    assert!(before <= 6, "{before} of 12 large batches came before a small one");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bodies_that_wait_are_overload() {
    let redis = Redis::start();
    let flags = ["--decoders=1", "--max-waiting-bodies=1", "--rate-bytes=1GiB"];
    let collector = Running::start(&redis, &flags).await;
    let body: Arc<[u8]> = zstd(&large(2)).into();
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (public, body) = (collector.public, body.clone());
        clients.spawn(async move { Client::connect(public).await.post(&[NDJSON, ZSTD], &body).await });
    }
    let answers = clients.join_all().await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert!(!refused.is_empty() && refused.len() < 8, "{} of 8 were refused", refused.len());
    refused.iter().for_each(|answer| drop(answer.problem(503, "overloaded")));
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_bodies_and_bombs_come_at_once_memory_stays_within_the_budget() {
    const BUDGET: u64 = 128 << 20;
    let redis = Redis::start();
    let flags = ["--max-in-flight-bytes=128MiB", "--rate-bytes=1TiB", "--rate=100000000", "--decoders=2"];
    let collector = Process::start(&redis, &flags).await;
    collector.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    let before = collector.peak_bytes();
    // 2 GiB each, decoded; and 3 MiB and 7 MiB, which are honest.
    let bodies: [Arc<[u8]>; 3] = [bomb(2_048).into(), large(3).into(), zstd(&large(7)).into()];
    let mut clients = JoinSet::new();
    for n in 0..150 {
        let (public, kind, body) = (collector.public, n % 3, bodies[n % 3].clone());
        clients.spawn(async move {
            let agent = format!("agent-{}", n % 10);
            let headers = [NDJSON, ("Logweir-Agent", &*agent), ZSTD];
            let headers = if kind == 1 { &headers[..2] } else { &headers[..] };
            let answer = Client::connect(public).await.post(headers, &body).await;
            (kind, answer.status, answer.text())
        });
    }
    // Bombs are never taken, honest bodies are taken or sent away.
    for (kind, status, text) in clients.join_all().await {
        let expected = if kind == 0 { [413, 503] } else { [202, 503] };
        assert!(expected.contains(&status), "{kind}: {status}, {text}");
    }
    let grown = collector.peak_bytes() - before;
    // A quarter more: 150 connections' buffers, and two decoders' windows.
    assert!(grown <= BUDGET / 4 * 5, "it took {} MiB more", grown >> 20);
    assert!(grown >= BUDGET / 4, "the load was none: it took {} MiB more", grown >> 20);
    for (kind, status) in [(0, 413), (1, 202), (2, 202)] {
        let headers = if kind == 1 { &[NDJSON][..] } else { &[NDJSON, ZSTD][..] };
        assert_eq!(collector.post(headers, &bodies[kind]).await.status, status);
    }
}
