//! stdin, as files: what comes is written to segments, which are tailed like any other file.
//!
//! ```text
//! stdin ─► thread ─► spool/00000001.log, 00000002.log, …       full: stdin isn't read, and the writer's pipe fills;
//!                       │                                      or it is read, and dropped in whole lines
//!                       └─► tailed ─► sealed ─► settled ─► deleted, when a later segment is there
//! ```
//!
//! Invariants: a segment ends at the end of a line, and its name is never used again while the journal knows it;
//! what was written is never written over.
//!
//! Limits: the bytes of `spool_bytes`, and one chunk and one line more. Of a line that is too long one byte more than
//! the limit is kept, so that the tailer sees that it is. What was taken from the pipe and not yet written (at most
//! 64 KiB) is lost when the process is killed.

mod writer;

use crate::handoff::Wake;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::Sender;
use writer::Writer;

/// The spool, as its reader sees it.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// On disk.
    bytes: AtomicU64,
    /// The segment that is written to; the ones before are complete.
    current: AtomicU64,
    full: AtomicBool,
    ended: AtomicBool,
    stop: AtomicBool,
    /// Whether nothing more will be written or dropped.
    halted: AtomicBool,
    /// Why it can't be written, while that is so.
    trouble: Mutex<Option<String>>,
    /// What was dropped since somebody last asked.
    dropped: Mutex<Dropped>,
}

/// How the spool is bounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The most bytes on disk.
    pub(crate) bytes: u64,
    /// Longer lines are cut.
    pub(crate) line: usize,
    /// What becomes of stdin while the bytes are reached.
    pub(crate) when_full: WhenFull,
}

/// What becomes of stdin while the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WhenFull {
    /// It isn't read, so that whoever writes to the pipe waits
    Wait,
    /// It is read on, and whole lines are dropped and counted
    Drop,
}

/// What was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Lines of which the beginning was dropped; then all of them is.
    pub(crate) lines: u64,
    /// Their bytes, line ends included.
    pub(crate) bytes: u64,
}

impl Spool {
    /// The spool in `dir`, where segments of earlier runs may be. Without `stdin` nothing is added to them. The
    /// first new segment has a number after those on disk, and after `used`.
    ///
    /// # Errors
    /// When the folder can't be made or read, or no thread be started.
    pub(crate) fn open(
        dir: PathBuf,
        used: u64,
        bounds: Bounds,
        stdin: Option<File>,
        wake: Sender<Wake>,
    ) -> io::Result<Self> {
        if stdin.is_some() {
            std::fs::create_dir_all(&dir)?;
            crate::journal::sync_directory(dir.parent().unwrap_or(&dir))?;
        }
        let old = segments(&dir);
        let bytes = old.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
        let last = old.last().and_then(|path| number(path)).unwrap_or(0);
        let shared = Arc::new(Shared {
            bytes: AtomicU64::new(bytes),
            current: AtomicU64::new(last.max(used) + 1),
            full: AtomicBool::new(false),
            ended: AtomicBool::new(stdin.is_none()),
            stop: AtomicBool::new(false),
            halted: AtomicBool::new(stdin.is_none()),
            trouble: Mutex::new(None),
            dropped: Mutex::default(),
        });
        let spool = Self { dir: dir.clone(), shared: Arc::clone(&shared) };
        if let Some(stdin) = stdin {
            let mut writer = Writer::new(dir, bounds, shared, wake);
            // It ends with the spool, or within a pause after it; nobody waits for it.
            std::thread::Builder::new().name("stdin".to_owned()).spawn(move || writer.run(stdin))?;
        }
        Ok(spool)
    }

    /// The segments on disk, the oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        segments(&self.dir)
    }

    /// Whether nothing will be added to this segment.
    pub(crate) fn is_complete(&self, path: &Path) -> bool {
        let before = number(path).is_some_and(|number| number < self.shared.current.load(Ordering::Acquire));
        before || self.has_ended()
    }

    /// Whether stdin has come to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Whether stdin waits because the spool is full.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Why stdin waits, when the spool can't be written.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was dropped since this was last asked.
    pub(crate) fn take_dropped(&self) -> Dropped {
        std::mem::take(&mut self.shared.dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads no more of stdin. Whether nothing more will be dropped: that takes a moment, and wakes the reader.
    pub(crate) fn halt(&self) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.halted.load(Ordering::Acquire)
    }

    /// Its size on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Deletes a complete segment.
    ///
    /// # Errors
    /// When it can't be deleted.
    pub(crate) fn drop_segment(&self, path: &Path) -> io::Result<()> {
        let len = path.metadata().map_or(0, |metadata| metadata.len());
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Each byte of a segment was added when it was found or written.
        self.shared.bytes.fetch_sub(len, Ordering::AcqRel);
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// The number in a segment's name.
pub(crate) fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> =
        entries.map(|entry| entry.path()).filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}
