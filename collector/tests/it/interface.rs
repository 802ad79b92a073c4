//! Paths, methods, queries, request IDs, verdicts without a queue, and what can be read.

use crate::common::http::{Answer, Client, get};
use crate::common::redis::Redis;
use crate::common::{BATCH, JSON, NDJSON, Running, event, events, wait_for, zstd};

const DRY: &str = "POST /v1/events?dry_run=1";

async fn send(collector: &Running, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut client = collector.client().await;
    client.request(line, headers, Some(body.len())).await;
    client.send(body).await;
    client.answer().await
}

/// Checks that this is a dry run's answer, and returns it.
#[track_caller]
fn verdicts(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let json = answer.json();
    assert_eq!(json["dry_run"], true);
    json
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_gives_the_verdicts_and_puts_nothing_into_the_queue() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--rate=40", "--burst=40", "--hold=0s"]).await;
    let body = format!("{}\n17\n{}\n", event("a"), event("b").replace("info", "loud"));
    let name = format!("{BATCH}/7");
    let real = collector.post(&[NDJSON, ("Logweir-Batch", &name)], body.as_bytes()).await;
    let (batch, accepted, rejected) = real.accepted();
    for query in ["dry_run=1", "dry_run=true"] {
        let line = format!("POST /v1/events?{query}");
        let dry = send(&collector, &line, &[NDJSON, ("Logweir-Batch", &name)], body.as_bytes()).await;
        let json = verdicts(&dry);
        assert_eq!((json["batch"].as_str(), json["accepted"].as_u64()), (Some(&*batch), Some(accepted)));
        assert_eq!((dry.rejected(), &json["rejected"]), (rejected.clone(), &real.json()["rejected"]));
    }
    // Nobody numbers what isn't kept, and a key is not used up.
    let keyed = [JSON, ("Idempotency-Key", "k")];
    assert_eq!(
        verdicts(&send(&collector, DRY, &keyed, event("a").as_bytes()).await)["batch"],
        serde_json::Value::Null
    );
    assert_eq!(redis.entries().len(), 1);
    let rejected = collector.metric("logweir_collector_events_rejected_total{reason=\"not_object\"}").await;
    assert!((rejected - 1.0).abs() < 0.1, "what was tried is not counted as rejected: {rejected}");
    let (_, accepted, _) = collector.post(&keyed, event("a").as_bytes()).await.accepted();
    assert_eq!((accepted, redis.entries().len()), (1, 2));

    // What the real one is refused for, it is refused for as well.
    send(&collector, DRY, &[NDJSON], b"17\n").await.problem(422, "all_rejected");
    send(&collector, DRY, &[NDJSON], b"\n").await.problem(400, "malformed");
    send(&collector, DRY, &[], b"17\n").await.problem(415, "unsupported");
    let last = format!("{BATCH}/9223372036854775806");
    let headers = [NDJSON, ("Logweir-Batch", &*last)];
    let detail = send(&collector, DRY, &headers, events(2).as_bytes()).await.problem(400, "malformed");
    assert!(detail.contains("Logweir-Batch"), "{detail}");
    // It costs the same work, and so the same quota.
    let body = zstd(events(40).as_bytes());
    let zipped = [NDJSON, ("Content-Encoding", "zstd")];
    let answers = [(); 3].map(|()| send(&collector, DRY, &zipped, &body));
    let mut statuses = Vec::new();
    for answer in answers {
        statuses.push(answer.await.status);
    }
    assert_eq!(statuses[2], 429, "{statuses:?}");
    assert_eq!(redis.entries().len(), 2);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_needs_no_queue() {
    let mut redis = Redis::start();
    let collector = Running::start(&redis, &["--max-queue-entries=1"]).await;
    collector.post(&[NDJSON], events(1).as_bytes()).await.accepted();
    collector.post(&[NDJSON], events(1).as_bytes()).await.problem(503, "queue_full");
    assert_eq!(verdicts(&send(&collector, DRY, &[NDJSON], events(3).as_bytes()).await)["accepted"], 3);
    redis.kill();
    wait_for("the loss to be seen", async || {
        let answer = collector.post(&[NDJSON], events(1).as_bytes()).await;
        (answer.json()["type"] == "urn:logweir:problem:queue_unavailable").then_some(())
    })
    .await;
    assert_eq!(verdicts(&send(&collector, DRY, &[NDJSON], events(3).as_bytes()).await)["accepted"], 3);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_nobody_knows_is_refused() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    for query in ["dryrun=1", "dry_run", "dry_run=yes", "dry_run=1&dry_run=1", "pretty"] {
        let line = format!("POST /v1/events?{query}");
        let detail = send(&collector, &line, &[NDJSON], events(1).as_bytes()).await.problem(400, "malformed");
        assert!(detail.contains("?dry_run=1"), "{detail}");
    }
    get(collector.public, "/v1/schema?x=1").await.problem(400, "malformed");
    assert!(redis.entries().is_empty());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_can_be_read_and_kept() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let answer = get(collector.public, "/v1/schema").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/schema+json")));
    assert_eq!(answer.text(), include_str!("../../../proto-json/schema/event.v1.schema.json"));
    assert_eq!(answer.header("cache-control"), Some("private, max-age=86400"));
    let tag = answer.header("etag").unwrap();
    let known = [("If-None-Match", tag)];
    let mut client = collector.client().await;
    client.request("GET /v1/schema", &known, None).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, Some(tag)));
    // The same connection goes on, also after HEAD, which has no body although its length is told.
    for line in ["HEAD /v1/schema HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"]
    {
        client.send(line.as_bytes()).await;
    }
    client.end().await;
    let mut raw = Vec::new();
    client.read_rest(&mut raw).await;
    let raw = String::from_utf8(raw).unwrap();
    let (head, next) = raw.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: "), "{head}");
    assert!(next.starts_with("HTTP/1.1 404 "), "{next}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = send(&collector, &format!("{method} /v1/schema"), &[], b"").await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_read_nothing() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, format!("api-1 sha256:{}\n", "0".repeat(64))).unwrap();
    let collector = Running::start(&redis, &["--tokens", file.to_str().unwrap()]).await;
    get(collector.public, "/v1/schema").await.problem(401, "unauthenticated");
    send(&collector, DRY, &[NDJSON], events(1).as_bytes()).await.problem(401, "unauthenticated");
    // What stands in the query is not looked at before.
    send(&collector, "POST /v1/events?x", &[NDJSON], b"").await.problem(401, "unauthenticated");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_its_request() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let id = |answer: &Answer| answer.header("x-request-id").unwrap().to_owned();
    let good = ("X-Request-Id", "lb-1/req:17@0.5_x=");
    assert_eq!(id(&collector.post(&[NDJSON, good], events(1).as_bytes()).await), good.1);
    assert_eq!(id(&collector.post(&[NDJSON, good], b"").await), good.1);
    assert_eq!(id(&send(&collector, "GET /v1/events", &[good], b"").await), good.1);
    let long = "x".repeat(65);
    let mut made =
        vec![id(&get(collector.public, "/nowhere").await), id(&get(collector.public, "/v1/schema").await)];
    for bad in ["", "two words", "\"quoted\"", "a\tb", "é", &long] {
        made.push(id(&collector.post(&[NDJSON, ("X-Request-Id", bad)], events(1).as_bytes()).await));
    }
    made.push(id(&collector.post(&[NDJSON, good, ("X-Request-Id", "other")], events(1).as_bytes()).await));
    assert!(made.iter().all(|id| uuid::Uuid::try_parse(id).is_ok()), "{made:?}");
    let distinct: std::collections::HashSet<_> = made.iter().collect();
    assert_eq!(distinct.len(), made.len());
    collector.stop().await;
}

