//! Who may do what: the roles that the migrations make.

use crate::common::postgres::Postgres;
use crate::common::{Batch, Rig, Running, eventually, line, now_ms};
use std::process::{Command, Output};

const DAY_MS: i64 = 86_400_000;
/// What SQLSTATE says of a missing right.
const DENIED: &str = "42501";

fn migrate(url: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_logweir-worker")).args(["migrate", "--postgres", url]).output().unwrap()
}

async fn migrated() -> Postgres {
    let postgres = Postgres::start().await;
    assert!(migrate(&postgres.url()).status.success());
    postgres
}

fn as_user(postgres: &Postgres, user: &str, database: &str) -> String {
    let url = postgres.url();
    let host = url.split(['@', '/']).nth(3).unwrap();
    format!("postgres://{user}@{host}/{database}")
}

async fn tried(postgres: &Postgres, role: &str, sql: &str) -> Result<(), String> {
    let client = postgres.connect().await;
    client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
    client.batch_execute(sql).await.map_err(|error| match error.code() {
        Some(code) => code.code().to_owned(),
        None => error.to_string(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_what_it_needs_and_no_more() {
    let postgres = migrated().await;
    let producer = "00000000-0000-0000-0000-000000000001";
    postgres
        .run(&format!(
            "SELECT logweir_make_partition('2026-11-24');
             INSERT INTO log_counts VALUES ('2026-11-24 10:03:00Z', 'api', 'info', 1, 1);
             INSERT INTO batch_ledger VALUES ('{producer}', '{{[1,2)}}');
             CREATE TABLE secrets (n int)"
        ))
        .await;
    let logs_in =
        "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'logweir%' AND NOT rolcanlogin AND NOT rolsuper";
    assert_eq!(postgres.row(logs_in).await, "2");

    let row = "INSERT INTO log_counts VALUES ('2026-11-24 10:04:00Z', 'api', 'info', 1, 1)";
    let may = [
        ("logweir_reader", "SELECT sum(count), sum(bytes) FROM log_counts"),
        ("logweir_reader", "SELECT * FROM error_rate_per_minute"),
        ("logweir_reader", "SELECT * FROM counts_per_hour"),
        ("logweir_reader", "SELECT * FROM counts_per_day"),
        ("logweir_reader", "SELECT id, at, agent, bucket, reason, events, bytes, detail FROM losses"),
        ("logweir_worker", row),
        (
            "logweir_worker",
            &format!(
                "{row} ON CONFLICT (bucket, service, level) DO UPDATE SET count = log_counts.count + 1, bytes = 2"
            ),
        ),
        ("logweir_worker", "SELECT * FROM batch_ledger FOR UPDATE"),
        ("logweir_worker", "INSERT INTO batch_ledger VALUES (gen_random_uuid(), '{}')"),
        ("logweir_worker", "UPDATE batch_ledger SET applied = '{[1,5)}', updated_at = now()"),
        ("logweir_worker", "DELETE FROM batch_ledger WHERE updated_at > now()"),
        ("logweir_worker", "INSERT INTO losses (reason) VALUES ('x')"),
        ("logweir_worker", "DELETE FROM losses WHERE at > now()"),
        ("logweir_worker", "SELECT version FROM refinery_schema_history"),
        (
            "logweir_worker",
            "SELECT logweir_make_partition('2026-11-25'), logweir_make_partition('2026-11-26')",
        ),
        // The new days are covered for both.
        ("logweir_worker", "INSERT INTO log_counts VALUES ('2026-11-25 10:04:00Z', 'api', 'info', 1, 1)"),
        ("logweir_reader", "SELECT * FROM log_counts WHERE bucket >= '2026-11-25 00:00:00Z'"),
        (
            "logweir_worker",
            "SELECT logweir_drop_partition('2026-11-26'), logweir_drop_partition('2026-11-26')",
        ),
    ];
    for (role, sql) in may {
        assert_eq!(tried(&postgres, role, sql).await, Ok(()), "{role}: {sql}");
    }

    let reader = [
        "SELECT * FROM batch_ledger",
        "SELECT count(*) FROM batch_ledger",
        "SELECT producer FROM losses",
        "SELECT * FROM losses",
        "SELECT * FROM log_counts_20261124",
        "SELECT * FROM refinery_schema_history",
        "INSERT INTO log_counts VALUES ('2026-11-24 10:05:00Z', 'api', 'info', 1, 1)",
        "UPDATE log_counts SET count = 0",
        "DELETE FROM losses",
        "SELECT logweir_make_partition('2026-11-27')",
        "SELECT logweir_drop_partition('2026-11-24')",
    ];
    let worker = [
        "UPDATE log_counts SET service = 'x'",
        "DELETE FROM log_counts",
        "TRUNCATE log_counts",
        "TRUNCATE batch_ledger",
        "UPDATE losses SET events = 0",
        "UPDATE log_counts_20261124 SET count = 0",
        "DELETE FROM refinery_schema_history",
    ];
    let both = [
        "SELECT * FROM secrets",
        "SELECT logweir_grant()",
        "DROP TABLE log_counts_20261124",
        "ALTER TABLE log_counts DETACH PARTITION log_counts_20261124",
        "DROP VIEW counts_per_day",
        "CREATE TABLE mine (n int)",
        "CREATE ROLE mine",
    ];
    let roles = [
        ("logweir_reader", &reader[..]),
        ("logweir_worker", &worker),
        ("logweir_reader", &both),
        ("logweir_worker", &both),
    ];
    for (role, forbidden) in roles {
        for sql in forbidden {
            assert_eq!(tried(&postgres, role, sql).await, Err(DENIED.to_owned()), "{role}: {sql}");
        }
    }
    assert_eq!(postgres.row("SELECT count(*) FROM log_counts").await, "3");
    // Without the right to hand on what it has, this changes nothing.
    tried(&postgres, "logweir_worker", "GRANT SELECT ON batch_ledger TO logweir_reader").await.unwrap();
    let ledger = tried(&postgres, "logweir_reader", "SELECT * FROM batch_ledger").await;
    assert_eq!(ledger, Err(DENIED.to_owned()));
}

/// The functions that run with the owner's rights reach only what they are for, whatever stands before it in the caller's search path.
#[tokio::test(flavor = "multi_thread")]
async fn the_owners_rights_are_not_lent_further() {
    let postgres = migrated().await;
    let client = postgres.connect().await;
    client
        .batch_execute(
            "SET ROLE logweir_worker;
             CREATE TEMP TABLE log_counts (LIKE public.log_counts) PARTITION BY RANGE (bucket);
             CREATE FUNCTION pg_temp.to_char(date, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x; DROP TABLE losses' $$;
             SET search_path = pg_temp, public, pg_catalog;
             SELECT public.logweir_make_partition('2026-11-24')",
        )
        .await
        .unwrap();
    let made = "SELECT relnamespace::regnamespace, pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'log_counts_20261124'";
    assert_eq!(postgres.row(made).await, "public postgres");
    // A table that isn't a partition is neither taken for one nor dropped.
    postgres.run("ALTER TABLE log_counts DETACH PARTITION log_counts_20261124").await;
    assert_eq!(
        tried(&postgres, "logweir_worker", "SELECT logweir_drop_partition('2026-11-24')").await,
        Ok(())
    );
    assert_eq!(
        tried(&postgres, "logweir_worker", "SELECT logweir_make_partition('2026-11-24')").await,
        Err("42P07".to_owned())
    );
    assert_eq!(postgres.row(made).await, "public postgres");
}

/// A worker that owns nothing: partitions, counts, ledger, losses, retention.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_owns_nothing_does_all_its_work() {
    let rig = Rig::start().await;
    let url = as_user(&rig.postgres, "counter", "postgres");
    rig.postgres
        .run("CREATE ROLE logweir_worker NOLOGIN; CREATE ROLE counter LOGIN IN ROLE logweir_worker")
        .await;
    let flags = ["--retention", "3d", "--housekeeping", "50ms"];
    let worker = Running::start(&rig.redis.url(), &url, &flags).await;
    // Somebody else must migrate.
    eventually("it says so", async || {
        worker
            .get("/readyz")
            .1
            .contains("let the owner of the tables, or of the database, run `logweir-worker migrate`")
    })
    .await;
    assert!(migrate(&rig.postgres.url()).status.success());
    worker.ready().await;
    let lines: Vec<String> = (0..3).map(|day| line(now_ms() - day * DAY_MS, "api", "info")).collect();
    rig.put(&Batch::of_lines(1, 1, &lines)).await;
    rig.put(&Batch::of_lines(2, 1, &[line(now_ms() - 5 * DAY_MS, "api", "info")])).await;
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 3);
    assert_eq!(rig.postgres.row("SELECT reason, events FROM losses").await, "too_old 1");
    let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 'log_counts%'";
    assert_eq!(rig.postgres.row(owners).await, "postgres");
    let old = "log_counts_20010101";
    rig.postgres
        .run(
            "SELECT logweir_make_partition('2001-01-01');
             UPDATE batch_ledger SET updated_at = now() - interval '5 days';
             UPDATE losses SET at = now() - interval '5 days'",
        )
        .await;
    eventually("the old partition is dropped", async || {
        rig.postgres.row(&format!("SELECT to_regclass('{old}')")).await == "NULL"
    })
    .await;
    worker.stop().await;
    let worker = Running::start(&rig.redis.url(), &url, &flags).await;
    eventually("old rows are deleted", async || {
        rig.postgres.row("SELECT (SELECT count(*) FROM batch_ledger) + (SELECT count(*) FROM losses)").await
            == "0"
    })
    .await;
    worker.stop().await;
}

/// As on a hosted Postgres: the tables' owner may not make roles.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_make_roles_it_migrates_all_the_same() {
    let postgres = Postgres::start().await;
    postgres.run("CREATE ROLE theirs LOGIN").await;
    postgres.run("CREATE DATABASE theirs OWNER theirs").await;
    let url = as_user(&postgres, "theirs", "theirs");
    let output = migrate(&url);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for role in ["logweir_worker", "logweir_reader"] {
        assert!(said.contains(&format!("role {role} is missing, and theirs may not create it")), "{said}");
    }
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(postgres.row("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'logweir%'").await, "0");
    let again = migrate(&url);
    assert_eq!(String::from_utf8_lossy(&again.stdout), "nothing to apply: the schema is up to date\n");
    assert_eq!(String::from_utf8_lossy(&again.stderr), "");

    // The owner needs no role.
    let rig = Rig::start().await;
    let worker = Running::start(&rig.redis.url(), &url, &[]).await;
    rig.put(&Batch::new(1, 1, 5, "api")).await;
    rig.drained().await;
    worker.stop().await;

    // Later somebody makes them.
    postgres.run("CREATE ROLE logweir_worker; CREATE ROLE logweir_reader; CREATE ROLE dashboard LOGIN IN ROLE logweir_reader").await;
    let (owner, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    owner.batch_execute("SELECT logweir_grant()").await.unwrap();
    let dashboard = as_user(&postgres, "dashboard", "theirs");
    let (dashboard, connection) = tokio_postgres::connect(&dashboard, tokio_postgres::NoTls).await.unwrap();
    connections.spawn(connection);
    let row = dashboard.query_one("SELECT sum(count)::bigint FROM log_counts", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 5);
    dashboard.query("SELECT * FROM batch_ledger", &[]).await.unwrap_err();
}

/// Roles are the server's: further databases find them there. Three at the same moment, one by a user with CREATEROLE.
#[tokio::test(flavor = "multi_thread")]
async fn several_databases_share_the_roles() {
    let postgres = Postgres::start().await;
    postgres.run("CREATE ROLE theirs LOGIN CREATEROLE").await;
    for sql in ["CREATE DATABASE one", "CREATE DATABASE two OWNER theirs", "CREATE DATABASE three"] {
        postgres.run(sql).await;
    }
    let urls = [("postgres", "one"), ("theirs", "two"), ("postgres", "three")]
        .map(|(user, database)| as_user(&postgres, user, database));
    let threads = urls.clone().map(|url| std::thread::spawn(move || migrate(&url)));
    for thread in threads {
        let output = thread.join().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
    let mut connections = tokio::task::JoinSet::new();
    for url in urls {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        connections.spawn(connection);
        let granted = "SELECT has_table_privilege('logweir_reader', 'counts_per_day', 'SELECT')
                       AND has_table_privilege('logweir_worker', 'batch_ledger', 'UPDATE')";
        assert!(client.query_one(granted, &[]).await.unwrap().get::<_, bool>(0), "{url}");
    }
}
