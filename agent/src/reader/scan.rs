//! Which files are followed.
//!
//! ```text
//! scan ─► new key ─┬─ known to the journal, and the same content ──► read on
//!                  └─ else ──► read from the beginning
//! no longer matched, or deleted: read to its end ─► grace ─► closed (its place stays known) or forgotten
//! ```
//!
//! Invariants: a handle is held from the first sight on, so that a file can be renamed or deleted without loss; a
//! file's place is forgotten only when the file is gone and all that was read of it is sealed.
//!
//! Limits: `max_files` handles; the places of as many files that are left alone, at least of [`MAX_CLOSED`].

use super::core::{Core, GRACE, LOOK, Mode, Moment, RETRY};
use super::locate::{LISTINGS, Locator, Place, Wanted};
use super::notes::{self, Loss};
use crate::files::discover::Match;
use crate::files::identity::{Key, born};
use crate::files::input::Input;
use crate::files::speed::Speed;
use crate::files::tail::Tail;
use crate::journal::recovery::{Found, Verdict, judge};
use crate::journal::state::{Batch, FileEntry, RealPath};
use crate::settings::Reading;
use logweir_proto::line::service_of_path;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Instant;

const MAX_CLOSED: usize = if cfg!(test) { 64 } else { 4096 };

/// Who has been told of so many files has read enough of it.
pub(super) const MOST_NAMED: usize = 10_000;

impl Core {
    /// Looks up the patterns.
    pub(super) fn scan(&mut self, now: Moment) {
        let first = self.scans == 0;
        self.scans += 1;
        self.metrics.scans.inc();
        let begun = Instant::now();
        let mut scan = self.patterns.scan(&self.settings.state_dir);
        let gap = self.pace.after(begun.elapsed());
        if gap > self.settings.scan_interval && !std::mem::replace(&mut self.scans_are_slow, true) {
            tracing::warn!(
                files = scan.files.len(),
                folders = scan.folders.len(),
                gap_seconds = gap.as_secs_f32(),
                "looking up the patterns takes long, so it is done less often, and new files are found later; \
                 narrower patterns, or --exclude for large folders, make it quicker"
            );
        }
        self.scan_at = now.mono + self.settings.scan_interval.max(gap);
        self.may_scan_at = now.mono + gap;
        for tail in self.tails.values_mut().filter(|tail| !tail.spooled) {
            let key = &tail.entry.key;
            let matches = scan.files.contains_key(key) || scan.packed.contains_key(key);
            if tail.matched && !matches {
                // The application may write to it until it opens the new one, however quiet it has been.
                tail.active = now.mono;
            }
            tail.matched = matches;
            tail.fresh = false;
        }
        for (key, found) in scan.files.iter().chain(&scan.packed) {
            if let Some(tail) = self.tails.get_mut(key) {
                if tail.entry.path != found.path {
                    tail.renamed(&found.path, now.mono);
                }
                tail.scanned(found.stamp, now.mono);
            } else if self.settings.once || self.is_ignored(*key, found, now) {
                continue;
            } else if scan.packed.contains_key(key) {
                self.say_packed(&found.path);
            } else if self.alone.get(key) != Some(&found.stamp) {
                self.follow_new(&found.path, now);
            }
        }
        self.alone.retain(|key, _| scan.files.contains_key(key));
        if first && self.settings.once {
            let inputs = scan.files.iter().chain(&scan.packed);
            let begun = inputs.filter(|(key, found)| !self.is_ignored(**key, found, now));
            self.pending = begun.map(|(key, found)| (*key, found.clone())).collect();
        }
        self.find_closed(&scan.files, now);
        self.scanned(&mut scan, now);
        self.open_grown(now);
        self.make_disk_room(now);
        for (path, why) in scan.passed_over {
            self.say_once(&path, &format!("not followed: {why}"));
        }
        self.folders = Some(scan.folders);
    }

