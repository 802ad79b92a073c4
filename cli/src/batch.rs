//! `logweir batch`: where is this batch?
//!
//! ```text
//! the queue ─► dead letters ─► Postgres: ledger, losses
//! ```
//!
//! In the order in which a batch moves, so that one that moves meanwhile is met later on; where it moves back (a replay),
//! a second round finds it. Bodies are not fetched, and the looking ends after [`PATIENCE`].

use crate::args::Shared;
use crate::dlq::{self, multirange};
use crate::failure::Failure;
use crate::output::{self, printable};
use crate::postgres::Database;
use crate::queue::Place;
use jiff::Timestamp;
use logweir_proto::BatchId;
use logweir_queue::{DeadLetter, EntryId, Fields, Numbers, Queued};
use logweir_telemetry::exit::Exit;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio_postgres::types::Type;

/// How long a very long queue is looked through.
const PATIENCE: Duration = Duration::from_secs(60);

/// Say where a batch is: queued, held by a worker, counted, dead, dropped, or never seen
///
/// It is looked for in the queue, among the dead letters, and in Postgres. Postgres knows numbers, not batches: a batch
/// that is neither queued nor dead is as its first event is. Exit code 1 means that nobody knows it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir batch 0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/1
  logweir batch 0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/1 --json | jq -r .state")]
pub(crate) struct Args {
    /// The batch, as a 202 and the logs name it: the producer, and the number of the first event
    #[arg(value_name = "PRODUCER/SEQ")]
    batch: BatchId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Queued,
    Held,
    Counted,
    Dead,
    Dropped,
    Unknown,
}

/// The answer, as `--json` prints it: what doesn't apply is absent.
#[derive(Debug, Serialize)]
struct Answer {
    batch: String,
    state: State,
    #[serde(flatten)]
    found: Found,
    #[serde(flatten)]
    ledger: Ledger,
    /// Whether the whole queue was looked through.
    complete: bool,
}

/// What Redis has of it.
#[derive(Debug, Default, Serialize)]
#[serde(default)]
struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// How many numbers it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    /// Its ID in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_id: Option<String>,
    /// The worker that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u64>,
    /// Its ID among the dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The batch by which it stands there, where that is a larger one that takes its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    within: Option<String>,
}

/// What Postgres has of it.
#[derive(Debug, Default, Serialize)]
struct Ledger {
    /// How many of its events are counted or dropped, where its length is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_events: Option<u64>,
    /// The producer's next number that is applied, where the first of the batch isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_applied: Option<u64>,
    /// When the drop was.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_at: Option<String>,
    /// How many events were lost by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_events: Option<i64>,
    /// Why it had failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_error: Option<String>,
    /// Events of this producer that were too old to be counted; the ledger doesn't say which.
    #[serde(skip_serializing_if = "Option::is_none")]
    producer_too_old: Option<i64>,
    #[serde(skip)]
    first: bool,
    #[serde(skip)]
    dropped_agent: Option<String>,
}

/// Answers the question.
pub(crate) async fn run(args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let database = Database::open(shared).await?;
    let mut search =
        Search { place: Place::open(shared)?, batch: args.batch, until: Instant::now() + PATIENCE };
    let mut answer = search.look(&database).await?;
    if answer.state == State::Unknown {
        answer = search.look(&database).await?;
    }
    if shared.json {
        output::json(&answer)?;
    } else {
        output::data(answer.text().as_bytes())?;
    }
    Ok(if answer.state == State::Unknown { Exit::Negative } else { Exit::Done })
}

struct Search {
    place: Place,
    batch: BatchId,
    until: Instant,
}

/// An entry that takes the number, and its numbers.
struct Hit<T> {
    is: T,
    numbers: Numbers,
}

impl Search {
    async fn look(&mut self, database: &Database) -> Result<Answer, Failure> {
        let (queued, complete) = self.in_queue().await?;
        let mut found = Found::default();
        let mut numbers = None;
        let mut place = State::Unknown;
        if let Some(hit) = queued {
            place = self.tell_of_queued(&hit, &mut found).await?;
            numbers = Some(hit.numbers);
        } else if let Some(hit) = self.among_dead().await? {
            place = State::Dead;
            self.tell(&hit.is.fields, &hit.numbers, &mut found);
            found.dead_id = Some(hit.is.id.to_string());
            found.entry_id = Some(hit.is.entry_id.to_string());
            found.attempts = Some(hit.is.attempts);
            found.error = Some(hit.is.error.clone());
            numbers = Some(hit.numbers);
        }
        let ledger = ask(database, &self.batch, numbers.as_ref()).await?;
        let all: Option<u64> =
            numbers.as_ref().map(|numbers| numbers.ranges().map(|range| range.end - range.start).sum());
        if found.agent.is_none() {
            found.agent.clone_from(&ledger.dropped_agent);
        }
        let settled = match (ledger.applied_events, all) {
            (Some(applied), Some(all)) => applied == all,
            _ => ledger.first,
        };
        let state = match (settled, ledger.dropped_at.is_some()) {
            (true, true) => State::Dropped,
            (true, false) => State::Counted,
            (false, _) => place,
        };
        Ok(Answer { batch: self.batch.to_string(), state, found, ledger, complete })
    }

