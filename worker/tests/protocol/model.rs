//! The protocol as a machine of a few bytes: its states, what may happen in each, and what must hold.

use stateright::{Model, Property};

/// Numbers of events: number n is bit n - 1.
pub(crate) type Numbers = u8;
/// Places of `State::entries`: place n is bit n.
pub(crate) type Slots = u8;

pub(crate) const MOST_SLOTS: usize = 3;
/// How many entries a worker has in hand at most.
const MOST_IN_HAND: u32 = 2;

/// How large the world is, and what is broken in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    /// How many events the agent's batch has: 1 or 2.
    pub(crate) events: u8,
    /// How many entries there are at a time, in the queue, among the dead letters, or in the hand of a worker that does
    /// not know yet that they are gone. Over time there is no limit.
    pub(crate) slots: usize,
    pub(crate) fault: Fault,
}

/// What is done wrong, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The worker doesn't ask which numbers are applied.
    LedgerOff,
    /// The ledger is read before its row is locked: as old as when the transaction began.
    ReadBeforeLock,
    /// The worker acknowledges what it is about to commit.
    AcknowledgedFirst,
    /// A replay is counted under numbers of its own.
    ReplayedAnew,
    /// The agent reads the same lines again after a crash, and sends them under numbers of its new run.
    JournalIgnored,
    /// The numbers of rejected events are applied along with the others.
    SkippedApplied,
    /// A dropped dead letter leaves its gap open.
    DropLeavesGap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Entry {
    place: Place,
    /// What the batch takes.
    numbers: Numbers,
    /// What one collector found valid of it; the others are its `skip`.
    valid: Numbers,
    /// It bears another producer's numbers, by a fault.
    renamed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
enum Place {
    /// Not there (any more).
    #[default]
    Gone,
    /// In the stream, read by nobody.
    Waiting,
    /// In the stream, and in the pending list of somebody, living or dead.
    Pending,
    /// Among the dead letters.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Worker {
    /// What it has read and isn't finished with. Others may have taken it over.
    hand: Slots,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
enum Step {
    #[default]
    Ready,
    /// In a transaction over a part of the hand: the ledger's row is locked, and said which numbers are applied.
    Locked { part: Slots, known: [Numbers; 2] },
    /// Postgres said that it is committed.
    Committed { part: Slots },
    /// It failed for the last time: the dead letters are next.
    Burying { slot: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    entries: [Entry; MOST_SLOTS],
    workers: [Worker; 2],
    /// Postgres: which numbers are applied, of the batch's producer and of another one.
    applied: [Numbers; 2],
    /// Postgres: which events are in the counts, and which are in there more than once.
    counted: Numbers,
    twice: Numbers,
    /// Which events somebody was told of that they are taken.
    promised: Numbers,
    /// Which gaps were closed by a drop before they were counted.
    dropped: Numbers,
    /// From here on nothing fails, nothing is sent, and the operator is away.
    calm: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A POST comes to a collector, which finds some events valid and enqueues these. Its answer may get lost.
    Receive {
        numbers: Numbers,
        valid: Numbers,
        answered: bool,
        renamed: bool,
    },
    Read {
        worker: usize,
        slot: u8,
    },
    /// Takes over what some worker has held for longer than the lease.
    Reclaim {
        worker: usize,
        slot: u8,
    },
    /// Begins a transaction, and locks.
    Lock {
        worker: usize,
        part: Slots,
    },
    /// Postgres commits; the worker may not hear of it, and then tries again.
    Commit {
        worker: usize,
        answered: bool,
    },
    /// Nothing is committed, by the world's fault or the batch's.
    Abort {
        worker: usize,
    },
    Acknowledge {
        worker: usize,
    },
    /// The last attempt has failed.
    GiveUp {
        worker: usize,
        slot: u8,
    },
    DeadLetter {
        worker: usize,
    },
    /// A worker dies, and a new one takes its place. Postgres ends its transaction.
    Crash {
        worker: usize,
    },
    /// The group vanishes, and is made again at the stream's start.
    LoseGroup,
    Replay {
        slot: u8,
    },
    /// The first half of a drop, in Postgres.
    CloseGap {
        slot: u8,
    },
    /// The second half, in Redis.
    DeleteLetter {
        slot: u8,
    },
    /// The troubles are over.
    Calm,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for worker in 0..state.workers.len() {
            self.of_worker(state, worker, actions);
        }
        if state.calm {
            return;
        }
        actions.push(Action::Calm);
        let free = state.free(self.slots).is_some();
        if free {
            self.posts(actions);
        }
        if state.entries.iter().any(|entry| entry.place == Place::Pending) {
            actions.push(Action::LoseGroup);
        }
        for slot in state.slots(|entry| entry.place == Place::Dead) {
            let letter = state.entry(slot);
            if free || !state.is_held(slot) {
                actions.push(Action::Replay { slot });
            }
            if !state.is_locked() {
                actions.push(Action::CloseGap { slot });
            }
            let closed = letter.valid & !state.applied[usize::from(letter.renamed)] == 0;
            if closed || self.fault == Fault::DropLeavesGap {
                actions.push(Action::DeleteLetter { slot });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.step(&mut state, action);
        // So each path into the calm comes to an end.
        assert!(!last.calm || state.left_to_do() < last.left_to_do(), "{action:?} in {last:?} leads nowhere");
        state.tidy();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(COUNTED_ONCE, |_, state: &State| state.twice == 0),
            Property::always(DROPPED_STAYS, |_, state: &State| state.counted & state.dropped == 0),
            Property::always(NOTHING_VANISHES, |_, state: &State| {
                state.promised & !(state.settled() | state.valid(|place| place != Place::Gone)) == 0
            }),
            Property::always(IN_THE_END, |model: &Protocol, state: &State| {
                !state.has_ended(model)
                    || state.is_drained()
                        && state.promised & !(state.settled() | state.valid(|place| place == Place::Dead))
                            == 0
            }),
            // What the properties above would be worth nothing without.
            Property::sometimes("all is counted", |model: &Protocol, state: &State| {
                state.has_ended(model) && state.counted == model.all() && state.valid(|_| true) == 0
            }),
            Property::sometimes("all is dropped", |model: &Protocol, state: &State| {
                state.dropped == model.all()
            }),
            Property::sometimes("two workers hold the same", |_, state: &State| {
                state.workers.iter().all(|worker| matches!(worker.step, Step::Committed { part: 1 }))
            }),
            Property::sometimes("a group holds the same twice", |_, state: &State| {
                state.workers.iter().any(|w| matches!(w.step, Step::Locked { part: 3, .. }))
                    && state.entries[0].valid & state.entries[1].valid != 0
            }),
        ]
    }
}

pub(crate) const COUNTED_ONCE: &str = "no event is counted twice";
pub(crate) const DROPPED_STAYS: &str = "what was dropped stays uncounted";
pub(crate) const NOTHING_VANISHES: &str = "nothing acknowledged vanishes";
pub(crate) const IN_THE_END: &str = "in the end all that was acknowledged is counted, dead or dropped";

impl Protocol {
    fn all(&self) -> Numbers {
        (1 << self.events) - 1
    }

    /// Whatever the agent, its journal, a halving after 413 or a repeating proxy did: what comes to a collector is the
    /// batch or a half of it, at any time, and any part of that may be found valid.
    fn posts(&self, actions: &mut Vec<Action>) {
        let all = self.all();
        let parts = (1..=all).filter(|part| *part == all || part.count_ones() == 1);
        for numbers in parts {
            for valid in (1..=all).filter(|valid| valid & !numbers == 0) {
                for answered in [true, false] {
                    actions.push(Action::Receive { numbers, valid, answered, renamed: false });
                }
                if self.fault == Fault::JournalIgnored {
                    actions.push(Action::Receive { numbers, valid, answered: true, renamed: true });
                }
            }
        }
    }

    fn of_worker(&self, state: &State, worker: usize, actions: &mut Vec<Action>) {
        let Worker { hand, step } = state.workers[worker];
        match step {
            Step::Ready => {
                if hand.count_ones() < MOST_IN_HAND {
                    for slot in state.slots(|entry| entry.place == Place::Waiting) {
                        actions.push(Action::Read { worker, slot });
                    }
                    // In the calm the living renew their leases.
                    let expired =
                        |slot| if state.calm { !state.is_held(slot) } else { hand & bit(slot) == 0 };
                    for slot in
                        state.slots(|entry| entry.place == Place::Pending).filter(|slot| expired(*slot))
                    {
                        actions.push(Action::Reclaim { worker, slot });
                    }
                }
                if !state.is_locked() || self.fault == Fault::ReadBeforeLock {
                    let parts = (1..=hand).filter(|part| part & !hand == 0);
                    actions.extend(parts.map(|part| Action::Lock { worker, part }));
                }
            }
            Step::Locked { .. } => actions.push(Action::Commit { worker, answered: true }),
            Step::Committed { .. } => actions.push(Action::Acknowledge { worker }),
            Step::Burying { .. } => actions.push(Action::DeadLetter { worker }),
        }
        if state.calm {
            return;
        }
        match step {
            Step::Ready => {
                let held = (0..).take(MOST_SLOTS).filter(|slot| hand & bit(*slot) != 0);
                actions.extend(held.map(|slot| Action::GiveUp { worker, slot }));
            }
            Step::Locked { .. } => {
                actions.push(Action::Commit { worker, answered: false });
                actions.push(Action::Abort { worker });
            }
            Step::Committed { .. } | Step::Burying { .. } => {}
        }
        if hand != 0 {
            actions.push(Action::Crash { worker });
        }
    }

    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Receive { numbers, valid, answered, renamed } => {
                state.put(Entry { place: Place::Waiting, numbers, valid, renamed }, self.slots);
                if answered {
                    state.promised |= valid;
                }
            }
            Action::Read { worker, slot } | Action::Reclaim { worker, slot } => {
                state.entry_mut(slot).place = Place::Pending;
                state.workers[worker].hand |= bit(slot);
            }
            Action::Lock { worker, part } => {
                state.workers[worker].step = Step::Locked { part, known: state.applied };
                if self.fault == Fault::AcknowledgedFirst {
                    state.remove(part);
                }
            }
            Action::Commit { worker, answered } => {
                let Step::Locked { part, known } = state.workers[worker].step else { return };
                self.count(state, part, known);
                state.workers[worker].step = if answered { Step::Committed { part } } else { Step::Ready };
            }
            Action::Abort { worker } => state.workers[worker].step = Step::Ready,
            Action::Acknowledge { worker } => {
                let Step::Committed { part } = state.workers[worker].step else { return };
                state.remove(part);
                state.workers[worker].hand &= !part;
                state.workers[worker].step = Step::Ready;
            }
            Action::GiveUp { worker, slot } => state.workers[worker].step = Step::Burying { slot },
            Action::DeadLetter { worker } => {
                let Step::Burying { slot } = state.workers[worker].step else { return };
                if state.entry(slot).is_in_stream() {
                    state.entry_mut(slot).place = Place::Dead;
                }
                state.workers[worker].hand &= !bit(slot);
                state.workers[worker].step = Step::Ready;
            }
            Action::Crash { worker } => state.workers[worker] = Worker::default(),
            Action::LoseGroup => {
                for entry in state.entries.iter_mut().filter(|entry| entry.place == Place::Pending) {
                    entry.place = Place::Waiting;
                }
            }
            Action::Replay { slot } => {
                let mut letter = state.entry(slot);
                state.entry_mut(slot).place = Place::Gone;
                letter.place = Place::Waiting;
                letter.renamed |= self.fault == Fault::ReplayedAnew;
                state.put(letter, self.slots);
            }
            Action::CloseGap { slot } => {
                let letter = state.entry(slot);
                let applied = &mut state.applied[usize::from(letter.renamed)];
                state.dropped |= letter.valid & !*applied;
                if self.fault != Fault::DropLeavesGap {
                    *applied |= letter.valid;
                }
            }
            Action::DeleteLetter { slot } => state.entry_mut(slot).place = Place::Gone,
            Action::Calm => state.calm = true,
        }
    }

    /// What the transaction does, batch after batch.
    fn count(&self, state: &mut State, part: Slots, mut known: [Numbers; 2]) {
        for entry in
            (0..).zip(state.entries).filter(|(slot, _)| part & bit(*slot) != 0).map(|(_, entry)| entry)
        {
            let producer = usize::from(entry.renamed);
            let asked = if self.fault == Fault::LedgerOff { 0 } else { known[producer] };
            let new = entry.valid & !asked;
            state.twice |= state.counted & new;
            state.counted |= new;
            known[producer] |= if self.fault == Fault::SkippedApplied { entry.numbers } else { entry.valid };
        }
        for (applied, known) in state.applied.iter_mut().zip(known) {
            *applied |= known;
        }
    }
}

fn bit(slot: u8) -> Slots {
    1 << slot
}

impl Entry {
    fn is_in_stream(self) -> bool {
        matches!(self.place, Place::Waiting | Place::Pending)
    }
}

impl State {
    fn entry(&self, slot: u8) -> Entry {
        self.entries[usize::from(slot)]
    }

    fn entry_mut(&mut self, slot: u8) -> &mut Entry {
        &mut self.entries[usize::from(slot)]
    }

    fn slots(&self, such: impl Fn(&Entry) -> bool) -> impl Iterator<Item = u8> {
        (0..).zip(self.entries).filter(move |(_, entry)| such(entry)).map(|(slot, _)| slot)
    }

    fn held(&self) -> Slots {
        self.workers.iter().fold(0, |held, worker| held | worker.hand)
    }

    fn is_held(&self, slot: u8) -> bool {
        self.held() & bit(slot) != 0
    }

    fn is_locked(&self) -> bool {
        self.workers.iter().any(|worker| matches!(worker.step, Step::Locked { .. }))
    }

    /// A place for a new entry.
    fn free(&self, slots: usize) -> Option<u8> {
        self.slots(|entry| entry.place == Place::Gone)
            .take_while(|slot| usize::from(*slot) < slots)
            .find(|slot| !self.is_held(*slot))
    }

    fn put(&mut self, entry: Entry, slots: usize) {
        if let Some(slot) = self.free(slots) {
            *self.entry_mut(slot) = entry;
        }
    }

    /// XACK and XDEL: a dead letter has another ID, and stays.
    fn remove(&mut self, part: Slots) {
        for (slot, entry) in (0..).zip(&mut self.entries) {
            if part & bit(slot) != 0 && entry.is_in_stream() {
                entry.place = Place::Gone;
            }
        }
    }

    fn valid(&self, such: impl Fn(Place) -> bool) -> Numbers {
        self.entries.iter().filter(|entry| such(entry.place)).fold(0, |valid, entry| valid | entry.valid)
    }

    fn settled(&self) -> Numbers {
        self.counted | self.dropped
    }

    fn is_drained(&self) -> bool {
        !self.entries.iter().any(|entry| entry.is_in_stream()) && self.workers == <[Worker; 2]>::default()
    }

    /// Calm, and nothing can happen any more.
    fn has_ended(&self, model: &Protocol) -> bool {
        let mut actions = Vec::new();
        self.calm && {
            model.actions(self, &mut actions);
            actions.is_empty()
        }
    }

    /// A bound of the steps that are possible in the calm.
    fn left_to_do(&self) -> u32 {
        let held = self.held();
        let entries = (0..).zip(&self.entries).map(|(slot, entry)| match entry.place {
            Place::Waiting => 20,
            Place::Pending if held & bit(slot) == 0 => 10,
            _ => 0,
        });
        let workers = self.workers.iter().map(|worker| {
            let step = match worker.step {
                Step::Ready => 2,
                Step::Locked { .. } => 1,
                Step::Committed { .. } | Step::Burying { .. } => 0,
            };
            3 * worker.hand.count_ones() + step
        });
        entries.chain(workers).sum()
    }

    /// States that differ only in names become one: of entries that nobody knows any more, of places, of workers.
    fn tidy(&mut self) {
        let held = self.held();
        for (slot, entry) in (0..).zip(&mut self.entries) {
            if entry.place == Place::Gone && held & bit(slot) == 0 {
                *entry = Entry::default();
            }
        }
        for (low, high) in [(0, 1), (1, 2), (0, 1)] {
            // The largest first: the empty places are the last.
            if self.entry(low) < self.entry(high) {
                self.entries.swap(usize::from(low), usize::from(high));
                for worker in &mut self.workers {
                    worker.swap(low, high);
                }
            }
        }
        if self.workers[1] < self.workers[0] {
            self.workers.swap(0, 1);
        }
    }
}

impl Worker {
    fn swap(&mut self, low: u8, high: u8) {
        let swapped = |slots: Slots| {
            let (l, h) = (slots >> low & 1, slots >> high & 1);
            slots & !(bit(low) | bit(high)) | l << high | h << low
        };
        self.hand = swapped(self.hand);
        match &mut self.step {
            Step::Locked { part, .. } | Step::Committed { part } => *part = swapped(*part),
            Step::Burying { slot } if *slot == low => *slot = high,
            Step::Burying { slot } if *slot == high => *slot = low,
            Step::Ready | Step::Burying { .. } => {}
        }
    }
}
