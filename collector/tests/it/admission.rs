//! Who is let in, in which order that is asked, and when those who aren't should come back.

use crate::common::http::{Answer, Client};
use crate::common::redis::Redis;
use crate::common::{BATCH, NDJSON, Running, ZSTD, event, events, wait_for, zstd};
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};

const EXPECT: (&str, &str) = ("Expect", "100-continue");

fn token_line(agent: &str, token: &str) -> String {
    let hash: String = Sha256::digest(token).iter().map(|b| format!("{b:02x}")).collect();
    format!("{agent} sha256:{hash}\n")
}

fn retry_after(answer: &Answer) -> Duration {
    Duration::from_millis(answer.json()["retry_after_ms"].as_u64().unwrap())
}

/// Sends headers alone, and returns the first answer: 100 when the collector wants the body.
async fn ask(collector: &Running, headers: &[(&str, &str)]) -> (Client, Answer) {
    let mut client = collector.client().await;
    let mut all = vec![EXPECT];
    all.extend(headers);
    client.head(&all, 1_000).await;
    let answer = client.answer().await;
    (client, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_token_makes_the_collector_read_a_body() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, token_line("api-1", "one")).unwrap();
    let flags = ["--tokens", file.to_str().unwrap()];
    let collector = Running::start(&redis, &flags).await;

    let wrong = [("Authorization", "Bearer two")];
    let mismatch = [("Authorization", "Bearer one"), ("Logweir-Agent", "web-1")];
    for headers in [&[][..], &wrong[..]] {
        // The type and the encoding are wrong as well; nobody looks at them yet.
        let mut all = vec![("Content-Type", "text/plain"), ("Content-Encoding", "br")];
        all.extend(headers);
        let (mut client, answer) = ask(&collector, &all).await;
        answer.problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_closed().await);
    }
    let (_, answer) = ask(&collector, &mismatch).await;
    answer.problem(403, "forbidden");
    // A client that sends its large body anyway sees the answer, and not a reset.
    for _ in 0..5 {
        let answer = collector.post(&[NDJSON, wrong[0]], &vec![b'x'; 3 << 20]).await;
        answer.problem(401, "unauthenticated");
    }
    let right = [NDJSON, ("Authorization", "Bearer one"), ("Logweir-Agent", "api-1")];
    let (mut client, answer) = ask(&collector, &right).await;
    assert_eq!(answer.status, 100);
    client.send(format!("{:1000}", event("a")).as_bytes()).await;
    client.answer().await.accepted();
    assert_eq!(redis.entries()[0]["agent"], b"api-1");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_file_is_read_again_and_a_broken_one_changes_nothing() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, token_line("api-1", "one")).unwrap();
    let collector = Running::start(&redis, &["--tokens", file.to_str().unwrap()]).await;
    let status = async |token: &str| {
        let header = format!("Bearer {token}");
        collector.post(&[NDJSON, ("Authorization", &header)], event("a").as_bytes()).await.status
    };
    assert_eq!((status("one").await, status("two").await), (202, 401));
    // A broken file: still the old tokens.
    std::fs::write(&file, token_line("api-1", "two") + "nonsense\n").unwrap();
    wait_for("the broken file to be seen", async || {
        (collector.metric("logweir_collector_tokens_file_errors_total").await > 0.5).then_some(())
    })
    .await;
    assert_eq!((status("one").await, status("two").await), (202, 401));
    std::fs::write(&file, token_line("api-1", "two") + &token_line("web-1", "three")).unwrap();
    wait_for("the new token", async || (status("two").await == 202).then_some(())).await;
    assert_eq!((status("one").await, status("three").await), (401, 202));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_before_the_body_and_says_when_to_come_back() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--max-queue-entries=4"]).await;
    let mut pressures = Vec::new();
    for _ in 0..4 {
        let answer = collector.post(&[NDJSON], event("a").as_bytes()).await;
        answer.accepted();
        pressures.push(answer.header("logweir-pressure").unwrap().to_owned());
    }
    assert_eq!(pressures, ["0.25", "0.50", "0.75", "1.00"]);
    // After authentication, before type, encoding and length are looked at, and without a 100.
    let (mut client, answer) = ask(&collector, &[("Content-Type", "text/plain")]).await;
    answer.problem(503, "queue_full");
    assert!(client.is_closed().await);
    // Nothing drains, so the time is a guess of some seconds, not the same for all.
    let mut times = Vec::new();
    for agent in ["a", "b", "c", "d"] {
        let answer = collector.post(&[NDJSON, ("Logweir-Agent", agent)], event("a").as_bytes()).await;
        answer.problem(503, "queue_full");
        times.push(retry_after(&answer));
    }
    assert!(times.iter().all(|t| (2_000..=4_000).contains(&t.as_millis())), "{times:?}");
    times.dedup();
    assert!(times.len() > 1, "{times:?}");
    redis.drain(2);
    wait_for("room", async || {
        (collector.post(&[NDJSON], event("a").as_bytes()).await.status == 202).then_some(())
    })
    .await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_in_bytes_holds_as_well() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--max-queue-bytes=1KiB"]).await;
    // One batch may pass the limit, the next is refused.
    let body =
        zstd(&(0..500).map(|n| event(&format!("{:x}", n * 7_919)) + "\n").collect::<String>().into_bytes());
    assert!(body.len() > 1_024);
    collector.post(&[NDJSON, ZSTD], &body).await.accepted();
    collector.post(&[NDJSON, ZSTD], &body).await.problem(503, "queue_full");
    assert_eq!(redis.entries().len(), 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_held_while_room_is_near() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--max-queue-entries=20", "--hold=5s"]).await;
    // A worker that finishes an entry each 50 ms.
    let worker = async {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            redis.drain(1);
        }
    };
    // An agent that sends as fast as it is let; once the drain rate is known, it is held and not refused.
    let agent = async {
        let mut client = collector.client().await;
        let (mut taken, mut refused) = (0, 0);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(2_800) {
            match client.post(&[NDJSON], event("a").as_bytes()).await.status {
                202 => taken += 1,
                503 => {
                    refused += 1;
                    client = collector.client().await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                status => panic!("{status}"),
            }
        }
        (taken, refused)
    };
    let ((), (taken, refused)) = tokio::join!(worker, agent);
    assert!(taken >= 40, "{taken} taken, {refused} refused");
    let held = collector.metric("logweir_collector_held_total").await;
    assert!(held >= 5.0, "{held} held, {taken} taken, {refused} refused");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_tells_the_truth() {
    let redis = Redis::start();
    let flags = ["--rate=100", "--burst=50", "--hold=0s"];
    let collector = Running::start(&redis, &flags).await;
    let headers = [NDJSON, ("Logweir-Agent", "api-1")];
    let body = events(40);
    let mut client = collector.client().await;
    client.post(&headers, body.as_bytes()).await.accepted();
    let mut second_tries = 0;
    for _ in 0..4 {
        let answer = client.post(&headers, body.as_bytes()).await;
        answer.problem(429, "rate_limited");
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"events\";q=50;w=1, \"bytes\";q=134217728;w=2;qu=\"content-bytes\"")
        );
        let left = answer.header("ratelimit").unwrap();
        assert!(left.starts_with("\"events\";r=") && left.contains(";t=1, \"bytes\";r="), "{left}");
        let wait = retry_after(&answer);
        assert!((100..=460).contains(&wait.as_millis()), "{wait:?}");
        // Another agent isn't held up by this one.
        collector.post(&[NDJSON, ("Logweir-Agent", "web-1")], event("a").as_bytes()).await.accepted();
        tokio::time::sleep(wait).await;
        if client.post(&headers, body.as_bytes()).await.status == 202 {
            second_tries += 1;
        }
    }
    assert_eq!(second_tries, 4);
    // A batch larger than the burst is taken on credit.
    let large = events(200);
    let answer = client.post(&headers, large.as_bytes()).await;
    tokio::time::sleep(retry_after(&answer)).await;
    client.post(&headers, large.as_bytes()).await.accepted();
    let answer = client.post(&headers, event("a").as_bytes()).await;
    assert!(retry_after(&answer) >= Duration::from_millis(1_400), "150 are owed");
    // Nobody vouches for the ID, so it is no label.
    let limited = collector.metric("logweir_collector_rate_limited_total{agent=\"other\"}").await;
    assert!(limited >= 5.0, "{limited}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_held_for_its_quota_and_the_status_can_be_503() {
    let redis = Redis::start();
    let flags = ["--rate=100", "--burst=50", "--hold=1s", "--quota-status=503", "--max-holding=1"];
    let collector = Running::start(&redis, &flags).await;
    let body = events(50);
    let mut client = collector.client().await;
    client.post(&[NDJSON], body.as_bytes()).await.accepted();
    let begun = Instant::now();
    client.post(&[NDJSON], body.as_bytes()).await.accepted();
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    // One may wait; the other is refused at once, and told of the time that the first one takes too.
    let begun = Instant::now();
    let (mut a, mut b) = (collector.client().await, collector.client().await);
    let (first, second) =
        tokio::join!(a.post(&[NDJSON], body.as_bytes()), b.post(&[NDJSON], body.as_bytes()));
    let (held, refused) = if first.status == 202 { (first, second) } else { (second, first) };
    held.accepted();
    refused.problem(503, "rate_limited");
    assert!(begun.elapsed() < Duration::from_secs(1));
    // What would need longer than --hold is refused at once.
    collector.post(&[NDJSON], events(500).as_bytes()).await;
    let begun = Instant::now();
    collector.post(&[NDJSON], event("a").as_bytes()).await.problem(503, "rate_limited");
    assert!(begun.elapsed() < Duration::from_millis(300));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_memory_in_hand_are_limited() {
    let redis = Redis::start();
    let flags = [
        "--max-in-flight=2",
        "--max-in-flight-bytes=351KiB",
        "--max-batch-events=1",
        "--max-wire-bytes=200KiB",
        "--max-batch-bytes=50KiB",
    ];
    let collector = Running::start(&redis, &flags).await;
    let mut slow = Vec::new();
    for agent in ["a", "b"] {
        let (client, answer) = ask(&collector, &[NDJSON, ("Logweir-Agent", agent)]).await;
        assert_eq!(answer.status, 100);
        slow.push(client);
    }
    collector.post(&[NDJSON], event("a").as_bytes()).await.problem(503, "overloaded");
    let mut client = slow.pop().unwrap();
    client.send(format!("{:1000}", event("a")).as_bytes()).await;
    client.answer().await.accepted();
    // The other one still holds its place, and has reserved next to nothing. Two bodies that come slowly take
    // the memory as they come.
    drop(slow);
    wait_for("a free place", async || {
        (collector.post(&[NDJSON], event("a").as_bytes()).await.status == 202).then_some(())
    })
    .await;
    let mut large = Vec::new();
    for _ in 0..2 {
        let mut client = collector.client().await;
        client.head(&[NDJSON], 200 << 10).await;
        client.send(&vec![b'\n'; 150 << 10]).await;
        large.push(client);
    }
    // Each has reserved 192 KiB by now or will; the rest of one of them no longer fits.
    let body = vec![b'\n'; 50 << 10];
    let (first, second) = large.split_at_mut(1);
    first[0].send(&body).await;
    second[0].send(&body).await;
    let statuses = [first[0].answer().await, second[0].answer().await].map(|a| a.status);
    assert!(statuses.contains(&503), "{statuses:?}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_clients_are_cut_off() {
    let redis = Redis::start();
    let flags = ["--body-timeout=300ms", "--header-timeout=300ms"];
    let collector = Running::start(&redis, &flags).await;
    let mut client = collector.client().await;
    client.head(&[NDJSON], 100).await;
    client.send(b"{").await;
    let answer = client.answer().await;
    answer.problem(408, "too_slow");
    assert_eq!(answer.header("connection"), Some("close"));
    for beginning in ["", "POST /v1/events HTTP/1.1\r\nHost: x\r\n"] {
        let mut client = collector.client().await;
        client.send(beginning.as_bytes()).await;
        assert!(client.is_closed().await);
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_and_further_ones_wait() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--max-connections=2"]).await;
    let mut first = collector.client().await;
    let mut second = collector.client().await;
    for client in [&mut first, &mut second] {
        client.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    }
    let mut third = collector.client().await;
    third.head(&[NDJSON], 0).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), third.answer()).await.is_err());
    drop(first);
    third.answer().await.problem(400, "malformed");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_new_requests_are_sent_away_and_those_in_hand_finish() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let mut idle = collector.client().await;
    idle.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    let name = format!("{BATCH}/1");
    let (mut in_hand, answer) = ask(&collector, &[NDJSON, ("Logweir-Batch", &name)]).await;
    assert_eq!(answer.status, 100);
    collector.begin_stop();
    let reason = collector.ready(false).await;
    assert!(reason.contains("draining"), "{reason}");
    // On a new connection and on an old one; before the body.
    let (_, answer) = ask(&collector, &[("Content-Type", "text/plain")]).await;
    answer.problem(503, "draining");
    let answer = idle.post(&[NDJSON], event("b").as_bytes()).await;
    answer.problem(503, "draining");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(idle.is_closed().await);
    in_hand.send(format!("{:1000}", event("c")).as_bytes()).await;
    let answer = in_hand.answer().await;
    assert_eq!(answer.accepted().0, name);
    assert_eq!(answer.header("connection"), Some("close"));
    collector.stop().await;
    assert_eq!(redis.entries().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_told_its_limits_and_quota() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, token_line("api-1", "one")).unwrap();
    let flags = ["--tokens", file.to_str().unwrap(), "--rate=100", "--burst=150", "--max-batch-events=7"];
    let collector = Running::start(&redis, &flags).await;
    let ask = async |line: &str, headers: &[(&str, &str)]| {
        let mut client = collector.client().await;
        client.request(line, headers, None).await;
        client.answer().await
    };
    let right = ("Authorization", "Bearer one");
    ask("GET /v1/limits", &[]).await.problem(401, "unauthenticated");
    let answer = ask("GET /v1/limits", &[right]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let expected = serde_json::json!({
        "agent": "api-1",
        "limits": {"event_bytes": 262_144, "batch_events": 7, "decoded_bytes": 8_388_608, "wire_bytes": 4_194_304},
        "quota": {
            "events": {"rate": 100, "burst": 150},
            "bytes": {"rate": 67_108_864, "burst": 134_217_728}
        },
        "window": {"max_age_ms": 7_776_000_000_i64, "max_ahead_ms": 600_000},
        "encodings": ["zstd", "gzip", "identity"],
        "content_types": ["application/x-ndjson", "application/json"],
    });
    assert_eq!(answer.json(), expected);
    let answer = ask("POST /v1/limits", &[right]).await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    collector.stop().await;
}