    /// The entry with this name, else one that takes its number; and whether all were looked at.
    async fn in_queue(&self) -> Result<(Option<Hit<Queued>>, bool), Failure> {
        let mut best: Option<Hit<Queued>> = None;
        let mut after: Option<EntryId> = None;
        loop {
            let producer = Some(self.batch.producer);
            let looked = self.place.queue.look_at_queue(after.as_ref(), producer).await;
            let looked = looked.map_err(self.place.failure())?;
            for is in looked.found {
                let Some(numbers) = self.numbers(&is.fields) else { continue };
                if numbers.batch == self.batch {
                    return Ok((Some(Hit { is, numbers }), true));
                }
                best.get_or_insert(Hit { is, numbers });
            }
            after = looked.next;
            if after.is_none() || Instant::now() > self.until {
                return Ok((best, after.is_none()));
            }
        }
    }

    async fn among_dead(&self) -> Result<Option<Hit<DeadLetter>>, Failure> {
        let mut best: Option<Hit<DeadLetter>> = None;
        let mut after: Option<EntryId> = None;
        loop {
            let producer = Some(self.batch.producer);
            let looked = self.place.queue.look_at_dead(after.as_ref(), producer).await;
            let looked = looked.map_err(self.place.failure())?;
            for is in looked.found {
                let Some(numbers) = self.numbers(&is.fields) else { continue };
                if numbers.batch == self.batch {
                    return Ok(Some(Hit { is, numbers }));
                }
                best.get_or_insert(Hit { is, numbers });
            }
            after = looked.next;
            if after.is_none() {
                return Ok(best);
            }
        }
    }

    fn numbers(&self, fields: &Fields) -> Option<Numbers> {
        let numbers = Numbers::of(fields).ok()?;
        let ours = numbers.batch.producer == self.batch.producer && numbers.takes(self.batch.seq.get());
        ours.then_some(numbers)
    }

    fn tell(&self, fields: &Fields, numbers: &Numbers, found: &mut Found) {
        let agent = fields.iter().find(|(name, _)| name == "agent");
        found.agent = agent.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        found.events = Some(numbers.events);
        found.within = (numbers.batch != self.batch).then(|| numbers.batch.to_string());
    }

    async fn tell_of_queued(&self, hit: &Hit<Queued>, found: &mut Found) -> Result<State, Failure> {
        let (queue, id) = (&self.place.queue, &hit.is.id);
        self.tell(&hit.is.fields, &hit.numbers, found);
        found.entry_id = Some(id.to_string());
        if let Some(noted) = queue.attempts(id).await.map_err(self.place.failure())? {
            found.error = Some(noted.last_error().to_owned()).filter(|error| !error.is_empty());
            found.attempts = Some(noted.count);
        }
        let Some(holder) = queue.holder(id).await.map_err(self.place.failure())? else {
            return Ok(State::Queued);
        };
        found.worker = Some(holder.consumer);
        found.idle_ms = Some(holder.idle_ms);
        found.deliveries = Some(holder.deliveries);
        Ok(State::Held)
    }
}