/// Sends a request's head alone, and returns the first answer.
async fn expecting(
    collector: &Running,
    line: &str,
    headers: &[(&str, &str)],
    length: usize,
) -> (Client, Answer) {
    let mut client = collector.client().await;
    client.request(line, headers, Some(length)).await;
    let answer = client.answer().await;
    (client, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_hears_it_only_when_its_body_is_wanted() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let body = events(2);
    for (line, status) in [("POST /v1/events", 202), (DRY, 200)] {
        for expect in ["100-continue", "100-Continue"] {
            let headers = [NDJSON, ("Expect", expect)];
            let (mut client, answer) = expecting(&collector, line, &headers, body.len()).await;
            assert_eq!((answer.status, answer.body.len()), (100, 0));
            client.send(body.as_bytes()).await;
            assert_eq!(client.answer().await.status, status);
        }
    }
    let expect = ("Expect", "100-continue");
    for (line, headers, status) in [
        ("POST /v1/events", vec![expect], 415),
        ("POST /v1/events?x", vec![NDJSON, expect], 400),
        ("POST /v1/events", vec![NDJSON, expect, ("Logweir-Batch", "1")], 400),
        ("PUT /v1/events", vec![NDJSON, expect], 405),
        ("POST /v2/events", vec![NDJSON, expect], 404),
    ] {
        let (mut client, answer) = expecting(&collector, line, &headers, body.len()).await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{line}");
        assert!(client.is_closed().await);
    }
    collector.stop().await;
}
