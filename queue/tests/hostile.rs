//! What somebody writes into Redis by hand, by mistake or not, loses nothing, doubles nothing, and sticks nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{
    Burial, DeadLimits, Depth, Enqueued, EntryId, IdempotencyKey, Item, QueueError, Replay, Restored,
};
use redis::cmd;
use std::time::Duration;
use support::{ROOMY, SOON, Server, add, bury, entry};

const NOW: Duration = Duration::ZERO;

fn key<'a>(name: &'a str) -> IdempotencyKey<'a> {
    IdempotencyKey { key: name, window: SOON, max_keys: 100, max_bytes: 10_000, answer: "yes" }
}

async fn length(server: &Server, name: &str) -> u64 {
    server.say(&format!("XLEN logweir:{{0}}:{name}")).await
}

#[tokio::test]
async fn counters_that_are_no_numbers_hold_nothing_up_and_double_nothing() {
    let server = Server::start().await;
    let queue = server.queue();
    for (nth, value) in (0..).zip(["abc", "nan", "inf", "-5", "1e300", "12.5", "99999999999999999999", ""]) {
        let garble = async || {
            for name in ["bytes", "dead:bytes", "idem:bytes"] {
                let mut set = cmd("SET");
                set.arg(format!("logweir:{{0}}:{name}")).arg(value);
                set.exec_async(&mut server.raw().await).await.unwrap();
            }
        };
        garble().await;
        queue.depth().await.unwrap();
        let name = format!("k{nth}");
        let keyed = queue.enqueue(&entry(1, b"keyed"), ROOMY, Some(&key(&name))).await.unwrap();
        let Enqueued::Added { id: keyed, entries: 1, .. } = keyed else { panic!("{value}: {keyed:?}") };
        let again = queue.enqueue(&entry(1, b"keyed"), ROOMY, Some(&key(&name))).await.unwrap();
        assert_eq!(again, Enqueued::Repeated { answer: "yes".to_owned() });
        garble().await;
        let id = add(&queue, 4, b"body").await;
        garble().await;
        let dead = bury(&queue, &id, "w", "broken").await.unwrap();
        let letter = queue.dead_letter_by_id(&dead).await.unwrap().unwrap();
        garble().await;
        let Replay::Queued(_) = queue.replay(&dead).await.unwrap() else { panic!() };
        assert_eq!((length(&server, "queue").await, length(&server, "dead").await), (2, 0), "{value}");
        garble().await;
        let Restored::Added(restored) = queue.restore_dead_letter(&letter, Some(&dead)).await.unwrap() else {
            panic!()
        };
        garble().await;
        assert!(queue.remove_dead_letter(&restored).await.unwrap());
        garble().await;
        queue.recount().await.unwrap();
        assert_eq!(queue.depth().await.unwrap().bytes, 9, "{value}");
        garble().await;
        let items = queue.reader("a").read(10, NOW).await.unwrap();
        assert_eq!(items[0].id(), &keyed);
        let done: Vec<_> = items.iter().map(Item::done).collect();
        assert_eq!(queue.acknowledge(&done).await.unwrap(), 2, "{value}");
        assert_eq!(queue.depth().await.unwrap(), Depth::default(), "{value}");
    }
}

/// The collector numbers these events itself, so that a batch that was added in spite of an error would be added again
/// under other numbers.
#[tokio::test]
async fn keys_of_another_type_refuse_before_anything_is_added() {
    let server = Server::start().await;
    let queue = server.queue();
    add(&queue, 1, b"before").await;
    for name in ["bytes", "idem", "idem:answers", "idem:bytes"] {
        server.say::<()>(&format!("DEL logweir:{{0}}:{name}")).await;
        server.say::<()>(&format!("LPUSH logweir:{{0}}:{name} mine")).await;
        let error = queue.enqueue(&entry(4, b"keyed"), ROOMY, Some(&key("k"))).await.unwrap_err();
        assert!(matches!(&error, QueueError::Protocol(why) if why.contains("WRONGTYPE")), "{error:?}");
        assert_eq!(length(&server, "queue").await, 1, "{name}");
        server.say::<()>(&format!("DEL logweir:{{0}}:{name}")).await;
    }
    let added = queue.enqueue(&entry(4, b"keyed"), ROOMY, Some(&key("k"))).await.unwrap();
    assert!(matches!(added, Enqueued::Added { .. }));
}

