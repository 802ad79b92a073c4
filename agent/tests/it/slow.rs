//! A way to the collector that is slow, though the collector isn't.

use crate::collector::Collector;
use crate::process::{Place, ended, free_port, get, terminate, until};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What each connection carries towards the collector, in bytes a second.
const BYTES_PER_S: u64 = 60_000;
const CHUNK: usize = 1_000;

/// A slow line: what comes is passed on in small pieces, and what goes back at once.
async fn slow_line(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let collector = TcpStream::connect(to).await?;
            let ((mut from, mut back), (mut answers, mut on)) = (client.into_split(), collector.into_split());
            let forth = async {
                let mut chunk = [0; CHUNK];
                loop {
                    let read = from.read(&mut chunk).await?;
                    if read == 0 {
                        return on.shutdown().await;
                    }
                    tokio::time::sleep(Duration::from_micros(1_000_000 * read as u64 / BYTES_PER_S)).await;
                    on.write_all(&chunk[..read]).await?;
                }
            };
            tokio::select! {
                done = forth => done,
                done = tokio::io::copy(&mut answers, &mut back) => done.map(drop),
            }
        });
    }
}

/// Words that can't be compressed much.
fn noise(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:020}")
    };
    (0..12).map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_slow_goes_in_halves_and_each_event_once() {
    let (place, collector, admin) = (Place::new(), Collector::start().await, free_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut line = JoinSet::new();
    line.spawn(slow_line(listener, collector.address));
    let mut lines: Vec<String> = (0..1_500).map(noise).collect();
    let file = place.lines("app.log", &lines);
    let flags = ["--admin", &admin, "--request-timeout", "1s", "--multiline-timeout", "100ms", &file];
    let agent = place.start(&format!("http://{address}"), &flags);
    until("all is taken", || collector.taken.count() == 1_500).await;
    let metrics = get(&admin, "/metrics").await.1;
    let metric = |name: &str| -> u64 {
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").trim().parse().unwrap()
    };
    assert!(metric(r#"logweir_agent_halved_total{reason="timeout"}"#) >= 1, "{metrics}");
    assert!(metric(r#"logweir_agent_answers_total{status="none"}"#) >= 2, "{metrics}");
    terminate(&agent).await;
    let ended = ended(agent).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("too large; sending its halves"), "{}", ended.log);
    lines.sort();
    assert!(collector.taken.messages() == lines, "{}", ended.log);
}
