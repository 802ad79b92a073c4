//! stdin, as files: what comes is written to segments, which are tailed like any other file.
//!
//! ```text
//! stdin ─► thread ─► spool/00000001.log, 00000002.log, …       full: stdin isn't read, the writer's pipe fills
//!                       └─► tailed ─► sealed ─► settled ─► deleted, when a later segment is there
//! ```
//!
//! Invariants: a segment ends at the end of a line, and its name is never used again while the journal knows it;
//! what was written is never written over.
//!
//! Limits: the bytes of `spool_bytes`, and one chunk and one line more. Of a line that is too long one byte more than
//! the limit is kept, so that the tailer sees that it is. What was taken from the pipe and not yet written (at most
//! [`CHUNK`] bytes) is lost when the process is killed.

use crate::batch::length;
use crate::handoff::Wake;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Sender;

const CHUNK: usize = 64 << 10;
const SEGMENT_BYTES: u64 = 4 << 20;

/// How long a full spool, a silent stdin and the end wait for each other.
const PAUSE: Duration = Duration::from_millis(50);

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
    /// Why it can't be written, while that is so.
    trouble: Mutex<Option<String>>,
}

/// How the spool is bounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The most bytes on disk.
    pub(crate) bytes: u64,
    /// Longer lines are cut.
    pub(crate) line: usize,
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
            trouble: Mutex::new(None),
        });
        let spool = Self { dir: dir.clone(), shared: Arc::clone(&shared) };
        if let Some(stdin) = stdin {
            let cutter = Cutter { max: bounds.line, len: 0 };
            let mut writer = Writer { dir, bounds, shared, cutter, segment: None, segment_len: 0, wake };
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

/// Keeps lines whole, and cuts those that are too long.
#[derive(Debug)]
struct Cutter {
    max: usize,
    /// So much of the line has come.
    len: usize,
}

impl Cutter {
    fn cut(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let newline = memchr::memchr(b'\n', bytes);
            let line = &bytes[..newline.unwrap_or(bytes.len())];
            let room = (self.max + 1).saturating_sub(self.len);
            out.extend_from_slice(&line[..line.len().min(room)]);
            self.len = self.len.saturating_add(line.len());
            bytes = &bytes[line.len()..];
            if newline.is_some() {
                out.push(b'\n');
                self.len = 0;
                bytes = &bytes[1..];
            }
        }
    }
}

struct Writer {
    dir: PathBuf,
    bounds: Bounds,
    shared: Arc<Shared>,
    cutter: Cutter,
    segment: Option<File>,
    segment_len: u64,
    wake: Sender<Wake>,
}

impl Writer {
    fn run(&mut self, mut stdin: File) {
        let mut chunk = vec![0; CHUNK];
        let mut kept = Vec::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.is_full() {
                std::thread::sleep(PAUSE);
                continue;
            }
            match read(&mut stdin, &mut chunk) {
                Ok(None) => continue,
                Ok(Some(0)) => break,
                Ok(Some(read)) => self.cutter.cut(&chunk[..read], &mut kept),
                Err(error) => {
                    tracing::error!("cannot read stdin: {error}; what came before is sent");
                    break;
                }
            }
            self.append(&kept);
            kept.clear();
        }
        if self.shared.stop.load(Ordering::Acquire) {
            return;
        }
        if self.cutter.len > 0 {
            self.append(b"\n");
        }
        self.shared.ended.store(true, Ordering::Release);
        self.look();
    }

    fn is_full(&mut self) -> bool {
        let bytes = self.shared.bytes.load(Ordering::Acquire);
        let mut full = bytes >= self.bounds.bytes;
        if full && bytes <= self.segment_len {
            // All stands in this segment, which can go only when it is complete.
            full = self.cutter.len == 0;
            if full {
                self.rotate();
            }
        }
        self.shared.full.store(full, Ordering::Relaxed);
        full
    }

    fn append(&mut self, bytes: &[u8]) {
        let most = SEGMENT_BYTES.min(self.bounds.bytes / 8);
        let cut = memchr::memrchr(b'\n', bytes).filter(|_| self.segment_len + length(bytes.len()) >= most);
        let (before, after) = bytes.split_at(cut.map_or(0, |newline| newline + 1));
        self.write(before);
        if cut.is_some() {
            self.rotate();
        }
        self.write(after);
        self.look();
    }

    fn rotate(&mut self) {
        self.segment = None;
        self.segment_len = 0;
        self.shared.current.fetch_add(1, Ordering::AcqRel);
    }

    /// Goes on where it stopped until all is written: what a reader may have seen is not taken back.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.write_some(bytes) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.segment_len += length(written);
                    self.shared.bytes.fetch_add(length(written), Ordering::AcqRel);
                    self.note(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note(Some(format!(
                        "cannot write the spool: {error}; stdin waits, and it is tried again each second"
                    )));
                    self.shared.full.store(true, Ordering::Relaxed);
                    std::thread::sleep(20 * PAUSE);
                    if self.shared.stop.load(Ordering::Acquire) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether it can be written; each change is said.
    fn note(&self, trouble: Option<String>) {
        let mut noted = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *noted == trouble {
            return;
        }
        match &trouble {
            Some(trouble) => tracing::error!("{trouble}"),
            None => tracing::info!("the spool can be written again; stdin is read on"),
        }
        *noted = trouble;
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.segment.is_none() {
            let name = format!("{:08}.log", self.shared.current.load(Ordering::Acquire));
            let file = File::options().create(true).append(true).open(self.dir.join(name))?;
            crate::journal::sync_directory(&self.dir)?;
            self.segment = Some(file);
        }
        self.segment.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn look(&self) {
        // When the channel is full, a look is pending.
        drop(self.wake.try_send(Wake::Look));
    }
}

/// Reads what is there; `None` when nothing came for a while.
fn read(stdin: &mut File, chunk: &mut [u8]) -> io::Result<Option<usize>> {
    let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let ready = match poll(&mut [PollFd::new(stdin, PollFlags::IN)], Some(&pause)) {
        Ok(ready) => ready > 0,
        Err(rustix::io::Errno::INTR) => false,
        Err(error) => return Err(error.into()),
    };
    if !ready {
        return Ok(None);
    }
    match stdin.read(chunk) {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