#[tokio::test]
async fn notes_of_attempts_that_make_no_sense_are_none() {
    let server = Server::start().await;
    let queue = server.queue();
    let sane = r#"{"at_ms":1,"worker":"w","error":"e"}"#;
    let notes = [
        b"".to_vec(),
        b"no JSON".to_vec(),
        b"[]".to_vec(),
        b"7".to_vec(),
        b"null".to_vec(),
        br#"{"count":"x"}"#.to_vec(),
        br#"{"count":1e999,"first_at_ms":1e999,"log":[1e999]}"#.to_vec(),
        br#"{"count":-3,"first_at_ms":1.5,"log":{"a":1}}"#.to_vec(),
        br#"{"count":4294967296,"first_at_ms":1,"log":"text"}"#.to_vec(),
        br#"{"count":1,"first_at_ms":1,"log":[1,null,{"at_ms":"x"},[]]}"#.to_vec(),
        br#"{"count":1,"first_at_ms":1,"log":[{"at_ms":1.5,"worker":3,"error":{}}]}"#.to_vec(),
        b"{\"count\":1,\"first_at_ms\":1,\"log\":[{\"at_ms\":1,\"worker\":\"\xff\",\"error\":\"\xfe\"}]}"
            .to_vec(),
        format!(r#"{{"count":2,"first_at_ms":1,"log":[{}1{}]}}"#, "[".repeat(2000), "]".repeat(2000)).into(),
        format!(r#"{{"count":2,"first_at_ms":1,"log":[{sane},7]}}"#).into(),
    ];
    for note in notes {
        let shown = String::from_utf8_lossy(&note[..note.len().min(60)]).into_owned();
        let id = add(&queue, 1, b"body").await;
        let garble = async || {
            let mut set = cmd("HSET");
            set.arg("logweir:{0}:attempts").arg(&id.0).arg(&note);
            set.exec_async(&mut server.raw().await).await.unwrap();
        };
        garble().await;
        queue.attempts(&id).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        let noted = queue.note_attempt(&id, "w", "broken").await.unwrap_or_else(|e| panic!("{shown}: {e}"));
        assert!((1..=3).contains(&noted.count) && noted.last_error() == "broken", "{shown}: {noted:?}");
        assert_eq!(queue.attempts(&id).await.unwrap().unwrap(), noted, "{shown}");
        garble().await;
        queue.forgive_attempt(&id).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
        garble().await;
        let Burial::Dead(letter) = queue.dead_letter(&id, "w", "x", DeadLimits::NONE).await.unwrap() else {
            panic!()
        };
        let letter = queue.dead_letter_by_id(&letter).await.unwrap().unwrap();
        assert_eq!(letter.field("body"), Some(&b"body"[..]), "{shown}");
    }
}

/// More than one script can add: it stays where it is, and that is said each time; nobody else waits for it.
#[tokio::test]
async fn an_entry_with_too_many_fields_stays_and_is_nobody_elses_trouble() {
    let server = Server::start().await;
    let queue = server.queue();
    let many: String = (0..9_000).map(|n| format!(" f{n} x")).collect();
    let id = EntryId(server.say(&format!("XADD logweir:{{0}}:queue *{many}")).await);
    add(&queue, 1, b"body").await;
    let items = queue.reader("a").read(10, NOW).await.unwrap();
    assert!(matches!(&items[0], Item::Unreadable(_)));
    let error = queue.dead_letter(&id, "w", "broken", DeadLimits::NONE).await.unwrap_err();
    assert!(matches!(&error, QueueError::Protocol(why) if why.contains("too many")), "{error:?}");
    assert_eq!((length(&server, "queue").await, length(&server, "dead").await), (2, 0));
    assert_eq!(queue.acknowledge(&[items[1].done()]).await.unwrap(), 1);
    assert_eq!(queue.acknowledge(&[items[0].done()]).await.unwrap(), 1, "by hand it can be removed");
}

/// The largest ID that there is: no other can follow it, which is said; what is there can be worked off.
#[tokio::test]
async fn the_last_id_of_all_can_be_read_and_acknowledged() {
    let server = Server::start().await;
    let queue = server.queue();
    const LAST: &str = "18446744073709551615-18446744073709551615";
    server.say::<String>(&format!("XADD logweir:{{0}}:queue {LAST} body x")).await;
    let error = queue.enqueue(&entry(1, b"body"), ROOMY, None).await.unwrap_err();
    assert!(matches!(&error, QueueError::Protocol(why) if why.contains("last possible ID")), "{error:?}");
    let items = queue.reader("a").read(10, NOW).await.unwrap();
    assert_eq!(items[0].id().to_string(), LAST);
    assert_eq!(queue.depth().await.unwrap().oldest_age_ms, Some(0));
    assert_eq!(queue.reader("b").reclaim(NOW, 10).await.unwrap().len(), 1);
    assert_eq!(queue.acknowledge(&[items[0].done()]).await.unwrap(), 1);
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// An entry that is neither pending nor removed would be seen by nobody any more.
#[tokio::test]
async fn an_acknowledgement_is_whole_or_none() {
    let server = Server::start().await;
    let queue = server.queue();
    for seq in [1, 4, 7] {
        add(&queue, seq, b"body").await;
    }
    let items = queue.reader("a").read(10, NOW).await.unwrap();
    let done: Vec<_> = items.iter().map(Item::done).collect();
    for name in ["bytes", "attempts"] {
        server.say::<()>(&format!("DEL logweir:{{0}}:{name}")).await;
        server.say::<()>(&format!("LPUSH logweir:{{0}}:{name} mine")).await;
        assert!(queue.acknowledge(&done).await.is_err());
        assert!(queue.dead_letter(items[0].id(), "w", "x", DeadLimits::NONE).await.is_err());
        server.say::<()>(&format!("DEL logweir:{{0}}:{name}")).await;
        let depth = queue.depth().await.unwrap();
        assert_eq!((depth.entries, depth.pending, depth.dead), (3, 3, 0), "{name}");
    }
    assert_eq!(queue.acknowledge(&done).await.unwrap(), 3);
}
