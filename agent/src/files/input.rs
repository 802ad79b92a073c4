//! The bytes of a file that is open: as they stand there, or decompressed where it is compressed with gzip.
//!
//! ```text
//! offsets   0 ──────────────── window ────────┤ …………… ├── end
//!               was given out   kept, read again   not decompressed yet
//! ```
//!
//! All offsets in a compressed file are those of its decompressed content. That can only be read from its beginning, so
//! the decoder and the bytes since the last read's offset are kept: reads that go on cost nothing extra, one that goes
//! back begins anew.
//!
//! Invariants: what is compressed is told by the first bytes and never by the name. The decoder's memory doesn't depend
//! on how much comes out of it. Where a stream is cut off or damaged, what stands before that is given, and
//! [`Input::flaw`] says the rest; errors are those of the system alone.

use super::identity::{FINGERPRINT_BYTES, Stamp};
use crate::batch::length;
use flate2::bufread::GzDecoder;
use std::fs::{File, Metadata};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that are decompressed at once where they are only passed over.
const STEP: usize = 64 << 10;

/// A window keeps no more memory than this when less is needed.
const KEEP: usize = 512 << 10;

/// How much of a file tells how it is compressed.
const MAGIC: usize = 10;

/// RFC 1952: the two magic bytes, and deflate, the only method there is.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// An open file. Clones share the handle and the place of the decoder.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    file: Arc<File>,
    packed: Option<Arc<Mutex<Packed>>>,
}

/// What is wrong with a compressed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It ends too early: it is being written, or was cut off.
    Cut,
    /// It is damaged, in these words.
    Damaged(String),
}

