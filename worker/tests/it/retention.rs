//! The edge of the retention: what is forgotten can't be counted again, and nothing is dropped from under a batch.

use crate::common::{Batch, Rig, eventually, line, now_ms};

const DAY_MS: i64 = 86_400_000;
/// `--retention 1h`.
const RETENTION_MS: i64 = 3_600_000;
/// The most that the collector lets an event be ahead.
const AHEAD_MS: i64 = 600_000;
const FLAGS: [&str; 4] = ["--retention", "1h", "--housekeeping", "50ms"];

/// A batch is counted, then time passes, then it comes once more: at no moment does it count twice. Time passes by moving
/// everything back: what Postgres keeps, and the events.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_duplicate_finds_its_row_or_a_closed_door() {
    let rig = Rig::start().await;
    let worker = rig.worker(&FLAGS).await;
    // As young as an event may be when it is counted: this one lives longest.
    let at = now_ms() + AHEAD_MS;
    let lives = AHEAD_MS + RETENTION_MS + DAY_MS;
    let passed = [0, RETENTION_MS - 60_000, AHEAD_MS + RETENTION_MS + 60_000, lives - 60_000, lives + 1_000];
    for (producer, _) in (1u128..).zip(passed) {
        rig.put(&Batch::of_lines(producer, 1, &[line(at, &format!("s{producer}"), "info")])).await;
    }
    rig.drained().await;
    worker.stop().await;
    for (producer, ms) in (1..).zip(passed) {
        rig.postgres
            .run(&format!(
                "UPDATE batch_ledger SET updated_at = updated_at - {ms} * interval '1 ms'
                 WHERE producer = '00000000-0000-0000-0000-{producer:012}'"
            ))
            .await;
    }
    rig.postgres.run("TRUNCATE log_counts").await;
    let worker = rig.worker(&FLAGS).await;
    let rows = "SELECT right(producer::text, 1) FROM batch_ledger ORDER BY 1";
    eventually("the last is forgotten, and no other", async || {
        rig.postgres.rows(rows).await == ["1", "2", "3", "4"]
    })
    .await;
    for (producer, ms) in (1u128..).zip(passed) {
        rig.put(&Batch::of_lines(producer, 1, &[line(at - ms, &format!("s{producer}"), "info")])).await;
    }
    rig.drained().await;
    assert_eq!(rig.postgres.row("SELECT count(*) FROM log_counts").await, "0");
    assert_eq!(rig.postgres.row("SELECT events, reason FROM losses").await, "1 too_old");
    let metric = |name: &str| worker.metric(&format!("logweir_worker_events_{name}_total"));
    eventually("the metrics", async || (metric("duplicate"), metric("too_old")) == (4.0, 1.0)).await;
    worker.stop().await;
}

/// A ledger of many pieces: the old rows go, those in use and those that are held stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_ledger_is_walked_to_its_end() {
    let rig = Rig::start().await;
    let worker = rig.worker(&FLAGS).await;
    worker.ready().await;
    worker.stop().await;
    rig.postgres
        .run(
            "INSERT INTO batch_ledger
             SELECT gen_random_uuid(), '{[1,2)}', now() - CASE WHEN n % 3 = 0 THEN interval '20 hours' ELSE interval '26 hours' END
             FROM generate_series(1, 9000) AS n;
             INSERT INTO batch_ledger VALUES ('00000000-0000-0000-0000-000000000000', '{}', now() - interval '26 hours'),
               ('ffffffff-ffff-ffff-ffff-ffffffffffff', '{}', now() - interval '26 hours');
             INSERT INTO losses (at, reason) SELECT now() - interval '26 hours', 'x' FROM generate_series(1, 3000);
             INSERT INTO losses (at, reason) VALUES (now(), 'y')",
        )
        .await;
    // A lane has one in hand, which is being used again.
    let mut lane = rig.postgres.connect().await;
    let transaction = lane.transaction().await.unwrap();
    let in_hand = "UPDATE batch_ledger SET updated_at = now() WHERE producer = (
        SELECT producer FROM batch_ledger WHERE updated_at < now() - interval '25 hours' ORDER BY producer OFFSET 50 LIMIT 1)";
    assert_eq!(transaction.execute(in_hand, &[]).await.unwrap(), 1);
    let worker = rig.worker(&FLAGS).await;
    eventually("all but those in use are gone", async || {
        rig.postgres.row("SELECT count(*) FROM batch_ledger").await == "3001"
            && rig.postgres.row("SELECT count(*) FROM losses").await == "1"
    })
    .await;
    transaction.commit().await.unwrap();
    let young = "SELECT count(*) FROM batch_ledger WHERE updated_at > now() - interval '25 hours'";
    assert_eq!(rig.postgres.row(young).await, "3001");
    worker.stop().await;
}

/// A batch is being counted for a day that is over: its partition stays until the commit, all else goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_stays_while_a_batch_is_counted_for_it() {
    let rig = Rig::start().await;
    let worker = rig.worker(&FLAGS).await;
    worker.ready().await;
    worker.stop().await;
    rig.postgres
        .run(
            "SELECT logweir_make_partition('2001-01-01'), logweir_make_partition('2001-01-02');
             INSERT INTO batch_ledger VALUES (gen_random_uuid(), '{}', now() - interval '26 hours')",
        )
        .await;
    let mut lane = rig.postgres.connect().await;
    let transaction = lane.transaction().await.unwrap();
    transaction
        .batch_execute("INSERT INTO log_counts VALUES ('2001-01-01 10:03:00Z', 'old', 'info', 1, 1)")
        .await
        .unwrap();
    let worker = rig.worker(&FLAGS).await;
    eventually("the rest of the round is done", async || {
        rig.postgres.row("SELECT count(*) FROM batch_ledger").await == "0"
    })
    .await;
    for n in 0..20 {
        rig.put(&Batch::new(1, n * 10 + 1, 10, "api")).await;
    }
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (200, 0));
    let old = "SELECT count(*) FROM pg_class WHERE relname ~ '^log_counts_2001010[12]$'";
    assert_eq!(rig.postgres.row(old).await, "2");
    transaction.commit().await.unwrap();
    eventually("both are dropped after the commit", async || rig.postgres.row(old).await == "0").await;
    assert_eq!(rig.count("old").await.0, 0);
    worker.stop().await;
}
