//! Before the first step: the lock, the journal, what an earlier run left, and where new files begin.
//!
//! Invariant: the journal's first version holds all that is begun with, so a crash at any moment of the start changes
//! nothing: before it the old journal is there, and after it the new one.

use super::core::{Core, Moment, Parts};
use super::locate::{LISTINGS, Locator};
use super::recover::{Recovered, Recovery, wanted};
use super::scan::{is_too_old, open as open_file};
use crate::files::discover::{Match, Patterns};
use crate::files::input::Input;
use crate::files::tail::Tail;
use crate::handoff::{ReadError, Wake};
use crate::journal::state::State;
use crate::journal::{Journal, sync_directory};
use crate::metrics::Metrics;
use crate::records::Records;
use crate::settings::{From, Reading};
use crate::spool::{self, Bounds, Spool};
use logweir_proto::line::service_of_path;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc::Sender;

/// How far back the beginning of an unfinished line is looked for.
const UNFINISHED_BYTES: usize = 1 << 20;

/// stdin without a buffer in between.
pub(super) fn stdin() -> Result<File, ReadError> {
    let io = |source| ReadError::Io { what: "cannot read", path: PathBuf::from("stdin"), source };
    io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(io)
}

/// Opens the state directory, and makes a core of what it holds.
pub(super) fn open(
    mut settings: Reading,
    metrics: Metrics,
    wake: Sender<Wake>,
    stdin: Option<File>,
    now: Moment,
) -> Result<(Core, File), ReadError> {
    let patterns = Patterns::new(&settings.patterns, &settings.exclude).map_err(ReadError::State)?;
    settings.state_dir =
        std::path::absolute(&settings.state_dir).map_err(at("cannot find", &settings.state_dir))?;
    let dir = settings.state_dir.clone();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(at("cannot make the state directory", &dir))?;
    // Its name must outlast a power cut as what it holds does. Best effort: the folder above may not be ours to read.
    if let Some(parent) = dir.parent() {
        drop(sync_directory(parent));
    }
    let lock = lock(&dir)?;
    let old = if cfg!(feature = "fault-journal-ignored") { None } else { Journal::read(&dir)? };

    let scan = patterns.scan(&dir);
    let spool_dir = settings.spool_dir();
    let used = old.iter().flat_map(|state| state.files.values()).filter(|e| settings.is_spooled(&e.path));
    let used = used.filter_map(|entry| spool::number(&entry.path)).max().unwrap_or(0);
    let mut recovered = match &old {
        Some(old) => {
            let locator = Locator::new(&scan.files, &wanted(old), LISTINGS);
            Recovery {
                settings: &settings,
                metrics: &metrics,
                matched: &scan.files,
                locator,
                archives: RefCell::default(),
                now,
            }
            .run(old)?
        }
        None => Recovered { state: first_state(&settings, scan.files.values(), now), ..Recovered::default() },
    };
    let rejects = dir.join("rejects.ndjson");
    let rejects = Records::open(rejects.clone()).map_err(at("cannot read", &rejects))?;
    let losses = dir.join("losses.ndjson");
    let mut losses = Records::open(losses.clone()).map_err(at("cannot read", &losses))?;
    // Before the journal forgets them.
    losses.append(&recovered.lost).map_err(at("cannot write", losses.path()))?;
    let state = std::mem::take(&mut recovered.state);
    let journal = Journal::create(&dir, state).map_err(at("cannot write the journal in", &dir))?;
    say(&recovered);

    let (bytes, line) = (settings.spool_bytes, settings.max_line_bytes);
    let bounds = Bounds { bytes, line, when_full: settings.spool_full };
    let spool = if stdin.is_some() || spool_dir.is_dir() {
        Some(
            Spool::open(spool_dir.clone(), used, bounds, stdin, wake)
                .map_err(at("cannot use", &spool_dir))?,
        )
    } else {
        None
    };
    let certain = recovered.certain;
    let is_first_run = old.is_none();
    let parts = Parts {
        settings,
        metrics,
        patterns,
        journal,
        rejects,
        losses,
        spool,
        recovered: recovered.sealed,
        is_first_run,
    };
    let mut core = Core::new(parts);
    core.ended.losses = certain;
    for (path, file) in recovered.found {
        // The first scan finds those that a pattern matches followed already.
        if let Err(error) = core.follow_file(file, &path, None, now) {
            tracing::warn!(file = %path.display(), "cannot follow it: {error}");
        }
    }
    Ok((core, lock))
}

fn lock(dir: &Path) -> Result<File, ReadError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at("cannot write", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ReadError::State(format!(
            "another agent uses the state directory {}: stop it, or give this one a --state-dir of its own",
            dir.display()
        ))),
        Err(error) => Err(at("cannot lock", &path)(error.into())),
    }
}

/// Where the files that are there at the very first start begin.
fn first_state<'a>(settings: &Reading, files: impl Iterator<Item = &'a Match>, now: Moment) -> State {
    let mut state = State::default();
    if settings.from == From::Beginning || settings.once {
        return state;
    }
    for Match { path, .. } in files.filter(|found| !is_too_old(settings, found, now)) {
        let entry = open_file(path).and_then(|file| {
            if file.compression()?.is_some() {
                return Ok(None);
            }
            let offset = end_of_lines(&file)?;
            Tail::first_entry(&file, path.clone(), service_of_path(path), offset).map(Some)
        });
        match entry {
            Ok(entry) => state.files.extend(entry.map(|entry| (entry.key, entry))),
            Err(error) => tracing::warn!(file = %path.display(), "cannot read: {error}"),
        }
    }
    state
}

/// The end of the last whole line: what is being written just now is written "from now on".
fn end_of_lines(file: &Input) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let bytes = file.before(size, UNFINISHED_BYTES)?;
    let from = size - crate::batch::length(bytes.len());
    let newline = memchr::memrchr(b'\n', &bytes).map(|at| from + crate::batch::length(at + 1));
    Ok(newline.unwrap_or(if from == 0 { 0 } else { size }))
}

fn say(recovered: &Recovered) {
    let (batches, losses) = (recovered.sealed.len(), recovered.lost.len());
    if batches > 0 || losses > 0 {
        tracing::info!(batches, losses, "an earlier run left batches to be sent again");
    }
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReadError {
    let path = path.to_path_buf();
    move |source| ReadError::Io { what, path, source }
}
