//! What rotation has compressed with gzip.
//!
//! ```text
//! app.log.1      ├─ read ─┼─ unread ─┤   ── compressed, deleted ──►   app.log.2.gz  ├─ passed over ─┼─ read from here ─┤
//! ```
//!
//! While files are followed, a compressed one is read for one reason only: it holds what was not yet read of a file that is
//! gone. It is looked for when such a file is found to be gone, in its folder, by the checksums of what was read. A file
//! that is held open is read on as it is, and its compressed twin is never looked into. With `once` compressed files are
//! inputs like others, and end where they end.
//!
//! Invariants: the place moves from the file to the compressed one in one record of the journal. A compressed file is
//! the rest of one file only. What is wrong with one is said once, and ends it.
//!
//! Limits: only the original's folder is searched, for names that lead to the same service; [`MOST`] of them at a time. To
//! find the place again, all before it is decompressed. [`DECODING`] decoders at a time.

use super::copies::{are_related, holds_content};
use super::core::{Core, GRACE, Moment, RETRY};
use super::notes::Loss;
use super::scan::{MOST_NAMED, open};
use crate::files::discover::is_packed;
use crate::files::identity::{FINGERPRINT_BYTES, Key, Stamp, born};
use crate::files::input::{Flaw, Input};
use crate::files::tail::Tail;
use crate::files::trail::Trail;
use crate::journal::state::{FileEntry, RealPath};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How many compressed files are looked into for one file, the newest first.
const MOST: usize = 64;

/// How many are decompressed at a time; each takes about 0.5 MiB.
pub(super) const DECODING: usize = 4;

/// A compressed file that holds what another one held.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) key: Key,
    pub(super) path: PathBuf,
    pub(super) file: Input,
    pub(super) born: Option<i64>,
}

impl Archive {
    /// The old file's place in it.
    pub(super) fn entry(&self, old: &FileEntry, closed_ms: Option<i64>) -> FileEntry {
        let (key, path, real, born) = (self.key, self.path.clone(), RealPath::of(&self.path), self.born);
        FileEntry {
            key,
            path,
            real,
            born,
            packed: true,
            unread: None,
            closed_ms,
            at_end: false,
            trail: Trail::default(),
            ..old.clone()
        }
    }
}

/// The compressed files beside this one whose names say that they may be of it, the newest first.
pub(super) fn beside(path: &Path) -> Vec<PathBuf> {
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let names = names.filter(|other| is_packed(other) && are_related(path, other));
    let mut found: Vec<_> = names
        .filter_map(|path| {
            let metadata = path.metadata().ok()?;
            metadata.is_file().then(|| (Reverse((metadata.mtime(), metadata.mtime_nsec())), path))
        })
        .collect();
    found.sort();
    found.into_iter().take(MOST).map(|(_, path)| path).collect()
}

/// Where the rest of a file is.
#[derive(Debug)]
pub(super) enum Rest {
    /// In this one, which holds all that was read of it.
    Here(Archive),
    /// In one that was found before, and is or was read on from there or from further on.
    Known,
    /// Nobody knows.
    Nowhere,
}

/// Looks for the one that holds all that was read of the entry's content. `known` says up to where one was read.
pub(super) fn rest_of(entry: &FileEntry, known: impl Fn(Key) -> Option<u64>) -> Rest {
    let mut rest = Rest::Nowhere;
    for archive in candidates(entry) {
        let begins = archive.file.head().is_ok_and(|head| entry.may_be_unread(&head));
        if !begins || !holds_content(entry, &archive.file).unwrap_or(false) {
            continue;
        }
        match known(archive.key) {
            None => return Rest::Here(archive),
            // Of what was not begun nobody can tell whether it is the same.
            Some(read) if entry.offset > 0 && read >= entry.offset => rest = Rest::Known,
            Some(_) => {}
        }
    }
    rest
}

