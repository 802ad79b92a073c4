//! One followed file: an open handle, and the place up to where it was read.
//!
//! ```text
//! ├─ fingerprint ─┤ … ├─ guard ─┤ new bytes │
//!        checked            checked with the same read that brings the new bytes
//! ```
//!
//! While the handle is open, a file is read to its end whatever becomes of its name. A file that was truncated, even
//! if it has grown past the old place again, is noticed because the bytes that were read before are no longer there.
//! A file that rests may be closed, so that there are fewer handles than files; its place stays.

use super::identity::{Checksum, GUARD_BYTES, Key, Stamp, born};
use super::input::{Flaw, Input};
use super::lines::Splitter;
use super::speed::Speed;
use super::trail::Trail;
use crate::batch::{Source, length};
use crate::journal::state::{FileEntry, RealPath};
use logweir_proto::line::{Carry, Keys, Kind, Origin, State};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A file that is followed.
#[derive(Debug)]
pub(crate) struct Tail {
    /// `None` while it rests.
    file: Option<Handle>,
    /// As the journal will have it: its offset is where the next line begins.
    pub(crate) entry: FileEntry,
    pub(crate) source: Source,
    pub(crate) splitter: Splitter,
    /// From where the next bytes are read: the entry's offset, or further on inside a line that is too long.
    pub(crate) read_at: u64,
    /// The bytes before `read_at`.
    guard: Vec<u8>,
    /// Whether the entry's checksum of them is still to be made.
    guard_moved: bool,
    /// Some of the places that were passed.
    pub(crate) trail: Trail,
    /// The size at the last look.
    pub(crate) size: u64,
    /// The size at the look before; and to what, and from what, the file was seen to shrink.
    previous: u64,
    shrunk: Option<(u64, u64)>,
    /// The stamp when the content was last checked without being read.
    checked: Option<Stamp>,
    /// How far behind it was when that was last shown.
    pub(crate) shown: Option<u64>,
    /// Size and time of change at the last look.
    stamp: Stamp,
    /// Whether a scan has looked just now.
    pub(crate) fresh: bool,
    /// How many scans in a row have not found it, while it was closed.
    pub(crate) missing: u32,
    /// Whether other content was found when it was opened again.
    replaced: bool,
    /// Whether it is known to be no copy of what another file held.
    pub(crate) is_own: bool,
    /// Other content was found after the scan of this number, and isn't looked at before the next; and how large the old
    /// one was, as far as that is known.
    pub(crate) changed: Option<(u64, u64)>,
    /// The stamp before the last read that came to the end: until it differs, a read would bring nothing.
    drained: Option<Stamp>,
    /// Whether its last name is gone.
    pub(crate) unlinked: bool,
    /// Since when that has been seen.
    pub(crate) unlinked_since: Option<Duration>,
    /// When something of it was last read.
    pub(crate) read_on: Duration,
    /// Whether a pattern matches it.
    pub(crate) matched: bool,
    /// Whether it is a segment of the spool.
    pub(crate) spooled: bool,
    /// When it was last seen to have grown or changed its name.
    pub(crate) active: Duration,
    /// Whether the entry differs from the journal's.
    pub(crate) dirty: bool,
    /// Whether nothing more is read from it.
    pub(crate) finished: bool,
    /// What stands at its end, and is not taken yet.
    pub(crate) left: Left,
    /// After a read that failed: when it is tried again.
    pub(crate) retry_at: Option<Duration>,
    /// Why the last read failed, if it did.
    pub(crate) error: Option<String>,
    /// Since when there has been something to read.
    pub(crate) behind_since: Option<Duration>,
    /// How fast it is read.
    pub(crate) speed: Speed,
    /// What its lines were last said to look like, and how often that was another.
    pub(crate) said: Option<Kind>,
    pub(crate) changes: u8,
    /// Reading it fails.
    #[cfg(test)]
    pub(crate) broken: bool,
}

/// Counts the handles that are open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handles(Arc<AtomicUsize>);

