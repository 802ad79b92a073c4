//! The journal: what survives the agent.
//!
//! ```text
//! commit(delta) ─► state ─► append ─► fsync when something depends on it
//!                              └── any failure: the file is not trusted any more; repair() writes it anew, whole
//! open ─► read all ─► state          compact: temp file, fsync, rename, fsync of the directory
//! ```
//!
//! Invariants: the state is never behind the file, and [`Journal::is_sound`] says whether the file is behind the
//! state. Nothing is acted on before it is in the file. After a failed write or fsync nobody knows what is on the
//! disk, so nothing is appended to that file again.
//!
//! Limits: the file grows to [`COMPACT_BYTES`], or 4 times what is live where that is more.

pub(crate) mod format;
pub(crate) mod recovery;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use crate::handoff::ReadError;
use state::{Delta, State};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A smaller journal is never compacted while the agent runs.
pub(crate) const COMPACT_BYTES: u64 = 1 << 20;

#[cfg(test)]
thread_local! {
    /// After so many steps of writing nothing is done any more, as when the process is killed there.
    pub(crate) static DIES_IN: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// The journal and its file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    state: State,
    /// `None` when the file isn't trusted.
    file: Option<Open>,
    /// What was committed since the last fsync.
    unsynced: bool,
    /// [`COMPACT_BYTES`], but for tests.
    pub(crate) compact_bytes: u64,
    syncs: Syncs,
    #[cfg(test)]
    pub(crate) fails: bool,
}

/// What was waited for the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Syncs {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

impl Syncs {
    fn since(&mut self, begun: Instant) {
        self.count += 1;
        self.time += begun.elapsed();
    }
}

#[derive(Debug)]
struct Open {
    file: File,
    len: u64,
    compacted: u64,
}

