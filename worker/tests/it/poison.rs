//! Batches that fail by their own fault: attempts, then the dead letters; their neighbours are counted.

use crate::common::{Batch, Rig, eventually, line, now_ms};
use logweir_proto::encoding::Encoding;
use logweir_queue::Replay;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_bad_ones_die_alone_and_with_all_their_fields() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "3", "--concurrency", "1"]).await;
    worker.ready().await;
    // A constraint that only one batch breaks: the transaction of the whole group fails.
    rig.postgres.run("ALTER TABLE log_counts ADD CONSTRAINT no_poison CHECK (service <> 'poison')").await;
    worker.stop().await;

    let mut bad = Vec::new();
    for n in 1..=20u64 {
        rig.put(&Batch::new(u128::from(n), 1, 10, "api")).await;
        match n {
            5 => bad.push((rig.put(&Batch::new(100, 1, 3, "poison")).await, "no_poison")),
            9 => {
                let garbled =
                    Batch { body: b"\x28\xb5\x2f\xfdnonsense".to_vec(), ..Batch::new(101, 1, 3, "x") };
                bad.push((rig.put(&garbled).await, "no whole zstd stream"));
            }
            11 => {
                let short = Batch { events: 4, ..Batch::new(102, 1, 3, "x") };
                bad.push((rig.put(&short).await, "fewer events than the 4"));
            }
            12 => {
                let nul = Batch::of_lines(103, 1, &[line(now_ms(), "a\\u0000b", "info")]);
                bad.push((rig.put(&nul).await, "event 1 breaks the schema: invalid_service"));
            }
            13 => {
                let long = Batch::of_lines(104, 1, &[line(now_ms(), &"x".repeat(129), "info")]);
                bad.push((rig.put(&long).await, "invalid_service"));
            }
            _ => {}
        }
    }
    let raw = rig.redis.cli(&["XADD", "logweir:{0}:queue", "*", "v", "1", "agent", "odd", "body", "12345"]);
    bad.push((raw.parse().unwrap(), "`producer` is missing"));

    let worker = rig.worker(&["--max-attempts", "3", "--concurrency", "1"]).await;
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 200);
    let letters = rig.queue.dead_letters(None, 100).await.unwrap();
    assert_eq!(letters.len(), bad.len());
    for (id, error) in bad {
        let letter = letters.iter().find(|letter| letter.entry_id == id).unwrap();
        assert!(letter.error.contains(error), "{error}: {}", letter.error);
        assert_eq!(letter.attempts, 3, "{error}");
        assert!(letter.dead_at_ms > letter.first_seen_ms, "{error}");
        assert_eq!(letter.log.len(), 3, "{error}");
        assert!(letter.log.iter().all(|attempt| attempt.error.contains(error)), "{:?}", letter.log);
        assert!(letter.log.is_sorted_by_key(|attempt| attempt.at_ms));
        assert!(
            !letter.worker.is_empty() && letter.field("agent").is_some() && letter.field("body").is_some()
        );
    }
    assert_eq!(
        (rig.depth().await.bytes, rig.redis.cli(&["HLEN", "logweir:{0}:attempts"])),
        (0, "0".to_owned())
    );
    assert_eq!(worker.metric("logweir_worker_batches_total{result=\"dead_lettered\"}"), 6.0);
    assert_eq!(worker.metric("logweir_worker_batches_total{result=\"failed\"}"), 18.0);

    // Mended, it is counted once, under its old numbers.
    rig.postgres.run("ALTER TABLE log_counts DROP CONSTRAINT no_poison").await;
    let letter = letters.iter().find(|letter| letter.error.contains("no_poison")).unwrap();
    rig.queue.replay(&letter.id).await.unwrap();
    rig.put(&Batch::new(100, 1, 3, "poison")).await;
    rig.drained().await;
    assert_eq!((rig.count("poison").await.0, rig.applied(100).await.as_str()), (3, "{[1,4)}"));
    worker.stop().await;
}

