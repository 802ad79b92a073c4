//! Redis killed, paused, away, or unwilling: every call ends in time, and all goes on by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{Ack, Item, Queue, QueueError};
use redis::cmd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{DEADLINE, ROOMY, SOON, Server, add, entry, eventually, queue_at, seqs};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const NOW: Duration = Duration::ZERO;
/// What a busy machine may add to a deadline.
const GRACE: Duration = Duration::from_millis(600);

fn unavailable(error: &QueueError) -> bool {
    matches!(error, QueueError::Unavailable(_) | QueueError::Timeout(_))
}

#[tokio::test]
async fn a_killed_redis_comes_back_with_everything_acknowledged() {
    let mut server = Server::start().await;
    let queue = server.queue();
    let mut acknowledged = 0;
    let mut next = 1;
    for _ in 0..5 {
        // Several writers at once, killed in the middle.
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let queue = queue.clone();
            let first = next;
            next += 3 * 1000;
            tasks.spawn(async move {
                let mut yes = 0;
                for n in 0..1000 {
                    match queue.enqueue(&entry(first + 3 * n, b"body"), ROOMY, None).await {
                        Ok(_) => yes += 1,
                        Err(error) => {
                            assert!(unavailable(&error), "{error:?}");
                            break;
                        }
                    }
                }
                yes
            });
        }
        let killer = async {
            let before = acknowledged;
            eventually(async || {
                let entries = queue.depth().await.unwrap().entries;
                if entries > before + 50 { Ok(()) } else { Err(entries) }
            })
            .await;
            server.kill();
        };
        let (yes, ()) = tokio::join!(tasks.join_all(), killer);
        let yes: u64 = yes.iter().sum();
        acknowledged += yes;
        server.restart().await;
        let depth = eventually(async || queue.depth().await).await;
        assert!(depth.entries >= acknowledged, "{} of {acknowledged} are there", depth.entries);
        assert_eq!(depth.bytes, server.bytes_by_hand().await);
        // What was in flight may have arrived unseen; from here on it counts as known.
        acknowledged = depth.entries;
    }
    let mut reader = queue.reader("a");
    let mut read = 0;
    while read < acknowledged {
        let items = reader.read(100, NOW).await.unwrap();
        let done: Vec<_> = items.iter().map(Item::done).collect();
        read += queue.acknowledge(&done).await.unwrap();
    }
    assert_eq!(queue.depth().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn a_reader_goes_on_after_a_restart_and_finds_what_it_held() {
    let mut server = Server::start().await;
    let queue = server.queue();
    let mut reader = queue.reader("a");
    add(&queue, 1, b"held").await;
    assert_eq!(seqs(&reader.read(10, NOW).await.unwrap()), [1]);
    // Killed under a waiting read: it fails at once, not after its wait.
    let begun = Instant::now();
    let (waited, ()) = tokio::join!(reader.read(10, SOON), async {
        eventually(async || {
            let clients: String = server.say("INFO clients").await;
            if clients.contains("blocked_clients:1") { Ok(()) } else { Err(clients) }
        })
        .await;
        server.kill();
    });
    assert!(unavailable(&waited.unwrap_err()));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(unavailable(&reader.read(10, NOW).await.unwrap_err()));

    server.restart().await;
    assert!(eventually(async || reader.read(10, NOW).await).await.is_empty());
    let again = eventually(async || reader.reclaim(NOW, 10).await).await;
    assert_eq!((again.len(), again[0].1), (1, 2));
    assert_eq!(queue.acknowledge(&[again[0].0.done()]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_paused_redis_costs_no_call_more_than_its_deadline() {
    let server = Server::start().await;
    let queue = server.queue();
    let (mut a, mut b) = (queue.reader("a"), queue.reader("b"));
    add(&queue, 1, b"body").await;
    a.read(1, NOW).await.unwrap();
    server.pause();
    // Open connections, new ones, and those who wait for another's attempt.
    for round in 0..2 {
        let begun = Instant::now();
        let block = Duration::from_millis(300);
        let batch = entry(4, b"body");
        let (one, two, three, four, five) = tokio::join!(
            queue.enqueue(&batch, ROOMY, None),
            queue.depth(),
            a.read(1, block),
            b.read(1, NOW),
            queue.check(),
        );
        let took = begun.elapsed();
        for error in
            [one.unwrap_err(), two.unwrap_err(), three.unwrap_err(), four.unwrap_err(), five.unwrap_err()]
        {
            assert!(matches!(error, QueueError::Timeout(_)), "round {round}: {error:?}");
        }
        assert!(took >= DEADLINE && took < DEADLINE + block + GRACE, "round {round}: {took:?}");
    }
    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for seq in 0..100 {
        let queue = queue.clone();
        crowd.spawn(async move { queue.enqueue(&entry(100 + 3 * seq, b"body"), ROOMY, None).await.is_err() });
    }
    assert!(crowd.join_all().await.into_iter().all(|failed| failed));
    assert!(begun.elapsed() < DEADLINE + GRACE, "a crowd waits together: {:?}", begun.elapsed());

    server.resume();
    let depth = eventually(async || queue.depth().await).await;
    assert!(depth.entries >= 1);
    // The late answers of the pause are taken for nobody's: each call gets its own.
    for seq in 0..20 {
        let id = add(&queue, 1000 + 3 * seq, b"body").await;
        let said: Vec<(String, Vec<Vec<u8>>)> =
            server.say(&format!("XRANGE logweir:{{0}}:queue {id} {id}")).await;
        assert_eq!(said[0].1[7], (1000 + 3 * seq).to_string().into_bytes());
    }
}

#[tokio::test]
async fn a_refused_connection_is_said_at_once_with_its_address() {
    let mut server = Server::start_on_tcp(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let url = format!("redis://127.0.0.1:{}/0", server.port());
    let queue = queue_at(&url, Ack::Fsync);
    add(&queue, 1, b"body").await;
    server.kill();
    let begun = Instant::now();
    // The first may still meet the broken connection; no later one does.
    assert!(unavailable(&queue.depth().await.unwrap_err()));
    let said = queue.depth().await.unwrap_err();
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    assert!(matches!(said, QueueError::Unavailable(_)));
    assert!(said.to_string().contains(&format!("127.0.0.1:{}: Connection refused", server.port())), "{said}");
}

#[tokio::test]
async fn somebody_who_never_answers_is_left_in_time() {
    // The kernel accepts for a listener that never does.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let queue = queue_at(&format!("redis://{}", listener.local_addr().unwrap()), Ack::Memory);
    let begun = Instant::now();
    assert!(matches!(queue.depth().await.unwrap_err(), QueueError::Timeout(DEADLINE)));
    assert!(begun.elapsed() < DEADLINE + GRACE);
}

/// Stands between queue and Redis. What it has accepted so far can be made to fall silent, as behind a firewall that
/// has forgotten it: open, but nothing comes through any more.
struct Proxy {
    url: String,
    epoch: watch::Sender<u64>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (epoch, epochs) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let mut epochs = epochs.clone();
                links.spawn(async move {
                    epochs.mark_unchanged();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = epochs.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { url, epoch, _task: task }
    }

    fn forget_all(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_replaced_after_one_timeout() {
    let server = Server::start_on_tcp(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let proxy = Proxy::before(server.port()).await;
    let queue = queue_at(&proxy.url, Ack::Fsync);
    let mut reader = queue.reader("a");
    for round in 0..3 {
        add(&queue, 1 + 3 * round, b"body").await;
        assert_eq!(reader.read(1, NOW).await.unwrap().len(), 1);
        proxy.forget_all();
        assert!(matches!(queue.depth().await.unwrap_err(), QueueError::Timeout(_)));
        assert_eq!(queue.depth().await.unwrap().entries, round + 1);
        assert!(matches!(reader.read(1, NOW).await.unwrap_err(), QueueError::Timeout(_)));
        assert!(reader.read(1, NOW).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_crowd_shares_one_failed_attempt() {
    // It accepts, thinks about it, and hangs up.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let queue = queue_at(&format!("redis://{}", listener.local_addr().unwrap()), Ack::Fsync);
    let mut server = JoinSet::new();
    let accepted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&accepted);
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(stream);
        }
    });
    let mut crowd = JoinSet::new();
    for _ in 0..50 {
        let queue = queue.clone();
        crowd.spawn(async move { queue.depth().await.unwrap_err() });
    }
    for error in crowd.join_all().await {
        assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let server =
        Server::start_with(&["--appendonly", "yes", "--appendfsync", "always", "--requirepass", "sesame"])
            .await;
    let right = queue_at(&format!("{}?pass=sesame", server.url()), Ack::Fsync);
    add(&right, 1, b"body").await;
    for (query, says) in [("?pass=0pen-s3cret", "WRONGPASS"), ("", "NOAUTH")] {
        let error = queue_at(&format!("{}{query}", server.url()), Ack::Fsync).check().await.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(unavailable(&error), "{error:?}");
        assert!(said.contains(says) || said.to_lowercase().contains("password"), "{said}");
        assert!(!said.contains("0pen-s3cret"), "{said}");
    }
    let settings = logweir_queue::Settings::new("http://user:0pen-s3cret@host", Ack::Fsync, DEADLINE);
    let Err(error) = Queue::new(settings) else { panic!("http is no Redis") };
    assert!(matches!(error, QueueError::Usage(_)));
    assert!(!error.to_string().contains("0pen-s3cret"), "{error}");
}

#[tokio::test]
async fn a_full_redis_refuses_but_drains_and_keeps_count() {
    let server = Server::start().await;
    let queue = server.queue();
    let body = vec![b'x'; 100_000];
    for seq in 0..20 {
        add(&queue, 1 + 3 * seq, &body).await;
    }
    let mut reader = queue.reader("a");
    let items = reader.read(20, NOW).await.unwrap();
    assert_eq!(items.len(), 20);
    server.say::<()>("CONFIG SET maxmemory 1mb").await;
    let refused = queue.enqueue(&entry(100, &body), ROOMY, None).await.unwrap_err();
    assert!(unavailable(&refused) && refused.to_string().contains("OOM"), "{refused:?}");
    assert_eq!(queue.depth().await.unwrap().bytes, 2_000_000);
    for (item, left) in items.iter().zip((0..20_u64).rev()) {
        assert_eq!(queue.acknowledge(&[item.done()]).await.unwrap(), 1);
        let depth = queue.depth().await.unwrap();
        assert_eq!((depth.entries, depth.bytes, depth.pending), (left, left * 100_000, left));
    }
    server.say::<()>("CONFIG SET maxmemory 0").await;
    add(&queue, 200, b"body").await;
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_left() {
    let server = Server::start().await;
    let queue = server.queue();
    add(&queue, 1, b"body").await;
    server.say::<()>("REPLICAOF 127.0.0.1 1").await;
    let refused = queue.enqueue(&entry(4, b"body"), ROOMY, None).await.unwrap_err();
    assert!(unavailable(&refused), "{refused:?}");
    let Err(QueueError::Unfit(why)) = queue.enqueue(&entry(4, b"body"), ROOMY, None).await else { panic!() };
    assert!(why.contains("of 127.0.0.1:1"), "{why}");
    server.say::<()>("REPLICAOF NO ONE").await;
    eventually(async || queue.enqueue(&entry(4, b"body"), ROOMY, None).await).await;
}

#[tokio::test]
async fn a_key_of_the_wrong_kind_is_a_protocol_error() {
    let server = Server::start().await;
    let queue = server.queue();
    server.say::<()>("SET logweir:{0}:queue mine").await;
    for error in [
        queue.enqueue(&entry(1, b"x"), ROOMY, None).await.unwrap_err(),
        queue.depth().await.unwrap_err(),
        queue.reader("a").read(1, NOW).await.unwrap_err(),
    ] {
        assert!(matches!(&error, QueueError::Protocol(why) if why.contains("WRONGTYPE")), "{error:?}");
    }
    let mut raw = server.raw().await;
    let kept: String = cmd("GET").arg("logweir:{0}:queue").query_async(&mut raw).await.unwrap();
    assert_eq!(kept, "mine");
}
