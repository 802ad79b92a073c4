//! HTTP/2: what an honest client gets, and what becomes of those that flood, take back, or cut in pieces.

use crate::common::redis::Redis;
use crate::common::{NDJSON, Running, event, wait_for};
use bytes::{Bytes, BytesMut};
use h2::client::{SendRequest, handshake};
use http::{HeaderMap, Request};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(15);

/// A connection with prior knowledge.
pub(crate) async fn open(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> (SendRequest<Bytes>, JoinSet<()>) {
    let (sender, connection) = handshake(stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    (sender, driver)
}

/// Posts, and returns status and headers.
pub(crate) async fn post(
    (mut sender, _driver): (SendRequest<Bytes>, JoinSet<()>),
    body: &str,
    headers: &[(&str, &str)],
) -> (u16, HeaderMap) {
    let answer = send(&mut sender, body.to_owned().into(), headers).await;
    timeout(PATIENCE, answer).await.unwrap().unwrap()
}

/// Sends all of it, as far as the other side takes it, and returns what waits for the answer.
async fn send(
    sender: &mut SendRequest<Bytes>,
    body: Bytes,
    headers: &[(&str, &str)],
) -> impl Future<Output = Result<(u16, HeaderMap), h2::Error>> + use<> {
    let mut request = Request::post("http://collector/v1/events").header(NDJSON.0, NDJSON.1);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    *sender = sender.clone().ready().await.unwrap();
    let (answer, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    // One that was answered already may be reset: then the rest is not sent.
    drop(stream.send_data(body, true));
    async move {
        let answer = answer.await?;
        let (head, mut body) = answer.into_parts();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            drop(body.flow_control().release_capacity(chunk.len()));
        }
        drop(stream);
        Ok((head.status.as_u16(), head.headers))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_and_a_refused_body_spoils_none_of_the_others() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--max-wire-bytes=1MiB"]).await;
    let (mut sender, _driver) = open(TcpStream::connect(collector.public).await.unwrap()).await;
    let mut answers = JoinSet::new();
    for n in 0..40 {
        answers.spawn(send(&mut sender, event(&n.to_string()).into(), &[]).await);
    }
    for answer in answers.join_all().await {
        assert_eq!(answer.unwrap().0, 202);
    }
    // Refused before the body was read, again and again, with others between.
    let large = Bytes::from(vec![b'x'; 512 << 10]);
    for _ in 0..60 {
        let refused = send(&mut sender, large.clone(), &[("Content-Encoding", "br")]).await;
        let taken = send(&mut sender, event("a").into(), &[]).await;
        let (refused, taken) = tokio::join!(timeout(PATIENCE, refused), timeout(PATIENCE, taken));
        let (status, headers) = refused.unwrap().unwrap();
        assert_eq!(status, 415);
        assert!(headers.get("connection").is_none());
        assert_eq!(taken.unwrap().unwrap().0, 202);
    }
    // Larger than its stream's window, and taken.
    let body: String = (0..5_000).map(|n| event(&n.to_string()) + "\n").collect();
    assert!(body.len() > 256 << 10);
    let answer = send(&mut sender, body.into(), &[]).await;
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().0, 202);
    assert_eq!(redis.entries().len(), 101);
    let long = "x".repeat(18 << 10);
    let answer = send(&mut sender, event("a").into(), &[("X-Long", &long)]).await;
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().0, 431);
    let answer = send(&mut sender, event("a").into(), &[]).await;
    assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().0, 202);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_it_says_goaway_and_requests_in_hand_finish() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let (mut sender, mut driver) = open(TcpStream::connect(collector.public).await.unwrap()).await;
    let answer = send(&mut sender, event("a").into(), &[]).await;
    assert_eq!(answer.await.unwrap().0, 202);
    let request = Request::post("http://collector/v1/events").header(NDJSON.0, NDJSON.1).body(()).unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(event("b").into(), false).unwrap();
    wait_for("the request", async || {
        (collector.metric("logweir_collector_in_flight_requests").await > 0.5).then_some(())
    })
    .await;
    collector.begin_stop();
    collector.ready(false).await;
    // No new request gets in on this connection: the client has been told, or is answered so.
    wait_for("the end of the connection for new requests", async || {
        let Ok(mut ready) = sender.clone().ready().await else { return Some(()) };
        let request = Request::post("http://collector/v1/events").body(()).unwrap();
        match ready.send_request(request, true) {
            Err(_) => Some(()),
            Ok((answer, _)) => match answer.await {
                Err(_) => Some(()),
                Ok(answer) => {
                    assert_eq!(answer.status(), 503);
                    None
                }
            },
        }
    })
    .await;
    if let Err(error) = body.send_data("\n".into(), true) {
        panic!("{error}: {:?}", answer.await);
    }
    assert_eq!(answer.await.unwrap().status(), 202);
    drop((sender, body));
    timeout(PATIENCE, driver.join_next()).await.unwrap();
    collector.stop().await;
    assert_eq!(redis.entries().len(), 2);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST /v1/events` of NDJSON to `x`, in HPACK: two indexed fields and three literals.
fn head() -> Vec<u8> {
    let kind = [&[0x0f, 0x10, 20][..], b"application/x-ndjson"].concat();
    [&[0x83, 0x86, 0x04, 10][..], b"/v1/events", &[0x01, 1], b"x", &kind].concat()
}

/// A client that sends frames as they are.
struct Raw {
    read: tokio::net::tcp::OwnedReadHalf,
    write: tokio::net::tcp::OwnedWriteHalf,
}

/// How a connection ended: the GOAWAY's code, and the codes of the resets and the settings before.
#[derive(Debug, Default)]
struct End {
    goaway: Option<u32>,
    resets: Vec<u32>,
    settings: Vec<(u16, u32)>,
}

impl Raw {
    async fn open(to: SocketAddr) -> Self {
        let (read, write) = TcpStream::connect(to).await.unwrap().into_split();
        let mut raw = Self { read, write };
        raw.write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        raw
    }

    /// Sends `pieces` until the server ends the connection or they do; returns how it ended and how many bytes went.
    async fn flood(self, pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> (End, usize) {
        let Self { read, mut write } = self;
        let sending = async move {
            let mut sent = 0;
            for piece in pieces {
                if write.write_all(&piece).await.is_err() {
                    break;
                }
                sent += piece.len();
            }
            (sent, write)
        };
        let both = async { tokio::join!(sending, to_the_end(read)) };
        let ((sent, _write), end) =
            timeout(Duration::from_secs(60), both).await.expect("the connection ends");
        (end, sent)
    }
}

async fn to_the_end(mut read: tokio::net::tcp::OwnedReadHalf) -> End {
    let (mut end, mut buffer) = (End::default(), BytesMut::new());
    loop {
        while buffer.len() >= 9 {
            let length = usize::from(buffer[0]) << 16 | usize::from(buffer[1]) << 8 | usize::from(buffer[2]);
            if buffer.len() < 9 + length {
                break;
            }
            let whole = buffer.split_to(9 + length);
            let (kind, flags, payload) = (whole[3], whole[4], &whole[9..]);
            let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                GOAWAY => {
                    end.goaway = Some(word(4));
                    return end;
                }
                RESET => end.resets.push(word(0)),
                SETTINGS if flags == 0 => {
                    for one in payload.chunks(6) {
                        let value = u32::from_be_bytes(one[2..].try_into().unwrap());
                        end.settings.push((u16::from_be_bytes([one[0], one[1]]), value));
                    }
                }
                _ => {}
            }
        }
        match read.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return end,
            Ok(_) => {}
        }
    }
}

async fn good_clients_are_served(collector: &Running) {
    collector.post(&[NDJSON], event("good").as_bytes()).await.accepted();
    let opened = open(TcpStream::connect(collector.public).await.unwrap()).await;
    assert_eq!(post(opened, &event("good"), &[]).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let pair = |n: u32| {
        let stream = 2 * n + 1;
        [frame(HEADERS, END_HEADERS, stream, &head()), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
    };
    // All at once: more of them than may wait to be looked at.
    let all: Vec<u8> = (0..2_000).flat_map(pair).collect();
    let (end, _) = Raw::open(collector.public).await.flood([all].into_iter()).await;
    assert_eq!(end.goaway, Some(ENHANCE_YOUR_CALM), "{end:?}");
    good_clients_are_served(&collector).await;
    // One by one, so that each is begun before it is taken back.
    let mut raw = Raw::open(collector.public).await;
    let mut taken_back = 0;
    for n in 0..2_000 {
        if raw.write.write_all(&pair(n)).await.is_err() {
            break;
        }
        taken_back = n;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let end = timeout(PATIENCE, to_the_end(raw.read)).await.expect("the connection ends");
    assert!(taken_back < 1_999, "{end:?}");
    good_clients_are_served(&collector).await;
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_what_is_no_request_end_the_connection() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let flooded = "logweir_collector_connections_cut_total{reason=\"flood\"}";
    for (number, (kind, payload)) in [(PING, &[0_u8; 8][..]), (SETTINGS, &[])].into_iter().enumerate() {
        let many = frame(kind, 0, 0, payload).repeat(1_000);
        let raw = Raw::open(collector.public).await;
        let (_, sent) = raw.flood(std::iter::repeat_n(many, 4_000)).await;
        // 4 MiB are let through, and what lies in the buffers of two sockets goes along.
        assert!(sent < 24 << 20, "{sent}");
        wait_for("the cut", async || (collector.metric(flooded).await > number as f64 + 0.5).then_some(()))
            .await;
        good_clients_are_served(&collector).await;
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_frames_too_large_and_streams_too_many_are_refused() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--max-streams=2"]).await;
    // CONTINUATION after CONTINUATION.
    let begin = frame(HEADERS, 0, 1, &head());
    let more =
        frame(CONTINUATION, 0, 1, &[&[0x00, 1, b'a', 0x7f, 0x81, 0x7b][..], &vec![b'x'; 16_000]].concat());
    let pieces = std::iter::once(begin).chain(std::iter::repeat_n(more, 4_000));
    let (end, sent) = Raw::open(collector.public).await.flood(pieces).await;
    // What is thrown away so that the client may see the GOAWAY, and the buffers of two sockets, go along.
    assert!(end.goaway.is_some() && sent < 40 << 20, "{end:?} {sent}");
    good_clients_are_served(&collector).await;
    // A frame of more than 16 KiB.
    let large = frame(HEADERS, END_HEADERS, 1, &vec![0; (16 << 10) + 1]);
    let (end, _) = Raw::open(collector.public).await.flood([large].into_iter()).await;
    assert_eq!(end.goaway, Some(6), "FRAME_SIZE_ERROR: {end:?}");
    // Three at a time, where two may be; they ask to be ended when their bodies don't come.
    let three: Vec<u8> =
        [1, 3, 5].iter().flat_map(|stream| frame(HEADERS, END_HEADERS, *stream, &head())).collect();
    let mut raw = Raw::open(collector.public).await;
    raw.write.write_all(&three).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    raw.write.shutdown().await.unwrap();
    let end = timeout(PATIENCE, to_the_end(raw.read)).await.unwrap();
    assert!(end.settings.contains(&(3, 2)), "{end:?}");
    assert!(end.resets.contains(&7), "REFUSED_STREAM: {end:?}");
    assert_eq!(end.settings.iter().find(|(name, _)| *name == 6).map(|(_, value)| *value), Some(20 << 10));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_do_not_keep_an_idle_connection() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--idle-timeout=500ms"]).await;
    let mut raw = Raw::open(collector.public).await;
    raw.write.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head())).await.unwrap();
    let pinging = async {
        while raw.write.write_all(&frame(PING, 0, 0, &[0; 8])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let end = async {
        tokio::select! {
            end = to_the_end(raw.read) => end,
            () = pinging => End::default(),
        }
    };
    let end = timeout(PATIENCE, end).await.unwrap();
    assert_eq!(end.goaway, Some(0), "{end:?}");
    collector.stop().await;
}
