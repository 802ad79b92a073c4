//! Other settings while files are followed.
//!
//! ```text
//! open batch ─ sealed, as its lines were read ─► other patterns, parser, limits ─► the next scan
//!                                                       └─► no pattern names it any more: left alone, its place is kept
//! ```
//!
//! Invariants: all of the settings change between two batches, never within one, since the journal keeps with each
//! batch how its lines were parsed. A file that is left alone has its place in the journal, and is read on from there
//! when a pattern names it again, or by a later run.
//!
//! Limits: the places of files that are left alone are kept as `scan` says; what is written to such a file, and goes
//! before it is named again, is not read and not missed.

use super::core::{Core, Mode, Moment};
use crate::files::discover::Patterns;
use crate::files::identity::Key;
use crate::journal::state::FileEntry;
use crate::settings::Reading;

impl Core {
    /// From now on these settings hold, but for those that are the process' own.
    pub(super) fn take_settings(&mut self, new: Reading, now: Moment) {
        let patterns = match Patterns::new(&new.patterns, &new.exclude) {
            Ok(patterns) => patterns,
            Err(error) => return tracing::error!("{error}; the settings from before stay in force"),
        };
        if self.mode != Mode::Reading {
            return;
        }
        self.seal();
        let old_patterns = std::mem::replace(&mut self.patterns, patterns);
        let other_format = new.format != self.settings.format;
        let (state_dir, guidance) = (self.settings.state_dir.clone(), self.settings.guidance.clone());
        self.settings = Reading { state_dir, guidance, ..new };
        self.parsing = self.settings.parsing();
        self.metrics.rules(&self.settings.rules);
        self.batcher.set_limits(self.settings.limits());
        for tail in self.tails.values_mut() {
            tail.set_keys(self.settings.keys.of(&tail.entry.path));
            if other_format {
                tail.reconsider();
            }
        }
        self.leave_unnamed(&old_patterns, now);
        self.named.clear();
        self.skim.force();
        self.scan_at = now.mono;
    }

    /// Leaves the files alone that the old patterns name, and the new ones don't. What rotation has renamed is named by
    /// neither, and is read to its end.
    fn leave_unnamed(&mut self, old: &Patterns, now: Moment) {
        let taken_out = |path| old.name(path) && !self.patterns.name(path);
        let tails = self.tails.values().filter(|tail| !tail.spooled && taken_out(&tail.entry.path));
        let keys: Vec<Key> = tails.map(|tail| tail.entry.key).collect();
        for key in &keys {
            let Some(mut tail) = self.tails.remove(key) else { continue };
            tracing::debug!(file = %tail.entry.path.display(), offset = tail.entry.offset, "left alone");
            self.metrics.forget(&tail.entry.path.to_string_lossy());
            self.moved.remove(key);
            if tail.unlinked {
                self.forget(*key);
            } else {
                let place = FileEntry { closed_ms: Some(now.unix_ms), ..tail.place() };
                self.staged_files.insert(*key, place);
            }
        }
        if !keys.is_empty() {
            tracing::info!(
                files = keys.len(),
                "no path names these files any more: they are left alone, and their places kept"
            );
            self.forget_oldest();
        }
    }
}
