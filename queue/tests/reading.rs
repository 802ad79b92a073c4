//! Getting out: reading, acknowledging, reclaiming, and consumers that come and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{DeadLimits, Done, EntryId, Item, Queue, QueueError, Reader};
use std::time::{Duration, Instant};
use support::{SOON, Server, add, batch, eventually, seqs};
use tokio::task::JoinSet;

const NOW: Duration = Duration::ZERO;

async fn take(reader: &mut Reader, count: usize) -> Vec<Item> {
    reader.read(count, NOW).await.unwrap()
}

fn done(items: &[Item]) -> Vec<Done> {
    items.iter().map(Item::done).collect()
}

/// What stands in the group's pending list.
async fn pending(server: &Server) -> u64 {
    server.queue().depth().await.unwrap().pending
}

async fn consumers(server: &Server) -> Vec<String> {
    let all: Vec<Vec<redis::Value>> = server.say("XINFO CONSUMERS logweir:{0}:queue workers").await;
    let mut names: Vec<String> = all.iter().map(|c| redis::from_redis_value_ref(&c[1]).unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_enqueued_is_read_once_acknowledged_and_gone() {
    let server = Server::start().await;
    let queue = server.queue();
    let body: Vec<u8> = (0..=255).collect();
    let id = add(&queue, 7, &body).await;
    add(&queue, 10, b"two").await;

    let (mut a, mut b) = (queue.reader("a"), queue.reader("b"));
    let first = take(&mut a, 1).await;
    let Item::Batch(got) = &first[0] else { panic!("{first:?}") };
    assert_eq!((&got.id, got.batch, got.events, got.skip.as_slice()), (&id, batch(7), 3, &[1][..]));
    assert_eq!((got.body.as_ref(), got.agent.as_str(), got.at_ms), (&body[..], "web-1", 1_764_000_000_000));
    assert!(got.traceparent.as_deref().unwrap().starts_with("00-4bf9"));
    let second = take(&mut b, 5).await;
    assert_eq!(seqs(&second), [10]);
    assert!(take(&mut a, 5).await.is_empty());

    assert_eq!(pending(&server).await, 2);
    assert_eq!(queue.acknowledge(&done(&first)).await.unwrap(), 1);
    assert_eq!(queue.acknowledge(&done(&first)).await.unwrap(), 0, "a second time changes nothing");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.pending), (1, 3, 1));
    assert_eq!(queue.acknowledge(&done(&second)).await.unwrap(), 1);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.pending, depth.oldest_age_ms), (0, 0, 0, None));
}

#[tokio::test]
async fn a_waiting_reader_is_woken_and_one_in_vain_comes_back_in_time() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut reader = queue.reader("a");
    let begun = Instant::now();
    assert!(reader.read(10, Duration::from_millis(200)).await.unwrap().is_empty());
    // Redis counts in whole milliseconds, and group and stream had to be made within the same wait.
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    let (items, _) = tokio::join!(reader.read(10, SOON), async {
        // Once its client stands blocked in Redis, the entry comes.
        eventually(async || {
            let clients: String = server.say("INFO clients").await;
            if clients.contains("blocked_clients:1") { Ok(()) } else { Err(clients) }
        })
        .await;
        add(&queue, 1, b"x").await;
    });
    assert_eq!(seqs(&items.unwrap()), [1]);
}

#[tokio::test]
async fn a_read_is_bounded_by_count_and_by_bytes() {
    let server = Server::start().await;
    let queue = server.queue();
    for seq in 0..100 {
        add(&queue, 1 + 3 * seq, b"small").await;
    }
    let mut reader = queue.reader("a");
    let mut expected = (0..).map(|n| 1 + 3 * n);
    for count in [1, 8, 9, 64] {
        assert_eq!(
            seqs(&take(&mut reader, count).await),
            expected.by_ref().take(count).collect::<Vec<u64>>()
        );
    }
    assert_eq!(seqs(&take(&mut reader, 64).await), expected.by_ref().take(18).collect::<Vec<u64>>());

    let large = vec![7; 4 << 20];
    for seq in 100..120 {
        add(&queue, 1 + 3 * seq, &large).await;
    }
    let some = take(&mut reader, 64).await;
    assert!((8..=9).contains(&some.len()), "32 MiB and no more than one over: {}", some.len());
    assert_eq!(take(&mut reader, 64).await.len() + take(&mut reader, 64).await.len() + some.len(), 20);
}

