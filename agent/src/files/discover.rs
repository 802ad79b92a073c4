//! From patterns to the files that match now.
//!
//! ```text
//! /var/log/{api,web}/**/*.log ──► /var/log + api, **, *.log      braces are written out, the literal part is the root
//!                                 /var/log + web, **, *.log      each level is matched by itself: only folders that
//!                                                                can lead to a match are read
//! ```
//!
//! Patterns that differ in their last level only share one walk, so hundreds of them in one folder cost about as much as one.
//!
//! Invariants: symbolic links are followed, and a file is found once however many names lead to it. The folder that
//! holds the agent's own state is passed over.
//!
//! Limits: at most [`MAX_ALTERNATIVES`] patterns after braces are written out, and [`MAX_DEPTH`] folders deep; a folder
//! that was read is not read again, so links in a circle end. What is compressed with gzip, by its name, is kept apart; files
//! with other such names are passed over.

mod names;

use super::identity::{Key, Stamp};
use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

const MAX_ALTERNATIVES: usize = 1024;
const MAX_DEPTH: usize = 40;

/// Their lines can't be read.
const COMPRESSED: [&str; 7] = ["zst", "bz2", "xz", "lz4", "zip", "Z", "tgz"];

/// What is followed.
#[derive(Debug)]
pub(crate) struct Patterns {
    literal: Vec<PathBuf>,
    globs: Vec<Tree>,
    exclude: Exclude,
}

/// Patterns that differ in their last level only: each folder is read once for all of them.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    levels: Vec<Level>,
    names: GlobSet,
}

/// What is left out: by the whole path, or by the name where there is no `/` in the glob.
#[derive(Debug)]
struct Exclude {
    paths: GlobSet,
    names: GlobSet,
}

impl Exclude {
    fn new(globs: &[String]) -> Result<Self, String> {
        let (mut paths, mut names) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in globs {
            let wrong = |why: &dyn std::fmt::Display| format!("cannot exclude {text:?}: {why}");
            if text.contains('/') {
                let path = std::path::absolute(text).map_err(|error| wrong(&error))?;
                paths.add(glob(&path.to_string_lossy()).map_err(|error| wrong(&error))?);
            } else {
                names.add(glob(text).map_err(|error| wrong(&error))?);
            }
        }
        let build = |set: GlobSetBuilder| set.build().map_err(|error| error.to_string());
        Ok(Self { paths: build(paths)?, names: build(names)? })
    }

    fn has(&self, path: &Path) -> bool {
        self.paths.is_match(path) || path.file_name().is_some_and(|name| self.names.is_match(Path::new(name)))
    }
}

fn glob(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()
}

#[derive(Debug, Clone)]
enum Level {
    Name(GlobMatcher),
    /// `**`: any number of folders.
    Any,
}

/// A file that is there.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
}

/// What a scan finds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The files, by device and inode.
    pub(crate) files: BTreeMap<Key, Match>,
    /// Those that are compressed with gzip, by their names.
    pub(crate) packed: BTreeMap<Key, Match>,
    /// The folders where new ones can appear.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// What can't be followed, and why; each is worth one line in the log.
    pub(crate) passed_over: BTreeMap<PathBuf, String>,
    /// Each folder that was or would have been listed, as it was just before.
    pub(crate) marks: BTreeMap<PathBuf, Option<Mark>>,
    /// Whether all that was found lies in these folders under its own and only name.
    pub(crate) plain: bool,
    /// When the scan began, in Unix nanoseconds.
    pub(crate) begun: i128,
}

/// What changes whenever a name comes into a folder or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) key: Key,
    /// In Unix nanoseconds.
    modified: i128,
}

impl Mark {
    /// Of the folder of that name; `None` where there is none.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        std::fs::metadata(folder).ok().as_ref().map(Self::from)
    }

    /// Whether it was last changed so long before that time (in Unix nanoseconds).
    pub(crate) fn is_older_than(&self, time: i128, by: Duration) -> bool {
        let by = i128::try_from(by.as_nanos()).unwrap_or(i128::MAX);
        self.modified.saturating_add(by) <= time
    }
}

impl From<&std::fs::Metadata> for Mark {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self { key: Key::of(metadata), modified: Stamp::of(metadata).modified }
    }
}

