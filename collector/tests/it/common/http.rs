//! A client that sends what it is told, byte by byte if need be, and shows all that comes back.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// No test waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks that this is a whole problem of this code, and returns its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let json = self.json();
        assert_eq!(json["type"], format!("urn:logweir:problem:{code}"), "{json}");
        assert_eq!(json["status"], status);
        assert!(json["title"].is_string(), "{json}");
        if matches!(status, 429 | 503) {
            let seconds: u64 = self.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=30).contains(&seconds));
            let ms = json["retry_after_ms"].as_u64().unwrap();
            assert!(seconds == 30 || ms.div_ceil(1_000).max(1) == seconds, "{ms} ms, {seconds} s");
        } else {
            assert!(self.header("retry-after").is_none() && json["retry_after_ms"].is_null());
        }
        json["detail"].as_str().unwrap().to_owned()
    }

    /// Checks that this is a 202, and returns batch, accepted and the rejected indices with their codes.
    #[track_caller]
    pub(crate) fn accepted(&self) -> (String, u64, Vec<(u64, String)>) {
        assert_eq!(self.status, 202, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        let pressure: f64 = self.header("logweir-pressure").unwrap().parse().unwrap();
        assert!((0.0..=1.0).contains(&pressure));
        let json = self.json();
        (json["batch"].as_str().unwrap().to_owned(), json["accepted"].as_u64().unwrap(), rejected(&json))
    }

    /// `rejected` of a 422.
    pub(crate) fn rejected(&self) -> Vec<(u64, String)> {
        rejected(&self.json())
    }
}

fn rejected(json: &serde_json::Value) -> Vec<(u64, String)> {
    let one = |r: &serde_json::Value| {
        assert!(!r["detail"].as_str().unwrap().is_empty());
        (r["index"].as_u64().unwrap(), r["code"].as_str().unwrap().to_owned())
    };
    json["rejected"].as_array().unwrap().iter().map(one).collect()
}

/// What a connection runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// A connection from another address of loopback; one that is refused may be reset as soon as it stands.
pub(crate) async fn connect_from(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Ends this direction.
    pub(crate) async fn end(&mut self) {
        self.try_end().await.unwrap();
    }

    /// The same where the server may have ended the connection.
    pub(crate) async fn try_end(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }

    /// Headers of a POST with these and a Content-Length.
    pub(crate) async fn head(&mut self, headers: &[(&str, &str)], length: usize) {
        self.request("POST /v1/events", headers, Some(length)).await;
    }

    pub(crate) async fn request(&mut self, line: &str, headers: &[(&str, &str)], length: Option<usize>) {
        let mut text = format!("{line} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = length {
            text += &format!("Content-Length: {length}\r\n");
        }
        self.send((text + "\r\n").as_bytes()).await;
    }

    pub(crate) async fn post(&mut self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.head(headers, body.len()).await;
        // The answer may come before the body has gone.
        let (mut read, mut write) = split(&mut self.stream);
        let sending = async {
            let _cut_off = write.write_all(body).await;
        };
        let receiving = timeout(PATIENCE, receive(&mut read, &mut self.buffer));
        let ((), answer) = tokio::join!(sending, receiving);
        answer.expect("an answer in time").expect("an answer")
    }

    /// `None` when the server ends the connection instead of answering.
    pub(crate) async fn try_post(&mut self, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let mut text = "POST /v1/events HTTP/1.1\r\nHost: test\r\n".to_owned();
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n", body.len());
        let message = [text.as_bytes(), body].concat();
        let (mut read, mut write) = split(&mut self.stream);
        let sending = async {
            let _cut_off = write.write_all(&message).await;
        };
        let receiving = timeout(PATIENCE, receive(&mut read, &mut self.buffer));
        tokio::join!(sending, receiving).1.expect("an answer or an end in time")
    }

    /// The next answer, also a 1xx.
    pub(crate) async fn answer(&mut self) -> Answer {
        timeout(PATIENCE, receive(&mut self.stream, &mut self.buffer))
            .await
            .expect("an answer in time")
            .expect("an answer")
    }

    /// The next answer, to a HEAD: its length is told, and its body doesn't come.
    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        let mut read = split(&mut self.stream).0;
        let head = timeout(PATIENCE, receive_head(&mut read, &mut self.buffer));
        head.await.expect("an answer in time").expect("an answer")
    }

    /// All that comes until the server ends the connection.
    pub(crate) async fn read_rest(&mut self, rest: &mut Vec<u8>) {
        timeout(PATIENCE, self.stream.read_to_end(rest)).await.expect("an end in time").unwrap();
    }

    /// The same where the end may be a reset.
    pub(crate) async fn read_all(&mut self, rest: &mut Vec<u8>) {
        drop(timeout(PATIENCE, self.stream.read_to_end(rest)).await.expect("an end in time"));
    }

    /// Whether the server ends the connection without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        read.is_ok() && rest.is_empty() && self.buffer.is_empty()
    }
}

/// `None` when the connection ends before a whole answer.
async fn receive(read: &mut (impl AsyncReadExt + Unpin), buffer: &mut Vec<u8>) -> Option<Answer> {
    let mut answer = receive_head(read, buffer).await?;
    let length = answer.header("content-length").map_or(0, |l| l.parse().unwrap());
    while buffer.len() < length {
        if read.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    answer.body = buffer.drain(..length).collect();
    Some(answer)
}

async fn receive_head(read: &mut (impl AsyncReadExt + Unpin), buffer: &mut Vec<u8>) -> Option<Answer> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if read.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    Some(Answer { status, headers, body: Vec::new() })
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.request(&format!("GET {path}"), &[], None).await;
    client.answer().await
}
