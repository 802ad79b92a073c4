//! Bad input: each kind has a clear answer, and no effect on its neighbours.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::client::{Post, http};
use logweir_e2e::lines::{cell, event, now_ms, rfc3339};
use logweir_e2e::source::Source;
use logweir_e2e::stack::{AgentSpec, Stack};
use logweir_e2e::truth::Truth;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
const HOUR_MS: i64 = 3_600_000;

/// A good event of its own service, recorded.
fn good(truth: &Truth, service: &str) -> Vec<u8> {
    let ms = now_ms();
    truth.add(cell(ms, service, "info"), "good");
    event(ms, service, "info", "good")
}

/// A good event with one thing changed.
fn changed(from: &str, to: &str) -> Vec<u8> {
    let text = format!(r#"{{"timestamp":{},"service":"bad","level":"info","message":"m"}}"#, now_ms());
    let text = if from == "TIME" { text.replace(&text[13..26], to) } else { text.replace(from, to) };
    assert!(text.contains(to));
    text.into_bytes()
}

/// Each bad event with the code that it must get.
fn bad_events() -> Vec<(&'static str, Vec<u8>)> {
    let nested =
        |depth: usize| format!(r#","attributes":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    vec![
        ("not_json", b"{\"timestamp\":1".to_vec()),
        ("not_json", b"hello".to_vec()),
        ("not_json", changed("\"m\"", "\"m\"}{")),
        ("not_json", [&changed("m\"}", "")[..], b"\xff\xfe\"}"].concat()),
        ("not_json", changed("\"m\"", "\"a\0b\"")),
        ("not_object", b"42".to_vec()),
        ("not_object", b"[]".to_vec()),
        ("not_object", b"null".to_vec()),
        ("missing_field", b"{}".to_vec()),
        ("missing_field", changed("\"timestamp\"", "\"tymestamp\"")),
        ("missing_field", changed("\"service\"", "\"servize\"")),
        ("missing_field", changed("\"level\"", "\"lefel\"")),
        ("missing_field", changed("\"message\"", "\"massage\"")),
        ("duplicate_field", changed("\"message\"", "\"level\":\"info\",\"message\"")),
        ("invalid_timestamp", changed("TIME", "true")),
        ("invalid_timestamp", changed("TIME", "\"yesterday\"")),
        ("invalid_timestamp", changed("TIME", "\"2026-11-24T10:03:00\"")),
        ("invalid_service", changed("\"bad\"", "5")),
        ("invalid_service", changed("\"bad\"", "\"\"")),
        ("invalid_service", changed("\"bad\"", "\"-bad\"")),
        ("invalid_service", changed("\"bad\"", "\"a b\"")),
        ("invalid_level", changed("\"info\"", "3")),
        ("invalid_level", changed("\"info\"", "\"loud\"")),
        ("invalid_message", changed("\"m\"", "7")),
        ("invalid_message", changed("\"m\"", "null")),
        ("invalid_trace", changed("\"m\"", "\"m\",\"trace_id\":\"XYZ\"")),
        ("invalid_trace", changed("\"m\"", "\"m\",\"span_id\":12")),
        ("in_future", changed("TIME", &(now_ms() + HOUR_MS).to_string())),
        ("too_old", changed("TIME", &(now_ms() - 91 * 24 * HOUR_MS).to_string())),
        ("too_old", changed("TIME", "\"1970-01-01T00:00:00Z\"")),
        ("too_deep", changed("\"m\"}", &format!("\"m\"{}", nested(40)))),
        ("too_long", changed("\"m\"", &format!("\"{}\"", "m".repeat(300 * 1024)))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_gets_its_reason_and_its_neighbours_are_counted() {
    let mut stack = Stack::with_services("bad-events", &[], 1).await;
    let to = stack.collectors[0].listen;
    for (code, bad) in bad_events() {
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(120)]).into_owned();
        for compressed in [false, true] {
            let lines = [good(&stack.truth, "ndjson"), bad.clone(), good(&stack.truth, "ndjson")];
            let post = Post::ndjson(lines.join(&b'\n'));
            let answer = if compressed { post.zstd() } else { post }.send(to).await.unwrap();
            assert_eq!((answer.status, answer.rejected()), (202, vec![(1, code.to_owned())]), "{shown}");
            assert_eq!(answer.body["accepted"], 2, "{shown}");
            let detail = answer.body["rejected"][0]["detail"].as_str().unwrap();
            assert!(detail.len() > 10, "a sentence for people: {detail:?}");
        }
        let answer = Post::ndjson(bad.clone()).send(to).await.unwrap();
        assert_eq!((answer.status, answer.code()), (422, "all_rejected"), "alone: {shown}");
        assert_eq!(answer.rejected(), [(0, code.to_owned())], "alone: {shown}");

        // In an array only what is JSON at all can be an event.
        if code != "not_json" {
            let array = [&b"["[..], &good(&stack.truth, "array"), b",", &bad, b"]"].concat();
            let answer = Post::json(array).send(to).await.unwrap();
            assert_eq!((answer.status, answer.rejected()), (202, vec![(1, code.to_owned())]), "{shown}");
        }
    }
    stack.assert_exact(LIMIT, false).await;
}

/// A request that breaks off in the middle of its body.
async fn cut_off(to: SocketAddr) -> String {
    let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let head = "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 5000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&event(now_ms(), "bad", "info", "cut")).await.unwrap();
    stream.write_all(b"\n{\"timestamp\":").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _reset = tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_gets_its_code_and_costs_nothing() {
    let mut stack = Stack::with_services("bad-bodies", &[], 1).await;
    let to = stack.collectors[0].listen;
    let bad = || event(now_ms(), "bad", "info", "never counted");
    let random: Vec<u8> = (0..40_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let compressed = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    let many = |n: usize| vec![bad(); n].join(&b'\n');
    let zipped = |bytes: Vec<u8>| Post::ndjson(bytes).header("Content-Encoding", "zstd");
    // 64 KiB that become 2 GiB.
    let bomb = compressed(&vec![b' '; 1 << 30]).repeat(2);
    let plain = |kind: &str| Post::ndjson(bad()).header("X-Kind", kind);

    let cases: Vec<(&str, Post, u16, &str)> = vec![
        ("half an object", Post::json(cut(&bad())), 400, "malformed"),
        ("two objects", Post::json([bad(), bad()].concat()), 400, "malformed"),
        ("invalid UTF-8", Post::json(b"{\"message\":\"\xff\"}".to_vec()), 400, "malformed"),
        ("no JSON body", Post::json(""), 400, "malformed"),
        ("no NDJSON body", Post::ndjson(""), 400, "malformed"),
        ("blank lines", Post::ndjson("\n\r\n \n"), 400, "malformed"),
        ("empty array", Post::json("[]"), 400, "malformed"),
        ("a string", Post::json("\"hello\""), 422, "all_rejected"),
        ("half a zstd frame", zipped(cut(&compressed(&many(500)))), 400, "malformed"),
        ("no zstd frame", zipped(random.clone()), 400, "malformed"),
        ("nothing, as zstd", zipped(Vec::new()), 400, "malformed"),
        ("a zstd bomb", zipped(bomb), 413, "too_large"),
        ("10,001 events", Post::ndjson(many(10_001)), 413, "too_large"),
        ("5 MiB on the wire", Post::ndjson(vec![b'x'; 5 << 20]), 413, "too_large"),
        ("no gzip", Post::ndjson(random).header("Content-Encoding", "gzip"), 400, "malformed"),
        ("unknown encoding", plain("br").header("Content-Encoding", "br"), 415, "unsupported"),
        ("a batch without a number", plain("batch").header("Logweir-Batch", "nonsense"), 400, "malformed"),
        (
            "a batch with number 0",
            plain("zero").header("Logweir-Batch", "4b6f1a62-5d10-4b65-8a53-2a1b7a8f0c11/0"),
            400,
            "malformed",
        ),
    ];
    for (name, post, status, code) in cases {
        let before = Post::ndjson(good(&stack.truth, "before")).send(to).await.unwrap();
        let start = Instant::now();
        let answer = post.send(to).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((answer.status, answer.code()), (status, code), "{name}: {answer:?}");
        assert!(answer.header("Content-Type").starts_with("application/problem+json"), "{name}: {answer:?}");
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{name}: {answer:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: after {:?}", start.elapsed());
        let after = Post::json(good(&stack.truth, "after")).send(to).await.unwrap();
        assert_eq!((before.status, after.status), (202, 202), "the neighbours of {name}");
    }

    let answer = cut_off(to).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let request =
        http().post(format!("http://{to}/v1/events")).header("Content-Type", "text/plain").body(bad());
    assert_eq!(request.send().await.unwrap().status(), 415);
    let get = http().get(format!("http://{to}/v1/events")).send().await.unwrap();
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(http().post(format!("http://{to}/v2/events")).body(bad()).send().await.unwrap().status(), 404);

    let peak = stack.collectors[0].process.peak_rss();
    assert!(peak < 150 * MIB, "the collector has held {} MiB", peak / MIB);
    stack.assert_exact(LIMIT, false).await;
}

/// The rejects file's lines.
fn rejects(state_dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(state_dir.join("rejects.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Bytes that are no UTF-8, NUL, and what only looks like JSON are text in a tailed file, and counted; a JSON line that
/// breaks the schema goes to the rejects file with its reason. Their neighbours are counted.
#[tokio::test(flavor = "multi_thread")]
async fn strange_lines_in_a_tailed_file_do_no_harm() {
    let mut stack = Stack::with_services("strange-lines", &[], 1).await;
    let url = format!("http://{}", stack.collectors[0].listen);
    let mut source = Source::file(0, &stack.apps(), 1, stack.truth.clone());
    let path = source.path().display().to_string();
    let ms = now_ms();
    let time = rfc3339(ms);

    let counted: Vec<(Vec<u8>, &str)> = vec![
        ([time.as_bytes(), b" ERROR broken \xff\xfe\x80 bytes"].concat(), "error"),
        ([time.as_bytes(), b" WARN with \0 NUL \0"].concat(), "warn"),
        ([time.as_bytes(), b" FATAL ", &vec![0xc3; 1000]].concat(), "fatal"),
        // These inherit the time of the line before, and the level by default.
        (b"{\"timestamp\":".to_vec(), "info"),
        (b"{\"message\":\"\xff\"}".to_vec(), "info"),
        (b"\xff".to_vec(), "info"),
        (vec![b'y'; 100_000], "info"),
        (b"[1,2,3]".to_vec(), "info"),
    ];
    let rejected: Vec<(Vec<u8>, &str)> = vec![
        (event(ms + HOUR_MS, "s0", "info", "in the future"), "in_future"),
        (event(ms, "s0", "loud", "no level"), "invalid_level"),
        (event(ms, "not a name", "info", "no service"), "invalid_service"),
        (event(ms, "s0", "info", &"z".repeat(300 * 1024)), "too_long"),
    ];
    for (line, level) in &counted {
        source.write_lines(3).await;
        // A line without a time takes the last one, so a good one comes before each: a JSON line, which is whole at
        // once. A line of text would be continued by it.
        stack.truth.add(cell(ms, "s0", "debug"), "time");
        source.write(&[event(ms, "s0", "debug", "the time").as_slice(), b"\n"].concat()).await;
        stack.truth.add(cell(ms, "s0", level), "strange");
        source.write(&[line.as_slice(), b"\n"].concat()).await;
    }
    for (line, _) in &rejected {
        source.write_lines(3).await;
        source.write(&[line.as_slice(), b"\n"].concat()).await;
    }
    source.write(b"\n\r\n   \n\0\0\0\0\n").await;
    source.write_lines(3).await;
    // Events of several lines count once.
    for _ in 0..3 {
        stack.truth.add(cell(ms, "s0", "error"), "trace");
        source
            .write(format!("{time} ERROR it broke\njava.lang.Exception: x\n\tat A.b(A.java:7)\n").as_bytes())
            .await;
    }

    let agent = stack.add_agent(AgentSpec { collector: url, paths: vec![path], ..Default::default() });
    let state_dir = agent.state_dir.clone();
    agent.process.start();
    stack.assert_exact(LIMIT, true).await;
    let rejects = rejects(&state_dir);
    for (_, code) in &rejected {
        let found =
            rejects.iter().filter(|reject| reject.to_string().contains(&format!("\"{code}\""))).count();
        assert_eq!(found, 1, "{code}: {rejects:?}");
    }
    assert_eq!(rejects.len(), rejected.len(), "{rejects:?}");
}

/// A line of 1 GiB: memory stays bounded, the rejects file says why and where, and its neighbours are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_1_gib_is_passed_over_in_bounded_memory() {
    const LENGTH: u64 = 1 << 30;
    let mut stack = Stack::with_services("huge-line", &[], 1).await;
    let url = format!("http://{}", stack.collectors[0].listen);
    let mut source = Source::file(0, &stack.apps(), 1, stack.truth.clone());
    let path = source.path().to_owned();
    let paths = vec![path.display().to_string()];
    let agent = stack.add_agent(AgentSpec { collector: url, paths, ..Default::default() });
    let state_dir = agent.state_dir.clone();
    agent.process.start();

    source.write_lines(100).await;
    let begin = std::fs::metadata(&path).unwrap().len();
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..LENGTH / MIB {
        file.write_all(&piece).unwrap();
    }
    file.write_all(b"\n").unwrap();
    source.write_lines(100).await;

    let verdict = stack.drained(Duration::from_secs(90)).await;
    assert!(verdict.is_equal(), "{verdict}");
    let peak = stack.agents[0].process.peak_rss();
    println!("the agent's peak: {} MiB", peak / MIB);
    assert!(peak < 64 * MIB, "the agent has held {} MiB", peak / MIB);
    let rejects = rejects(&state_dir);
    assert_eq!(rejects.len(), 1, "{rejects:?}");
    let text = rejects[0].to_string();
    assert!(text.contains("\"too_long\"") && text.len() < 4096, "{text:.500}");
    let end = begin + LENGTH;
    let range = [begin, end].map(|place| text.contains(&place.to_string()));
    let length = text.contains(&LENGTH.to_string()) || text.contains(&(end + 1).to_string());
    assert!(range[0] && (range[1] || length), "bytes {begin} to {end} are not in {text}");
    stack.assert_exact(LIMIT, true).await;
}