impl Patterns {
    /// Takes paths and globs as they were given, and those of files and folders that are left out.
    ///
    /// # Errors
    /// A sentence that names the pattern and what is wrong with it.
    pub(crate) fn new(patterns: &[String], exclude: &[String]) -> Result<Self, String> {
        let (mut literal, mut trees) = (Vec::new(), BTreeMap::new());
        for pattern in patterns {
            let wrong = |why: &dyn std::fmt::Display| format!("cannot follow {pattern:?}: {why}");
            let path = std::path::absolute(pattern).map_err(|error| wrong(&error))?;
            literal.push(path.clone());
            if !pattern.contains(['*', '?', '[', '{']) {
                continue;
            }
            let mut alternatives = Vec::new();
            expand(&path.to_string_lossy(), &mut alternatives).map_err(|why| wrong(&why))?;
            for alternative in alternatives {
                let (root, mut levels) = split(Path::new(&alternative));
                let name = levels.pop().unwrap_or_default();
                let name = glob(&name).map_err(|error| wrong(&error))?;
                trees.entry((root, levels)).or_insert_with(Vec::new).push((name, pattern));
            }
        }
        let mut globs = Vec::new();
        for ((root, levels), names) in trees {
            let mut set = GlobSetBuilder::new();
            let pattern = names.first().map_or_else(String::new, |(_, pattern)| (*pattern).clone());
            let wrong = |error: globset::Error| format!("cannot follow {pattern:?}: {error}");
            for (name, _) in names {
                set.add(name);
            }
            let levels = levels.iter().map(|level| self::level(level)).collect::<Result<_, _>>();
            globs.push(Tree { root, levels: levels.map_err(wrong)?, names: set.build().map_err(wrong)? });
        }
        Ok(Self { literal, globs, exclude: Exclude::new(exclude)? })
    }

    /// Finds what matches now, except below `state`.
    pub(crate) fn scan(&self, state: &Path) -> Scan {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let begun = now.ok().and_then(|now| i128::try_from(now.as_nanos()).ok()).unwrap_or(0);
        let mut scan = Scan { plain: true, begun, ..Scan::default() };
        let exclude = &self.exclude;
        let real = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_path_buf());
        let is_state = |path: &Path| std::fs::canonicalize(path).is_ok_and(|path| path.starts_with(&real));
        for path in &self.literal {
            if let Some(parent) = path.parent() {
                scan.mark(parent);
                scan.folders.insert(parent.to_path_buf());
            }
            scan.plain &= !path.is_symlink();
            match std::fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => {
                    if !is_state(path) && !exclude.has(path) {
                        scan.matched(&metadata, path);
                    }
                }
                Ok(metadata) => {
                    let why = if metadata.is_dir() {
                        "it is a folder; give DIR/*.log"
                    } else {
                        "it is no regular file"
                    };
                    scan.passed_over.insert(path.clone(), why.to_owned());
                }
                // It may come later.
                Err(_) => {}
            }
        }
        for tree in &self.globs {
            if !is_state(&tree.root) {
                let seen = std::fs::metadata(state).iter().map(|state| (Key::of(state), None)).collect();
                Walk { scan: &mut scan, names: &tree.names, exclude, seen }.walk(&tree.root, &tree.levels, 0);
            }
        }
        scan
    }
}

impl Scan {
    /// Marks the folder as it is before it is listed for the first time.
    fn mark(&mut self, folder: &Path) -> Option<Mark> {
        let mark = Mark::of(folder);
        self.marks.entry(folder.to_path_buf()).or_insert(mark);
        mark
    }
}

/// One tree, on its way down.
struct Walk<'a> {
    scan: &'a mut Scan,
    names: &'a GlobSet,
    exclude: &'a Exclude,
    /// The folders that were read, with how many levels were left there; and that of the state, where nothing is read
    /// whatever is left.
    seen: HashSet<(Key, Option<usize>)>,
}

impl Walk<'_> {
    fn walk(&mut self, folder: &Path, levels: &[Level], depth: usize) {
        let Some(Mark { key, .. }) = self.scan.mark(folder) else { return };
        if depth > MAX_DEPTH
            || self.seen.contains(&(key, None))
            || !self.seen.insert((key, Some(levels.len())))
        {
            return;
        }
        let next = levels.split_first();
        if let Some((Level::Any, below)) = next {
            self.walk(folder, below, depth);
        }
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                // When it can be read is seen in no folder.
                self.scan.plain = false;
                self.scan.passed_over.insert(folder.to_path_buf(), error.to_string());
                return;
            }
        };
        self.scan.folders.insert(folder.to_path_buf());
        for entry in entries.flatten() {
            let name = entry.file_name();
            let wanted = match next {
                None => self.names.is_match(Path::new(&name)),
                Some((Level::Name(glob), _)) => glob.is_match(Path::new(&name)),
                // Files in this folder were those of the levels below.
                Some((Level::Any, _)) => entry.file_type().is_ok_and(|kind| !kind.is_file()),
            };
            let path = entry.path();
            if !wanted || self.exclude.has(&path) {
                continue;
            }
            // What happens behind a link is not seen in this folder.
            self.scan.plain &= entry.file_type().is_ok_and(|kind| !kind.is_symlink());
            // A name that is gone already, or a link to nowhere.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            match next {
                None if !metadata.is_dir() => self.scan.matched(&metadata, &path),
                Some((Level::Any, _)) if metadata.is_dir() => self.walk(&path, levels, depth + 1),
                Some((Level::Name(_), below)) if metadata.is_dir() => self.walk(&path, below, depth + 1),
                _ => {}
            }
        }
    }
}