/// A batch that would take too many rows dies; one that has just as many as it may, and all others, are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_too_many_keys_dies_alone() {
    let rig = Rig::start().await;
    for n in 1..=10 {
        rig.put(&Batch::new(n, 1, 10, "api")).await;
    }
    let now = now_ms();
    let keys = |n: i64| -> Vec<String> { (0..n).map(|n| line(now, &format!("s{n}"), "info")).collect() };
    let over = rig.put(&Batch::of_lines(100, 1, &keys(51))).await;
    rig.put(&Batch::of_lines(101, 1, &keys(50))).await;
    for n in 11..=20 {
        rig.put(&Batch::new(n, 1, 10, "api")).await;
    }
    let worker = rig.worker(&["--max-attempts", "2", "--max-batch-keys", "50", "--concurrency", "1"]).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(101).await.as_str()), (200, "{[1,51)}"));
    let letters = rig.queue.dead_letters(None, 10).await.unwrap();
    assert!(letters.len() == 1 && letters[0].entry_id == over, "{letters:?}");
    assert!(letters[0].error.contains("--max-batch-keys") && letters[0].attempts == 2, "{letters:?}");
    assert_eq!(rig.count("s50").await.0, 0);
    worker.stop().await;
}

/// A sum that no longer fits fails the group's transaction, and in the end only its own batch.
#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_dies_alone() {
    let rig = Rig::start().await;
    let flags = ["--max-attempts", "2", "--concurrency", "1"];
    let worker = rig.worker(&flags).await;
    // The minute of the full row is said, so that it doesn't pass meanwhile.
    let at = now_ms();
    let of = |producer, seq, service| Batch::of_lines(producer, seq, &[line(at, service, "info")]);
    rig.put(&of(1, 1, "full")).await;
    rig.drained().await;
    worker.stop().await;
    rig.postgres.run(&format!("UPDATE log_counts SET count = {}", i64::MAX)).await;
    for n in 1..=20 {
        rig.put(&of(n + 1, 1, "api")).await;
        if n == 10 {
            rig.put(&of(1, 2, "full")).await;
        }
    }
    let worker = rig.worker(&flags).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (20, "{[1,2)}"));
    let letters = rig.queue.dead_letters(None, 10).await.unwrap();
    assert!(letters.len() == 1 && letters[0].error.contains("[22003]"), "{letters:?}");
    worker.stop().await;
}

/// While a bad batch rests between its attempts, others are counted by the same lane.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_batch_holds_nobody_up() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1000", "--concurrency", "1", "--lease", "500ms"]).await;
    let garbled = Batch { body: b"nonsense".to_vec(), enc: Encoding::Zstd, ..Batch::new(1, 1, 3, "x") };
    let id = rig.put(&garbled).await;
    let attempts = async || rig.queue.attempts(&id).await.unwrap().map_or(0, |a| a.count);
    eventually("some attempts", async || attempts().await >= 3).await;
    for n in 0..20 {
        rig.put(&Batch::new(2, n * 10 + 1, 10, "api")).await;
        eventually("the good one is counted", async || rig.count("api").await.0 == n * 10 + 10).await;
    }
    let before = attempts().await;
    eventually("it is tried again", async || attempts().await > before).await;
    // Its lease is kept meanwhile.
    assert_eq!(worker.metric("logweir_worker_reclaimed_total"), 0.0);
    assert_eq!((rig.depth().await.entries, rig.depth().await.dead), (1, 0));
    worker.stop().await;
}

/// A collector of a later version may be first: its batches wait for a worker that understands them.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_format_is_left_for_a_newer_worker() {
    let rig = Rig::start().await;
    rig.redis.cli(&["XADD", "logweir:{0}:queue", "*", "v", "2", "body", "12345"]);
    let worker = rig.worker(&["--max-attempts", "1", "--lease", "200ms"]).await;
    rig.put(&Batch::new(1, 1, 1, "api")).await;
    eventually("the good one is counted", async || rig.depth().await.entries == 1).await;
    eventually("it has been taken over again", async || {
        worker.metric("logweir_worker_reclaimed_total") >= 3.0
    })
    .await;
    assert_eq!((rig.depth().await.entries, rig.depth().await.dead), (1, 0));
    assert_eq!(worker.metric("logweir_worker_batches_total{result=\"failed\"}"), 0.0);
    worker.stop().await;
}

