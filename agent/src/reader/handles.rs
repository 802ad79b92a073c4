//! Which files are open.
//!
//! ```text
//! something to read ─► open        at its end, and too many are open ─► closed: looked at by name with each scan
//!        ▲                                                                   │
//!        └───────────────────── it has grown ◄───────────────────────────────┤
//!                                                    a named loss ◄── deleted with unread bytes
//! ```
//!
//! Invariants: a file without a name is never closed before it is read to its end. The files that have rested longest
//! are closed first, and one with unread bytes only when there is no other.
//!
//! Limits: `max_open_files` handles, besides the spool's and those of files that are deleted or in the middle of a line
//! that is too long. What is written to a closed file after the last scan, and deleted with it before the next one, is
//! not seen.

use super::core::{Core, LOOK, Moment};
use super::locate::{Locator, Place, Wanted};
use super::notes::Loss;
use super::scan::{judge_file, open};
use crate::files::discover::Match;
use crate::files::identity::Key;
use crate::files::input::Input;
use crate::files::tail::Tail;
use crate::journal::recovery::Verdict;
use crate::settings::Room;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

/// A closed file is gone when so many scans have not found it: one alone can miss a file that is renamed just then.
const GONE_AFTER: u32 = 3;

/// A deleted file of which nothing was read for so long is in the way where its disk is full.
const STUCK: Duration = Duration::from_secs(10);

/// How often the folders are listed for files that have other names by now.
const LISTINGS: usize = 2;

impl Core {
    /// Makes room for one more handle.
    pub(super) fn make_room(&mut self, now: Moment) {
        let most = self.settings.max_open_files.max(1);
        let open = self.handles.count();
        if open < most {
            return;
        }
        let mut resting: Vec<_> = self
            .tails
            .values()
            .filter(|tail| tail.can_rest())
            .map(|tail| (!tail.is_at_end(), !tail.matched, tail.active, tail.entry.key))
            .collect();
        // Several at once, so that it isn't done for each.
        let wanted = (open + 1 - most + most / 8).min(resting.len());
        if wanted == 0 {
            return;
        }
        resting.select_nth_unstable(wanted - 1);
        for (.., key) in resting.into_iter().take(wanted) {
            // It may have lost its name since the last look; then it is not closed.
            if let Some(tail) = self.tails.get_mut(&key)
                && tail.look(now.mono).is_ok()
                && tail.can_rest()
            {
                tail.rest();
            }
        }
    }

