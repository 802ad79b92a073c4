//! Getting into Redis: TLS, users with the least rights, a password that is exchanged, and Sentinel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_queue::{
    Access, Ack, Burial, DeadLimits, Done, Enqueued, EntryId, IdempotencyKey, Item, Queue, QueueError,
    Replay, Restored, Settings,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{DEADLINE, ROOMY, SOON, Server, add, entry, eventually, free_port, seqs};
use tempfile::TempDir;

const NOW: Duration = Duration::ZERO;
/// The manual's lines are what is tested.
const MANUAL: &str = include_str!("../../docs/redis.md");

/// An authority, and what it vouches for, in files.
struct Papers {
    dir: TempDir,
}

impl Papers {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", authority.pem());
        for name in ["127.0.0.1", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            write(&format!("{name}.pem"), params.signed_by(&key, &authority).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What redis-server is told.
    fn flags(&self, port: u16, asks: &str) -> Vec<String> {
        let path = |name: &str| self.file(name).to_str().unwrap().to_owned();
        let flags = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", path("127.0.0.1.pem")),
            ("--tls-key-file", path("127.0.0.1.key")),
            ("--tls-ca-cert-file", path("ca.pem")),
            ("--tls-auth-clients", asks.to_owned()),
            ("--appendonly", "yes".to_owned()),
            ("--appendfsync", "always".to_owned()),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

fn queue_with(url: &str, access: Access) -> Queue {
    Queue::new(Settings { access, ..Settings::new(url, Ack::Fsync, Duration::from_secs(5)) }).unwrap()
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_authority_vouches_for() {
    let (papers, port) = (Papers::new(), free_port());
    let flags = papers.flags(port, "no");
    let _server = Server::start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let url = format!("rediss://127.0.0.1:{port}");
    let ca = |name: &str| Access { redis_ca_file: Some(papers.file(name)), ..Access::default() };
    let queue = queue_with(&url, ca("ca.pem"));
    add(&queue, 1, b"body").await;
    let mut reader = queue.reader("a");
    assert_eq!(seqs(&reader.read(10, SOON).await.unwrap()), [1]);

    // The system trusts nobody of this kind, nor does another authority; and the name must be right.
    let other = Papers::new();
    let stranger = Access { redis_ca_file: Some(other.file("ca.pem")), ..Access::default() };
    let named = format!("rediss://localhost:{port}");
    for (url, access) in [(&url, Access::default()), (&url, stranger), (&named, ca("ca.pem"))] {
        let error = queue_with(url, access).check().await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, QueueError::Unavailable(_)) && said.contains("certificate"), "{said}");
    }
    let Err(QueueError::Usage(why)) =
        Queue::new(Settings { access: ca("127.0.0.1.key"), ..Settings::new(&url, Ack::Fsync, DEADLINE) })
    else {
        panic!("a key is no certificate")
    };
    assert!(why.contains("--redis-ca-file"), "{why}");
}

#[tokio::test]
async fn a_redis_that_asks_for_a_certificate_gets_it() {
    let (papers, port) = (Papers::new(), free_port());
    let flags = papers.flags(port, "yes");
    let _server = Server::start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let url = format!("rediss://127.0.0.1:{port}");
    let bare = Access { redis_ca_file: Some(papers.file("ca.pem")), ..Access::default() };
    assert!(queue_with(&url, bare.clone()).check().await.is_err());
    let shown = Access {
        redis_cert_file: Some(papers.file("client.pem")),
        redis_key_file: Some(papers.file("client.key")),
        ..bare
    };
    add(&queue_with(&url, shown), 1, b"body").await;
}

/// The commands of one of the manual's users.
fn rights(user: &str) -> String {
    let line = MANUAL.lines().find(|line| line.starts_with(&format!("ACL SETUSER {user} "))).unwrap();
    line.replace("PASSWORD", "pw")
}

impl Used {
    /// A server on which this user is the only one who does anything.
    async fn by(user: &str) -> Self {
        let server = Server::start().await;
        server.say::<()>(&rights(user)).await;
        let url = format!("{}?user={user}&pass=pw", server.url());
        Self { queue: support::queue_at(&url, Ack::Memory), url, server, user: user.to_owned() }
    }

    /// Each right was needed, and nothing more.
    async fn is_all(&self) {
        let denied: Vec<redis::Value> = self.server.say("ACL LOG").await;
        assert!(denied.is_empty(), "{denied:?}");
        let stats: String = self.server.say("INFO commandstats").await;
        let rights = rights(&self.user);
        for right in rights.split(' ').filter_map(|word| word.strip_prefix('+')) {
            // That is for replicas.
            if right != "wait" {
                assert!(stats.contains(&format!("cmdstat_{right}:")), "{} doesn't need {right}", self.user);
            }
        }
    }
}

struct Used {
    server: Server,
    user: String,
    url: String,
    queue: Queue,
}

#[tokio::test]
async fn a_collector_may_do_what_it_must_and_no_more() {
    let used = Used::by("logweir-collector").await;
    let queue = support::queue_at(&used.url, Ack::Fsync);
    queue.check().await.unwrap();
    queue.check_writing().await.unwrap();
    let key = |key| IdempotencyKey {
        key,
        window: Duration::from_millis(1),
        max_keys: 1,
        max_bytes: 1000,
        answer: "yes",
    };
    let add = async |seq, key: &IdempotencyKey<'_>| {
        let added = queue.enqueue(&entry(seq, b"body"), ROOMY, Some(key)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        added
    };
    // The only one, then one of two, then by the next that comes.
    add(1, &key("a")).await;
    assert_eq!(queue.forget_old_keys().await.unwrap(), 1);
    let long = IdempotencyKey { window: SOON, ..key("long") };
    add(4, &long).await;
    assert!(matches!(add(4, &long).await, Enqueued::Repeated { .. }));
    add(7, &IdempotencyKey { max_keys: 9, ..key("b") }).await;
    assert_eq!(queue.forget_old_keys().await.unwrap(), 1);
    add(10, &IdempotencyKey { max_keys: 9, ..key("c") }).await;
    add(13, &IdempotencyKey { max_keys: 2, ..key("d") }).await;
    assert_eq!(queue.depth().await.unwrap().entries, 5);
    used.is_all().await;
    // It can't read what others may.
    assert!(queue.reader("a").read(1, NOW).await.is_err());
}

#[tokio::test]
async fn a_worker_may_do_what_it_must_and_no_more() {
    let used = Used::by("logweir-worker").await;
    for seq in [1, 4, 7] {
        add(&used.server.queue(), seq, b"body").await;
    }
    used.server.say::<()>("CONFIG RESETSTAT").await;
    let queue = &used.queue;
    queue.check().await.unwrap();
    let mut reader = queue.reader("a");
    let items = reader.read(10, SOON).await.unwrap();
    let ids: Vec<EntryId> = items.iter().map(|item| item.id().clone()).collect();
    assert_eq!(reader.renew(&ids).await.unwrap(), 3);
    let mut heir = queue.reader("b");
    assert_eq!(heir.reclaim(NOW, 10).await.unwrap().len(), 3);
    assert_eq!(queue.attempts(&ids[0]).await.unwrap(), None);
    queue.note_attempt(&ids[0], "a", "broken").await.unwrap();
    queue.note_attempt(&ids[0], "a", "broken").await.unwrap();
    queue.forgive_attempt(&ids[0]).await.unwrap();
    let buried = queue.dead_letter(&ids[0], "a", "broken", DeadLimits::NONE).await.unwrap();
    assert!(matches!(buried, Burial::Dead(_)));
    let done: Vec<Done> = items[1..].iter().map(Item::done).collect();
    assert_eq!(queue.acknowledge(&done).await.unwrap(), 2);
    assert_eq!(queue.depth().await.unwrap().dead, 1);
    assert_eq!(queue.recount().await.unwrap(), []);
    assert_eq!(heir.remove_dead_consumers(SOON).await.unwrap(), 0);
    reader.leave().await.unwrap();
    heir.leave().await.unwrap();
    used.is_all().await;
}

#[tokio::test]
async fn an_operator_may_do_what_he_must_and_no_more() {
    let used = Used::by("logweir-operator").await;
    let all = used.server.queue();
    let mut letters = Vec::new();
    for seq in [1, 4, 7] {
        let id = add(&all, seq, b"body").await;
        letters.push(support::bury(&all, &id, "w", "broken").await.unwrap());
    }
    let waiting = add(&all, 10, b"body").await;
    all.reader("a").read(1, NOW).await.unwrap();
    used.server.say::<()>("CONFIG RESETSTAT").await;
    let queue = &used.queue;
    assert_eq!(queue.look_at_dead(None, None).await.unwrap().found.len(), 3);
    assert_eq!(queue.look_at_queue(None, None).await.unwrap().found.len(), 1);
    assert!(queue.holder(&waiting).await.unwrap().is_some());
    assert_eq!(queue.attempts(&waiting).await.unwrap(), None);
    let letter = queue.dead_letter_by_id(&letters[0]).await.unwrap().unwrap();
    assert!(queue.remove_dead_letter(&letters[0]).await.unwrap());
    let restored = queue.restore_dead_letter(&letter, Some(&letters[2])).await.unwrap();
    assert!(matches!(restored, Restored::Added(_)));
    assert!(matches!(queue.replay(&letters[1]).await.unwrap(), Replay::Queued(_)));
    assert_eq!(queue.depth().await.unwrap().dead, 2);
    used.is_all().await;
}

#[tokio::test]
async fn a_password_is_exchanged_while_all_runs() {
    let server = Server::start().await;
    server.say::<()>(&rights("logweir-collector")).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "pw\n").unwrap();
    let access = Access { redis_password_file: Some(file.clone()), ..Access::default() };
    let queue = queue_with(&format!("{}?user=logweir-collector", server.url()), access);
    add(&queue, 1, b"body").await;

    server.say::<()>("ACL SETUSER logweir-collector >new").await;
    server.say::<()>("ACL SETUSER logweir-collector <pw").await;
    server.say::<()>("CLIENT KILL TYPE normal SKIPME yes").await;
    let error = eventually(async || match queue.check().await {
        Err(error) if error.to_string().contains("assword") || error.to_string().contains("WRONGPASS") => {
            Ok(error)
        }
        other => Err(other),
    })
    .await;
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    std::fs::write(&file, "new\n").unwrap();
    eventually(async || queue.enqueue(&entry(4, b"body"), ROOMY, None).await).await;
    assert_eq!(queue.depth().await.unwrap().entries, 2);
    // Gone for a moment, such as while it is replaced: that passes.
    std::fs::remove_file(&file).unwrap();
    server.say::<()>("CLIENT KILL TYPE normal SKIPME yes").await;
    let error = eventually(async || match queue.depth().await {
        Err(error) if error.to_string().contains("--redis-password-file") => Ok(error),
        other => Err(other),
    })
    .await;
    assert!(matches!(error, QueueError::Unavailable(_)), "{error:?}");
    std::fs::write(&file, "new").unwrap();
    eventually(async || queue.depth().await).await;
}

/// One sentinel.
struct Sentinel {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = dir.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            dir.path().display()
        );
        std::fs::write(&file, settings).unwrap();
        Self { child: spawn(&file), port, _dir: dir }
    }
}