/// However many there are of them, and though all of them are found again in the time that it takes to look at them.
#[tokio::test(flavor = "multi_thread")]
async fn many_of_a_later_format_keep_nobody_from_the_others() {
    let rig = Rig::start().await;
    let worker = rig.worker(&[]).await;
    worker.ready().await;
    worker.stop().await;
    let later = "for i = 1, 1000 do redis.call('XADD', KEYS[1], '*', 'v', '2', 'body', '12345') end";
    rig.redis.cli(&["EVAL", later, "1", "logweir:{0}:queue"]);
    let mut dead = rig.queue.reader("dead");
    assert_eq!(dead.read(1_000, Duration::from_secs(1)).await.unwrap().len(), 1_000);
    // One that can be counted stands behind them in the same list, others are new.
    rig.put(&Batch::new(1, 1, 10, "held")).await;
    assert_eq!(dead.read(1, Duration::from_secs(1)).await.unwrap().len(), 1);
    let worker = rig.worker(&["--lease", "100ms", "--concurrency", "1", "--max-attempts", "1"]).await;
    for n in 0..20 {
        rig.put(&Batch::new(2, n * 10 + 1, 10, "new")).await;
        eventually("the new one is counted", async || rig.count("new").await.0 == n * 10 + 10).await;
    }
    eventually("the held one is counted", async || rig.count("held").await.0 == 10).await;
    eventually("it is acknowledged", async || rig.depth().await.entries == 1_000).await;
    assert_eq!((rig.depth().await.dead, rig.redis.cli(&["HLEN", "logweir:{0}:attempts"])), (0, "0".into()));
    worker.stop().await;
}

/// One that takes too long to be decoded dies alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_batch_dies_alone() {
    let rig = Rig::start().await;
    for n in 1..=5 {
        rig.put(&Batch::new(n, 1, 10, "api")).await;
    }
    let slow = rig.put(&Batch::new(100, 1, 400_000, "slow")).await;
    for n in 6..=10 {
        rig.put(&Batch::new(n, 1, 10, "api")).await;
    }
    let flags = [
        "--max-attempts",
        "2",
        "--batch-timeout",
        "100ms",
        "--max-batch-bytes",
        "100MiB",
        "--concurrency",
        "1",
    ];
    let worker = rig.worker(&flags).await;
    rig.drained().await;
    let letters = rig.queue.dead_letters(None, 10).await.unwrap();
    assert!(letters.len() == 1 && letters[0].entry_id == slow, "{letters:?}");
    assert!(letters[0].error.contains("--batch-timeout") && letters[0].attempts == 2, "{letters:?}");
    assert_eq!((rig.count("api").await.0, rig.count("slow").await.0), (100, 0));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_with_a_thousand_gaps_is_refused() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1"]).await;
    worker.ready().await;
    rig.postgres
        .run(
            "INSERT INTO batch_ledger SELECT '00000000-0000-0000-0000-000000000001',
               range_agg(int8range(n * 2, n * 2 + 1)) FROM generate_series(1, 1000) n",
        )
        .await;
    rig.put(&Batch::new(1, 5_000, 1, "api")).await;
    // Another lane might close the gap before.
    rig.drained().await;
    rig.put(&Batch::new(1, 2, 3, "api")).await;
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 1, "3 of 2, 3 and 4 was new, and closes a gap");
    let letters = rig.queue.dead_letters(None, 10).await.unwrap();
    assert!(letters.len() == 1 && letters[0].error.contains("gaps"), "{letters:?}");
    worker.stop().await;
}

