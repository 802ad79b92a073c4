//! Random lives of files and agents, against a list of the lines that were written.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What happens next. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Op {
    /// Whole lines.
    Write(usize, usize),
    /// A line in two writes; in between comes what the test does next.
    Half(usize),
    Rename(usize),
    /// All read and settled, then emptied, and new lines at once.
    Truncate(usize, usize),
    Delete(usize),
    Pass(u64),
    Take,
    Settle(usize),
    Restart,
    /// The disk is full for a while.
    Full(bool),
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0_usize..4, 1_usize..30).prop_map(|(file, lines)| Op::Write(file, lines)),
        2 => (0_usize..4).prop_map(Op::Half),
        2 => (0_usize..4).prop_map(Op::Rename),
        1 => (0_usize..4, 0_usize..30).prop_map(|(file, lines)| Op::Truncate(file, lines)),
        1 => (0_usize..4).prop_map(Op::Delete),
        6 => prop_oneof![Just(10_u64), Just(600), Just(1500), Just(11_000)].prop_map(Op::Pass),
        4 => Just(Op::Take),
        4 => (0_usize..5).prop_map(Op::Settle),
        3 => Just(Op::Restart),
        1 => any::<bool>().prop_map(Op::Full),
        1 => Just(Op::Drain),
    ]
}

struct Model {
    rig: Rig,
    written: Vec<String>,
    halves: BTreeMap<usize, String>,
    rotated: usize,
}

impl Model {
    fn new(matching_rotated: bool) -> Self {
        let rig = Rig::started(|settings| {
            settings.batch_events = 7;
            settings.window_batches = 6;
            if matching_rotated {
                settings.patterns[0].push('*');
            }
        });
        Self { rig, written: Vec::new(), halves: BTreeMap::new(), rotated: 0 }
    }

    fn line(&mut self) -> String {
        let line = format!("line {}", self.written.len());
        self.written.push(line.clone());
        line
    }

    fn finish_half(&mut self, file: usize) {
        if let Some(rest) = self.halves.remove(&file) {
            self.rig.append(&name(file), rest);
        }
    }

    fn write(&mut self, file: usize, lines: usize) {
        self.finish_half(file);
        let lines: Vec<String> = (0..lines).map(|_| self.line()).collect();
        // Blank lines take no number.
        self.rig.append(&name(file), format!("{}\n \n", lines.join("\r\n")));
    }

    fn drain(&mut self) {
        self.rig.core().journal.fails = false;
        self.rig.drain();
    }

    fn exists(&self, file: usize) -> bool {
        self.rig.path(&name(file)).exists()
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Write(file, lines) => self.write(file, lines),
            Op::Half(file) => {
                self.finish_half(file);
                let line = self.line();
                let (first, second) = line.split_at(3);
                self.rig.append(&name(file), first);
                self.halves.insert(file, format!("{second}\n"));
            }
            Op::Rename(file) if self.exists(file) && !self.rig.core().journal.fails => {
                self.finish_half(file);
                self.rotated += 1;
                // An agent that has never seen a file can't find it under a name that no pattern matches.
                self.rig.pass(1000);
                self.rig.settle_down();
                self.rig.rename(&name(file), &format!("{}.{}", name(file), self.rotated));
            }
            Op::Truncate(file, lines) if self.exists(file) => {
                self.finish_half(file);
                self.drain();
                let truncated = File::options().write(true).open(self.rig.path(&name(file))).unwrap();
                truncated.set_len(0).unwrap();
                if lines > 0 {
                    self.write(file, lines);
                }
            }
            Op::Delete(file) if self.exists(file) => {
                self.finish_half(file);
                self.drain();
                delete(&self.rig.path(&name(file)));
            }
            Op::Rename(_) | Op::Truncate(..) | Op::Delete(_) => {}
            Op::Pass(ms) => {
                self.rig.pass(ms);
                self.rig.step();
            }
            Op::Take => self.rig.take(),
            Op::Settle(index) => {
                if index < self.rig.waiting.len() {
                    let id = self.rig.waiting.remove(index).id;
                    let now = self.rig.now;
                    self.rig.core().handle(Wake::Settled(Settled { id, rejects: vec![] }), now);
                }
            }
            Op::Restart => {
                let full = self.rig.core().journal.fails;
                self.rig.kill();
                self.rig.start();
                self.rig.core().journal.fails = full;
            }
            Op::Full(full) => self.rig.core().journal.fails = full,
            Op::Drain => self.drain(),
        }
    }

    fn check(&mut self) {
        for file in 0..4 {
            self.finish_half(file);
        }
        self.drain();
        let messages = self.rig.messages();
        let distinct: BTreeSet<&String> = messages.iter().collect();
        assert_eq!(distinct.len(), messages.len(), "a line has two numbers");
        let expected: BTreeSet<&String> = self.written.iter().collect();
        assert_eq!(distinct, expected);
        let maybe = self.rig.losses().iter().any(|loss| loss["reason"] == "maybe_counted");
        assert!(!maybe, "nothing was taken away that was not settled");
    }
}

fn name(file: usize) -> String {
    format!("file{file}.log")
}

pub(super) fn cases() -> u32 {
    std::env::var("LOGWEIR_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn each_line_has_one_number_whatever_happens(
        rotated_match in any::<bool>(),
        ops in prop::collection::vec(op(), 1..50),
    ) {
        let mut model = Model::new(rotated_match);
        for op in ops {
            model.apply(op);
        }
        model.check();
    }
}
