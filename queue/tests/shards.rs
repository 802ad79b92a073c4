//! A queue of several shards: one for each producer, all of them read, whatever their number was before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_proto::{BatchId, ProducerId, Seq};
use logweir_queue::{
    Ack, Burial, DeadLimits, Depth, Done, Enqueued, EntryId, IdempotencyKey, Item, NewEntry, Queue,
    QueueError, QueueLimits, Replay, Restored, Settings, Shard, Shards,
};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};
use support::{DEADLINE, ROOMY, SOON, Server, Slow, entry};
use uuid::Uuid;

const NOW: Duration = Duration::ZERO;

fn of(producer: u128) -> NewEntry<'static> {
    let producer = ProducerId::new(Uuid::from_u128(producer));
    NewEntry { batch: BatchId { producer, seq: Seq::FIRST }, ..entry(1, b"body") }
}

async fn put(queue: &Queue, producer: u128) -> EntryId {
    match queue.enqueue(&of(producer), ROOMY, None).await.unwrap() {
        Enqueued::Added { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

/// A producer of each of four shards.
fn producers() -> [u128; 4] {
    let shards = Shards::new(4).unwrap();
    [0, 1, 2, 3].map(|shard| {
        let there =
            |n: &u128| shards.of(ProducerId::new(Uuid::from_u128(*n)), "web-1", None).number() == shard;
        (1..).find(there).unwrap()
    })
}

fn done(items: &[Item]) -> Vec<Done> {
    items.iter().map(Item::done).collect()
}

fn producers_of(items: &[Item]) -> Vec<u128> {
    let producer = |item: &Item| match item {
        Item::Batch(entry) => entry.batch.producer.to_string().parse::<Uuid>().unwrap().as_u128(),
        Item::Unreadable(unreadable) => panic!("{unreadable:?}"),
    };
    items.iter().map(producer).collect()
}

async fn lengths(server: &Server) -> Vec<u64> {
    let mut lengths = Vec::new();
    for shard in 0..4 {
        lengths.push(server.say(&format!("XLEN logweir:{{{shard}}}:queue")).await);
    }
    lengths
}

#[tokio::test]
async fn a_producer_has_one_shard_and_all_that_is_done_with_an_entry_finds_it() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    let mut ids = Vec::new();
    for producer in producers() {
        for _ in 0..2 {
            ids.push(put(&queue, producer).await);
        }
    }
    assert_eq!(lengths(&server).await, [2, 2, 2, 2]);
    assert!(!ids[0].to_string().contains(':') && ids[7].to_string().starts_with("3:"), "{ids:?}");
    let depths = queue.depths().await.unwrap();
    assert_eq!(
        depths.iter().map(|(shard, depth)| (shard.number(), depth.bytes)).collect::<Vec<_>>(),
        [(0, 8), (1, 8), (2, 8), (3, 8)]
    );

    let mut reader = queue.reader("a");
    let items = reader.read(20, NOW).await.unwrap();
    let read: HashSet<&EntryId> = items.iter().map(Item::id).collect();
    assert_eq!(read, ids.iter().collect());
    assert_eq!(reader.renew(&ids).await.unwrap(), 8);
    assert_eq!(queue.holder(&ids[7]).await.unwrap().unwrap().consumer, "a");
    assert_eq!(queue.note_attempt(&ids[7], "w", "broken").await.unwrap().count, 1);
    assert_eq!(queue.attempts(&ids[7]).await.unwrap().unwrap().last_error(), "broken");
    queue.forgive_attempt(&ids[7]).await.unwrap();
    assert_eq!(queue.attempts(&ids[7]).await.unwrap(), None);
    // The first two of each are done; the lease of the rest runs out.
    assert_eq!(queue.acknowledge(&done(&items[..4])).await.unwrap(), 4);
    let mut heir = queue.reader("heir");
    let mut claimed = Vec::new();
    while claimed.len() < 4 {
        let (some, _): (Vec<Item>, Vec<u64>) = heir.reclaim(NOW, 1).await.unwrap().into_iter().unzip();
        assert!(!some.is_empty(), "{claimed:?}");
        assert_eq!(queue.acknowledge(&done(&some)).await.unwrap(), 1);
        claimed.extend(some);
    }
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
    reader.leave().await.unwrap();
    heir.leave().await.unwrap();
    for shard in 0..4 {
        let left: Vec<redis::Value> =
            server.say(&format!("XINFO CONSUMERS logweir:{{{shard}}}:queue workers")).await;
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn dead_letters_of_all_shards_are_found_and_replayed_where_they_were() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    let mut letters = Vec::new();
    for producer in producers() {
        let id = put(&queue, producer).await;
        match queue.dead_letter(&id, "w", "broken", DeadLimits::NONE).await.unwrap() {
            Burial::Dead(letter) => letters.push((id, letter)),
            other => panic!("{other:?}"),
        }
    }
    // Whoever knows of one shard only finds them too.
    let operator = server.sharded(1);
    let ids = |found: &[logweir_queue::DeadLetter]| -> Vec<EntryId> {
        found.iter().map(|letter| letter.id.clone()).collect()
    };
    let expected: Vec<EntryId> = letters.iter().map(|(_, letter)| letter.clone()).collect();
    let mut paged = operator.dead_letters(None, 3).await.unwrap();
    assert_eq!(paged.len(), 3);
    paged.extend(operator.dead_letters(Some(&paged[2].id), 3).await.unwrap());
    assert_eq!(ids(&paged), expected);
    let (mut looked, mut after) = (Vec::new(), None);
    loop {
        let piece = operator.look_at_dead(after.as_ref(), None).await.unwrap();
        looked.extend(piece.found);
        after = piece.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(ids(&looked), expected);
    assert_eq!(operator.depth().await.unwrap().dead, 4);
    let one = operator.dead_letter_by_id(&expected[3]).await.unwrap().unwrap();
    assert_eq!(one.entry_id, letters[3].0);

    // Out and in again, into the same shard.
    assert!(operator.remove_dead_letter(&expected[3]).await.unwrap());
    let Restored::Moved(last) = operator.restore_dead_letter(&one, Some(&expected[0])).await.unwrap() else {
        panic!("another shard's ID says nothing of this one")
    };
    let Restored::Added(again) = operator.restore_dead_letter(&one, Some(&last)).await.unwrap() else {
        panic!("it knows the last ID")
    };
    assert_eq!(again.shard(), Shard::new(3).unwrap());
    let restored = operator.dead_letter_by_id(&again).await.unwrap().unwrap();
    assert_eq!(restored.entry_id, one.entry_id);

    for letter in expected[..3].iter().chain([&again]) {
        assert!(matches!(operator.replay(letter).await.unwrap(), Replay::Queued(_)));
    }
    assert_eq!(lengths(&server).await, [1, 1, 1, 1]);
    assert_eq!(operator.depth().await.unwrap().dead, 0);
}

#[tokio::test]
async fn what_waits_in_more_shards_than_there_are_now_is_read() {
    let server = Server::start().await;
    let many = server.sharded(64);
    for producer in 1..=200 {
        put(&many, producer).await;
    }
    let (two, mut seen) = (server.sharded(2), Vec::new());
    // And what comes in meanwhile, under either number.
    put(&two, 201).await;
    let mut reader = two.reader("a");
    while seen.len() < 201 {
        let items = reader.read(10, Duration::from_millis(500)).await.unwrap();
        assert!(!items.is_empty(), "{}", seen.len());
        seen.extend(producers_of(&items));
        assert_eq!(two.acknowledge(&done(&items)).await.unwrap(), u64::try_from(items.len()).unwrap());
    }
    put(&many, 202).await;
    let begun = Instant::now();
    let items = reader.read(10, SOON).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    seen.extend(producers_of(&items));
    seen.sort_unstable();
    assert_eq!(seen, (1..=202).collect::<Vec<u128>>());
}

#[tokio::test]
async fn a_flooded_shard_keeps_no_other_waiting() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    let [flood, ..] = producers();
    for _ in 0..200 {
        put(&queue, flood).await;
    }
    let mut reader = queue.reader("a");
    for _ in 0..5 {
        reader.read(10, NOW).await.unwrap();
    }
    for producer in &producers()[1..] {
        put(&queue, *producer).await;
    }
    // The flood may have its turn once before.
    let mut seen = reader.read(10, NOW).await.unwrap();
    seen.extend(reader.read(10, NOW).await.unwrap());
    let mut by_producer: BTreeMap<u128, usize> = BTreeMap::new();
    for producer in producers_of(&seen) {
        *by_producer.entry(producer).or_default() += 1;
    }
    assert_eq!(by_producer.len(), 4, "{by_producer:?}");
    assert_eq!(seen.len(), 20, "and the rest of the groups is the flood's");
}

#[tokio::test]
async fn an_idle_reader_is_soon_awake_whichever_shard_it_is_and_asks_little() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    let mut reader = queue.reader("a");
    assert!(reader.read(10, Duration::from_millis(100)).await.unwrap().is_empty());
    for producer in producers() {
        let (items, put_at) = tokio::join!(reader.read(10, SOON), async {
            tokio::time::sleep(Duration::from_millis(130)).await;
            put(&queue, producer).await;
            Instant::now()
        });
        let late = put_at.elapsed();
        assert_eq!(producers_of(&items.unwrap()), [producer]);
        // Far sooner than if it waited at the first shard to the end.
        assert!(late < SOON / 10, "{late:?}");
    }
    let commands = async || -> u64 {
        let info: String = server.say("INFO stats").await;
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
        line.trim().parse().unwrap()
    };
    let before = commands().await;
    assert!(reader.read(10, Duration::from_secs(1)).await.unwrap().is_empty());
    let asked = commands().await - before;
    // 20 sweeps of five reads, and looks for further shards.
    assert!(asked < 600, "{asked}");
}

#[tokio::test]
async fn a_repeated_key_is_known_whoever_numbers_its_events() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    let key = |key| IdempotencyKey {
        key,
        window: Duration::from_secs(60),
        max_keys: 10,
        max_bytes: 1000,
        answer: "yes",
    };
    for (producer, name) in (1..).zip(["a", "b", "c", "d", "e", "f"]) {
        let first = queue.enqueue(&of(producer), ROOMY, Some(&key(name))).await.unwrap();
        assert!(matches!(first, Enqueued::Added { .. }));
        // Another collector, with numbers of its own.
        let again = queue.enqueue(&of(producer + 100), ROOMY, Some(&key(name))).await.unwrap();
        assert_eq!(again, Enqueued::Repeated { answer: "yes".to_owned() });
    }
    assert!(lengths(&server).await.iter().filter(|length| **length > 0).count() > 1);
}

#[tokio::test]
async fn a_full_shard_refuses_its_own_producers_only() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    let limits = QueueLimits { entries: 1, bytes: 1 << 20 };
    let [first, second, ..] = producers();
    put(&queue, first).await;
    let full = queue.enqueue(&of(first), limits, None).await.unwrap();
    assert_eq!(full, Enqueued::Full { entries: 1, bytes: 4 });
    let room = queue.enqueue(&of(second), limits, None).await.unwrap();
    assert!(matches!(room, Enqueued::Added { entries: 1, bytes: 4, .. }), "{room:?}");
}

