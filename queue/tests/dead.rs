//! Failed attempts, dead letters, and back again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{
    Burial, DeadLetter, DeadLimits, EntryId, Item, Numbers, Queue, QueueError, Replay, Restored,
};
use std::time::Duration;
use support::{Server, add, batch, bury, seqs};

const NOW: Duration = Duration::ZERO;

fn missing() -> EntryId {
    EntryId("1-1".to_owned())
}

async fn letters(queue: &Queue) -> Vec<DeadLetter> {
    queue.dead_letters(None, 100).await.unwrap()
}

type Flat = Vec<(String, Vec<Vec<u8>>)>;

#[tokio::test]
async fn attempts_are_counted_remembered_and_forgiven() {
    let server = Server::start().await;
    let queue = server.queue();
    let id = add(&queue, 1, b"body").await;
    assert_eq!(queue.attempts(&id).await.unwrap(), None);
    let first = queue.note_attempt(&id, "w1", "broke \"it\"\nand\u{0} more é").await.unwrap();
    assert_eq!((first.count, first.last_error()), (1, "broke \"it\" and more é"));
    assert!(first.first_at_ms > 1_700_000_000_000, "{first:?}");
    let second = queue.note_attempt(&id, "w2", &"long ".repeat(1000)).await.unwrap();
    assert_eq!((second.count, second.first_at_ms, second.last_error().len()), (2, first.first_at_ms, 1024));
    // Another process sees the same.
    assert_eq!(server.queue().attempts(&id).await.unwrap(), Some(second.clone()));
    queue.forgive_attempt(&id).await.unwrap();
    let left = queue.attempts(&id).await.unwrap().unwrap();
    assert_eq!((left.count, left.first_at_ms), (1, first.first_at_ms));
    queue.forgive_attempt(&id).await.unwrap();
    assert_eq!(queue.attempts(&id).await.unwrap(), None);
    queue.forgive_attempt(&id).await.unwrap();
}

#[tokio::test]
async fn nothing_is_remembered_of_what_is_gone() {
    let server = Server::start().await;
    let queue = server.queue();
    let id = add(&queue, 1, b"body").await;
    queue.note_attempt(&id, "w", "e").await.unwrap();
    let items = queue.reader("a").read(1, NOW).await.unwrap();
    queue.acknowledge(&[items[0].done()]).await.unwrap();
    assert_eq!(queue.attempts(&id).await.unwrap(), None);
    assert_eq!(queue.note_attempt(&id, "w", "late").await.unwrap().count, 1);
    assert_eq!(queue.attempts(&id).await.unwrap(), None);
    assert_eq!(server.say::<u64>("EXISTS logweir:{0}:attempts").await, 0);
}

#[tokio::test]
async fn a_dead_letter_and_its_replay_keep_every_field_byte_for_byte() {
    let server = Server::start().await;
    let queue = server.queue();
    let body: Vec<u8> = (0..=255).chain([0, 0, 13, 10]).collect();
    let id = add(&queue, 7, &body).await;
    let before: Flat = server.say("XRANGE logweir:{0}:queue - +").await;
    queue.reader("a").read(1, NOW).await.unwrap();
    let noted = queue.note_attempt(&id, "w1", "first").await.unwrap();
    queue.note_attempt(&id, "w1", "second").await.unwrap();

    let dead_id = bury(&queue, &id, "w2", "will not decode").await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.pending, depth.dead), (0, 0, 0, 1));
    assert_eq!(queue.attempts(&id).await.unwrap(), None);
    let letter = queue.dead_letter_by_id(&dead_id).await.unwrap().unwrap();
    assert_eq!(letters(&queue).await, std::slice::from_ref(&letter));
    assert_eq!((&letter.id, &letter.entry_id, letter.attempts), (&dead_id, &id, 2));
    assert_eq!((letter.error.as_str(), letter.worker.as_str()), ("will not decode", "w2"));
    assert_eq!(letter.first_seen_ms, noted.first_at_ms);
    let log: Vec<(&str, &str)> = letter.log.iter().map(|a| (a.worker.as_str(), a.error.as_str())).collect();
    assert_eq!(log, [("w1", "first"), ("w1", "second")]);
    assert!(letter.dead_at_ms >= letter.first_seen_ms);
    assert_eq!(letter.field("body").unwrap(), &body);
    assert_eq!(letter.field("seq").unwrap(), b"7");
    let flat: Vec<Vec<u8>> = letter.fields.iter().flat_map(|(k, v)| [k.to_vec(), v.to_vec()]).collect();
    assert_eq!(flat, before[0].1);

    let Replay::Queued(new_id) = queue.replay(&dead_id).await.unwrap() else { panic!() };
    let after: Flat = server.say("XRANGE logweir:{0}:queue - +").await;
    assert_eq!((after.len(), &after[0].0, &after[0].1), (1, &new_id.0, &before[0].1));
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.dead), (1, 260, 0));
    assert_eq!(queue.attempts(&new_id).await.unwrap(), None, "its attempts start anew");
    assert_eq!(queue.replay(&dead_id).await.unwrap(), Replay::Unknown);
    assert_eq!(seqs(&queue.reader("a").read(1, NOW).await.unwrap()), [7]);
}

