//! A queue of several shards.

use crate::common::redis::{Redis, Value};
use crate::common::{NDJSON, Running, event, wait_for};
use std::collections::BTreeSet;

fn length(redis: &Redis, shard: usize) -> i64 {
    match redis.command(&["XLEN", &format!("logweir:{{{shard}}}:queue")]) {
        Value::Int(length) => length,
        other => panic!("{other:?}"),
    }
}

async fn post(collector: &Running, producer: u128) -> u16 {
    let batch = format!("{:08x}-0000-0000-0000-000000000000/1", producer);
    collector.post(&[NDJSON, ("Logweir-Batch", &batch)], event("a").as_bytes()).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_shard_refuses_its_own_and_the_whole_is_counted() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--shards=4", "--max-queue-entries=8", "--hold=0s"]).await;
    let mut refused = BTreeSet::new();
    for producer in 1..=60 {
        match post(&collector, producer).await {
            202 => {}
            503 => drop(refused.insert(producer)),
            other => panic!("{other}"),
        }
    }
    assert_eq!((0..4).map(|shard| length(&redis, shard)).collect::<Vec<_>>(), [2, 2, 2, 2]);
    assert_eq!(refused.len(), 52);
    wait_for("the sum", async || {
        (collector.metric("logweir_collector_queue_entries").await == 8.0).then_some(())
    })
    .await;
    // One shard has room again: its own producers get in, and no others.
    redis.command(&["DEL", "logweir:{2}:queue"]);
    redis.command(&["DEL", "logweir:{2}:bytes"]);
    wait_for("the sum", async || {
        (collector.metric("logweir_collector_queue_entries").await == 6.0).then_some(())
    })
    .await;
    let mut taken = 0;
    for producer in refused {
        taken += usize::from(post(&collector, producer).await == 202);
    }
    assert_eq!(taken, 2);
    assert_eq!(length(&redis, 2), 2);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_is_answered_alike_by_another_collector() {
    let redis = Redis::start();
    let first = Running::start(&redis, &["--shards=4"]).await;
    let second = Running::start(&redis, &["--shards=4"]).await;
    for key in ["a", "b", "c", "d", "e"] {
        let headers = [NDJSON, ("Idempotency-Key", key)];
        let answer = first.post(&headers, event("a").as_bytes()).await.text();
        assert_eq!(second.post(&headers, event("a").as_bytes()).await.text(), answer);
    }
    assert_eq!((0..4).map(|shard| length(&redis, shard)).sum::<i64>(), 5);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_shards_of_before_is_counted_and_takes_no_room() {
    let redis = Redis::start();
    let many = Running::start(&redis, &["--shards=64"]).await;
    for producer in 1..=20 {
        assert_eq!(post(&many, producer).await, 202);
    }
    many.stop().await;
    let one = Running::start(&redis, &["--max-queue-entries=8"]).await;
    wait_for("the sum", async || (one.metric("logweir_collector_queue_entries").await == 20.0).then_some(()))
        .await;
    assert_eq!(post(&one, 30).await, 202);
    one.stop().await;
}
