//! `logweir dlq replay`.

use super::progress::Progress;
use super::{Letters, unknown};
use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use logweir_queue::{EntryId, Replay};
use logweir_telemetry::config::BY_HAND;
use logweir_telemetry::exit::Exit;
use serde::Serialize;

/// Put dead letters back into the queue
///
/// A batch keeps its identity, so what it holds is counted at most once, however often it is replayed and
/// whatever else is on its way. Mend first what made it fail: it dies again otherwise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir dlq replay 1795514580000-0
  logweir dlq replay --all")]
pub(super) struct Args {
    /// The IDs, as `dlq list` shows them
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All that there are at this moment; what dies again meanwhile is left alone
    #[arg(long, help_heading = BY_HAND)]
    all: bool,
}

/// What was done, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Replayed {
    replayed: Vec<ReplayedLetter>,
    unknown: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ReplayedLetter {
    /// The dead letter.
    id: String,
    /// Its new ID in the queue.
    entry_id: String,
}

pub(super) async fn run(letters: &Letters, args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let ids = letters.chosen(&args.ids, args.all).await?;
    let mut done = Replayed::default();
    let result = replay(letters, &ids, args.all, &mut done).await;
    // What was done before an error is said in any case.
    if shared.json {
        output::json(&done)?;
    } else {
        let line = |r: &ReplayedLetter| format!("{} is queued again as {}\n", r.id, r.entry_id);
        output::data(done.replayed.iter().map(line).collect::<String>().as_bytes())?;
    }
    if args.all {
        output::note(&format!("{} of {} dead letters are queued again", done.replayed.len(), ids.len()));
    }
    result?;
    Ok(if done.unknown.is_empty() { Exit::Done } else { Exit::Negative })
}

async fn replay(letters: &Letters, ids: &[String], all: bool, done: &mut Replayed) -> Result<(), Failure> {
    let place = &letters.0;
    let mut progress = Progress::of(ids.len());
    for id in ids {
        let outcome = match id.parse::<EntryId>() {
            Ok(id) => place.queue.replay(&id).await.map_err(place.failure())?,
            Err(_) => Replay::Unknown,
        };
        match outcome {
            Replay::Queued(entry) => {
                done.replayed.push(ReplayedLetter { id: id.clone(), entry_id: entry.to_string() });
            }
            // Somebody else was faster; that is no failure here.
            Replay::Unknown if all => {}
            Replay::Unknown => {
                unknown(id);
                done.unknown.push(id.clone());
            }
        }
        progress.step();
    }
    Ok(())
}