#[tokio::test]
async fn what_is_gone_does_not_die() {
    let server = Server::start().await;
    let queue = server.queue();
    assert_eq!(bury(&queue, &missing(), "w", "e").await, None);
    assert_eq!(queue.dead_letter_by_id(&missing()).await.unwrap(), None);
    assert_eq!(queue.replay(&missing()).await.unwrap(), Replay::Unknown);
    assert!(letters(&queue).await.is_empty());
    let id = add(&queue, 1, b"body").await;
    add(&queue, 4, b"body").await;
    assert!(bury(&queue, &id, "w", "e").await.is_some());
    assert_eq!(bury(&queue, &id, "w", "e").await, None, "a second worker comes too late");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.bytes, depth.dead), (1, 4, 1));
    assert_eq!(letters(&queue).await[0].attempts, 0);
}

#[tokio::test]
async fn fields_of_any_name_survive_even_those_of_a_dead_letter() {
    let server = Server::start().await;
    let queue = server.queue();
    let words = "dead_entry 5-5 dead_error mine dead_at never v 9 body xyz body again dead_error twice";
    let id = EntryId(server.say(&format!("XADD logweir:{{0}}:queue * {words}")).await);
    server.say::<i64>("INCRBY logweir:{0}:bytes 3").await;
    add(&queue, 1, b"other").await;
    let dead_id = bury(&queue, &id, "w", "unreadable").await.unwrap();
    assert_eq!(queue.depth().await.unwrap().bytes, 5);
    let letter = queue.dead_letter_by_id(&dead_id).await.unwrap().unwrap();
    assert_eq!((letter.entry_id, letter.error.as_str()), (id, "unreadable"));
    assert_eq!(letter.fields.len(), 7);
    let Replay::Queued(new_id) = queue.replay(&dead_id).await.unwrap() else { panic!() };
    let back: Flat = server.say(&format!("XRANGE logweir:{{0}}:queue {new_id} {new_id}")).await;
    let expected: Vec<Vec<u8>> = words.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    assert_eq!(back[0].1, expected);
    assert_eq!(queue.depth().await.unwrap().bytes, 8);
}

#[tokio::test]
async fn an_entry_with_thousands_of_fields_can_die_too() {
    let server = Server::start().await;
    let queue = server.queue();
    let many: String = (0..3000).map(|n| format!(" f{n} x")).collect();
    let id = EntryId(server.say(&format!("XADD logweir:{{0}}:queue *{many}")).await);
    let dead_id = bury(&queue, &id, "w", "odd").await.unwrap();
    assert_eq!(queue.dead_letter_by_id(&dead_id).await.unwrap().unwrap().fields.len(), 3000);
    assert!(matches!(queue.replay(&dead_id).await.unwrap(), Replay::Queued(_)));
}

#[tokio::test]
async fn dead_letters_are_listed_page_by_page() {
    let server = Server::start().await;
    let queue = server.queue();
    for seq in 0..5 {
        let id = add(&queue, 1 + 3 * seq, b"body").await;
        bury(&queue, &id, "w", "e").await;
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = queue.dead_letters(after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.id.clone());
        seen.extend(page.iter().map(|letter| letter.field("seq").unwrap().to_vec()));
    }
    assert_eq!(seen, [b"1".to_vec(), b"4".to_vec(), b"7".to_vec(), b"10".to_vec(), b"13".to_vec()]);
    assert!(queue.dead_letters(None, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_others_wrote_among_the_dead_is_said_and_not_replayed() {
    let server = Server::start().await;
    let queue = server.queue();
    let foreign = EntryId(server.say("XADD logweir:{0}:dead * some thing").await);
    let said = queue.dead_letter_by_id(&foreign).await.unwrap_err().to_string();
    assert!(said.contains(&foreign.0), "{said}");
    assert!(queue.replay(&foreign).await.is_err());
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.dead), (0, 1));
}

#[tokio::test]
async fn an_unread_entry_can_die_and_is_not_read_then() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut reader = queue.reader("a");
    assert!(reader.read(1, NOW).await.unwrap().is_empty());
    let id = add(&queue, 1, b"one").await;
    add(&queue, 4, b"two").await;
    bury(&queue, &id, "w", "e").await;
    let items: Vec<Item> = reader.read(10, NOW).await.unwrap();
    assert_eq!(seqs(&items), [4]);
}

