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
