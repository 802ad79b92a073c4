//! Random interleavings of all that may happen to batches, against a reference that counts one by one.
//!
//! ```text
//! a seed ─► steps ─┬─► a world: stream, pending list, leases, dead letters, ledger, counts  ─┐
//!                  │     memory   in this process, with the worker's decode, settle, ranges  ├─ must agree
//!                  │     servers  logweir-queue on Redis, Store::apply on Postgres           │
//!                  └─► the reference: a set of (producer, number), and counts of each event ─┘
//! ```
//!
//! A schedule posts batches (new, repeated, halved, overlapping, each judged anew), lets three workers read, take over,
//! commit, acknowledge, give up and die between any two of these, lets them go on after they were taken for dead, breaks
//! connections, loses the group, and replays and drops dead letters. Then all is drained, and compared. A failure
//! prints its seed and its steps. `LOGWEIR_MODEL_SEED` repeats it, `LOGWEIR_MODEL_RUNS` runs more.

mod memory;
mod reference;
mod servers;

use super::{Key, Sum, Verdict};
use crate::batch::Batch;
use crate::batch::tests::{AT, MINUTE, decoded, entry, line};
use logweir_proto::{BatchId, Level, ProducerId};
use logweir_queue::{Entry, EntryId};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reference::Reference;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

const WORKERS: usize = 3;
/// Events from here on are counted; each seventh is older.
const OLDEST: i64 = AT - 12 * 60 * MINUTE;
/// The most entries that a schedule lets wait.
const CROWD: u64 = 12;

/// When a transaction is cut, that is at some time of these.
const CUT: Duration = Duration::from_millis(10);

/// Where a schedule takes place. A worker is one of [`WORKERS`].
trait World {
    async fn enqueue(&mut self, entry: &Entry);
    async fn read(&mut self, worker: usize, count: usize) -> Vec<Entry>;
    /// What has been held for longer than the lease.
    async fn reclaim(&mut self, worker: usize, count: usize) -> Vec<Entry>;
    async fn renew(&mut self, worker: usize, ids: &[EntryId]);
    async fn wait(&mut self, time: Duration);
    /// Counts a group in one transaction. After an error it is unknown whether it did; with `cut`, the connection
    /// breaks after so long.
    async fn commit(&mut self, worker: usize, group: &[&Batch], cut: Option<Duration>) -> Verdicts;
    /// Two of them at once.
    async fn commit_both(&mut self, workers: [usize; 2], groups: [&[&Batch]; 2]) -> [Verdicts; 2];
    async fn is_applied(&mut self, producer: ProducerId, number: u64) -> bool;
    async fn acknowledge(&mut self, entries: &[Entry]);
    /// Moves an entry to the dead letters, unless it is gone. Returns the letter's ID.
    async fn bury(&mut self, worker: usize, id: &EntryId) -> Option<EntryId>;
    /// Returns whether there was such a letter.
    async fn replay(&mut self, letter: &EntryId) -> bool;
    async fn delete_letter(&mut self, letter: &EntryId) -> bool;
    async fn lose_group(&mut self);
    /// How many entries, and how many dead letters there are.
    async fn depth(&mut self) -> (u64, u64);
    async fn totals(&mut self) -> Totals;
}

type Verdicts = Result<Vec<Verdict>, String>;

/// What Postgres holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    counts: BTreeMap<Key, Sum>,
    /// As multiranges; those that are empty are left out.
    applied: BTreeMap<ProducerId, String>,
    /// How many events were too old.
    lost: u64,
}

/// What a producer's event with this number is, at every attempt.
#[derive(Debug, Clone)]
struct Source {
    producers: [ProducerId; 2],
    /// The services' names begin with it, so that schedules can share a database.
    prefix: String,
}

impl Source {
    fn event(&self, number: u64) -> (i64, String, Level) {
        let n = i64::try_from(number).unwrap();
        let old = if number.is_multiple_of(7) { 24 * 60 * MINUTE } else { 0 };
        let level = if number.is_multiple_of(2) { Level::Info } else { Level::Error };
        (AT + n % 3 * MINUTE - old, format!("{}{}", self.prefix, number % 4), level)
    }

