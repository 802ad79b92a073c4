//! `logweir dlq`: the batches that could not be counted, with all that is known of them.

mod letter;
mod show;

use crate::args::Shared;
use crate::failure::{self, Failure};
use crate::output;
use clap::Subcommand;
use letter::Listed;
use logweir_queue::{Ack, EntryId, Queue, Replay, Settings, Shard};
use logweir_telemetry::exit::Exit;
use logweir_telemetry::redact::SecretUrl;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// How long one call to Redis may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How many dead letters are fetched at a time: they come with their bodies, of up to some MiB each.
const PAGE: usize = 8;

/// Look at dead letters, and put them back into the queue
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Show(Show),
    Replay(ReplayArgs),
}

/// List the dead letters, the oldest first
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir dlq list
  logweir dlq list --json | jq -r '.[].error' | sort | uniq -c")]
struct List {
    /// The most that are listed
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// Show all of one dead letter: its error, its fields and its events
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  logweir dlq show 1795514580000-0 --events 100")]
struct Show {
    /// Its ID, as `dlq list` shows it
    id: String,
    /// The most events that are shown
    #[arg(long, value_name = "N", default_value_t = 20)]
    events: usize,
}

/// Put dead letters back into the queue
///
/// A batch keeps its identity, so what it holds is counted at most once, however often it is replayed and
/// whatever else is on its way. Mend first what made it fail: it dies again otherwise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir dlq replay 1795514580000-0
  logweir dlq replay --all")]
struct ReplayArgs {
    /// The IDs, as `dlq list` shows them
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All that there are at this moment
    #[arg(long)]
    all: bool,
}

/// Does it.
pub(crate) async fn run(args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let letters = Letters::open(shared.redis()?)?;
    match &args.command {
        Command::List(list) => letters.list(list, shared).await,
        Command::Show(show) => letters.show(show, shared).await,
        Command::Replay(replay) => letters.replay(replay, shared).await,
    }
}

struct Letters {
    queue: Queue,
    url: SecretUrl,
}

/// What a replay did, as `--json` prints it.
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

impl Letters {
    fn open(url: SecretUrl) -> Result<Self, Failure> {
        let settings =
            Settings { url: url.expose().to_owned(), ack: Ack::Memory, deadline: DEADLINE, shard: Shard(0) };
        let queue = Queue::new(settings).map_err(|e| failure::of_queue(&e, &url))?;
        Ok(Self { queue, url })
    }

    fn failure(&self) -> impl Fn(logweir_queue::QueueError) -> Failure + '_ {
        |error| failure::of_queue(&error, &self.url)
    }

    async fn list(&self, args: &List, shared: &Shared) -> anyhow::Result<Exit> {
        let mut listed: Vec<Listed> = Vec::new();
        let mut after: Option<EntryId> = None;
        while listed.len() < args.limit {
            let count = PAGE.min(args.limit - listed.len());
            let page = self.queue.dead_letters(after.as_ref(), count).await.map_err(self.failure())?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            listed.extend(page.iter().map(Listed::of));
        }
        if shared.json {
            output::json(&listed)?;
            return Ok(Exit::Done);
        }
        output::data(output::table(&Listed::COLUMNS, listed.iter().map(Listed::cells)).as_bytes())?;
        let all = self.queue.depth().await.map_err(self.failure())?.dead;
        let shown = u64::try_from(listed.len())?;
        if all > shown {
            output::note(&format!("these are {shown} of {all}; --limit {all} shows all"));
        }
        Ok(Exit::Done)
    }

    async fn show(&self, args: &Show, shared: &Shared) -> anyhow::Result<Exit> {
        let letter = match args.id.parse::<EntryId>() {
            Ok(id) => self.queue.dead_letter_by_id(&id).await.map_err(self.failure())?,
            // What can't be an ID is the ID of nothing.
            Err(_) => None,
        };
        let Some(letter) = letter else {
            unknown(&args.id);
            return Ok(Exit::Negative);
        };
        let shown = show::Shown::of(&letter, args.events);
        if shared.json {
            output::json(&shown)?;
        } else {
            output::data(shown.text().as_bytes())?;
        }
        Ok(Exit::Done)
    }

    async fn replay(&self, args: &ReplayArgs, shared: &Shared) -> anyhow::Result<Exit> {
        let mut done = Replayed::default();
        let result = if args.all {
            self.replay_all(&mut done).await
        } else {
            self.replay_ids(args, &mut done).await.map_err(Into::into)
        };
        // What was done before an error is said in any case.
        if shared.json {
            output::json(&done)?;
        } else {
            let lines: Vec<String> = done
                .replayed
                .iter()
                .map(|r| format!("{} is queued again as {}\n", r.id, r.entry_id))
                .collect();
            output::data(lines.concat().as_bytes())?;
        }
        result?;
        Ok(if done.unknown.is_empty() { Exit::Done } else { Exit::Negative })
    }

    async fn replay_ids(&self, args: &ReplayArgs, done: &mut Replayed) -> Result<(), Failure> {
        for id in &args.ids {
            let outcome = match id.parse::<EntryId>() {
                Ok(id) => self.queue.replay(&id).await.map_err(self.failure())?,
                Err(_) => Replay::Unknown,
            };
            match outcome {
                Replay::Queued(entry) => {
                    done.replayed.push(ReplayedLetter { id: id.clone(), entry_id: entry.to_string() });
                }
                Replay::Unknown => {
                    unknown(id);
                    done.unknown.push(id.clone());
                }
            }
        }
        Ok(())
    }

    /// Replays as many as there are at the start, the oldest first: what dies again meanwhile gets a later ID,
    /// and is left alone.
    async fn replay_all(&self, done: &mut Replayed) -> anyhow::Result<()> {
        let total = self.queue.depth().await.map_err(self.failure())?.dead;
        let mut left = usize::try_from(total)?;
        let mut after: Option<EntryId> = None;
        let mut page: VecDeque<EntryId> = VecDeque::new();
        while left > 0 {
            let Some(id) = page.pop_front() else {
                let letters = self.queue.dead_letters(after.as_ref(), PAGE.min(left)).await;
                page = letters.map_err(self.failure())?.into_iter().map(|letter| letter.id).collect();
                if page.is_empty() {
                    break;
                }
                continue;
            };
            // Unknown means that somebody else was faster; that is no failure here.
            if let Replay::Queued(entry) = self.queue.replay(&id).await.map_err(self.failure())? {
                done.replayed.push(ReplayedLetter { id: id.to_string(), entry_id: entry.to_string() });
            }
            left -= 1;
            after = Some(id);
            let count = done.replayed.len();
            if count > 0 && count.is_multiple_of(100) {
                output::note(&format!("{count} of {total} are queued again"));
            }
        }
        output::note(&format!("{} of {total} dead letters are queued again", done.replayed.len()));
        Ok(())
    }
}

fn unknown(id: &str) {
    output::note(&format!("there is no dead letter {}; see logweir dlq list", output::printable(id)));
}
