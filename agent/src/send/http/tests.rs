//! Against a socket that says what a test tells it to, byte for byte.

use super::*;
use crate::send::policy::{self, Action};
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const ID: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/7";

fn target(address: SocketAddr) -> Target {
    Target {
        collectors: vec![format!("http://{address}/base/").parse().unwrap()],
        id: "agent-1".to_owned(),
        token_file: None,
        connecting: Connecting {
            ca_file: None,
            client_cert: None,
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            concurrency: 4,
        },
        request_timeout: Duration::from_secs(20),
    }
}

fn request(encoding: Encoding) -> Request {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
    Request { id: ID.parse().unwrap(), body: Bytes::from_static(b"the body"), encoding, traceparent }
}

/// A request as it came: its first line, its headers, and its body.
struct Seen {
    line: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

async fn read_request(socket: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let head = loop {
        let mut buffer = [0; 1024];
        let n = socket.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the client sends a whole request");
        bytes.extend_from_slice(&buffer[..n]);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.lines();
    let line = lines.next().unwrap().to_owned();
    let headers: HashMap<_, _> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = bytes[head + 4..].to_vec();
    let length: usize = headers["content-length"].parse().unwrap();
    while body.len() < length {
        let mut buffer = [0; 1024];
        let n = socket.read(&mut buffer).await.unwrap();
        body.extend_from_slice(&buffer[..n]);
    }
    Seen { line, headers, body }
}

/// Posts once to a server that reads the request, writes this, and then does as `end` says.
async fn exchange(target: impl FnOnce(&mut Target), answer: &[u8], end: End) -> (Outcome, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut to = self::target(listener.local_addr().unwrap());
    target(&mut to);
    let http = Http::new(&to).unwrap();
    let mut client = JoinSet::new();
    client.spawn(async move { http.post(0, request(Encoding::Zstd)).await });
    let (mut socket, _) = listener.accept().await.unwrap();
    let seen = read_request(&mut socket).await;
    socket.write_all(answer).await.unwrap();
    let outcome = match end {
        End::Close => {
            drop(socket);
            client.join_next().await
        }
        End::Stay => client.join_next().await,
    };
    (outcome.unwrap().unwrap(), seen)
}

#[derive(Clone, Copy)]
enum End {
    Close,
    Stay,
}

fn whole(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Answer(answer) => answer,
        Outcome::Failed(error) | Outcome::TimedOut(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_post_bears_what_the_interface_asks_for() {
    let said =
        b"HTTP/1.1 202 Accepted\r\nlogweir-pressure: 0.85\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}";
    let (outcome, seen) = exchange(|_| {}, said, End::Stay).await;
    assert_eq!(seen.line, "POST /base/v1/events HTTP/1.1");
    let header = |name: &str| seen.headers.get(name).map(String::as_str);
    assert_eq!(header("content-type"), Some("application/x-ndjson"));
    assert_eq!(header("content-encoding"), Some("zstd"));
    assert_eq!(header("logweir-batch"), Some(ID));
    assert_eq!(header("logweir-agent"), Some("agent-1"));
    assert_eq!(header("authorization"), None);
    assert_eq!(header("user-agent"), Some(concat!("logweir-agent/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(header("traceparent"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!(seen.body, b"the body");
    let answer = whole(outcome);
    assert_eq!((answer.status, answer.pressure, answer.retry_after.as_deref()), (202, Some(0.85), Some("3")));
    assert_eq!(answer.body.as_deref(), Some(&b"{}"[..]));
}

#[tokio::test]
async fn with_a_token_the_agent_has_no_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "one\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { token_file: Some(path.clone()), ..target(listener.local_addr().unwrap()) };
    let http = Arc::new(Http::new(&target).unwrap());
    let mut socket = None;
    for (token, changed) in [("one", false), ("two", true)] {
        std::fs::write(&path, token).unwrap();
        assert!(http.has_credentials());
        assert_eq!(http.new_credentials().await, changed);
        let (http, mut client) = (Arc::clone(&http), JoinSet::new());
        client.spawn(async move { http.post(0, request(Encoding::Identity)).await });
        // The connection is used again.
        let mut connection = match socket.take() {
            Some(socket) => socket,
            None => listener.accept().await.unwrap().0,
        };
        let seen = read_request(&mut connection).await;
        assert_eq!(seen.headers["authorization"], format!("Bearer {token}"));
        assert!(
            !seen.headers.contains_key("logweir-agent") && !seen.headers.contains_key("content-encoding")
        );
        connection.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        assert_eq!(whole(client.join_next().await.unwrap().unwrap()).status, 401);
        socket = Some(connection);
    }
}

#[tokio::test]
async fn half_an_answer_has_no_body() {
    let cut = b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{\"batch\":";
    let (outcome, _) = exchange(|_| {}, cut, End::Close).await;
    let answer = whole(outcome);
    assert_eq!((answer.status, answer.body), (202, None));
    for nothing in [&b""[..], b"HTTP/1.1 202", b"SSH-2.0-OpenSSH_9.6\r\n"] {
        let (outcome, _) = exchange(|_| {}, nothing, End::Close).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept_in_memory() {
    let mut endless = b"HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..9 {
        endless.extend_from_slice(b"100000\r\n");
        endless.resize(endless.len() + (1 << 20), b'x');
        endless.extend_from_slice(b"\r\n");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = Http::new(&target(listener.local_addr().unwrap())).unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_request(&mut socket).await;
        // It ends when the client has had enough.
        while socket.write_all(&endless).await.is_ok() {}
    });
    let answer = whole(http.post(0, request(Encoding::Zstd)).await);
    assert_eq!((answer.status, answer.body), (502, None));
}

#[tokio::test]
async fn an_answer_that_drips_ends_at_the_deadline() {
    let short = |target: &mut Target| target.request_timeout = Duration::from_millis(200);
    for part in [&b""[..], b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{"] {
        let (outcome, _) = exchange(short, part, End::Stay).await;
        match outcome {
            Outcome::TimedOut(error) => assert_eq!(error, "no answer within 200ms"),
            answer => panic!("{answer:?}"),
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_the_token_goes_nowhere_else() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dir, other) = (tempfile::tempdir().unwrap(), elsewhere.local_addr().unwrap());
    let token = dir.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    for status in [301, 302, 303, 307, 308] {
        let text = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: http://{other}/v1/events\r\ncontent-length: 0\r\n\r\n"
        );
        let with = |target: &mut Target| target.token_file = Some(token.clone());
        let (outcome, seen) = exchange(with, text.as_bytes(), End::Stay).await;
        assert_eq!(seen.headers["authorization"], "Bearer secret");
        let answer = whole(outcome);
        assert_eq!(answer.status, status);
        // Nor is the batch given up: somebody must mend the address.
        let asked = policy::Asked { id: ID.parse().unwrap(), events: 1, encoding: Encoding::Zstd };
        let action = policy::decide(&asked, &Outcome::Answer(answer), jiff::Timestamp::now());
        assert!(matches!(action, Action::Hold(_)), "{action:?}");
    }
    let silence = tokio::time::timeout(Duration::from_millis(300), elsewhere.accept()).await;
    assert!(silence.is_err(), "nobody is sent there");
}

/// RFC 9110, section 15.2: any number of interim answers may come before the final one.
#[tokio::test]
async fn interim_answers_are_passed_over() {
    let said = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                 HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
    let (outcome, _) = exchange(|_| {}, said, End::Stay).await;
    assert_eq!(whole(outcome).status, 202);
    // One alone is no answer.
    let short = |target: &mut Target| target.request_timeout = Duration::from_millis(200);
    let (outcome, _) = exchange(short, b"HTTP/1.1 103 Early Hints\r\n\r\n", End::Stay).await;
    assert!(matches!(outcome, Outcome::TimedOut(_)), "{outcome:?}");
    let (outcome, _) = exchange(|_| {}, b"HTTP/1.1 100 Continue\r\n\r\n", End::Close).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
}

/// What a proxy says in the collector's place neither settles a batch nor gives it up, and is waited for as it asks.
#[tokio::test]
async fn a_proxys_words_are_heeded_and_not_believed() {
    let date = |seconds: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
    };
    let html = "<html><body><h1>Bad Gateway</h1></body></html>";
    for (status, retry_after, least, most) in [
        (503, Some(date(20)), 15, 26),
        (503, Some("7".to_owned()), 7, 7),
        (503, Some(date(-3_600)), 0, 60),
        (503, Some("999999999999".to_owned()), 1, 3_600),
        (502, None, 0, 60),
        (200, None, 0, 60),
        (404, None, 0, 300),
        (413, None, 0, 0),
    ] {
        let header =
            retry_after.as_ref().map(|value| format!("retry-after: {value}\r\n")).unwrap_or_default();
        let text = format!(
            "HTTP/1.1 {status} It\r\ncontent-type: text/html\r\n{header}content-length: {}\r\n\r\n{html}",
            html.len()
        );
        let (outcome, _) = exchange(|_| {}, text.as_bytes(), End::Stay).await;
        let asked = policy::Asked { id: ID.parse().unwrap(), events: 10, encoding: Encoding::Zstd };
        let action = policy::decide(&asked, &outcome, jiff::Timestamp::now());
        match (&action, status) {
            (Action::Halve, 413) => {}
            (Action::Hold(hold), _) => match hold.wait {
                policy::Wait::Told(told) => {
                    let seconds = told.as_secs();
                    assert!((least..=most).contains(&seconds), "{status} {retry_after:?}: {told:?}");
                }
                _ => assert!(retry_after.is_none() || least == 0, "{status} {retry_after:?}: {action:?}"),
            },
            _ => panic!("{status}: {action:?}"),
        }
    }
}

#[tokio::test]
async fn refusals_say_what_the_system_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let http = Http::new(&target(address)).unwrap();
    assert!(!http.has_credentials());
    match http.post(0, request(Encoding::Zstd)).await {
        Outcome::Failed(error) => assert!(error.contains("refused"), "{error}"),
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn files_that_are_wrong_are_named() {
    let target = target(([127, 0, 0, 1], 1).into());
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let no_token = Target { token_file: Some(missing.clone()), ..target.clone() };
    assert!(Http::new(&no_token).unwrap_err().to_string().contains("--token-file"));
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for path in [missing, empty] {
        let mut no_ca = target.clone();
        no_ca.connecting.ca_file = Some(path);
        let error = Http::new(&no_ca).unwrap_err().to_string();
        assert!(error.contains("--ca-file"), "{error}");
    }
}

#[test]
fn the_path_is_added_to_the_base() {
    for (base, url) in [
        ("http://h:4801", "http://h:4801/v1/events"),
        ("http://h:4801/", "http://h:4801/v1/events"),
        ("https://h/logs", "https://h/logs/v1/events"),
        ("https://h/logs/", "https://h/logs/v1/events"),
    ] {
        assert_eq!(url_of(&base.parse().unwrap(), "events").as_str(), url);
    }
}
