//! One group of batches in one transaction: the place where *counted once* is kept.
//!
//! ```text
//! partitions ─► BEGIN ─► rows of new producers ─► lock all rows, read them ─► settle ─► numbers, counts, losses ─► COMMIT
//!             (before)     in order of the key      in the same order                     in order of the keys
//! ```
//!
//! Invariants:
//! - what is applied is read from the **locked** rows: in READ COMMITTED a locked row is read anew after the wait, while a
//!   second look in the same statement would see the older snapshot;
//! - every transaction takes its locks in the same order (ledger by producer, then counts by key), so two of them can't
//!   deadlock; if they do all the same, that is the world's failure;
//! - success means that COMMIT was said by Postgres, and of a transaction that had written. After any other outcome the
//!   connection is dropped, and the ledger tells at the next try.

use crate::batch::Batch;
use crate::failure::{Failure, Trouble, What};
use crate::partitions;
use crate::postgres::{Connection, Database, within};
use crate::ranges::Ranges;
use crate::settle::{Ledger, Settlement, Verdict, settle};
use logweir_proto::ProducerId;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio_postgres::{Client, SimpleQueryMessage, Statement};
use uuid::Uuid;

/// How many days are remembered as having their partition, at most.
const KNOWN_DAYS: usize = 1_000;
/// How often a row may be deleted by housekeeping between making and locking it.
const VANISHED: usize = 5;
/// The longest agent's name in the losses.
const AGENT_CHARS: usize = 256;

/// What a lane writes to.
pub(crate) struct Store {
    database: Database,
    session: Option<Session>,
    known_days: BTreeSet<i64>,
}

struct Session {
    connection: Connection,
    statements: Statements,
}

struct Statements {
    make_rows: Statement,
    lock_rows: Statement,
    apply: Statement,
    count: Statement,
    lose: Statement,
}

/// A committed group.
#[derive(Debug)]
pub(crate) struct Committed {
    /// One for each batch, in their order.
    pub(crate) verdicts: Vec<Verdict>,
    /// The most ranges that one of their producers has.
    pub(crate) most_ranges: usize,
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, session: None, known_days: BTreeSet::new() }
    }

    /// Counts a group, in one transaction. Events before `oldest_ms` are too old.
    ///
    /// Cancel-safe: dropped, it drops the connection with it at the next call.
    pub(crate) async fn apply(&mut self, batches: &[&Batch], oldest_ms: i64) -> Result<Committed, Failure> {
        // Taken out, so that a connection in an unknown state is dropped however this ends.
        let session = match self.session.take() {
            Some(session) if !session.connection.is_closed() => Ok(session),
            _ => Box::pin(self.open()).await,
        };
        let mut session = session?;
        let deadline = self.database.deadline();
        let known_days = &mut self.known_days;
        let transaction = Box::pin(async {
            make_partitions(&session.connection, known_days, batches, oldest_ms).await?;
            session.transaction(batches, oldest_ms).await
        });
        let outcome = within(deadline, "for a transaction", transaction).await;
        match &outcome {
            Ok(_) => self.session = Some(session),
            Err(Failure::World(trouble)) => {
                // Whatever was known of the schema may be wrong.
                self.known_days.clear();
                if trouble.what.spares_the_connection() {
                    self.session = session.rolled_back(deadline).await;
                }
            }
            Err(Failure::Batch(_)) => self.session = session.rolled_back(deadline).await,
        }
        outcome
    }

    async fn open(&self) -> Result<Session, Failure> {
        let connection = self.database.connect().await?;
        within(self.database.deadline(), "to prepare", async {
            let statements = Statements::prepare(&connection).await?;
            Ok(Session { connection, statements })
        })
        .await
    }
}

