//! Postgres over TLS, and the password's file.

use crate::common::{Batch, Rig, Running, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The server shows a certificate of this name from now on.
async fn show(rig: &Rig, name: &str, by: &Authority) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, by).unwrap();
    rig.postgres.put_file("server.crt", &certificate.pem());
    rig.postgres.put_file("server.key", &key.serialize_pem());
    rig.postgres.run("ALTER SYSTEM SET ssl = on").await;
    rig.postgres.run("SELECT pg_reload_conf()").await;
    eventually("TLS is on", async || rig.postgres.row("SHOW ssl").await == "on").await;
}

/// With this in place of the URL's end.
async fn worker(rig: &Rig, end: &str, flags: &[&str]) -> Running {
    Running::start(&rig.redis.url(), &(rig.postgres.url() + end), flags).await
}

async fn says(worker: &Running, what: &str) {
    eventually(what, async || {
        let (status, text) = worker.get("/readyz");
        status == 503 && text.contains(what)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_somebody_trusted_vouches_for_is_spoken_to() {
    let rig = Rig::start().await;
    let home = tempfile::tempdir().unwrap();
    let (right, wrong) = (authority(), authority());
    let file = |name: &str, text: String| -> String {
        let path: PathBuf = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right_ca, wrong_ca) = (file("right.pem", right.pem()), file("wrong.pem", wrong.pem()));
    let trusting = ["--postgres-ca-file", &right_ca];

    // A server that speaks none.
    let plain = worker(&rig, "?sslmode=verify-full", &trusting).await;
    says(&plain, "server does not support TLS").await;
    plain.stop().await;

    show(&rig, "127.0.0.1", &right).await;
    for (mode, seq) in [("verify-full", 1), ("require", 2), ("verify-ca", 3)] {
        let worker = worker(&rig, &format!("?sslmode={mode}"), &trusting).await;
        worker.ready().await;
        let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                         WHERE application_name = 'logweir-worker'";
        assert_eq!(rig.postgres.row(encrypted).await, "t");
        rig.put(&Batch::new(1, seq, 1, "api")).await;
        rig.drained().await;
        worker.stop().await;
    }
    assert_eq!(rig.count("api").await.0, 3);
    for mode in ["verify-full", "verify-ca"] {
        let worker = worker(&rig, &format!("?sslmode={mode}"), &["--postgres-ca-file", &wrong_ca]).await;
        says(&worker, "error performing TLS handshake: invalid peer certificate").await;
        worker.stop().await;
    }

    // Its name is another than the URL's.
    show(&rig, "elsewhere.example", &right).await;
    let strict = worker(&rig, "?sslmode=verify-full", &trusting).await;
    says(&strict, "invalid peer certificate: certificate not valid for name").await;
    strict.stop().await;
    let any = worker(&rig, "?sslmode=verify-ca", &trusting).await;
    any.ready().await;
    any.stop().await;

    // Passwords are asked of all but the test itself, and bound to the connection's certificate (SCRAM-SHA-256-PLUS).
    rig.postgres.put_file("pg_hba.conf", "host all postgres all trust\nhostssl all all all scram-sha-256\n");
    rig.postgres.run("CREATE ROLE owner SUPERUSER LOGIN PASSWORD 'right'; SELECT pg_reload_conf()").await;
    let password = file("password", "wrong\n".to_owned());
    let url = rig.postgres.url().replace("postgres@", "owner@") + "?sslmode=verify-ca";
    let flags = [&trusting[..], &["--postgres-password-file", &password]].concat();
    let worker = Running::start(&rig.redis.url(), &url, &flags).await;
    says(&worker, "password authentication failed").await;
    file("password", "right\n".to_owned());
    worker.ready().await;
    worker.stop().await;
}
