//! A queue of several shards, whose number changes while batches wait.

use crate::common::{Batch, Rig};
use logweir_queue::{Ack, Queue, Settings, Shards};
use std::time::Duration;

fn sharded(rig: &Rig, shards: u16) -> Queue {
    let settings = Settings::new(&rig.redis.url(), Ack::Memory, Duration::from_secs(2));
    Queue::new(Settings { shards: Shards::new(shards).unwrap(), ..settings }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_shards_or_more_lose_nothing_that_waits() {
    let mut rig = Rig::start().await;
    let mut expected = 0;
    // Each time the collectors put batches into so many shards, and the workers are told another number.
    for (round, (put, told)) in (0u64..).zip([(4, "2"), (1, "4"), (64, "1")]) {
        rig.queue = sharded(&rig, put);
        for producer in 1..=40 {
            for batch in 0..2 {
                rig.put(&Batch::new(producer, round * 20 + batch * 10 + 1, 10, "api")).await;
                expected += 10;
            }
        }
        let workers =
            [rig.worker(&["--shards", told]).await, rig.worker(&["--shards", told, "--group", "5"]).await];
        rig.drained().await;
        assert_eq!(rig.count("api").await.0, expected);
        // And while they run.
        rig.put(&Batch::new(100 + u128::from(round), 1, 7, "api")).await;
        expected += 7;
        rig.drained().await;
        assert_eq!(rig.count("api").await.0, expected);
        for worker in workers {
            worker.stop().await;
        }
    }
    assert_eq!(rig.depth().await.dead, 0);
    assert_eq!(rig.applied(1).await, "{[1,61)}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_batch_of_any_shard_becomes_a_dead_letter() {
    let mut rig = Rig::start().await;
    rig.queue = sharded(&rig, 4);
    let worker = rig.worker(&["--shards", "4", "--max-attempts", "2"]).await;
    for producer in 1..=8 {
        let mut bad = Batch::new(producer, 1, 3, "api");
        bad.events = 4;
        rig.put(&bad).await;
        rig.put(&Batch::new(producer, 11, 5, "api")).await;
    }
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (40, 8));
    let letters = rig.queue.dead_letters(None, 20).await.unwrap();
    assert!(letters.iter().any(|letter| letter.id.to_string().contains(':')), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.attempts == 2));
    worker.stop().await;
}

/// A worker that dies leaves batches of several shards to the others.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_held_is_taken_over_from_each_shard() {
    let mut rig = Rig::start().await;
    rig.queue = sharded(&rig, 4);
    for producer in 1..=20 {
        rig.put(&Batch::new(producer, 1, 5, "api")).await;
    }
    let held = rig.queue.reader("dead").read(100, Duration::from_millis(1)).await.unwrap();
    assert_eq!(held.len(), 20);
    let worker = rig.worker(&["--shards", "4", "--lease", "300ms"]).await;
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 100);
    assert_eq!(worker.metric("logweir_worker_reclaimed_total"), 20.0);
    worker.stop().await;
}
