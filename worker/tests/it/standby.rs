//! `--postgres-sync-standby`. No standby runs here, so commits that wait for one would wait for ever: only the check is tested.

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
