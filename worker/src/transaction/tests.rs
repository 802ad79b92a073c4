//! The parts of a transaction against a real Postgres; the whole of it is tested in `tests/it`.

#[path = "../../tests/it/common/postgres.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared with the tests of the whole worker, which need more of it"
)]
mod server;

mod plans;

use super::*;
use crate::batch::tests::decoded;
use crate::batch::tests::{AT, entry, line};
use crate::migrate::migrate;
use crate::postgres::Database;
use server::Postgres;
use std::time::Duration;

async fn database() -> (Postgres, Database) {
    let server = Postgres::start().await;
    let database =
        Database::new(&server.url().parse().unwrap(), &Default::default(), Duration::from_secs(10)).unwrap();
    (server, database)
}

fn batch(seq: u64, events: u64, service: &str) -> Batch {
    let body: String = (0..events).map(|_| line(AT, service, "info") + "\n").collect();
    decoded(&entry(seq, events, &[], &body)).unwrap()
}

/// Postgres answers COMMIT of a failed transaction with a rollback, and no error.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_none_is_noticed() {
    let (_server, database) = database().await;
    let client = database.connect().await.unwrap();
    client.batch_execute("CREATE TABLE t (n int)").await.unwrap();

    client.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    commit(&client).await.unwrap();

    client.batch_execute("BEGIN; INSERT INTO t VALUES (2)").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1 / 0)").await.unwrap_err();
    assert!(matches!(commit(&client).await, Err(Failure::World(_))));
    client.batch_execute("ROLLBACK").await.unwrap();

    // The transaction went away without a word, as with a pooler that changes connections.
    assert!(matches!(commit(&client).await, Err(Failure::World(_))));

    let row = client.query_one("SELECT count(*), max(n) FROM t", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1)), (1, 1));
}

/// Two transactions with the same batch at the same moment, many times over: the second waits, and sees what the first
/// has applied.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_one_counts() {
    let (server, database) = database().await;
    migrate(&database).await.unwrap();
    let (mut one, mut two) = (Store::new(database.clone()), Store::new(database));
    for round in 0..50 {
        let (both, mine, yours) =
            (batch(round * 30 + 1, 10, "a"), batch(round * 30 + 6, 15, "a"), batch(round * 30 + 8, 20, "a"));
        let (mine, yours) = ([&both, &mine], [&yours, &both]);
        let (first, second) = tokio::join!(one.apply(&mine, 0), two.apply(&yours, 0));
        let counted = |committed: &Committed| -> u64 {
            let of = |verdict: &Verdict| match verdict {
                Verdict::Done { counted, .. } => *counted,
                Verdict::Refused(why) => panic!("{why}"),
            };
            committed.verdicts.iter().map(of).sum()
        };
        assert_eq!(counted(&first.unwrap()) + counted(&second.unwrap()), 27, "round {round}");
    }
    assert_eq!(server.row("SELECT sum(count) FROM log_counts").await, (50 * 27).to_string());
}

/// What fails only at the commit is a failure all the same, and the connection can be used again.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_is_checked_at_the_commit() {
    let (server, database) = database().await;
    migrate(&database).await.unwrap();
    server
        .run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '23514', CONSTRAINT = 'mine'; END $$;
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log_counts DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.service = 'bad') EXECUTE FUNCTION refuse()",
        )
        .await;
    let mut store = Store::new(database);
    let (good, bad) = (batch(1, 5, "good"), batch(11, 5, "bad"));
    let failed = store.apply(&[&good, &bad], 0).await;
    assert!(matches!(&failed, Err(Failure::Batch(why)) if why.contains("not this one")), "{failed:?}");
    store.apply(&[&good], 0).await.unwrap();
    assert_eq!(server.rows("SELECT service, count FROM log_counts").await, ["good 5"]);
    assert_eq!(server.row("SELECT applied FROM batch_ledger").await, "{[1,6)}");
}

/// A sum that no longer fits is the batch's failure, and a lock that can't be had is the world's.
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_apart() {
    let server = Postgres::start().await;
    let database =
        Database::new(&server.url().parse().unwrap(), &Default::default(), Duration::from_millis(600))
            .unwrap();
    migrate(&database).await.unwrap();
    let mut store = Store::new(database);
    store.apply(&[&batch(1, 1, "a")], 0).await.unwrap();
    server.run(&format!("UPDATE log_counts SET count = {}", i64::MAX)).await;
    let full = store.apply(&[&batch(2, 1, "a")], 0).await;
    assert!(matches!(&full, Err(Failure::Batch(why)) if why.contains("22003")), "{full:?}");

    let holder = server.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE batch_ledger").await.unwrap();
    let locked = store.apply(&[&batch(3, 1, "b")], 0).await;
    assert!(matches!(&locked, Err(Failure::World(t)) if t.what == What::Conflict), "{locked:?}");
    holder.batch_execute("ROLLBACK; DROP TABLE losses, batch_ledger").await.unwrap();
    let missing = store.apply(&[&batch(4, 1, "b")], 0).await;
    assert!(matches!(&missing, Err(Failure::World(t)) if t.what == What::Schema), "{missing:?}");
}

/// What is acknowledged must stay, whatever was set for the user.
#[tokio::test(flavor = "multi_thread")]
async fn commits_are_durable() {
    let (server, database) = database().await;
    for (set, expected) in [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
        server.run(&format!("ALTER ROLE postgres SET synchronous_commit = {set}")).await;
        let client = database.connect().await.unwrap();
        let row = client.query_one("SHOW synchronous_commit", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected);
        let row = client.query_one("SHOW client_connection_check_interval", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), "2s");
    }
}
