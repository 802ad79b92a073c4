//! TLS and client certificates, on real connections.

use crate::common::http::{Client, get};
use crate::common::process::Process;
use crate::common::redis::Redis;
use crate::common::{NDJSON, Running, event, wait_for};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Somebody who vouches for others.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn vouch(&self, names: Vec<SanType>) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn server(&self) -> Pair {
        self.vouch(vec![SanType::IpAddress("127.0.0.1".parse().unwrap())])
    }

    fn agent(&self, names: &[&str]) -> Pair {
        self.vouch(names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect())
    }
}

impl Pair {
    fn write(&self, dir: &Path) {
        std::fs::write(dir.join("cert.pem"), &self.certificate).unwrap();
        std::fs::write(dir.join("key.pem"), &self.key).unwrap();
    }
}

/// What a client brings.
#[derive(Default)]
struct Bring<'a> {
    certificate: Option<&'a Pair>,
    protocols: &'a [&'a str],
    versions: Option<&'static SupportedProtocolVersion>,
}

async fn connect(
    to: SocketAddr,
    authority: &Authority,
    bring: Bring<'_>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let versions =
        bring.versions.map_or(vec![&rustls::version::TLS13, &rustls::version::TLS12], |one| vec![one]);
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match bring.certificate {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = bring.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(to).await?).await
}

fn flags(dir: &Path, more: &[&str]) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    let fixed = [format!("--tls-cert={}", file("cert.pem")), format!("--tls-key={}", file("key.pem"))];
    fixed.into_iter().chain(more.iter().map(|flag| (*flag).to_owned())).collect()
}

