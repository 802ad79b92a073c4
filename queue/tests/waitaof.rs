//! `appendfsync everysec` on a Redis that has WAITAOF: what is acknowledged has been waited for.
//!
//! Redis 7.0 has none, so that a stand-in before it says it were 7.2 and answers WAITAOF, when and as the test says.
//! `checks.rs` does the same with the real one, where there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{Ack, Enqueued, QueueError};
use support::{DEADLINE, ROOMY, SOON, Server, entry, eventually, queue_at};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// One WAITAOF that was asked.
struct Asked {
    words: Vec<String>,
    answer: oneshot::Sender<&'static str>,
}

struct StandIn {
    url: String,
    asked: mpsc::Receiver<Asked>,
    _task: JoinSet<()>,
}

impl StandIn {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (send, asked) = mpsc::channel(64);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                links.spawn(link(near, far, send.clone()));
            }
        });
        Self { url, asked, _task: task }
    }

    async fn next(&mut self) -> Asked {
        let asked = tokio::time::timeout(SOON, self.asked.recv()).await.expect("a WAITAOF").unwrap();
        // One of this server's disk, none of a replica's, and not for ever.
        assert_eq!(asked.words[..3], ["WAITAOF", "1", "0"]);
        assert!(asked.words[3].parse::<u64>().unwrap() > 0, "{:?}", asked.words);
        asked
    }

    fn is_asked(&mut self) -> bool {
        self.asked.try_recv().is_ok()
    }
}

