//! What a drop does in Postgres, and what it leaves behind.
//!
//! One letter is one transaction (READ COMMITTED), in the worker's order: make the producer's row, lock it, and only then
//! look which numbers are new. These become applied, and one row of `losses` says how many they are, and which: the
//! detail begins with `numbers 41-43,45: `. Without a new number nothing is written, so that a repetition changes nothing.

use super::letter::{self, Body};
use crate::failure::Failure;
use crate::postgres::{Database, Param};
use logweir_proto::event::{self, Rules};
use logweir_proto::{BatchId, ProducerId};
use logweir_queue::{DeadLetter, Numbers};
use std::ops::Range;
use std::slice;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// More numbers than any batch has: who claims so many must not close them all.
const MAX_EVENTS: u64 = 10_000_000;
/// How often housekeeping may delete a row between its making and locking.
const VANISHED: usize = 5;
/// The longest agent's name in the losses.
const AGENT_CHARS: usize = 256;
/// In Unix seconds.
const YEAR_10000: i64 = 253_402_300_800;
/// The most rows of losses that are looked through for one producer.
const MAX_LOSSES: usize = 10_000;

/// What became of a letter's numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// They can't be counted any more.
    Closed {
        batch: BatchId,
        /// How many were neither counted nor dropped before.
        new: u64,
        /// How many were.
        known: u64,
    },
    /// It bears none that can be read.
    Unnumbered { why: String },
}

/// Takes the numbers of a letter without counting them, and notes the loss.
pub(super) async fn give_up(database: &Database, letter: &DeadLetter) -> Result<Given, Failure> {
    // Before the producer's row is locked.
    let body = Body::of(letter).ok();
    // An error ends the program, and with it the transaction.
    database.begin().await?;
    let given = match numbers(letter) {
        Ok(numbers) => close(database, letter, body.as_ref(), &numbers).await?,
        Err(why) => {
            note_unnumbered(database, letter).await?;
            Given::Unnumbered { why }
        }
    };
    database.commit().await?;
    Ok(given)
}

fn numbers(letter: &DeadLetter) -> Result<Numbers, String> {
    let numbers = Numbers::of(&letter.fields)?;
    if numbers.events > MAX_EVENTS {
        return Err(format!("`events` is {}, more than any batch has", numbers.events));
    }
    Ok(numbers)
}