    fn is_ignored(&self, key: Key, found: &Match, now: Moment) -> bool {
        is_too_old(&self.settings, found, now) && self.known(key).is_none()
    }

    /// With `once`: files that were found at the start get their handles one after another.
    pub(super) fn follow_pending(&mut self, now: Moment) {
        let mut moved = BTreeMap::new();
        while self.tails.len() + moved.len() < self.settings.max_files.max(1)
            && let Some((key, found)) = self.pending.pop_first()
        {
            match open(&found.path).and_then(|file| Ok((Key::of(&file.metadata()?) == key).then_some(file))) {
                Ok(Some(file)) => self.read_once(key, &found, file, now),
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.missed(key, &found, "unreadable", &error.to_string(), now);
                }
                Ok(None) | Err(_) => {
                    moved.insert(key, found);
                }
            }
        }
        if moved.is_empty() {
            return;
        }
        // They have other names by now, or none.
        let mut scan = self.patterns.scan(&self.settings.state_dir);
        scan.files.append(&mut scan.packed);
        let wanted = |found: &Match| Wanted { paths: [found.path.clone()].into(), read: true };
        let wanted = moved.iter().map(|(key, found)| (*key, wanted(found))).collect();
        let locator = Locator::new(&scan.files, &wanted, LISTINGS);
        for (key, found) in moved {
            match locator.find(key, &[&found.path], |_, _| false) {
                Place::Here(path, file) => self.read_once(key, &Match { path, ..found }, file, now),
                Place::Gone => self.missed(key, &found, "deleted", "it was deleted before its turn", now),
                Place::Unknown => {
                    self.missed(key, &found, "unreadable", "it isn't where it was, nor beside that", now);
                }
            }
        }
    }

    fn read_once(&mut self, key: Key, found: &Match, file: Input, now: Moment) {
        if let Err(error) = self.follow_file(file, &found.path, None, now) {
            self.missed(key, found, "unreadable", &error.to_string(), now);
        }
    }

    /// With `once`: a file that was there at the start, and can't be read.
    fn missed(&mut self, key: Key, found: &Match, reason: &'static str, why: &str, now: Moment) {
        let start = self.known(key).map_or(0, |entry| entry.offset);
        let end = Some(found.stamp.size.max(start));
        if reason == "deleted" && end == Some(start) {
            return;
        }
        self.lose(&Loss { reason, path: &found.path, start, end, batch: None, detail: why }, now);
    }

    /// Follows a file that a pattern matches.
    fn follow_new(&mut self, path: &Path, now: Moment) {
        if self.tails.len() >= self.settings.max_files {
            let max = self.settings.max_files;
            self.say_once(path, &format!("not followed: {max} files are followed already, see --max-files"));
            return;
        }
        match self.follow(path, None, now) {
            Ok(()) => {}
            // It is gone again, or renamed: the next scan sees.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.scan_at = now.mono + LOOK,
            Err(error) => self.say_once(path, &format!("cannot follow it: {error}")),
        }
    }

    /// Opens a file, and follows it from where the journal knows it, or from the beginning.
    fn follow(&mut self, path: &Path, service: Option<&str>, now: Moment) -> io::Result<()> {
        self.follow_file(open(path)?, path, service, now)
    }

    /// The same with a file that is open already.
    pub(super) fn follow_file(
        &mut self,
        file: Input,
        path: &Path,
        service: Option<&str>,
        now: Moment,
    ) -> io::Result<()> {
        let metadata = file.metadata()?;
        let key = Key::of(&metadata);
        if !metadata.is_file() || self.tails.contains_key(&key) || self.done.contains(&key) {
            return Ok(());
        }
        let spooled = service.is_some();
        let file = if spooled { file.as_plain() } else { file };
        let mut known = None;
        if let Some(entry) = self.known(key) {
            let spooled = spooled || self.settings.is_spooled(&entry.path);
            match judge_file(&entry, &file, path, spooled)? {
                Verdict::Same => known = Some(entry),
                verdict => self.lose_rest(&entry, verdict, now),
            }
        } else if !spooled && !self.settings.once {
            known = self.take_renumbered(key, path, &file)?;
        }
        let left = match &known {
            Some(entry) => entry.packed && self.was_read(entry, &file)?,
            None => !spooled && self.leaves_alone(&file, path)?,
        };
        if left {
            return Ok(());
        }
        // Journaled at first sight, so that it is found again wherever it is moved while no agent runs.
        let real = RealPath::of(path);
        let known_so = |entry: &FileEntry| {
            entry.path == path && entry.real == real && entry.closed_ms.is_none() && !entry.at_end
        };
        let news = !known.as_ref().is_some_and(known_so);
        let entry = match known {
            // What was still to be read from the beginning belongs to whom the name says.
            // So does what a link led to, whatever it is called itself.
            Some(entry) if entry.offset > 0 || spooled || (entry.real.is_some() && entry.path != path) => {
                FileEntry { path: path.to_path_buf(), closed_ms: None, at_end: false, ..entry }
            }
            Some(entry) => FileEntry {
                path: path.to_path_buf(),
                service: service_of_path(path),
                closed_ms: None,
                at_end: false,
                ..entry
            },
            None => {
                let service = service.map_or_else(|| service_of_path(path), ToOwned::to_owned);
                Tail::first_entry(&file, path.to_path_buf(), service, 0)?
            }
        };
        self.make_room(now);
        self.contents += 1;
        let max_line = self.settings.max_line_bytes;
        let entry = FileEntry { keys: self.settings.keys.of(path), real, ..entry };
        let mut tail = Tail::new(file, &self.handles, entry, self.contents, max_line)?;
        tail.spooled = spooled;
        // Before there was a journal, nothing was read that it could be a copy of.
        tail.is_own = self.is_first_run && self.scans <= 1;
        (tail.active, tail.read_on) = (now.mono, now.mono);
        tail.speed = Speed::from(tail.entry.offset, now.mono);
        self.release_more(&tail);
        if news {
            self.staged_files.insert(key, tail.entry.clone());
        }
        self.tails.insert(key, tail);
        Ok(())
    }

    /// What is known of a file that isn't followed just now.
    pub(super) fn known(&self, key: Key) -> Option<FileEntry> {
        let newest = self.moved.get(&key).or_else(|| self.staged_files.get(&key));
        let journaled = || {
            let forgotten = self.staged.forgotten.contains(&key);
            self.journal.state().files.get(&key).filter(|_| !forgotten)
        };
        newest.or_else(journaled).cloned()
    }

    /// Other content stands where a file was: what had not been read of it is gone.
    fn lose_rest(&mut self, entry: &FileEntry, verdict: Verdict, now: Moment) {
        let reason = if verdict == Verdict::Truncated { "truncated" } else { "replaced" };
        let detail = "other content stands in its place; what followed, if anything, was not read";
        // A segment goes when all of its lines are settled.
        if !self.settings.is_spooled(&entry.path)
            && self.leave_to_archive(entry, now).is_none()
            && let Some(loss) = Loss::of_rest(entry, reason, detail)
        {
            self.lose(&loss, now);
        }
    }

    /// Notes a loss; it is written with the next commit.
    pub(super) fn lose(&mut self, loss: &Loss<'_>, now: Moment) {
        self.ended.losses += u64::from(loss.is_certain());
        self.lost.push(notes::lost(loss, &self.metrics, now));
    }

    /// Follows the segments of the spool.
    pub(super) fn follow_segments(&mut self, now: Moment) {
        let Some(spool) = &self.spool else { return };
        for path in spool.segments() {
            if self.tails.values().any(|tail| tail.spooled && tail.entry.path == path) {
                continue;
            }
            match self.follow(&path, Some("stdin"), now) {
                Ok(()) => {}
                Err(error) => self.say_once(&path, &format!("cannot read a segment of the spool: {error}")),
            }
        }
    }

    /// Whether stdin has ended, and all of the spool is read.
    pub(super) fn stdin_is_over(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| {
            let read = |path: &Path| self.tails.values().any(|tail| tail.entry.path == path && tail.finished);
            spool.has_ended() && spool.segments().iter().all(|path| read(path))
        })
    }

    /// Whether the spool holds lines that no sealed batch has.
    pub(super) fn spool_is_left(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| {
            let is_read = |path: &Path| {
                let size = path.metadata().map_or(0, |metadata| metadata.len());
                self.tails.values().any(|tail| tail.entry.path == path && tail.entry.offset >= size)
            };
            !self.batcher.is_empty() || !spool.segments().iter().all(|path| is_read(path))
        })
    }

    /// Whether all is read that was to be read once.
    pub(super) fn inputs_are_read(&self) -> bool {
        let stdin = self.spool.is_none() || self.stdin_is_over();
        self.scans > 0 && stdin && self.pending.is_empty() && self.tails.values().all(|tail| tail.finished)
    }

    /// Lets go of files that have come to their end.
    pub(super) fn close_files(&mut self, now: Moment) {
        self.give_up_deleted(now);
        let mut closed = false;
        let finished =
            |tail: &&Tail| tail.finished && !tail.spooled && !self.moved.contains_key(&tail.entry.key);
        let keys: Vec<Key> = self.tails.values().filter(finished).map(|tail| tail.entry.key).collect();
        for key in keys {
            let Some(tail) = self.tails.get_mut(&key) else { continue };
            let left = !tail.matched || tail.unlinked || tail.entry.packed;
            if !self.settings.once {
                // It was at its end when it had been still for the grace; now it isn't, or matches again. What is
                // compressed doesn't grow.
                let still = tail.entry.packed || left && now.mono.saturating_sub(tail.active) >= GRACE;
                if !still || tail.has_news() {
                    tail.finished = false;
                    continue;
                }
            }
            let Some(mut tail) = self.tails.remove(&key) else { continue };
            self.metrics.forget(&tail.entry.path.to_string_lossy());
            if self.settings.once {
                self.done.insert(key);
            }
            if tail.unlinked {
                self.note_archive(&tail.entry, now);
                self.forget(key);
                closed = true;
            } else if left {
                self.staged_files.insert(key, FileEntry { closed_ms: Some(now.unix_ms), ..tail.place() });
                closed = true;
            } else {
                // A read that failed hasn't come to the end.
                self.staged_files.insert(key, FileEntry { at_end: tail.error.is_none(), ..tail.place() });
            }
        }
        if closed {
            self.forget_oldest();
        }
    }

    /// Before the end, with nothing open: files that were read to their end are known as such, so that nobody takes
    /// them for lost when they are deleted while no agent runs.
    pub(super) fn leave_files(&mut self, now: Moment) {
        let mut gone = Vec::new();
        for (key, tail) in self.tails.iter_mut().filter(|(_, tail)| !tail.spooled) {
            if tail.look(now.mono).is_err() || !tail.is_at_end() {
                continue;
            }
            if tail.unlinked {
                gone.push(*key);
            } else {
                self.staged_files.insert(*key, FileEntry { at_end: true, ..tail.place() });
            }
        }
        for key in gone {
            if let Some(mut tail) = self.tails.remove(&key) {
                self.note_archive(&tail.place(), now);
            }
            self.forget(key);
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.staged_files.remove(&key);
        self.staged.forgotten.push(key);
    }

    /// Keeps the number of files that are left alone bounded.
    pub(super) fn forget_oldest(&mut self) {
        let mut closed: BTreeMap<Key, i64> = BTreeMap::new();
        for entry in self.journal.state().files.values().chain(self.staged_files.values()) {
            match entry.closed_ms {
                Some(closed_ms) => closed.insert(entry.key, closed_ms),
                None => closed.remove(&entry.key),
            };
        }
        for key in &self.staged.forgotten {
            closed.remove(key);
        }
        let mut oldest: Vec<(i64, Key)> =
            closed.into_iter().map(|(key, closed_ms)| (closed_ms, key)).collect();
        oldest.sort_unstable();
        // Of what was followed until the paths were changed all can be read on.
        let too_many = oldest.len().saturating_sub(MAX_CLOSED.max(self.settings.max_files));
        for (_, key) in oldest.into_iter().take(too_many) {
            self.forget(key);
        }
    }

    /// Deletes the segments of the spool of which all is settled. Nothing is staged when it is called.
    ///
    /// # Errors
    /// When the journal can't be made durable. A segment that can't be deleted is tried again later.
    pub(super) fn drop_segments(&mut self, now: Moment) -> io::Result<()> {
        let Some(spool) = self.spool.as_ref().filter(|_| self.mode != Mode::Over) else { return Ok(()) };
        let done = |tail: &&Tail| {
            let waiting = |batch: &Batch| batch.pieces.iter().any(|piece| piece.path == tail.entry.path);
            tail.spooled
                && tail.finished
                && tail.error.is_none()
                && !tail.waits(now.mono)
                && !self.moved.contains_key(&tail.entry.key)
                && spool.is_complete(&tail.entry.path)
                && !self.journal.state().batches.values().any(waiting)
        };
        let done: Vec<Key> = self.tails.values().filter(done).map(|tail| tail.entry.key).collect();
        if done.is_empty() {
            return Ok(());
        }
        self.journal.sync()?;
        for key in done {
            let Some(tail) = self.tails.get_mut(&key) else { continue };
            let path = tail.entry.path.clone();
            match self.spool.as_ref().map(|spool| spool.drop_segment(&path)) {
                Some(Err(error)) => {
                    tail.retry_at = Some(now.mono + RETRY);
                    self.say_once(&path, &format!("cannot delete this segment of the spool: {error}"));
                }
                _ => {
                    self.tails.remove(&key);
                    self.forget(key);
                }
            }
        }
        Ok(())
    }

    pub(super) fn say_once(&mut self, path: &Path, what: &str) {
        if self.named.len() < MOST_NAMED && self.named.insert(path.to_path_buf()) {
            tracing::warn!(file = %path.display(), "{what}");
        }
    }
}

