//! copytruncate: a file is copied beside, then emptied, and the application goes on writing to it.
//!
//! ```text
//! app.log    ├─ read ─┼─ unread ─┤   ── copied ──►   app.log.1   ├─ not read again ─┼─ read from here ─┤
//!    └── emptied: read from its beginning
//! ```
//!
//! The copy matters only where a pattern matches it too: then it is the old content under another inode. It is read on
//! from the place up to which the original was read, and nothing of it is lost or counted twice.
//!
//! Invariants: a file of which nothing is read yet waits while it may be such a copy in the making. The place moves from
//! original to copy in one record of the journal. A file that only begins like another one is a file of its own.
//!
//! Limits: the copy is in the original's folder, and its name leads to the same service (`app.log.1`, `app.log-20261124`).
//! What is written between the copy and the truncation is gone, whoever reads.

use super::core::{Core, GRACE, Moment};
use super::scan::open;
use crate::files::identity::{Checksum, GUARD_BYTES};
use crate::files::input::Input;
use crate::files::tail::Tail;
use crate::files::trail::Trail;
use crate::journal::state::FileEntry;
use logweir_proto::line::service_of_path;
use std::io;
use std::path::Path;

/// How many bytes of a growing copy are compared with the original's.
const COMPARED_BYTES: usize = 256;

/// Whether the names are those of a file and of a copy that rotation made of it.
pub(super) fn are_related(original: &Path, copy: &Path) -> bool {
    original.parent() == copy.parent() && service_of_path(original) == service_of_path(copy)
}

/// The entry of `file`, when it is a copy of the entry's content: up to where it needs not be read.
///
/// What was written between the copy and the truncation may have been read before it was gone. Then the copy holds less
/// than what was read, and the last place of the trail that it has shows whose copy it is.
///
/// # Errors
/// When it can't be read.
pub(super) fn place_in_copy(entry: &FileEntry, trail: &Trail, file: &Input) -> io::Result<Option<FileEntry>> {
    // How much a compressed one holds is seen by whether the guard is in it.
    let len = if file.is_packed() { u64::MAX } else { file.metadata()?.len() };
    let (head, known) = (file.head()?, entry.fingerprint);
    let whole = (entry.offset <= len).then_some((entry.offset, entry.guard));
    let Some((place, guard)) = whole.or_else(|| trail.within(len)) else { return Ok(None) };
    // Of a short file the fingerprint covers what was written after the copy, too; then it is the guard that tells.
    let is_longer = known.len() > head.len() && guard.len() > 0;
    // A copy may have less of what was not begun with.
    let other = entry.unread.is_some_and(|unread| head.len() >= unread.len() && !unread.begins(&head));
    let begins = known.len() > 0 && (known.begins(&head) || is_longer) && !other;
    if !begins || !guard.is_of(&file.before(place, guard.len())?) {
        return Ok(None);
    }
    let fingerprint = if is_longer { Checksum::of(&head) } else { known };
    if whole.is_some() {
        return Ok(Some(FileEntry { fingerprint, unread: None, ..entry.clone() }));
    }
    let guard = Checksum::of(&file.before(len, GUARD_BYTES)?);
    Ok(Some(FileEntry { offset: len, fingerprint, guard, trail: Trail::default(), ..entry.clone() }))
}

/// Whether a file holds all that was read of the entry's content.
///
/// # Errors
/// When it can't be read.
pub(super) fn holds_content(entry: &FileEntry, file: &Input) -> io::Result<bool> {
    Ok(place_in_copy(entry, &Trail::default(), file)?.is_some())
}

impl Core {
    /// Whether a file has to wait, since it may be a copy of what was read already.
    pub(super) fn may_be_copy(&self, tail: &mut Tail, now: Moment) -> io::Result<bool> {
        if tail.is_own || tail.entry.offset > 0 || tail.spooled || self.settings.once {
            return Ok(false);
        }
        let head = tail.with_file(Input::head)?;
        if head.is_empty() {
            return Ok(false);
        }
        let originals = self.tails.values().filter(|other| other.entry.offset > 0 && !other.spooled);
        for other in originals.filter(|other| is_beside(&other.entry, tail)) {
            if is_copy_of(tail, &head, other, now)? {
                return Ok(true);
            }
        }
        tail.is_own = true;
        Ok(false)
    }

    /// The content of a file is another, or gone: its old content is read on in a copy, where there is one. Up to where
    /// nothing of it is lost.
    pub(super) fn leave_to_copy(&mut self, old: &FileEntry, trail: &Trail, now: Moment) -> Option<u64> {
        for tail in self.tails.values_mut() {
            let candidate = !tail.is_own && !tail.spooled && tail.entry.offset == 0 && is_beside(old, tail);
            let place = |file: &Input| place_in_copy(old, trail, file);
            let Some(place) = candidate.then(|| tail.with_file(place).ok().flatten()).flatten() else {
                continue;
            };
            if tail.adopt(&place).is_err() {
                continue;
            }
            tracing::info!(
                file = %tail.entry.path.display(),
                copy_of = %old.path.display(),
                offset = place.offset,
                "it is a copy of what the other file held, and read on from there"
            );
            tail.active = now.mono;
            let place = tail.place();
            self.moved.insert(place.key, place);
            return Some(tail.size.max(old.offset));
        }
        None
    }
}

/// [`are_related`] of files that are followed, whose services say so.
fn is_beside(original: &FileEntry, copy: &Tail) -> bool {
    original.service == copy.entry.service && original.path.parent() == copy.entry.path.parent()
}

/// Whether `tail` is, as far as it goes, what `other` holds or held.
fn is_copy_of(tail: &Tail, head: &[u8], other: &Tail, now: Moment) -> io::Result<bool> {
    let known = other.entry.fingerprint;
    if known.len() <= head.len() && !known.begins(head) {
        return Ok(false);
    }
    if !other.is_open() && other.missing > 0 {
        // The next scans find out what became of it.
        return tail.with_file(|copy| Ok(place_in_copy(&other.entry, &other.trail, copy)?.is_some()));
    }
    let compared = other.with_file(|original| {
        if !other.is_intact(original)? {
            // A copy is complete before the original is emptied. Whose it is is decided when that is looked at.
            let place = |copy: &Input| place_in_copy(&other.entry, &other.trail, copy);
            return Ok(known.begins(head) || tail.with_file(place)?.is_some());
        }
        let end = |file: &Input| file.before(tail.size, COMPARED_BYTES);
        let same = tail.with_file(end)? == end(original)?;
        let begins = original.head()?.starts_with(head);
        // Emptied meanwhile: as above.
        let alike = (begins && same) || !other.is_intact(original)?;
        Ok(alike && now.mono.saturating_sub(tail.active) < GRACE)
    });
    // Not where it was, and not yet missed: so it may be the original.
    compared.or_else(|error| Ok(!other.is_open() && error.kind() == io::ErrorKind::NotFound))
}

impl Tail {
    /// Calls `f` with its handle, or one that is opened for this.
    ///
    /// # Errors
    /// Those of `f`, and when it can't be opened.
    pub(super) fn with_file<T>(&self, f: impl FnOnce(&Input) -> io::Result<T>) -> io::Result<T> {
        match self.handle() {
            Some(file) => f(file),
            None => f(&open(&self.entry.path)?),
        }
    }
}
