//! Random operations on a real Redis, beside a plain twin in memory: the queue never disagrees with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use logweir_queue::{
    DeadLetter, Done, Enqueued, EntryId, IdempotencyKey, Item, Queue, QueueLimits, Reader, Replay,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::{Server, bury, entry};

const NOW: Duration = Duration::ZERO;
const READERS: usize = 3;
const LIMITS: QueueLimits = QueueLimits { entries: 25, bytes: 2_000 };
const MAX_KEYS: u64 = 6;

/// What may happen; numbers pick one of what there is, modulo how many there are.
#[derive(Debug, Clone)]
enum Op {
    Enqueue { body: Vec<u8>, key: Option<u8> },
    Read { reader: usize, count: usize },
    Acknowledge { picks: Vec<usize> },
    Reclaim { reader: usize, count: usize },
    Renew { reader: usize, picks: Vec<usize> },
    Dead { pick: usize },
    Replay { pick: usize },
    Remove { pick: usize },
    Note { pick: usize },
    Forgive { pick: usize },
    RemoveDead,
    Leave { reader: usize },
    ForgetScripts,
    LoseGroup,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = || 0..1000_usize;
    let picks = || prop::collection::vec(0..1000_usize, 0..6);
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let op = prop_oneof![
        8 => (body, prop::option::weighted(0.3, 0..10_u8)).prop_map(|(body, key)| Op::Enqueue { body, key }),
        5 => (0..READERS, 0..12_usize).prop_map(|(reader, count)| Op::Read { reader, count }),
        4 => picks().prop_map(|picks| Op::Acknowledge { picks }),
        3 => (0..READERS, 0..5_usize).prop_map(|(reader, count)| Op::Reclaim { reader, count }),
        2 => (0..READERS, picks()).prop_map(|(reader, picks)| Op::Renew { reader, picks }),
        3 => pick().prop_map(|pick| Op::Dead { pick }),
        2 => pick().prop_map(|pick| Op::Replay { pick }),
        1 => pick().prop_map(|pick| Op::Remove { pick }),
        3 => pick().prop_map(|pick| Op::Note { pick }),
        1 => pick().prop_map(|pick| Op::Forgive { pick }),
        1 => Just(Op::RemoveDead),
        1 => (0..READERS).prop_map(|reader| Op::Leave { reader }),
        1 => Just(Op::ForgetScripts),
        1 => Just(Op::LoseGroup),
    ];
    prop::collection::vec(op, 1..80)
}

/// Redis orders IDs as pairs of numbers, not as texts.
fn order(id: &EntryId) -> (u64, u64) {
    let (time, seq) = id.0.split_once('-').unwrap();
    (time.parse().unwrap(), seq.parse().unwrap())
}

fn len(body: &[u8]) -> u64 {
    u64::try_from(body.len()).unwrap()
}

#[derive(Debug, Default)]
struct Twin {
    /// What stands in the stream: seq and body by ID, in its order.
    queue: BTreeMap<(u64, u64), (EntryId, u64, Vec<u8>)>,
    /// What was handed out: by whom it is held, and how often it was.
    pending: BTreeMap<(u64, u64), (usize, u64)>,
    read: (u64, u64),
    attempts: BTreeMap<(u64, u64), u32>,
    dead: Vec<(EntryId, u64, Vec<u8>, u32)>,
    keys: BTreeMap<u8, String>,
    /// IDs that were once there.
    gone: Vec<EntryId>,
    next_seq: u64,
}

impl Twin {
    fn bytes(&self) -> u64 {
        self.queue.values().map(|(_, _, body)| len(body)).sum()
    }

    /// Some entry, or one that is gone, so that what comes too late is tried as well.
    fn pick(&self, pick: usize) -> Option<EntryId> {
        let ids: Vec<&EntryId> = self.queue.values().map(|(id, ..)| id).chain(&self.gone).collect();
        (!ids.is_empty()).then(|| ids[pick % ids.len()].clone())
    }

    fn remove(&mut self, id: &EntryId) -> Option<(u64, Vec<u8>)> {
        let at = order(id);
        self.pending.remove(&at);
        let (id, seq, body) = self.queue.remove(&at)?;
        self.gone.push(id);
        Some((seq, body))
    }
}

struct Run<'a> {
    server: &'a Server,
    queue: Queue,
    readers: Vec<Reader>,
    twin: Twin,
}

