//! The order of a request's checks: where two would refuse, the earlier one does, and what comes after it didn't happen.

use crate::common::http::{Answer, Client, connect_from};
use crate::common::redis::Redis;
use crate::common::{BATCH, GZIP, JSON, NDJSON, Running, event, events, wait_for, zstd};
use sha2::{Digest as _, Sha256};

const EXPECT: (&str, &str) = ("Expect", "100-continue");
/// Wrong in type, encoding, identity and length at once.
const ALL_WRONG: [(&str, &str); 3] =
    [("Content-Type", "text/plain"), ("Content-Encoding", "br"), ("Logweir-Batch", "nonsense")];

/// Sends headers alone that ask for a 100, and returns what is said to them; then the connection must end.
async fn refused(collector: &Running, headers: &[(&str, &str)]) -> Answer {
    let mut client = collector.client().await;
    let all: Vec<_> = headers.iter().copied().chain([EXPECT]).collect();
    client.head(&all, 1 << 30).await;
    let answer = client.answer().await;
    assert_ne!(answer.status, 100, "the body was asked for");
    assert!(client.is_closed().await);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_headers_identity_and_pressure_come_before_the_body() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let hash: String = Sha256::digest("one").iter().map(|b| format!("{b:02x}")).collect();
    std::fs::write(&file, format!("api-1 sha256:{hash}\n")).unwrap();
    let tokens = format!("--tokens={}", file.display());
    let flags = [&tokens, "--max-queue-entries=1", "--hold=0s", "--max-connections-per-address=4"];
    let collector = Running::start(&redis, &flags).await;
    let (token, long) = (("Authorization", "Bearer one"), "x".repeat(17 << 10));
    collector.post(&[NDJSON, token], event("a").as_bytes()).await.accepted();
    wait_for("a full queue", async || {
        (collector.metric("logweir_collector_queue_entries").await > 0.5).then_some(())
    })
    .await;

    // Too many connections: not even the headers are looked at.
    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(connect_from("127.0.0.8", collector.public).await.unwrap());
    }
    wait_for("the crowd", async || {
        (collector.metric("logweir_collector_connections").await > 3.5).then_some(())
    })
    .await;
    if let Ok(stream) = connect_from("127.0.0.8", collector.public).await {
        assert!(Client::over(stream).try_post(&[("X-Long", &long)], b"").await.is_none());
    }
    // Headers before identity, identity before pressure, pressure before type, encoding, batch and length.
    refused(&collector, &[("X-Long", &long)]).await.problem(431, "headers_too_large");
    refused(&collector, &ALL_WRONG).await.problem(401, "unauthenticated");
    let full: Vec<_> = ALL_WRONG.iter().copied().chain([token]).collect();
    refused(&collector, &full).await.problem(503, "queue_full");
    // With room, the type comes before the length, and the length before the body.
    redis.drain(1);
    let asked: Vec<_> = ALL_WRONG.iter().copied().chain([token, EXPECT]).collect();
    wait_for("room", async || {
        let mut client = collector.client().await;
        client.head(&asked, 1 << 30).await;
        let answer = client.answer().await;
        if answer.status == 503 {
            return None;
        }
        answer.problem(415, "unsupported");
        Some(())
    })
    .await;
    refused(&collector, &[NDJSON, token]).await.problem(413, "too_large");
    let wanted = collector.metric("logweir_collector_received_bytes_total").await;
    collector.begin_stop();
    // While it drains: who is asked first, and draining comes before pressure.
    wait_for("draining", async || {
        let mut client = collector.client().await;
        client.head(&asked, 1 << 30).await;
        let answer = client.answer().await;
        (answer.status == 503).then(|| answer.problem(503, "draining"))
    })
    .await;
    refused(&collector, &ALL_WRONG).await.problem(401, "unauthenticated");
    // Of all these bodies, none was read.
    assert!((collector.metric("logweir_collector_received_bytes_total").await - wanted).abs() < 0.1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_is_bounded_then_decoded_then_rated_then_validated_then_enqueued() {
    let redis = Redis::start();
    let flags = ["--max-wire-bytes=64KiB", "--rate=1", "--burst=10", "--hold=0s"];
    let collector = Running::start(&redis, &flags).await;
    let rejected = async || {
        let series = "logweir_collector_events_rejected_total{reason=\"not_json\"}";
        collector.metric(series).await
    };
    // Its length before its encoding: no byte of it is decoded.
    let mut client = collector.client().await;
    client.request("POST /v1/events", &[JSON, GZIP, ("Transfer-Encoding", "chunked")], None).await;
    for _ in 0..3 {
        client.send(format!("{:x}\r\n{}\r\n", 30_000, "x".repeat(30_000)).as_bytes()).await;
    }
    client.answer().await.problem(413, "too_large");
    // Its encoding before the quota: what can't be decoded costs none of it, however many events it claims.
    let whole = zstd(events(5).as_bytes());
    for _ in 0..5 {
        let cut = &whole[..whole.len() - 3];
        let answer = collector.post(&[NDJSON, ("Content-Encoding", "zstd")], cut).await;
        answer.problem(400, "malformed");
    }
    collector.post(&[NDJSON], events(10).as_bytes()).await.accepted();
    // The quota before the validation: nobody has judged these lines.
    collector.post(&[NDJSON], "nonsense\n".repeat(20).as_bytes()).await.problem(429, "rate_limited");
    assert!(rejected().await < 0.5);
    // The validation before the queue.
    let name = format!("{BATCH}/1");
    let other = [NDJSON, ("Logweir-Agent", "other"), ("Logweir-Batch", name.as_str())];
    collector.post(&other, b"nonsense\n").await.problem(422, "all_rejected");
    assert!((rejected().await - 1.0).abs() < 0.1);
    assert_eq!(redis.entries().len(), 1);
    collector.stop().await;
}
