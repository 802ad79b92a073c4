//! Commits that wait for a standby. None runs here, so they would wait for ever.

use crate::common::{Batch, Rig, eventually};

/// By somebody whose own commits wait for nobody.
async fn set(rig: &Rig, statements: &[&str]) {
    let person = rig.postgres.connect().await;
    for sql in ["SET synchronous_commit = local"].iter().chain(statements).chain(&["SELECT pg_reload_conf()"])
    {
        person.batch_execute(sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_insists_on_a_synchronous_standby() {
    let rig = Rig::start().await;
    let plain = rig.worker(&[]).await;
    plain.ready().await;
    plain.stop().await;
    let worker = rig.worker(&["--postgres-sync-standby"]).await;
    rig.put(&Batch::new(1, 1, 5, "api")).await;
    let says = async |what: &str| {
        eventually(what, async || {
            let (status, text) = worker.get("/readyz");
            status == 503 && text.contains(what)
        })
        .await;
    };
    says("set it in the configuration of Postgres to the application_name of the standby").await;
    assert_eq!(rig.count("api").await.0, 0);

    // A name, but commits that don't wait for it.
    let name = "ALTER SYSTEM SET synchronous_standby_names = 'one'";
    for commit in ["local", "remote_write"] {
        set(&rig, &[&format!("ALTER ROLE postgres SET synchronous_commit = {commit}"), name]).await;
        says(&format!("synchronous_commit is {commit} for this user")).await;
    }
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (0, 0));
    worker.stop().await;

    // Both are set. Nothing is left to be counted, made or migrated, so nothing waits.
    set(&rig, &["ALTER ROLE postgres RESET synchronous_commit"]).await;
    rig.redis.cli(&["DEL", "logweir:{0}:queue"]);
    let worker = rig.worker(&["--postgres-sync-standby", "--deadline", "1s"]).await;
    worker.ready().await;
    worker.stop().await;
    assert_eq!(rig.postgres.row("SHOW synchronous_standby_names").await, "one");
}

/// Somebody cancels the wait of a commit for its standby. Postgres answers that it is done, with a warning that it may
/// not be there: it is not acknowledged until a later wait is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_its_standby_is_not_acknowledged() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--concurrency", "1", "--max-attempts", "1", "--housekeeping", "1h"]).await;
    rig.put(&Batch::new(1, 1, 5, "api")).await;
    rig.drained().await;
    let person = rig.postgres.connect().await;
    person.batch_execute("SET synchronous_commit = local").await.unwrap();
    set(&rig, &["ALTER SYSTEM SET synchronous_standby_names = 'nobody'"]).await;
    // The server takes that in its own time: when somebody's commit waits, all do.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let probe = rig.postgres.connect().await;
    loop {
        tokio::select! {
            done = probe.batch_execute("SELECT pg_logical_emit_message(true, 'a', 'b')") => done.unwrap(),
            () = eventually("a commit waits", async || rig.postgres.row(waiting).await != "0") => break,
        }
    }
    rig.put(&Batch::new(1, 6, 5, "api")).await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                  WHERE wait_event = 'SyncRep' AND application_name = 'logweir-worker'";
    for _ in 0..3 {
        eventually("its wait is cancelled", async || person.execute(cancel, &[]).await.unwrap() > 0).await;
        eventually("that wait is over", async || person.execute(cancel, &[]).await.unwrap() == 0).await;
    }
    let retries = "logweir_worker_world_retries_total{what=\"timeout\"}";
    eventually("it is tried again", async || worker.metric(retries) >= 3.0).await;
    // It is there, but here alone.
    assert_eq!((rig.count("api").await.0, rig.depth().await.entries), (10, 1));
    set(&rig, &["ALTER SYSTEM RESET synchronous_standby_names"]).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (10, 0));
    assert_eq!(worker.metric("logweir_worker_batches_total{result=\"duplicate\"}"), 1.0);
    worker.stop().await;
}