async fn close(
    database: &Database,
    letter: &DeadLetter,
    body: Option<&Body>,
    numbers: &Numbers,
) -> Result<Given, Failure> {
    let producer = numbers.batch.producer.uuid();
    lock(database, numbers.batch.producer).await?;
    let all = multirange(numbers.ranges());
    let key: Param<'_> = (&producer, Type::UUID);
    let (text, is): (Param<'_>, _) = ((&all, Type::TEXT), |row: &Row| range(row));
    let rows = database
        .rows(
            "SELECT lower(r), upper(r)
               FROM batch_ledger, unnest($2::text::int8multirange - applied) AS r
              WHERE producer = $1 ORDER BY 1",
            &[key.clone(), text.clone()],
        )
        .await?;
    let new: Vec<Range<u64>> = rows.iter().filter_map(is).collect();
    let count = |ranges: &mut dyn Iterator<Item = Range<u64>>| ranges.map(|r| r.end - r.start).sum::<u64>();
    let (lost, held) = (count(&mut new.iter().cloned()), count(&mut numbers.ranges()));
    if lost > 0 {
        // As the worker has it: never back in time, and a row outlives its events, which a late duplicate brings again.
        let sql = "UPDATE batch_ledger SET applied = applied + $2::text::int8multirange,
                          updated_at = greatest(now(), updated_at, to_timestamp($3))
                    WHERE producer = $1";
        let newest = body.and_then(newest_second);
        database.rows(sql, &[key.clone(), text, (&newest, Type::FLOAT8)]).await?;
        let agent = agent(letter);
        let (events, bytes) = (i64::try_from(lost).ok(), body.and_then(|body| bytes(body, numbers, &new)));
        let detail = format!("numbers {}: {}", spans(&new), printable(&letter.error));
        database
            .rows(
                "INSERT INTO losses (producer, agent, reason, events, bytes, detail)
                 VALUES ($1, $2, 'dropped', $3, $4, $5)",
                &[
                    key,
                    (&agent, Type::TEXT),
                    (&events, Type::INT8),
                    (&bytes, Type::INT8),
                    (&detail, Type::TEXT),
                ],
            )
            .await?;
    }
    Ok(Given::Closed { batch: numbers.batch, new: lost, known: held - lost })
}

/// Makes the producer's row if need be, and locks it: what is applied must be looked at only then.
async fn lock(database: &Database, producer: ProducerId) -> Result<(), Failure> {
    let producer = producer.uuid();
    let key: Param<'_> = (&producer, Type::UUID);
    for _ in 0..VANISHED {
        let make = "INSERT INTO batch_ledger (producer) VALUES ($1) ON CONFLICT DO NOTHING";
        database.rows(make, slice::from_ref(&key)).await?;
        let lock = "SELECT 1 FROM batch_ledger WHERE producer = $1 FOR UPDATE";
        if !database.rows(lock, slice::from_ref(&key)).await?.is_empty() {
            return Ok(());
        }
    }
    Err(database.trouble("rows of batch_ledger vanish as soon as they are made"))
}

/// A loss without numbers is known again by its entry, which stands in the detail.
async fn note_unnumbered(database: &Database, letter: &DeadLetter) -> Result<(), Failure> {
    let producer = letter::text(letter, "producer").and_then(|text| text.parse::<ProducerId>().ok());
    let producer = producer.map(ProducerId::uuid);
    let agent = agent(letter);
    let detail = format!("entry {}: {}", printable(&letter.entry_id.0), printable(&letter.error));
    let detail_param: Param<'_> = (&detail, Type::TEXT);
    // Two drops at once wait for one another.
    database.rows("SELECT pg_advisory_xact_lock(hashtext($1))", slice::from_ref(&detail_param)).await?;
    let sql = "INSERT INTO losses (producer, agent, reason, detail)
               SELECT $2, $3, 'dropped', $1
                WHERE NOT EXISTS (SELECT FROM losses WHERE reason = 'dropped' AND detail = $1)";
    database.rows(sql, &[detail_param, (&producer, Type::UUID), (&agent, Type::TEXT)]).await.map(drop)
}

fn range(row: &Row) -> Option<Range<u64>> {
    let (start, end): (i64, i64) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
    Some(u64::try_from(start).ok()?..u64::try_from(end).ok()?)
}

/// As the text of an `int8multirange`.
pub(crate) fn multirange(ranges: impl Iterator<Item = Range<u64>>) -> String {
    let parts: Vec<String> = ranges.map(|range| format!("[{},{})", range.start, range.end)).collect();
    format!("{{{}}}", parts.join(","))
}

/// For people, such as `41-43,45`.
fn spans(ranges: &[Range<u64>]) -> String {
    let span = |range: &Range<u64>| match range.end - 1 {
        last if last == range.start => last.to_string(),
        last => format!("{}-{last}", range.start),
    };
    ranges.iter().map(span).collect::<Vec<_>>().join(",")
}

/// The lengths of the events with these numbers, where the body can be read and holds what it should.
fn bytes(body: &Body, numbers: &Numbers, new: &[Range<u64>]) -> Option<i64> {
    let held = usize::try_from(numbers.ranges().map(|range| range.end - range.start).sum::<u64>()).ok()?;
    if body.lines().count() != held {
        return None;
    }
    let is_new = |number: &u64| new.iter().any(|range| range.contains(number));
    let lines = numbers.ranges().flatten().zip(body.lines());
    let bytes = lines.filter(|(number, _)| is_new(number)).map(|(_, line)| line.len()).sum::<usize>();
    i64::try_from(bytes).ok()
}

/// The time of the newest event, where the body can be read and Postgres has that time.
fn newest_second(body: &Body) -> Option<f64> {
    let rules = Rules { max_bytes: usize::MAX, window: None };
    let times = body.lines().filter_map(|line| Some(event::check(line, &rules).ok()?.timestamp_ms));
    let second = times.max()?.div_euclid(1_000);
    (0..YEAR_10000).contains(&second).then_some(second as f64)
}

/// What comes from outside may hold a NUL, which Postgres' text can't.
fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn agent(letter: &DeadLetter) -> Option<String> {
    let agent = letter::text(letter, "agent")?;
    Some(printable(&agent.chars().take(AGENT_CHARS).collect::<String>()))
}

/// A loss by a drop.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) at_ms: i64,
    pub(crate) agent: Option<String>,
    pub(crate) events: Option<i64>,
    pub(crate) error: String,
}