/// When the dead letters are full, a further bad batch stays where it is, and good ones are counted past it.
#[tokio::test(flavor = "multi_thread")]
async fn full_dead_letters_throw_nothing_away() {
    let rig = Rig::start().await;
    let flags = ["--max-attempts", "2", "--concurrency", "1", "--lease", "300ms", "--max-dead-entries", "2"];
    let worker = rig.worker(&flags).await;
    worker.ready().await;
    let full = "logweir_worker_dead_letters_full";
    assert_eq!(worker.metric(full), 0.0);
    for n in 1..=50 {
        let garbled = Batch { body: b"nonsense".to_vec(), ..Batch::new(n, 1, 3, "x") };
        rig.put(&garbled).await;
    }
    eventually("they are full", async || worker.metric(full) == 1.0).await;
    eventually("two are dead", async || rig.depth().await.dead == 2).await;
    for n in 0..10 {
        rig.put(&Batch::new(100, n * 10 + 1, 10, "api")).await;
        eventually("the good one is counted", async || rig.count("api").await.0 == n * 10 + 10).await;
    }
    assert_eq!((rig.depth().await.entries, rig.depth().await.dead), (48, 2));
    let (status, body) = worker.get("/readyz");
    assert!(status == 200 && body.contains("full: 2 of 2 letters"), "{status} {body}");
    // Another worker finds them so, too, and counts.
    worker.stop().await;
    let worker = rig.worker(&flags).await;
    eventually("it knows", async || worker.metric(full) == 1.0).await;
    rig.put(&Batch::new(101, 1, 10, "web")).await;
    eventually("the good one is counted", async || rig.count("web").await.0 == 10).await;

    // As room is made, they come one after another, with their attempts.
    let mut gone = 0;
    while gone < 50 {
        for letter in rig.queue.dead_letters(None, 10).await.unwrap() {
            assert!(letter.attempts >= 2 && letter.error.contains("no whole zstd stream"), "{letter:?}");
            gone += u64::from(rig.queue.remove_dead_letter(&letter.id).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let depth = rig.depth().await;
    assert_eq!((depth.entries, depth.dead, depth.bytes, depth.dead_bytes), (0, 0, 0, 0));
    eventually("there is room again", async || worker.metric(full) == 0.0).await;
    assert!(!worker.get("/readyz").1.contains("full"));
    worker.stop().await;
}

/// A replay is a batch like any other: it can fail again, with its attempts counted anew, and counts once in the end,
/// whatever else of it is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_may_fail_again_and_counts_once_in_the_end() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "2"]).await;
    worker.ready().await;
    rig.postgres.run("ALTER TABLE log_counts ADD CONSTRAINT no_poison CHECK (service <> 'poison')").await;
    let batch = Batch::new(1, 1, 3, "poison");
    rig.put(&batch).await;
    let mut dead = Vec::new();
    for _ in 0..3 {
        eventually("it dies", async || rig.depth().await.dead == 1).await;
        let letter = rig.queue.dead_letters(None, 2).await.unwrap().remove(0);
        assert_eq!((letter.attempts, letter.log.len()), (2, 2), "its attempts start anew");
        assert!(!dead.contains(&letter.id));
        dead.push(letter.id.clone());
        // Two replays at once: one of them finds it.
        let (one, two) = tokio::join!(rig.queue.replay(&letter.id), rig.queue.replay(&letter.id));
        let queued = [one.unwrap(), two.unwrap()].iter().filter(|r| **r != Replay::Unknown).count();
        assert_eq!(queued, 1);
    }
    eventually("it dies", async || rig.depth().await.dead == 1).await;
    // Mended. Duplicates of the original and its first half are in flight with the replay.
    rig.postgres.run("ALTER TABLE log_counts DROP CONSTRAINT no_poison").await;
    let letter = rig.queue.dead_letters(None, 2).await.unwrap().remove(0);
    let half = Batch::new(1, 1, 2, "poison");
    let (replayed, ..) = tokio::join!(rig.queue.replay(&letter.id), rig.put(&batch), rig.put(&half));
    assert!(matches!(replayed.unwrap(), Replay::Queued(_)));
    rig.drained().await;
    assert_eq!((rig.count("poison").await.0, rig.applied(1).await.as_str()), (3, "{[1,4)}"));
    assert_eq!(rig.depth().await.dead, 0);
    worker.stop().await;
}
