//! Without Postgres, without Redis, and with servers that stand still: nothing is given up, and all is counted later.

use crate::common::{Batch, Rig, Running, eventually};
use std::time::{Duration, Instant};

fn not_ready_for(worker: &Running, check: &str) -> bool {
    let (status, text) = worker.get("/readyz");
    let failed = format!("\"check\":\"{check}\",\"detail\":\"");
    status == 503 && text.contains(&failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_away_for_long() {
    let mut rig = Rig::start().await;
    let flags = ["--max-attempts", "1", "--lease", "300ms", "--group", "4"];
    let workers = [rig.worker(&flags).await, rig.worker(&flags).await];
    rig.put(&Batch::new(1, 1, 10, "api")).await;
    rig.drained().await;
    rig.postgres.kill();
    for n in 1..40 {
        rig.put(&Batch::new(1, n * 10 + 1, 10, "api")).await;
    }
    for worker in &workers {
        eventually("it says why", async || not_ready_for(worker, "postgres")).await;
        assert_eq!(worker.metric("logweir_worker_postgres_up"), 0.0);
        assert_eq!(worker.get("/healthz").0, 200);
    }
    // Many times the lease and the attempts.
    let outage = Instant::now();
    eventually("an outage", async || outage.elapsed() > Duration::from_secs(2)).await;
    let depth = rig.depth().await;
    assert_eq!((depth.entries, depth.dead), (39, 0));
    assert!(depth.pending <= 16, "each of four lanes holds one group: {depth:?}");
    for worker in &workers {
        assert_eq!(worker.metric("logweir_worker_reclaimed_total"), 0.0, "the leases were kept");
        assert!(worker.metric("logweir_worker_world_retries_total{what=\"connection\"}") > 0.0);
    }
    rig.postgres.restart().await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (400, "{[1,401)}"));
    assert_eq!(
        (rig.depth().await.dead, rig.redis.cli(&["HLEN", "logweir:{0}:attempts"])),
        (0, "0".to_owned())
    );
    for worker in workers {
        worker.ready().await;
        worker.stop().await;
    }
}

/// Neither TCP nor Postgres' own timeouts notice a server that stands still.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_stands_still() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--deadline", "500ms", "--max-attempts", "1", "--lease", "1s"]).await;
    rig.put(&Batch::new(1, 1, 10, "api")).await;
    rig.drained().await;
    rig.postgres.freeze();
    for n in 1..30 {
        rig.put(&Batch::new(1, n * 10 + 1, 10, "api")).await;
    }
    eventually("it is noticed", async || {
        worker.metric("logweir_worker_world_retries_total{what=\"timeout\"}") >= 2.0
    })
    .await;
    eventually("it says why", async || not_ready_for(&worker, "postgres")).await;
    rig.postgres.thaw();
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (300, "{[1,301)}"));
    assert_eq!(rig.depth().await.dead, 0);
    worker.ready().await;
    worker.stop().await;
}