impl Scan {
    fn matched(&mut self, metadata: &std::fs::Metadata, path: &Path) {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if COMPRESSED.contains(&ending) || path.to_string_lossy().ends_with(".tar.gz") {
            let why =
                "its name says that it is compressed, and not with gzip alone; nothing else can be read";
            self.passed_over.insert(path.to_path_buf(), why.to_owned());
        } else if metadata.is_file() {
            // Whoever writes under another name is not told here.
            self.plain &= metadata.nlink() < 2;
            let files = if is_packed(path) { &mut self.packed } else { &mut self.files };
            let found = || Match { path: path.to_path_buf(), stamp: Stamp::of(metadata) };
            files.entry(Key::of(metadata)).or_insert_with(found);
        } else {
            self.passed_over.insert(path.to_path_buf(), "it is no regular file".to_owned());
        }
    }
}

/// Whether the name says that it is compressed with gzip.
pub(crate) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

/// The folder before the first level with a wildcard, and the levels from there on; the last one is a file's name.
fn split(path: &Path) -> (PathBuf, Vec<String>) {
    let (mut root, mut levels) = (PathBuf::new(), Vec::new());
    for component in path.components() {
        let text = component.as_os_str().to_string_lossy();
        let wild = matches!(component, Component::Normal(_)) && text.contains(['*', '?', '[', '\\']);
        if levels.is_empty() && !wild {
            root.push(component);
        } else {
            levels.push(text.into_owned());
        }
    }
    if levels.is_empty() {
        // Braces alone: the last level is looked for by its name.
        let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        levels.push(globset::escape(&name));
        root.pop();
    } else if levels.last().is_some_and(|level| level == "**") {
        levels.push("*".to_owned());
    }
    (root, levels)
}

fn level(text: &str) -> Result<Level, globset::Error> {
    if text == "**" { Ok(Level::Any) } else { Ok(Level::Name(glob(text)?.compile_matcher())) }
}