    /// Opens a file again. `false` when it isn't where it was: the next scan finds out what became of it.
    pub(super) fn reopen(&mut self, tail: &mut Tail, now: Moment) -> io::Result<bool> {
        self.make_room(now);
        let file = match open(&tail.entry.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if Key::of(&file.metadata()?) != tail.entry.key {
            return Ok(false);
        }
        let entry = tail.entry.clone();
        let same = judge_file(&entry, &file, &entry.path, false)? == Verdict::Same;
        tail.reopen(file, &self.handles, same)?;
        Ok(true)
    }

    /// After a scan: files that are closed and were not found by a pattern. They have other names by now, or none.
    pub(super) fn find_closed(&mut self, matched: &BTreeMap<Key, Match>, now: Moment) {
        let mut missing = BTreeMap::new();
        for (key, tail) in self.tails.iter_mut().filter(|(_, tail)| !tail.is_open() && !tail.matched) {
            if tail.look(now.mono).is_err() {
                let paths = tail.entry.paths().map(Path::to_path_buf).collect();
                missing.insert(*key, Wanted { paths, read: false });
            }
        }
        if missing.is_empty() {
            return;
        }
        let locator = Locator::new(matched, &missing, LISTINGS);
        for key in missing.into_keys() {
            let Some(tail) = self.tails.get_mut(&key) else { continue };
            let paths: Vec<&Path> = tail.entry.paths().collect();
            match locator.find(key, &paths, |_, _| false) {
                Place::Here(path, _) => {
                    tail.missing = 0;
                    tail.renamed(&path, now.mono);
                    // Gone again: the next scan looks for it.
                    drop(tail.look(now.mono));
                }
                Place::Unknown => {}
                Place::Gone => {
                    tail.missing += 1;
                    // Its place is journaled first, so that it can be forgotten.
                    if tail.missing >= GONE_AFTER && !tail.dirty && !self.moved.contains_key(&key) {
                        self.gone(key, now);
                    } else {
                        self.scan_at = self.scan_at.min(now.mono + LOOK);
                    }
                }
            }
        }
    }

    /// A closed file was deleted.
    fn gone(&mut self, key: Key, now: Moment) {
        let Some(tail) = self.tails.remove(&key) else { return };
        let (path, size) = (&tail.entry.path, tail.size);
        let rest = self.leave_to_archive(&tail.entry, now);
        let rest = rest.or_else(|| self.leave_to_copy(&tail.entry, &tail.trail, now));
        let start = rest.unwrap_or(tail.entry.offset);
        // With its place in the copy, if there is one, in one record.
        self.seal();
        self.staged_files.append(&mut self.moved);
        if size > start {
            let detail = "the file was deleted while it was closed, and these bytes of it had not been read; with a \
                          larger --max-open-files it would have been held open";
            self.lose(&Loss { reason: "deleted", path, start, end: Some(size), batch: None, detail }, now);
        } else {
            tracing::info!(file = %path.display(), "the file was deleted; all that was seen of it had been read");
        }
        self.metrics.forget(&path.to_string_lossy());
        self.forget(key);
    }

    /// Gives up files that were deleted so long ago that whoever did it wants their room back.
    pub(super) fn give_up_deleted(&mut self, now: Moment) {
        let limit = self.settings.close_deleted;
        let long =
            |tail: &&Tail| tail.unlinked_since.is_some_and(|since| now.mono.saturating_sub(since) >= limit);
        let due: Vec<Key> = self.hopeless().filter(long).map(|tail| tail.entry.key).collect();
        let detail = "the file was deleted, and these bytes of it could not be read before --close-deleted; it is closed, so \
                      that its room on the disk is free";
        for key in due {
            self.give_up(key, "deleted", detail, now);
        }
    }

    /// After a scan: gives up a deleted file of which nothing can be read just now, where its file system is full. One in
    /// each: there may be room enough then. The one that was deleted first goes first.
    pub(super) fn make_disk_room(&mut self, now: Moment) {
        let stuck = |tail: &&Tail| {
            let since = tail.unlinked_since.map(|since| since.max(tail.read_on));
            since.is_some_and(|since| now.mono.saturating_sub(since) >= STUCK)
        };
        let stuck = self.hopeless().filter(stuck);
        let mut oldest: BTreeMap<u64, (Option<Duration>, Key)> = BTreeMap::new();
        for tail in stuck {
            let (this, key) = ((tail.unlinked_since, tail.entry.key), tail.entry.key);
            oldest.entry(key.device()).and_modify(|first| *first = this.min(*first)).or_insert(this);
        }
        let limit = self.settings.close_deleted_below;
        for (_, key) in oldest.into_values() {
            let full = |file: &Input| is_full(file, limit).unwrap_or(false);
            if self.tails.get(&key).and_then(Tail::handle).is_some_and(full) {
                let detail = "the file was deleted and could not be read on, and its disk has less room than \
                              --close-deleted-below; it is closed, so that its room is free";
                self.give_up(key, "disk_full", detail, now);
            }
        }
    }

    /// Deleted files that may be given up: their places are in the journal.
    fn hopeless(&self) -> impl Iterator<Item = &Tail> {
        self.tails.values().filter(|tail| {
            tail.unlinked && !tail.spooled && !tail.dirty && !self.moved.contains_key(&tail.entry.key)
        })
    }

    fn give_up(&mut self, key: Key, reason: &'static str, detail: &str, now: Moment) {
        let Some(tail) = self.tails.remove(&key) else { return };
        let (path, size) = (&tail.entry.path, tail.size);
        let start = self.leave_to_archive(&tail.entry, now).unwrap_or(tail.entry.offset);
        // With its place there, if it has one, in one record.
        self.seal();
        self.staged_files.append(&mut self.moved);
        if size > start {
            self.lose(&Loss { reason, path, start, end: Some(size), batch: None, detail }, now);
        }
        self.metrics.forget(&path.to_string_lossy());
        self.forget(key);
    }

    /// After a scan: files that are closed and have grown are held open again, where there is room.
    pub(super) fn open_grown(&mut self, now: Moment) {
        let idle = self.tails.values().filter(|tail| tail.can_rest() && tail.is_at_end()).count();
        let room = (self.settings.max_open_files + idle).saturating_sub(self.handles.count());
        let grown = |(_, tail): &(&Key, &Tail)| !tail.is_open() && tail.has_news();
        let grown: Vec<Key> = self.tails.iter().filter(grown).map(|(key, _)| *key).take(room).collect();
        for key in grown {
            if let Some(mut tail) = self.tails.remove(&key) {
                // What can't be opened now is tried again when it is its turn.
                drop(self.reopen(&mut tail, now));
                self.tails.insert(key, tail);
            }
        }
    }
}

/// Whether the file system that holds this file has less room than this for those who aren't root.
fn is_full(file: &Input, limit: Room) -> io::Result<bool> {
    let stat = rustix::fs::fstatvfs(file)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(limit.is_more_than(bytes(stat.f_bavail), bytes(stat.f_blocks)))
}
