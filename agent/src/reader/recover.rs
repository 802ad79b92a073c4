//! What an earlier run left: batches to be sent again, and files to be read on.
//!
//! ```text
//! unsettled batch ─► its pieces' bytes ─┬─ the same ──► parsed again ──► the same events, the same numbers
//!                                       └─ others, or gone ──► maybe counted: reported, its numbers are given up
//! known file ─► the same content ──► read on │ other content, gone ──► the rest is reported
//! ```
//!
//! Invariant: nothing but the very bytes of a number's event is ever sent under that number.

use super::archives::{DECODING, Rest, beside, rest_of};
use super::copies::{are_related, place_in_copy};
use super::core::Moment;
use super::locate::{Locator, Place, Wanted};
use super::notes::{self, Loss};
use super::scan::{judge_file, open};
use crate::batch::length;
use crate::files::discover::Match;
use crate::files::identity::{Key, born};
use crate::files::input::Input;
use crate::files::lines::{Splitter, Step, checksum};
use crate::handoff::{ReadError, Sealed};
use crate::journal::recovery::{Verdict, parts};
use crate::journal::state::{Batch, FileEntry, Parsing, Piece, State};
use crate::metrics::Metrics;
use crate::settings::Reading;
use jiff::tz::TimeZone;
use logweir_proto::line::{Assembly, Carry, Keys, Next, Rules, Settings, service_of_path};
use regex::bytes::Regex;
use serde_json::Value;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What comes out of it.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The journal's state, with what is given up taken out.
    pub(super) state: State,
    /// Batches to be sent again.
    pub(super) sealed: Vec<Sealed>,
    /// Records for the losses file.
    pub(super) lost: Vec<Value>,
    /// How many of those are certain, or may have been counted.
    pub(super) certain: u64,
    /// Files to be read on, whatever their names are by now.
    pub(super) found: Vec<(PathBuf, Input)>,
}

/// What recovery works with.
#[derive(Debug)]
pub(super) struct Recovery<'a> {
    pub(super) settings: &'a Reading,
    pub(super) metrics: &'a Metrics,
    pub(super) matched: &'a BTreeMap<Key, Match>,
    pub(super) locator: Locator,
    /// The compressed files that were looked into, by folder and service.
    pub(super) archives: RefCell<BTreeMap<(PathBuf, String), Vec<Input>>>,
    pub(super) now: Moment,
}

/// The files that a state speaks of.
pub(super) fn wanted(state: &State) -> BTreeMap<Key, Wanted> {
    let mut all: BTreeMap<Key, Wanted> = BTreeMap::new();
    for entry in state.files.values() {
        let wanted = all.entry(entry.key).or_default();
        wanted.paths.extend(entry.paths().map(Path::to_path_buf));
        wanted.read = entry.closed_ms.is_none();
    }
    for piece in state.batches.values().flat_map(|batch| &batch.pieces) {
        let wanted = all.entry(piece.key).or_default();
        wanted.paths.insert(piece.path.clone());
        wanted.read = true;
    }
    all
}