/// Each call goes on and its answer comes back before the next, as whoever waits for each answer sees it anyway.
async fn link(near: TcpStream, far: TcpStream, asked: mpsc::Sender<Asked>) {
    let (from_near, mut to_near) = near.into_split();
    let (from_far, mut to_far) = far.into_split();
    let (to_client, mut for_client) = mpsc::channel::<Vec<u8>>(64);
    let answers = to_client.clone();
    let mut pumps = JoinSet::new();
    pumps.spawn(async move {
        while let Some(bytes) = for_client.recv().await {
            if to_near.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    pumps.spawn(async move {
        let mut from_far = BufReader::new(from_far);
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_far.read(&mut buffer).await {
            let bytes = as_newer(&buffer[..length]);
            if to_client.send(bytes).await.is_err() {
                return;
            }
        }
    });
    let mut from_near = BufReader::new(from_near);
    while let Some((raw, words)) = call(&mut from_near).await {
        if words[0] == "WAITAOF" {
            let (answer, answered) = oneshot::channel();
            asked.send(Asked { words, answer }).await.unwrap();
            // Dropped, it is never answered.
            let Ok(answer) = answered.await else { std::future::pending().await };
            answers.send(answer.as_bytes().to_vec()).await.ok();
        } else if copy(&mut raw.as_slice(), &mut to_far).await.is_err() {
            return;
        }
    }
}

fn as_newer(bytes: &[u8]) -> Vec<u8> {
    const OLD: &[u8] = b"redis_version:7.0.";
    const NEW: &[u8] = b"redis_version:7.2.";
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.windows(OLD.len()).position(|window| window == OLD) {
        bytes[at..at + NEW.len()].copy_from_slice(NEW);
    }
    bytes
}

/// One call, as it came and in words.
async fn call(from: &mut BufReader<OwnedReadHalf>) -> Option<(Vec<u8>, Vec<String>)> {
    let mut raw = Vec::new();
    let mut words = Vec::new();
    let count = number(from, &mut raw).await?;
    for _ in 0..count {
        let length = number(from, &mut raw).await?;
        let mut word = vec![0; length + 2];
        from.read_exact(&mut word).await.ok()?;
        raw.extend_from_slice(&word);
        words.push(String::from_utf8_lossy(&word[..length]).into_owned());
    }
    Some((raw, words))
}

async fn number(from: &mut BufReader<OwnedReadHalf>, raw: &mut Vec<u8>) -> Option<usize> {
    let begin = raw.len();
    from.read_until(b'\n', raw).await.ok()?;
    std::str::from_utf8(&raw[begin..]).ok()?.trim_end().get(1..)?.parse().ok()
}

async fn everysec() -> Server {
    Server::start_on_tcp(&["--appendonly", "yes", "--appendfsync", "everysec"]).await
}

async fn entries(server: &Server) -> u64 {
    server.say("XLEN logweir:{0}:queue").await
}

#[tokio::test]
async fn nothing_is_acknowledged_before_a_sync_that_began_after_it_and_one_sync_serves_all() {
    let server = everysec().await;
    let mut stand_in = StandIn::before(server.port()).await;
    let queue = queue_at(&stand_in.url, Ack::Fsync);
    let info = queue.check().await.unwrap();
    assert!(!info.version.starts_with("7.0") && info.warnings[0].contains("everysec"), "{info:?}");
    let (mut first, mut others) = (JoinSet::new(), JoinSet::new());
    let spawn = |tasks: &mut JoinSet<_>, seq| {
        let queue = queue.clone();
        tasks.spawn(async move { queue.enqueue(&entry(seq, b"body"), ROOMY, None).await });
    };
    spawn(&mut first, 1);
    let sync = stand_in.next().await;
    assert_eq!(entries(&server).await, 1, "it was written before the wait began");

    // These are written while that wait is under way, so that it says nothing of them.
    (0..10).for_each(|n| spawn(&mut others, 4 + 3 * n));
    eventually(async || match entries(&server).await {
        11 => Ok(()),
        other => Err(other),
    })
    .await;
    // Whoever only asks doesn't wait behind them.
    assert_eq!(queue.depth().await.unwrap().entries, 11);
    assert!(first.try_join_next().is_none() && others.try_join_next().is_none());
    sync.answer.send("*2\r\n:1\r\n:0\r\n").unwrap();
    assert!(matches!(first.join_next().await.unwrap().unwrap(), Ok(Enqueued::Added { .. })));

    let sync = stand_in.next().await;
    assert!(others.try_join_next().is_none());
    sync.answer.send("*2\r\n:1\r\n:0\r\n").unwrap();
    for other in others.join_all().await {
        assert!(matches!(other, Ok(Enqueued::Added { .. })), "{other:?}");
    }
    assert!(!stand_in.is_asked(), "one wait served all ten");
}

#[tokio::test]
async fn what_was_not_synced_is_not_acknowledged() {
    let server = everysec().await;
    let mut stand_in = StandIn::before(server.port()).await;
    let queue = queue_at(&stand_in.url, Ack::Fsync);
    let batch = entry(1, b"body");
    for (answer, says) in [
        // Not in time.
        ("*2\r\n:0\r\n:0\r\n", "not synced"),
        // As it says when somebody has switched the file off meanwhile.
        ("-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n", "appendonly"),
    ] {
        let (enqueued, ()) = tokio::join!(queue.enqueue(&batch, ROOMY, None), async {
            stand_in.next().await.answer.send(answer).unwrap();
        });
        let said = enqueued.unwrap_err();
        assert!(said.to_string().contains(says), "{said}");
    }
    // Never answered: that ends as well, and the next has a new connection.
    let (enqueued, ()) = tokio::join!(queue.enqueue(&batch, ROOMY, None), async {
        drop(stand_in.next().await);
    });
    assert!(matches!(enqueued.unwrap_err(), QueueError::Timeout(DEADLINE)));
    let (enqueued, ()) = tokio::join!(queue.enqueue(&batch, ROOMY, None), async {
        stand_in.next().await.answer.send("*2\r\n:1\r\n:0\r\n").unwrap();
    });
    assert!(matches!(enqueued.unwrap(), Enqueued::Added { .. }));
    assert_eq!(entries(&server).await, 4, "whether it was taken is unknown after each");
}