impl Run<'_> {
    async fn step(&mut self, op: &Op) {
        match op {
            Op::Enqueue { body, key } => self.enqueue(body, *key).await,
            Op::Read { reader, count } => {
                let items = self.readers[*reader].read(*count, NOW).await.unwrap();
                let read = self.twin.read;
                let unread: Vec<EntryId> =
                    self.twin.queue.range(read..).map(|(_, (id, ..))| id.clone()).collect();
                let unread = unread.iter().filter(|id| order(id) > read).take(*count);
                assert_eq!(items.iter().map(Item::id).collect::<Vec<_>>(), unread.collect::<Vec<_>>());
                for item in &items {
                    self.same(item);
                    self.twin.read = order(item.id());
                    self.twin.pending.insert(order(item.id()), (*reader, 1));
                }
            }
            Op::Acknowledge { picks } => self.acknowledge(picks).await,
            Op::Reclaim { reader, count } => {
                let claimed = self.readers[*reader].reclaim(NOW, *count).await.unwrap();
                assert!(claimed.len() <= *count);
                for (item, deliveries) in claimed {
                    self.same(&item);
                    let held =
                        self.twin.pending.get_mut(&order(item.id())).expect("only what is held is reclaimed");
                    *held = (*reader, held.1 + 1);
                    assert_eq!(deliveries, held.1);
                }
            }
            Op::Renew { reader, picks } => {
                let ids: BTreeSet<EntryId> = picks.iter().filter_map(|pick| self.twin.pick(*pick)).collect();
                let ids: Vec<EntryId> = ids.into_iter().collect();
                let held =
                    ids.iter().filter(|id| self.twin.pending.get(&order(id)).is_some_and(|h| h.0 == *reader));
                assert_eq!(self.readers[*reader].renew(&ids).await.unwrap(), held.count() as u64);
            }
            Op::Dead { pick } => self.dead(*pick).await,
            Op::Replay { pick } => self.replay(*pick).await,
            Op::Remove { pick } => self.remove(*pick).await,
            Op::Note { pick } => {
                let Some(id) = self.twin.pick(*pick) else { return };
                let noted = self.queue.note_attempt(&id, "w", "failed").await.unwrap();
                let known = self.twin.attempts.get(&order(&id)).copied().unwrap_or(0);
                assert_eq!(noted.count, known + 1);
                if self.twin.queue.contains_key(&order(&id)) {
                    self.twin.attempts.insert(order(&id), noted.count);
                }
            }
            Op::Forgive { pick } => {
                let Some(id) = self.twin.pick(*pick) else { return };
                self.queue.forgive_attempt(&id).await.unwrap();
                let left = self.twin.attempts.remove(&order(&id)).unwrap_or(0).saturating_sub(1);
                if left > 0 {
                    self.twin.attempts.insert(order(&id), left);
                }
                assert_eq!(self.queue.attempts(&id).await.unwrap().map_or(0, |noted| noted.count), left);
            }
            Op::RemoveDead => {
                self.readers[0].remove_dead_consumers(NOW).await.unwrap();
            }
            Op::Leave { reader } => self.readers[*reader].leave().await.unwrap(),
            Op::ForgetScripts => self.server.say("SCRIPT FLUSH").await,
            Op::LoseGroup => {
                // All that is there has been read by nobody then. Only attempts are remembered.
                let _: u64 = if self.server.say::<u64>("EXISTS logweir:{0}:queue").await == 1 {
                    self.server.say("XGROUP DESTROY logweir:{0}:queue workers").await
                } else {
                    0
                };
                self.twin.pending.clear();
                self.twin.read = (0, 0);
            }
        }
    }

    async fn enqueue(&mut self, body: &[u8], key: Option<u8>) {
        let twin = &mut self.twin;
        twin.next_seq += 3;
        let (seq, name) = (twin.next_seq, key.map(|key| key.to_string()));
        let answer = format!("answer {seq}");
        let idempotency = name.as_ref().map(|name| IdempotencyKey {
            key: name,
            window: Duration::from_secs(3600),
            max_keys: MAX_KEYS,
            max_bytes: 1 << 30,
            answer: &answer,
        });
        let outcome = self.queue.enqueue(&entry(seq, body), LIMITS, idempotency.as_ref()).await.unwrap();
        let (entries, bytes) = (twin.queue.len() as u64, twin.bytes());
        let known = key.and_then(|key| twin.keys.get(&key));
        if let Some(answer) = known {
            assert_eq!(outcome, Enqueued::Repeated { answer: answer.clone() });
        } else if entries >= LIMITS.entries || bytes >= LIMITS.bytes {
            assert_eq!(outcome, Enqueued::Full { entries, bytes });
        } else if key.is_some() && twin.keys.len() as u64 >= MAX_KEYS {
            assert_eq!(outcome, Enqueued::KeysFull);
        } else {
            let Enqueued::Added { id, entries: now, bytes: sum } = outcome else { panic!("{outcome:?}") };
            assert_eq!((now, sum), (entries + 1, bytes + len(body)));
            twin.keys.extend(key.map(|key| (key, answer)));
            twin.queue.insert(order(&id), (id, seq, body.to_vec()));
        }
    }

    async fn acknowledge(&mut self, picks: &[usize]) {
        let ids: Vec<EntryId> = picks.iter().filter_map(|pick| self.twin.pick(*pick)).collect();
        let body = |id: &EntryId| self.twin.queue.get(&order(id)).map_or(17, |(_, _, body)| len(body));
        let done: Vec<Done> = ids.iter().map(|id| Done { id: id.clone(), body_bytes: body(id) }).collect();
        let removed = self.queue.acknowledge(&done).await.unwrap();
        // An ID that is named twice is there once.
        let there = ids.iter().filter(|id| self.twin.remove(id).is_some()).count();
        assert_eq!(removed, there as u64);
        for id in ids {
            self.twin.attempts.remove(&order(&id));
        }
    }

    async fn dead(&mut self, pick: usize) {
        let Some(id) = self.twin.pick(pick) else { return };
        let dead_id = bury(&self.queue, &id, "w", "no hope").await;
        let attempts = self.twin.attempts.remove(&order(&id)).unwrap_or(0);
        match (dead_id, self.twin.remove(&id)) {
            (Some(dead_id), Some((seq, body))) => self.twin.dead.push((dead_id, seq, body, attempts)),
            (None, None) => {}
            other => panic!("{other:?}"),
        }
    }

    async fn replay(&mut self, pick: usize) {
        if self.twin.dead.is_empty() {
            return;
        }
        let (dead_id, seq, body, _) = self.twin.dead.remove(pick % self.twin.dead.len());
        let Replay::Queued(id) = self.queue.replay(&dead_id).await.unwrap() else { panic!("it is there") };
        assert_eq!(self.queue.replay(&dead_id).await.unwrap(), Replay::Unknown);
        self.twin.queue.insert(order(&id), (id, seq, body));
    }

    async fn remove(&mut self, pick: usize) {
        if self.twin.dead.is_empty() {
            return;
        }
        let (dead_id, ..) = self.twin.dead.remove(pick % self.twin.dead.len());
        assert!(self.queue.remove_dead_letter(&dead_id).await.unwrap());
        assert!(!self.queue.remove_dead_letter(&dead_id).await.unwrap());
    }

    fn same(&self, item: &Item) {
        let Item::Batch(entry) = item else { panic!("{item:?}") };
        let (_, seq, body) = &self.twin.queue[&order(&entry.id)];
        assert_eq!((entry.batch.seq.get(), entry.body.as_ref()), (*seq, body.as_slice()));
    }

    /// Everything that can be seen from outside agrees.
    async fn compare(&self) {
        let twin = &self.twin;
        let depth = self.queue.depth().await.unwrap();
        let expected =
            (twin.queue.len() as u64, twin.bytes(), twin.pending.len() as u64, twin.dead.len() as u64);
        assert_eq!((depth.entries, depth.bytes, depth.pending, depth.dead), expected);
        assert_eq!(depth.oldest_age_ms.is_some(), !twin.queue.is_empty());
        assert_eq!(self.server.bytes_by_hand().await, depth.bytes);
        assert_eq!(self.server.dead_bytes_by_hand().await, depth.dead_bytes);
        assert_eq!(self.server.say::<u64>("HLEN logweir:{0}:attempts").await, twin.attempts.len() as u64);
        let letters: Vec<DeadLetter> = self.queue.dead_letters(None, 1000).await.unwrap();
        let letters: Vec<_> = letters
            .iter()
            .map(|l| (&l.id, l.field("seq").unwrap(), l.field("body").unwrap(), l.attempts))
            .collect();
        let seqs: Vec<Bytes> = twin.dead.iter().map(|dead| Bytes::from(dead.1.to_string())).collect();
        let expected: Vec<_> =
            twin.dead.iter().zip(&seqs).map(|(d, seq)| (&d.0, seq.as_ref(), &d.2[..], d.3)).collect();
        // A replay takes from the middle, a death adds to the end: the order stays that of dying.
        assert_eq!(letters, expected);
    }
}

#[test]
fn the_queue_agrees_with_its_twin() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let server = runtime.block_on(Server::start());
    TestRunner::new(config)
        .run(&ops(), |ops| {
            runtime.block_on(async {
                server.say::<()>("FLUSHALL").await;
                let queue = server.queue();
                let readers = (0..READERS).map(|n| queue.reader(&format!("r{n}"))).collect();
                let twin = Twin { next_seq: 1, ..Twin::default() };
                let mut run = Run { server: &server, queue, readers, twin };
                for op in &ops {
                    run.step(op).await;
                    run.compare().await;
                }
            });
            Ok(())
        })
        .unwrap();
}