/// How a file's first bytes say that it is compressed.
fn compression(head: &[u8]) -> Option<&'static str> {
    let is = |magic: &[u8]| head.starts_with(magic);
    // Text may begin with "BZh"; the magic of a block follows it.
    let bzip2 = || is(b"BZh") && head.get(4..10) == Some(&[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]);
    match () {
        () if is(&GZIP) => Some("gzip"),
        () if is(&[0x28, 0xb5, 0x2f, 0xfd]) => Some("zstd"),
        () if is(&[0xfd, b'7', b'z', b'X', b'Z', 0]) => Some("xz"),
        () if bzip2() => Some("bzip2"),
        () => None,
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Input {
    /// Looks how the file is compressed.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn of(file: File) -> io::Result<Self> {
        let mut input = Self::plain(file);
        if input.compression()? == Some("gzip") {
            input.packed = Some(Arc::default());
        }
        Ok(input)
    }

    /// Its bytes as they are, whatever they are.
    pub(crate) fn plain(file: File) -> Self {
        Self { file: Arc::new(file), packed: None }
    }

    /// The same file's bytes as they are.
    pub(crate) fn as_plain(&self) -> Self {
        Self { file: Arc::clone(&self.file), packed: None }
    }

    /// The same file, looked at anew.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn again(&self) -> io::Result<Self> {
        let gzip = self.compression()? == Some("gzip");
        Ok(Self { packed: gzip.then(Arc::default), ..self.as_plain() })
    }

    /// How its first bytes say that it is compressed.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn compression(&self) -> io::Result<Option<&'static str>> {
        let mut head = [0; MAGIC];
        if !self.file.metadata()?.is_file() {
            return Ok(None);
        }
        let read = read_plain(&self.file, &mut head, 0)?;
        Ok(compression(&head[..read]))
    }

    /// Whether its content is decompressed.
    pub(crate) const fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// What the system says of the file itself.
    ///
    /// # Errors
    /// When the system says nothing.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Fills the buffer as far as the content goes.
    ///
    /// # Errors
    /// When the system can't read it.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.packed() {
            None => read_plain(&self.file, buffer, offset),
            Some(mut packed) => packed.read_at(&self.file, buffer, offset),
        }
    }

    /// The first bytes, as many as a fingerprint covers.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn head(&self) -> io::Result<Vec<u8>> {
        match self.packed() {
            None => {
                let mut bytes = vec![0; FINGERPRINT_BYTES];
                let read = read_plain(&self.file, &mut bytes, 0)?;
                bytes.truncate(read);
                Ok(bytes)
            }
            Some(mut packed) => packed.head(&self.file),
        }
    }

    /// At most `len` bytes before `offset`; fewer where the content ends before that.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn before(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let len = usize::try_from(offset).map_or(len, |offset| offset.min(len));
        let mut bytes = vec![0; len];
        let read = self.read_at(&mut bytes, offset - length(len))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// How large the content is. Of a compressed file that was not read to its end it is what its last bytes say, which
    /// is right unless it has several parts or 4 GiB.
    ///
    /// # Errors
    /// When that can't be seen.
    pub(crate) fn size(&self) -> io::Result<u64> {
        let metadata = self.metadata()?;
        let Some(packed) = self.packed() else { return Ok(metadata.len()) };
        match &packed.end {
            Some(end) if end.stamp == Stamp::of(&metadata) => Ok(end.at),
            _ => Ok(packed.place.max(self.told()?.into())),
        }
    }

    /// The last four bytes of a gzip file: the size of what is in its last part, modulo 4 GiB (RFC 1952).
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn told(&self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        read_plain(&self.file, &mut bytes, self.metadata()?.len().saturating_sub(4))?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// What was found to be wrong at the end of what could be decompressed.
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.packed()?.end.as_ref()?.flaw.clone()
    }

    /// Whether a decoder is kept.
    pub(crate) fn is_decoding(&self) -> bool {
        self.packed().is_some_and(|packed| !matches!(packed.stream, Stream::Idle))
    }

    /// Lets go of the decoder's memory; the next read begins anew.
    pub(crate) fn release(&self) {
        if let Some(mut packed) = self.packed() {
            packed.release();
        }
    }

    fn packed(&self) -> Option<MutexGuard<'_, Packed>> {
        // Whatever was left half done: at worst a read finds other bytes than those that it knew.
        self.packed.as_ref().map(|packed| packed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read_plain(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(length(filled))) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads a file from a place of its own, since a handle's place is shared by its clones.
#[derive(Debug)]
struct Cursor {
    file: Arc<File>,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += length(read);
        Ok(read)
    }
}

type Decoder = GzDecoder<BufReader<Cursor>>;

/// Where the content ends.
#[derive(Debug)]
struct End {
    at: u64,
    flaw: Option<Flaw>,
    /// Of the file, when it was so.
    stamp: Stamp,
}

#[derive(Debug, Default)]
enum Stream {
    /// Not begun.
    #[default]
    Idle,
    Open(Box<Decoder>),
    /// It has come to its end.
    Over,
}

#[derive(Debug, Default)]
struct Packed {
    stream: Stream,
    /// Up to where it is decompressed.
    place: u64,
    /// The content before that, as far as it is kept.
    window: Vec<u8>,
    head: Option<Vec<u8>>,
    /// Known from the first time on that it came there.
    end: Option<End>,
}

impl Packed {
    fn release(&mut self) {
        (self.stream, self.place, self.window) = (Stream::Idle, 0, Vec::new());
    }

    fn start(&self) -> u64 {
        self.place - length(self.window.len())
    }

    /// A file that had come to its end and has changed since is another one.
    fn look(&mut self, file: &Arc<File>) -> io::Result<()> {
        if let Some(end) = &self.end
            && end.stamp != Stamp::of(&file.metadata()?)
        {
            *self = Self::default();
        }
        Ok(())
    }