impl Recovery<'_> {
    /// Goes through all that the journal knows.
    ///
    /// # Errors
    /// When a batch can't be parsed as it was, since this machine lacks the time zone.
    pub(super) fn run(self, old: &State) -> Result<Recovered, ReadError> {
        let mut out = Recovered::default();
        for batch in old.batches.values() {
            self.batch(batch, old, &mut out)?;
        }
        let mut changed: Vec<_> = old.files.values().filter_map(|entry| self.file(entry, &mut out)).collect();
        // When it is known which files are others.
        // Of two that one compressed file may hold, the one of which more was read.
        changed.sort_by_key(|(entry, _)| Reverse(entry.offset));
        for (entry, reason) in changed {
            let deleted = reason == "deleted";
            let is_elsewhere = (deleted && self.leave_to_archive(entry, &mut out))
                || (!(deleted && entry.at_end) && self.leave_to_copy(entry, &mut out))
                || (!deleted && self.leave_to_archive(entry, &mut out));
            if !is_elsewhere {
                self.lose_rest(entry, reason, &mut out);
            }
        }
        Ok(out)
    }

    fn batch(&self, batch: &Batch, old: &State, out: &mut Recovered) -> Result<(), ReadError> {
        let settings = parser(&batch.parsing, self.settings)?;
        let mut events = Vec::new();
        for piece in &batch.pieces {
            match self.events(piece, &settings, old) {
                Lines::Here(lines) => events.push(Some(lines)),
                Lines::Lost => events.push(None),
                Lines::Unknown => {
                    let (path, id) = (piece.path.display(), batch.id);
                    tracing::warn!(file = %path, batch = %id, "a batch can't be sent again now, since its file's folder \
                        can't be read or is not mounted; it is kept for the next start");
                    out.state.batches.insert(id, batch.clone());
                    return Ok(());
                }
            }
        }
        let there: Vec<bool> = events.iter().map(Option::is_some).collect();
        let mut events = batch.pieces.iter().zip(events).filter_map(|(_, events)| events);
        for part in parts(batch, &there) {
            let body: Vec<u8> = events.by_ref().take(part.pieces.len()).flatten().collect();
            out.sealed.push(Sealed::new(part.id, part.events(), &body));
            out.state.batches.insert(part.id, part);
        }
        let mut passed = 0;
        for (piece, there) in batch.pieces.iter().zip(there) {
            if !there {
                let id = batch
                    .id
                    .seq
                    .plus(passed)
                    .map_or(batch.id, |seq| logweir_proto::BatchId { seq, ..batch.id });
                let loss = Loss {
                    reason: "maybe_counted",
                    path: &piece.path,
                    start: piece.start,
                    end: Some(piece.end),
                    batch: Some((id, piece.events)),
                    detail: "an attempt to send these lines may have been taken; they are not in the file any more, \
                             so they can't be sent again",
                };
                self.lose(&loss, out);
            }
            passed += piece.events;
        }
        Ok(())
    }

    /// The events of a piece, where its bytes are still there.
    fn events(&self, piece: &Piece, settings: &Settings, old: &State) -> Lines {
        let known = old.files.get(&piece.key).into_iter().flat_map(FileEntry::paths);
        let paths: Vec<&Path> = std::iter::once(piece.path.as_path()).chain(known).collect();
        let right = |_: &Path, file: &Input| bytes_of(piece, file).is_some();
        let bytes = match self.locator.find(piece.key, &paths, right) {
            Place::Here(_, file) => bytes_of(piece, &file),
            Place::Gone => None,
            Place::Unknown => return Lines::Unknown,
        };
        let bytes = bytes.or_else(|| self.copied(piece, old));
        bytes.and_then(|bytes| parse(piece, &bytes, settings)).map_or(Lines::Lost, Lines::Here)
    }

    /// The same bytes at the same place of a copy.
    fn copied(&self, piece: &Piece, old: &State) -> Option<Vec<u8>> {
        let copies = self.matched.values().filter(|found| are_related(&piece.path, &found.path));
        let mut copies = copies.filter_map(|found| bytes_of(piece, &open(&found.path).ok()?));
        copies.next().or_else(|| self.archived(piece, old))
    }

    /// The same bytes, compressed, in a file that begins like one that is known.
    fn archived(&self, piece: &Piece, old: &State) -> Option<Vec<u8>> {
        let mut archives = self.archives.borrow_mut();
        let folder = piece.path.parent()?.to_path_buf();
        let service = service_of_path(&piece.path);
        let open = || beside(&piece.path).iter().filter_map(|path| open(path).ok()).collect::<Vec<Input>>();
        let files = archives.entry((folder, service)).or_insert_with(open);
        let known = |entry: &&FileEntry| entry.fingerprint.len() > 0 && are_related(&piece.path, &entry.path);
        let entries = old.files.values().filter(known);
        let may = |file: &&Input| {
            let begins = |entry: &FileEntry| file.head().is_ok_and(|head| entry.fingerprint.begins(&head));
            file.is_packed() && entries.clone().any(begins)
        };
        files.iter().filter(may).find_map(|file| bytes_of(piece, file))
    }

    /// Where the file is; or why it isn't the same any more.
    fn file<'e>(&self, entry: &'e FileEntry, out: &mut Recovered) -> Option<(&'e FileEntry, &'static str)> {
        let spooled = self.settings.is_spooled(&entry.path);
        let same = |path: &Path, file: &Input| {
            entry.fingerprint.len() > 0
                && judge_file(entry, file, path, spooled).is_ok_and(|v| v == Verdict::Same)
        };
        let paths: Vec<&Path> = entry.paths().collect();
        match self.locator.find(entry.key, &paths, same) {
            Place::Here(path, file) => match judge_file(entry, &file, &path, spooled) {
                Ok(Verdict::Same) => {
                    let key = file.metadata().map_or(entry.key, |metadata| Key::of(&metadata));
                    out.state.files.insert(key, FileEntry { key, path: path.clone(), ..entry.clone() });
                    if out.found.len() >= DECODING {
                        file.release();
                    }
                    if entry.closed_ms.is_none() && !spooled && !(entry.packed && entry.at_end) {
                        out.found.push((path, file));
                    }
                }
                Ok(verdict) if !spooled => {
                    return Some((
                        entry,
                        if verdict == Verdict::Truncated { "truncated" } else { "replaced" },
                    ));
                }
                Ok(_) => {}
                Err(error) => self.keep(entry, &error.to_string(), out),
            },
            Place::Gone if spooled => {}
            Place::Gone => return Some((entry, "deleted")),
            Place::Unknown => self.keep(entry, "its folder can't be read, or is not mounted", out),
        }
        None
    }

    /// Finds a copy of a file's old content that a pattern matches, and of which nothing was read.
    fn leave_to_copy(&self, entry: &FileEntry, out: &mut Recovered) -> bool {
        for (key, found) in self.matched.iter().filter(|(_, found)| are_related(&entry.path, &found.path)) {
            let unread = out.state.files.get(key).is_none_or(|known| known.offset == 0);
            let Ok(file) = open(&found.path) else { continue };
            let Ok(metadata) = file.metadata() else { continue };
            let other = *key != entry.key && found.path != entry.path;
            let right = unread && other && Key::of(&metadata) == *key;
            let held = if right { place_in_copy(entry, &entry.trail, &file).ok().flatten() } else { None };
            if let Some(held) = held {
                let place = FileEntry {
                    key: *key,
                    path: found.path.clone(),
                    born: born(&metadata),
                    closed_ms: None,
                    at_end: false,
                    ..held
                };
                out.state.files.insert(*key, place);
                out.found.push((found.path.clone(), file));
                return true;
            }
        }
        false
    }

    /// Finds the rest of a file that was compressed and deleted.
    fn leave_to_archive(&self, entry: &FileEntry, out: &mut Recovered) -> bool {
        let known = |key: Key| out.state.files.get(&key).map(|entry| entry.offset);
        let archive = match rest_of(entry, known) {
            Rest::Here(archive) => archive,
            Rest::Known => return true,
            Rest::Nowhere => return false,
        };
        out.state.files.insert(archive.key, archive.entry(entry, None));
        if out.found.len() >= DECODING {
            archive.file.release();
        }
        out.found.push((archive.path, archive.file));
        true
    }

    fn keep(&self, entry: &FileEntry, why: &str, out: &mut Recovered) {
        tracing::warn!(file = %entry.path.display(), "cannot be found: {why}; its place is kept");
        out.state.files.insert(entry.key, entry.clone());
    }

    fn lose_rest(&self, entry: &FileEntry, reason: &'static str, out: &mut Recovered) {
        let detail = "the file was changed while no agent ran; what followed, if anything, was not read";
        if reason == "deleted" && entry.at_end {
            return;
        }
        if let Some(loss) = Loss::of_rest(entry, reason, detail) {
            self.lose(&loss, out);
        }
    }

    fn lose(&self, loss: &Loss<'_>, out: &mut Recovered) {
        out.certain += u64::from(loss.is_certain());
        out.lost.push(notes::lost(loss, self.metrics, self.now));
    }
}

