//! What an application does: it writes lines, whole and in pieces, and its log is rotated.

use crate::lines::{self, Line, is_of};
use crate::postgres::Database;
use crate::truth::{Truth, total};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a copytruncate waits until all is counted.
const COUNTED_LIMIT: Duration = Duration::from_secs(60);

/// More rotated files there are never.
const MOST_ROTATIONS: usize = 40;

/// What is done to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Renamed, and made anew.
    Rename,
    /// That, twice in a row.
    RenameTwice,
    /// Copied and truncated, once all of it is counted.
    CopyTruncate,
    /// Renamed, or copied and truncated, by the real logrotate, which compresses the one before; all but the last lines
    /// are counted by then.
    Logrotate {
        /// Copied and truncated.
        copies: bool,
    },
    /// The oldest of the renamed files is deleted, once all of it is counted: its inode is used again.
    DeleteOldest,
}

/// Since when an agent has been running undisturbed.
///
/// A file that gets a name outside the pattern before any agent could see it is read by none, and that is as it
/// should be. So such a file is renamed only after its agent had time to see it; what happens to the agent right
/// after that is free.
#[derive(Debug, Clone, Default)]
pub struct Steady(Arc<Mutex<Option<Instant>>>);

impl Steady {
    /// How long an agent has to see a file.
    const LONG: Duration = Duration::from_millis(1_500);

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// It runs from now on.
    pub fn begins(&self) {
        self.set(Some(Instant::now()));
    }

    /// It is killed or paused.
    pub fn ends(&self) {
        self.set(None);
    }

    fn has_seen(&self, file_since: Instant) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.max(file_since).elapsed() >= Self::LONG)
    }
}

/// One writer and what it writes to.
#[derive(Debug)]
pub struct Source {
    id: usize,
    /// `None` for a pipe.
    path: Option<PathBuf>,
    file: File,
    rng: StdRng,
    written: u64,
    bytes: u64,
    rotations: Vec<PathBuf>,
    copies: u32,
    with_future: bool,
    /// When the file was made, and who must see it before it may be renamed.
    file_since: Instant,
    renamed_while: Option<Steady>,
    truth: Arc<Truth>,
}