async fn ask(database: &Database, batch: &BatchId, numbers: Option<&Numbers>) -> Result<Ledger, Failure> {
    let producer = batch.producer.uuid();
    let seq = i64::try_from(batch.seq.get()).unwrap_or(i64::MAX);
    let all = numbers.map(|numbers| multirange(numbers.ranges()));
    let sql = "SELECT applied @> $2::bigint,
                      (SELECT min(lower(r)) FROM unnest(applied) AS r WHERE lower(r) > $2),
                      (SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint
                         FROM unnest(applied * coalesce($3::text, '{}')::int8multirange) AS r),
                      (SELECT sum(events)::bigint FROM losses WHERE producer = $1 AND reason = 'too_old')
                 FROM batch_ledger WHERE producer = $1";
    let params: [crate::postgres::Param<'_>; 3] =
        [(&producer, Type::UUID), (&seq, Type::INT8), (&all, Type::TEXT)];
    let rows = database.rows(sql, &params).await?;
    let Some(row) = rows.first() else {
        return Ok(Ledger { applied_events: numbers.map(|_| 0), ..Ledger::default() });
    };
    let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
    let first: bool = row.try_get(0).unwrap_or(false);
    let next: Option<i64> = row.try_get(1).unwrap_or(None);
    let applied: i64 = row.try_get(2).unwrap_or(0);
    let mut ledger = Ledger {
        applied_events: numbers.map(|_| unsigned(applied)),
        next_applied: next.filter(|_| !first).map(unsigned),
        producer_too_old: row.try_get(3).unwrap_or(None),
        first,
        ..Ledger::default()
    };
    if let Some(loss) = dlq::dropped(database, batch).await? {
        let at = Timestamp::from_millisecond(loss.at_ms).map(|at| at.to_string());
        ledger.dropped_at = Some(at.unwrap_or_default());
        ledger.dropped_events = loss.events;
        ledger.dropped_error = Some(loss.error);
        ledger.dropped_agent = loss.agent;
    }
    Ok(ledger)
}

impl Answer {
    /// For people.
    fn text(&self) -> String {
        let (found, ledger) = (&self.found, &self.ledger);
        let state = match self.state {
            State::Queued => "queued: it waits for a worker",
            State::Held => "held: a worker has it in hand, or died with it",
            State::Counted => "counted",
            State::Dead => "dead: it could not be counted; logweir dlq show has it",
            State::Dropped => "dropped: it was given up, and is not counted",
            State::Unknown => "unknown: neither queued nor dead nor counted",
        };
        let mut lines = vec![("batch", self.batch.clone()), ("state", state.to_owned())];
        let mut add = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
        add("agent", found.agent.clone());
        add("events", found.events.map(|n| n.to_string()));
        add("within", found.within.clone());
        add("entry", found.entry_id.clone());
        add("dead letter", found.dead_id.clone());
        add("worker", found.worker.clone());
        add("idle", found.idle_ms.map(|ms| format!("{ms} ms")));
        add("deliveries", found.deliveries.map(|n| n.to_string()));
        add("attempts", found.attempts.map(|n| n.to_string()));
        add("error", found.error.clone());
        add("in Postgres", ledger.applied_events.map(|n| format!("{n} of its events")));
        add("dropped at", ledger.dropped_at.clone());
        add("events lost", ledger.dropped_events.map(|n| n.to_string()));
        add("its error", ledger.dropped_error.clone());
        let next = ledger.next_applied.filter(|_| self.state == State::Unknown);
        add(
            "hint",
            next.map(|n| format!("the producer's number {n} is counted: was its first event rejected?")),
        );
        let too_old = ledger.producer_too_old.filter(|_| self.state == State::Counted);
        add("hint", too_old.map(|n| format!("{n} events of this producer were too old, and not counted")));
        let hurry = (!self.complete).then_some("the queue is so long that only its beginning was looked at");
        add("hint", hurry.map(str::to_owned));
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        lines.iter().map(|(name, value)| format!("{name:width$}  {}\n", printable(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: State) -> Answer {
        Answer {
            batch: "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/41".to_owned(),
            state,
            found: Found::default(),
            ledger: Ledger::default(),
            complete: true,
        }
    }

    #[test]
    fn what_does_not_apply_is_absent() {
        assert_eq!(
            serde_json::to_string(&answer(State::Unknown)).unwrap(),
            r#"{"batch":"0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/41","state":"unknown","complete":true}"#
        );
        let found = Found { worker: Some("w\u{1b}".to_owned()), idle_ms: Some(5), ..Found::default() };
        let held = Answer { found, ..answer(State::Held) };
        let json = serde_json::to_value(&held).unwrap();
        assert_eq!((&json["state"], &json["idle_ms"]), (&"held".into(), &5.into()));
        assert!(!held.text().contains('\u{1b}') && held.text().contains("worker  w"), "{}", held.text());
    }

    #[test]
    fn a_rejected_first_event_is_hinted_at() {
        let ledger = Ledger { next_applied: Some(42), ..Ledger::default() };
        let text = Answer { ledger, ..answer(State::Unknown) }.text();
        assert!(text.contains("number 42 is counted"), "{text}");
    }
}
