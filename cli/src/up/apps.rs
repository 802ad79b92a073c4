//! The simulated apps: their script, and the counts that they keep themselves.

use super::watch::Counts;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// They are started by sh, so that nothing has to be installed.
const SCRIPT: &str = include_str!("../../../examples/apps/app.sh");

/// The apps; each is also the name of its service.
pub(super) const NAMES: [&str; 3] = ["checkout", "payments", "search"];

/// Small batches and a small window, so that one sees in seconds what takes much longer with the defaults.
pub(super) const AGENT_FLAGS: [&str; 6] =
    ["--linger", "250ms", "--batch-events", "50", "--window-batches", "8"];

/// A short lease, for the same reason: what a paused worker had in hand is soon taken over.
pub(super) const WORKER_FLAGS: [&str; 2] = ["--lease", "5s"];

/// Where the script is put.
pub(super) fn script(home: &Path) -> PathBuf {
    home.join("app.sh")
}

pub(super) fn write_script(home: &Path) -> anyhow::Result<()> {
    let path = script(home);
    std::fs::write(&path, SCRIPT).with_context(|| format!("can't write {}", path.display()))
}

/// What the apps say that they wrote, by service and level. An app that wrote nothing says nothing.
pub(super) fn written(home: &Path) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for app in NAMES {
        let path = home.join(format!("{app}.count"));
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.with_context(|| format!("can't read {}", path.display()))?,
        };
        for (level, count) in parse(&text).with_context(|| format!("{} is broken", path.display()))? {
            counts.insert((app.to_owned(), level), count);
        }
    }
    Ok(counts)
}

/// Lines of `level count`.
fn parse(text: &str) -> anyhow::Result<Vec<(String, u64)>> {
    text.lines()
        .map(|line| {
            let (level, count) = line.split_once(' ').context("expected a level and a count")?;
            Ok((level.to_owned(), count.parse()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn each_app_counts_the_lines_that_it_writes() {
        for app in NAMES {
            let folder = tempfile::tempdir().unwrap();
            write_script(folder.path()).unwrap();
            let run = || {
                let mut sh = Command::new("sh");
                sh.arg(script(folder.path())).arg(app).arg(folder.path()).args(["40", "1"]);
                assert!(sh.status().unwrap().success());
            };
            run();
            // The second goes on where the first ended.
            run();
            let log = std::fs::read_to_string(folder.path().join(format!("{app}.log"))).unwrap();
            let counts = written(folder.path()).unwrap();
            assert!(log.lines().count() >= 80);
            assert_eq!(counts.values().sum::<u64>(), u64::try_from(log.lines().count()).unwrap());
            assert_eq!(
                counts.keys().map(|(_, level)| level.as_str()).collect::<Vec<_>>(),
                ["debug", "error", "info", "warn"]
            );
            let errors = log.lines().filter(|line| line.to_lowercase().contains("error")).count();
            assert_eq!(counts[&(app.to_owned(), "error".to_owned())], u64::try_from(errors).unwrap());
        }
    }

    #[test]
    fn nothing_written_is_no_count() {
        let folder = tempfile::tempdir().unwrap();
        assert!(written(folder.path()).unwrap().is_empty());
        std::fs::write(folder.path().join("search.count"), "info many\n").unwrap();
        assert!(format!("{:#}", written(folder.path()).unwrap_err()).contains("search.count"));
    }
}