/// Whether a compressed file seems to end where the entry's place is.
///
/// # Errors
/// When it can't be read.
pub(super) fn is_read(entry: &FileEntry, file: &Input) -> io::Result<bool> {
    // Modulo 4 GiB, as the file has it.
    let size = u32::try_from(entry.offset & u64::from(u32::MAX)).map_err(io::Error::other)?;
    Ok(entry.fingerprint.len() > 0 && file.told()? == size && entry.fingerprint.begins(&file.head()?))
}

/// Those that were made after the entry's file.
fn candidates(entry: &FileEntry) -> impl Iterator<Item = Archive> {
    let is_known = !entry.packed && entry.fingerprint.len() > 0;
    // Whoever follows links rotates what they lead to.
    let paths: Vec<PathBuf> = if is_known { entry.paths().flat_map(beside).collect() } else { Vec::new() };
    paths.into_iter().filter_map(|path| {
        let file = open(&path).ok().filter(Input::is_packed)?;
        let metadata = file.metadata().ok()?;
        let (key, born) = (Key::of(&metadata), born(&metadata));
        // Few bytes are easily those of an older file.
        let few = usize::try_from(entry.offset).is_ok_and(|offset| offset < FINGERPRINT_BYTES);
        let older = few && born.zip(entry.born).is_some_and(|(born, original)| born < original);
        (!older).then_some(Archive { key, path, file, born })
    })
}

/// Whether it is being made: what it is made of is still there.
fn is_in_the_making(path: &Path) -> bool {
    is_packed(path) && path.with_extension("").exists()
}

impl Core {
    /// A file is gone, or holds other content: its old content is read on in a compressed file, where there is one. Up to
    /// where nothing of it is lost.
    pub(super) fn leave_to_archive(&mut self, old: &FileEntry, now: Moment) -> Option<u64> {
        let known = |key: Key| {
            let done = || self.done.contains(&key).then_some(u64::MAX);
            let read = self.tails.get(&key).map(|tail| tail.entry.offset);
            read.or_else(|| self.known(key).map(|entry| entry.offset)).or_else(done)
        };
        let archive = match rest_of(old, known) {
            Rest::Here(archive) => archive,
            Rest::Known => return Some(u64::MAX),
            Rest::Nowhere => return None,
        };
        let key = archive.key;
        self.pending.remove(&key);
        self.make_room(now);
        self.contents += 1;
        let entry = archive.entry(old, None);
        let tail = Tail::new(archive.file, &self.handles, entry, self.contents, self.settings.max_line_bytes);
        let mut tail = tail.ok()?;
        self.release_more(&tail);
        tail.matched = false;
        tail.is_own = old.offset > 0;
        tail.active = now.mono;
        tracing::info!(
            file = %archive.path.display(),
            was = %old.path.display(),
            offset = old.offset,
            "it is what the other file held, compressed, and read on from there"
        );
        let upto = tail.size.max(old.offset);
        self.moved.insert(key, tail.place());
        self.tails.insert(key, tail);
        Some(upto)
    }

    /// A file that was read to its end is deleted: where it is left compressed, that was read too.
    pub(super) fn note_archive(&mut self, old: &FileEntry, now: Moment) {
        if let Some(archive) = candidates(old).find(|archive| is_read(old, &archive.file).unwrap_or(false))
            && !self.tails.contains_key(&archive.key)
            && self.known(archive.key).is_none()
        {
            self.staged_files.insert(archive.key, archive.entry(old, Some(now.unix_ms)));
        }
    }