/// Writes braces out: `a{b,c}` is `ab` and `ac`. What stands in a character class or after a backslash is no brace.
fn expand(pattern: &str, out: &mut Vec<String>) -> Result<(), String> {
    let (mut depth, mut open, mut cuts) = (0_usize, 0, Vec::new());
    let (mut escaped, mut class) = (false, false);
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' if class => class = false,
            _ if class => {}
            '[' => class = true,
            '{' => {
                depth += 1;
                if depth == 1 {
                    open = at;
                }
            }
            ',' if depth == 1 => cuts.push(at),
            '}' if depth == 1 => {
                let mut from = open + 1;
                for to in cuts.into_iter().chain([at]) {
                    let alternative = [&pattern[..open], &pattern[from..to], &pattern[at + 1..]].concat();
                    expand(&alternative, out)?;
                    from = to + 1;
                }
                return Ok(());
            }
            '}' if depth > 1 => depth -= 1,
            _ => {}
        }
    }
    if depth > 0 {
        return Err("a brace is not closed".to_owned());
    }
    if out.len() >= MAX_ALTERNATIVES {
        return Err(format!("its braces stand for more than {MAX_ALTERNATIVES} patterns"));
    }
    out.push(pattern.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(pattern: &str) -> Vec<String> {
        let mut out = Vec::new();
        expand(pattern, &mut out).unwrap();
        out
    }

    #[test]
    fn braces_are_written_out() {
        assert_eq!(expanded("a{b,c{d,e/f}}g"), ["abg", "acdg", "ace/fg"]);
        assert_eq!(expanded("[{]a"), ["[{]a"]);
        assert_eq!(expanded("\\{a"), ["\\{a"]);
        assert!(expand("a{b", &mut Vec::new()).is_err());
        assert!(expand(&"{a,b}".repeat(11), &mut Vec::new()).is_err());
    }

    fn found(dir: &Path, patterns: &[&str]) -> Vec<String> {
        found_but(dir, patterns, &[])
    }

    fn found_but(dir: &Path, patterns: &[&str], exclude: &[String]) -> Vec<String> {
        let patterns: Vec<String> =
            patterns.iter().map(|p| dir.join(p).to_str().unwrap().to_owned()).collect();
        let scan = Patterns::new(&patterns, exclude).unwrap().scan(&dir.join("state"));
        let mut names: Vec<String> = scan
            .files
            .values()
            .map(|found| found.path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn patterns_find_what_a_shell_would() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for path in
            ["a.log", "b.log", "b.log.gz", "c.txt", "x/a.log", "x/y/a.log", "state/journal.log", "w[1].log"]
        {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(found(dir, &["a.log"]), ["a.log"]);
        assert_eq!(found(dir, &["{a,b}.log"]), ["a.log", "b.log"]);
        assert_eq!(found(dir, &["?.log*"]), ["a.log", "b.log"]);
        assert_eq!(found(dir, &["[ab].log"]), ["a.log", "b.log"]);
        assert_eq!(found(dir, &["*/*.log"]), ["x/a.log"]);
        assert_eq!(found(dir, &["{x,x/y}/*.log"]), ["x/a.log", "x/y/a.log"]);
        assert_eq!(found(dir, &["**/a.log"]), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(found(dir, &["x/**"]), ["x/a.log", "x/y/a.log"]);
        assert_eq!(found(dir, &["w[1].log"]), ["w[1].log"]);
        assert_eq!(found(dir, &["b.log.gz", "none.log"]), [""; 0]);
        let but = |exclude: &[&str]| {
            let exclude: Vec<String> = exclude.iter().map(|glob| (*glob).to_owned()).collect();
            found_but(dir, &["**/*.log", "c.txt"], &exclude)
        };
        assert_eq!(but(&["a.log"]), ["b.log", "c.txt", "w[1].log"]);
        assert_eq!(but(&["*.{log,txt}"]), [""; 0]);
        assert_eq!(but(&["y"]), ["a.log", "b.log", "c.txt", "w[1].log", "x/a.log"]);
        let below = dir.join("x/**").to_str().unwrap().to_owned();
        assert_eq!(but(&[&below, "c.*"]), ["a.log", "b.log", "w[1].log"]);
        assert!(Patterns::new(&[], &["[".to_owned()]).unwrap_err().contains("exclude"));
    }

    #[test]
    fn what_is_compressed_is_kept_apart_or_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.log", "a.log.1.gz", "a.log.2.zst", "a.tar.gz", "a.tgz"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        for patterns in [&["a.*"][..], &["a.log", "a.log.1.gz", "a.log.2.zst", "a.tar.gz", "a.tgz"]] {
            let patterns = patterns.iter().map(|name| dir.path().join(name).to_str().unwrap().to_owned());
            let patterns = Patterns::new(&patterns.collect::<Vec<_>>(), &[]).unwrap();
            let scan = patterns.scan(&dir.path().join("state"));
            let names = |paths: Vec<&PathBuf>| -> Vec<String> {
                paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
            };
            assert_eq!(names(scan.files.values().map(|found| &found.path).collect()), ["a.log"]);
            assert_eq!(names(scan.packed.values().map(|found| &found.path).collect()), ["a.log.1.gz"]);
            assert_eq!(names(scan.passed_over.keys().collect()), ["a.log.2.zst", "a.tar.gz", "a.tgz"]);
        }
    }

    #[test]
    fn links_are_followed_and_lead_to_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::create_dir(dir.join("x")).unwrap();
        std::fs::write(dir.join("x/a.log"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("x/a.log"), dir.join("l.log")).unwrap();
        std::os::unix::fs::symlink(dir, dir.join("x/loop")).unwrap();
        std::os::unix::fs::symlink(dir.join("nowhere"), dir.join("dead.log")).unwrap();
        assert_eq!(found(dir, &["l.log"]), ["l.log"]);
        assert_eq!(found(dir, &["**/*.log"]).len(), 1);
    }

    #[test]
    fn hundreds_of_patterns_read_each_folder_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let patterns: Vec<String> = (0..300).map(|n| format!("{}/app{n}-*.log", dir.display())).collect();
        for n in [3, 299, 300] {
            std::fs::write(dir.join(format!("app{n}-x.log")), "").unwrap();
        }
        let patterns = Patterns::new(&patterns, &[]).unwrap();
        assert_eq!(patterns.globs.len(), 1);
        assert_eq!(patterns.scan(Path::new("/nonexistent")).files.len(), 2);
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let patterns = Patterns::new(&[dir.path().to_str().unwrap().to_owned()], &[]).unwrap();
        assert_eq!(patterns.scan(Path::new("/nonexistent")).passed_over.len(), 1);
        assert!(Patterns::new(&["/a[".to_owned()], &[]).is_err());
    }
}