/// It stands still again and again, at any moment of a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_stumbles() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--deadline", "200ms", "--max-attempts", "1", "--group", "2"]).await;
    worker.ready().await;
    for n in 0..150 {
        rig.put(&Batch::new(1, n * 10 + 1, 10, "api")).await;
    }
    for pause in [1, 250, 40, 250, 1, 300, 90, 250] {
        rig.postgres.freeze();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        rig.postgres.thaw();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (1_500, "{[1,1501)}"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_away_while_a_group_is_in_hand() {
    let mut rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1", "--concurrency", "1"]).await;
    worker.ready().await;
    let mut holder = rig.postgres.connect().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE log_counts IN EXCLUSIVE MODE").await.unwrap();
    rig.put(&Batch::new(1, 1, 10, "api")).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("it is in the middle", async || rig.postgres.row(waiting).await == "1").await;
    rig.redis.kill();
    lock.rollback().await.unwrap();
    eventually("it is counted", async || rig.count("api").await.0 == 10).await;
    eventually("it says why", async || not_ready_for(&worker, "redis")).await;
    rig.redis.restart();
    // The acknowledgement is made up for.
    rig.drained().await;
    worker.ready().await;
    rig.put(&Batch::new(1, 1, 20, "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (20, "{[1,21)}"));
    worker.stop().await;
}

/// It starts before both.
#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_both() {
    let mut rig = Rig::start().await;
    rig.redis.kill();
    rig.postgres.kill();
    let worker = rig.worker(&[]).await;
    eventually("it waits", async || not_ready_for(&worker, "redis") && not_ready_for(&worker, "postgres"))
        .await;
    assert!(not_ready_for(&worker, "schema"));
    rig.redis.restart();
    rig.postgres.restart().await;
    worker.ready().await;
    rig.put(&Batch::new(1, 1, 10, "api")).await;
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 10);
    worker.stop().await;
}

/// A fault that a person must mend costs no attempt either.
#[tokio::test(flavor = "multi_thread")]
async fn read_only_and_rights_are_the_world() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1"]).await;
    worker.ready().await;
    worker.stop().await;
    rig.postgres.run("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    rig.put(&Batch::new(1, 1, 10, "api")).await;
    let worker = rig.worker(&["--max-attempts", "1"]).await;
    eventually("it says why", async || worker.get("/readyz").1.contains("read-only")).await;
    assert_eq!((rig.depth().await.entries, rig.depth().await.dead), (1, 0));
    let person = rig.postgres.connect().await;
    person.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    person.batch_execute("ALTER DATABASE postgres RESET default_transaction_read_only").await.unwrap();
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 10);
    worker.stop().await;
}

/// An error that nobody has thought of costs no attempt, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_error_of_postgres_is_the_worlds() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1"]).await;
    worker.ready().await;
    let unknown = "logweir_worker_unknown_errors_total{source=\"postgres\"}";
    assert_eq!(worker.metric(unknown), 0.0);
    rig.postgres
        .run(
            "CREATE FUNCTION strange() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'never heard of' USING ERRCODE = 'ZZ999'; END $$;
             CREATE TRIGGER strange BEFORE INSERT ON batch_ledger EXECUTE FUNCTION strange()",
        )
        .await;
    let id = rig.put(&Batch::new(1, 1, 10, "api")).await;
    eventually("it is tried again", async || worker.metric(unknown) >= 3.0).await;
    eventually("it says why", async || worker.get("/readyz").1.contains("never heard of [ZZ999]")).await;
    assert_eq!(rig.queue.attempts(&id).await.unwrap(), None);
    assert_eq!((rig.depth().await.entries, rig.depth().await.dead), (1, 0));
    rig.postgres.run("DROP TRIGGER strange ON batch_ledger").await;
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 10);
    worker.ready().await;
    worker.stop().await;
}

/// Somebody has put another kind of value where notes of attempts are kept.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_answer_of_redis_is_the_worlds() {
    let rig = Rig::start().await;
    let worker = rig.worker(&["--max-attempts", "1", "--lease", "300ms"]).await;
    worker.ready().await;
    let unknown = "logweir_worker_unknown_errors_total{source=\"redis\"}";
    assert_eq!(worker.metric(unknown), 0.0);
    rig.redis.cli(&["SET", "logweir:{0}:attempts", "no hash"]);
    rig.put(&Batch { body: b"nonsense".to_vec(), ..Batch::new(1, 1, 3, "x") }).await;
    eventually("it is met more than once", async || worker.metric(unknown) >= 2.0).await;
    assert_eq!((rig.depth().await.entries, rig.depth().await.dead), (1, 0));
    // Mended, the bad one goes its way, and good ones theirs.
    rig.redis.cli(&["DEL", "logweir:{0}:attempts"]);
    rig.put(&Batch::new(2, 1, 10, "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (10, 1));
    worker.stop().await;
}