/// What became of a piece's lines.
enum Lines {
    /// Their events.
    Here(Vec<u8>),
    /// The bytes are others, or gone.
    Lost,
    /// Nobody knows just now.
    Unknown,
}

/// The bytes of a piece, if the file has them.
pub(super) fn bytes_of(piece: &Piece, file: &Input) -> Option<Vec<u8>> {
    let len = usize::try_from(piece.end - piece.start).ok()?;
    // A segment of the spool may begin as if it were compressed.
    let views = [Some(file.clone()), file.is_packed().then(|| file.as_plain())];
    views.into_iter().flatten().find_map(|file| {
        if !file.is_packed() && piece.end > file.metadata().ok()?.len() {
            return None;
        }
        let mut bytes = vec![0; len];
        let read = file.read_at(&mut bytes, piece.start).ok()?;
        (read == len && checksum(&bytes) == piece.hash).then_some(bytes)
    })
}

/// The same bytes, parser and state at the start: the same events.
fn parse(piece: &Piece, bytes: &[u8], settings: &Settings) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    walk(piece, bytes, settings, |event, _| out.extend_from_slice(event))?;
    Some(out)
}

/// Where each event of a piece stands in its file.
pub(super) fn ranges(piece: &Piece, bytes: &[u8], settings: &Settings) -> Option<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let at = |offset: usize| piece.start + length(offset);
    walk(piece, bytes, settings, |_, range| ranges.push(at(range.start)..at(range.end)))?;
    Some(ranges)
}

