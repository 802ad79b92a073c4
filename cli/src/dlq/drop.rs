//! `logweir dlq drop`: a batch is given up for good.
//!
//! First Postgres, in one transaction: its numbers are taken in the ledger without a count, and a loss says so. Then
//! it leaves Redis. Whatever happens in between, doing it again changes nothing twice; and whatever else of this batch is
//! on its way (a replay, a late duplicate), it finds its numbers taken.

use super::ledger::{self, Given};
use super::letter;
use super::progress::Progress;
use super::{Letters, unknown};
use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use crate::postgres::Database;
use logweir_telemetry::config::BY_HAND;
use logweir_telemetry::exit::Exit;
use serde::Serialize;
use std::io::{self, BufRead as _, IsTerminal as _};

/// Give dead letters up: they are never counted, and removed
///
/// Their event numbers are closed in Postgres without adding counts, so that nothing that may still be on its way
/// under them counts either, and the loss is noted in the table losses with the reason dropped. To keep a copy, use
/// `dlq export` before.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir dlq drop 1795514580000-0
  logweir dlq export dead.ndjson && logweir dlq drop --all --yes")]
pub(super) struct Args {
    /// The IDs, as `dlq list` shows them
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All that there are at this moment
    #[arg(long, help_heading = BY_HAND)]
    all: bool,
    /// Don't ask
    #[arg(long, help_heading = BY_HAND)]
    yes: bool,
}

/// What was done, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
struct Dropped {
    dropped: Vec<DroppedLetter>,
    unknown: Vec<String>,
}

#[derive(Debug, Serialize)]
struct DroppedLetter {
    /// The dead letter.
    id: String,
    /// Its batch; null when it can't be read, and no number could be closed.
    batch: Option<String>,
    /// How many events are lost by this.
    events: Option<u64>,
    /// How many of its events had been counted or dropped before.
    known: Option<u64>,
}

pub(super) async fn run(letters: &Letters, args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let ids = letters.chosen(&args.ids, args.all).await?;
    if args.all && !args.yes && !ids.is_empty() && !confirmed(ids.len())? {
        output::note("nothing was dropped");
        if shared.json {
            output::json(&Dropped::default())?;
        }
        return Ok(Exit::Negative);
    }
    let mut done = Dropped::default();
    let result = drop_each(letters, &ids, args.all, shared, &mut done).await;
    // What was done before an error is said in any case.
    if shared.json {
        output::json(&done)?;
    }
    if args.all {
        output::note(&format!("{} of {} dead letters are dropped", done.dropped.len(), ids.len()));
    }
    result?;
    Ok(if done.unknown.is_empty() { Exit::Done } else { Exit::Negative })
}

fn confirmed(count: usize) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let text = format!("this gives up {count} dead letters for good: say --yes, too");
        return Err(Failure::Usage(text).into());
    }
    output::note(&format!("Give up {count} dead letters for good, so that they are never counted? [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn drop_each(
    letters: &Letters,
    ids: &[String],
    all: bool,
    shared: &Shared,
    done: &mut Dropped,
) -> anyhow::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let database = Database::open(shared).await?;
    let place = &letters.0;
    let mut progress = Progress::of(ids.len());
    for id in ids {
        let Some(found) = letters.find(id).await? else {
            if !all {
                unknown(id);
                done.unknown.push(id.clone());
            }
            progress.step();
            continue;
        };
        let given = ledger::give_up(&database, &found).await?;
        if !place.queue.remove_dead_letter(&found.id).await.map_err(place.failure())? {
            output::note(&format!(
                "{id} was replayed or dropped meanwhile; what it holds won't be counted any more"
            ));
        }
        let dropped = DroppedLetter::of(id, &given);
        if !shared.json {
            output::data(dropped.text(&given).as_bytes())?;
        }
        done.dropped.push(dropped);
        progress.step();
    }
    Ok(())
}

impl DroppedLetter {
    fn of(id: &str, given: &Given) -> Self {
        let (batch, events, known) = match given {
            Given::Closed { batch, new, known } => (Some(batch.to_string()), Some(*new), Some(*known)),
            Given::Unnumbered { .. } => (None, None, None),
        };
        Self { id: id.to_owned(), batch, events, known }
    }

    fn text(&self, given: &Given) -> String {
        match given {
            Given::Closed { batch, new, known: 0 } => {
                format!("{} is dropped: {new} events of {batch} are not counted\n", self.id)
            }
            Given::Closed { batch, new, known } => format!(
                "{} is dropped: {new} events of {batch} are not counted; {known} had been counted or dropped before\n",
                self.id
            ),
            Given::Unnumbered { why } => format!(
                "{} is dropped; it bore no numbers to be closed: {}\n",
                self.id,
                letter::printable(why)
            ),
        }
    }
}
