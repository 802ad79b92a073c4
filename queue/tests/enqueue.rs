//! Getting in: limits, idempotency keys, and what stands in Redis then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_proto::encoding::Encoding;
use logweir_queue::{Depth, Enqueued, IdempotencyKey, Item, NewEntry, Queue, QueueError, QueueLimits};
use std::time::Duration;
use support::{ROOMY, SOON, Server, add, batch, entry, eventually};
use tokio::task::JoinSet;

fn key<'a>(key: &'a str, answer: &'a str) -> IdempotencyKey<'a> {
    IdempotencyKey { key, window: Duration::from_secs(3600), max_keys: 100, max_bytes: 1 << 30, answer }
}

async fn post(queue: &Queue, seq: u64, key: &IdempotencyKey<'_>) -> Enqueued {
    queue.enqueue(&entry(seq, b"body"), ROOMY, Some(key)).await.unwrap()
}

#[tokio::test]
async fn the_stream_holds_the_fields_that_others_rely_on() {
    let server = Server::start().await;
    let queue = server.queue();
    let body: Vec<u8> = (0..=255).chain([0, 10, 13, 0]).collect();
    add(&queue, 7, &body).await;
    let plain = NewEntry { skip: &[], traceparent: None, enc: Encoding::Identity, ..entry(10, b"{}") };
    queue.enqueue(&plain, ROOMY, None).await.unwrap();

    type Flat = Vec<(String, Vec<Vec<u8>>)>;
    let stored: Flat = server.say("XRANGE logweir:{0}:queue - +").await;
    let mut expected: Vec<Vec<u8>> = [
        "v",
        "1",
        "agent",
        "web-1",
        "producer",
        "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10",
        "seq",
        "7",
        "events",
        "3",
        "skip",
        "1",
        "enc",
        "zstd",
        "at",
        "1764000000000",
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "body",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    expected.push(body);
    assert_eq!(stored[0].1, expected);
    let names: Vec<&[u8]> = stored[1].1.iter().step_by(2).map(Vec::as_slice).collect();
    assert_eq!(names, [&b"v"[..], b"agent", b"producer", b"seq", b"events", b"enc", b"at", b"body"]);
}

#[tokio::test]
async fn an_empty_redis_has_an_empty_queue() {
    let server = Server::start().await;
    assert_eq!(server.queue().depth().await.unwrap(), Depth::default());
}

#[tokio::test]
async fn a_limit_refuses_when_it_is_reached_and_lets_one_pass_it() {
    let server = Server::start().await;
    let queue = server.queue();
    let by_entries = QueueLimits { entries: 2, bytes: 1 << 30 };
    let by_bytes = QueueLimits { entries: 100, bytes: 11 };
    let first = queue.enqueue(&entry(1, b"0123456789"), by_bytes, None).await.unwrap();
    assert!(matches!(first, Enqueued::Added { entries: 1, bytes: 10, .. }), "{first:?}");
    // One byte is left, so one more batch of any size gets in.
    let second = queue.enqueue(&entry(4, b"0123456789"), by_bytes, None).await.unwrap();
    assert!(matches!(second, Enqueued::Added { entries: 2, bytes: 20, .. }), "{second:?}");
    for limits in [by_bytes, by_entries] {
        let full = queue.enqueue(&entry(7, b"x"), limits, None).await.unwrap();
        assert_eq!(full, Enqueued::Full { entries: 2, bytes: 20 });
    }
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.pending, depth.dead), (2, 20, 0, 0));
    assert!(depth.oldest_age_ms.unwrap() < 60_000);
}

#[tokio::test]
async fn many_at_once_never_pass_the_limit() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut tasks = JoinSet::new();
    for seq in 0..200 {
        let queue = queue.clone();
        tasks.spawn(async move {
            let limits = QueueLimits { entries: 50, bytes: 1 << 30 };
            queue.enqueue(&entry(1 + 3 * seq, b"0123456789"), limits, None).await.unwrap()
        });
    }
    let outcomes = tasks.join_all().await;
    let added = outcomes.iter().filter(|outcome| matches!(outcome, Enqueued::Added { .. })).count();
    assert_eq!(added, 50);
    assert_eq!(queue.depth().await.unwrap().bytes, 500);
    assert_eq!(server.bytes_by_hand().await, 500);
}

