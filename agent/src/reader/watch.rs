//! Wakes the reader when something happens in a folder. It only ever saves waiting: what it misses, the next scan
//! finds.
//!
//! Limits: [`MAX_FOLDERS`] folders are watched; the others are scanned.

use crate::handoff::Wake;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc::Sender;

const MAX_FOLDERS: usize = 256;

/// The watcher, where there is one.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    complained: bool,
}

impl Watch {
    /// Watches nothing yet. What happens below `state` wakes nobody.
    pub(super) fn new(wake: Sender<Wake>, state: &Path) -> Self {
        let state = state.to_path_buf();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file or a folder is no news: the reader itself does that.
            let news = event.is_ok_and(|event| {
                let closed = matches!(event.kind, EventKind::Access(AccessKind::Close(AccessMode::Write)));
                let accessed = matches!(event.kind, EventKind::Access(_)) && !closed;
                let own = !event.paths.is_empty() && event.paths.iter().all(|path| path.starts_with(&state));
                !accessed && !own
            });
            if news {
                // When the channel is full, a look is pending.
                drop(wake.try_send(Wake::Look));
            }
        });
        let mut watch = Self { watcher: None, watched: BTreeSet::new(), complained: false };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.complain(&error),
        }
        watch
    }

    /// Watches these folders, and no others.
    pub(super) fn folders(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(mut watcher) = self.watcher.take() else { return };
        let (mut failed, mut watched) = (None, BTreeSet::new());
        for folder in folders.iter().filter(|folder| folder.is_dir()).take(MAX_FOLDERS) {
            if self.watched.contains(folder) {
                watched.insert(folder.clone());
                continue;
            }
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder.clone());
                }
                Err(error) => failed = Some(error),
            }
        }
        for folder in self.watched.difference(&watched) {
            // A folder that is gone isn't watched any more anyway.
            drop(watcher.unwatch(folder));
        }
        self.watched = watched;
        self.watcher = Some(watcher);
        if let Some(error) = failed {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("cannot watch all folders: {error}; they are looked up at intervals");
        }
    }
}
