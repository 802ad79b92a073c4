//! `logweir dlq export`.

use super::progress::Progress;
use super::{Letters, file, unknown};
use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use anyhow::Context as _;
use logweir_telemetry::config::BY_HAND;
use logweir_telemetry::exit::Exit;
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Write dead letters to a file, whole, and leave them where they are
///
/// One JSON object a line, with everything that is known of the letter, its fields byte for byte, and its events to be
/// read. `dlq import` puts them back. The file is there whole or not at all, and only its owner may read it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir dlq export dead.ndjson
  logweir dlq export - 1795514580000-0 | jq -r '.lines[].event'
  logweir dlq export - --all | gzip > dead.ndjson.gz")]
pub(super) struct Args {
    /// The file, which is replaced, or - for stdout
    file: PathBuf,
    /// The IDs, as `dlq list` shows them [default: all]
    #[arg(conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All that there are at this moment
    #[arg(long, help_heading = BY_HAND)]
    all: bool,
}

pub(super) async fn run(letters: &Letters, args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let all = args.all || args.ids.is_empty();
    let ids = letters.chosen(&args.ids, all).await?;
    let mut missing: Vec<&str> = Vec::new();
    let mut exported = 0;
    let mut target = Target::open(&args.file)?;
    let mut progress = Progress::of(ids.len());
    for id in &ids {
        match letters.find(id).await? {
            Some(letter) => {
                target.write(&file::write(&letter)?)?;
                exported += 1;
            }
            // It was replayed or dropped meanwhile.
            None if all => {}
            None => {
                unknown(id);
                missing.push(id);
            }
        }
        progress.step();
    }
    let to_stdout = matches!(target, Target::Stdout);
    target.finish()?;
    let name = args.file.display().to_string();
    if !to_stdout && shared.json {
        output::json(&json!({"file": name, "exported": exported, "unknown": missing}))?;
    } else if !to_stdout {
        output::note(&format!("{exported} dead letters are in {}", output::printable(&name)));
    }
    Ok(if missing.is_empty() { Exit::Done } else { Exit::Negative })
}

enum Target {
    Stdout,
    /// Beside the file, and renamed to it at the end.
    Beside(BufWriter<NamedTempFile>, PathBuf),
    /// What can't be replaced: a pipe, a device.
    Direct(BufWriter<File>),
}

impl Target {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Target::Stdout);
        }
        let failed = |error: std::io::Error| {
            Failure::Usage(format!("can't write {}: {error}; choose another place", path.display()))
        };
        // A link stays one: what it leads to is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if std::fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            return Ok(Target::Direct(BufWriter::new(file)));
        }
        if path.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()).into());
        }
        let beside = NamedTempFile::new_in(folder(&path)).map_err(failed)?;
        Ok(Target::Beside(BufWriter::new(beside), path))
    }

    fn write(&mut self, line: &[u8]) -> anyhow::Result<()> {
        match self {
            Target::Stdout => output::data(line),
            Target::Beside(file, path) => {
                file.write_all(line).with_context(|| format!("can't write beside {}", path.display()))
            }
            Target::Direct(file) => Ok(file.write_all(line)?),
        }
    }

    /// On the disk, under its name.
    fn finish(self) -> anyhow::Result<()> {
        match self {
            Target::Stdout => Ok(()),
            Target::Direct(mut file) => Ok(file.flush()?),
            Target::Beside(file, path) => {
                let name = || format!("can't write {}", path.display());
                let file = file.into_inner().map_err(|e| e.into_error()).with_context(name)?;
                file.as_file().sync_all().with_context(name)?;
                file.persist(&path).with_context(name)?;
                File::open(folder(&path)).and_then(|folder| folder.sync_all()).with_context(name)
            }
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn the_file_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("dead"), dir.path().join("link"));
        std::fs::write(&path, "of before").unwrap();
        symlink(&path, &link).unwrap();
        let mut target = Target::open(&link).unwrap();
        target.write(b"one\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"of before");
        drop(target);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
        let mut target = Target::open(&link).unwrap();
        target.write(b"one\n").unwrap();
        target.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
        assert!(link.is_symlink());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for wrong in [dir.path().to_owned(), dir.path().join("no/such/folder")] {
            assert!(Target::open(&wrong).is_err(), "{}", wrong.display());
        }
        assert!(matches!(Target::open(Path::new("/dev/null")).unwrap(), Target::Direct(_)));
    }
}
