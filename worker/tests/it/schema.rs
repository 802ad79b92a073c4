//! Migrations, and tables that go away.

use crate::common::{Batch, Rig, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_start_together_on_nothing() {
    let rig = Rig::start().await;
    let workers = [rig.worker(&[]).await, rig.worker(&[]).await, rig.worker(&[]).await];
    for worker in &workers {
        worker.ready().await;
    }
    assert_eq!(rig.postgres.rows("SELECT version FROM refinery_schema_history").await, ["1", "2"]);
    let fillfactor = "SELECT reloptions FROM pg_class WHERE relname = 'batch_ledger'";
    assert_eq!(rig.postgres.row(fillfactor).await, "{fillfactor=80}");
    for worker in workers {
        worker.stop().await;
    }
}

/// Somebody empties the database under the worker.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_tables_are_made_again() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1"]).await;
    rig.put(&Batch::new(1, 1, 10, "api")).await;
    rig.drained().await;
    rig.postgres.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    rig.put(&Batch::new(1, 11, 10, "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (10, "{[11,21)}"));
    worker.stop().await;
}

/// Another worker's housekeeping, or a person, drops the partition that this one knows to be there.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_partition_is_made_again() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1"]).await;
    rig.put(&Batch::new(1, 1, 10, "api")).await;
    rig.drained().await;
    let partition = rig.postgres.row("SELECT tableoid::regclass FROM log_counts LIMIT 1").await;
    rig.postgres.run(&format!("DROP TABLE {partition}")).await;
    rig.put(&Batch::new(1, 11, 10, "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (10, "{[1,21)}"));
    assert_eq!(rig.depth().await.dead, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_left_alone() {
    let rig = Rig::start().await;
    let worker = rig.worker(&[]).await;
    worker.ready().await;
    worker.stop().await;
    rig.postgres
        .run("INSERT INTO refinery_schema_history VALUES (7, 'later', '2030-01-01T00:00:00Z', '1')")
        .await;
    let worker = rig.worker(&[]).await;
    eventually("it says so", async || worker.get("/readyz").1.contains("start a newer worker")).await;
    rig.put(&Batch::new(1, 1, 1, "api")).await;
    assert_eq!(worker.get("/readyz").0, 503);
    worker.stop().await;
    assert_eq!(rig.depth().await.entries, 1);
}

/// Each batch updates its producer's row: these updates must stay within their page, or the table and its index grow.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_updates_are_hot() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--group", "1"]).await;
    worker.ready().await;
    let indices = "SELECT indexname FROM pg_indexes WHERE tablename = 'batch_ledger'";
    assert_eq!(rig.postgres.rows(indices).await, ["batch_ledger_pkey"]);
    let columns = "SELECT indkey FROM pg_index WHERE indrelid = 'batch_ledger'::regclass";
    assert_eq!(rig.postgres.row(columns).await, "1", "the producer alone");
    for n in 0..500 {
        for producer in 1..=4 {
            rig.put(&Batch::new(producer, n * 2 + 1, 2, "api")).await;
        }
    }
    rig.drained().await;
    worker.stop().await;
    // Its connections have ended, and told what they did, or do so soon.
    let updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'batch_ledger'";
    let seen = async || {
        let row = rig.postgres.row(updates).await;
        let (all, hot) = row.split_once(' ').unwrap();
        (all.parse::<u64>().unwrap(), hot.parse::<u64>().unwrap())
    };
    eventually("all updates are seen", async || seen().await.0 >= 4 * 499).await;
    let (all, hot) = seen().await;
    assert!(hot * 10 >= all * 9, "{hot} of {all} are HOT");
    assert_eq!(rig.count("api").await.0, 4_000);
}