/// Somebody's key where a stream should be: it can't be read until he takes it away, and nothing waits for that.
#[tokio::test]
async fn a_shard_that_can_not_be_read_keeps_no_other_waiting() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    let mut reader = queue.reader("a");
    for (shard, bad) in producers().into_iter().enumerate() {
        server.say::<()>(&format!("SET logweir:{{{shard}}}:queue mine")).await;
        let others: Vec<u128> = producers().into_iter().filter(|producer| *producer != bad).collect();
        // Each time another reader begins, at another shard, and the same one goes on.
        for mut reader in [queue.reader("b"), queue.reader("c"), queue.reader("d"), queue.reader("e")] {
            for producer in &others {
                put(&queue, *producer).await;
            }
            let items = reader.read(10, SOON).await.unwrap();
            assert_eq!(
                producers_of(&items).into_iter().collect::<HashSet<_>>(),
                others.iter().copied().collect()
            );
            assert_eq!(queue.acknowledge(&done(&items)).await.unwrap(), 3);
        }
        // While it waits, too, whichever shard it waits at.
        for producer in &others {
            let (items, ()) = tokio::join!(reader.read(1, SOON), async {
                tokio::time::sleep(Duration::from_millis(120)).await;
                put(&queue, *producer).await;
            });
            let items = items.unwrap();
            assert_eq!(producers_of(&items), [*producer]);
            assert_eq!(queue.acknowledge(&done(&items)).await.unwrap(), 1);
        }
        // Leases, and what others have left.
        for producer in &others {
            put(&queue, *producer).await;
        }
        let items = reader.read(3, SOON).await.unwrap();
        let ids: Vec<EntryId> = items.iter().map(|item| item.id().clone()).collect();
        assert_eq!((items.len(), reader.renew(&ids).await.unwrap()), (3, 3));
        let mut heir = queue.reader("heir");
        for _ in 0..3 {
            let claimed = heir.reclaim(NOW, 1).await.unwrap();
            assert_eq!(queue.acknowledge(&[claimed[0].0.done()]).await.unwrap(), 1);
        }
        // Whoever looks is told which it is.
        let said = queue.depth().await.unwrap_err().to_string();
        assert!(said.contains(&format!("shard {{{shard}}}")) && said.contains("WRONGTYPE"), "{said}");
        assert!(queue.recount().await.is_err());
        server.say::<()>(&format!("DEL logweir:{{{shard}}}:queue")).await;
        put(&queue, bad).await;
        let items = reader.read(10, SOON).await.unwrap();
        assert_eq!(producers_of(&items), [bad], "mended, it is read again");
        assert_eq!(queue.acknowledge(&done(&items)).await.unwrap(), 1);
    }
    // With nothing else to be read, it is an error.
    for shard in 0..4 {
        server.say::<()>(&format!("SET logweir:{{{shard}}}:queue mine")).await;
    }
    let error = reader.read(10, SOON).await.unwrap_err();
    assert!(matches!(&error, QueueError::Protocol(why) if why.contains("WRONGTYPE")), "{error:?}");
    assert!(reader.reclaim(NOW, 10).await.is_err());
}