/// Makes the partitions of the days that the group may count for, unless they are known.
async fn make_partitions(
    client: &Client,
    known: &mut BTreeSet<i64>,
    batches: &[&Batch],
    oldest_ms: i64,
) -> Result<(), Failure> {
    let events = batches.iter().flat_map(|batch| &batch.cells);
    // A minute that only begins before the limit may still have events to count.
    let days = events.filter(|cell| cell.minute_ms > oldest_ms.saturating_sub(60_000));
    let missing: BTreeSet<i64> =
        days.map(|cell| partitions::day_of(cell.minute_ms)).filter(|day| !known.contains(day)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let made = partitions::make(client, &missing).await?;
    if made > 0 {
        tracing::info!(made, "made partitions of log_counts");
    }
    if known.len() + missing.len() > KNOWN_DAYS {
        known.clear();
    }
    known.extend(missing);
    Ok(())
}

impl Session {
    async fn transaction(&mut self, batches: &[&Batch], oldest_ms: i64) -> Result<Committed, Failure> {
        let (client, statements) = (&self.connection, &self.statements);
        client.batch_execute("BEGIN").await?;
        let mut ledger = lock(client, statements, batches).await?;
        // Nothing here should panic; if it does, it is by the fault of a batch, and the others go on.
        let settled = catch_unwind(AssertUnwindSafe(|| settle(batches, &mut ledger, oldest_ms)));
        let settlement = settled.map_err(|_| Failure::Batch("counting it panicked".to_owned()))?;
        write(client, statements, &settlement, &ledger).await?;
        commit(client).await?;
        let most_ranges = ledger.values().flatten().map(Ranges::len).max().unwrap_or(0);
        Ok(Committed { verdicts: settlement.verdicts, most_ranges })
    }

    /// Ready for the next transaction, or dropped.
    async fn rolled_back(self, deadline: std::time::Duration) -> Option<Self> {
        let rollback = async { Ok(self.connection.batch_execute("ROLLBACK").await?) };
        within(deadline, "to roll back", rollback).await.ok()?;
        Some(self)
    }
}

/// Makes the missing rows and locks all, both in the order of the producers; what they say is what is applied.
async fn lock(client: &Client, statements: &Statements, batches: &[&Batch]) -> Result<Ledger, Failure> {
    let producers: BTreeSet<ProducerId> = batches.iter().map(|batch| batch.producer).collect();
    let uuids: Vec<Uuid> = producers.iter().map(|producer| producer.uuid()).collect();
    for _ in 0..VANISHED {
        client.execute(&statements.make_rows, &[&uuids]).await?;
        let mut ledger = Ledger::new();
        for row in client.query(&statements.lock_rows, &[&uuids]).await? {
            let (producer, applied): (Uuid, &str) = (row.try_get(0)?, row.try_get(1)?);
            ledger.insert(ProducerId::new(producer), applied.parse());
        }
        if ledger.len() == producers.len() {
            return Ok(ledger);
        }
        // Housekeeping deleted one in between.
    }
    Err(Trouble::new(What::Conflict, "rows of batch_ledger vanish as soon as they are made").into())
}

async fn write(
    client: &Client,
    statements: &Statements,
    settlement: &Settlement,
    ledger: &Ledger,
) -> Result<(), Failure> {
    let (mut producers, mut applied, mut newest) = (Vec::new(), Vec::new(), Vec::new());
    for (producer, newest_ms) in &settlement.changed {
        if let Some(Ok(ranges)) = ledger.get(producer) {
            producers.push(producer.uuid());
            applied.push(ranges.to_string());
            newest.push(Some(newest_ms.div_euclid(1_000)).filter(|s| in_calendar(*s)));
        }
    }
    if !producers.is_empty() {
        client.execute(&statements.apply, &[&producers, &applied, &newest]).await?;
    }
    if !settlement.counts.is_empty() {
        let (mut minutes, mut services, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        let (mut events, mut bytes) = (Vec::new(), Vec::new());
        for (key, sum) in &settlement.counts {
            minutes.push(key.minute_ms.div_euclid(1_000));
            services.push(key.service.as_ref());
            levels.push(key.level.as_str());
            events.push(signed(sum.events));
            bytes.push(signed(sum.bytes));
        }
        client.execute(&statements.count, &[&minutes, &services, &levels, &events, &bytes]).await?;
    }
    if !settlement.losses.is_empty() {
        let (mut producers, mut agents, mut minutes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut events, mut bytes) = (Vec::new(), Vec::new());
        for loss in &settlement.losses {
            producers.push(loss.producer.uuid());
            agents.push(printable(&loss.agent));
            minutes.push(Some(loss.minute_ms.div_euclid(1_000)).filter(|s| in_calendar(*s)));
            events.push(signed(loss.sum.events));
            bytes.push(signed(loss.sum.bytes));
        }
        client.execute(&statements.lose, &[&producers, &agents, &minutes, &events, &bytes]).await?;
    }
    Ok(())
}

/// Commits, and makes sure that it was one: after a failed statement Postgres answers COMMIT with a rollback and no
/// error, and a pooler may have changed the connection. In the same message as COMMIT stands a statement that fails in
/// a failed transaction, and has no number to tell where nothing was written.
///
/// Where it should have waited for a standby and didn't, its outcome is unknown: that standby may be promoted without it.
/// The next try waits anew, if only for the locks that it took on what is counted.
async fn commit(client: &Connection) -> Result<(), Failure> {
    let answers = client.simple_query("SELECT pg_current_xact_id_if_assigned(); COMMIT").await?;
    if client.lonely_commit() {
        let why = "a commit was answered before its standby had it (its wait was cancelled)";
        return Err(Trouble::new(What::Timeout, why).into());
    }
    let written = answers.iter().any(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).is_some(),
        _ => false,
    });
    if written {
        Ok(())
    } else {
        Err(Trouble::new(What::Other, "the transaction was gone before its commit").into())
    }
}

