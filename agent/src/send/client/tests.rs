//! Against servers with certificates, and a proxy that says what it is asked.

use super::*;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};

type Pair = rcgen::CertifiedKey<rcgen::KeyPair>;

fn pair() -> Pair {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// Serves one https request per connection, each with 401, for ever; with `clients`, to those alone. Sends what came first.
fn tls_server(
    own: &Pair,
    clients: Option<&Pair>,
    protocols: &[&str],
) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let mut roots = RootCertStore::empty();
            roots.add(pair.cert.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let mut config = builder.with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(config);
    let (say, first) = mpsc::sync_channel(8);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, socket.unwrap());
            let mut buffer = [0; 4096];
            // A client that doesn't trust us, or isn't trusted, ends here.
            let Ok(n) = stream.read(&mut buffer) else { continue };
            // Nobody may listen.
            let _heard = say.try_send(buffer[..n].to_vec());
            // Not HTTP/2, which ends such a connection.
            if stream.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").is_err() {
                continue;
            }
        }
    });
    (address, first)
}

/// Connecting with these files, and how a request to `host` ended.
async fn ask(connecting: &Connecting, host: &str, port: u16) -> Result<u16, String> {
    let url: Url = format!("https://{host}:{port}/").parse().unwrap();
    let client = TlsClient::new(connecting.clone(), std::slice::from_ref(&url)).unwrap().get();
    client.get(url).send().await.map(|answer| answer.status().as_u16()).map_err(|e| chain(&e))
}

fn connecting() -> Connecting {
    let connect_timeout = Duration::from_secs(5);
    Connecting { ca_file: None, client_cert: None, proxy: None, connect_timeout, concurrency: 1 }
}

#[tokio::test]
async fn https_needs_a_certificate_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (pair(), pair());
    let port = tls_server(&ours, None, &[]).0.port();
    for (host, pair, trusted) in
        [("localhost", &ours, true), ("127.0.0.1", &ours, false), ("localhost", &other, false)]
    {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pair.cert.pem()).unwrap();
        match ask(&Connecting { ca_file: Some(path), ..connecting() }, host, port).await {
            Ok(status) => assert!(trusted && status == 401, "{host}: {status}"),
            Err(error) => assert!(!trusted && error.contains("certificate"), "{host}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_collector_that_asks_for_a_certificate_gets_it_and_the_new_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (server, known, unknown) = (pair(), pair(), pair());
    let port = tls_server(&server, Some(&known), &[]).0.port();
    std::fs::write(path("ca.pem"), server.cert.pem()).unwrap();
    let write = |pair: &Pair| {
        std::fs::write(path("cert.pem"), pair.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    };
    write(&unknown);
    let client_cert = Some((path("cert.pem"), path("key.pem")));
    let connecting = Connecting { ca_file: Some(path("ca.pem")), client_cert, ..connecting() };
    assert!(ask(&connecting, "localhost", port).await.is_err());
    let url: Url = format!("https://localhost:{port}/").parse().unwrap();
    let client = TlsClient::new(connecting, std::slice::from_ref(&url)).unwrap();
    assert!(!client.refresh(), "nothing has changed");
    std::fs::write(path("cert.pem"), known.cert.pem()).unwrap();
    assert!(!client.refresh(), "half of a pair is none");
    write(&known);
    assert!(client.refresh());
    assert_eq!(client.get().get(url).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn http_2_is_spoken_where_tls_agrees_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, ca_file) = (pair(), dir.path().join("ca.pem"));
    std::fs::write(&ca_file, server.cert.pem()).unwrap();
    let connecting = Connecting { ca_file: Some(ca_file), ..connecting() };
    let (address, first) = tls_server(&server, None, &["h2", "http/1.1"]);
    assert!(ask(&connecting, "localhost", address.port()).await.is_err());
    let heard = first.recv().unwrap();
    assert!(heard.starts_with(b"PRI * HTTP/2.0\r\n"), "{heard:?}");
    let (address, first) = tls_server(&server, None, &["http/1.1"]);
    assert_eq!(ask(&connecting, "localhost", address.port()).await, Ok(401));
    assert!(first.recv().unwrap().starts_with(b"GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_proxy_that_is_named_is_used_and_its_password_never_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://me:s3cret@{}", listener.local_addr().unwrap());
    let (say, said) = mpsc::sync_channel(8);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.by_ref().map(|l| l.unwrap()).take_while(|l| !l.is_empty()).collect();
            say.send(head).unwrap();
            socket.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    });
    let connecting = Connecting { proxy: Some(proxy.parse().unwrap()), ..connecting() };
    assert!(!format!("{connecting:?}").contains("s3cret"));
    for (url, line) in [
        ("http://collector.invalid:4801/", "GET http://collector.invalid:4801/ HTTP/1.1"),
        ("https://collector.invalid/", "CONNECT collector.invalid:443 HTTP/1.1"),
    ] {
        let url: Url = url.parse().unwrap();
        let client = TlsClient::new(connecting.clone(), std::slice::from_ref(&url)).unwrap().get();
        match client.get(url).send().await {
            Ok(answer) => assert_eq!(answer.status(), 407),
            Err(error) => assert!(!chain(&error).contains("s3cret"), "{error}"),
        }
        let head = said.recv().unwrap();
        assert_eq!(head[0], line);
        assert!(
            head.iter().any(|line| line.to_lowercase().starts_with("proxy-authorization: basic ")),
            "{head:?}"
        );
    }
    let wrong = Connecting { proxy: Some("nonsense://me:s3cret@[".parse().unwrap()), ..connecting };
    let error = TlsClient::new(wrong, &[]).unwrap_err().to_string();
    assert!(error.contains("--proxy") && !error.contains("s3cret"), "{error}");
}