#[tokio::test]
async fn what_could_not_be_read_again_is_refused_before_it_is_sent() {
    // Nobody listens there: had anything been sent, the answer would be another.
    let queue = support::queue_at("redis+unix:///nowhere/at/all", logweir_queue::Ack::Fsync);
    for wrong in [
        NewEntry { enc: Encoding::Gzip, ..entry(1, b"") },
        NewEntry { events: 0, skip: &[], ..entry(1, b"") },
        NewEntry { batch: batch((1 << 63) - 2), ..entry(1, b"") },
        NewEntry { skip: &[1, 1], ..entry(1, b"") },
        NewEntry { skip: &[3], ..entry(1, b"") },
    ] {
        let refused = queue.enqueue(&wrong, ROOMY, None).await.unwrap_err();
        assert!(matches!(refused, QueueError::Usage(_)), "{refused:?}");
    }
}

#[tokio::test]
async fn one_key_posted_at_once_through_several_collectors_gets_in_once() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    for seq in 0..40 {
        // Each a queue with a connection of its own, as another collector would have.
        let queue = server.queue();
        tasks.spawn(async move {
            let answer = format!("answer {seq}");
            (post(&queue, 1 + 3 * seq, &key("order-1", &answer)).await, answer)
        });
    }
    let outcomes = tasks.join_all().await;
    let winners: Vec<&String> = outcomes
        .iter()
        .filter(|(o, _)| matches!(o, Enqueued::Added { .. }))
        .map(|(_, answer)| answer)
        .collect();
    assert_eq!(winners.len(), 1);
    for (outcome, _) in &outcomes {
        if let Enqueued::Repeated { answer } = outcome {
            assert_eq!(answer, winners[0]);
        }
    }
    assert_eq!(server.queue().depth().await.unwrap().entries, 1);
}

#[tokio::test]
async fn a_key_belongs_to_its_agent_and_is_known_even_when_the_queue_is_full() {
    let server = Server::start().await;
    let queue = server.queue();
    assert!(matches!(post(&queue, 1, &key("k", "first")).await, Enqueued::Added { .. }));
    let other = NewEntry { agent: "web-2", ..entry(4, b"body") };
    let other = queue.enqueue(&other, ROOMY, Some(&key("k", "second"))).await.unwrap();
    assert!(matches!(other, Enqueued::Added { .. }), "{other:?}");
    // Agent and key are told apart: ("web-1", "k") is not ("web-", "1k").
    let glued = NewEntry { agent: "web-", ..entry(7, b"body") };
    let glued = queue.enqueue(&glued, ROOMY, Some(&key("1k", "third"))).await.unwrap();
    assert!(matches!(glued, Enqueued::Added { .. }), "{glued:?}");

    let none = QueueLimits { entries: 0, bytes: 0 };
    let again = queue.enqueue(&entry(10, b"body"), none, Some(&key("k", "fourth"))).await.unwrap();
    assert_eq!(again, Enqueued::Repeated { answer: "first".to_owned() });
    // A refused key is not remembered: when there is room it gets in.
    let refused = queue.enqueue(&entry(10, b"body"), none, Some(&key("new", "fifth"))).await.unwrap();
    assert!(matches!(refused, Enqueued::Full { .. }), "{refused:?}");
    assert!(matches!(post(&queue, 10, &key("new", "fifth")).await, Enqueued::Added { .. }));
}

