//! Redis with cluster mode on: what a script touches is declared, and shards on other nodes are said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use logweir_proto::{BatchId, ProducerId, Seq};
use logweir_queue::{
    Ack, Burial, DeadLimits, Done, Enqueued, EntryId, IdempotencyKey, Item, NewEntry, Queue, QueueError,
    QueueLimits, Replay, Restored, Settings, Shard, Shards,
};
use std::collections::BTreeSet;
use std::time::Duration;
use support::{DEADLINE, ROOMY, SOON, Server, entry, eventually, free_port};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use uuid::Uuid;

const NOW: Duration = Duration::ZERO;
const SLOTS: u16 = 16_384;

/// One node, with no slots yet.
async fn node() -> Server {
    let bus = free_port().to_string();
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
    Server::start_on_tcp(&[&durable[..], &cluster[..]].concat()).await
}

async fn serves(node: &Server) {
    eventually(async || {
        let info: String = node.say("CLUSTER INFO").await;
        if info.contains("cluster_state:ok") { Ok(()) } else { Err(info) }
    })
    .await;
}

fn queue(server: &Server, shards: u16) -> Queue {
    let settings = Settings::new(&server.url(), Ack::Fsync, DEADLINE);
    Queue::new(Settings { shards: Shards::new(shards).unwrap(), ..settings }).unwrap()
}

/// A producer of this shard.
fn producer(shards: u16, shard: u16) -> ProducerId {
    let all = Shards::new(shards).unwrap();
    (1..)
        .map(|n| ProducerId::new(Uuid::from_u128(n)))
        .find(|producer| all.of(*producer, "web-1", None).number() == shard)
        .unwrap()
}

fn of(producer: ProducerId) -> NewEntry<'static> {
    NewEntry { batch: BatchId { producer, seq: Seq::FIRST }, ..entry(1, b"body") }
}