#[tokio::test]
async fn each_attempt_is_remembered_up_to_the_last_ten() {
    let server = Server::start().await;
    let queue = server.queue();
    let id = add(&queue, 1, b"body").await;
    for n in 1..=13 {
        queue.note_attempt(&id, &format!("w{n}"), &format!("because\nof {n}")).await.unwrap();
    }
    queue.forgive_attempt(&id).await.unwrap();
    let noted = queue.attempts(&id).await.unwrap().unwrap();
    assert_eq!((noted.count, noted.last_error()), (12, "because of 12"));
    let tenth = queue.note_attempt(&id, "w", "once more").await.unwrap();
    assert_eq!((tenth.count, tenth.log.len()), (13, 10));
    assert!(tenth.log.is_sorted_by_key(|attempt| attempt.at_ms), "{tenth:?}");
    let dead_id = bury(&queue, &id, "w", "given up").await.unwrap();
    let letter = queue.dead_letter_by_id(&dead_id).await.unwrap().unwrap();
    assert_eq!((letter.attempts, letter.log), (13, tenth.log));
    // Forgiven so often that none of those that are kept is left.
    let id = add(&queue, 4, b"body").await;
    for _ in 0..12 {
        queue.note_attempt(&id, "w", "e").await.unwrap();
    }
    for _ in 0..11 {
        queue.forgive_attempt(&id).await.unwrap();
    }
    let noted = queue.attempts(&id).await.unwrap().unwrap();
    assert_eq!((noted.count, noted.last_error()), (1, ""));
    assert_eq!(queue.note_attempt(&id, "w", "again").await.unwrap().log.len(), 1);
}

#[tokio::test]
async fn full_dead_letters_leave_the_entry_where_it_is() {
    let server = Server::start().await;
    let queue = server.queue();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(add(&queue, 1 + 3 * n, &[b'x'; 1000]).await);
    }
    queue.reader("a").read(10, NOW).await.unwrap();
    queue.note_attempt(&ids[1], "w", "e").await.unwrap();
    let ask = async |id: &EntryId, letters, bytes| {
        queue.dead_letter(id, "w", "e", DeadLimits { letters, bytes }).await.unwrap()
    };
    let Burial::Dead(first) = ask(&ids[0], 1, 1).await else {
        panic!("there is room for the one that fills it")
    };
    let before = queue.depth().await.unwrap();
    assert!((1_000..2_000).contains(&before.dead_bytes), "{before:?}");
    let full = Burial::Full { letters: 1, bytes: before.dead_bytes };
    assert_eq!(ask(&ids[1], 1, u64::MAX).await, full);
    assert_eq!(ask(&ids[1], u64::MAX, before.dead_bytes).await, full);
    assert_eq!(ask(&missing(), 1, 1).await, Burial::Gone);
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.pending, depth.bytes, depth.dead), (3, 3, 3_000, 1));
    assert_eq!(queue.attempts(&ids[1]).await.unwrap().unwrap().count, 1);

    // Whatever makes room makes room: one more byte, a replay, a drop, or a hand.
    assert!(matches!(ask(&ids[1], 2, before.dead_bytes + 1).await, Burial::Dead(_)));
    assert!(matches!(queue.replay(&first).await.unwrap(), Replay::Queued(_)));
    let second = letters(&queue).await[0].id.clone();
    assert!(queue.remove_dead_letter(&second).await.unwrap());
    assert!(!queue.remove_dead_letter(&second).await.unwrap());
    assert_eq!(queue.depth().await.unwrap().dead_bytes, 0);
    assert!(matches!(ask(&ids[2], 1, 1).await, Burial::Dead(_)));
    server.say::<u64>("DEL logweir:{0}:dead").await;
    assert!(matches!(ask(&ids[3], 1, 1).await, Burial::Dead(_)));
    assert_eq!(queue.depth().await.unwrap().dead_bytes, server.dead_bytes_by_hand().await);
}