impl Journal {
    /// Reads the journal in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or of a newer version.
    pub(crate) fn read(dir: &Path) -> Result<Option<State>, ReadError> {
        let path = dir.join("journal");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ReadError::Io { what: "cannot read", path, source }),
        };
        replay(&bytes).map(Some).map_err(|why| {
            ReadError::State(format!(
                "cannot use the journal {}: {why}. It says which lines were sent under which numbers, so nothing is \
                 guessed: restore it, or use the program that wrote it, or move it away to read all files again \
                 (lines that were counted then count twice)",
                path.display()
            ))
        })
    }

    /// Writes `state` as the whole journal of `dir`.
    ///
    /// # Errors
    /// When it can't be written; then the old file is as it was.
    pub(crate) fn create(dir: &Path, state: State) -> io::Result<Self> {
        let mut journal = Self {
            path: dir.join("journal"),
            state,
            file: None,
            unsynced: false,
            compact_bytes: COMPACT_BYTES,
            syncs: Syncs::default(),
            #[cfg(test)]
            fails: false,
        };
        journal.repair()?;
        Ok(journal)
    }

    /// What it knows.
    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Whether the file holds all that was committed.
    pub(crate) const fn is_sound(&self) -> bool {
        self.file.is_some()
    }

    /// Whether something was committed since the last fsync.
    pub(crate) const fn is_behind(&self) -> bool {
        self.unsynced
    }

    /// The file's size, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.file.as_ref().map_or(0, |open| open.len)
    }

    /// How often, and how long, the disk was waited for since it was last asked.
    pub(crate) fn take_syncs(&mut self) -> Syncs {
        std::mem::take(&mut self.syncs)
    }

    /// Changes the state, and appends the change. When that fails the state is changed nevertheless, and
    /// [`Journal::is_sound`] is false until [`Journal::repair`] succeeds.
    ///
    /// # Errors
    /// When the file can't be written, or the change is none that can be.
    pub(crate) fn commit(&mut self, delta: &Delta) -> io::Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        self.state.apply(delta).map_err(io::Error::other)?;
        let result = self.append(delta);
        if result.is_err() {
            self.distrust();
        }
        self.unsynced = true;
        result
    }

    /// Makes all that was committed durable.
    ///
    /// # Errors
    /// As for [`Journal::commit`].
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let Some(open) = &self.file else { return self.repair() };
        if !self.unsynced {
            return Ok(());
        }
        let begun = Instant::now();
        let result =
            if self.failing() { Err(failed()) } else { open.file.sync_data().and_then(|()| self.goes_on()) };
        self.syncs.since(begun);
        if result.is_err() {
            self.distrust();
        } else {
            self.unsynced = false;
        }
        result
    }

    /// Writes the file anew where it isn't trusted.
    ///
    /// # Errors
    /// When that can't be done; it can be tried again.
    pub(crate) fn repair(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        if self.failing() {
            return Err(failed());
        }
        let (temporary, begun) = (self.path.with_extension("new"), Instant::now());
        let (file, len) = self.replace(&temporary).inspect_err(|_| {
            // Best effort: the next attempt begins by truncating it.
            if !is_dead() {
                drop(std::fs::remove_file(&temporary));
            }
        })?;
        self.syncs.since(begun);
        self.file = Some(Open { file, len, compacted: len });
        self.unsynced = false;
        Ok(())
    }

    /// Writes the file anew when most of it is history.
    ///
    /// # Errors
    /// As for [`Journal::repair`].
    pub(crate) fn compact(&mut self) -> io::Result<()> {
        let grown = self
            .file
            .as_ref()
            .is_some_and(|open| open.len > self.compact_bytes.max(open.compacted.saturating_mul(4)));
        if grown {
            self.file = None;
        }
        self.repair()
    }

    fn append(&mut self, delta: &Delta) -> io::Result<()> {
        let failing = self.failing();
        let Some(open) = &mut self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        push(&mut bytes, delta)?;
        if failing {
            // As much as a full disk takes.
            open.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(failed());
        }
        open.file.write_all(&bytes)?;
        open.len += u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.goes_on()
    }

    /// Temp file, fsync, rename, fsync of the directory. The file is open for appending, and has so many bytes.
    fn replace(&self, temporary: &Path) -> io::Result<(File, u64)> {
        let mut file = File::options().write(true).create(true).truncate(true).open(temporary)?;
        self.goes_on()?;
        let (mut bytes, mut len) = (format::header(), 0);
        // Record by record: there may be ten thousand files.
        for part in self.state.snapshot() {
            push(&mut bytes, &part)?;
            file.write_all(&bytes)?;
            len += bytes.len();
            bytes.clear();
        }
        file.write_all(&bytes)?;
        let len = u64::try_from(len + bytes.len()).map_err(io::Error::other)?;
        self.goes_on()?;
        file.sync_all()?;
        self.goes_on()?;
        std::fs::rename(temporary, &self.path)?;
        self.goes_on()?;
        sync_directory(self.path.parent().unwrap_or(Path::new(".")))?;
        self.goes_on()?;
        Ok((file, len))
    }

    /// Between two steps: an error where a test makes the disk full or kills the process there.
    fn goes_on(&self) -> io::Result<()> {
        if self.failing() { Err(failed()) } else { Ok(()) }
    }

    fn distrust(&mut self) {
        if let Some(open) = self.file.take().filter(|_| !is_dead()) {
            // Best effort: whatever stands there is cut off, or known, when it is read.
            drop(open.file.set_len(open.len));
        }
    }

    #[cfg(test)]
    fn failing(&self) -> bool {
        let steps = DIES_IN.get();
        DIES_IN.set(steps.map(|steps| steps.saturating_sub(1)));
        self.fails || steps == Some(0)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests make the disk full here")]
    const fn failing(&self) -> bool {
        false
    }
}

/// Whether a test has killed the process, so that it can't even tidy up.
#[cfg(test)]
fn is_dead() -> bool {
    DIES_IN.get() == Some(0)
}

#[cfg(not(test))]
const fn is_dead() -> bool {
    false
}

fn failed() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn push(out: &mut Vec<u8>, delta: &Delta) -> io::Result<()> {
    let payload = serde_json::to_vec(delta)?;
    format::push(out, &payload)
        .map_err(|len| io::Error::other(format!("a record of {len} bytes is too long")))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The state after all records.
pub(crate) fn replay(bytes: &[u8]) -> Result<State, String> {
    let (payloads, _torn) = format::records(bytes).map_err(|error| error.to_string())?;
    let mut state = State::default();
    for payload in payloads {
        let delta: Delta =
            serde_json::from_slice(payload).map_err(|error| format!("a record is unknown: {error}"))?;
        state.apply(&delta)?;
    }
    Ok(state)
}
