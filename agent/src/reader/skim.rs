//! Looks that cost little, where the system tells of changes.
//!
//! ```text
//! each second ─► every folder as it was, and the system tells all? ─┬─ yes ─► nothing to look up (for 10 s at most)
//!                                                                   └─ no ──► scan: every pattern, every file
//! a name that the system told ─► that file is looked at
//! ```
//!
//! A scan asks for the size of each file. Where files are quiet that is most of what an agent costs, so it is left out
//! while nothing speaks against it: a new, renamed or deleted file changes its folder's time, and the system tells that
//! a file has grown.
//!
//! Invariants: what the system tells is believed only for folders that are watched, on file systems of this machine
//! alone, and for files that lie there under no other name: links, hard links, other file systems, and whatever can't be
//! read or followed just now are looked up each second. After an event that was dropped everything is.
//!
//! Limits: a change that the system should have told and didn't (a file written through shared memory without another
//! call) is seen within [`FULL`]. At most [`MAX_TOLD`] names are kept between two steps.

use super::core::{Core, Moment, Pace};
use crate::files::discover::{Mark, Scan};
use crate::files::tail::{Left, Tail};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// All is looked up after so long, whatever is told.
pub(super) const FULL: Duration = Duration::from_secs(10);

/// A folder that was changed less than this before it was listed may change again without another time: clocks of file
/// systems tick some hundred times a second, and some of them once in two seconds.
pub(super) const SETTLED: Duration = Duration::from_secs(2);

/// More names than this are no longer told apart.
const MAX_TOLD: usize = 4096;

/// What the watcher has heard since it was last asked.
#[derive(Debug, Default, Clone)]
pub(super) struct Told(Arc<Mutex<News>>);

/// Files that have grown, by the names under which they are watched.
#[derive(Debug, Default)]
pub(super) struct News {
    names: HashSet<PathBuf>,
    /// Whether something else has happened.
    others: bool,
}

impl News {
    /// What has grown.
    #[cfg(test)]
    pub(super) fn names(self) -> HashSet<PathBuf> {
        self.names
    }
}

impl Told {
    /// These have grown. Whether nothing had grown since somebody asked.
    pub(super) fn grown(&self, names: Vec<PathBuf>) -> bool {
        let mut news = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = news.names.is_empty();
        for name in names {
            if news.names.len() < MAX_TOLD {
                news.names.insert(name);
            } else {
                news.others |= !news.names.contains(&name);
            }
        }
        first
    }

    /// Something else has happened, or was dropped.
    pub(super) fn dropped(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).others = true;
    }

    /// All that there was.
    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What speaks for and against looking everything up.
#[derive(Debug)]
pub(super) struct Skim {
    /// The folders as they were before they were last listed.
    marks: BTreeMap<PathBuf, Option<Mark>>,
    /// Whether these, and what is told, tell of everything that could happen to what was found then.
    plain: bool,
    /// Whether the system tells what happens in all of the folders, and did so already before they were listed.
    told: bool,
    /// Something has happened, or was dropped.
    forced: bool,
    /// When everything is looked up at the latest.
    full_at: Duration,
    pace: Pace,
    /// See [`SETTLED`].
    pub(super) settled: Duration,
    /// Files that have grown and were not looked at yet.
    grown: HashSet<PathBuf>,
}

impl Default for Skim {
    fn default() -> Self {
        Self {
            marks: BTreeMap::new(),
            plain: false,
            told: false,
            forced: false,
            full_at: Duration::ZERO,
            pace: Pace::default(),
            settled: SETTLED,
            grown: HashSet::new(),
        }
    }
}

impl Skim {
    /// All folders are watched, and the system tells all; or not.
    pub(super) fn set_told(&mut self, told: bool) {
        self.told = told;
    }

    /// Names have changed: the next scan is a whole one.
    pub(super) fn force(&mut self) {
        self.forced = true;
    }
}

impl Core {
    /// Takes in what the watcher has heard.
    pub(super) fn told(&mut self, news: News) {
        self.skim.forced |= news.others;
        self.skim.grown.extend(news.names);
        if self.skim.grown.len() > MAX_TOLD {
            self.skim.grown.clear();
            self.skim.forced = true;
        }
    }

    /// Everything was looked up, and `files` is what was found.
    pub(super) fn scanned(&mut self, scan: &mut Scan, now: Moment) {
        let skim = &mut self.skim;
        let settled = |mark: &Mark| mark.is_older_than(scan.begun, skim.settled);
        skim.plain = scan.plain
            && scan.marks.values().flatten().all(settled)
            && distinct(scan.marks.values().flatten())
            && scan.files.keys().all(|key| self.tails.contains_key(key));
        skim.marks = std::mem::take(&mut scan.marks);
        skim.full_at = now.mono + FULL;
        skim.forced = false;
    }

    /// Whether it is enough that the folders are as they were; else a scan is due.
    pub(super) fn skim(&mut self, now: Moment) -> bool {
        if !self.is_told() || now.mono >= self.skim.full_at || !self.tails.values().all(is_in_place) {
            return false;
        }
        let begun = std::time::Instant::now();
        let same = self.skim.marks.iter().all(|(folder, mark)| Mark::of(folder) == *mark);
        let gap = self.skim.pace.after(begun.elapsed());
        if same {
            self.scan_at = now.mono + self.settings.scan_interval.max(gap);
        }
        same
    }

    /// Whether the system tells what happens to the files that are followed under their names.
    fn is_told(&self) -> bool {
        self.skim.told && self.skim.plain && !self.skim.forced && !self.settings.once
    }

    /// Whether nothing can have happened to this file, and nothing is to be done with it.
    pub(super) fn is_quiet(&self, tail: &Tail) -> bool {
        self.is_told()
            && is_in_place(tail)
            && !tail.spooled
            && !tail.finished
            && !tail.dirty
            && tail.error.is_none()
            && tail.left == Left::Nothing
            && tail.is_at_end()
            && tail.shown == Some(0)
            && !self.skim.grown.contains(&tail.entry.path)
    }

    /// Looks at a file that has grown as the system tells, and is closed or was looked at before that.
    pub(super) fn look_where_told(&mut self, tail: &mut Tail, now: Moment) {
        if !self.skim.grown.is_empty() && self.skim.grown.remove(&tail.entry.path) {
            tail.fresh = false;
            if !tail.is_open() && tail.look(now.mono).is_err() {
                // It isn't there any more: a scan finds out what became of it.
                self.skim.force();
            }
        }
    }

    /// All files have had their look.
    pub(super) fn looked_at_all(&mut self) {
        self.skim.grown.clear();
    }
}

/// Whether it lies where it is watched, with the content that was read.
fn is_in_place(tail: &Tail) -> bool {
    tail.spooled || (tail.matched && !tail.unlinked && tail.changed.is_none())
}

/// Whether each folder has one name only: the system tells but one of them.
fn distinct<'a>(marks: impl Iterator<Item = &'a Mark>) -> bool {
    let mut keys = HashSet::new();
    marks.map(|mark| mark.key).all(|key| keys.insert(key))
}
