//! The harness itself: its servers survive what is done to them, and the proxy does what it says.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::client::Post;
use logweir_e2e::lines::{cell, now_ms};
use logweir_e2e::ports::free_port;
use logweir_e2e::proxy::{Faults, Proxy};
use logweir_e2e::stack::{Stack, private_dir};
use logweir_e2e::truth::Truth;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn redis_and_postgres_keep_what_they_confirmed_through_a_kill() {
    let mut stack = Stack::start("harness").await;
    let database = stack.postgres.database.clone();
    let connection = database.connect().await.unwrap();
    connection
        .client
        .batch_execute("CREATE TABLE log_counts (bucket timestamptz, service text, level text, count bigint)")
        .await
        .unwrap();
    for n in 0..3i64 {
        let connection = database.connect().await.unwrap();
        let insert = "INSERT INTO log_counts VALUES ('2026-11-24T10:03:00Z', 'api', 'info', $1)";
        connection.client.execute(insert, &[&n]).await.unwrap();
        let mut redis = stack.redis.queue.connect().await.unwrap();
        let add = redis::cmd("XADD").arg("logweir:{0}:queue").arg("*").arg("n").arg(n).to_owned();
        add.query_async::<String>(&mut redis).await.unwrap();
        stack.postgres.process.kill();
        stack.redis.process.kill();
        assert!(database.connect().await.is_err());
        assert!(stack.redis.queue.depth().await.is_err());
        stack.heal();
        database.ready().await;
        stack.redis.queue.ready().await;
    }
    let sum = "SELECT count(*), sum(count)::bigint FROM log_counts";
    let row = database.connect().await.unwrap().client.query_one(sum, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 3));
    assert_eq!(stack.redis.queue.depth().await.unwrap().queued, 3);
    assert_eq!(stack.kills(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oracle_sees_what_is_missing_and_what_is_too_much() {
    let stack = Stack::start("harness").await;
    let database = &stack.postgres.database;
    assert!(stack.drained(Duration::from_secs(1)).await.is_equal(), "nothing is equal to nothing");

    let minute = 29_000_000;
    stack.truth.add(cell(minute * 60_000, "api", "info"), "");
    let verdict = stack.drained(Duration::from_secs(1)).await;
    assert_eq!((verdict.differences[0].truth, verdict.differences[0].counted), (1, 0));

    let connection = database.connect().await.unwrap();
    let sql = format!(
        "CREATE TABLE log_counts (bucket timestamptz, service text, level text, count bigint);
         INSERT INTO log_counts VALUES (to_timestamp({}), 'api', 'info', 1)",
        minute * 60
    );
    connection.client.batch_execute(&sql).await.unwrap();
    assert!(stack.drained(Duration::from_secs(1)).await.is_equal());

    connection.client.execute("UPDATE log_counts SET count = 2", &[]).await.unwrap();
    let verdict = stack.drained(Duration::from_secs(1)).await;
    assert_eq!((verdict.differences[0].truth, verdict.differences[0].counted), (1, 2));
    assert!(verdict.to_string().contains("1 too many"), "{verdict}");
}

/// Answers each POST 202, and counts them.
async fn taker(listener: tokio::net::TcpListener, taken: Arc<std::sync::atomic::AtomicU64>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while !bytes.ends_with(b"}\n") {
            let n = stream.read(&mut buffer).await.unwrap();
            if n == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..n]);
        }
        if bytes.ends_with(b"}\n") {
            taken.fetch_add(1, Ordering::Relaxed);
            let body = r#"{"batch":"","accepted":1,"rejected":[]}"#;
            let answer = format!(
                "HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_does_what_it_says() {
    let dir = private_dir("proxy");
    let truth = Arc::new(Truth::new(dir.path()));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let taken = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut upstream = JoinSet::new();
    upstream.spawn(taker(listener, taken.clone()));
    let count = || taken.load(Ordering::Relaxed);
    let post = |lines: usize| Post::ndjson("{}\n".repeat(lines)).header("Logweir-Batch", "p/1");
    let proxy = async |faults| Proxy::start(vec![address], faults, 1, truth.clone()).await;
    let of = |proxy: &Proxy| proxy.url().strip_prefix("http://").unwrap().parse::<SocketAddr>().unwrap();

    let faithful = proxy(Faults::default()).await;
    assert_eq!(post(1).send(of(&faithful)).await.unwrap().status, 202);
    assert_eq!(count(), 1);

    let lossy = proxy(Faults { drop_answer: 1.0, too_large: 1.0, ..Faults::default() }).await;
    assert!(post(2).send(of(&lossy)).await.is_err());
    assert_eq!(count(), 2, "taken, and not answered");
    assert_eq!(post(2).send(of(&lossy)).await.unwrap().code(), "too_large");
    assert_eq!(count(), 2);
    assert!(post(1).send(of(&lossy)).await.is_err(), "a single event is never too large");
    lossy.calm();
    assert_eq!(post(1).send(of(&lossy)).await.unwrap().status, 202);

    let cutting = proxy(Faults { cut_request: 1.0, ..Faults::default() }).await;
    let before = count();
    assert!(post(1).send(of(&cutting)).await.is_err());
    assert_eq!(count(), before);

    let repeating = proxy(Faults { repeat: 1.0, ..Faults::default() }).await;
    assert_eq!(post(1).send(of(&repeating)).await.unwrap().status, 202);
    repeating.settled(Duration::from_secs(10)).await;
    assert_eq!(count(), before + 2);

    // An event that some collector takes late is in the truth as soon as it is taken, and once.
    let mut future = logweir_e2e::lines::future_line(0, 1).bytes;
    assert!(String::from_utf8_lossy(&future).contains("s0-future") && now_ms() > 0);
    future.splice(0..0, *b" ");
    for _ in 0..2 {
        assert_eq!(Post::ndjson(future.clone()).send(of(&faithful)).await.unwrap().status, 202);
    }
    assert_eq!(truth.total(|service| service == "s0-future"), 1);
}
