//! `logweir dlq`: the batches that could not be counted, with all that is known of them.
//!
//! ```text
//! {0}:dead ── list, show ──────────────► stdout
//!    │  ▲──── import ◄─ FILE ◄─ export ───┤
//!    │                                    │
//!    ├── replay ─► {0}:queue, to be counted under the same numbers
//!    └── drop ───► first Postgres: the numbers are taken, and a loss; then gone
//! ```
//!
//! Limits: one letter with its body in memory at a time; of thousands of others only their IDs.

mod drop;
mod export;
mod file;
mod import;
mod ledger;
mod letter;
mod list;
mod progress;
mod replay;
mod show;

use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use crate::queue::Place;
use clap::Subcommand;
use logweir_queue::{DeadLetter, EntryId};
use logweir_telemetry::exit::Exit;

pub(crate) use ledger::{dropped, multirange};

/// Look at dead letters, put them back into the queue, give them up, or keep them in a file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Replay(replay::Args),
    Drop(drop::Args),
    Export(export::Args),
    Import(import::Args),
}

/// Does it.
pub(crate) async fn run(args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let letters = Letters(Place::open(shared)?);
    match &args.command {
        Command::List(args) => list::run(&letters, args, shared).await,
        Command::Show(args) => show::run(&letters, args, shared).await,
        Command::Replay(args) => replay::run(&letters, args, shared).await,
        Command::Drop(args) => drop::run(&letters, args, shared).await,
        Command::Export(args) => export::run(&letters, args, shared).await,
        Command::Import(args) => import::run(&letters, args, shared).await,
    }
}

struct Letters(Place);

impl Letters {
    /// The IDs of all that there are now, the oldest first: what dies later is left alone.
    async fn all(&self) -> Result<Vec<EntryId>, Failure> {
        let mut ids = Vec::new();
        let mut after: Option<EntryId> = None;
        loop {
            let looked = self.0.queue.look_at_dead(after.as_ref(), None).await.map_err(self.0.failure())?;
            ids.extend(looked.found.into_iter().map(|letter| letter.id));
            after = looked.next;
            if after.is_none() {
                return Ok(ids);
            }
        }
    }

    /// One letter as it was named; `None` when there is none.
    async fn find(&self, id: &str) -> Result<Option<DeadLetter>, Failure> {
        match id.parse() {
            Ok(id) => self.0.queue.dead_letter_by_id(&id).await.map_err(self.0.failure()),
            // What can't be an ID is the ID of nothing.
            Err(_) => Ok(None),
        }
    }

    /// The letters that were named, or all.
    async fn chosen(&self, ids: &[String], all: bool) -> Result<Vec<String>, Failure> {
        if all {
            return Ok(self.all().await?.into_iter().map(|id| id.0).collect());
        }
        Ok(ids.to_vec())
    }
}

fn unknown(id: &str) {
    output::note(&format!("there is no dead letter {}; see logweir dlq list", output::printable(id)));
}
