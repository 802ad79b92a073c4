//! `logweir dlq list`.

use super::Letters;
use super::letter::Listed;
use crate::args::Shared;
use crate::output;
use logweir_queue::EntryId;
use logweir_telemetry::exit::Exit;

/// So many rows have their columns in common; the next ones get a header of their own.
const ROWS: usize = 500;

/// List the dead letters, the oldest first
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir dlq list
  logweir dlq list --limit 100000 --json | jq -r '.[].error' | sort | uniq -c")]
pub(super) struct Args {
    /// The most that are listed
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

pub(super) async fn run(letters: &Letters, args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let place = &letters.0;
    let mut out = Out { json: shared.json, rows: Vec::new(), printed: 0 };
    let listed = list(letters, args.limit, &mut out).await;
    if out.len() == 0 && listed.is_err() {
        return listed.map(|()| Exit::Done);
    }
    // What was found before an error is a whole document all the same.
    let printed = out.finish()?;
    listed?;
    let all = place.queue.depth().await.map_err(place.failure())?.dead;
    if all > u64::try_from(printed)? {
        output::note(&format!("these are {printed} of {all}; --limit {all} shows all"));
    }
    Ok(Exit::Done)
}

/// Lists piece by piece: what is printed is forgotten.
async fn list(letters: &Letters, limit: usize, out: &mut Out) -> anyhow::Result<()> {
    let place = &letters.0;
    let mut after: Option<EntryId> = None;
    while out.len() < limit {
        let looked = place.queue.look_at_dead(after.as_ref(), None).await.map_err(place.failure())?;
        let left = limit - out.len();
        out.rows.extend(looked.found.iter().take(left).map(Listed::of));
        out.print(ROWS)?;
        after = looked.next;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

struct Out {
    json: bool,
    rows: Vec<Listed>,
    printed: usize,
}

impl Out {
    /// How many there are so far, printed or not.
    fn len(&self) -> usize {
        self.printed + self.rows.len()
    }

    /// Prints what waits, when it is so much.
    fn print(&mut self, least: usize) -> anyhow::Result<()> {
        if self.rows.is_empty() || self.rows.len() < least {
            return Ok(());
        }
        if self.json {
            let mut text = String::new();
            for row in &self.rows {
                text += if self.printed == 0 { "[" } else { "," };
                text += &serde_json::to_string(row)?;
                self.printed += 1;
            }
            output::data(text.as_bytes())?;
        } else {
            let table = output::table(&Listed::COLUMNS, self.rows.iter().map(Listed::cells));
            output::data(table.as_bytes())?;
            self.printed += self.rows.len();
        }
        self.rows.clear();
        Ok(())
    }

    /// Prints the rest; answers how many it was in all.
    fn finish(mut self) -> anyhow::Result<usize> {
        self.print(1)?;
        match (self.json, self.printed) {
            (true, 0) => output::data(b"[]\n")?,
            (true, _) => output::data(b"]\n")?,
            (false, 0) => output::data(output::table(&Listed::COLUMNS, []).as_bytes())?,
            (false, _) => {}
        }
        Ok(self.printed)
    }
}
