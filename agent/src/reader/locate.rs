//! Where the files are that the journal knows, after they may have been renamed while no agent ran.
//!
//! ```text
//! (device, inode) ─► the last path ─► what the patterns match ─► siblings of the last path
//!                         └─► the same inode under another device number: those can change with a restart
//! ```
//!
//! Only names are found here. Whether it is the same content is for the caller to judge.

use super::scan::open;
use crate::files::identity::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Finds files by device and inode.
#[derive(Debug)]
pub(super) struct Locator {
    by_key: BTreeMap<Key, PathBuf>,
    by_inode: BTreeMap<u64, Vec<PathBuf>>,
    listed: BTreeSet<PathBuf>,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Place {
    /// It is here.
    Here(PathBuf, File),
    /// Its folder can be read, and it isn't there.
    Gone,
    /// Nobody knows: the folder can't be read, or its file system isn't mounted.
    Unknown,
}

impl Locator {
    /// Knows these files already.
    pub(super) fn new(files: &BTreeMap<Key, PathBuf>) -> Self {
        let mut locator =
            Self { by_key: BTreeMap::new(), by_inode: BTreeMap::new(), listed: BTreeSet::new() };
        for (key, path) in files {
            locator.add(*key, path.clone());
        }
        locator
    }

    fn add(&mut self, key: Key, path: PathBuf) {
        self.by_inode.entry(key.inode()).or_default().push(path.clone());
        self.by_key.entry(key).or_insert(path);
    }

    /// Looks for a file that was last seen at one of these paths, and is the right one by `accept`.
    pub(super) fn find(&mut self, key: Key, paths: &[&Path], accept: impl Fn(&Path, &File) -> bool) -> Place {
        for path in paths {
            if let Some(file) = open_if(path, |found| found == key) {
                return Place::Here(path.to_path_buf(), file);
            }
        }
        for path in paths {
            self.list(path);
        }
        if let Some(path) = self.by_key.get(&key)
            && let Some(file) = open_if(path, |found| found == key)
        {
            return Place::Here(path.clone(), file);
        }
        for path in self.by_inode.get(&key.inode()).into_iter().flatten() {
            if let Some(file) = open_if(path, |found| found.inode() == key.inode())
                && accept(path, &file)
            {
                return Place::Here(path.clone(), file);
            }
        }
        if paths.iter().all(|path| is_gone(path, key)) { Place::Gone } else { Place::Unknown }
    }

    /// Takes in the siblings of a path.
    fn list(&mut self, path: &Path) {
        let Some(folder) = path.parent() else { return };
        if !self.listed.insert(folder.to_path_buf()) {
            return;
        }
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(metadata) = entry.path().metadata()
                && metadata.is_file()
            {
                self.add(Key::of(&metadata), entry.path());
            }
        }
    }
}

fn open_if(path: &Path, right: impl Fn(Key) -> bool) -> Option<File> {
    let file = open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && right(Key::of(&metadata))).then_some(file)
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return false,
        }
    }
    false
}
