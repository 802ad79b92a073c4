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
//! Limits: `max_files` handles; the places of [`MAX_CLOSED`] files that are left alone.

use super::core::{Core, GRACE, LOOK, Mode, Moment};
use super::notes::{self, Loss};
use crate::files::identity::{Key, born};
use crate::files::tail::{self, Tail};
use crate::journal::recovery::{Found, Verdict, judge};
use crate::journal::state::FileEntry;
use logweir_proto::line::service_of_path;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

const MAX_CLOSED: usize = 4096;

impl Core {
    /// Looks up the patterns.
    pub(super) fn scan(&mut self, now: Moment) {
        self.scan_at = now.mono + self.settings.scan_interval;
        self.last_scan = now.mono;
        let first = !self.scanned;
        self.scanned = true;
        let scan = self.patterns.scan(&self.settings.state_dir);
        for tail in self.tails.values_mut().filter(|tail| !tail.spooled) {
            tail.matched = scan.files.contains_key(&tail.entry.key);
        }
        for (key, path) in &scan.files {
            if let Some(tail) = self.tails.get_mut(key) {
                if tail.entry.path != *path {
                    tail.renamed(path, now.mono);
                }
            } else if !self.settings.once {
                self.follow_new(path, now);
            } else if first {
                self.pending.push(path.clone());
            }
        }
        for (path, why) in scan.passed_over {
            self.say_once(&path, &format!("not followed: {why}"));
        }
        self.folders = Some(scan.folders);
    }

