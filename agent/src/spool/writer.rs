//! The thread that takes stdin in.

use super::{Bounds, Dropped, Shared, WhenFull};
use crate::batch::length;
use crate::handoff::Wake;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Sender;

const CHUNK: usize = 64 << 10;
const SEGMENT_BYTES: u64 = 4 << 20;

/// How long a full spool, a silent stdin and the end wait for each other.
const PAUSE: Duration = Duration::from_millis(50);

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

/// Takes stdin in.
pub(super) struct Writer {
    dir: PathBuf,
    bounds: Bounds,
    shared: Arc<Shared>,
    cutter: Cutter,
    /// Whether the line that comes is one of which the beginning was dropped.
    in_dropped: bool,
    /// Whether something was dropped after what stands in the segment.
    gap: bool,
    segment: Option<File>,
    segment_len: u64,
    wake: Sender<Wake>,
}

impl Writer {
    pub(super) fn new(dir: PathBuf, bounds: Bounds, shared: Arc<Shared>, wake: Sender<Wake>) -> Self {
        let cutter = Cutter { max: bounds.line, len: 0 };
        Self {
            dir,
            bounds,
            shared,
            cutter,
            in_dropped: false,
            gap: false,
            segment: None,
            segment_len: 0,
            wake,
        }
    }

    /// Until stdin's end, or until it is told to stop.
    pub(super) fn run(&mut self, stdin: File) {
        self.take_all(stdin);
        if !self.shared.stop.load(Ordering::Acquire) {
            if self.cutter.len > 0 {
                self.append(b"\n");
            }
            self.shared.ended.store(true, Ordering::Release);
        }
        self.shared.halted.store(true, Ordering::Release);
        self.look();
    }

    fn take_all(&mut self, mut stdin: File) {
        let drops = self.bounds.when_full == WhenFull::Drop;
        let mut chunk = vec![0; CHUNK];
        let mut kept = Vec::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            let full = self.is_full();
            self.shared.full.store(full && !drops, Ordering::Relaxed);
            if full && !drops {
                std::thread::sleep(PAUSE);
                continue;
            }
            match read(&mut stdin, &mut chunk) {
                Ok(None) => continue,
                Ok(Some(0)) => break,
                Ok(Some(read)) => self.take(&chunk[..read], full, &mut kept),
                Err(error) => {
                    tracing::error!("cannot read stdin: {error}; what came before is sent");
                    break;
                }
            }
        }
    }

    /// Writes what is kept; `kept` is room for it.
    fn take(&mut self, bytes: &[u8], full: bool, kept: &mut Vec<u8>) {
        let keep = self.drop_lines(bytes, full);
        kept.clear();
        self.cutter.cut(keep, kept);
        self.append(kept);
        // What is kept after a gap continues no event of before it.
        if std::mem::take(&mut self.gap) && self.segment_len > 0 {
            self.rotate();
        }
    }

    /// Drops what must be, in whole lines, and returns the rest. A line is dropped to its end, and so is it kept.
    fn drop_lines<'a>(&mut self, bytes: &'a [u8], full: bool) -> &'a [u8] {
        let (mut keep, mut dropped) = (bytes, Dropped::default());
        if self.in_dropped {
            let (rest, after) = keep.split_at(line_end(keep));
            dropped.bytes += length(rest.len());
            (self.in_dropped, keep) = (!rest.ends_with(b"\n"), after);
        }
        if full && self.bounds.when_full == WhenFull::Drop {
            let (kept_line, lines) = keep.split_at(if self.cutter.len > 0 { line_end(keep) } else { 0 });
            keep = kept_line;
            if !lines.is_empty() {
                self.gap = true;
                self.in_dropped = !lines.ends_with(b"\n");
                let ends = memchr::memchr_iter(b'\n', lines).count();
                dropped.lines += length(ends) + u64::from(self.in_dropped);
                dropped.bytes += length(lines.len());
            }
        }
        if dropped.bytes > 0 {
            let mut all = self.shared.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            *all = Dropped { lines: all.lines + dropped.lines, bytes: all.bytes + dropped.bytes };
            drop(all);
            // When the channel is full, the reader is about to look.
            drop(self.wake.try_send(Wake::Grown));
        }
        keep
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

/// Where the line ends that the bytes begin with, or all of them.
fn line_end(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |newline| newline + 1)
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