    fn head(&mut self, file: &Arc<File>) -> io::Result<Vec<u8>> {
        self.look(file)?;
        if let Some(head) = &self.head {
            return Ok(head.clone());
        }
        let mut other = Self::default();
        let mut head = vec![0; FINGERPRINT_BYTES];
        let read = other.read_at(file, &mut head, 0)?;
        head.truncate(read);
        // While it is being written there will be more of it.
        if read == FINGERPRINT_BYTES || other.end.is_some_and(|end| end.flaw.is_none()) {
            self.head = Some(head.clone());
        }
        Ok(head)
    }

    fn read_at(&mut self, file: &Arc<File>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let result = self.try_read_at(file, buffer, offset);
        if result.is_err() {
            self.release();
        }
        result
    }

    fn try_read_at(&mut self, file: &Arc<File>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(file)?;
        if self.end.as_ref().is_some_and(|end| offset >= end.at) {
            return Ok(0);
        }
        if offset < self.start() {
            self.release();
        }
        let passed = usize::try_from(offset - self.start()).unwrap_or(usize::MAX);
        self.window.drain(..passed.min(self.window.len()));
        let mut passed = Vec::new();
        while self.place < offset && self.window.is_empty() {
            passed.resize(usize::try_from(offset - self.place).map_or(STEP, |rest| rest.min(STEP)), 0);
            if self.decode(file, &mut passed)? == 0 {
                return Ok(0);
            }
        }
        let mut window = std::mem::take(&mut self.window);
        let result = self.fill(file, &mut window, buffer.len());
        self.window = window;
        result?;
        let read = buffer.len().min(self.window.len());
        buffer[..read].copy_from_slice(&self.window[..read]);
        Ok(read)
    }

    /// Decompresses until there are so many bytes, or no more.
    fn fill(&mut self, file: &Arc<File>, window: &mut Vec<u8>, len: usize) -> io::Result<()> {
        let mut filled = window.len();
        while filled < len {
            window.resize(len, 0);
            match self.decode(file, &mut window[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => return Err(error),
            }
        }
        window.truncate(filled);
        window.shrink_to(KEEP);
        Ok(())
    }

    /// The next bytes of the content; none at its end.
    fn decode(&mut self, file: &Arc<File>, out: &mut [u8]) -> io::Result<usize> {
        if matches!(self.stream, Stream::Idle) {
            let cursor = Cursor { file: Arc::clone(file), at: 0 };
            self.open(BufReader::with_capacity(STEP, cursor));
        }
        while let Stream::Open(stream) = &mut self.stream {
            match stream.read(out) {
                Ok(0) => {}
                Ok(read) => {
                    self.place += length(read);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.stopped(file, error),
            }
            // Another part may follow, as `cat a.gz b.gz` makes it, or zeros, as tapes do.
            let reader = stream.get_mut();
            match reader.fill_buf()? {
                [] => return self.ended(file, None),
                [0x1f, ..] => {
                    if let Stream::Open(stream) = std::mem::take(&mut self.stream) {
                        self.open(stream.into_inner());
                    }
                }
                bytes @ [0, ..] => {
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    reader.consume(zeros);
                }
                _ => {
                    let flaw = Flaw::Damaged("what follows its end is no gzip".to_owned());
                    return self.ended(file, Some(flaw));
                }
            }
        }
        Ok(0)
    }

    fn open(&mut self, reader: BufReader<Cursor>) {
        self.stream = Stream::Open(Box::new(GzDecoder::new(reader)));
    }

    fn stopped(&mut self, file: &Arc<File>, error: io::Error) -> io::Result<usize> {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.ended(file, Some(Flaw::Cut)),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                self.ended(file, Some(Flaw::Damaged(error.to_string())))
            }
            _ => Err(error),
        }
    }

    fn ended(&mut self, file: &Arc<File>, flaw: Option<Flaw>) -> io::Result<usize> {
        self.stream = Stream::Over;
        self.end = Some(End { at: self.place, flaw, stamp: Stamp::of(&file.metadata()?) });
        Ok(0)
    }
}

#[cfg(test)]
mod tests;
