//! Settings that don't give what `--ack` promises, and replicas.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{Ack, Enqueued, QueueError};
use std::time::{Duration, Instant};
use support::{DEADLINE, ROOMY, Server, add, entry, eventually, patient_queue_at, queue_at};
use tokio::task::JoinSet;

const GRACE: Duration = Duration::from_millis(600);

async fn unfit(queue: &logweir_queue::Queue) -> String {
    match queue.check().await {
        Err(QueueError::Unfit(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_durable_redis_is_fit_and_says_its_version() {
    let server = Server::start().await;
    let info = server.queue().check().await.unwrap();
    assert!(info.version.split('.').count() >= 3, "{info:?}");
    assert!(info.warnings.is_empty(), "{info:?}");
}

#[tokio::test]
async fn unfit_settings_are_named_and_nothing_is_taken_until_they_are_mended() {
    let server = Server::start_with(&[
        "--appendonly",
        "no",
        "--appendfsync",
        "no",
        "--maxmemory-policy",
        "allkeys-lru",
    ])
    .await;
    let queue = server.queue();
    let why = unfit(&queue).await;
    for part in ["appendonly yes", "appendfsync always", "maxmemory-policy noeviction", "redis.conf"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let refused = queue.enqueue(&entry(1, b"x"), ROOMY, None).await.unwrap_err();
    assert!(matches!(&refused, QueueError::Unfit(said) if *said == why), "{refused:?}");
    assert!(matches!(queue.depth().await, Err(QueueError::Unfit(_))));
    assert_eq!(server.say::<u64>("DBSIZE").await, 0);
    for mend in ["appendonly yes", "appendfsync always", "maxmemory-policy noeviction"] {
        server.say::<()>(&format!("CONFIG SET {mend}")).await;
    }
    // Without a restart, and without asking for the check.
    let added = eventually(async || queue.enqueue(&entry(1, b"x"), ROOMY, None).await).await;
    assert!(matches!(added, Enqueued::Added { .. }));
}

#[tokio::test]
async fn a_setting_that_is_lost_later_is_noticed_by_the_next_check() {
    let server = Server::start().await;
    let queue = server.queue();
    add(&queue, 1, b"x").await;
    server.say::<()>("CONFIG SET appendfsync no").await;
    assert!(unfit(&queue).await.contains("appendfsync is `no`"));
    let refused = queue.enqueue(&entry(4, b"x"), ROOMY, None).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unfit(_)), "{refused:?}");
    server.say::<()>("CONFIG SET appendfsync always").await;
    queue.check().await.unwrap();
    add(&queue, 4, b"x").await;
}

#[tokio::test]
async fn a_restart_with_worse_settings_is_noticed_before_anything_is_taken() {
    let mut server = Server::start_with(&[]).await;
    server.say::<()>("CONFIG SET appendonly yes").await;
    server.say::<()>("CONFIG SET appendfsync always").await;
    let queue = server.queue();
    eventually(async || queue.check().await).await;
    add(&queue, 1, b"x").await;
    // Nobody wrote it into redis.conf.
    server.restart().await;
    let refused = eventually(async || match queue.enqueue(&entry(4, b"x"), ROOMY, None).await {
        Err(QueueError::Unfit(why)) => Ok(why),
        other => Err(other),
    });
    assert!(refused.await.contains("appendonly"));
    assert_eq!(server.say::<u64>("EXISTS logweir:{0}:queue").await, 0);
}

#[tokio::test]
async fn while_the_first_append_only_file_is_written_nothing_is_taken() {
    let server = Server::start_with(&["--appendfsync", "always", "--enable-debug-command", "local"]).await;
    // Each key slows the rewrite down by 10 ms.
    server.say::<()>("CONFIG SET rdb-key-save-delay 10000").await;
    server.say::<()>("DEBUG POPULATE 200").await;
    server.say::<()>("CONFIG SET appendonly yes").await;
    let queue = server.queue();
    assert!(unfit(&queue).await.contains("passes by itself"));
    server.say::<()>("CONFIG SET rdb-key-save-delay 0").await;
    eventually(async || queue.check().await).await;
    add(&queue, 1, b"x").await;
}

#[tokio::test]
async fn a_rewrite_later_on_is_no_reason_to_refuse() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "local"];
    let server = Server::start_with(&durable).await;
    server.say::<redis::Value>("BGREWRITEAOF").await;
    eventually(async || {
        let info: String = server.say("INFO persistence").await;
        if info.contains("aof_rewrite_in_progress:0") { Ok(()) } else { Err(info) }
    })
    .await;
    server.say::<()>("CONFIG SET rdb-key-save-delay 10000").await;
    server.say::<()>("DEBUG POPULATE 200").await;
    server.say::<redis::Value>("BGREWRITEAOF").await;
    let queue = server.queue();
    queue.check().await.unwrap();
    add(&queue, 1, b"x").await;
}

#[tokio::test]
async fn memory_takes_redis_as_it_is_and_says_the_price() {
    let server = Server::start_with(&["--appendonly", "no"]).await;
    let queue = server.queue_with(Ack::Memory);
    let info = queue.check().await.unwrap();
    assert!(info.warnings[0].contains("appendonly is `no`"), "{info:?}");
    add(&queue, 1, b"x").await;
}

#[tokio::test]
async fn a_user_without_config_is_told_what_to_allow() {
    let server = Server::start().await;
    server.say::<()>("ACL SETUSER weir on >pw ~logweir:* &* +@all -config").await;
    let url = format!("{}?user=weir&pass=pw", server.url());
    let queue = queue_at(&url, Ack::Fsync);
    assert!(unfit(&queue).await.contains("ACL SETUSER NAME +config|get"));
    server.say::<()>("ACL SETUSER weir +config|get").await;
    eventually(async || queue.check().await).await;
    add(&queue, 1, b"x").await;
    server.say::<()>("ACL SETUSER weir -info -config").await;
    assert!(unfit(&queue_at(&url, Ack::Fsync)).await.contains("+info"));
    server.say::<()>("ACL SETUSER weir +info").await;
    // What memory costs can't be said then, but it works.
    let memory = queue_at(&url, Ack::Memory);
    assert_eq!(memory.check().await.unwrap().warnings.len(), 1);
    add(&memory, 4, b"x").await;
    server.say::<()>("ACL SETUSER weir -evalsha -eval").await;
    let refused = memory.depth().await.unwrap_err();
    assert!(matches!(refused, QueueError::Unavailable(_)), "{refused:?}");
}

#[tokio::test]
async fn replicated_waits_for_the_replicas_together_and_says_when_they_are_too_few() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"];
    let master = Server::start_on_tcp(&durable).await;
    let port = master.port().to_string();
    let deadline = Duration::from_secs(3);
    let queue = patient_queue_at(&master.url(), Ack::Replicated { replicas: 1 }, deadline);
    let begun = Instant::now();
    let alone = queue.enqueue(&entry(1, b"x"), ROOMY, None).await.unwrap_err();
    assert!(
        matches!(alone, QueueError::Unavailable(_)) && alone.to_string().contains("0 of 1 replicas"),
        "{alone}"
    );
    assert!(begun.elapsed() < deadline + GRACE);
    // What is refused doesn't stand in the queue, however often it comes, and nobody is told to send it.
    let unready = queue.check().await.unwrap_err();
    assert!(unready.to_string().contains("0 of 1 replicas are connected"), "{unready}");
    for seq in 1..20 {
        queue.enqueue(&entry(seq, b"x"), ROOMY, None).await.unwrap_err();
    }
    assert_eq!(queue.depth().await.unwrap().entries, 0);

    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    eventually(async || queue.enqueue(&entry(4, b"x"), ROOMY, None).await).await;
    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for seq in 0..200 {
        let queue = queue.clone();
        crowd.spawn(async move { add(&queue, 100 + 3 * seq, b"body").await });
    }
    let ids = crowd.join_all().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for id in [&ids[0], &ids[199]] {
        let there: Vec<redis::Value> = replica.say(&format!("XRANGE logweir:{{0}}:queue {id} {id}")).await;
        assert_eq!(there.len(), 1, "what was acknowledged is on the replica");
    }

    replica.pause();
    let begun = Instant::now();
    let held = queue.enqueue(&entry(7, b"x"), ROOMY, None).await.unwrap_err();
    assert!(held.to_string().contains("0 of 1 replicas"), "{held}");
    assert!(begun.elapsed() < deadline + GRACE);
    // Reading and acknowledging go on meanwhile. The one that found out is in the queue, and no other.
    let entries = queue.depth().await.unwrap().entries;
    assert!(entries > 200);
    for _ in 0..3 {
        queue.enqueue(&entry(7, b"x"), ROOMY, None).await.unwrap_err();
    }
    assert_eq!(queue.depth().await.unwrap().entries, entries);
    replica.resume();
    eventually(async || queue.enqueue(&entry(10, b"x"), ROOMY, None).await).await;
}

