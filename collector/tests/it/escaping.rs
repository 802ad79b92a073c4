//! Nothing that a client sends reaches a log line unescaped, a metric's label, or a key of Redis; and no path of the
//! admin address answers on the public one.

use crate::common::http::{Client, get};
use crate::common::process::Process;
use crate::common::redis::{Redis, Value};
use crate::common::{JSON, NDJSON, Running, event, wait_for};
use std::collections::BTreeSet;

/// What would colour a terminal, begin a new line, end a string of JSON, or stand in a label; and a word to find.
const MARK: &str = "Evil0";
const BYTES: &[u8] =
    b"Evil0\x1b[31m\x07\x08\x00\x7f\xc2\x9b31m\xe2\x80\xae\",\"level\":\"x\"}\n\rEvil0 {a=\"b\"} 1\n\xff\xfe";

/// The bytes that HTTP lets through in a header, and the whole of it.
fn in_headers() -> [Vec<u8>; 2] {
    let allowed = BYTES.iter().copied().filter(|b| *b >= b' ' && *b != 0x7f).collect();
    [allowed, BYTES.to_vec()]
}

async fn attack(process: &Process) {
    let fields = [
        "Authorization",
        "Logweir-Agent",
        "Logweir-Batch",
        "Idempotency-Key",
        "traceparent",
        "Content-Type",
        "Content-Encoding",
        "Content-Length",
        "X-Request-Id",
        "Expect",
        "Host",
        "User-Agent",
        "Forwarded",
        "X-Forwarded-For",
        MARK,
    ];
    for value in in_headers() {
        for field in fields {
            for extra in ["", "Content-Type: application/x-ndjson\r\nContent-Length: 2\r\n"] {
                let head = format!("POST /v1/events HTTP/1.1\r\nHost: x\r\n{extra}{field}: ");
                send(process, &[head.as_bytes(), &value, b"\r\nConnection: close\r\n\r\n{}"].concat()).await;
            }
        }
        for line in [
            [b"POST /v1/", &value[..], b" HTTP/1.1"].concat(),
            [b"POST /v1/events?dry_run=", &value[..], b" HTTP/1.1"].concat(),
            [&value[..], b" /v1/events HTTP/1.1"].concat(),
            b"GET /v1/%1b%5b31m%0aEvil0 HTTP/1.1".to_vec(),
        ] {
            send(process, &[&line[..], b"\r\nHost: x\r\nConnection: close\r\n\r\n"].concat()).await;
        }
    }
    // In each field of an event, raw and escaped.
    let escaped = "Evil0\\u001b[31m\\u0007\\u009b\\n\\r\\u0000\\u202e";
    let raw = String::from_utf8_lossy(BYTES).into_owned();
    for text in [escaped, &raw] {
        for field in ["service", "level", "message", "trace_id", "span_id", "timestamp", "attributes", text] {
            let line = event("good").replacen('{', &format!("{{\"{field}\":\"{text}\","), 1);
            let mut client = Client::connect(process.public).await;
            client.try_post(&[NDJSON], line.as_bytes()).await;
            let mut client = Client::connect(process.public).await;
            client.try_post(&[JSON, ("Content-Encoding", "gzip")], line.as_bytes()).await;
        }
    }
    // What is let through, under names that are allowed.
    let mut client = Client::connect(process.public).await;
    let named = [NDJSON, ("Logweir-Agent", MARK), ("Idempotency-Key", "Evil0:{1}:*\"'\\")];
    client.post(&named, event(MARK).as_bytes()).await.accepted();
}

async fn send(process: &Process, bytes: &[u8]) {
    let mut client = Client::connect(process.public).await;
    client.send(bytes).await;
    client.try_end().await.ok();
    let mut answer = Vec::new();
    client.read_all(&mut answer).await;
    // Nothing is thrown back at the terminal either.
    assert!(!answer.contains(&0x1b) && !answer.contains(&0x07), "{}", answer.escape_ascii());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_client_reaches_logs_labels_or_keys_unescaped() {
    for format in ["--log-format=json", "--log-format=pretty"] {
        let redis = Redis::start();
        let process = Process::start(&redis, &["--log-level=trace", format]).await;
        attack(&process).await;
        wait_for("the log", async || process.log().contains("refused").then_some(())).await;
        let log = process.log();
        for line in log.lines() {
            assert!(!line.chars().any(char::is_control), "{}", line.escape_debug());
            if format.ends_with("json") {
                let json: serde_json::Value = serde_json::from_str(line).expect(line);
                assert_ne!(json["level"], "x", "{line}");
            } else {
                assert!(!line.starts_with("Evil0"), "{line}");
            }
        }
        let metrics = get(process.admin, "/metrics").await.text();
        assert!(!metrics.contains(MARK), "{metrics}");
        let Value::List(keys) = redis.command(&["KEYS", "*"]) else { panic!() };
        let keys: BTreeSet<String> = keys
            .into_iter()
            .map(|key| match key {
                Value::Text(key) => String::from_utf8(key).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(!keys.is_empty());
        for key in &keys {
            assert!(!key.contains(MARK) && key.starts_with("logweir:{0}:"), "{keys:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_of_the_admin_address_answers_on_the_public_one() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(collector.admin, path).await.status, 200);
        for spelt in [
            path.to_owned(),
            format!("{path}/"),
            format!("/{path}"),
            format!("/v1/..{path}"),
            path.to_uppercase(),
        ] {
            for method in ["GET", "HEAD", "POST"] {
                let mut client = collector.client().await;
                client.request(&format!("{method} {spelt}"), &[("Connection", "close")], Some(0)).await;
                let mut answer = Vec::new();
                client.read_all(&mut answer).await;
                assert!(answer.starts_with(b"HTTP/1.1 404 "), "{method} {spelt}: {}", answer.escape_ascii());
            }
        }
        // Whatever host it is asked for.
        let mut client = collector.client().await;
        let host =
            format!("GET http://{}{path} HTTP/1.1\r\nHost: {}\r\n\r\n", collector.admin, collector.admin);
        client.send(host.as_bytes()).await;
        client.answer().await.problem(404, "not_found");
    }
    collector.stop().await;
}