async fn put(queue: &Queue, producer: ProducerId) -> EntryId {
    match queue.enqueue(&of(producer), ROOMY, None).await.unwrap() {
        Enqueued::Added { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

/// Everything that can be done with a queue, in the shard of this producer.
async fn use_all(queue: &Queue, producer: ProducerId) {
    queue.check().await.unwrap();
    queue.check_writing().await.unwrap();
    let key = IdempotencyKey {
        key: "k",
        window: Duration::from_millis(1),
        max_keys: 9,
        max_bytes: 1000,
        answer: "yes",
    };
    let keyed = queue.enqueue(&of(producer), ROOMY, Some(&key)).await.unwrap();
    let Enqueued::Added { id: keyed, .. } = keyed else { panic!("{keyed:?}") };
    // Its window is over at once; what counts here is that it is asked for.
    queue.answer_of(keyed.shard(), "web-1", "k").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(queue.forget_old_keys().await.unwrap(), 1);
    let [mut a, mut b] = ["a", "b"].map(|name| queue.reader(name));
    let ids = [put(queue, producer).await, put(queue, producer).await, put(queue, producer).await];
    let full = QueueLimits { entries: 1, bytes: 1 };
    assert!(matches!(queue.enqueue(&of(producer), full, None).await.unwrap(), Enqueued::Full { .. }));
    let mut items = Vec::new();
    while items.len() < 4 {
        items.extend(a.read(10, SOON).await.unwrap());
    }
    assert_eq!(a.renew(&ids).await.unwrap(), 3);
    let mut claimed = 0;
    while claimed < 4 {
        claimed += b.reclaim(NOW, 10).await.unwrap().len();
    }
    queue.note_attempt(&ids[0], "a", "broken").await.unwrap();
    queue.note_attempt(&ids[0], "a", "broken").await.unwrap();
    queue.forgive_attempt(&ids[0]).await.unwrap();
    assert_eq!(queue.attempts(&ids[0]).await.unwrap().unwrap().count, 1);
    assert_eq!(queue.holder(&ids[0]).await.unwrap().unwrap().consumer, "b");
    let mut letters = Vec::new();
    for id in &ids {
        match queue.dead_letter(id, "a", "broken", DeadLimits::NONE).await.unwrap() {
            Burial::Dead(letter) => letters.push(letter),
            other => panic!("{other:?}"),
        }
    }
    let none = DeadLimits { letters: 0, bytes: 0 };
    assert!(matches!(queue.dead_letter(&keyed, "a", "x", none).await.unwrap(), Burial::Full { .. }));
    let letter = queue.dead_letter_by_id(&letters[0]).await.unwrap().unwrap();
    assert!(queue.remove_dead_letter(&letters[0]).await.unwrap());
    let restored = queue.restore_dead_letter(&letter, Some(&letters[2])).await.unwrap();
    let Restored::Added(restored) = restored else { panic!("{restored:?}") };
    assert!(matches!(queue.replay(&letters[1]).await.unwrap(), Replay::Queued(_)));
    assert_eq!(queue.look_at_dead(None, None).await.unwrap().found.len(), 2);
    assert_eq!(queue.depth().await.unwrap().entries, 2);
    assert!(queue.remove_dead_letter(&letters[2]).await.unwrap());
    assert!(queue.remove_dead_letter(&restored).await.unwrap());
    let mut rest = b.read(10, SOON).await.unwrap();
    rest.extend(items.into_iter().filter(|item| *item.id() == keyed));
    let done: Vec<Done> = rest.iter().map(Item::done).collect();
    assert_eq!(queue.acknowledge(&done).await.unwrap(), 2);
    assert_eq!(queue.recount().await.unwrap(), []);
    assert_eq!(queue.look_at_queue(None, None).await.unwrap().found, []);
    assert_eq!(a.remove_dead_consumers(SOON).await.unwrap(), 0);
    a.leave().await.unwrap();
    b.leave().await.unwrap();
}

/// What Redis was told, and what the scripts told it.
struct Monitor {
    lines: tokio::io::Lines<BufReader<TcpStream>>,
}

impl Monitor {
    async fn of(server: &Server) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        stream.write_all(b"MONITOR\r\n").await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "+OK");
        Self { lines }
    }

    /// The scripts that were called until the end mark, by their hashes. Each key that one touched was declared.
    async fn scripts_until(mut self, end: &str) -> BTreeSet<String> {
        let mut called = BTreeSet::new();
        let mut declared: Vec<String> = Vec::new();
        loop {
            let line = self.lines.next_line().await.unwrap().unwrap();
            let (about, said) = line.split_once("] ").unwrap();
            let words: Vec<&str> = said.split('"').skip(1).step_by(2).collect();
            if words[0] == "ECHO" && words[1] == end {
                return called;
            }
            if about.ends_with(" lua") {
                for word in words.iter().filter(|word| word.starts_with("logweir:")) {
                    assert!(declared.iter().any(|key| key == word), "{word} in {said}, of {declared:?}");
                }
            } else if words[0] == "EVALSHA" {
                called.insert(words[1].to_owned());
                let count: usize = words[2].parse().unwrap();
                declared = words[3..3 + count].iter().map(|word| (*word).to_owned()).collect();
            } else {
                assert_ne!(words[0], "EVAL", "all scripts were there");
                declared.clear();
            }
        }
    }
}

#[tokio::test]
async fn each_script_works_in_a_cluster_and_declares_its_keys() {
    let server = node().await;
    server.say::<()>(&format!("CLUSTER ADDSLOTSRANGE 0 {}", SLOTS - 1)).await;
    serves(&server).await;
    let mut scripts = BTreeSet::new();
    let mut raw = server.raw().await;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts")).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = include_str!("../src/scripts/lib/counter.lua").to_owned()
            + &std::fs::read_to_string(path).unwrap();
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(text).query_async::<String>(&mut raw).await.unwrap();
        scripts.insert(load);
    }
    let monitor = Monitor::of(&server).await;
    // Shards whose slots have nothing to do with each other.
    use_all(&queue(&server, 1), producer(1, 0)).await;
    use_all(&queue(&server, 64), producer(64, 40)).await;
    server.say::<String>("ECHO end").await;
    assert_eq!(monitor.scripts_until("end").await, scripts, "each was called");
}