    /// Whether a file of which nothing is known is left alone, since it is compressed.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn leaves_alone(&mut self, file: &Input, path: &Path) -> io::Result<bool> {
        match file.compression()? {
            None => return Ok(false),
            Some(_) if file.is_packed() && self.settings.once => return self.has_twin(file, path),
            Some(_) if file.is_packed() => self.say_packed(path),
            Some(kind) => {
                self.say_once(
                    path,
                    &format!("not read: it is compressed with {kind}, and only gzip can be read"),
                );
            }
        }
        let metadata = file.metadata()?;
        self.alone.insert(Key::of(&metadata), Stamp::of(&metadata));
        Ok(true)
    }

    /// Whether a compressed file that is known was read to its end before.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn was_read(&mut self, entry: &FileEntry, file: &Input) -> io::Result<bool> {
        if entry.closed_ms.is_none() && !entry.at_end {
            return Ok(false);
        }
        if !self.settings.once {
            self.alone.insert(entry.key, Stamp::of(&file.metadata()?));
            return Ok(true);
        }
        let read = is_read(entry, file)?;
        if read {
            self.done.insert(entry.key);
        }
        Ok(read)
    }

    /// Keeps the decoder of a file that was just found again only where there are few.
    pub(super) fn release_more(&self, tail: &Tail) {
        let decoding = |tail: &&Tail| tail.handle().is_some_and(Input::is_decoding);
        if self.tails.values().filter(decoding).count() >= DECODING {
            tail.release();
        }
    }

    /// That compressed files are not read; once for each folder.
    pub(super) fn say_packed(&mut self, path: &Path) {
        let folder = path.parent().unwrap_or(path);
        if self.named.len() < MOST_NAMED && self.named.insert(folder.to_path_buf()) {
            tracing::info!(
                folder = %folder.display(),
                example = %path.display(),
                "compressed files are not read unless they hold the rest of a file that was followed; --once reads them"
            );
        }
    }

    /// With `once`: whether what it is made of is still there, and is read itself.
    fn has_twin(&self, file: &Input, path: &Path) -> io::Result<bool> {
        let path = path.with_extension("");
        let Ok(original) = open(&path) else { return Ok(false) };
        let key = Key::of(&original.metadata()?);
        let is_input =
            self.tails.contains_key(&key) || self.done.contains(&key) || self.pending.contains_key(&key);
        let head = file.head()?;
        let is_twin = is_input && !head.is_empty() && original.head()?.starts_with(&head);
        if is_twin {
            tracing::info!(file = %path.display(), "it stands there compressed too, and is read once");
        }
        Ok(is_twin)
    }

    /// The compressed files that have their turn in a round, so that there are few decoders.
    pub(super) fn decoding(&self) -> BTreeSet<Key> {
        let open = |tail: &&Tail| tail.entry.packed && !tail.finished && tail.error.is_none();
        self.tails.values().filter(open).map(|tail| tail.entry.key).take(DECODING).collect()
    }

    /// What could be decompressed was read. Whether it is over, or waits for the rest of it to be written.
    pub(super) fn is_flaw_final(&self, tail: &Tail, flaw: &Flaw, now: Moment) -> bool {
        let still = now.mono.saturating_sub(tail.active) >= GRACE;
        *flaw != Flaw::Cut || still || !is_in_the_making(&tail.entry.path)
    }

    /// A compressed file ends before its end.
    pub(super) fn flawed(&mut self, tail: &mut Tail, flaw: &Flaw, now: Moment) {
        let what = match flaw {
            Flaw::Cut => "it ends too early".to_owned(),
            Flaw::Damaged(what) => format!("it is damaged: {what}"),
        };
        tail.release();
        tail.error = Some(what.clone());
        if !self.is_flaw_final(tail, flaw, now) {
            tail.retry_at = Some(now.mono + RETRY);
            return;
        }
        let (path, start) = (tail.entry.path.as_path(), tail.entry.offset);
        let detail = format!("{what}; what could be decompressed was read, up to the end of the last line");
        self.lose(&Loss { reason: "corrupt", path, start, end: None, batch: None, detail: &detail }, now);
        tail.set_drained();
        tail.finished = true;
    }

    /// A compressed file that holds the rest of another one is other than it was.
    pub(super) fn lose_archive(&mut self, tail: &mut Tail, now: Moment) {
        let (path, start) = (tail.entry.path.as_path(), tail.entry.offset);
        let detail = "other content stands in its place; what followed was not read";
        self.lose(&Loss { reason: "replaced", path, start, end: None, batch: None, detail }, now);
        tail.set_drained();
        tail.finished = true;
    }
}
