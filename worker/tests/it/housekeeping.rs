//! What is thrown away in time.

use crate::common::{Batch, Rig, eventually, line, now_ms};

const DAY_MS: i64 = 86_400_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_retention_goes() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--retention", "30d"]).await;
    let lines: Vec<String> = (0..12).map(|day| line(now_ms() - day * DAY_MS, "api", "info")).collect();
    rig.put(&Batch::of_lines(1, 1, &lines)).await;
    rig.put(&Batch::new(2, 1, 1, "api")).await;
    rig.drained().await;
    // Twelve days back, and tomorrow.
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'log_counts'::regclass";
    eventually("all partitions", async || rig.postgres.row(partitions).await == "13").await;
    worker.stop().await;
    rig.postgres
        .run(
            "UPDATE batch_ledger SET updated_at = now() - interval '6 days 1 minute'
             WHERE producer = '00000000-0000-0000-0000-000000000001';
             UPDATE batch_ledger SET updated_at = now() - interval '5 days 23 hours'
             WHERE producer = '00000000-0000-0000-0000-000000000002';
             INSERT INTO losses (at, reason) VALUES (now() - interval '6 days 1 minute', 'x'), (now(), 'y');
             CREATE TABLE log_counts_mine PARTITION OF log_counts FOR VALUES FROM ('2001-01-01') TO ('2001-01-02')",
        )
        .await;
    let worker = rig.worker(&["--retention", "5d", "--housekeeping", "50ms"]).await;
    // Today, five whole days back, the part of the sixth that is within five days, and tomorrow; and what isn't ours.
    eventually("old partitions are dropped", async || {
        matches!(rig.postgres.row(partitions).await.as_str(), "8" | "9")
    })
    .await;
    let left = rig.count("api").await.0;
    assert!(left == 7 || left == 8, "the whole days that are too old: {left}");
    eventually("old rows are deleted", async || {
        rig.postgres.row("SELECT count(*) FROM losses").await == "1"
            && rig.postgres.row("SELECT count(*) FROM batch_ledger").await == "1"
    })
    .await;
    assert_eq!(rig.applied(2).await, "{[1,2)}");
    worker.stop().await;
}

/// Or a late duplicate of it would count again.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_stays_as_long_as_its_newest_event() {
    let rig = Rig::start().await;
    let worker = rig.worker(&[]).await;
    let ahead = "SELECT round(extract(epoch FROM updated_at - now()) / 86400) FROM batch_ledger";
    for (seq, days) in [(1, 7), (2, 3), (3, 9)] {
        rig.put(&Batch::of_lines(1, seq, &[line(now_ms() + days * DAY_MS, "api", "info")])).await;
        rig.drained().await;
        assert_eq!(rig.postgres.row(ahead).await, days.max(7).to_string());
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_byte_counter_is_set_right() {
    let rig = Rig::start().await;
    rig.redis.cli(&["SET", "logweir:{0}:bytes", "123456789"]);
    let worker = rig.worker(&["--housekeeping", "50ms"]).await;
    eventually("the counter is right", async || rig.depth().await.bytes == 0).await;
    rig.put(&Batch::new(1, 1, 5, "api")).await;
    rig.drained().await;
    assert_eq!(rig.depth().await.bytes, 0);
    worker.stop().await;
}

/// A part that can't be done keeps no other from being done.
#[tokio::test(flavor = "multi_thread")]
async fn each_part_is_done_for_itself() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--housekeeping", "50ms"]).await;
    rig.put(&Batch::new(1, 1, 5, "api")).await;
    rig.drained().await;
    worker.stop().await;
    rig.postgres
        .run(
            "ALTER FUNCTION logweir_make_partition(date) RENAME TO gone;
             UPDATE batch_ledger SET updated_at = now() - interval '1 year';
             INSERT INTO losses (at, reason) VALUES (now() - interval '1 year', 'x');
             SELECT gone('2001-01-01')",
        )
        .await;
    let worker = rig.worker(&["--housekeeping", "50ms"]).await;
    for old in ["batch_ledger", "losses", "pg_class WHERE relname = 'log_counts_20010101'"] {
        let left = format!("SELECT count(*) FROM {old}");
        eventually(&left, async || rig.postgres.row(&left).await == "0").await;
    }
    worker.stop().await;
}