/// Two nodes that know of each other, the first with the slots of the shards that `here` names.
async fn two_nodes(here: impl Fn(u16) -> bool) -> (Server, Server, Vec<u16>) {
    let (one, two) = (node().await, node().await);
    let mut of_shards = Vec::new();
    for shard in 0..4 {
        let queue = Shard::new(shard).unwrap().queue();
        of_shards.push(one.say::<u16>(&format!("CLUSTER KEYSLOT {queue}")).await);
    }
    let ours = |slot: &u16| of_shards.iter().zip(0..).any(|(of, shard)| of == slot && here(shard));
    for (node, mine) in [(&one, true), (&two, false)] {
        let mut add = redis::cmd("CLUSTER");
        add.arg("ADDSLOTS").arg((0..SLOTS).filter(|slot| ours(slot) == mine).collect::<Vec<_>>());
        add.exec_async(&mut node.raw().await).await.unwrap();
    }
    let bus: String = {
        let nodes: String = two.say("CLUSTER NODES").await;
        nodes.split('@').nth(1).unwrap().split([' ', ',']).next().unwrap().to_owned()
    };
    one.say::<()>("CLUSTER SET-CONFIG-EPOCH 1").await;
    two.say::<()>("CLUSTER SET-CONFIG-EPOCH 2").await;
    one.say::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", two.port())).await;
    serves(&one).await;
    serves(&two).await;
    (one, two, of_shards)
}

/// Moves an empty slot.
async fn hand_over(slot: u16, to: &Server, nodes: [&Server; 2]) {
    let id: String = to.say("CLUSTER MYID").await;
    for node in nodes {
        node.say::<()>(&format!("CLUSTER SETSLOT {slot} NODE {id}")).await;
    }
}

#[tokio::test]
async fn a_shard_on_another_node_is_named_with_what_to_do_and_nothing_is_taken() {
    let (one, two, slots) = two_nodes(|shard| shard != 2).await;
    let queue = queue(&one, 4);
    let Err(QueueError::Unfit(why)) = queue.check().await else { panic!("one shard is elsewhere") };
    for part in ["shard {2}", "Moved", &format!("127.0.0.1:{}", two.port()), "--cluster reshard"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let refused = queue.enqueue(&of(producer(4, 0)), ROOMY, None).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unfit(_)), "{refused:?}");
    assert!(matches!(queue.reader("a").read(10, NOW).await, Err(QueueError::Unfit(_))));
    assert_eq!(one.say::<u64>("DBSIZE").await, 0);

    // Done as it says, it goes on by itself.
    hand_over(slots[2], &one, [&one, &two]).await;
    eventually(async || queue.enqueue(&of(producer(4, 2)), ROOMY, None).await).await;
    let mut reader = queue.reader("a");
    let items = reader.read(10, SOON).await.unwrap();
    assert_eq!(queue.acknowledge(&[items[0].done()]).await.unwrap(), 1);

    // And away again while it runs: the next check says so, and the other shards are read meanwhile.
    two.say::<()>("CLUSTER BUMPEPOCH").await;
    one.say::<()>("DEL logweir:{2}:queue").await;
    for key in one.say::<Vec<String>>("KEYS logweir:{2}:*").await {
        one.say::<()>(&format!("DEL {key}")).await;
    }
    hand_over(slots[2], &two, [&two, &one]).await;
    put(&queue, producer(4, 1)).await;
    assert_eq!(reader.read(10, SOON).await.unwrap().len(), 1);
    let error = queue.depth().await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)) && error.to_string().contains("Moved"), "{error:?}");
    assert!(matches!(queue.check().await, Err(QueueError::Unfit(_))));
}

/// One shard only, which is here: what the cluster's other nodes have is not logweir's.
#[tokio::test]
async fn a_node_that_has_all_shards_will_do() {
    let (one, _two, _) = two_nodes(|shard| shard == 0).await;
    let queue = queue(&one, 1);
    put(&queue, producer(1, 0)).await;
    let mut reader = queue.reader("a");
    let items = reader.read(10, SOON).await.unwrap();
    assert_eq!(queue.acknowledge(&[items[0].done()]).await.unwrap(), 1);
    assert_eq!(queue.depth().await.unwrap().entries, 0);
}
