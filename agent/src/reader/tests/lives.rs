//! Random lives of files and agents, against a plain list of what was written and what became of it.
//!
//! Applications write lines in pieces, and keep writing to files that were renamed; files are rotated, copied and
//! emptied, compressed, truncated, linked, deleted; agents are killed (also between any two steps of writing their journal),
//! stopped, started; batches are acknowledged late and in any order; the disk is full, or files can't be read, for a while;
//! the clock is set. What must hold at the end is in [`Life::check`].
//!
//! `./test reader N` runs more of them. `LOGWEIR_READER_CASES` and proptest's own variables work too.

use super::super::skim::Told;
use super::*;
use crate::files::identity::Key;
use crate::journal::DIES_IN;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeSet, HashSet};

/// What happens next. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Op {
    /// Whole lines, after the rest of a line that was begun.
    Write(usize, usize),
    /// The next line, up to somewhere in its middle.
    Begin(usize, usize),
    Rename(usize),
    /// The same by another name and the end of the first one, with so much time between.
    Link(usize, u64),
    Create(usize),
    /// With so many lines after it, and so many between the copy and the truncation.
    CopyTruncate(usize, usize, usize),
    Truncate(usize, usize),
    Delete(usize),
    /// One of those that were rotated.
    DeleteOld(usize),
    /// One of those that were rotated, if an agent knows it by then: some lines more are written to it, perhaps the agent
    /// is killed, and it is compressed, and then deleted.
    Pack(usize, usize, bool),
    Pass(u64),
    /// Long enough for a scan.
    Look,
    Take,
    Settle(usize),
    Kill,
    /// After so many steps of writing the journal, while it runs or starts.
    KillWithin(u32),
    Stop,
    Start,
    /// The disk is full, or not any more.
    Full(bool),
    /// No file can be read, or they can again.
    Unreadable(bool),
    /// The clock is set, by so many milliseconds.
    Clock(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0..SLOTS;
    prop_oneof![
        8 => (slot.clone(), 1_usize..9).prop_map(|(slot, lines)| Op::Write(slot, lines)),
        3 => (slot.clone(), 1_usize..14).prop_map(|(slot, at)| Op::Begin(slot, at)),
        3 => slot.clone().prop_map(Op::Rename),
        3 => slot.clone().prop_map(Op::Create),
        3 => (slot.clone(), 0_usize..9, prop_oneof![3 => Just(0_usize), 1 => 1_usize..4])
            .prop_map(|(slot, lines, late)| Op::CopyTruncate(slot, lines, late)),
        1 => (slot.clone(), prop_oneof![Just(0_u64), Just(10), Just(1000)]).prop_map(|(slot, ms)| Op::Link(slot, ms)),
        1 => (slot.clone(), 0_usize..9).prop_map(|(slot, lines)| Op::Truncate(slot, lines)),
        1 => slot.prop_map(Op::Delete),
        1 => (0_usize..3).prop_map(Op::DeleteOld),
        2 => (0_usize..3, 0_usize..9, any::<bool>()).prop_map(|(index, lines, kill)| Op::Pack(index, lines, kill)),
        4 => prop_oneof![Just(10_u64), Just(600), Just(11_000)].prop_map(Op::Pass),
        4 => Just(Op::Look),
        4 => Just(Op::Take),
        4 => (0_usize..3).prop_map(Op::Settle),
        2 => Just(Op::Kill),
        1 => Just(Op::Stop),
        4 => Just(Op::Start),
        1 => (0_u32..12).prop_map(Op::KillWithin),
        1 => any::<bool>().prop_map(Op::Full),
        1 => any::<bool>().prop_map(Op::Unreadable),
        1 => prop_oneof![Just(-7_200_000_i64), Just(3_600_000), Just(-50)].prop_map(Op::Clock),
    ]
}

const SLOTS: usize = 2;

/// A journal is soon so large.
const COMPACT_BYTES: u64 = 4 << 10;

/// After so many looks, a second apart, the journal knows that there is something.
const IN_JOURNAL: u32 = 4;

/// Which agent it is.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Whether the pattern matches what rotation leaves.
    matches_old: bool,
    max_open_files: usize,
    /// Whether what is there at the first start is passed over.
    from_end: bool,
    /// Whether it leaves lines out, and replaces text in the others.
    has_rules: bool,
    /// Whether the system tells of changes, so that not everything is looked up each second.
    tells: bool,
}

