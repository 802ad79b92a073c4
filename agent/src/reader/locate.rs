//! Where the files are that the journal knows, after they may have been renamed while no agent ran.
//!
//! ```text
//! (device, inode) ─► the last path ─► what the patterns match ─► siblings of the last path
//!                         └─► the same inode under another device number: those can change with a restart
//! ```
//!
//! Only names are found here. Whether it is the same content is for the caller to judge.
//!
//! Invariants: what is found is held open, so that it can be renamed again meanwhile. A file is missing only if it
//! was in none of several listings: one alone can miss a file that is renamed just then.

use super::scan::open;
use crate::files::discover::Match;
use crate::files::identity::Key;
use crate::files::input::Input;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the folders are listed at the start while something is missing.
pub(super) const LISTINGS: usize = 4;

/// From the second one on they are so far apart.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 20 });

/// Finds files by device and inode.
#[derive(Debug)]
pub(super) struct Locator {
    by_key: BTreeMap<Key, PathBuf>,
    by_inode: BTreeMap<u64, Vec<PathBuf>>,
    held: BTreeMap<Key, (PathBuf, Option<Input>)>,
    /// They are there, and can't be opened.
    closed: BTreeSet<Key>,
}

/// What is looked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Where it was seen.
    pub(super) paths: BTreeSet<PathBuf>,
    /// Whether it will be read; else it is enough to know where it is.
    pub(super) read: bool,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Place {
    /// It is here.
    Here(PathBuf, Input),
    /// Its folder can be read, and it isn't there.
    Gone,
    /// Nobody knows: it or its folder can't be read, or its file system isn't mounted.
    Unknown,
}

impl Locator {
    /// Looks for these files among those that the patterns match, and among their siblings, so often.
    pub(super) fn new(
        matched: &BTreeMap<Key, Match>,
        wanted: &BTreeMap<Key, Wanted>,
        listings: usize,
    ) -> Self {
        let by_key = matched.iter().map(|(key, found)| (*key, found.path.clone())).collect();
        let mut locator =
            Self { by_key, by_inode: BTreeMap::new(), held: BTreeMap::new(), closed: BTreeSet::new() };
        for listing in 0..listings {
            let missing = |(key, _): &(&Key, &Wanted)| !locator.held.contains_key(*key);
            let missing: Vec<(&Key, &Wanted)> = wanted.iter().filter(missing).collect();
            if missing.is_empty() {
                break;
            }
            if listing > 1 {
                std::thread::sleep(PAUSE);
            }
            if listing > 0 {
                let paths = missing.iter().flat_map(|(_, wanted)| &wanted.paths);
                locator.list(paths.filter_map(|path| path.parent()).collect());
            }
            for (key, wanted) in missing {
                locator.hold(*key, wanted);
            }
        }
        locator
    }

    fn list(&mut self, folders: BTreeSet<&Path>) {
        self.by_inode.clear();
        for entry in folders.into_iter().flat_map(std::fs::read_dir).flatten().flatten() {
            if let Ok(metadata) = entry.path().metadata()
                && metadata.is_file()
            {
                self.by_inode.entry(metadata.ino()).or_default().push(entry.path());
                self.by_key.insert(Key::of(&metadata), entry.path());
            }
        }
    }

    fn hold(&mut self, key: Key, wanted: &Wanted) {
        let listed = self.by_key.get(&key).cloned();
        for path in wanted.paths.iter().chain(&listed) {
            match open_if(path, |found| found == key) {
                Ok(Some(file)) => {
                    self.closed.remove(&key);
                    self.held.insert(key, (path.clone(), wanted.read.then_some(file)));
                    return;
                }
                Ok(None) => {}
                Err(_) => {
                    self.closed.insert(key);
                }
            }
        }
    }

    /// A file that was looked for; by another device number only if it is the right one by `accept`.
    pub(super) fn find(&self, key: Key, paths: &[&Path], accept: impl Fn(&Path, &Input) -> bool) -> Place {
        if let Some((path, file)) = self.held.get(&key) {
            let file = match file {
                Some(file) => Some(file.clone()),
                None => open_if(path, |found| found == key).ok().flatten(),
            };
            return file.map_or(Place::Unknown, |file| Place::Here(path.clone(), file));
        }
        if self.closed.contains(&key) {
            return Place::Unknown;
        }
        for path in self.by_inode.get(&key.inode()).into_iter().flatten() {
            if let Ok(Some(file)) = open_if(path, |found| found.inode() == key.inode())
                && accept(path, &file)
            {
                return Place::Here(path.clone(), file);
            }
        }
        if paths.iter().all(|path| is_gone(path, key)) { Place::Gone } else { Place::Unknown }
    }
}

/// Opens the file if it is the right one.
fn open_if(path: &Path, right: impl Fn(Key) -> bool) -> io::Result<Option<Input>> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // Another file that may not be read is still another file.
        Err(error) => {
            return match path.metadata() {
                Ok(metadata) if !right(Key::of(&metadata)) => Ok(None),
                _ => Err(error),
            };
        }
    };
    let metadata = file.metadata()?;
    Ok((metadata.is_file() && right(Key::of(&metadata))).then_some(file))
}

/// Whether a file that isn't found was deleted. An empty folder of another file system is a place where one is
/// mounted at other times.
fn is_gone(path: &Path, key: Key) -> bool {
    for folder in path.ancestors().skip(1) {
        match std::fs::read_dir(folder) {
            Ok(mut entries) => {
                let same = folder.metadata().is_ok_and(|metadata| metadata.dev() == key.device());
                return same || entries.next().is_some();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(_) => return false,
        }
    }
    false
}
