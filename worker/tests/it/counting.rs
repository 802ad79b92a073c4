//! What is counted, and how often.

use crate::common::{Batch, Rig, SOON, eventually, line, now_ms};
use std::collections::BTreeMap;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_counts_once() {
    let rig = Rig::start().await;
    let batch = Batch::new(1, 1, 5, "api");
    // In one group, since nobody reads yet.
    for _ in 0..3 {
        rig.put(&batch).await;
    }
    let worker = rig.worker(&["--concurrency", "1"]).await;
    rig.drained().await;
    let bytes = 5 * u64::try_from(line(now_ms(), "api", "info").len()).unwrap();
    assert_eq!(rig.count("api").await, (5, bytes));
    // And again, when it is known.
    rig.put(&batch).await;
    rig.drained().await;
    assert_eq!(rig.count("api").await, (5, bytes));
    assert_eq!(rig.applied(1).await, "{[1,6)}");
    let batches = |result| worker.metric(&format!("logweir_worker_batches_total{{result=\"{result}\"}}"));
    eventually("the metrics", async || batches("duplicate") == 3.0).await;
    assert_eq!(batches("applied"), 1.0);
    assert_eq!(worker.metric("logweir_worker_events_counted_total"), 5.0);
    assert_eq!(worker.metric("logweir_worker_events_duplicate_total"), 15.0);
    assert_eq!(worker.metric("logweir_worker_lag_from_enqueue_seconds_count"), 4.0);
    worker.stop().await;
}