const MAKE_ROWS: &str = "INSERT INTO batch_ledger (producer)
 SELECT producer FROM unnest($1::uuid[]) AS u (producer) ORDER BY producer
 ON CONFLICT DO NOTHING";
const LOCK_ROWS: &str = "SELECT producer, applied::text FROM batch_ledger
 WHERE producer = ANY ($1::uuid[]) ORDER BY producer FOR UPDATE";
/// A row must outlive its events, which a late duplicate brings again: also those that are ahead of the clock.
const APPLY: &str = "UPDATE batch_ledger AS l SET applied = u.applied::int8multirange,
   updated_at = greatest(now(), l.updated_at, to_timestamp(u.newest))
 FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS u (producer, applied, newest)
 WHERE l.producer = u.producer";
const COUNT: &str = "INSERT INTO log_counts AS c (bucket, service, level, count, bytes)
 SELECT to_timestamp(u.second), u.service, u.level, u.count, u.bytes
 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
   AS u (second, service, level, count, bytes)
 ORDER BY u.second, u.service, u.level
 ON CONFLICT (bucket, service, level)
 DO UPDATE SET count = c.count + excluded.count, bytes = c.bytes + excluded.bytes";
const LOSE: &str = "INSERT INTO losses (producer, agent, bucket, reason, events, bytes, detail)
 SELECT u.producer, u.agent, to_timestamp(u.second), 'too_old', u.events, u.bytes,
   'older than --retention when it came to be counted'
 FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
   AS u (producer, agent, second, events, bytes)";

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, Failure> {
        Ok(Self {
            make_rows: client.prepare(MAKE_ROWS).await?,
            lock_rows: client.prepare(LOCK_ROWS).await?,
            apply: client.prepare(APPLY).await?,
            count: client.prepare(COUNT).await?,
            lose: client.prepare(LOSE).await?,
        })
    }
}

/// Postgres has no unsigned numbers; a batch has far fewer than 2⁶³ events and bytes.
fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Whether Postgres has this time: the years 0 to 9999, far within its calendar.
fn in_calendar(second: i64) -> bool {
    (-62_167_219_200..253_402_300_800).contains(&second)
}

/// An agent's name comes from outside; Postgres' text takes any but NUL.
fn printable(agent: &str) -> String {
    agent.chars().take(AGENT_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
