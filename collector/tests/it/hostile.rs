//! Slow, silent and crowding clients: they are cut off, and nobody else is the worse for them.
//!
//! The same in numbers that hurt, with times: `logweir-bench hostile`.

use crate::common::http::{Client, connect_from};
use crate::common::redis::Redis;
use crate::common::{NDJSON, Running, event, wait_for};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn attackers_are_cut_off_and_good_clients_are_answered_meanwhile() {
    let redis = Redis::start();
    let flags = ["--header-timeout=3s", "--body-timeout=3s"];
    let collector = Running::start(&redis, &flags).await;
    let to = collector.public;
    let mut attackers = JoinSet::new();
    let connected = Arc::new(AtomicUsize::new(0));
    for number in 0..250 {
        let connected = Arc::clone(&connected);
        let from = format!("127.0.0.{}", 2 + number % 5);
        attackers.spawn(async move {
            let mut stream = connect_from(&from, to).await.unwrap();
            connected.fetch_add(1, Ordering::Relaxed);
            let beginning: &[u8] = match number % 5 {
                // Silent.
                0..3 => b"",
                // A header that grows letter by letter, and a body that does.
                3 => b"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Slow: ",
                _ => b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 9999\r\n\r\n",
            };
            stream.write_all(beginning).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let slowly = async {
                if number % 5 >= 3 {
                    while write.write_all(b"x").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            };
            let mut rest = Vec::new();
            let (_, ended) = tokio::join!(slowly, read.read_to_end(&mut rest));
            (number % 5, ended.is_ok(), String::from_utf8_lossy(&rest).into_owned())
        });
    }
    wait_for("the attackers", async || (connected.load(Ordering::Relaxed) == 250).then_some(())).await;
    let mut good = JoinSet::new();
    for _ in 0..4 {
        let mut client = collector.client().await;
        good.spawn(async move {
            for _ in 0..50 {
                client.post(&[NDJSON], event("good").as_bytes()).await.accepted();
            }
        });
    }
    good.join_all().await;
    // All of them hold out until the collector ends them.
    let limit = tokio::time::timeout(Duration::from_secs(20), attackers.join_all());
    for (kind, _, rest) in limit.await.expect("all are cut off") {
        assert_eq!(rest.starts_with("HTTP/1.1 408 "), kind == 4, "{kind}: {rest}");
        assert!(kind == 4 || rest.is_empty(), "{kind}: {rest}");
    }
    let cut = collector.metric("logweir_collector_connections_cut_total{reason=\"header_timeout\"}").await;
    assert!(cut >= 200.0, "{cut}");
    assert_eq!(redis.entries().len(), 200);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_requests_there_is_more_time_than_within_one() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--header-timeout=300ms", "--idle-timeout=1500ms"]).await;
    let mut client = collector.client().await;
    client.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    tokio::time::sleep(Duration::from_millis(700)).await;
    client.post(&[NDJSON], event("b").as_bytes()).await.accepted();
    let begun = std::time::Instant::now();
    assert!(client.is_closed().await);
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "{:?}", begun.elapsed());
    assert!(collector.metric("logweir_collector_connections_cut_total{reason=\"idle\"}").await < 0.5);
    // One that has begun a request is held to that.
    let mut client = collector.client().await;
    client.post(&[NDJSON], event("c").as_bytes()).await.accepted();
    client.send(b"POST /v1").await;
    let begun = std::time::Instant::now();
    assert!(client.is_closed().await);
    assert!(begun.elapsed() < Duration::from_millis(1_400), "{:?}", begun.elapsed());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_only_so_many_connections() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--max-connections-per-address=3"]).await;
    let from = async |address| connect_from(address, collector.public).await.ok().map(Client::over);
    let post = async |address, body: String| match from(address).await {
        Some(mut client) => client.try_post(&[NDJSON], body.as_bytes()).await,
        None => None,
    };
    let mut crowd = Vec::new();
    for _ in 0..3 {
        let mut client = from("127.0.0.9").await.unwrap();
        client.post(&[NDJSON], event("a").as_bytes()).await.accepted();
        crowd.push(client);
    }
    // Closed at once, before anything of it is read.
    assert!(post("127.0.0.9", event("b")).await.is_none());
    assert!((collector.metric("logweir_collector_connections_refused_total").await - 1.0).abs() < 0.1);
    post("127.0.0.10", event("c")).await.unwrap().accepted();
    for client in &mut crowd {
        client.post(&[NDJSON], event("d").as_bytes()).await.accepted();
    }
    drop(crowd.pop());
    wait_for("a place", async || post("127.0.0.9", event("e")).await).await.accepted();
    collector.stop().await;
}