/// Whether `--ignore-older` says that it isn't begun with.
pub(super) fn is_too_old(settings: &Reading, found: &Match, now: Moment) -> bool {
    let age_ns = i128::from(now.unix_ms) * 1_000_000 - found.stamp.modified;
    settings.ignore_older.is_some_and(|limit| age_ns > i128::try_from(limit.as_nanos()).unwrap_or(i128::MAX))
}

/// Opens for reading; a pipe in a file's place doesn't block.
pub(super) fn open(path: &Path) -> io::Result<Input> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    Input::of(File::options().read(true).custom_flags(nonblocking).open(path)?)
}

/// Whether `file` holds the content that the journal knew.
pub(super) fn judge_file(entry: &FileEntry, file: &Input, path: &Path, spooled: bool) -> io::Result<Verdict> {
    let plain = spooled.then(|| file.as_plain());
    let file = plain.as_ref().unwrap_or(file);
    if entry.packed != file.is_packed() {
        return Ok(Verdict::Replaced);
    }
    let (metadata, head) = (file.metadata()?, file.head()?);
    if entry.packed && entry.closed_ms.is_some() && entry.fingerprint.begins(&head) {
        // To find its place would be to decompress it, for nothing: it is not read any more.
        return Ok(Verdict::Same);
    }
    let before = file.before(entry.offset, entry.guard.len())?;
    let size = if entry.packed { entry.offset } else { metadata.size() };
    let born = born(&metadata);
    Ok(judge(entry, &Found { path, size, born, head: &head, before: &before, spooled }))
}
