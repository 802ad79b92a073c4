//! The program as its users start it.

use crate::common::{Batch, Rig, eventually, get};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_logweir-worker")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_settings_end_with_2_and_say_what_is_right() {
    for (args, says) in [
        (&["--lease", "soon"][..], "--lease"),
        (&["--group", "0"], "--group"),
        (&["--postgres", "postgres://h:port/d"], "--postgres"),
        (&["--redis", "redis://:s3cret@h:port"], "--redis"),
        (&["--postgres", "postgres://u:s3cret@h/d?sslmode=maybe"], "verify-full"),
        (&["--postgres-ca-file", "/etc/hostname"], "sslmode"),
        (&["--postgres", "postgres://u:s3cret@h/d", "--postgres-password-file", "/etc/hostname"], "give one"),
        (&["nonsense"], "nonsense"),
    ] {
        let output = run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(says) && !said.contains("s3cret"), "{args:?}: {said}");
    }
    let good = run(&["--check"]);
    assert_eq!((good.status.code(), text(&good.stdout).as_str()), (Some(0), ""));
    let help = text(&run(&["--help"]).stdout);
    for says in ["--max-attempts", "migrate", "LOGWEIR_POSTGRES", "[default: 90d]", "dead letters"] {
        assert!(help.contains(says), "{says}: {help}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_says_what_it_applied() {
    let rig = Rig::start().await;
    let unreachable = run(&["migrate", "--postgres", "postgres://postgres@127.0.0.1:1/postgres"]);
    assert_eq!(unreachable.status.code(), Some(3), "{}", text(&unreachable.stderr));
    let missing = run(&["migrate", "--postgres", &(rig.postgres.url() + "-missing")]);
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    let url = rig.postgres.url();
    let first = run(&["--postgres", &url, "migrate"]);
    assert_eq!(
        (first.status.code(), text(&first.stdout).as_str()),
        (Some(0), "applied V1__counts_and_ledger\napplied V2__views_and_roles\n")
    );
    let second = run(&["migrate", "--postgres", &url]);
    assert_eq!(second.status.code(), Some(0));
    assert_eq!(text(&second.stdout), "nothing to apply: the schema is up to date\n");
}

/// The program, and its admin address.
fn start(rig: &Rig, flags: &[&str]) -> (Child, SocketAddr) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let admin = SocketAddr::from(([127, 0, 0, 1], port));
    let process = Command::new(env!("CARGO_BIN_EXE_logweir-worker"))
        .args(["--redis", &rig.redis.url(), "--postgres", &rig.postgres.url(), "--admin", &admin.to_string()])
        .args(["--log-format", "json"])
        .args(flags)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (process, admin)
}

/// SIGTERM: what is in hand is finished, the consumer leaves, and the exit code is 0.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_in_hand() {
    let rig = Rig::start().await;
    let (mut process, admin) = start(&rig, &[]);
    eventually("it is ready", async || get(admin, "/readyz").0 == 200).await;
    let mut holder = rig.postgres.connect().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE log_counts IN EXCLUSIVE MODE").await.unwrap();
    rig.put(&Batch::new(1, 1, 100, "api")).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("it is in the middle", async || rig.postgres.row(waiting).await == "1").await;
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    // The lock is let go only after the signal.
    lock.rollback().await.unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_eq!((rig.count("api").await.0, rig.depth().await.entries), (100, 0));
    assert_eq!(rig.redis.cli(&["XINFO", "CONSUMERS", "logweir:{0}:queue", "workers"]), "");
}

/// SIGTERM under load: each batch is either counted and gone, or left for the next worker; none is held by a consumer
/// that is no more.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_leaves_nothing_pending() {
    let rig = Rig::start().await;
    for n in 0..2_000 {
        rig.put(&Batch::new(n % 10 + 1, u64::try_from(n / 10).unwrap() * 5 + 1, 5, "api")).await;
    }
    let (mut process, admin) = start(&rig, &["--group", "4"]);
    eventually("it is in the middle", async || rig.depth().await.entries < 1_900).await;
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert_eq!(get(admin, "/readyz").0, 0, "it is gone");
    let left = rig.depth().await;
    assert!(left.entries > 0, "the signal came too late to show anything");
    assert_eq!(left.pending, 0);
    assert_eq!(rig.redis.cli(&["XINFO", "CONSUMERS", "logweir:{0}:queue", "workers"]), "");
    // What was acknowledged is counted.
    assert_eq!(rig.count("api").await.0, (2_000 - left.entries) * 5);
    // The rest is read at once, not taken over after a lease.
    let worker = rig.worker(&["--lease", "10m"]).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, worker.metric("logweir_worker_reclaimed_total")), (10_000, 0.0));
    worker.stop().await;
}