/// What was read before a shard's stream was replaced can't be acknowledged there; all else is.
#[tokio::test]
async fn a_shard_that_refuses_keeps_nothing_else_from_being_acknowledged() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    for producer in producers() {
        put(&queue, producer).await;
    }
    let items = queue.reader("a").read(10, NOW).await.unwrap();
    server.say::<()>("DEL logweir:{0}:queue").await;
    server.say::<()>("SET logweir:{0}:queue mine").await;
    assert!(queue.acknowledge(&done(&items)).await.is_err());
    server.say::<()>("DEL logweir:{0}:queue").await;
    assert_eq!(lengths(&server).await, [0, 0, 0, 0]);
}

/// A right that is missing for one shard, as after a slip in an ACL.
#[tokio::test]
async fn a_missing_right_keeps_no_other_shard_waiting() {
    let server = Server::start().await;
    let all = server.sharded(4);
    server.say::<()>("ACL SETUSER w on >pw +@all ~logweir:{0}:* ~logweir:{2}:* ~logweir:{3}:*").await;
    let settings = Settings::new(&format!("{}?user=w&pass=pw", server.url()), Ack::Memory, DEADLINE);
    let queue = Queue::new(Settings { shards: Shards::new(4).unwrap(), ..settings }).unwrap();
    let mut reader = queue.reader("a");
    for producer in producers() {
        put(&all, producer).await;
    }
    let [first, hidden, third, fourth] = producers();
    let items = reader.read(10, SOON).await.unwrap();
    let expected = HashSet::from([first, third, fourth]);
    assert_eq!(producers_of(&items).into_iter().collect::<HashSet<_>>(), expected);
    server.say::<()>("ACL SETUSER w ~logweir:{1}:*").await;
    assert_eq!(producers_of(&reader.read(10, SOON).await.unwrap()), [hidden]);
}