/// Halves of a batch that was tried whole, a rejected event's mended form, and a batch that was judged differently.
#[tokio::test(flavor = "multi_thread")]
async fn overlaps_count_event_by_event() {
    let rig = Rig::start().await;
    let worker = rig.worker(&[]).await;
    rig.put(&Batch::with_skip(1, 1, 10, &[3, 7], "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (8, "{[1,4),[5,8),[9,11)}"));
    rig.put(&Batch::new(1, 1, 6, "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (9, "{[1,8),[9,11)}"));
    // 8 is new, of 6 to 15 those from 11 on; index 9 is rejected.
    rig.put(&Batch::with_skip(1, 6, 10, &[9], "api")).await;
    rig.put(&Batch::new(1, 8, 1, "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (14, "{[1,15)}"));
    eventually("the metrics", async || {
        worker.metric("logweir_worker_batches_total{result=\"partial\"}") == 2.0
    })
    .await;
    worker.stop().await;
}

/// Whole, halves and overlaps of the same events, all in one transaction.
#[tokio::test(flavor = "multi_thread")]
async fn overlaps_in_one_group_count_event_by_event() {
    let rig = Rig::start().await;
    for (first, events) in [(1, 10), (1, 10), (1, 5), (6, 5), (4, 12), (9, 1), (12, 9), (1, 20)] {
        rig.put(&Batch::new(1, first, events, "api")).await;
    }
    let worker = rig.worker(&["--concurrency", "1"]).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (20, "{[1,21)}"));
    assert_eq!(worker.metric("logweir_worker_transactions_total{result=\"committed\"}"), 1.0);
    worker.stop().await;
}

/// The last number is 2^63 - 2, so that the end of its range still fits.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_numbers_count() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1"]).await;
    let last = u64::try_from(i64::MAX).unwrap() - 1;
    for _ in 0..2 {
        rig.put(&Batch::new(1, last - 9, 10, "api")).await;
        rig.put(&Batch::new(1, last, 1, "api")).await;
        rig.drained().await;
        let applied = rig.applied(1).await;
        assert_eq!(applied, format!("{{[{},{})}}", last - 9, last + 1));
        assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (10, 0));
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_are_minutes_services_and_levels() {
    let rig = Rig::start().await;
    let minute = now_ms() / 60_000 * 60_000 - 600_000;
    let lines = [
        line(minute, "a", "info"),
        line(minute + 59_999, "a", "INFO"),
        line(minute + 60_000, "a", "info"),
        line(minute, "a", "critical"),
        line(minute, "b", "err"),
        line(minute - 86_400_000, "b", "warning"),
    ];
    rig.put(&Batch::of_lines(1, 1, &lines)).await;
    let worker = rig.worker(&[]).await;
    rig.drained().await;
    let rows = rig
        .postgres
        .rows(&format!(
            "SELECT extract(epoch FROM bucket)::bigint - {}, service, level, count FROM log_counts ORDER BY 1, 2, 3",
            minute / 1_000
        ))
        .await;
    assert_eq!(rows, ["-86400 b warn 1", "0 a fatal 1", "0 a info 2", "0 b error 1", "60 a info 1"]);
    let rates = rig
        .postgres
        .rows("SELECT service, total, errors, error_rate FROM error_rate_per_minute ORDER BY bucket, service")
        .await;
    assert_eq!(rates[1..], ["a 3 1 0.3333333333333333", "b 1 1 1", "a 1 0 0"]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_a_loss_and_does_not_come_again() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--retention", "1h"]).await;
    let old = now_ms() - 7_200_000;
    let mut batch = Batch::of_lines(
        1,
        1,
        &[line(now_ms(), "api", "info"), line(old, "api", "info"), line(old, "b", "info")],
    );
    // A name with what Postgres can't hold.
    batch.agent = "we\0b".to_owned();
    for _ in 0..2 {
        rig.put(&batch).await;
        rig.drained().await;
    }
    assert_eq!((rig.count("api").await.0, rig.count("b").await.0), (1, 0));
    assert_eq!(rig.applied(1).await, "{[1,4)}");
    let sql = "SELECT agent, reason, events, bytes, extract(epoch FROM bucket)::bigint * 1000, producer FROM losses";
    let bytes = line(old, "api", "info").len() + line(old, "b", "info").len();
    let expected = format!(
        "we\u{fffd}b too_old 2 {bytes} {} 00000000-0000-0000-0000-000000000001",
        old.div_euclid(60_000) * 60_000
    );
    assert_eq!(rig.postgres.rows(sql).await, [expected]);
    // Of the far past there is no time in Postgres' calendar at hand, and nothing fails by it.
    rig.put(&Batch::of_lines(2, 1, &[line(0, "c", "info")])).await;
    rig.drained().await;
    assert_eq!(rig.postgres.row("SELECT count(*) FROM losses").await, "2");
    assert_eq!(worker.metric("logweir_worker_events_too_old_total"), 3.0);
    worker.stop().await;
}

/// Four lanes of two workers, hot rows, each batch twice or cut differently: exact, and without a deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn workers_side_by_side_count_exactly() {
    let rig = Rig::start().await;
    let mut truth: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..40u64 {
        for producer in 1..=3u128 {
            let service = ["api", "web", "db"][usize::try_from(round % 3).unwrap()];
            let whole = Batch::new(producer, round * 10 + 1, 10, service);
            *truth.entry(service).or_default() += 10;
            rig.put(&whole).await;
            if round % 2 == 0 {
                rig.put(&whole).await;
            } else {
                rig.put(&Batch::new(producer, round * 10 + 1, 4, service)).await;
                rig.put(&Batch::new(producer, round * 10 + 3, 8, service)).await;
            }
        }
    }
    let flags = ["--group", "5"];
    let workers = [rig.worker(&flags).await, rig.worker(&flags).await];
    rig.drained().await;
    for (service, count) in truth {
        assert_eq!(rig.count(service).await.0, count, "{service}");
    }
    for producer in 1..=3 {
        assert_eq!(rig.applied(producer).await, "{[1,401)}");
    }
    assert_eq!(rig.depth().await.dead, 0);
    for worker in workers {
        assert_eq!(worker.metric("logweir_worker_world_retries_total{what=\"conflict\"}"), 0.0);
        worker.stop().await;
    }
}

/// Batches of many producers that all count for the same cells, in every order: transactions wait for one another, and
/// never in a circle.
#[tokio::test(flavor = "multi_thread")]
async fn hot_cells_in_any_order_never_deadlock() {
    let rig = Rig::start().await;
    const SERVICES: usize = 60;
    let at = now_ms();
    let mut lines: Vec<String> =
        (0..SERVICES).map(|service| line(at, &format!("s{service}"), "info")).collect();
    let flags = ["--group", "1", "--concurrency", "4"];
    let workers = [rig.worker(&flags).await, rig.worker(&flags).await];
    rig.put(&Batch::of_lines(1, 1, &lines)).await;
    rig.drained().await;
    // A cell that somebody holds brings the lanes together: each has what it came by before, and waits.
    let mut other = rig.postgres.connect().await;
    let waiting = "SELECT count(*) >= 8 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    for round in 0..3 {
        let transaction = other.transaction().await.unwrap();
        transaction.batch_execute("UPDATE log_counts SET bytes = bytes WHERE service = 's33'").await.unwrap();
        for n in 0..16 {
            lines.rotate_left(7);
            lines.swap(3, 40);
            rig.put(&Batch::of_lines(2 + round * 16 + n, 1, &lines)).await;
        }
        eventually("all lanes wait", async || rig.postgres.row(waiting).await == "t").await;
        transaction.commit().await.unwrap();
        rig.drained().await;
    }
    let cells = "SELECT count(*), min(count), max(count) FROM log_counts";
    assert_eq!(rig.postgres.row(cells).await, format!("{SERVICES} 49 49"));
    assert_eq!(rig.postgres.row("SELECT sum(deadlocks) FROM pg_stat_database").await, "0");
    for worker in workers {
        assert_eq!(worker.metric("logweir_worker_world_retries_total{what=\"conflict\"}"), 0.0);
        worker.stop().await;
    }
}

/// The row is being changed by another transaction when the worker comes: what counts is what it says afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn the_locked_row_is_what_counts() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--concurrency", "1"]).await;
    rig.put(&Batch::new(1, 1, 2, "api")).await;
    rig.drained().await;
    let mut other = rig.postgres.connect().await;
    let transaction = other.transaction().await.unwrap();
    transaction.batch_execute("UPDATE batch_ledger SET applied = '{[1,3),[4,6)}'").await.unwrap();
    rig.put(&Batch::new(1, 1, 6, "api")).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("the worker waits", async || rig.postgres.row(waiting).await == "1").await;
    transaction.commit().await.unwrap();
    rig.drained().await;
    // Of 1 to 6 only 3 and 6 were new.
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (4, "{[1,7)}"));
    // The same with a row that isn't there yet.
    let transaction = other.transaction().await.unwrap();
    let insert = "INSERT INTO batch_ledger VALUES ('00000000-0000-0000-0000-000000000002', '{[1,3)}')";
    transaction.batch_execute(insert).await.unwrap();
    rig.put(&Batch::new(2, 1, 4, "web")).await;
    eventually("the worker waits", async || rig.postgres.row(waiting).await == "1").await;
    transaction.commit().await.unwrap();
    rig.drained().await;
    assert_eq!((rig.count("web").await.0, rig.applied(2).await.as_str()), (2, "{[1,5)}"));
    worker.stop().await;
}

/// The queue is first in, first out: who floods it makes others wait for what was there before them, and not for
/// what comes after. Here the flood goes on until all others are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_holds_nobody_up_for_ever() {
    let rig = Rig::start().await;
    let flood = |n: u64| Batch::new(1, n * 5 + 1, 5, "flood");
    for n in 0..2_000 {
        rig.put(&flood(n)).await;
    }
    for producer in 2..=11 {
        rig.put(&Batch::new(producer, 1, 5, "others")).await;
    }
    let worker = rig.worker(&["--concurrency", "1"]).await;
    worker.ready().await;
    let deadline = Instant::now() + SOON;
    let mut n = 2_000;
    while rig.count("others").await.0 < 50 {
        assert!(Instant::now() < deadline, "the others starve");
        for _ in 0..20 {
            rig.put(&flood(n)).await;
            n += 1;
        }
    }
    rig.drained().await;
    assert_eq!((rig.count("others").await.0, rig.count("flood").await.0), (50, n * 5));
    worker.stop().await;
}
