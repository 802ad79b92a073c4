//! Running a target as a test: the corpus as it is, then mutated.

use crate::mutate::Mutator;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// How many mutated inputs a test tries, unless `LOGWEIR_FUZZ_RUNS` says otherwise. All targets together take some
/// seconds so.
const RUNS: u64 = 5_000;

/// Runs the corpus and what is made of it, or the one input that `LOGWEIR_FUZZ_INPUT` names.
pub(crate) fn run(name: &str, check: fn(&[u8])) {
    if let Ok(wanted) = std::env::var("LOGWEIR_FUZZ_INPUT") {
        let (target, path) = wanted.split_once(':').expect("LOGWEIR_FUZZ_INPUT is CRATE/TARGET:PATH");
        if target == name {
            check(&std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}")));
        }
        return;
    }
    let inputs = read(name);
    for (path, input) in &inputs {
        attempt(name, path, input, check);
    }
    let seeds: Vec<Vec<u8>> = inputs.into_iter().map(|(_, input)| input).collect();
    let number = |variable: &str, default| {
        std::env::var(variable)
            .ok()
            .map_or(default, |text| text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
    };
    let mut mutator = Mutator::new(number("LOGWEIR_FUZZ_SEED", 0), &seeds, dictionary(name));
    let failed = folder().join("artifacts").join(name).join("from-test");
    for _ in 0..number("LOGWEIR_FUZZ_RUNS", RUNS) {
        attempt(name, &failed, &mutator.next(), check);
    }
}

/// Checks one input. When it fails it is kept at `path`, and the way to try it again is said.
fn attempt(name: &str, path: &Path, input: &[u8], check: fn(&[u8])) {
    if let Err(panic) = catch_unwind(|| check(input)) {
        let kept = path.exists() && std::fs::read(path).is_ok_and(|there| there == input);
        let written = kept
            || path.parent().is_some_and(|dir| std::fs::create_dir_all(dir).is_ok())
                && std::fs::write(path, input).is_ok();
        let (krate, target) = name.split_once('/').unwrap_or((name, ""));
        eprintln!("the target {name} fails on this input: {:?}", input.escape_ascii().to_string());
        if written {
            eprintln!(
                "try it again: LOGWEIR_FUZZ_INPUT={name}:{} cargo test -p logweir-{krate} fuzz_{target}",
                path.display()
            );
        }
        resume_unwind(panic);
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The corpus, in the order of the names.
fn read(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = folder().join("corpus").join(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus in {} is empty", dir.display());
    paths
        .into_iter()
        .map(|path| {
            let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, input)
        })
        .collect()
}

/// The words of `dict/CRATE/TARGET`, where there is such a file: one a line in quotes, with `\xff` for bytes, as
/// libFuzzer has it.
fn dictionary(name: &str) -> Vec<Vec<u8>> {
    let Ok(text) = std::fs::read_to_string(folder().join("dict").join(name)) else { return Vec::new() };
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(word).collect()
}

fn word(line: &str) -> Vec<u8> {
    let quoted = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
    let mut rest = quoted.unwrap_or_else(|| panic!("a word in quotes was expected: {line}")).bytes();
    let mut out = Vec::new();
    while let Some(byte) = rest.next() {
        match (byte, byte == b'\\') {
            (_, false) => out.push(byte),
            (_, true) => match rest.next() {
                Some(b'x') => {
                    let digits = [rest.next(), rest.next()].map(Option::unwrap_or_default);
                    let hex = std::str::from_utf8(&digits).unwrap_or_default();
                    out.push(u8::from_str_radix(hex, 16).unwrap_or_else(|error| panic!("{line}: {error}")));
                }
                Some(literal @ (b'\\' | b'"')) => out.push(literal),
                _ => panic!("an escape that isn't known: {line}"),
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(word(r#""a\x00\xff\"b\\""#), b"a\0\xff\"b\\");
    }
}