/// Calls `each` with the events of a piece, and where they stand in its bytes; `None` when they aren't as many as it has.
fn walk(
    piece: &Piece,
    bytes: &[u8],
    settings: &Settings,
    mut each: impl FnMut(&[u8], Range<usize>),
) -> Option<()> {
    let settings = Settings {
        file_service: piece.service.clone(),
        origin: piece.origin.clone(),
        keys: piece.keys.clone(),
        ..settings.clone()
    };
    let mut carry = Carry { timestamp_ms: piece.carry_ms, state: piece.parser };
    if piece.start == 0 {
        carry.begin(bytes);
    }
    let mut assembly = Assembly::new(&settings, carry);
    let (mut from, mut at, mut events) = (0, 0, 0);
    let mut take = |assembly: &mut Assembly<'_>, range: Range<usize>| {
        if assembly.take().is_some_and(|facts| facts.filtered.is_none()) {
            each(assembly.event(), range);
            events += 1;
        }
    };
    // What was sent was within its limit at that time.
    let mut splitter = Splitter::new(usize::MAX);
    while at < bytes.len() {
        let (line, taken) = match splitter.next(&bytes[at..], 0, true, assembly.encoding()) {
            Step::Line { bytes, taken } => (bytes, taken),
            Step::Blank { taken } => (&[][..], taken),
            Step::TooLong { .. } | Step::Skipped { .. } | Step::Need => return None,
        };
        match assembly.line(line) {
            Next::Complete => {
                take(&mut assembly, from..at);
                from = at;
                continue;
            }
            Next::Whole => {
                take(&mut assembly, from..at + taken);
                from = at + taken;
            }
            Next::Nothing => from = at + taken,
            Next::Open => {}
        }
        at += taken;
    }
    take(&mut assembly, from..at);
    (events == piece.events).then_some(())
}

/// How the lines of a batch were read.
///
/// # Errors
/// When this machine or this agent can't read them so.
pub(super) fn parser(parsing: &Parsing, now: &Reading) -> Result<Settings, ReadError> {
    let timezone = if parsing.timezone == now.timezone_name {
        now.timezone.clone()
    } else {
        TimeZone::get(&parsing.timezone).map_err(|error| {
            ReadError::State(format!(
                "the journal in {} holds batches whose lines were read with the time zone {}, which this machine \
                 doesn't know ({error}): install it, or send them with --timezone {0} on the machine that does",
                now.state_dir.display(),
                parsing.timezone,
            ))
        })?
    };
    let multiline_start =
        parsing.multiline_start.as_deref().map(Regex::new).transpose().map_err(|error| {
            ReadError::State(format!("the journal holds a --multiline-start that is none: {error}"))
        })?;
    let rules = if parsing.rules == *now.rules.texts() {
        Arc::clone(&now.rules)
    } else {
        let rules = Rules::new(parsing.rules.clone()).map_err(|error| {
            ReadError::State(format!("the journal holds rules that this agent can't apply: {error}"))
        })?;
        Arc::new(rules)
    };
    Ok(Settings {
        format: parsing.format,
        service: parsing.service.clone(),
        file_service: String::new(),
        origin: None,
        keys: Keys::default(),
        default_level: parsing.default_level,
        timezone,
        multiline_start,
        max_event_bytes: parsing.multiline_bytes,
        rules,
    })
}