#[tokio::test]
async fn a_dead_consumers_entries_are_reclaimed_after_the_lease_and_not_before() {
    let server = Server::start().await;
    let queue = server.queue();
    for seq in [1, 4, 7] {
        add(&queue, seq, b"abc").await;
    }
    let mut dead = queue.reader("dead");
    assert_eq!(take(&mut dead, 10).await.len(), 3);
    drop(dead);

    let mut heir = queue.reader("heir");
    assert!(heir.reclaim(Duration::from_secs(60), 10).await.unwrap().is_empty());
    let lease = Duration::from_millis(100);
    let mut claimed = Vec::new();
    // Two at a time: the cursor goes on between calls.
    while claimed.len() < 3 {
        claimed.extend(
            eventually(async || match heir.reclaim(lease, 2).await.unwrap() {
                items if items.is_empty() => Err("none is old enough"),
                items => Ok(items),
            })
            .await,
        );
    }
    let (items, deliveries): (Vec<Item>, Vec<u64>) = claimed.into_iter().unzip();
    assert_eq!(seqs(&items), [1, 4, 7]);
    assert_eq!(deliveries, [2, 2, 2]);
    assert_eq!(queue.acknowledge(&done(&items)).await.unwrap(), 3);
    assert_eq!(queue.depth().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn a_reclaim_goes_round_the_whole_pending_list() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut ids = Vec::new();
    for seq in 0..60 {
        ids.push(add(&queue, 1 + 3 * seq, b"abc").await);
    }
    let mut holder = queue.reader("holder");
    assert_eq!(take(&mut holder, 60).await.len(), 60);
    // All but the last are held by one who keeps them; one look passes over no more than ten of those.
    let mut heir = queue.reader("heir");
    let lease = Duration::from_millis(1500);
    let (last, kept) = ids.split_last().unwrap();
    let claimed = eventually(async || {
        assert_eq!(holder.renew(kept).await.unwrap(), 59);
        let mut claimed = Vec::new();
        for _ in 0..7 {
            claimed.extend(heir.reclaim(lease, 1).await.unwrap());
        }
        if claimed.is_empty() { Err("not old enough") } else { Ok(claimed) }
    })
    .await;
    assert_eq!(claimed.iter().map(|(item, _)| item.id()).collect::<Vec<_>>(), [last]);
}

#[tokio::test]
async fn what_was_deleted_meanwhile_leaves_the_pending_list() {
    let server = Server::start().await;
    let queue = server.queue();
    let id = add(&queue, 1, b"abc").await;
    add(&queue, 4, b"abc").await;
    let mut reader = queue.reader("a");
    take(&mut reader, 10).await;
    server.say::<u64>(&format!("XDEL logweir:{{0}}:queue {id}")).await;
    assert_eq!(pending(&server).await, 2);
    let claimed = reader.reclaim(NOW, 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(pending(&server).await, 1);
    // The last acknowledgement sets the bytes right that went by hand.
    queue.acknowledge(&[claimed[0].0.done()]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn a_renewed_lease_is_kept_and_only_by_the_holder() {
    let server = Server::start().await;
    let queue = server.queue();
    let ids = [add(&queue, 1, b"a").await, add(&queue, 4, b"b").await];
    let (mut a, mut b) = (queue.reader("a"), queue.reader("b"));
    take(&mut a, 10).await;
    assert_eq!(b.renew(&ids).await.unwrap(), 0, "it holds none of them");
    let idle = async |id: &EntryId| -> i64 {
        let held: Vec<(String, String, i64, i64)> =
            server.say(&format!("XPENDING logweir:{{0}}:queue workers {id} {id} 1")).await;
        held[0].2
    };
    eventually(async || if idle(&ids[0]).await >= 200 { Ok(()) } else { Err("young") }).await;
    assert_eq!(a.renew(&ids[..1]).await.unwrap(), 1);
    let claimed = b.reclaim(Duration::from_millis(200), 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].0.id(), &ids[1]);
    assert_eq!(a.renew(&ids).await.unwrap(), 1, "the other is b's now");
    let held: Vec<(String, String, i64, i64)> = server.say("XPENDING logweir:{0}:queue workers - + 10").await;
    assert_eq!(held[0].3, 1, "a renewal is no delivery");
    queue.acknowledge(&[Done { id: ids[0].clone(), body_bytes: 1 }]).await.unwrap();
    assert_eq!(a.renew(&ids).await.unwrap(), 0);
}

#[tokio::test]
async fn only_consumers_that_hold_nothing_are_removed() {
    let server = Server::start().await;
    let queue = server.queue();
    assert_eq!(queue.reader("x").remove_dead_consumers(NOW).await.unwrap(), 0, "there is no stream yet");
    queue.reader("x").leave().await.unwrap();
    add(&queue, 1, b"a").await;
    let mut holder = queue.reader("holder");
    let held = take(&mut holder, 1).await;
    for name in ["idle-1", "idle-2", "living"] {
        server.say::<i64>(&format!("XGROUP CREATECONSUMER logweir:{{0}}:queue workers {name}")).await;
    }
    assert_eq!(holder.remove_dead_consumers(Duration::from_secs(60)).await.unwrap(), 0);
    let mut living = queue.reader("living");
    living.leave().await.unwrap();
    assert_eq!(consumers(&server).await, ["holder", "idle-1", "idle-2"]);
    assert_eq!(living.remove_dead_consumers(NOW).await.unwrap(), 2);
    holder.leave().await.unwrap();
    assert_eq!(consumers(&server).await, ["holder"], "it holds an entry");
    assert_eq!(queue.acknowledge(&done(&held)).await.unwrap(), 1);
    holder.leave().await.unwrap();
    assert!(consumers(&server).await.is_empty());
    // One that was removed may come back.
    add(&queue, 4, b"a").await;
    assert_eq!(seqs(&take(&mut living, 5).await), [4]);
}

#[tokio::test]
async fn removing_dead_consumers_while_others_read_loses_nothing() {
    let server = Server::start().await;
    let queue = server.queue();
    const BATCHES: u64 = 300;
    let mut tasks: JoinSet<Vec<u64>> = JoinSet::new();
    for n in 0..4 {
        let queue: Queue = queue.clone();
        tasks.spawn(async move {
            let mut seen = Vec::new();
            let mut reader = queue.reader(&format!("r{n}"));
            let until = Instant::now() + SOON;
            loop {
                let items = reader.read(3, Duration::from_millis(5)).await.unwrap();
                seen.extend(seqs(&items));
                queue.acknowledge(&done(&items)).await.unwrap();
                // All reading consumers are idle for 0 ms now and then, so each is removed again and again.
                reader.remove_dead_consumers(NOW).await.unwrap();
                let left = queue.depth().await.unwrap().entries;
                if (items.is_empty() && left == 0 && !seen.is_empty()) || Instant::now() > until {
                    return seen;
                }
            }
        });
    }
    for n in 0..BATCHES {
        add(&queue, 1 + 3 * n, b"body").await;
    }
    let mut seen = tasks.join_all().await.concat();
    // A reader that saw the queue empty between two batches may have left early; nobody else has the rest.
    let rest = queue.reader("last").reclaim(NOW, 1000).await.unwrap();
    assert!(rest.is_empty(), "left pending: {rest:?}");
    seen.extend(seqs(&take(&mut queue.reader("last"), 1000).await));
    seen.sort_unstable();
    assert_eq!(seen, (0..BATCHES).map(|n| 1 + 3 * n).collect::<Vec<u64>>());
}

#[tokio::test]
async fn flushall_makes_group_and_stream_anew_at_the_beginning() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut reader = queue.reader("a");
    assert!(take(&mut reader, 1).await.is_empty());
    server.say::<()>("FLUSHALL").await;
    // What came in before any reader noticed is not passed over.
    add(&queue, 1, b"before").await;
    assert_eq!(seqs(&take(&mut reader, 10).await), [1]);
    server.say::<()>("FLUSHALL").await;
    assert!(take(&mut reader, 10).await.is_empty());
    assert!(reader.reclaim(NOW, 10).await.unwrap().is_empty());
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.pending), (0, 0, 0));
    // What was in hand when it vanished changes nothing either.
    let gone = Done { id: EntryId("1-1".to_owned()), body_bytes: 1000 };
    assert_eq!(queue.acknowledge(&[gone]).await.unwrap(), 0);
    assert_eq!(queue.depth().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn flushall_under_a_waiting_reader_is_mended_by_the_next_read() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut reader = queue.reader("a");
    take(&mut reader, 1).await;
    let (waited, ()) = tokio::join!(reader.read(10, Duration::from_secs(2)), async {
        eventually(async || {
            let clients: String = server.say("INFO clients").await;
            if clients.contains("blocked_clients:1") { Ok(()) } else { Err(clients) }
        })
        .await;
        server.say::<()>("FLUSHALL").await;
        add(&queue, 1, b"after").await;
    });
    let mut items = waited.unwrap();
    if items.is_empty() {
        items = take(&mut reader, 10).await;
    }
    assert_eq!(seqs(&items), [1]);
}

#[tokio::test]
async fn a_dropped_read_costs_no_entry() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut reader = queue.reader("a");
    take(&mut reader, 1).await;
    let dropped = tokio::time::timeout(Duration::from_millis(100), reader.read(10, SOON)).await;
    assert!(dropped.is_err());
    // The next doesn't stand behind it, waiting for what may not come.
    assert!(take(&mut reader, 1).await.is_empty());
    let dropped = tokio::time::timeout(Duration::from_millis(100), reader.read(10, SOON)).await;
    assert!(dropped.is_err());
    add(&queue, 1, b"one").await;
    // Redis may have handed it to the dropped read; then it is pending, and the lease brings it back.
    let items = eventually(async || {
        let mut items = take(&mut reader, 10).await;
        items.extend(reader.reclaim(NOW, 10).await.unwrap().into_iter().map(|(item, _)| item));
        if items.is_empty() { Err("nothing") } else { Ok(items) }
    })
    .await;
    assert_eq!(seqs(&items), [1]);
    // The answer to the dropped read is not taken for another's.
    add(&queue, 4, b"two").await;
    assert_eq!(seqs(&take(&mut reader, 10).await), [4]);
}

