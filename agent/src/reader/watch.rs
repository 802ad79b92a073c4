//! Wakes the reader when something happens in a folder. It only ever saves waiting: what it misses, the next scan
//! finds.
//!
//! Limits: [`MAX_FOLDERS`] folders are watched, or as many as the system allows; the others are scanned. What the system
//! drops (its queue overflows, a network's file system tells nothing) is found by the next scan too; the first such
//! case is said in the log.

use super::skim::Told;
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
/// The magic numbers of file systems (statfs(2)) of one machine: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS, bcachefs.
const LOCAL: [u32; 7] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010, 0x2FC1_2FC1, 0xCA45_1A4E];

/// The watcher, where there is one.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Which folder it was (one that is renamed or deleted takes its watch along), and whether the system tells all that
    /// happens in it.
    watched: BTreeMap<PathBuf, (Folder, bool)>,
    complained: bool,
    /// What was heard.
    pub(super) told: Told,
}

impl Watch {
    /// Watches nothing yet. What happens below `state` wakes nobody.
    pub(super) fn new(wake: Sender<Wake>, state: &Path) -> Self {
        let state = state.to_path_buf();
        let overflowed = AtomicBool::new(false);
        let told = Told::default();
        let tell = told.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return tell.dropped() };
            let Some(news) = news(&event, &state, &overflowed) else { return };
            if !matches!(news, Wake::Grown) {
                tell.dropped();
            } else if !tell.grown(event.paths) {
                return;
            }
            // When the channel is full, the reader is about to wake, and takes what was told.
            drop(wake.try_send(news));
        });
        let mut watch = Self { watcher: None, watched: BTreeMap::new(), complained: false, told };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.complain(&error),
        }
        watch
    }

    /// Watches these folders, and no others. Whether the system has told all that happened in them since the last
    /// call, and will until the next one.
    pub(super) fn folders(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        let Some(mut watcher) = self.watcher.take() else { return false };
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
        let there: BTreeMap<PathBuf, Folder> = there.take(MAX_FOLDERS + 1).collect();
        let mut all = there.len() <= MAX_FOLDERS;
        for (folder, _) in self.watched.iter().filter(|(folder, (key, _))| there.get(*folder) != Some(key)) {
            // A folder that is gone isn't watched any more anyway.
            drop(watcher.unwatch(folder));
        }
        for (folder, key) in there.into_iter().take(MAX_FOLDERS) {
            if let Some((_, tells)) = self.watched.get(&folder).filter(|(known, _)| *known == key) {
                all &= tells;
                watched.insert(folder, (key, *tells));
                continue;
            }
            // What happened before it was watched is not told.
            all = false;
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    let tells = tells_all(&folder);
                    watched.insert(folder, (key, tells));
                }
                Err(error) => failed = Some(error),
            }
        }
        self.watched = watched;
        self.watcher = Some(watcher);
        if let Some(error) = failed {
            self.complain(&error);
        }
        all
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

/// Whether the folder's file system belongs to this machine alone, so that nobody else can change it unheard. Of
/// others, and of those that lie over others, nothing is known.
fn tells_all(folder: &Path) -> bool {
    let kind = |stat: rustix::fs::StatFs| u32::try_from(stat.f_type).unwrap_or(0);
    rustix::fs::statfs(folder).is_ok_and(|stat| LOCAL.contains(&kind(stat)))
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
    use std::collections::HashSet;

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
            watch.told.take();
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

    #[test]
    fn what_happens_in_a_watched_folder_is_told() {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (logs, beside) = (dir.path().join("logs"), dir.path().join("beside"));
        std::fs::create_dir(&logs).unwrap();
        let (wake, mut wakes) = tokio::sync::mpsc::channel(8);
        let mut watch = Watch::new(wake, &dir.path().join("state"));
        let folders = BTreeSet::from([logs.clone()]);
        assert!(!watch.folders(&folders), "what happened before is not told");
        assert_eq!(watch.folders(&folders), tells_all(&logs));
        std::fs::write(logs.join("a.log"), "line\n").unwrap();
        let mut names = HashSet::new();
        while !names.contains(&logs.join("a.log")) {
            assert!(wakes.blocking_recv().is_some());
            names.extend(watch.told.take().names());
        }
        // Another folder with the same name has to be watched anew.
        std::fs::rename(&logs, &beside).unwrap();
        std::fs::create_dir(&logs).unwrap();
        assert!(!watch.folders(&folders));
        assert_eq!(watch.folders(&folders), tells_all(&logs));
        watch.told.take();
        std::fs::write(logs.join("b.log"), "line\n").unwrap();
        let mut names = HashSet::new();
        while !names.contains(&logs.join("b.log")) {
            assert!(wakes.blocking_recv().is_some());
            names.extend(watch.told.take().names());
        }
        // Nothing tells what happens in the kernel's own files.
        let folders = BTreeSet::from([logs, "/proc/self".into()]);
        assert!(!watch.folders(&folders) && !watch.folders(&folders));
    }
}