/// A line, and where it stands in its content.
struct Line {
    /// What is sent of it.
    text: String,
    left_out: bool,
    start: usize,
    end: usize,
    /// How often an agent has looked at the file since.
    looks: u32,
    /// Whether it was there before the first start, and is passed over.
    passed: bool,
    /// Whether it was truncated before it was copied.
    cut: bool,
}

/// What stands, or stood, in a file.
struct Content {
    path: PathBuf,
    lines: Vec<Line>,
    len: usize,
    /// Whether an agent has looked at it, and could write that down.
    known: bool,
    /// Only the file, with other content: that is enough for the agent that holds it open.
    file_known: bool,
    /// It has no name any more, and the agent that runs holds it open.
    held: bool,
    /// It is compressed.
    packed: bool,
    gone: bool,
}

struct Slot {
    /// The application's handle.
    file: Option<File>,
    content: usize,
    /// The rest of a line that was begun.
    rest: Vec<u8>,
    /// How long nothing was written.
    quiet_ms: u64,
}

struct Life {
    rig: Rig,
    kind: Kind,
    contents: Vec<Content>,
    slots: Vec<Slot>,
    written: usize,
    rotated: usize,
    full: bool,
    unreadable: bool,
    /// What the system has heard, where it tells.
    told: Told,
    /// Whether names have come or gone.
    names: bool,
    /// For so many looks nobody knows what is seen.
    blind: u32,
    /// Lines that may be missing, by content; those that were seen must be named then.
    at_risk: Vec<(usize, usize)>,
}

impl Life {
    fn new(kind: Kind) -> Self {
        let rig = Rig::new(|settings| {
            settings.batch_events = 5;
            settings.window_batches = 4;
            settings.max_open_files = kind.max_open_files;
            if kind.has_rules {
                settings.rules = super::rules::rules(&["ö"], &["[37]$"], &["ü=>[u]"]);
            }
            if kind.matches_old {
                settings.patterns[0].push('*');
            }
            if kind.from_end {
                settings.from = From::End;
            }
        });
        let slots =
            (0..SLOTS).map(|_| Slot { file: None, content: 0, rest: Vec::new(), quiet_ms: 0 }).collect();
        let mut life = Self {
            rig,
            kind,
            contents: vec![],
            slots,
            written: 0,
            rotated: 0,
            full: false,
            unreadable: false,
            told: Told::default(),
            names: false,
            blind: 0,
            at_risk: vec![],
        };
        if kind.from_end {
            life.write(0, 3);
            for line in &mut life.contents[0].lines {
                line.passed = true;
            }
            // Whose line isn't whole yet is read from its beginning.
            life.begin(0, 3);
        }
        life.rig.start();
        life.rig.core().journal.compact_bytes = COMPACT_BYTES;
        life.watch();
        if kind.from_end {
            life.look();
        }
        life
    }

    fn name(&self, slot: usize) -> PathBuf {
        self.rig.path(&format!("file{slot}.log"))
    }

    fn old_name(&mut self, slot: usize) -> PathBuf {
        self.rotated += 1;
        self.rig.path(&format!("file{slot}.log.{}", self.rotated))
    }

    fn content(&mut self, path: PathBuf) -> usize {
        let (lines, len) = (Vec::new(), 0);
        self.contents.push(Content {
            path,
            lines,
            len,
            known: false,
            file_known: false,
            held: false,
            packed: false,
            gone: false,
        });
        self.contents.len() - 1
    }

    fn create(&mut self, slot: usize) {
        let path = self.name(slot);
        if path.exists() {
            return;
        }
        self.finish(slot);
        self.names = true;
        self.slots[slot].file = Some(File::options().create(true).append(true).open(&path).unwrap());
        self.slots[slot].content = self.content(path);
    }

    /// Two bytes a letter, so that pieces end in the middle of one; and as many digits, so that no piece is another line.
    fn line(&mut self, slot: usize) -> Vec<u8> {
        let mut text = format!("äöü {:03}", self.written);
        self.written += 1;
        let bytes = format!("{text}\r\n").into_bytes();
        let left_out = self.kind.has_rules && text.ends_with(['3', '7']);
        if self.kind.has_rules {
            text = text.replace('ü', "[u]");
        }
        let content = &mut self.contents[self.slots[slot].content];
        let (start, end) = (content.len, content.len + bytes.len());
        content.lines.push(Line { text, left_out, start, end, looks: 0, passed: false, cut: false });
        content.len = end;
        bytes
    }