    fn line(&self, number: u64) -> String {
        let (at_ms, service, level) = self.event(number);
        line(at_ms, &service, level.as_str())
    }

    fn entry(&self, producer: ProducerId, first: u64, events: u64, skip: &[u64]) -> Entry {
        let valid = (0..events).filter(|index| !skip.contains(index));
        let body: String = valid.map(|index| self.line(first + index) + "\n").collect();
        let entry = entry(first, events, skip, &body);
        Entry { batch: BatchId { producer, seq: entry.batch.seq }, ..entry }
    }
}

/// The numbers of the events that are in an entry.
fn numbers(entry: &Entry) -> impl Iterator<Item = (ProducerId, u64)> {
    let valid = (0..entry.events).filter(|index| !entry.skip.contains(index));
    valid.map(|index| (entry.batch.producer, entry.batch.seq.get() + index))
}

/// Decodes what it hasn't seen yet: an entry's name and gaps say all that is in it.
#[derive(Default)]
struct Decoder(HashMap<(BatchId, u64, Vec<u64>), Rc<Batch>>);

impl Decoder {
    fn decode(&mut self, entry: &Entry) -> Rc<Batch> {
        let known = self.0.entry((entry.batch, entry.events, entry.skip.clone()));
        Rc::clone(known.or_insert_with(|| Rc::new(decoded(entry).unwrap())))
    }
}

/// An entry as it was read, and decoded.
type Held = (Entry, Rc<Batch>);
type Part = [Held];

#[derive(Default)]
struct Worker {
    /// What it has read, and is to commit.
    held: Vec<Held>,
    /// What it knows to be committed, and is to acknowledge.
    committed: Vec<Entry>,
    /// Its connection may be broken.
    shaken: bool,
}

/// One schedule.
struct Run<'a, W> {
    world: &'a mut W,
    source: Source,
    decoder: &'a mut Decoder,
    rng: StdRng,
    reference: Reference,
    workers: [Worker; WORKERS],
    /// What was posted: producer, first number, events.
    posted: Vec<(ProducerId, u64, u64)>,
    /// What an agent was told to be taken.
    promised: BTreeSet<(ProducerId, u64)>,
    letters: Vec<(EntryId, Entry)>,
    steps: u64,
    log: Option<Vec<String>>,
}

macro_rules! note {
    ($run:expr, $($what:tt)*) => {
        $run.steps += 1;
        if let Some(log) = &mut $run.log {
            log.push(format!($($what)*));
        }
    };
}

macro_rules! ensure_eq {
    ($left:expr, $right:expr, $what:expr) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err(format!("{}\n  world:     {left:?}\n  reference: {right:?}", $what));
        }
    }};
}

type Outcome = Result<(), String>;

impl<'a, W: World> Run<'a, W> {
    fn new(world: &'a mut W, source: Source, decoder: &'a mut Decoder, seed: u64, log: bool) -> Self {
        Self {
            world,
            source,
            decoder,
            rng: StdRng::seed_from_u64(seed),
            reference: Reference::default(),
            workers: Default::default(),
            posted: Vec::new(),
            promised: BTreeSet::new(),
            letters: Vec::new(),
            steps: 0,
            log: log.then(Vec::new),
        }
    }

    /// The whole of it.
    async fn run(&mut self) -> Outcome {
        for _ in 0..self.rng.random_range(10..80) {
            self.step().await?;
        }
        self.drain().await?;
        self.compare().await?;
        let dead: BTreeSet<_> = self.letters.iter().flat_map(|(_, entry)| numbers(entry)).collect();
        self.settled(|number| dead.contains(number))?;

        for (letter, _) in std::mem::take(&mut self.letters) {
            note!(self, "replay {letter}");
            ensure_eq!(self.world.replay(&letter).await, true, "a dead letter is there");
        }
        self.drain().await?;
        self.compare().await?;
        self.settled(|_| false)
    }

