//! `logweir dlq import`.
//!
//! A letter that is among the dead ones already is passed over: known by its batch and by the ID that it had in the
//! queue. Nobody can slip in between the look and the putting: Redis adds only while the stream is as it was looked at.

use super::{Letters, file, letter};
use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use logweir_queue::{DeadLetter, EntryId, Restored, Shard};
use logweir_telemetry::exit::Exit;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// The longest line, in bytes: the largest body, with its events to be read.
const MAX_LINE: u64 = 512 << 20;

/// Put exported dead letters back among the dead letters
///
/// They keep what is known of them, but their ID. One that is there already is passed over, so importing twice is
/// harmless; and what has been counted meanwhile isn't counted again by a replay. --max-dead-entries of the
/// workers doesn't hold it back.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir dlq import dead.ndjson
  gzip -dc dead.ndjson.gz | logweir dlq import - && logweir dlq replay --all")]
pub(super) struct Args {
    /// A file of `dlq export`, or - for stdin
    file: PathBuf,
}

/// What was done, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Imported {
    imported: Vec<ImportedLetter>,
    /// Those that were there already, by their ID in the file.
    skipped: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ImportedLetter {
    /// Its ID in the file.
    was: String,
    /// Its ID now.
    id: String,
}

pub(super) async fn run(letters: &Letters, args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let mut lines = Lines::open(&args.file)?;
    let mut done = Imported::default();
    let result = import(letters, &mut lines, shared.json, &mut done).await;
    // What was done before an error is said in any case.
    if shared.json {
        output::json(&done)?;
    } else {
        let (imported, skipped) = (done.imported.len(), done.skipped.len());
        output::note(&format!("{imported} dead letters are back; {skipped} were there already"));
    }
    result.map(|()| Exit::Done)
}

async fn import(letters: &Letters, lines: &mut Lines, json: bool, done: &mut Imported) -> anyhow::Result<()> {
    let mut known = Known { letters, keys: HashSet::new(), seen: HashMap::new() };
    while let Some((number, line)) = lines.next()? {
        let letter = file::read(&line).map_err(|why| {
            Failure::Usage(format!("line {number} is no dead letter: {why}; those before it are imported"))
        })?;
        let was = letter.id.to_string();
        match known.put(&letter).await? {
            Some(id) => {
                if !json {
                    output::data(format!("{was} is there again as {id}\n").as_bytes())?;
                }
                done.imported.push(ImportedLetter { was, id: id.0 });
            }
            None => {
                if !json {
                    output::data(format!("{was} is there already\n").as_bytes())?;
                }
                done.skipped.push(was);
            }
        }
    }
    Ok(())
}

/// Producer, number, and the ID in the queue; the first two are missing where the entry lacked them.
type Key = (Option<String>, Option<String>, EntryId);

fn key(of: &DeadLetter) -> Key {
    (letter::text(of, "producer"), letter::text(of, "seq"), of.entry_id.clone())
}

/// The dead letters of each shard up to the ID `seen`.
struct Known<'a> {
    letters: &'a Letters,
    keys: HashSet<Key>,
    seen: HashMap<Shard, EntryId>,
}

impl Known<'_> {
    /// Puts it among the dead letters; `None` when it is there.
    async fn put(&mut self, letter: &DeadLetter) -> Result<Option<EntryId>, Failure> {
        let place = &self.letters.0;
        let (key, shard) = (key(letter), letter.entry_id.shard());
        while !self.keys.contains(&key) {
            let restored = place.queue.restore_dead_letter(letter, self.seen.get(&shard)).await;
            match restored.map_err(place.failure())? {
                Restored::Added(id) => {
                    self.keys.insert(key);
                    self.seen.insert(shard, id.clone());
                    return Ok(Some(id));
                }
                Restored::Moved(last) => self.look(last).await?,
            }
        }
        Ok(None)
    }

    /// Gets to know those of a shard after `seen`, at least up to `last`.
    async fn look(&mut self, last: EntryId) -> Result<(), Failure> {
        let place = &self.letters.0;
        let shard = last.shard();
        let mut after = self.seen.get(&shard).cloned();
        loop {
            let looked = place.queue.look_at_dead(after.as_ref(), None).await.map_err(place.failure())?;
            self.keys.extend(looked.found.iter().map(key));
            after = looked.next;
            if after.as_ref().is_none_or(|after| after.shard() > shard) {
                self.seen.insert(shard, last);
                return Ok(());
            }
        }
    }
}

struct Lines {
    from: Box<dyn BufRead + Send>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let from: Box<dyn BufRead + Send> = if path == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(path).map_err(|error| {
                Failure::Usage(format!(
                    "can't read {}: {error}; name a file of logweir dlq export",
                    path.display()
                ))
            })?;
            Box::new(BufReader::new(file))
        };
        Ok(Self { from, number: 0 })
    }

    /// The next line that isn't blank, with its number.
    fn next(&mut self) -> anyhow::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let mut line = Vec::new();
            if self.from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if u64::try_from(line.len())? == MAX_LINE {
                let text =
                    format!("line {} is longer than {MAX_LINE} bytes, and so no dead letter", self.number);
                return Err(Failure::Usage(text).into());
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}
