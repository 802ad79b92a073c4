//! What is made and thrown away in time: partitions, ledger rows, losses, dead consumers. One worker does it at a time.

use crate::Shared;
use crate::failure::Failure;
use crate::partitions::{self, DAY_MS, day_of};
use crate::postgres::within;
use jiff::Timestamp;
use logweir_queue::Reader;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Held during a round: `lwhk` in ASCII.
const LOCK: i64 = 0x6c77_686b;
/// How long a round may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// The ledger has no index on its time, so it is looked through in the first of so many rounds only.
const LEDGER_EVERY: u32 = 60;
/// Rows that one statement deletes, so that none takes long.
const PIECE: i64 = 10_000;
/// How many leases a consumer that holds nothing has been silent when it is removed.
const DEAD_AFTER_LEASES: u32 = 10;

/// Rounds until `stop`.
pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(shared.args.housekeeping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = shared.queue.reader(&crate::consumer_name("housekeeping"));
    let mut rounds: u32 = 0;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let round = async {
            shared.schema.ready().await;
            let ledger_too = rounds.is_multiple_of(LEDGER_EVERY);
            let round = Box::pin(round(shared, ledger_too));
            match within(DEADLINE, "for housekeeping", round).await {
                Ok(()) => rounds = rounds.wrapping_add(1),
                Err(Failure::World(trouble)) => tracing::debug!(error = %trouble, "housekeeping is put off"),
                Err(Failure::Batch(error)) => tracing::warn!(%error, "housekeeping failed"),
            }
            remove_consumers(&mut reader, shared.args.lease).await;
        };
        if stop.run_until_cancelled(round).await.is_none() {
            return;
        }
    }
}

async fn remove_consumers(reader: &mut Reader, lease: Duration) {
    match reader.remove_dead_consumers(lease.saturating_mul(DEAD_AFTER_LEASES)).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed consumers that are gone"),
        Err(error) => tracing::debug!(%error, "dead consumers are looked for later"),
    }
}

async fn round(shared: &Shared, ledger_too: bool) -> Result<(), Failure> {
    let mut connection = shared.database.connect().await?;
    let lock = connection.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
    if !lock.try_get::<_, bool>(0)? {
        return Ok(());
    }
    // The lock goes with the connection, whatever happens here.
    let now = Timestamp::now().as_millisecond();
    let days = BTreeSet::from([day_of(now), day_of(now + DAY_MS)]);
    let made = partitions::make(&mut connection, &days).await?;
    if made > 0 {
        tracing::info!(made, "made partitions of log_counts");
    }
    let retention_ms = shared.args.retention_ms();
    for partition in partitions::drop_old(&mut connection, now.saturating_sub(retention_ms)).await? {
        tracing::info!(%partition, "dropped a partition older than --retention");
    }
    if ledger_too {
        // A day more, so that a late duplicate finds either its row or events that are too old.
        let age = retention_ms.saturating_add(DAY_MS) as f64 / 1_000.0;
        let producers = delete(&connection, LEDGER, age).await?;
        let losses = delete(&connection, LOSSES, age).await?;
        if producers + losses > 0 {
            tracing::info!(producers, losses, "deleted rows older than --retention and a day");
        }
    }
    Ok(())
}

/// A row that a transaction holds just now is in use, and stays.
const LEDGER: &str = "DELETE FROM batch_ledger WHERE producer IN (
  SELECT producer FROM batch_ledger WHERE updated_at < now() - make_interval(secs => $1)
  LIMIT $2 FOR UPDATE SKIP LOCKED)";
const LOSSES: &str = "DELETE FROM losses WHERE id IN (
  SELECT id FROM losses WHERE at < now() - make_interval(secs => $1) LIMIT $2)";

async fn delete(client: &Client, sql: &str, age_s: f64) -> Result<u64, Failure> {
    let mut deleted = 0;
    loop {
        let piece = client.execute(sql, &[&age_s, &PIECE]).await?;
        deleted += piece;
        if piece < PIECE.unsigned_abs() {
            return Ok(deleted);
        }
    }
}