#[tokio::test]
async fn no_replica_at_all_is_no_setting() {
    let settings =
        logweir_queue::Settings::new("redis://127.0.0.1:1", Ack::Replicated { replicas: 0 }, DEADLINE);
    assert!(matches!(logweir_queue::Queue::new(settings), Err(QueueError::Usage(_))));
}

/// On an older Redis the refusal is tested, on a newer one (`LOGWEIR_TEST_REDIS` names the binary) the waiting.
#[tokio::test]
async fn everysec_is_refused_before_7_2_and_waited_for_since() {
    let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    let queue = server.queue();
    let info = server.queue_with(Ack::Memory).check().await.unwrap();
    if info.version.starts_with("7.0") {
        assert!(unfit(&queue).await.contains("appendfsync is `everysec`"));
        return;
    }
    assert!(queue.check().await.unwrap().warnings[0].contains("everysec"));
    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for seq in 0..200 {
        let queue = queue.clone();
        crowd.spawn(async move { add(&queue, 1 + 3 * seq, b"body").await });
    }
    crowd.join_all().await;
    // Two fsyncs at most: what came too late for the first is covered by the second.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // The queue's connection itself is not blocked by the waiting.
    let (added, (depth, took)) = tokio::join!(add(&queue, 1000, b"body"), async {
        let begun = Instant::now();
        (queue.depth().await.unwrap(), begun.elapsed())
    });
    assert!(!added.0.is_empty() && depth.entries >= 200);
    assert!(took < Duration::from_millis(300), "{took:?}");
    // Mended while it runs: the next check stops the waiting.
    server.say::<()>("CONFIG SET appendfsync always").await;
    assert!(queue.check().await.unwrap().warnings.is_empty());
    let begun = Instant::now();
    for seq in 0..20 {
        add(&queue, 2000 + 3 * seq, b"body").await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
