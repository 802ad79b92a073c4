//! Redis without memory: nothing gets in, and all that lets it drain goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{Item, QueueError, Replay};
use std::time::Duration;
use support::{ROOMY, Server, add, bury, entry, seqs};

const NOW: Duration = Duration::ZERO;

/// From here on every command that takes memory is refused.
async fn fill(server: &Server) {
    server.say::<()>("CONFIG SET maxmemory 1").await;
}

async fn empty(server: &Server) {
    server.say::<()>("CONFIG SET maxmemory 0").await;
}

#[tokio::test]
async fn what_fails_while_redis_is_full_is_noted_and_dies() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut reader = queue.reader("a");
    let (bad, dying) = (add(&queue, 1, b"bad").await, add(&queue, 4, b"dying").await);
    assert_eq!(seqs(&reader.read(10, NOW).await.unwrap()), [1, 4]);
    fill(&server).await;
    let refused = queue.enqueue(&entry(7, b"x"), ROOMY, None).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unavailable(_)), "{refused:?}");
    for count in 1..4 {
        assert_eq!(queue.note_attempt(&bad, "w", "no").await.unwrap().count, count);
    }
    queue.forgive_attempt(&bad).await.unwrap();
    assert_eq!(queue.attempts(&bad).await.unwrap().unwrap().count, 2);
    let letter = bury(&queue, &dying, "w", "no").await.unwrap();
    let done = Item::done(&reader.reclaim(NOW, 10).await.unwrap()[0].0);
    assert_eq!(queue.acknowledge(&[done]).await.unwrap(), 1);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.dead), (0, 0, 1));
    // It would take memory, and can wait.
    assert!(matches!(queue.replay(&letter).await, Err(QueueError::Unavailable(_))));
    empty(&server).await;
    assert!(matches!(queue.replay(&letter).await.unwrap(), Replay::Queued(_)));
}

#[tokio::test]
async fn the_first_worker_of_all_can_read_from_a_full_redis() {
    let server = Server::start().await;
    let queue = server.queue();
    add(&queue, 1, b"body").await;
    fill(&server).await;
    assert_eq!(seqs(&queue.reader("a").read(10, NOW).await.unwrap()), [1]);
}
