//! Whether a name is one that the patterns speak of, without looking at the disk.

use super::{Level, Patterns, Tree};
use std::ffi::OsStr;
use std::path::Path;

impl Patterns {
    /// Whether a file that a scan found under this path would be found under it with these patterns, while it is there.
    pub(crate) fn name(&self, path: &Path) -> bool {
        let literal = || self.literal.iter().any(|known| known == path) && !self.exclude.has(path);
        literal() || self.globs.iter().any(|tree| self.is_in(tree, path))
    }

    fn is_in(&self, tree: &Tree, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&tree.root) else { return false };
        let mut parts: Vec<&OsStr> = below.iter().collect();
        let Some(name) = parts.pop() else { return false };
        let left_out = || path.ancestors().take(parts.len() + 1).any(|path| self.exclude.has(path));
        tree.names.is_match(Path::new(name)) && lead_through(&tree.levels, &parts) && !left_out()
    }
}

/// Whether these folders lead through all levels.
fn lead_through(levels: &[Level], folders: &[&OsStr]) -> bool {
    // Up to which levels one may have come.
    let mut at = vec![false; levels.len() + 1];
    at[0] = true;
    for folder in folders {
        let mut next = vec![false; levels.len() + 1];
        pass_any(levels, &mut at);
        for (index, level) in levels.iter().enumerate().filter(|(index, _)| at[*index]) {
            match level {
                Level::Any => next[index] = true,
                Level::Name(glob) => next[index + 1] |= glob.is_match(Path::new(folder)),
            }
        }
        at = next;
    }
    pass_any(levels, &mut at);
    at[levels.len()]
}

/// `**` may also be no folder.
fn pass_any(levels: &[Level], at: &mut [bool]) {
    for (index, level) in levels.iter().enumerate() {
        at[index + 1] |= at[index] && matches!(level, Level::Any);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patterns(patterns: &[&str], exclude: &[&str]) -> Patterns {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Patterns::new(&owned(patterns), &owned(exclude)).unwrap()
    }

    #[test]
    fn names_are_those_of_the_patterns() {
        let of = patterns(
            &["/a/b.log", "/c/*.log", "/d/**/e/*.log", "/f/**", "/g/{h,i}?/j"],
            &["k*", "/c/left/**", "/f/out"],
        );
        for (path, is) in [
            ("/a/b.log", true),
            ("/a/c.log", false),
            ("/c/x.log", true),
            ("/c/x.txt", false),
            ("/c/d/x.log", false),
            ("/c/k.log", false),
            ("/d/e/x.log", true),
            ("/d/1/2/e/x.log", true),
            ("/d/1/e/2/x.log", false),
            ("/d/k1/e/x.log", false),
            ("/f/1/2/x", true),
            ("/f/out/x", false),
            ("/f", false),
            ("/g/h1/j", true),
            ("/g/h/j", false),
        ] {
            assert_eq!(of.name(Path::new(path)), is, "{path}");
        }
    }

    proptest! {
        /// Against what a scan finds on a real disk.
        #[test]
        fn a_name_is_one_of_the_patterns_if_a_scan_finds_it(
            files in prop::collection::btree_set("[ab](/[ab]){0,2}/[ab]\\.(log|txt)", 1..12),
            globs in prop::collection::vec("([ab*]|\\*\\*)(/([ab*]|\\*\\*)){0,2}/(\\*|a\\.\\*|\\*\\.log)", 1..3),
            exclude in prop::option::of("(a|b|a\\.log|DIR/a/\\*\\*|DIR/\\*/b)"),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().to_str().unwrap();
            for file in &files {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            let globs: Vec<String> = globs.iter().map(|glob| format!("{root}/{glob}")).collect();
            let exclude: Vec<String> = exclude.iter().map(|glob| glob.replace("DIR", root)).collect();
            let patterns = Patterns::new(&globs, &exclude).unwrap();
            let scan = patterns.scan(Path::new("/nowhere"));
            let found: std::collections::BTreeSet<_> = scan.files.values().map(|found| found.path.clone()).collect();
            for file in &files {
                let path = dir.path().join(file);
                prop_assert_eq!(patterns.name(&path), found.contains(&path), "{} of {:?} but {:?}", file, globs, exclude);
            }
        }
    }
}
