//! Redis and Postgres as plain maps, with a clock that only goes on when told to.

use super::*;
use crate::ranges::Ranges;
use crate::settle::{Ledger, settle};
use uuid::Uuid;

const LEASE: Duration = Duration::from_secs(30);

/// How many schedules run by default.
const RUNS: u64 = 6_000;

#[derive(Default)]
struct Memory {
    now: Duration,
    last_id: u64,
    stream: BTreeMap<u64, Entry>,
    /// The last ID that was handed out.
    read: u64,
    /// Who holds an entry, since when.
    pending: BTreeMap<u64, (usize, Duration)>,
    dead: BTreeMap<u64, Entry>,
    /// Rows of the ledger, as text.
    applied: BTreeMap<ProducerId, String>,
    counts: BTreeMap<Key, Sum>,
    lost: u64,
    /// The fault: whatever is applied already, the ledger says that nothing is.
    ledger_off: bool,
}

fn number(id: &EntryId) -> u64 {
    id.0.split_once('-').unwrap().0.parse().unwrap()
}

impl Memory {
    fn next_id(&mut self) -> (u64, EntryId) {
        self.last_id += 1;
        (self.last_id, EntryId(format!("{}-0", self.last_id)))
    }

    fn hand_out(&mut self, worker: usize, ids: Vec<u64>) -> Vec<Entry> {
        self.pending.extend(ids.iter().map(|id| (*id, (worker, self.now))));
        ids.iter().map(|id| self.stream[id].clone()).collect()
    }

    /// As `Session::transaction` does it.
    fn transaction(&mut self, group: &[&Batch]) -> Vec<Verdict> {
        let row = |producer| self.applied.get(&producer).map_or(Ok(Ranges::default()), |text| text.parse());
        let mut ledger: Ledger = group.iter().map(|batch| (batch.producer, row(batch.producer))).collect();
        if self.ledger_off {
            ledger.values_mut().for_each(|ranges| *ranges = Ok(Ranges::default()));
        }
        let settlement = settle(group, &mut ledger, OLDEST);
        for producer in settlement.changed.keys() {
            self.applied.insert(*producer, ledger[producer].as_ref().unwrap().to_string());
        }
        for (key, new) in settlement.counts {
            let sum = self.counts.entry(key).or_default();
            sum.events += new.events;
            sum.bytes += new.bytes;
        }
        self.lost += settlement.losses.iter().map(|loss| loss.sum.events).sum::<u64>();
        settlement.verdicts
    }
}

impl World for Memory {
    async fn enqueue(&mut self, entry: &Entry) {
        let (at, id) = self.next_id();
        self.stream.insert(at, Entry { id, ..entry.clone() });
    }

    async fn read(&mut self, worker: usize, count: usize) -> Vec<Entry> {
        let ids: Vec<u64> = self.stream.range(self.read + 1..).map(|(id, _)| *id).take(count).collect();
        self.read = ids.last().copied().unwrap_or(self.read);
        self.hand_out(worker, ids)
    }

    async fn reclaim(&mut self, worker: usize, count: usize) -> Vec<Entry> {
        let expired = self.pending.iter().filter(|(_, (_, since))| self.now - *since >= LEASE);
        let ids = expired.map(|(id, _)| *id).take(count).collect();
        self.hand_out(worker, ids)
    }

    async fn renew(&mut self, worker: usize, ids: &[EntryId]) {
        for id in ids {
            if let Some((holder, since)) = self.pending.get_mut(&number(id))
                && *holder == worker
            {
                *since = self.now;
            }
        }
    }

    async fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    async fn commit(&mut self, _worker: usize, group: &[&Batch], cut: Option<Duration>) -> Verdicts {
        match cut {
            Some(early) if early.as_micros().is_multiple_of(3) => Err("cut before the commit".to_owned()),
            Some(late) if late.as_micros() % 3 == 1 => {
                self.transaction(group);
                Err("cut after the commit".to_owned())
            }
            _ => Ok(self.transaction(group)),
        }
    }

    async fn commit_both(&mut self, _workers: [usize; 2], [one, two]: [&[&Batch]; 2]) -> [Verdicts; 2] {
        if one.len() < two.len() {
            [one, two].map(|group| Ok(self.transaction(group)))
        } else {
            let second = self.transaction(two);
            [Ok(self.transaction(one)), Ok(second)]
        }
    }

    async fn is_applied(&mut self, producer: ProducerId, number: u64) -> bool {
        let row = self.applied.get(&producer);
        row.is_some_and(|text| text.parse::<Ranges>().unwrap().contains(number))
    }

    async fn acknowledge(&mut self, entries: &[Entry]) {
        for id in entries.iter().map(|entry| number(&entry.id)) {
            self.pending.remove(&id);
            self.stream.remove(&id);
        }
    }

    async fn bury(&mut self, _worker: usize, id: &EntryId) -> Option<EntryId> {
        self.pending.remove(&number(id));
        let entry = self.stream.remove(&number(id))?;
        let (at, id) = self.next_id();
        self.dead.insert(at, entry);
        Some(id)
    }

    async fn replay(&mut self, letter: &EntryId) -> bool {
        let Some(entry) = self.dead.remove(&number(letter)) else { return false };
        self.enqueue(&entry).await;
        true
    }

    async fn delete_letter(&mut self, letter: &EntryId) -> bool {
        self.dead.remove(&number(letter)).is_some()
    }

    async fn lose_group(&mut self) {
        self.pending.clear();
        self.read = 0;
    }

    async fn depth(&mut self) -> (u64, u64) {
        (self.stream.len() as u64, self.dead.len() as u64)
    }

    async fn totals(&mut self) -> Totals {
        Totals { counts: self.counts.clone(), applied: self.applied.clone(), lost: self.lost }
    }
}

fn source() -> Source {
    Source { producers: [1, 2].map(|n| ProducerId::new(Uuid::from_u128(n))), prefix: "s".to_owned() }
}

/// The steps of a schedule that fails, and why.
async fn failing(seed: u64, decoder: &mut Decoder, ledger_off: bool) -> Option<(Vec<String>, String)> {
    let mut world = Memory { ledger_off, ..Memory::default() };
    let mut run = Run::new(&mut world, source(), decoder, seed, true);
    let why = run.run().await.err()?;
    Some((run.log.unwrap_or_default(), why))
}

#[tokio::test]
async fn any_order_of_anything_counts_once() {
    let (begun, mut decoder, mut steps) = (Instant::now(), Decoder::default(), 0);
    let (seeds, runs) = seeds(RUNS);
    for seed in seeds {
        let mut world = Memory::default();
        let mut run = Run::new(&mut world, source(), &mut decoder, seed, false);
        if run.run().await.is_err() {
            let (log, why) = failing(seed, &mut decoder, false).await.unwrap();
            panic!("LOGWEIR_MODEL_SEED={seed}\n  {}\n{why}", log.join("\n  "));
        }
        steps += run.steps;
    }
    println!("{runs} schedules in memory, {steps} steps, {:.1?}", begun.elapsed());
}

#[tokio::test]
async fn without_the_ledger_it_is_noticed() {
    let mut decoder = Decoder::default();
    for seed in 0..100 {
        if failing(seed, &mut decoder, true).await.is_some() {
            return;
        }
    }
    panic!("nothing is noticed");
}