    fn put(&mut self, slot: usize, bytes: &[u8]) {
        self.slots[slot].quiet_ms = 0;
        self.told.grown(vec![self.contents[self.slots[slot].content].path.clone()]);
        self.slots[slot].file.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn finish(&mut self, slot: usize) {
        let rest = std::mem::take(&mut self.slots[slot].rest);
        if !rest.is_empty() {
            self.put(slot, &rest);
        }
    }

    fn write(&mut self, slot: usize, lines: usize) {
        if self.slots[slot].file.is_none() {
            self.create(slot);
        }
        self.finish(slot);
        for _ in 0..lines {
            let line = self.line(slot);
            self.put(slot, &line);
        }
        // Blank lines take no number.
        self.put(slot, b" \n");
        self.contents[self.slots[slot].content].len += 2;
    }

    fn begin(&mut self, slot: usize, at: usize) {
        if self.slots[slot].file.is_none() {
            self.create(slot);
        }
        self.finish(slot);
        let mut line = self.line(slot);
        let rest = line.split_off(at.min(line.len() - 1));
        self.put(slot, &line);
        self.slots[slot].rest = rest;
    }

    /// The slot's file, if it still has its name.
    fn current(&self, slot: usize) -> Option<usize> {
        let content = self.slots[slot].content;
        let here = self.slots[slot].file.is_some() && self.contents[content].path == self.name(slot);
        (here && !self.contents[content].gone && !self.contents[content].held).then_some(content)
    }

    fn rename(&mut self, slot: usize) {
        let Some(content) = self.renamable(slot) else { return };
        let path = self.old_name(slot);
        self.names = true;
        std::fs::rename(&self.contents[content].path, &path).unwrap();
        self.contents[content].path = path;
    }

    fn link(&mut self, slot: usize, ms: u64) {
        let Some(content) = self.renamable(slot) else { return };
        let path = self.old_name(slot);
        std::fs::hard_link(&self.contents[content].path, &path).unwrap();
        self.names = true;
        if ms == 1000 {
            self.look();
        } else if ms > 0 {
            self.pass(ms);
        }
        self.names = true;
        if self.renamable(slot).is_none() {
            return delete(&path);
        }
        delete(&self.contents[content].path);
        self.contents[content].path = path;
    }

    /// A file that is the slot's and may get another name.
    fn renamable(&mut self, slot: usize) -> Option<usize> {
        let content = self.current(slot)?;
        if !self.kind.matches_old && !self.is_known(content) {
            // An agent that has never seen a file can't find it under a name that no pattern matches.
            self.look();
            if !self.is_known(content) {
                return None;
            }
        }
        Some(content)
    }

    fn is_known(&self, content: usize) -> bool {
        self.contents[content].known || self.contents[content].file_known
    }

    /// What is not with the sender by now may be missing at the end.
    fn risk(&mut self, content: usize) {
        self.risk_from(content, 0);
        self.contents[content].gone = true;
    }

    /// The same for the lines from this one on.
    fn risk_from(&mut self, content: usize, first: usize) {
        let sent: HashSet<String> = self.rig.messages().into_iter().collect();
        let lines = self.contents[content].lines.iter().enumerate().skip(first);
        let unsent = lines.filter(|(_, line)| !sent.contains(&line.text)).map(|(line, _)| (content, line));
        self.at_risk.extend(unsent);
    }

    fn empty(&mut self, slot: usize, lines: usize) {
        let path = self.name(slot);
        self.told.grown(vec![path.clone()]);
        self.slots[slot].file.as_mut().unwrap().set_len(0).unwrap();
        let known = self.reads() && self.is_known(self.slots[slot].content);
        self.slots[slot].content = self.content(path);
        let content = self.slots[slot].content;
        self.contents[content].file_known = known;
        if lines > 0 {
            self.write(slot, lines);
        }
    }

    fn copy_truncate(&mut self, slot: usize, lines: usize, late: usize) {
        let Some(content) = self.current(slot) else { return };
        self.finish(slot);
        let copy = self.old_name(slot);
        self.names = true;
        std::fs::copy(self.name(slot), &copy).unwrap();
        let copied = self.contents[content].lines.len();
        let mut first = copied;
        // Of two files of which nothing was read nobody knows which is the copy.
        let key = Key::of(&std::fs::metadata(self.name(slot)).unwrap());
        let begun = self
            .rig
            .running
            .as_ref()
            .is_none_or(|(core, _)| core.tails.get(&key).is_some_and(|tail| tail.entry.offset > 0));
        if late > 0 && begun {
            self.write(slot, late);
            // They may be in one batch with lines that the copy has.
            first = 0;
            self.pass(10);
        }
        if self.kind.matches_old {
            self.risk_from(content, first);
            self.contents[content].lines[copied..].iter_mut().for_each(|line| line.cut = true);
            self.contents[content].path = copy;
            self.contents[content].known = false;
            self.contents[content].file_known = false;
        } else {
            self.risk(content);
        }
        self.empty(slot, lines);
    }

    fn truncate(&mut self, slot: usize, lines: usize) {
        let Some(content) = self.current(slot) else { return };
        self.finish(slot);
        self.risk(content);
        self.empty(slot, lines);
    }

    fn delete(&mut self, content: usize) {
        for slot in 0..SLOTS {
            if self.slots[slot].content == content {
                self.finish(slot);
                self.slots[slot].file = None;
            }
        }
        self.names = true;
        delete(&self.contents[content].path);
        if self.reads() && self.is_known(content) && self.kind.max_open_files > 10 {
            self.contents[content].held = true;
        } else {
            self.risk(content);
        }
    }

    /// What was read of it, if anything, is in the journal, so that it is found again by that.
    fn pack(&mut self, content: usize, lines: usize, kill: bool) {
        for _ in 0..IN_JOURNAL {
            self.look();
        }
        let what = &self.contents[content];
        let by_name = what.known || self.kind.matches_old;
        if !by_name || what.lines.first().is_none_or(|line| line.looks < IN_JOURNAL) {
            return;
        }
        if kill && self.rig.running.is_some() {
            self.ended();
        }
        for slot in 0..SLOTS {
            if self.slots[slot].content == content {
                if self.slots[slot].file.is_some() {
                    self.write(slot, lines);
                }
                self.slots[slot].file = None;
            }
        }
        let path = self.contents[content].path.clone();
        let packed = PathBuf::from(format!("{}.gz", path.display()));
        std::fs::write(&packed, gzip(&std::fs::read(&path).unwrap())).unwrap();
        delete(&path);
        self.contents[content].path = packed;
        self.contents[content].packed = true;
    }

    /// Those that were rotated.
    fn old(&self) -> Vec<usize> {
        let old = |content: &Content| {
            let named = content.path.extension().is_some_and(|ext| ext != "log");
            !content.gone && !content.held && !content.packed && named
        };
        (0..self.contents.len()).filter(|at| old(&self.contents[*at])).collect()
    }

    /// Ends the agent, in whatever way.
    fn ended(&mut self) {
        self.rig.kill();
        for content in 0..self.contents.len() {
            let file_known = std::mem::take(&mut self.contents[content].file_known);
            let old = self.contents[content].path.extension().is_some_and(|ext| ext != "log");
            if file_known && !self.contents[content].known && old && !self.kind.matches_old {
                // Nobody knows any more that this content was followed under its older name.
                self.risk(content);
                for slot in self.slots.iter_mut().filter(|slot| slot.content == content) {
                    (slot.file, slot.rest) = (None, Vec::new());
                }
            }
            // What was seen just before isn't in the journal yet.
            for line in self.contents[content].lines.iter_mut().filter(|line| line.looks < IN_JOURNAL) {
                line.looks = 0;
            }
            if std::mem::take(&mut self.contents[content].held) {
                self.risk(content);
            }
        }
    }

    fn start(&mut self) {
        if self.rig.running.is_none() {
            self.rig.ended = None;
            // Each process has a clock of its own.
            self.rig.now.mono = Duration::ZERO;
            self.rig.start();
            self.rig.core().journal.compact_bytes = COMPACT_BYTES;
            self.rig.core().journal.fails = self.full;
            self.watch();
        }
    }

    fn watch(&mut self) {
        let tells = self.kind.tells;
        let skim = &mut self.rig.core().skim;
        skim.set_told(tells);
        // The names are told, so it doesn't matter how fine the clock of the file system is.
        skim.settled = Duration::ZERO;
    }

    /// As the system does: it tells before the next step.
    fn tell(&mut self) {
        let (news, names) = (self.told.take(), std::mem::take(&mut self.names));
        if self.kind.tells && self.rig.running.is_some() {
            let now = self.rig.now;
            self.rig.core().told(news);
            if names {
                self.rig.core().handle(Wake::Look, now);
            }
        }
    }

    /// Time passes, and with it what was begun in a file that no pattern matches would be taken for whole.
    fn pass(&mut self, ms: u64) {
        if self.rig.running.is_none() {
            return;
        }
        for slot in 0..SLOTS {
            if self.current(slot).is_none() {
                self.finish(slot);
                // A file that no pattern matches is followed as long as it is written to every ten seconds.
                self.slots[slot].quiet_ms += ms;
                if self.slots[slot].quiet_ms > 9_000 && !self.kind.matches_old {
                    self.slots[slot].file = None;
                }
            }
        }
        self.rig.pass(ms);
        self.step();
    }

    fn step(&mut self) -> Next {
        self.tell();
        let unreadable = self.unreadable;
        self.rig.core().tails.values_mut().for_each(|tail| tail.broken = unreadable);
        let next = self.rig.step();
        if self.rig.ended.is_some() {
            self.ended();
        }
        next
    }

    /// Whether an agent is there that isn't about to end.
    fn reads(&mut self) -> bool {
        self.rig.running.is_some() && !self.rig.core().is_stopping()
    }

    fn look(&mut self) {
        self.pass(1000);
        // What is begun is done at once: a step writes down what it lost before the next one reads on.
        while self.reads() && self.step() == Next::Again {}
        if !self.reads() {
            return;
        }
        // Nothing is read or written for a second after the disk was full, and then it is written before it is read.
        self.blind = self.blind.saturating_sub(1);
        if self.blind > 0 || self.full || self.unreadable {
            return;
        }
        let few_handles = self.kind.max_open_files < 10 && !self.kind.matches_old;
        for content in self.contents.iter_mut().filter(|content| !content.gone) {
            // An agent that holds few files open looks several times for one that is closed, whose content is another by
            // then, and whose new name matches nothing.
            let moved = content.path.extension().is_some_and(|ext| ext != "log") && content.file_known;
            content.known |= !(few_handles && moved);
            let known = content.known;
            let there = content.lines.iter_mut().filter(|line| !line.cut);
            there.for_each(|line| line.looks += u32::from(known));
        }
        for slot in self.slots.iter().filter(|slot| !slot.rest.is_empty()) {
            if let Some(line) = self.contents[slot.content].lines.last_mut() {
                line.looks = 0;
            }
        }
    }

    fn apply(&mut self, op: Op) {
        let running = self.rig.running.is_some();
        match op {
            Op::Write(slot, lines) => self.write(slot, lines),
            Op::Begin(slot, at) => self.begin(slot, at),
            Op::Rename(slot) => self.rename(slot),
            Op::Create(slot) => self.create(slot),
            Op::CopyTruncate(slot, lines, late) => self.copy_truncate(slot, lines, late),
            Op::Link(slot, ms) => self.link(slot, ms),
            Op::Truncate(slot, lines) => self.truncate(slot, lines),
            Op::Delete(slot) => {
                if let Some(content) = self.current(slot) {
                    self.delete(content);
                }
            }
            Op::DeleteOld(index) => {
                if let Some(content) = self.old().get(index) {
                    self.delete(*content);
                }
            }
            Op::Pack(index, lines, kill) => {
                if let Some(content) = self.old().get(index) {
                    self.pack(*content, lines, kill);
                }
            }
            Op::Pass(ms) => self.pass(ms),
            Op::Look => self.look(),
            Op::Take if running => self.rig.take(),
            Op::Settle(index) if running && index < self.rig.waiting.len() => {
                let id = self.rig.waiting.remove(index).id;
                let now = self.rig.now;
                self.rig.core().handle(Wake::Settled(Settled { id, rejects: vec![] }), now);
            }
            Op::Kill if running => self.ended(),
            Op::KillWithin(steps) => {
                DIES_IN.set(Some(steps));
                if running {
                    self.pass(600);
                } else {
                    // It may get as far as that, or not.
                    self.rig.ended = None;
                    self.rig.now.mono = Duration::ZERO;
                    drop(self.rig.try_start(None));
                }
                DIES_IN.set(None);
                self.ended();
            }
            Op::Stop if running => {
                let now = self.rig.now;
                self.rig.core().handle(Wake::Stop, now);
            }
            Op::Start => self.start(),
            Op::Full(full) => {
                self.full = full;
                self.blind = 3;
                if running {
                    self.rig.core().journal.fails = full;
                }
            }
            Op::Unreadable(unreadable) => {
                self.unreadable = unreadable;
                self.blind = 3;
            }
            Op::Clock(ms) => self.rig.now.unix_ms += ms,
            Op::Take | Op::Settle(_) | Op::Kill | Op::Stop => {}
        }
        self.tell();
    }

    /// Until nothing is left to do.
    fn drain(&mut self) {
        (self.full, self.unreadable) = (false, false);
        for slot in 0..SLOTS {
            self.finish(slot);
        }
        if !self.reads() {
            self.ended();
        }
        self.start();
        self.rig.core().journal.fails = false;
        self.rig.core().tails.values_mut().for_each(|tail| tail.broken = false);
        self.tell();
        for _ in 0..16 {
            self.rig.pass(1200);
            self.rig.settle_down();
            self.rig.settle_all();
        }
    }

    /// Each line has one number. A line that has none was in a file that was truncated or deleted before it was with
    /// the sender, and if an agent had seen it, its bytes are named.
    fn check(&mut self) -> Result<(), TestCaseError> {
        self.drain();
        let messages = self.rig.messages();
        let sent: BTreeSet<&String> = messages.iter().collect();
        prop_assert_eq!(sent.len(), messages.len(), "a line has two numbers: {:?}", messages);
        let losses = self.rig.losses();
        let at_risk: HashSet<(usize, usize)> = self.at_risk.iter().copied().collect();
        for (at, content) in self.contents.iter().enumerate() {
            for line in content.lines.iter().filter(|line| line.passed || line.left_out) {
                prop_assert!(!sent.contains(&line.text), "{:?} was to be passed over", line.text);
            }
            let expected =
                content.lines.iter().enumerate().filter(|(_, line)| !line.passed && !line.left_out);
            for (index, line) in expected.filter(|(_, line)| !sent.contains(&line.text)) {
                prop_assert!(
                    at_risk.contains(&(at, index)),
                    "{:?} is missing; losses: {:?}",
                    line.text,
                    losses
                );
                let covers = |loss: &Value| {
                    let start = loss["start"].as_u64().unwrap();
                    let end = loss["end"].as_u64().unwrap_or(u64::MAX);
                    // Names change; the slot doesn't.
                    let file = loss["file"].as_str().unwrap();
                    let slot = self.rig.dir.path().join(content.path.file_stem().unwrap());
                    file.starts_with(slot.with_extension("").to_str().unwrap())
                        && start <= line.start as u64
                        && end >= line.end as u64
                };
                let named = losses.iter().any(covers);
                prop_assert!(
                    named || line.looks == 0,
                    "{:?} is missing and not named: {:?}",
                    line.text,
                    losses
                );
            }
        }
        let written: usize = self.contents.iter().map(|content| content.lines.len()).sum();
        prop_assert!(sent.len() <= written);
        Ok(())
    }
}

/// The same lives with each `./test`, so that it fails for what was changed and for nothing else; others with a number of cases.
fn cases() -> ProptestConfig {
    let asked: Option<u32> = std::env::var("LOGWEIR_READER_CASES").ok().and_then(|text| text.parse().ok());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(2_026) };
    // Each of the three agents has its share.
    let cases = asked.unwrap_or(10_000) / 3 + 1;
    ProptestConfig { cases, rng_seed, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

fn live(kind: Kind, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut life = Life::new(kind);
    for op in ops {
        life.apply(op);
    }
    life.check()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn rotated_files_match_no_pattern(from_end in any::<bool>(), ops in prop::collection::vec(op(), 1..24)) {
        live(Kind { matches_old: false, max_open_files: 50, from_end, has_rules: false, tells: false }, ops)?;
    }

    #[test]
    fn rotated_files_match(from_end in any::<bool>(), ops in prop::collection::vec(op(), 1..24)) {
        live(Kind { matches_old: true, max_open_files: 50, from_end, has_rules: false, tells: false }, ops)?;
    }

    #[test]
    fn there_are_fewer_handles_than_files(
        matches_old in any::<bool>(), from_end in any::<bool>(), ops in prop::collection::vec(op(), 1..24)) {
        live(Kind { matches_old, max_open_files: 1, from_end, has_rules: false, tells: false }, ops)?;
    }

    #[test]
    fn lines_are_left_out(
        matches_old in any::<bool>(), from_end in any::<bool>(), ops in prop::collection::vec(op(), 1..24)) {
        live(Kind { matches_old, max_open_files: 50, from_end, has_rules: true, tells: false }, ops)?;
    }

    #[test]
    fn the_system_tells_of_changes(
        matches_old in any::<bool>(), from_end in any::<bool>(), few in any::<bool>(),
        ops in prop::collection::vec(op(), 1..24)) {
        let max_open_files = if few { 1 } else { 50 };
        live(Kind { matches_old, max_open_files, from_end, has_rules: false, tells: true }, ops)?;
    }
}
