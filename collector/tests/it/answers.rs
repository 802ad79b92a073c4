//! What each request is answered, and what of it reaches the queue.

use crate::common::http::get;
use crate::common::redis::Redis;
use crate::common::{
    BATCH, GZIP, JSON, NDJSON, Running, ZSTD, event, event_at, events, gzip, now_ms, wait_for, zstd,
};

type Header<'a> = (&'a str, &'a str);

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_zstd_body_stands_in_the_queue_byte_for_byte() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let name = format!("{BATCH}/41");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    // CRLF, a blank line and no final newline stay as they are.
    let body = zstd(format!("{}\r\n\n{}", event("one"), event("two")).as_bytes());
    let before = now_ms();
    let headers =
        [NDJSON, ZSTD, ("Logweir-Batch", &name), ("Logweir-Agent", "agent-1"), ("traceparent", trace)];
    let answer = collector.post(&headers, &body).await;
    assert_eq!(answer.accepted(), (name, 2, vec![]));
    assert_eq!(answer.header("logweir-pressure"), Some("0.00"));

    let entries = redis.entries();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entry["body"], body);
    for (field, value) in [
        ("v", "1"),
        ("agent", "agent-1"),
        ("producer", BATCH),
        ("seq", "41"),
        ("events", "2"),
        ("enc", "zstd"),
        ("traceparent", trace),
    ] {
        assert_eq!(text(&entry[field]), value, "{field}");
    }
    assert!(!entry.contains_key("skip"));
    let at: i64 = text(&entry["at"]).parse().unwrap();
    assert!((before..=now_ms()).contains(&at));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_takes_no_good_line_down() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let now = now_ms();
    let (a, b) = (event("a"), event("b"));
    let lines = [
        a.clone(),
        "nonsense".to_owned(),
        "17".to_owned(),
        r#"{"service":"api","level":"info","message":""}"#.to_owned(),
        format!(r#"{{"timestamp":{now},"service":"api","service":"b","level":"info","message":""}}"#),
        r#"{"timestamp":true,"service":"api","level":"info","message":""}"#.to_owned(),
        event_at(now + 3_600_000, "later"),
        event_at(now - 91 * 86_400_000, "ancient"),
        event("x").replace("\"api\"", "17"),
        event("x").replace("\"info\"", "\"loud\""),
        event("x").replace("\"x\"", "[]"),
        event("x").replace('}', r#","trace_id":"XYZ"}"#),
        event("x").replace('}', r#","attributes":[]}"#),
        event("x").replace('}', &format!(r#","more":{}1{}}}"#, "[".repeat(32), "]".repeat(32))),
        event(&"x".repeat(256 << 10)),
        b.clone(),
    ];
    let mut body = lines.join("\n").into_bytes();
    // Bytes that are no UTF-8, and a raw NUL.
    body.extend_from_slice(b"\n{\"message\":\"\xff\"}\n{\"message\":\"\0\"}\n");
    let codes = [
        "not_json",
        "not_object",
        "missing_field",
        "duplicate_field",
        "invalid_timestamp",
        "in_future",
        "too_old",
        "invalid_service",
        "invalid_level",
        "invalid_message",
        "invalid_trace",
        "invalid_attributes",
        "too_deep",
        "too_long",
    ];
    let mut expected: Vec<(u64, String)> = (1..).zip(codes.map(str::to_owned)).collect();
    expected.extend([(16, "not_json".to_owned()), (17, "not_json".to_owned())]);
    let name = format!("{BATCH}/1");
    for (headers, body) in
        [(vec![NDJSON], body.clone()), (vec![NDJSON, ZSTD], zstd(&body)), (vec![NDJSON, GZIP], gzip(&body))]
    {
        let mut headers = headers;
        headers.push(("Logweir-Batch", &name));
        let answer = collector.post(&headers, &body).await;
        assert_eq!(answer.accepted(), (name.clone(), 2, expected.clone()));
    }
    let entries = redis.entries();
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        assert_eq!((text(&entry["enc"]), text(&entry["events"])), ("identity", "18"));
        assert_eq!(text(&entry["body"]), format!("{a}\n{b}\n"));
        let skip: Vec<u64> = text(&entry["skip"])
            .split(|c: char| !c.is_ascii_digit())
            .filter(|s| !s.is_empty())
            .map(|s| s.parse().unwrap())
            .collect();
        assert_eq!(skip, expected.iter().map(|(index, _)| *index).collect::<Vec<_>>());
    }
    assert!((collector.metric("logweir_collector_events_accepted_total").await - 6.0).abs() < 0.1);
    let rejected = collector.metric("logweir_collector_events_rejected_total{reason=\"too_long\"}").await;
    assert!((rejected - 3.0).abs() < 0.1, "{rejected}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_taken_as_one_event_or_as_an_array() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let pretty = event("a").replace(',', ",\n  ");
    let one = collector.post(&[("Content-Type", "application/json; charset=utf-8")], pretty.as_bytes()).await;
    let (first, accepted, _) = one.accepted();
    assert_eq!(accepted, 1);
    let array = format!("[{}, 17,\n{}]", event("b"), event("c"));
    let (second, accepted, rejected) = collector.post(&[JSON], array.as_bytes()).await.accepted();
    assert_eq!((accepted, rejected), (2, vec![(1, "not_object".to_owned())]));
    // Without an identity the collector numbers the events.
    let (producer, seq) = first.split_once('/').unwrap();
    assert_eq!(seq, "1");
    assert_eq!(second, format!("{producer}/2"));
    let (third, ..) = collector.post(&[JSON], event("d").as_bytes()).await.accepted();
    assert_eq!(third, format!("{producer}/5"));
    let entries = redis.entries();
    assert_eq!(text(&entries[0]["body"]).lines().count(), 1);
    assert_eq!(
        text(&entries[1]["body"]),
        format!("{}\n{}\n", event_of(&entries[1], 0), event_of(&entries[1], 1))
    );
    assert_eq!(text(&entries[0]["agent"]), "127.0.0.1");
    collector.stop().await;
}

fn event_of(entry: &crate::common::redis::Entry, line: usize) -> String {
    text(&entry["body"]).lines().nth(line).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_told_what_is_wrong() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let good = events(3);
    let whole = zstd(good.as_bytes());
    let zipped = gzip(good.as_bytes());
    let last = format!("{BATCH}/9223372036854775805");
    let name = format!("{BATCH}/1");
    let batch = |value| ("Logweir-Batch", value);
    let cases: [(Vec<Header<'_>>, &[u8], &str); 15] = [
        (vec![NDJSON], b"", "empty"),
        (vec![JSON], b"", "empty"),
        (vec![NDJSON], b"\r\n \n", "event"),
        (vec![JSON], b"[]", "empty"),
        (vec![JSON], b"{\"a\":", "JSON"),
        (vec![JSON], b"hello", "JSON"),
        (vec![NDJSON, ZSTD], &whole[..whole.len() - 3], "zstd"),
        (vec![NDJSON, ZSTD], good.as_bytes(), "zstd"),
        (vec![NDJSON, GZIP], &zipped[..zipped.len() - 3], "gzip"),
        (vec![NDJSON, GZIP], b"", "empty"),
        (vec![NDJSON, batch("1")], good.as_bytes(), "Logweir-Batch"),
        (vec![NDJSON, batch(&last)], good.as_bytes(), "Logweir-Batch"),
        (vec![NDJSON, batch(&name), ("Idempotency-Key", "k")], good.as_bytes(), "Idempotency-Key"),
        (vec![NDJSON, ("Idempotency-Key", "a b")], good.as_bytes(), "Idempotency-Key"),
        (vec![NDJSON, ("Logweir-Agent", "a b")], good.as_bytes(), "Logweir-Agent"),
    ];
    for (headers, body, word) in cases {
        let detail = collector.post(&headers, body).await.problem(400, "malformed");
        assert!(detail.contains(word), "{detail}");
    }
    // Cut off by the client, which still listens.
    let mut client = collector.client().await;
    client.head(&[NDJSON], 1_000).await;
    client.send(good.as_bytes().split_at(50).0).await;
    client.end().await;
    let detail = client.answer().await.problem(400, "malformed");
    assert!(detail.contains("cut off"), "{detail}");
    assert!(redis.entries().is_empty());
    // The next request of a connection is not hurt by a malformed one before it.
    let mut client = collector.client().await;
    client.post(&[NDJSON], b"\n").await.problem(400, "malformed");
    client.post(&[NDJSON], good.as_bytes()).await.accepted();
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_methods_types_and_encodings() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    for path in ["/", "/v1", "/v1/events/", "/v1/eventsx", "/metrics", "/healthz", "/readyz"] {
        get(collector.public, path).await.problem(404, "not_found");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let mut client = collector.client().await;
        client.request(&format!("{method} /v1/events"), &[], None).await;
        let answer = client.answer().await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let mut client = collector.client().await;
    client.send(b"HEAD /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let mut raw = Vec::new();
    client.read_rest(&mut raw).await;
    let raw = text(&raw).to_lowercase();
    assert!(
        raw.starts_with("http/1.1 405 ") && raw.contains("allow: post") && raw.ends_with("\r\n\r\n"),
        "{raw}"
    );

    let body = events(1);
    for headers in [vec![], vec![("Content-Type", "text/plain")], vec![NDJSON, JSON]] {
        let detail = collector.post(&headers, body.as_bytes()).await.problem(415, "unsupported");
        assert!(detail.contains("application/x-ndjson"), "{detail}");
    }
    for encodings in [vec!["br"], vec!["gzip, zstd"], vec!["gzip", "zstd"]] {
        let mut headers = vec![NDJSON];
        headers.extend(encodings.iter().map(|e| ("Content-Encoding", *e)));
        let detail = collector.post(&headers, body.as_bytes()).await.problem(415, "unsupported");
        assert!(detail.contains("zstd"), "{detail}");
    }
    let answer = collector.post(&[NDJSON], b"1\n{}\n").await;
    answer.problem(422, "all_rejected");
    let expected = [(0, "not_object".to_owned()), (1, "missing_field".to_owned())];
    assert_eq!(answer.rejected(), expected);
    assert!(redis.entries().is_empty());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_at_its_limit() {
    let redis = Redis::start();
    let flags = [
        "--max-wire-bytes=64KiB",
        "--max-batch-bytes=128KiB",
        "--max-batch-events=100",
        "--max-event-bytes=4KiB",
    ];
    let collector = Running::start(&redis, &flags).await;
    // Declared: refused before a byte of it is sent.
    let mut client = collector.client().await;
    client.head(&[NDJSON, ("Expect", "100-continue")], 65_537).await;
    let answer = client.answer().await;
    answer.problem(413, "too_large");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    // Not declared: cut off at the limit.
    let mut client = collector.client().await;
    client.request("POST /v1/events", &[NDJSON, ("Transfer-Encoding", "chunked")], None).await;
    let chunk = format!("{:x}\r\n{}\r\n", 30_000, "x".repeat(30_000));
    for _ in 0..3 {
        client.send(chunk.as_bytes()).await;
    }
    client.answer().await.problem(413, "too_large");
    // Small on the wire: decoding stops at the limit.
    let bomb = vec![b'\n'; 4 << 20];
    for (encoding, body) in [(ZSTD, zstd(&bomb)), (GZIP, gzip(&bomb))] {
        assert!(body.len() < 64 << 10);
        let detail = collector.post(&[NDJSON, encoding], &body).await.problem(413, "too_large");
        assert!(detail.contains("131072"), "{detail}");
    }
    for (kind, body) in [(NDJSON, "{}\n".repeat(101)), (JSON, format!("[{}]", vec!["{}"; 101].join(",")))] {
        let detail = collector.post(&[kind], body.as_bytes()).await.problem(413, "too_large");
        assert!(detail.contains("100 events"), "{detail}");
    }
    // The limits themselves are allowed, and one long event is rejected alone.
    let just = events(99) + &event(&"x".repeat(4 << 10));
    let (_, accepted, rejected) = collector.post(&[NDJSON], just.as_bytes()).await.accepted();
    assert_eq!((accepted, rejected), (99, vec![(99, "too_long".to_owned())]));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_limited() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let long = "x".repeat(17 << 10);
    collector.post(&[NDJSON, ("X-Long", &long)], b"{}").await.problem(431, "headers_too_large");
    // Far beyond: cut off by the parser.
    let endless = "x".repeat(200 << 10);
    let mut client = collector.client().await;
    client.send(b"POST /v1/events HTTP/1.1\r\nX-Long: ").await;
    client.send(endless.as_bytes()).await;
    assert_eq!(client.answer().await.status, 431);
    let mut client = collector.client().await;
    client.send(b"nonsense\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_enqueued_once_and_answered_alike_by_every_collector() {
    let redis = Redis::start();
    let flags = ["--max-idempotency-keys=2"];
    let collectors = [Running::start(&redis, &flags).await, Running::start(&redis, &flags).await];
    let body = format!("{}\n17\n{}\n", event("a"), event("b"));
    let post = async |n: usize, agent: &str, key: &str| {
        let headers = [NDJSON, ("Logweir-Agent", agent), ("Idempotency-Key", key)];
        collectors[n].post(&headers, body.as_bytes()).await
    };
    let first = post(0, "a", "order-1").await;
    first.accepted();
    for n in [0, 1, 0] {
        let again = post(n, "a", "order-1").await;
        again.accepted();
        assert_eq!(again.body, first.body);
    }
    assert_eq!(redis.entries().len(), 1);
    // The same key of another agent is another key.
    let (other, ..) = post(1, "b", "order-1").await.accepted();
    assert_ne!(other, first.accepted().0);
    assert_eq!(redis.entries().len(), 2);
    post(0, "c", "order-1").await.problem(503, "overloaded");
    assert_eq!(post(0, "a", "order-1").await.body, first.body);
    assert_eq!(redis.entries().len(), 2);
    for collector in collectors {
        collector.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_outlives_the_collector_and_redis_and_ends_with_its_window() {
    let mut redis = Redis::start();
    let flags = ["--idempotency-window=3s"];
    let keyed = [NDJSON, ("Logweir-Agent", "a"), ("Idempotency-Key", "order-1")];
    let body = format!("{}\n17\n", event("a"));
    let collector = Running::start(&redis, &flags).await;
    let first = collector.post(&keyed, body.as_bytes()).await;
    first.accepted();
    collector.stop().await;
    redis.kill();
    redis.restart();
    let collector = Running::start(&redis, &flags).await;
    // What is posted now doesn't matter: the key says that it is the same.
    let again = collector.post(&keyed, event("other").as_bytes()).await;
    again.accepted();
    assert_eq!((again.body, redis.entries().len()), (first.body.clone(), 1));
    wait_for("the window's end", async || {
        (collector.post(&keyed, body.as_bytes()).await.body != first.body).then_some(())
    })
    .await;
    assert_eq!(redis.entries().len(), 2);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_batch_twice_is_two_entries_of_one_identity() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let name = format!("{BATCH}/7");
    let body = events(2);
    for _ in 0..2 {
        let answer = collector.post(&[NDJSON, ("Logweir-Batch", &name)], body.as_bytes()).await;
        assert_eq!(answer.accepted().0, name);
    }
    let entries = redis.entries();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|e| text(&e["seq"]) == "7" && text(&e["producer"]) == BATCH));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_on_many_connections_are_all_in_the_queue() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let mut posters = tokio::task::JoinSet::new();
    for agent in 0..16 {
        let mut client = collector.client().await;
        posters.spawn(async move {
            for n in 0..10 {
                let body = events(1 + (agent * n) % 300);
                let body = if n % 2 == 0 { zstd(body.as_bytes()) } else { gzip(body.as_bytes()) };
                let encoding = if n % 2 == 0 { ZSTD } else { GZIP };
                client.post(&[NDJSON, encoding], &body).await.accepted();
            }
        });
    }
    posters.join_all().await;
    let entries = redis.entries();
    assert_eq!(entries.len(), 160);
    // No number was given twice.
    let mut ranges: Vec<(u64, u64)> = entries
        .iter()
        .map(|e| (text(&e["seq"]).parse().unwrap(), text(&e["events"]).parse().unwrap()))
        .collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{ranges:?}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_gets_its_first_answer_although_its_events_are_too_old_by_now() {
    let redis = Redis::start();
    let flags = ["--max-event-age=1s"];
    let (first, second) = (Running::start(&redis, &flags).await, Running::start(&redis, &flags).await);
    let body = event("a");
    let keyed = [NDJSON, ("Idempotency-Key", "k")];
    let answer = first.post(&keyed, body.as_bytes()).await;
    answer.accepted();
    wait_for("the event to be too old", async || {
        (first.post(&[NDJSON], body.as_bytes()).await.status == 422).then_some(())
    })
    .await;
    for collector in [&first, &second] {
        let again = collector.post(&keyed, body.as_bytes()).await;
        assert_eq!((again.status, again.text()), (202, answer.text()));
        // Another key, and another agent's, are none that was answered.
        let other = [NDJSON, ("Idempotency-Key", "l")];
        collector.post(&other, body.as_bytes()).await.problem(422, "all_rejected");
        let other = [NDJSON, ("Idempotency-Key", "k"), ("Logweir-Agent", "other")];
        collector.post(&other, body.as_bytes()).await.problem(422, "all_rejected");
    }
    first.stop().await;
    second.stop().await;
}