    /// With `once`: files that were found at the start get their handles one after another.
    pub(super) fn follow_pending(&mut self, now: Moment) {
        while self.tails.len() < self.settings.max_files.max(1)
            && let Some(path) = self.pending.pop()
        {
            if let Err(error) = self.follow(&path, None, now) {
                self.say_once(&path, &format!("cannot read it: {error}"));
            }
        }
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
        file: File,
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
        let mut known = None;
        if let Some(entry) = self.known(key) {
            let spooled = spooled || entry.path.starts_with(self.settings.state_dir.join("spool"));
            match judge_file(&entry, &file, path, spooled)? {
                Verdict::Same => known = Some(entry),
                verdict => self.lose_rest(&entry, verdict, now),
            }
        }
        // Journaled at first sight, so that it is found again wherever it is moved while no agent runs.
        let known_so = |entry: &FileEntry| entry.path == path && entry.closed_ms.is_none() && !entry.at_end;
        let news = !known.as_ref().is_some_and(known_so);
        let entry = match known {
            // What was still to be read from the beginning belongs to whom the name says.
            Some(entry) if entry.offset > 0 || spooled => {
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
        self.contents += 1;
        let mut tail = Tail::new(file, entry, self.contents, self.settings.max_line_bytes)?;
        tail.spooled = spooled;
        tail.active = now.mono;
        if news {
            self.staged_files.insert(key, tail.entry.clone());
        }
        self.tails.insert(key, tail);
        Ok(())
    }

    /// What is known of a file that isn't followed just now.
    fn known(&self, key: Key) -> Option<FileEntry> {
        let newest = self.moved.get(&key).or_else(|| self.staged_files.get(&key));
        let journaled = || {
            let forgotten = self.staged.forgotten.contains(&key);
            self.journal.state().files.get(&key).filter(|_| !forgotten)
        };
        newest.or_else(journaled).cloned()
    }

    /// Other content stands where a file was: what had not been read of it is gone.
    fn lose_rest(&mut self, entry: &FileEntry, verdict: Verdict, now: Moment) {
        // A segment goes when all of its lines are settled.
        if entry.has_no_rest() || entry.path.starts_with(self.settings.state_dir.join("spool")) {
            return;
        }
        let reason = if verdict == Verdict::Truncated { "truncated" } else { "replaced" };
        let detail = "other content stands in its place; what followed, if anything, was not read";
        let (path, start) = (&entry.path, entry.offset);
        self.lose(&Loss { reason, path, start, end: None, batch: None, detail }, now);
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

    /// Whether all is read that was to be read once.
    pub(super) fn inputs_are_read(&self) -> bool {
        let stdin = self.spool.is_none() || self.stdin_is_over();
        self.scanned && stdin && self.pending.is_empty() && self.tails.values().all(|tail| tail.finished)
    }

    /// Lets go of files that have come to their end.
    pub(super) fn close_files(&mut self, now: Moment) {
        let finished = |tail: &&Tail| tail.finished && !self.moved.contains_key(&tail.entry.key);
        let keys: Vec<Key> = self.tails.values().filter(finished).map(|tail| tail.entry.key).collect();
        for key in keys {
            let Some(tail) = self.tails.get_mut(&key) else { continue };
            if tail.spooled {
                self.drop_segment(key, now);
                continue;
            }
            let left = !tail.matched || tail.unlinked;
            if !self.settings.once {
                // It was at its end when it had been still for the grace; now it isn't, or matches again.
                let still = left && now.mono.saturating_sub(tail.active) >= GRACE;
                if !still || tail.has_news() {
                    tail.finished = false;
                    continue;
                }
            }
            let Some(tail) = self.tails.remove(&key) else { continue };
            self.metrics.forget(&tail.entry.path.to_string_lossy());
            if self.settings.once {
                self.done.insert(key);
            }
            if tail.unlinked {
                self.forget(key);
            } else if left {
                self.staged_files.insert(key, FileEntry { closed_ms: Some(now.unix_ms), ..tail.entry });
                self.forget_oldest();
            } else {
                self.staged_files.insert(key, FileEntry { at_end: true, ..tail.entry });
            }
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
                self.staged_files.insert(*key, FileEntry { at_end: true, ..tail.entry.clone() });
            }
        }
        for key in gone {
            self.tails.remove(&key);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: Key) {
        self.staged_files.remove(&key);
        self.staged.forgotten.push(key);
    }

    /// Keeps the number of files that are left alone bounded.
    fn forget_oldest(&mut self) {
        let closed = |entry: &&FileEntry| entry.closed_ms.is_some();
        let closed: Vec<&FileEntry> = self.journal.state().files.values().filter(closed).collect();
        if closed.len() > MAX_CLOSED
            && let Some(oldest) = closed.iter().min_by_key(|entry| entry.closed_ms)
        {
            let key = oldest.key;
            if !self.staged_files.contains_key(&key) {
                self.staged.forgotten.push(key);
            }
        }
    }

    /// Deletes a segment of the spool when all of it is settled, and that is durable.
    fn drop_segment(&mut self, key: Key, now: Moment) {
        let Some(tail) = self.tails.get(&key) else { return };
        let waits = |batch: &crate::journal::state::Batch| {
            batch.pieces.iter().any(|piece| piece.path == tail.entry.path)
        };
        let needed = self.journal.state().batches.values().chain(&self.staged.sealed).any(waits)
            || self.staged_files.contains_key(&key)
            || !self.staged.settled.is_empty()
            || self.mode == Mode::Over;
        let last = self.spool.as_ref().is_none_or(|spool| !spool.is_complete(&tail.entry.path));
        if needed || last {
            return;
        }
        if let Err(error) = self.journal.sync() {
            return self.failed("the journal", &error, now);
        }
        let path = tail.entry.path.clone();
        match self.spool.as_ref().map(|spool| spool.drop_segment(&path)) {
            Some(Err(error)) => self.failed("the spool", &error, now),
            _ => {
                self.tails.remove(&key);
                self.forget(key);
            }
        }
    }

    fn say_once(&mut self, path: &Path, what: &str) {
        // Bounded: who names more files than this has read enough of it.
        if self.named.len() < 10_000 && self.named.insert(path.to_path_buf()) {
            tracing::warn!(file = %path.display(), "{what}");
        }
    }
}

/// Opens for reading; a pipe in a file's place doesn't block.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    File::options().read(true).custom_flags(nonblocking).open(path)
}

/// Whether `file` holds the content that the journal knew.
pub(super) fn judge_file(entry: &FileEntry, file: &File, path: &Path, spooled: bool) -> io::Result<Verdict> {
    let metadata = file.metadata()?;
    let head = tail::head(file)?;
    let before = tail::before(file, entry.offset, entry.guard.len())?;
    let (size, born) = (metadata.size(), born(&metadata));
    Ok(judge(entry, &Found { path, size, born, head: &head, before: &before, spooled }))
}