    /// Nothing acknowledged is missing.
    fn settled(&self, excused: impl Fn(&(ProducerId, u64)) -> bool) -> Outcome {
        let applied = &self.reference.applied;
        let missing: Vec<_> =
            self.promised.iter().filter(|number| !applied.contains(number) && !excused(number)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("acknowledged, and gone: {missing:?}")) }
    }

    async fn compare(&mut self) -> Outcome {
        let totals = self.world.totals().await;
        ensure_eq!(totals, self.reference.totals(), "what was counted");
        Ok(())
    }

    async fn step(&mut self) -> Outcome {
        let worker = self.rng.random_range(0..WORKERS);
        match self.rng.random_range(0..100) {
            0..20 => self.post().await,
            20..36 => {
                let count = self.rng.random_range(1..5);
                let entries = self.world.read(worker, count).await;
                note!(self, "worker {worker} reads {}", names(&entries));
                self.take(worker, entries);
            }
            36..46 => {
                let (time, count) = (self.rng.random_range(0..45), self.rng.random_range(1..5));
                self.world.wait(Duration::from_secs(time)).await;
                let entries = self.world.reclaim(worker, count).await;
                note!(self, "after {time} s worker {worker} takes over {}", names(&entries));
                self.take(worker, entries);
            }
            46..50 => {
                let held = &self.workers[worker].held;
                let ids: Vec<EntryId> = held.iter().map(|(entry, _)| entry.id.clone()).collect();
                note!(self, "worker {worker} renews {} leases", ids.len());
                self.world.renew(worker, &ids).await;
            }
            50..68 => self.commit().await?,
            68..73 => self.commit_both(worker, (worker + 1) % WORKERS).await?,
            73..81 => self.acknowledge(worker).await,
            81..84 => {
                note!(self, "worker {worker} dies");
                self.workers[worker] = Worker::default();
            }
            84..90 => self.bury().await,
            90..91 => {
                note!(self, "the group vanishes");
                self.world.lose_group().await;
            }
            _ => self.operate().await?,
        }
        Ok(())
    }

    /// One that has something in hand.
    fn busy(&mut self) -> Option<usize> {
        let busy: Vec<usize> = (0..WORKERS).filter(|worker| !self.workers[*worker].held.is_empty()).collect();
        (!busy.is_empty()).then(|| busy[self.rng.random_range(0..busy.len())])
    }

    async fn post(&mut self) {
        if self.world.depth().await.0 >= CROWD {
            return;
        }
        let earlier = self.rng.random_range(0..self.posted.len().max(1));
        let (producer, first, events) =
            match (self.rng.random_range(0..10), self.posted.get(earlier).copied()) {
                (0..4, Some(again)) => again,
                (4..6, Some((producer, first, events))) if events > 1 => {
                    let half = events / 2;
                    if self.rng.random() {
                        (producer, first, half)
                    } else {
                        (producer, first + half, events - half)
                    }
                }
                _ => {
                    let producer = self.source.producers[self.rng.random_range(0..2)];
                    (producer, self.rng.random_range(1..18), self.rng.random_range(1..8))
                }
            };
        self.posted.push((producer, first, events));
        let skip: Vec<u64> = (0..events).filter(|_| self.rng.random_range(0..8) == 0).collect();
        if skip.len() as u64 == events {
            return;
        }
        let entry = self.source.entry(producer, first, events, &skip);
        let answered = self.rng.random_range(0..4) > 0;
        note!(self, "a post {} of {events} without {skip:?}, answered: {answered}", entry.batch);
        self.world.enqueue(&entry).await;
        if answered {
            self.promised.extend(numbers(&entry));
        }
    }

    fn take(&mut self, worker: usize, entries: Vec<Entry>) {
        for entry in entries {
            let batch = self.decoder.decode(&entry);
            self.workers[worker].held.push((entry, batch));
        }
    }

    /// A part of what a worker holds.
    fn part(&mut self, worker: usize) -> Vec<Held> {
        let held = &self.workers[worker].held;
        if held.is_empty() {
            return Vec::new();
        }
        let start = self.rng.random_range(0..held.len());
        let end = self.rng.random_range(start..held.len());
        held[if self.rng.random() { start..=end } else { 0..=held.len() - 1 }].to_vec()
    }

    async fn commit(&mut self) -> Outcome {
        let Some(worker) = self.busy() else { return Ok(()) };
        let part = self.part(worker);
        match self.rng.random_range(0..10) {
            0 => {
                note!(self, "worker {worker} rolls back");
                Ok(())
            }
            1 => self.transaction(worker, &part, false, None).await,
            2 => {
                let cut = CUT.mul_f64(self.rng.random());
                self.transaction(worker, &part, true, Some(cut)).await
            }
            _ => self.transaction(worker, &part, true, None).await,
        }
    }

    /// One transaction; unless it `hears` of the commit, the worker tries the same again some time.
    async fn transaction(
        &mut self,
        worker: usize,
        part: &Part,
        hears: bool,
        cut: Option<Duration>,
    ) -> Outcome {
        let group: Vec<&Batch> = part.iter().map(|(_, batch)| batch.as_ref()).collect();
        let verdicts = self.world.commit(worker, &group, cut).await;
        note!(self, "worker {worker} commits {}, cut {cut:?}: {verdicts:?}", names_of(part));
        match verdicts {
            Ok(verdicts) => {
                self.workers[worker].shaken = cut.is_some();
                ensure_eq!(verdicts, self.reference.commit(&self.source, part), "the verdicts");
                if hears {
                    self.is_committed(worker, part);
                }
            }
            Err(why) if cut.is_none() && !self.workers[worker].shaken => return Err(why),
            Err(_) => {
                self.workers[worker].shaken = cut.is_some();
                if self.was_committed(part.iter().map(|(entry, _)| entry)).await {
                    self.reference.commit(&self.source, part);
                }
            }
        }
        Ok(())
    }

    /// Whether a transaction of unknown outcome was one.
    async fn was_committed(&mut self, entries: impl Iterator<Item = &Entry>) -> bool {
        let new = entries.flat_map(numbers).find(|number| !self.reference.applied.contains(number));
        let Some((producer, number)) = new else { return false };
        let is_applied = self.world.is_applied(producer, number).await;
        note!(self, "it was committed: {is_applied}");
        is_applied
    }

    async fn commit_both(&mut self, one: usize, two: usize) -> Outcome {
        let parts = [self.part(one), self.part(two)];
        let [first, second] = &parts;
        if first.is_empty() || second.is_empty() || self.workers[one].shaken || self.workers[two].shaken {
            return Ok(());
        }
        let groups =
            parts.each_ref().map(|part| part.iter().map(|(_, batch)| batch.as_ref()).collect::<Vec<_>>());
        let both = self.world.commit_both([one, two], [&groups[0], &groups[1]]).await;
        note!(self, "workers {one} and {two} commit {} and {}: {both:?}", names_of(first), names_of(second));
        let [Ok(mine), Ok(yours)] = &both else {
            return Err(format!("two transactions at once failed: {both:?}"));
        };
        // Either may have been the first.
        let mut other = self.reference.clone();
        let in_order =
            (self.reference.commit(&self.source, first), self.reference.commit(&self.source, second));
        if in_order != (mine.clone(), yours.clone()) {
            let yours_first = other.commit(&self.source, second);
            ensure_eq!(
                (mine, yours),
                (&other.commit(&self.source, first), &yours_first),
                "the verdicts, in no order"
            );
            self.reference = other;
        }
        self.is_committed(one, first);
        self.is_committed(two, second);
        Ok(())
    }

    fn is_committed(&mut self, worker: usize, part: &Part) {
        let worker = &mut self.workers[worker];
        for (entry, _) in part {
            if let Some(at) = worker.held.iter().position(|(held, _)| held.id == entry.id) {
                worker.held.swap_remove(at);
            }
            worker.committed.push(entry.clone());
        }
    }

    async fn acknowledge(&mut self, worker: usize) {
        let committed = std::mem::take(&mut self.workers[worker].committed);
        note!(self, "worker {worker} acknowledges {}", names(&committed));
        self.world.acknowledge(&committed).await;
    }

    async fn bury(&mut self) {
        let Some(worker) = self.busy() else { return };
        let held = &mut self.workers[worker].held;
        let (entry, _) = held.swap_remove(self.rng.random_range(0..held.len()));
        let letter = self.world.bury(worker, &entry.id).await;
        note!(self, "worker {worker} gives {} up: {letter:?}", names([&entry]));
        self.letters.extend(letter.map(|letter| (letter, entry)));
    }

    /// Replays a dead letter, or drops it: its gap is closed first, and the operator may be interrupted then.
    async fn operate(&mut self) -> Outcome {
        if self.letters.is_empty() {
            return Ok(());
        }
        let at = self.rng.random_range(0..self.letters.len());
        let way = self.rng.random_range(0..4);
        if way < 2 {
            let (letter, _) = self.letters.swap_remove(at);
            note!(self, "replay {letter}");
            ensure_eq!(self.world.replay(&letter).await, true, "a dead letter is there");
            ensure_eq!(self.world.replay(&letter).await, false, "a dead letter is replayed once");
            return Ok(());
        }
        let (letter, entry) = self.letters[at].clone();
        let nothing = Batch {
            cells: Vec::new(),
            events: Vec::new(),
            oldest_ms: None,
            ..self.decoder.decode(&entry).as_ref().clone()
        };
        let closed = self.world.commit(0, &[&nothing], None).await;
        note!(self, "the gap of {letter} is closed: {closed:?}");
        match closed {
            Ok(_) => self.workers[0].shaken = false,
            Err(why) if !self.workers[0].shaken => return Err(why),
            Err(_) => {
                self.workers[0].shaken = false;
                if !self.was_committed([&entry].into_iter()).await {
                    return Ok(());
                }
            }
        }
        self.reference.close(&entry);
        if way == 2 {
            note!(self, "{letter} is deleted");
            self.letters.swap_remove(at);
            ensure_eq!(self.world.delete_letter(&letter).await, true, "a dead letter is there");
        }
        Ok(())
    }

    /// The troubles are over: all that is in the queue is counted.
    async fn drain(&mut self) -> Outcome {
        for _ in 0..100 {
            for worker in 0..WORKERS {
                let held = self.workers[worker].held.clone();
                if !held.is_empty() {
                    self.transaction(worker, &held, true, None).await?;
                }
                self.acknowledge(worker).await;
            }
            if self.world.depth().await == (0, self.letters.len() as u64) {
                return Ok(());
            }
            let entries = self.world.read(0, 100).await;
            self.take(0, entries);
            self.world.wait(Duration::from_secs(60)).await;
            let entries = self.world.reclaim(1, 100).await;
            self.take(1, entries);
        }
        Err(format!("it doesn't drain: {:?} entries and letters are left", self.world.depth().await))
    }
}

/// Entries in a log.
fn names<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> String {
    let name = |e: &Entry| format!("{}={}+{}-{:?}", e.id, e.batch.seq, e.events, e.skip);
    entries.into_iter().map(name).collect::<Vec<_>>().join(" ")
}

fn names_of(part: &Part) -> String {
    names(part.iter().map(|(entry, _)| entry))
}

/// The seeds to run, and how many they are.
fn seeds(by_default: u64) -> (impl Iterator<Item = u64>, u64) {
    let asked = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let (first, runs) = match asked("LOGWEIR_MODEL_SEED") {
        Some(seed) => (seed, 1),
        None => (rand::random(), asked("LOGWEIR_MODEL_RUNS").unwrap_or(by_default)),
    };
    ((0..runs).map(move |run| first.wrapping_add(run)), runs)
}