async fn start(redis: &Redis, dir: &Path, more: &[&str]) -> Running {
    let flags = flags(dir, more);
    Running::start(redis, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_served_and_the_client_chooses_version_and_protocol() {
    let (redis, dir, authority) = (Redis::start(), tempfile::tempdir().unwrap(), Authority::new());
    authority.server().write(dir.path());
    let collector = start(&redis, dir.path(), &[]).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let bring = Bring { versions: Some(version), ..Bring::default() };
        let stream = connect(collector.public, &authority, bring).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let mut client = Client::over(stream);
        for _ in 0..2 {
            client.post(&[NDJSON], event("a").as_bytes()).await.accepted();
        }
        // An answer before the body has come is seen here as well.
        let mut client = Client::over(connect(collector.public, &authority, Bring::default()).await.unwrap());
        client.post(&[], &vec![b'x'; 3 << 20]).await.problem(415, "unsupported");
    }
    for (offered, chosen) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"][..], "http/1.1")] {
        let bring = Bring { protocols: offered, ..Bring::default() };
        let stream = connect(collector.public, &authority, bring).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
    }
    let bring = Bring { protocols: &["h2"], ..Bring::default() };
    let stream = connect(collector.public, &authority, bring).await.unwrap();
    let (status, _) = crate::http2::post(crate::http2::open(stream).await, &event("b"), &[]).await;
    assert_eq!(status, 202);
    assert_eq!(redis.entries().len(), 5);
    // Who speaks plain text is not heard; the admin address needs no TLS.
    let mut plain = collector.client().await;
    plain.head(&[NDJSON], 0).await;
    let mut rest = Vec::new();
    plain.read_rest(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP"), "{rest:?}");
    assert_eq!(get(collector.admin, "/healthz").await.status, 200);
    let expiry = collector.metric("logweir_collector_tls_certificate_expiry_timestamp_seconds").await;
    assert!(expiry > 1.7e9, "{expiry}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_names_the_agent() {
    let (redis, dir, authority) = (Redis::start(), tempfile::tempdir().unwrap(), Authority::new());
    authority.server().write(dir.path());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.0.pem()).unwrap();
    let ca = format!("--client-ca={}", ca.display());
    let collector = start(&redis, dir.path(), &[&ca]).await;
    let client = async |public, certificate| -> Option<Client> {
        let bring = Bring { certificate, ..Bring::default() };
        connect(public, &authority, bring).await.ok().map(Client::over)
    };
    let name = |agent| ("Logweir-Agent", agent);
    let body = event("a");

    let api = authority.agent(&["*.example.com", "api-1.example.com", "api-1"]);
    let mut known = client(collector.public, Some(&api)).await.unwrap();
    known.post(&[NDJSON], body.as_bytes()).await.accepted();
    known.post(&[NDJSON, name("api-1")], body.as_bytes()).await.accepted();
    known.post(&[NDJSON, name("web-1")], body.as_bytes()).await.problem(403, "forbidden");
    let agents: Vec<_> =
        redis.entries().into_iter().map(|mut entry| entry.remove("agent").unwrap()).collect();
    assert_eq!(agents, [&b"api-1.example.com"[..], b"api-1"]);
    let nobody = authority.agent(&["*.example.com"]);
    let mut nobody = client(collector.public, Some(&nobody)).await.unwrap();
    nobody.post(&[NDJSON, name("api-1")], body.as_bytes()).await.problem(403, "forbidden");
    // With TLS 1.3 a client hears of it after its side of the handshake.
    let foreign = Authority::new().agent(&["api-1"]);
    for certificate in [None, Some(&foreign)] {
        if let Some(mut client) = client(collector.public, certificate).await {
            assert!(client.try_post(&[NDJSON], body.as_bytes()).await.is_none());
        }
    }
    assert_eq!(redis.entries().len(), 2);
    let failed = "logweir_collector_connections_cut_total{reason=\"handshake_failed\"}";
    wait_for("the failures", async || (collector.metric(failed).await >= 2.0).then_some(())).await;
    collector.stop().await;

    // With tokens, and certificates for those who have one.
    let tokens = dir.path().join("tokens");
    let line = |agent: &str, token: &str| {
        let hash: String = Sha256::digest(token).iter().map(|b| format!("{b:02x}")).collect();
        format!("{agent} sha256:{hash}\n")
    };
    std::fs::write(&tokens, line("api-1", "one") + &line("web-1", "two")).unwrap();
    let tokens = format!("--tokens={}", tokens.display());
    let collector = start(&redis, dir.path(), &[&ca, &tokens, "--client-auth=optional"]).await;
    let bearer = |token| ("Authorization", token);
    for (certificate, token, status) in [
        (None, None, 401),
        (None, Some("Bearer two"), 202),
        (Some(&api), None, 202),
        (Some(&api), Some("Bearer one"), 202),
        (Some(&api), Some("Bearer two"), 403),
        (Some(&api), Some("Bearer three"), 401),
    ] {
        let headers: Vec<_> = [Some(NDJSON), token.map(bearer)].into_iter().flatten().collect();
        let mut client = client(collector.public, certificate).await.unwrap();
        let answer = client.post(&headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{:?} {token:?}", certificate.is_some());
    }
    collector.stop().await;
}

/// The certificate that a new connection is shown.
async fn shown(to: SocketAddr, authorities: &[&Authority]) -> Option<(usize, CertificateDer<'static>)> {
    for (index, authority) in authorities.iter().enumerate() {
        if let Ok(stream) = connect(to, authority, Bring::default()).await {
            return Some((index, stream.get_ref().1.peer_certificates().unwrap()[0].clone()));
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_while_connections_go_on_and_a_wrong_pair_changes_nothing() {
    let (redis, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    let (old, new) = (Authority::new(), Authority::new());
    old.server().write(dir.path());
    let flags = flags(dir.path(), &[]);
    let collector = Process::start(&redis, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let metric = async |series: &str| {
        let text = get(collector.admin, "/metrics").await.text();
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')).map(str::to_owned);
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    let mut client = Client::over(connect(collector.public, &old, Bring::default()).await.unwrap());
    client.post(&[NDJSON], event("a").as_bytes()).await.accepted();

    // A certificate whose key hasn't come, and half a file.
    let next = new.server();
    let half = next.certificate.split_at(next.certificate.len() / 2).0;
    for wrong in [next.certificate.as_str(), half, ""] {
        let before = metric("logweir_collector_tls_files_errors_total").await;
        std::fs::write(dir.path().join("cert.pem"), wrong).unwrap();
        wait_for("the wrong pair to be seen", async || {
            (metric("logweir_collector_tls_files_errors_total").await > before).then_some(())
        })
        .await;
        assert!((metric("logweir_collector_tls_files_stale").await - 1.0).abs() < 0.1);
        assert_eq!(shown(collector.public, &[&old, &new]).await.unwrap().0, 0);
    }
    assert!(collector.log().contains("--tls-cert"), "{}", collector.log());
    let ready = get(collector.admin, "/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("tls_files"), "{}", ready.text());

    next.write(dir.path());
    wait_for("the new certificate", async || {
        (shown(collector.public, &[&old, &new]).await?.0 == 1).then_some(())
    })
    .await;
    assert!(metric("logweir_collector_tls_files_stale").await < 0.1);
    assert!(!get(collector.admin, "/readyz").await.text().contains("tls_files"));
    client.post(&[NDJSON], event("b").as_bytes()).await.accepted();
    let mut other = Client::over(connect(collector.public, &new, Bring::default()).await.unwrap());
    other.post(&[NDJSON], event("c").as_bytes()).await.accepted();

    // At SIGHUP, without a change.
    let read = || collector.log().matches("certificates read again").count();
    let before = read();
    collector.signal("-HUP");
    wait_for("a reading", async || (read() > before).then_some(())).await;
    client.post(&[NDJSON], event("d").as_bytes()).await.accepted();
    assert_eq!(redis.entries().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_handshakes_are_given_up_and_hold_up_nobody() {
    let (redis, dir, authority) = (Redis::start(), tempfile::tempdir().unwrap(), Authority::new());
    authority.server().write(dir.path());
    let more = ["--handshake-timeout=60s", "--max-handshakes=4"];
    let collector = start(&redis, dir.path(), &more).await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(collector.public).await.unwrap());
    }
    wait_for("the handshakes", async || {
        (collector.metric("logweir_collector_tls_handshakes").await >= 4.0).then_some(())
    })
    .await;
    for _ in 0..8 {
        let mut client = Client::over(connect(collector.public, &authority, Bring::default()).await.unwrap());
        client.post(&[NDJSON], event("a").as_bytes()).await.accepted();
    }
    let evicted = "logweir_collector_connections_cut_total{reason=\"handshake_evicted\"}";
    assert!(collector.metric(evicted).await >= 8.0);
    assert!(collector.metric("logweir_collector_tls_handshakes").await <= 4.0);
    for gone in silent.into_iter().take(8) {
        assert!(Client::over(gone).is_closed().await);
    }
    collector.stop().await;

    let collector = start(&redis, dir.path(), &["--handshake-timeout=300ms"]).await;
    let begun = tokio::time::Instant::now();
    assert!(Client::connect(collector.public).await.is_closed().await);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let timed_out = "logweir_collector_connections_cut_total{reason=\"handshake_timeout\"}";
    assert!(collector.metric(timed_out).await > 0.5);
    collector.stop().await;
}

#[test]
fn files_that_cannot_work_are_an_error_at_the_start() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let check = |flags: &[String]| {
        let argv = ["logweir-collector".to_owned()].iter().chain(flags).map(Into::into).collect();
        let args = logweir_telemetry::config::try_parse(argv, |_| None).unwrap();
        logweir_collector::check(&args).unwrap_err().to_string()
    };
    let plain = flags(dir.path(), &[]);
    assert!(check(&plain).contains("cert.pem"));
    authority.server().write(dir.path());
    std::fs::write(dir.path().join("key.pem"), authority.server().key).unwrap();
    let message = check(&plain);
    assert!(message.contains("key.pem") && message.contains("together"), "{message}");
    authority.server().write(dir.path());
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, "nothing").unwrap();
    let message = check(&flags(dir.path(), &[&format!("--client-ca={}", ca.display())]));
    assert!(message.contains("--client-ca") && message.contains("ca.pem"), "{message}");
}
