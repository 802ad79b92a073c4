//! What the log says of the schema, and a history that isn't this worker's.

use crate::common::{Rig, eventually, get};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

/// Starts the program until it is ready, and returns its log.
fn log_of_a_start(rig: &Rig) -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    let process = Command::new(env!("CARGO_BIN_EXE_logweir-worker"))
        .args(["--redis", &rig.redis.url(), "--postgres", &rig.postgres.url(), "--admin", &admin.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + crate::common::SOON;
    while get(admin, "/readyz").0 != 200 {
        assert!(std::time::Instant::now() < deadline, "it is never ready");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_once_what_became_of_the_schema() {
    let rig = Rig::start().await;
    let (first, second) = (log_of_a_start(&rig), log_of_a_start(&rig));
    for (log, says) in [
        (
            &first,
            &[
                "applied a migration migration=V1__counts_and_ledger",
                "applied a migration migration=V2__views_and_roles",
            ][..],
        ),
        (&second, &["the schema is up to date"]),
    ] {
        for line in says {
            assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
        }
        for noise in ["refinery", "NOTICE", "WARNING", "tokio_postgres", "skipping"] {
            assert!(!log.contains(noise), "{noise}: {log}");
        }
    }
    assert!(!second.contains("applied a migration"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_history_is_not_built_upon() {
    let rig = Rig::start().await;
    let worker = rig.worker(&[]).await;
    worker.ready().await;
    worker.stop().await;
    rig.postgres.run("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1").await;
    let worker = rig.worker(&[]).await;
    eventually("it says so", async || worker.get("/readyz").1.contains("was made by another")).await;
    worker.stop().await;
    rig.postgres.run("DELETE FROM refinery_schema_history WHERE version = 1").await;
    let worker = rig.worker(&[]).await;
    eventually("it says so", async || worker.get("/readyz").1.contains("missing")).await;
    worker.stop().await;
}

/// A database of the first version, with counts in it.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_schema_is_brought_up_to_date() {
    let rig = Rig::start().await;
    let worker = rig.worker(&[]).await;
    rig.put(&crate::common::Batch::new(1, 1, 5, "api")).await;
    rig.drained().await;
    worker.stop().await;
    rig.postgres
        .run(
            "DROP VIEW counts_per_hour, counts_per_day;
             DROP FUNCTION logweir_make_partition, logweir_drop_partition, logweir_grant;
             DROP OWNED BY logweir_worker, logweir_reader;
             DROP ROLE logweir_worker, logweir_reader;
             DELETE FROM refinery_schema_history WHERE version = 2",
        )
        .await;
    let worker = rig.worker(&[]).await;
    worker.ready().await;
    rig.put(&crate::common::Batch::new(1, 1, 10, "api")).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (10, "{[1,11)}"));
    assert_eq!(rig.postgres.row("SELECT sum(count) FROM counts_per_day").await, "10");
    worker.stop().await;
}