impl Source {
    /// A file, made now.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn file(id: usize, dir: &Path, seed: u64, truth: Arc<Truth>) -> Self {
        let path = dir.join(format!("s{id}.log"));
        let file = append_to(&path);
        Self::new(id, Some(path), file, seed, truth)
    }

    /// The writing end of a pipe.
    ///
    /// # Panics
    /// When it can't be made non-blocking.
    #[must_use]
    pub fn pipe(id: usize, pipe: std::io::PipeWriter, seed: u64, truth: Arc<Truth>) -> Self {
        let file = File::from(std::os::fd::OwnedFd::from(pipe));
        rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::NONBLOCK).expect("a pipe can be non-blocking");
        Self::new(id, None, file, seed, truth)
    }

    fn new(id: usize, path: Option<PathBuf>, file: File, seed: u64, truth: Arc<Truth>) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            id,
            path,
            file,
            rng,
            written: 0,
            bytes: 0,
            rotations: Vec::new(),
            copies: 0,
            with_future: false,
            file_since: Instant::now(),
            renamed_while: None,
            truth,
        }
    }

    /// Now and then writes an event that is too far ahead for a narrow collector. The proxy knows the truth
    /// about these.
    #[must_use]
    pub fn with_future(mut self, yes: bool) -> Self {
        self.with_future = yes;
        self
    }

    /// It is renamed only when this agent has had time to see it.
    #[must_use]
    pub fn renamed_while(mut self, steady: Steady) -> Self {
        self.renamed_while = Some(steady);
        self
    }

    /// How many lines were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many bytes were written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it writes.
    ///
    /// # Panics
    /// When that is a pipe.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.path.as_deref().expect("a file")
    }

    /// Writes bursts of lines until `end`, and rotates when told to.
    pub async fn run(&mut self, end: Instant, mut rotations: mpsc::Receiver<Rotation>, database: &Database) {
        while Instant::now() < end {
            let burst = self.rng.random_range(1..60);
            self.write_lines(burst).await;
            let pause = Duration::from_millis(self.rng.random_range(5..60));
            if let Ok(Some(rotation)) = tokio::time::timeout(pause, rotations.recv()).await {
                self.rotate(rotation, database).await;
            }
        }
    }

    /// Writes so many lines, each recorded first.
    pub async fn write_lines(&mut self, count: u64) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let line = self.next_line();
            bytes.extend_from_slice(&line.bytes);
        }
        if self.rng.random_bool(0.3) {
            // Somewhere, likely within a line.
            let cut = self.rng.random_range(0..bytes.len());
            self.write(&bytes[..cut]).await;
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..120))).await;
            bytes.drain(..cut);
        }
        self.write(&bytes).await;
    }

    fn next_line(&mut self) -> Line {
        self.written += 1;
        if self.with_future && self.rng.random_bool(0.01) {
            return lines::future_line(self.id, self.written);
        }
        let line = lines::line(&mut self.rng, self.id, self.written, self.path.is_some());
        self.truth.add(line.cell.clone(), &format!("n={}", self.written));
        line
    }

    /// Writes these bytes, whatever they are.
    ///
    /// # Panics
    /// When nobody will ever read them.
    pub async fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    self.bytes += u64::try_from(n).expect("it fits");
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(5)).await
                }
                Err(e) => panic!("source {} can't write: {e}", self.id),
            }
        }
    }

    /// Does it now.
    ///
    /// # Panics
    /// When the files can't be moved.
    pub async fn rotate(&mut self, rotation: Rotation, database: &Database) {
        match rotation {
            Rotation::Rename => self.rename(),
            Rotation::RenameTwice => {
                self.rename();
                let few = self.rng.random_range(0..5);
                self.write_lines(few + 1).await;
                self.rename();
            }
            Rotation::CopyTruncate => {
                self.counted(database).await;
                self.copies += 1;
                let copy =
                    self.path().with_file_name("archive").join(format!("s{}.{}", self.id, self.copies));
                std::fs::create_dir_all(copy.parent().expect("a folder")).expect("the archive");
                std::fs::copy(self.path(), copy).expect("a copy");
                self.file.set_len(0).expect("truncation");
            }
            Rotation::Logrotate { copies } => self.logrotate(copies, database).await,
            Rotation::DeleteOldest => {
                if !self.rotations.is_empty() {
                    self.counted(database).await;
                    if let Some(oldest) = self.rotations.pop() {
                        std::fs::remove_file(oldest).expect("deletion");
                    }
                }
            }
        }
    }

    /// s0.log becomes s0.log.1, that becomes s0.log.2, and so on.
    fn rename(&mut self) {
        if self.renamed_while.as_ref().is_some_and(|steady| !steady.has_seen(self.file_since)) {
            return;
        }
        for n in (0..self.rotations.len()).rev() {
            let next = self.numbered(n + 2);
            std::fs::rename(&self.rotations[n], &next).expect("a rename");
            self.rotations[n] = next;
        }
        let first = self.numbered(1);
        std::fs::rename(self.path(), &first).expect("a rename");
        self.rotations.insert(0, first);
        self.file = append_to(self.path());
        self.file_since = Instant::now();
    }

    /// The application doesn't wait for logrotate when that renames, and opens the new file afterwards. What it would
    /// write between a copy and the truncation would be gone before anybody could read it, so then it waits.
    async fn logrotate(&mut self, copies: bool, database: &Database) {
        let copy_is_read = self.renamed_while.is_none();
        if self.renamed_while.as_ref().is_some_and(|steady| !steady.has_seen(self.file_since)) {
            return;
        }
        // What older files hold is counted before they are compressed, and something of this one is read.
        self.write_lines(1).await;
        self.counted(database).await;
        if copy_is_read || !copies {
            let some = self.rng.random_range(1..200);
            self.write_lines(some).await;
        }
        let mut running = self.start_logrotate(if copies { "copytruncate" } else { "create" });
        let status = loop {
            match running.try_wait().expect("logrotate") {
                Some(status) => break status,
                None if copies => tokio::time::sleep(Duration::from_millis(2)).await,
                None => self.write_lines(5).await,
            }
        };
        assert!(status.success(), "logrotate: {status}");
        if !copies {
            self.write_lines(5).await;
            self.file = append_to(self.path());
            self.file_since = Instant::now();
        }
        let number = |n: usize| Some(self.numbered(n)).filter(|path| path.exists());
        self.rotations = (1..MOST_ROTATIONS).filter_map(number).collect();
    }

    fn start_logrotate(&self, mode: &str) -> std::process::Child {
        let dir = self.path().with_file_name("archive");
        std::fs::create_dir_all(&dir).expect("the archive");
        let (config, state) =
            (dir.join(format!("s{}.conf", self.id)), dir.join(format!("s{}.state", self.id)));
        let text = format!(
            "{} {{\nrotate {MOST_ROTATIONS}\ncompress\ndelaycompress\n{mode}\n}}\n",
            self.path().display()
        );
        std::fs::write(&config, text).expect("a file");
        // Others could write there by some masks, and then logrotate refuses it.
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).expect("our own file");
        let known = Path::new("/usr/sbin/logrotate");
        let program = if known.exists() { known } else { Path::new("logrotate") };
        let started = Command::new(program).arg("--force").arg("--state").arg(state).arg(config).spawn();
        started.expect("logrotate is installed")
    }

    fn numbered(&self, n: usize) -> PathBuf {
        self.path().with_file_name(format!("s{}.log.{n}", self.id))
    }

    /// Waits until all that was written is counted: then it is sealed, sent and taken too.
    async fn counted(&self, database: &Database) {
        let mine = |service: &str| is_of(self.id, service) && !service.ends_with(lines::FUTURE);
        let written = self.truth.total(mine);
        let start = Instant::now();
        while !database.counts().await.is_ok_and(|counts| total(&counts, mine) >= written) {
            assert!(
                start.elapsed() < COUNTED_LIMIT,
                "source {}: not all is counted in {COUNTED_LIMIT:?}",
                self.id
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn append_to(path: &Path) -> File {
    File::options().create(true).append(true).open(path).expect("a log file")
}
