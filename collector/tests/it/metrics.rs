//! What Prometheus gets: it parses, it holds what is promised, and nobody outside can make it grow.

use crate::common::http::get;
use crate::common::redis::Redis;
use crate::common::{GZIP, JSON, NDJSON, Running, event, events, gzip, wait_for};
use crate::documented::python;
use logweir_proto::Code;
use logweir_proto::answer::ProblemCode;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Agents that may have series of their own, and `other`.
const AGENT_LABELS: usize = 101;

/// Why the collector ends a connection.
const CUTS: [&str; 7] = [
    "handshake_failed",
    "handshake_timeout",
    "handshake_evicted",
    "header_timeout",
    "idle",
    "stalled",
    "flood",
];

/// One metric, as Prometheus' own parser sees it.
struct Family {
    kind: String,
    help: String,
    samples: Vec<(String, BTreeMap<String, String>)>,
}

/// All metrics by name.
fn parsed(text: &str) -> BTreeMap<String, Family> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/metrics.py");
    let mut parser = Command::new(python("python"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let families: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    let sample = |sample: &Value| {
        let labels = sample["labels"].as_object().unwrap().iter();
        (string(&sample["name"]), labels.map(|(name, value)| (name.clone(), string(value))).collect())
    };
    let family = |family: &Value| {
        let samples = family["samples"].as_array().unwrap().iter().map(sample).collect();
        (
            string(&family["name"]),
            Family { kind: string(&family["type"]), help: string(&family["help"]), samples },
        )
    };
    families.iter().map(family).collect()
}

async fn metrics(collector: &Running) -> BTreeMap<String, Family> {
    let answer = get(collector.admin, "/metrics").await;
    assert!(
        answer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0")
    );
    parsed(&answer.text())
}

/// The values that a label may have, of which there are only so many by construction: the types that they are made from
/// have no others. `None` for the agents, whose number is bounded.
fn values_of(family: &str, label: &str) -> Option<BTreeSet<String>> {
    let codes = || ProblemCode::ALL.iter();
    match label {
        "code" => {
            let successes = ["accepted", "dry_run", "limits", "document"];
            Some(codes().map(|code| code.as_str()).chain(successes).map(str::to_owned).collect())
        }
        "status" => {
            let statuses = codes().map(|code| code.status()).chain([200, 202, 304]);
            Some(statuses.map(|status| status.to_string()).collect())
        }
        "reason" if family == "logweir_collector_connections_cut" => {
            Some(CUTS.iter().map(|cut| (*cut).to_owned()).collect())
        }
        "reason" => Some(Code::ALL.iter().map(|code| code.as_str().to_owned()).collect()),
        "agent" => None,
        other => {
            panic!("the label {other} is new: say here which values it may have, and why there are no more")
        }
    }
}

/// The most series that a metric may ever have.
fn bound(name: &str, family: &Family) -> usize {
    match name {
        // A code has one status; two of them have a second one: --quota-status, and 304 for what is known.
        "logweir_collector_requests" => values_of(name, "code").unwrap().len() + 2,
        "logweir_collector_events_rejected" => Code::ALL.len(),
        "logweir_collector_connections_cut" => CUTS.len(),
        "logweir_collector_rate_limited" => AGENT_LABELS,
        // 15 bounds and +Inf, the count and the sum.
        _ if family.kind == "histogram" => 18,
        _ => 1,
    }
}

fn assert_bounded(metrics: &BTreeMap<String, Family>) {
    for (name, family) in metrics {
        let least = bound(name, family);
        assert!(family.samples.len() <= least, "{name} has {} series, at most {least}", family.samples.len());
        for (_, labels) in &family.samples {
            for (label, value) in labels.iter().filter(|(label, _)| *label != "le") {
                match values_of(name, label) {
                    Some(values) => assert!(values.contains(value), "{name}: {label}={value}"),
                    None => {
                        assert!(value == "other" || value.starts_with("known-"), "{name}: {label}={value}")
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_all_that_is_promised() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--rate=1", "--burst=4", "--hold=0s"]).await;
    collector.post(&[NDJSON], (events(3) + "17\n").as_bytes()).await.accepted();
    collector.post(&[NDJSON], events(4).as_bytes()).await.problem(429, "rate_limited");
    wait_for("the queue's depth", async || {
        (collector.metric("logweir_collector_queue_entries").await > 0.5).then_some(())
    })
    .await;
    let metrics = metrics(&collector).await;
    for (name, kind) in [
        ("requests", "counter"),
        ("request_duration_seconds", "histogram"),
        ("events_accepted", "counter"),
        ("events_rejected", "counter"),
        ("received_bytes", "counter"),
        ("decoded_bytes", "counter"),
        ("rate_limited", "counter"),
        ("queue_entries", "gauge"),
        ("queue_bytes", "gauge"),
        ("queue_oldest_age_seconds", "gauge"),
        ("redis_up", "gauge"),
    ] {
        let family =
            metrics.get(&format!("logweir_collector_{name}")).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(family.kind, kind, "{name}");
    }
    for (name, family) in &metrics {
        assert!(name.starts_with("logweir_collector_") && !family.help.is_empty(), "{name}: {}", family.help);
        if family.kind == "counter" {
            assert!(family.samples.iter().all(|(sample, _)| *sample == format!("{name}_total")), "{name}");
        }
    }
    collector.stop().await;
}

/// Everything that a client chooses, in many values: agents, paths, methods, queries, headers, fields.
async fn odd_input(collector: &Running, n: usize) {
    let agent = format!("made-up-{n}");
    let id = format!("req-{n}\"}}");
    let headers = [NDJSON, ("Logweir-Agent", &*agent), ("X-Request-Id", &id)];
    let message = format!("m{n}");
    let body = event(&message)
        + "\n"
        + &event("x").replace("api", &format!("service-{n}"))
        + "\n"
        + &event("x").replace("info", &format!("level{n}"));
    collector.post(&headers, body.as_bytes()).await;
    collector.post(&[("Content-Type", &*format!("text/x-{n}")), headers[1]], body.as_bytes()).await;
    collector.post(&[JSON, headers[1]], format!("[{n}").as_bytes()).await;
    collector.post(&[NDJSON, GZIP, headers[1]], &gzip(format!("{{\"field-{n}\":1}}").as_bytes())).await;
    collector.post(&[NDJSON, headers[1], ("Idempotency-Key", &id)], body.as_bytes()).await;
    for line in
        [format!("POST /v1/events?q{n}=1"), format!("GET /v1/path-{n}"), format!("X-METHOD-{n} /v1/events")]
    {
        let mut client = collector.client().await;
        client.request(&line, &headers, None).await;
        client.answer().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_outside_makes_new_series() {
    let redis = Redis::start();
    // Tokens of more agents than may have series of their own.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let token = |n: usize| format!("token-{n}");
    let hash = |n: usize| Sha256::digest(token(n)).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let tokens: String = (0..150).map(|n| format!("known-{n} sha256:{}\n", hash(n))).collect();
    std::fs::write(&file, tokens).unwrap();
    let flags = ["--rate=1", "--burst=1", "--hold=0s", "--max-queue-entries=100000"];
    let open = Running::start(&redis, &flags).await;
    let closed = Running::start(&redis, &[&flags[..], &["--tokens", file.to_str().unwrap()]].concat()).await;

    odd_input(&open, 0).await;
    let before = metrics(&open).await;
    for n in 1..60 {
        odd_input(&open, n).await;
    }
    for n in 0..150 {
        let header = format!("Bearer {}", token(n));
        for _ in 0..2 {
            closed.post(&[NDJSON, ("Authorization", &header)], events(3).as_bytes()).await;
        }
        closed.post(&[NDJSON, ("Authorization", &format!("{header}x"))], b"").await;
    }
    let (after, others) = (metrics(&open).await, metrics(&closed).await);
    assert_bounded(&after);
    assert_bounded(&others);
    assert_eq!(others["logweir_collector_rate_limited"].samples.len(), AGENT_LABELS);
    // After sixty of each, there is nothing but what one of each had made.
    let names = |metrics: &BTreeMap<String, Family>| -> BTreeSet<_> {
        metrics.values().flat_map(|family| family.samples.clone()).collect()
    };
    assert_eq!(names(&after), names(&before));
    open.stop().await;
    closed.stop().await;
}
