//! Wakes the reader when something happens in a folder. It only ever saves waiting: what it misses, the next scan
//! finds.
//!
//! Limits: [`MAX_FOLDERS`] folders are watched, or as many as the system allows; the others are scanned. What the system
//! drops (its queue overflows, a network's file system tells nothing) is found by the next scan too; the first such
//! case is said in the log.

use crate::files::identity::{Key, born};
use crate::handoff::Wake;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::Sender;

const MAX_FOLDERS: usize = 4096;

/// Device and inode, and when it was made: inodes are used again.
type Folder = (Key, Option<i64>);

/// The watcher, where there is one.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Which folder it was: one that is renamed or deleted takes its watch along.
    watched: BTreeMap<PathBuf, Folder>,
    complained: bool,
}

impl Watch {
    /// Watches nothing yet. What happens below `state` wakes nobody.
    pub(super) fn new(wake: Sender<Wake>, state: &Path) -> Self {
        let state = state.to_path_buf();
        let overflowed = AtomicBool::new(false);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Some(news) = event.ok().and_then(|event| news(&event, &state, &overflowed)) {
                // When the channel is full, the reader is about to wake, and scans within a second.
                drop(wake.try_send(news));
            }
        });
        let mut watch = Self { watcher: None, watched: BTreeMap::new(), complained: false };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.complain(&error),
        }
        watch
    }

    /// Watches these folders, and no others.
    pub(super) fn folders(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(mut watcher) = self.watcher.take() else { return };
        let (mut failed, mut watched) = (None, BTreeMap::new());
        if folders.len() > MAX_FOLDERS && !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(
                folders = folders.len(),
                "{MAX_FOLDERS} folders are watched; what happens in the others is seen at the next scan, within a second"
            );
        }
        let there = folders.iter().filter_map(|folder| {
            let metadata = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
            Some((folder.clone(), (Key::of(&metadata), born(&metadata))))
        });
        let there: BTreeMap<PathBuf, Folder> = there.take(MAX_FOLDERS).collect();
        for (folder, _) in self.watched.iter().filter(|(folder, key)| there.get(*folder) != Some(*key)) {
            // A folder that is gone isn't watched any more anyway.
            drop(watcher.unwatch(folder));
        }
        for (folder, key) in there {
            if self.watched.get(&folder) == Some(&key) {
                watched.insert(folder, key);
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder, key);
                }
                Err(error) => failed = Some(error),
            }
        }
        self.watched = watched;
        self.watcher = Some(watcher);
        if let Some(error) = failed {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            let limit = matches!(error.kind, notify::ErrorKind::MaxFilesWatch);
            let remedy =
                if limit { "; raise fs.inotify.max_user_watches (sysctl) to see changes sooner" } else { "" };
            tracing::warn!("cannot watch all folders: {error}; they are looked up once a second{remedy}");
        }
    }
}

/// What an event is worth.
fn news(event: &notify::Event, state: &Path, overflowed: &AtomicBool) -> Option<Wake> {
    if event.need_rescan() {
        if !overflowed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the system's queue of file events overflowed (fs.inotify.max_queued_events); nothing is lost: a scan \
                 finds what it dropped"
            );
        }
        return Some(Wake::Look);
    }
    if !event.paths.is_empty() && event.paths.iter().all(|path| path.starts_with(state)) {
        return None;
    }
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_))
        | EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Wake::Grown),
        // Reading a file or a folder is no news: the reader itself does that.
        EventKind::Access(_) => None,
        _ => Some(Wake::Look),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, Event, Flag, RenameMode};

    #[test]
    fn an_event_is_worth_a_look_where_names_may_have_changed() {
        let worth = |kind: EventKind, path: &str| {
            let event = Event::new(kind).add_path(path.into());
            news(&event, Path::new("/state"), &AtomicBool::new(false)).map(|wake| matches!(wake, Wake::Look))
        };
        let grown = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert_eq!(worth(grown, "/log/a"), Some(false));
        assert_eq!(worth(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/log/a"), Some(false));
        assert_eq!(worth(renamed, "/log/a"), Some(true));
        assert_eq!(worth(EventKind::Create(CreateKind::File), "/log/a"), Some(true));
        assert_eq!(worth(EventKind::Any, "/log/a"), Some(true));
        assert_eq!(worth(read, "/log/a"), None);
        assert_eq!(worth(renamed, "/state/journal"), None);
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let said = AtomicBool::new(false);
        assert!(matches!(news(&overflow, Path::new("/state"), &said), Some(Wake::Look)));
        assert!(said.load(Ordering::Relaxed));
    }

    #[test]
    fn a_folder_that_is_replaced_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, gone) = (dir.path().join("logs"), dir.path().join("gone"));
        let (wake, mut wakes) = tokio::sync::mpsc::channel(100);
        let mut watch = Watch::new(wake, Path::new("/nonexistent"));
        let folders = BTreeSet::from([folder.clone()]);
        for replaced in [false, true, true] {
            if replaced {
                std::fs::rename(&folder, &gone).unwrap();
                std::fs::remove_dir_all(&gone).unwrap();
            }
            std::fs::create_dir(&folder).unwrap();
            watch.folders(&folders);
            std::fs::write(folder.join("app.log"), "line\n").unwrap();
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            // Other news are of the folder itself.
            while !matches!(wakes.try_recv(), Ok(Wake::Grown)) {
                assert!(std::time::Instant::now() < end, "replaced: {replaced}");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            while wakes.try_recv().is_ok() {}
        }
    }
}