#[tokio::test]
async fn when_the_keys_are_full_new_ones_are_refused_and_none_is_forgotten_early() {
    let server = Server::start().await;
    let queue = server.queue();
    let few =
        |name, window| IdempotencyKey { key: name, window, max_keys: 2, max_bytes: 1 << 30, answer: name };
    let hour = Duration::from_secs(3600);
    let short = Duration::from_millis(300);
    assert!(matches!(post(&queue, 1, &few("long", hour)).await, Enqueued::Added { .. }));
    assert!(matches!(post(&queue, 4, &few("short", short)).await, Enqueued::Added { .. }));
    assert_eq!(post(&queue, 7, &few("third", hour)).await, Enqueued::KeysFull);
    assert_eq!(queue.depth().await.unwrap().entries, 2);
    // Without a key there is still room.
    add(&queue, 7, b"body").await;
    // When the short one's time is over, its place is free.
    let third = eventually(async || match post(&queue, 10, &few("third", hour)).await {
        Enqueued::KeysFull => Err("still full"),
        outcome => Ok(outcome),
    })
    .await;
    assert!(matches!(third, Enqueued::Added { .. }), "{third:?}");
    assert_eq!(post(&queue, 13, &few("long", hour)).await, Enqueued::Repeated { answer: "long".to_owned() });
    let kept: (u64, u64) =
        (server.say("ZCARD logweir:{0}:idem").await, server.say("HLEN logweir:{0}:idem:answers").await);
    assert_eq!(kept, (2, 2), "the old one is gone from both keys");
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_as_new() {
    let server = Server::start().await;
    let queue = server.queue();
    let short = |answer| IdempotencyKey {
        key: "k",
        window: Duration::from_millis(200),
        max_keys: 1,
        max_bytes: 1 << 30,
        answer,
    };
    assert!(matches!(post(&queue, 1, &short("first")).await, Enqueued::Added { .. }));
    let outcome = eventually(async || match post(&queue, 4, &short("second")).await {
        Enqueued::Repeated { answer } if answer == "first" => Err("still remembered"),
        outcome => Ok(outcome),
    })
    .await;
    assert!(matches!(outcome, Enqueued::Added { .. }), "{outcome:?}");
    assert_eq!(queue.depth().await.unwrap().entries, 2);
}

#[tokio::test]
async fn a_crowd_of_old_keys_is_cleared_in_pieces() {
    let server = Server::start().await;
    let queue = server.queue();
    let names: Vec<String> = (0..150).map(|n| format!("old-{n}")).collect();
    for (name, n) in names.iter().zip(0..) {
        let key = IdempotencyKey {
            key: name,
            window: Duration::ZERO,
            max_keys: 1000,
            max_bytes: 1 << 30,
            answer: "",
        };
        assert!(matches!(post(&queue, 1 + 3 * n, &key).await, Enqueued::Added { .. }));
    }
    // They don't count, whether cleared yet or not.
    for n in 0..5 {
        let name = format!("new-{n}");
        let key = IdempotencyKey {
            key: &name,
            window: Duration::from_secs(3600),
            max_keys: 5,
            max_bytes: 1 << 30,
            answer: "",
        };
        assert!(matches!(post(&queue, 1000 + 3 * n, &key).await, Enqueued::Added { .. }));
    }
    let kept: (u64, u64) =
        (server.say("ZCARD logweir:{0}:idem").await, server.say("HLEN logweir:{0}:idem:answers").await);
    assert_eq!(kept, (5, 5));
}

#[tokio::test]
async fn the_answers_of_all_keys_together_are_bounded() {
    let server = Server::start().await;
    let queue = server.queue();
    let answer = "x".repeat(600);
    let key =
        |name, window| IdempotencyKey { key: name, window, max_keys: 100, max_bytes: 1_000, answer: &answer };
    let hour = Duration::from_secs(3600);
    assert!(matches!(post(&queue, 1, &key("short", Duration::from_millis(1))).await, Enqueued::Added { .. }));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(matches!(post(&queue, 4, &key("a", hour)).await, Enqueued::Added { .. }));
    assert!(matches!(post(&queue, 7, &key("b", hour)).await, Enqueued::Added { .. }));
    assert_eq!(server.say::<u64>("GET logweir:{0}:idem:bytes").await, 1_200);
    assert_eq!(post(&queue, 10, &key("c", hour)).await, Enqueued::KeysFull);
    assert!(matches!(post(&queue, 10, &key("a", hour)).await, Enqueued::Repeated { .. }));
    assert_eq!(queue.depth().await.unwrap().entries, 3);
}

#[tokio::test]
async fn old_keys_are_forgotten_although_redis_is_full() {
    let server = Server::start().await;
    let queue = server.queue();
    assert_eq!(queue.forget_old_keys().await.unwrap(), 0);
    let short = |name| IdempotencyKey {
        key: name,
        window: Duration::from_millis(1),
        max_keys: 100,
        max_bytes: 1 << 20,
        answer: "answer",
    };
    post(&queue, 1, &key("long", "answer")).await;
    for (name, seq) in [("a", 4), ("b", 7), ("a", 10)] {
        eventually(async || match post(&queue, seq, &short(name)).await {
            Enqueued::Added { .. } => Ok(()),
            other => Err(other),
        })
        .await;
    }
    server.say::<()>("CONFIG SET maxmemory 1").await;
    eventually(async || {
        queue.forget_old_keys().await.unwrap();
        let left: u64 = server.say("HLEN logweir:{0}:idem:answers").await;
        if left == 1 { Ok(()) } else { Err(left) }
    })
    .await;
    let kept: (u64, u64) =
        (server.say("ZCARD logweir:{0}:idem").await, server.say("GET logweir:{0}:idem:bytes").await);
    assert_eq!(kept, (1, 6));
}

#[tokio::test]
async fn flushed_scripts_are_sent_again() {
    let server = Server::start().await;
    let queue = server.queue();
    add(&queue, 1, b"one").await;
    server.say::<()>("SCRIPT FLUSH").await;
    let id = add(&queue, 4, b"two").await;
    server.say::<()>("SCRIPT FLUSH").await;
    let mut reader = queue.reader("a");
    let items = reader.read(10, Duration::ZERO).await.unwrap();
    let done: Vec<_> = items.iter().map(Item::done).collect();
    assert_eq!(done[1].id, id);
    assert_eq!(queue.acknowledge(&done).await.unwrap(), 2);
}

#[tokio::test]
async fn a_wrong_byte_counter_is_set_right_when_the_stream_is_small() {
    let server = Server::start().await;
    let queue = server.queue();
    assert_eq!(queue.recount().await.unwrap(), [], "there is nothing yet");
    for seq in 0..20 {
        add(&queue, 1 + 3 * seq, &vec![7; usize::try_from(seq).unwrap()]).await;
    }
    server.say::<String>("XADD logweir:{0}:queue * v 2 body 12345 body 1").await;
    server.say::<String>("XADD logweir:{0}:queue * v 2").await;
    for (wrong, was) in [("9999999999", "9999999999"), ("1", "1"), ("-7", "-7"), ("much", "much")] {
        server.say::<()>(&format!("SET logweir:{{0}}:bytes {wrong}")).await;
        let mended = queue.recount().await.unwrap();
        assert_eq!((mended[0].was.as_str(), mended[0].is, mended.len()), (was, 195, 1));
        assert_eq!(queue.recount().await.unwrap(), []);
        assert_eq!(queue.depth().await.unwrap().bytes, 195);
    }
    // Too many, or too large: left as it is.
    for seq in 0..480 {
        add(&queue, 100 + 3 * seq, b"x").await;
    }
    server.say::<()>("SET logweir:{0}:bytes 1").await;
    assert_eq!(queue.recount().await.unwrap(), []);
    server.say::<()>("DEL logweir:{0}:queue").await;
    assert_eq!(queue.recount().await.unwrap()[0].is, 0);
    let large = vec![7; 9 << 20];
    for seq in 0..2 {
        add(&queue, 1 + 3 * seq, &large).await;
    }
    server.say::<()>("SET logweir:{0}:bytes 1").await;
    assert_eq!(queue.recount().await.unwrap(), []);
}

/// While batches come and go, no recount makes the counter wrong.
#[tokio::test]
async fn a_recount_is_right_while_batches_come_and_go() {
    let server = Server::start().await;
    let queue = server.queue();
    let (put, take, count) = (queue.clone(), queue.clone(), queue.clone());
    let putting = async {
        for seq in 0..200 {
            add(&put, 1 + 3 * seq, &vec![7; usize::try_from(seq % 50).unwrap()]).await;
        }
    };
    let taking = async {
        let mut reader = take.reader("a");
        let mut left = 150;
        while left > 0 {
            let items = reader.read(left.min(7), SOON).await.unwrap();
            left -= items.len();
            take.acknowledge(&items.iter().map(Item::done).collect::<Vec<_>>()).await.unwrap();
        }
    };
    let counting = async {
        for _ in 0..200 {
            assert_eq!(count.recount().await.unwrap(), []);
        }
    };
    tokio::join!(putting, taking, counting);
    assert_eq!(queue.depth().await.unwrap().bytes, server.bytes_by_hand().await);
}
