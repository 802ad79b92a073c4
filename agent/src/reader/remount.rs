//! A file system that is mounted again while the agent runs: its files may have another device number then.
//!
//! Invariant: the place moves from the old key to the new one in one record of the journal, with all that was read.

use super::core::Core;
use super::scan::judge_file;
use crate::files::identity::Key;
use crate::files::input::Input;
use crate::files::tail::Tail;
use crate::journal::recovery::Verdict;
use crate::journal::state::FileEntry;

use std::io;
use std::path::Path;

impl Core {
    /// What is known of the file under another device number: the same inode, path and content, while the old one is
    /// found no more.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn take_renumbered(
        &mut self,
        key: Key,
        path: &Path,
        file: &Input,
    ) -> io::Result<Option<FileEntry>> {
        let other = |old: &Key| old.inode() == key.inode() && old.device() != key.device();
        let followed =
            self.tails.values().filter(|tail| other(&tail.entry.key) && !tail.matched && !tail.spooled);
        let journaled = self.journal.state().files.values().filter(|entry| {
            other(&entry.key)
                && !self.tails.contains_key(&entry.key)
                && !self.staged.forgotten.contains(&entry.key)
        });
        let entries = followed.map(|tail| &tail.entry).chain(journaled);
        let Some(old) =
            entries.filter(|entry| entry.path == path && entry.offset > 0).map(|entry| entry.key).next()
        else {
            return Ok(None);
        };
        let entry = match self.tails.get_mut(&old).map(Tail::place) {
            Some(place) => {
                self.moved.insert(old, place.clone());
                place
            }
            None => match self.known(old) {
                Some(entry) => entry,
                None => return Ok(None),
            },
        };
        if judge_file(&entry, file, path, false)? != Verdict::Same {
            return Ok(None);
        }
        tracing::info!(
            file = %path.display(),
            offset = entry.offset,
            "its file system was mounted again, under another device number; it is read on from where it was"
        );
        self.tails.remove(&old);
        self.moved.remove(&old);
        let entry = FileEntry { key, ..entry };
        self.moved.insert(key, entry.clone());
        self.seal();
        self.staged_files.append(&mut self.moved);
        self.forget(old);
        Ok(Some(entry))
    }
}