fn spawn(settings: &Path) -> Child {
    Command::new("redis-server")
        .arg(settings)
        .arg("--sentinel")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server must be in PATH")
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn the_replica_that_sentinel_promotes_is_followed() {
    const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut master = Server::start_on_tcp(&DURABLE).await;
    let replica = Server::start_on_tcp(&DURABLE).await;
    replica.say::<()>(&format!("REPLICAOF 127.0.0.1 {}", master.port())).await;
    eventually(async || {
        let info: String = replica.say("INFO replication").await;
        if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    })
    .await;
    let sentinel = Sentinel::start(master.port());
    // The first of them isn't there.
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/main", free_port(), sentinel.port);
    let settings = Settings::new(&url, Ack::Replicated { replicas: 1 }, Duration::from_secs(5));
    let queue = Queue::new(settings).unwrap();
    eventually(async || queue.enqueue(&entry(1, b"before"), ROOMY, None).await).await;
    let mut reader = Queue::new(Settings::new(&url, Ack::Memory, DEADLINE)).unwrap().reader("a");
    assert_eq!(seqs(&reader.read(1, SOON).await.unwrap()), [1]);

    // Sentinel knows of the replica only once the master has told it.
    eventually(async || {
        let info: String = master.say("INFO replication").await;
        let known = redis::Client::open(format!("redis://127.0.0.1:{}", sentinel.port)).unwrap();
        let mut connection = known.get_multiplexed_async_connection().await.map_err(|e| e.to_string())?;
        let replicas: redis::RedisResult<Vec<redis::Value>> =
            redis::cmd("SENTINEL").arg("REPLICAS").arg("main").query_async(&mut connection).await;
        if replicas.is_ok_and(|replicas| !replicas.is_empty()) { Ok(()) } else { Err(info) }
    })
    .await;
    master.kill();
    let begun = Instant::now();
    let promoted = Queue::new(Settings::new(&url, Ack::Fsync, DEADLINE)).unwrap();
    eventually(async || promoted.enqueue(&entry(4, b"after"), ROOMY, None).await).await;
    let items = eventually(async || match reader.read(10, Duration::from_millis(100)).await {
        Ok(items) if items.is_empty() => Err("nothing".to_owned()),
        Ok(items) => Ok(items),
        Err(error) => Err(error.to_string()),
    })
    .await;
    assert_eq!(seqs(&items), [4]);
    assert_eq!(promoted.depth().await.unwrap().entries, 2, "what was acknowledged is there");
    eprintln!("followed after {:?}", begun.elapsed());
}