/// The drop that took this number, if one did.
pub(crate) async fn dropped(database: &Database, batch: &BatchId) -> Result<Option<Loss>, Failure> {
    let producer = batch.producer.uuid();
    let sql = format!(
        "SELECT (extract(epoch FROM at) * 1000)::bigint, agent, events, detail
           FROM losses WHERE producer = $1 AND reason = 'dropped' ORDER BY id DESC LIMIT {MAX_LOSSES}"
    );
    let rows = database.rows(&sql, &[(&producer, Type::UUID)]).await?;
    Ok(rows.iter().find_map(|row| {
        let detail: Option<String> = row.try_get(3).ok()?;
        let (spans, error) = parsed(detail.as_deref()?)?;
        spans.iter().any(|span| span.contains(&batch.seq.get())).then(|| Loss {
            at_ms: row.try_get(0).unwrap_or(0),
            agent: row.try_get(1).unwrap_or(None),
            events: row.try_get(2).unwrap_or(None),
            error: error.to_owned(),
        })
    }))
}

/// The numbers and the error in a loss' detail.
fn parsed(detail: &str) -> Option<(Vec<Range<u64>>, &str)> {
    let (spans, error) = detail.strip_prefix("numbers ")?.split_once(": ")?;
    let span = |text: &str| -> Option<Range<u64>> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
    };
    Some((spans.split(',').map(span).collect::<Option<_>>()?, error))
}

#[cfg(test)]
mod tests {
    use super::super::letter::example;
    use super::*;

    #[test]
    fn numbers_are_written_for_postgres_and_for_people() {
        let ranges = [41..44, 45..46];
        assert_eq!(multirange(ranges.iter().cloned()), "{[41,44),[45,46)}");
        assert_eq!(multirange(std::iter::empty()), "{}");
        assert_eq!(spans(&ranges), "41-43,45");
        let detail = format!("numbers {}: will not: decode", spans(&ranges));
        assert_eq!(parsed(&detail), Some((ranges.to_vec(), "will not: decode")));
        for other in ["older than --retention", "numbers x: y", "numbers 1", "entry 1-0: numbers 3: x"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_those_of_the_new_events_where_the_body_is_what_it_should_be() {
        let letter = example(b"one\nthree\n\nfour!\r\n", &[("skip", "1"), ("events", "4")]);
        let numbers = numbers(&letter).unwrap();
        let body = Body::of(&letter).unwrap();
        assert_eq!(bytes(&body, &numbers, &[41..42, 43..45]), Some(13));
        assert_eq!(bytes(&body, &numbers, slice::from_ref(&(43..44))), Some(5));
        let short = example(b"one\n", &[("skip", "1"), ("events", "4")]);
        assert_eq!(bytes(&Body::of(&short).unwrap(), &numbers, slice::from_ref(&(41..42))), None);
        let garbled = example(b"one\n", &[("enc", "zstd"), ("events", "1")]);
        assert!(Body::of(&garbled).is_err());
    }

    #[test]
    fn a_batch_that_claims_more_than_any_has_closes_nothing() {
        let greedy = example(b"", &[("events", "4611686018427387904")]);
        assert!(numbers(&greedy).unwrap_err().contains("more than any batch"));
    }
}