#[tokio::test]
async fn a_letter_can_be_put_back_among_the_dead_unless_others_came() {
    let server = Server::start().await;
    let queue = server.queue();
    let body: Vec<u8> = (0..=255).collect();
    let (one, two) = (add(&queue, 1, &body).await, add(&queue, 4, b"two").await);
    queue.note_attempt(&one, "w1", "first").await.unwrap();
    let first = bury(&queue, &one, "w2", "second").await.unwrap();
    let letter = queue.dead_letter_by_id(&first).await.unwrap().unwrap();
    assert!(queue.remove_dead_letter(&first).await.unwrap());
    assert_eq!(queue.restore_dead_letter(&letter, None).await.unwrap(), Restored::Moved(first.clone()));
    let second = bury(&queue, &two, "w", "e").await.unwrap();
    assert_eq!(
        queue.restore_dead_letter(&letter, Some(&first)).await.unwrap(),
        Restored::Moved(second.clone())
    );
    let Restored::Added(third) = queue.restore_dead_letter(&letter, Some(&second)).await.unwrap() else {
        panic!()
    };
    assert!(third != first && third != second);
    let back = queue.dead_letter_by_id(&third).await.unwrap().unwrap();
    assert_eq!(back, DeadLetter { id: third.clone(), ..letter });
    assert_eq!(queue.depth().await.unwrap().dead_bytes, server.dead_bytes_by_hand().await);
    assert!(matches!(queue.replay(&third).await.unwrap(), Replay::Queued(_)));
    assert_eq!(seqs(&queue.reader("a").read(10, NOW).await.unwrap()), [1]);
    // Into nothing at all.
    server.say::<()>("FLUSHALL").await;
    assert!(matches!(queue.restore_dead_letter(&back, None).await.unwrap(), Restored::Added(_)));
    let wrong = DeadLetter { entry_id: EntryId("-".to_owned()), ..back };
    assert!(matches!(queue.restore_dead_letter(&wrong, None).await, Err(QueueError::Usage(_))));
}

#[tokio::test]
async fn streams_are_looked_through_without_their_bodies() {
    let server = Server::start().await;
    let queue = server.queue();
    assert!(queue.look_at_dead(None, None).await.unwrap().found.is_empty());
    assert_eq!(queue.look_at_queue(None, None).await.unwrap().next, None);
    let large = vec![b'x'; 3 << 20];
    for n in 0..5 {
        let id = add(&queue, 1 + 3 * n, &large).await;
        bury(&queue, &id, "w", "e").await.unwrap();
    }
    let other = EntryId(server.say("XADD logweir:{0}:queue * v 1 producer someone body abc").await);
    bury(&queue, &other, "w", "e").await.unwrap();

    let (mut after, mut seen, mut calls) = (None, Vec::new(), 0);
    loop {
        let looked = queue.look_at_dead(after.as_ref(), None).await.unwrap();
        calls += 1;
        assert!(looked.found.iter().all(|letter| letter.field("body").is_none()));
        seen.extend(looked.found);
        after = looked.next;
        if after.is_none() {
            break;
        }
    }
    assert!(calls >= 2, "a call looks at a bounded piece");
    let whole: Vec<_> = letters(&queue).await.into_iter().map(|letter| letter.id).collect();
    assert_eq!(seen.iter().map(|letter| letter.id.clone()).collect::<Vec<_>>(), whole);
    assert_eq!(seen[0].error, "e");

    add(&queue, 100, b"one").await;
    server.say::<String>("XADD logweir:{0}:queue * producer someone").await;
    add(&queue, 103, b"two").await;
    let producer = batch(1).producer;
    let looked = queue.look_at_queue(None, Some(producer)).await.unwrap();
    let first: Vec<u64> =
        looked.found.iter().map(|entry| Numbers::of(&entry.fields).unwrap().batch.seq.get()).collect();
    assert_eq!((first, looked.next), (vec![100, 103], None));
    assert_eq!(queue.holder(&looked.found[0].id).await.unwrap(), None);
    queue.reader("a").read(1, NOW).await.unwrap();
    let holder = queue.holder(&looked.found[0].id).await.unwrap().unwrap();
    assert_eq!((holder.consumer.as_str(), holder.deliveries), ("a", 1));
    assert_eq!(queue.holder(&looked.found[1].id).await.unwrap(), None);
}