/// Nothing of logweir's, where nobody of these settings puts anything.
#[tokio::test]
async fn a_strange_key_beyond_the_shards_is_nobodys_trouble() {
    let server = Server::start().await;
    server.say::<()>("SET logweir:{9}:queue mine").await;
    let queue = server.sharded(2);
    put(&queue, 1).await;
    assert_eq!(queue.depth().await.unwrap().entries, 1);
    assert_eq!(queue.reader("a").read(10, SOON).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_reader_leaves_the_shards_beyond_its_own_too() {
    let server = Server::start().await;
    let (many, one) = (server.sharded(4), server.sharded(1));
    for producer in producers() {
        put(&many, producer).await;
    }
    let mut reader = one.reader("a");
    let mut seen = 0;
    while seen < 4 {
        let items = reader.read(10, SOON).await.unwrap();
        seen += items.len();
        one.acknowledge(&done(&items)).await.unwrap();
    }
    // So that it is known that they are empty.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(one.depths().await.unwrap().len(), 1);
    reader.leave().await.unwrap();
    for shard in 0..4 {
        let left: Vec<redis::Value> =
            server.say(&format!("XINFO CONSUMERS logweir:{{{shard}}}:queue workers")).await;
        assert!(left.is_empty(), "{shard}: {left:?}");
    }
}

/// 64 shards cost no more trips to Redis than a few.
#[tokio::test]
async fn many_shards_are_asked_in_one_go() {
    let server = Server::start_on_tcp(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let proxy = Slow::before(server.port(), Duration::from_millis(15)).await;
    let of = |shards| {
        let settings = Settings::new(&proxy.url, Ack::Fsync, SOON);
        Queue::new(Settings { shards: Shards::new(shards).unwrap(), ..settings }).unwrap()
    };
    let time = async |queue: &Queue| {
        queue.check().await.unwrap();
        let begun = Instant::now();
        queue.depths().await.unwrap();
        queue.forget_old_keys().await.unwrap();
        queue.reader("a").remove_dead_consumers(SOON).await.unwrap();
        begun.elapsed()
    };
    let (one, many) = (time(&of(1)).await, time(&of(64)).await);
    assert!(many < 4 * one, "{one:?} {many:?}");
    // A sweep that finds nothing asks for eight at a time.
    let sweep = async |queue: &Queue| {
        let mut reader = queue.reader("a");
        reader.read(64, NOW).await.unwrap();
        let begun = Instant::now();
        reader.read(64, NOW).await.unwrap();
        begun.elapsed()
    };
    let (two, many) = (sweep(&of(2)).await, sweep(&of(64)).await);
    assert!(many < 20 * two, "{two:?} {many:?}");
}

#[tokio::test]
async fn scripts_that_were_flushed_are_sent_again_for_all_shards() {
    let server = Server::start().await;
    let queue = server.sharded(4);
    for producer in producers() {
        put(&queue, producer).await;
    }
    for _ in 0..2 {
        server.say::<()>("SCRIPT FLUSH").await;
        let depths = queue.depths().await.unwrap();
        assert_eq!(depths.iter().map(|(_, depth)| depth.entries).collect::<Vec<_>>(), [1, 1, 1, 1]);
    }
}