#[tokio::test]
async fn an_entry_that_is_no_batch_comes_with_its_reason_and_can_be_acknowledged() {
    let server = Server::start().await;
    let queue = server.queue();
    add(&queue, 1, b"good").await;
    let id: String = server.say("XADD logweir:{0}:queue * v 2 body 12345").await;
    server.say::<i64>("INCRBY logweir:{0}:bytes 5").await;
    let items = take(&mut queue.reader("a"), 10).await;
    let Item::Unreadable(unreadable) = &items[1] else { panic!("{items:?}") };
    assert_eq!((unreadable.id.0.as_str(), unreadable.body_bytes), (id.as_str(), 5));
    let says = unreadable.flaw.to_string();
    assert!(says.contains("`v`"), "{says}");
    assert_eq!(queue.acknowledge(&[items[1].done()]).await.unwrap(), 1);
    assert_eq!(queue.depth().await.unwrap().bytes, 4);
}

#[tokio::test]
async fn a_garbled_id_is_the_callers_mistake() {
    let server = Server::start().await;
    let queue = server.queue();
    let range = EntryId("-".to_owned());
    let all = [Done { id: range.clone(), body_bytes: 0 }];
    assert!(matches!(queue.acknowledge(&all).await, Err(QueueError::Usage(_))));
    assert!(matches!(queue.dead_letter(&range, "w", "e", DeadLimits::NONE).await, Err(QueueError::Usage(_))));
    assert!(matches!(queue.replay(&range).await, Err(QueueError::Usage(_))));
}