impl Handles {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn hold(&self, file: Input) -> Handle {
        self.0.fetch_add(1, Ordering::Relaxed);
        Handle { file, count: self.clone() }
    }
}

#[derive(Debug)]
struct Handle {
    file: Input,
    count: Handles,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.count.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What stands at a file's end, and may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// Whole lines, of an event that may go on.
    Event,
    /// A line without its end.
    Line,
}

/// How long it is waited for that it goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) event: Duration,
    pub(crate) line: Duration,
}

/// What a read brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// So many bytes of the buffer are the guard; what follows is new.
    Bytes(usize),
    /// The content that was read before is no longer there.
    Changed,
}

impl Tail {
    /// Follows `file` from the entry's place, which was checked.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn new(
        file: Input,
        handles: &Handles,
        entry: FileEntry,
        content: u64,
        max_line: usize,
    ) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let guard = file.before(entry.offset, GUARD_BYTES)?;
        let size = file.size()?.max(if entry.packed { entry.offset } else { 0 });
        let mut trail = entry.trail.clone();
        trail.pass(entry.offset, entry.guard);
        let source = Source {
            content,
            key: entry.key,
            path: Arc::from(entry.path.as_path()),
            service: Arc::from(entry.service.as_str()),
            origin: entry.origin.clone().map(Arc::new),
            keys: Arc::new(entry.keys.clone()),
        };
        let said = entry.parser.kind;
        Ok(Self {
            file: Some(handles.hold(file)),
            source,
            splitter: Splitter::new(max_line),
            read_at: entry.offset,
            guard,
            guard_moved: false,
            trail,
            entry,
            size,
            previous: size,
            shrunk: None,
            checked: None,
            shown: None,
            stamp: Stamp::of(&metadata),
            fresh: false,
            missing: 0,
            replaced: false,
            is_own: false,
            changed: None,
            drained: None,
            unlinked: metadata.nlink() == 0,
            unlinked_since: None,
            read_on: Duration::ZERO,
            matched: true,
            spooled: false,
            active: Duration::ZERO,
            dirty: false,
            finished: false,
            left: Left::Nothing,
            retry_at: None,
            error: None,
            behind_since: None,
            speed: Speed::default(),
            said,
            changes: 0,
            #[cfg(test)]
            broken: false,
        })
    }

    /// The entry of a file that is read from `offset` for the first time.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn first_entry(
        file: &Input,
        path: PathBuf,
        service: String,
        offset: u64,
    ) -> io::Result<FileEntry> {
        let metadata = file.metadata()?;
        let head = file.head()?;
        let mut carry = Carry::default();
        carry.begin(&head);
        Ok(FileEntry {
            key: Key::of(&metadata),
            offset,
            fingerprint: Checksum::of(&head),
            guard: Checksum::of(&file.before(offset, GUARD_BYTES)?),
            trail: Trail::default(),
            carry_ms: 0,
            timed: false,
            parser: carry.state,
            origin: Origin::of_path(&path),
            keys: Keys::default(),
            packed: file.is_packed(),
            unread: None,
            born: born(&metadata),
            closed_ms: None,
            at_end: false,
            real: None,
            path,
            service,
        })
    }

    /// Its handle, while it is open.
    pub(crate) fn handle(&self) -> Option<&Input> {
        self.file.as_ref().map(|handle| &handle.file)
    }

    /// Whether `file` still holds what was read of it.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn is_intact(&self, file: &Input) -> io::Result<bool> {
        let place = if self.is_open() { Checksum::of(&self.guard) } else { self.entry.guard };
        Ok(!self.replaced
            && self.entry.fingerprint.begins(&file.head()?)
            && place.is_of(&file.before(self.read_at, place.len())?))
    }

    /// Reads on where the other content was read to; this file holds it too.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn adopt(&mut self, other: &FileEntry) -> io::Result<()> {
        self.entry.offset = other.offset;
        self.entry.guard = other.guard;
        self.entry.fingerprint = other.fingerprint;
        self.trail = other.trail.clone();
        self.trail.pass(other.offset, other.guard);
        (self.entry.carry_ms, self.entry.timed) = (other.carry_ms, other.timed);
        self.entry.parser = other.parser;
        self.left = Left::Nothing;
        self.set_service(&other.service);
        self.read_at = other.offset;
        if let Some(file) = self.handle() {
            self.guard = file.before(other.offset, other.guard.len())?;
        }
        self.drained = None;
        self.is_own = true;
        Ok(())
    }

    fn file(&self) -> io::Result<&Input> {
        #[cfg(test)]
        if self.broken {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        self.file.as_ref().map(|handle| &handle.file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether its handle is open.
    pub(crate) const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it can be closed and opened again without losing anything: it has a name, its place is where a line
    /// begins, and it isn't being decompressed, which would begin anew.
    pub(crate) fn can_rest(&self) -> bool {
        let decoding = self.handle().is_some_and(Input::is_decoding);
        self.file.is_some() && !decoding && !self.unlinked && !self.spooled && !self.splitter.is_skipping()
    }

    /// What is wrong at the end of what could be decompressed.
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.handle()?.flaw()
    }

    /// Lets go of what is kept to go on decompressing.
    pub(crate) fn release(&self) {
        if let Some(file) = self.handle() {
            file.release();
        }
    }

    /// Closes the handle; the place stays.
    pub(crate) fn rest(&mut self) {
        self.settle_guard();
        self.file = None;
        self.guard = Vec::new();
    }

    /// Opens it again. With `same` false other content was found in `file`, and will be at the next read.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn reopen(&mut self, file: Input, handles: &Handles, same: bool) -> io::Result<()> {
        self.guard = file.before(self.entry.offset, self.entry.guard.len())?;
        self.read_at = self.entry.offset;
        self.file = Some(handles.hold(file));
        self.replaced |= !same;
        self.missing = 0;
        Ok(())
    }

    /// Looks at its size and whether it still has a name.
    ///
    /// # Errors
    /// When that can't be seen; also when it is closed and is no longer where it was.
    pub(crate) fn look(&mut self, now: Duration) -> io::Result<()> {
        if std::mem::take(&mut self.fresh) {
            return Ok(());
        }
        let metadata = match &self.file {
            Some(handle) => handle.file.metadata()?,
            None => {
                let metadata = std::fs::metadata(&self.entry.path)?;
                if Key::of(&metadata) != self.entry.key {
                    return Err(io::ErrorKind::NotFound.into());
                }
                metadata
            }
        };
        self.saw(Stamp::of(&metadata), metadata.nlink() > 0, now);
        Ok(())
    }

    /// A scan has looked, and found it under a name.
    pub(crate) fn scanned(&mut self, stamp: Stamp, now: Duration) {
        self.saw(stamp, true, now);
        self.fresh = true;
        self.missing = 0;
    }

    fn saw(&mut self, stamp: Stamp, linked: bool, now: Duration) {
        let same = stamp == self.stamp;
        if !same {
            self.active = now;
        }
        self.stamp = stamp;
        self.previous = self.size;
        if !self.entry.packed {
            self.size = stamp.size;
        } else if !same {
            self.size = self.packed_size();
            self.previous = self.size;
        }
        if self.size < self.previous {
            let (to, from) = self.shrunk.unwrap_or((self.size, self.previous));
            self.shrunk = Some((to.min(self.size), from.max(self.previous)));
        }
        self.unlinked = !linked;
        if linked {
            self.unlinked_since = None;
        } else {
            self.unlinked_since.get_or_insert(now);
        }
    }

    /// Whether the last attempt failed not long ago.
    pub(crate) fn waits(&self, now: Duration) -> bool {
        self.retry_at.is_some_and(|at| at > now)
    }

    /// The parser's state before the next line.
    pub(crate) const fn carry(&self) -> Carry {
        Carry { timestamp_ms: self.entry.carry_ms, state: self.entry.parser }
    }

    /// The parser's state before the next line is another now.
    pub(crate) const fn set_carry(&mut self, carry: Carry) {
        self.entry.carry_ms = carry.timestamp_ms;
        self.entry.parser = carry.state;
    }

    /// When it was last changed, in Unix milliseconds.
    pub(crate) fn modified_ms(&self) -> i64 {
        i64::try_from(self.stamp.modified.div_euclid(1_000_000)).unwrap_or_default()
    }

    /// When what stands at its end is no longer waited for; `None` when nothing stands there, or it has changed.
    pub(crate) fn left_due(&self, patience: &Patience) -> Option<Duration> {
        let patience = match self.left {
            Left::Nothing => return None,
            Left::Event => patience.event,
            Left::Line => patience.line,
        };
        (!self.finished && !self.has_news()).then(|| self.active.saturating_add(patience))
    }

    /// Remembers since when it is behind.
    pub(crate) fn note_whether_behind(&mut self, now: Duration) {
        if self.behind() == 0 {
            self.behind_since = None;
        } else {
            self.behind_since.get_or_insert(now);
        }
    }

    /// Whether all of it was taken, as of the last look.
    pub(crate) fn is_at_end(&self) -> bool {
        !self.has_news() && self.behind() == 0
    }

    /// Whether it has changed since the last read that came to the end.
    pub(crate) fn has_news(&self) -> bool {
        self.drained != Some(self.stamp)
    }

    /// A read came to the end, and all whole lines were taken.
    pub(crate) fn set_drained(&mut self) {
        self.drained = Some(self.stamp);
        if self.entry.packed {
            self.size = self.packed_size();
        }
    }

    fn packed_size(&self) -> u64 {
        let size = self.handle().and_then(|file| file.size().ok());
        size.unwrap_or(self.size).max(self.entry.offset)
    }

    /// How large the content was, as far as that is known, when other content was found in its place.
    pub(crate) fn seen(&self) -> u64 {
        self.changed.map_or(self.shrunk.map_or(self.previous, |(_, from)| from), |(_, seen)| seen)
    }

    /// Whether its end was cut off, while what was read stayed: the bytes that are gone.
    pub(crate) fn take_cut(&mut self) -> Option<(u64, u64)> {
        let (to, from) = self.shrunk.take()?;
        let start = to.max(self.entry.offset);
        (start < from).then_some((start, from))
    }

    /// Bytes that are not yet taken.
    pub(crate) const fn behind(&self) -> u64 {
        self.size.saturating_sub(self.entry.offset)
    }

    /// Reads the guard and at most `want` bytes after it.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn fill(&mut self, buffer: &mut Vec<u8>, want: usize) -> io::Result<Fill> {
        if !self.begins_as_known(true)? {
            return Ok(Fill::Changed);
        }
        buffer.resize(self.guard.len() + want, 0);
        let read = self.file()?.read_at(buffer, self.read_at.saturating_sub(length(self.guard.len())))?;
        buffer.truncate(read);
        Ok(if buffer.starts_with(&self.guard) { Fill::Bytes(self.guard.len()) } else { Fill::Changed })
    }

    fn begins_as_known(&mut self, reads: bool) -> io::Result<bool> {
        let head = self.file()?.head()?;
        // Of a file of which nothing was read too little is known to tell that what is left is what was there.
        let emptied = self.entry.offset == 0 && self.shrunk.is_some();
        if self.replaced
            || emptied
            || !self.entry.fingerprint.begins(&head)
            || !self.entry.may_be_unread(&head)
        {
            return Ok(false);
        }
        let known = self.entry.unread.map_or(self.entry.fingerprint.len(), Checksum::len);
        if reads || self.entry.offset > 0 {
            self.entry.unread = None;
        } else if head.len() > known {
            self.entry.unread = Some(Checksum::of(&head));
            self.dirty = true;
        }
        // Of what isn't read yet only enough to know that it is there: a copy of the file may have less of it.
        if self.entry.fingerprint.len() < head.len() && (reads || self.entry.fingerprint.len() == 0) {
            self.entry.fingerprint = Checksum::of(&head);
            self.dirty = true;
        }
        Ok(true)
    }

    /// Whether it has changed since it was last read or checked.
    pub(crate) fn needs_check(&self) -> bool {
        self.has_news() && self.checked != Some(self.stamp)
    }

    /// Whether what was read is still there, as far as [`Tail::fill`] would see.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn check(&mut self) -> io::Result<bool> {
        self.checked = Some(self.stamp);
        Ok(self.begins_as_known(false)? && self.file()?.before(self.read_at, self.guard.len())? == self.guard)
    }

    /// Moves the place on. `upto` are the buffer's bytes before the new place, from the guard on; so many of them
    /// are new. With `whole` the next line begins there.
    pub(crate) fn advance(&mut self, upto: &[u8], new: usize, whole: bool) {
        if !whole {
            self.settle_guard();
        }
        self.guard.clear();
        self.guard.extend_from_slice(&upto[upto.len().saturating_sub(GUARD_BYTES)..]);
        self.read_at += length(new);
        if whole {
            self.entry.offset = self.read_at;
            self.guard_moved = true;
            self.dirty = true;
        }
    }

    /// The checksum of the bytes before the entry's place is made when somebody needs it, not with each line.
    fn settle_guard(&mut self) {
        if std::mem::take(&mut self.guard_moved) {
            self.entry.guard = Checksum::of(&self.guard);
        }
    }

    /// The entry as the journal shall have it.
    pub(crate) fn place(&mut self) -> FileEntry {
        self.settle_guard();
        self.trail.pass(self.entry.offset, self.entry.guard);
        self.entry.trail = self.trail.in_short();
        self.dirty = false;
        self.entry.clone()
    }

    /// Begins anew with other content.
    pub(crate) fn restart(&mut self, content: u64) -> io::Result<()> {
        let metadata = self.file()?.metadata()?;
        if let Some(handle) = &mut self.file {
            handle.file = handle.file.again()?;
            self.entry.packed = handle.file.is_packed();
        }
        self.replaced = false;
        self.changed = None;
        self.is_own = true;
        self.size = self.file()?.size()?;
        (self.previous, self.shrunk) = (self.size, None);
        self.stamp = Stamp::of(&metadata);
        self.drained = None;
        self.left = Left::Nothing;
        self.splitter.reset();
        self.read_at = 0;
        self.guard.clear();
        self.guard_moved = false;
        self.trail.clear();
        self.entry.trail.clear();
        self.entry.offset = 0;
        self.entry.unread = None;
        self.entry.parser = State::default();
        self.entry.guard = Checksum::of(&[]);
        self.entry.fingerprint = Checksum::of(&self.file()?.head()?);
        self.entry.born = born(&metadata);
        self.source.content = content;
        self.dirty = true;
        Ok(())
    }

    /// Whose its lines are that carry no service.
    pub(crate) fn set_service(&mut self, service: &str) {
        if self.entry.service != service {
            service.clone_into(&mut self.entry.service);
            self.source.service = Arc::from(service);
        }
    }

    /// Which fields are the parts of its events from here on.
    pub(crate) fn set_keys(&mut self, keys: Keys) {
        if self.entry.keys != keys {
            self.source.keys = Arc::new(keys.clone());
            self.entry.keys = keys;
            self.dirty = true;
        }
    }

    /// What its lines look like is to be found out anew.
    pub(crate) fn reconsider(&mut self) {
        self.entry.parser = self.entry.parser.afresh();
        self.dirty = true;
    }

    /// It has another name now.
    pub(crate) fn renamed(&mut self, path: &Path, now: Duration) {
        self.entry.path = path.to_path_buf();
        self.entry.real = RealPath::of(path);
        self.source.path = Arc::from(path);
        self.active = now;
        self.dirty = true;
    }

    /// Makes it another file, which fails as the test likes.
    #[cfg(test)]
    pub(crate) fn swap_file(&mut self, file: Input) -> Input {
        std::mem::replace(&mut self.file.as_mut().unwrap().file, file)
    }

    /// Makes what was read of it durable (for the spool; other files are the application's).
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file()?.sync_data()
    }
}
