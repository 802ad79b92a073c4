//! What is made, thrown away and set right in time: partitions, ledger rows, losses, dead consumers, the queue's byte
//! counter. One worker does it at a time.

use crate::Shared;
use crate::failure::{Failure, What};
use crate::partitions::{self, DAY_MS, day_of};
use crate::postgres::within;
use jiff::Timestamp;
use logweir_queue::{Queue, Reader, Recounted};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Held during a round: `lwhk` in ASCII.
const LOCK: i64 = 0x6c77_686b;
/// How long a round may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// The ledger has no index on its time, so it is walked through by its key: once in so many rounds.
const WALK_EVERY: u32 = 60;
/// Rows that one statement looks at, so that none takes long.
const PIECE: i64 = 1_000;
/// Pieces of one round; a longer walk goes on in the next.
const PIECES: u32 = 1_000;
/// How many leases a consumer that holds nothing has been silent when it is removed.
const DEAD_AFTER_LEASES: u32 = 10;

/// Rounds until `stop`.
pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    let mut ticks = interval(shared.args.housekeeping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = shared.queue.reader(&crate::consumer_name("housekeeping"));
    let (mut walk, mut said) = (Walk::default(), None);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let round = async {
            shared.schema.ready().await;
            let round = Box::pin(round(shared, &mut walk));
            tell(within(DEADLINE, "for housekeeping", round).await, &mut said);
            remove_consumers(&mut reader, shared.args.lease).await;
        };
        if stop.run_until_cancelled(round).await.is_none() {
            return;
        }
    }
}

/// What no wait mends is said once, until it is another or over.
fn tell(round: Result<(), Failure>, said: &mut Option<String>) {
    let lasting = match round {
        Ok(()) => None,
        Err(Failure::World(trouble)) if !matches!(trouble.what, What::Schema | What::Access) => {
            tracing::debug!(error = %trouble, "housekeeping is put off");
            return;
        }
        Err(Failure::World(trouble)) => Some(trouble.detail),
        Err(Failure::Batch(error)) => Some(error),
    };
    if let Some(error) = lasting.as_ref().filter(|error| said.as_ref() != Some(error)) {
        tracing::warn!(%error, "a part of housekeeping can't be done until somebody mends this; the rest is done");
    }
    *said = lasting;
}

async fn recount(queue: &Queue) {
    match queue.recount().await {
        Ok(mended) => {
            for Recounted { shard, was, is } in mended {
                tracing::warn!(
                    %shard, was, is,
                    "the queue's byte counter was wrong, and is right now: did somebody remove batches by hand?"
                );
            }
        }
        Err(error) => tracing::debug!(%error, "the queue's bytes are counted later"),
    }
}

async fn remove_consumers(reader: &mut Reader, lease: Duration) {
    match reader.remove_dead_consumers(lease.saturating_mul(DEAD_AFTER_LEASES)).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed consumers that are gone"),
        Err(error) => tracing::debug!(%error, "dead consumers are looked for later"),
    }
}

/// Each step is tried, also after one that failed. Returns the first failure.
async fn round(shared: &Shared, walk: &mut Walk) -> Result<(), Failure> {
    let mut connection = shared.database.connect().await?;
    // The lock goes with the connection, whatever happens here.
    let lock = connection.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
    if !lock.try_get::<_, bool>(0)? {
        return Ok(());
    }
    recount(&shared.queue).await;
    let (now, retention_ms) = (Timestamp::now().as_millisecond(), shared.args.retention_ms());
    let made = make_ahead(&connection, now).await;
    let dropped = drop_old(&mut connection, now.saturating_sub(retention_ms)).await;
    // A day more, so that a late duplicate finds either its row or events that are too old.
    let age_s = retention_ms.saturating_add(DAY_MS) as f64 / 1_000.0;
    let deleted = walk.go_on(&connection, age_s).await;
    made.and(dropped).and(deleted)
}

async fn make_ahead(client: &Client, now: i64) -> Result<(), Failure> {
    let days = BTreeSet::from([day_of(now), day_of(now + DAY_MS)]);
    let made = partitions::make(client, &days).await?;
    if made > 0 {
        tracing::info!(made, "made partitions of log_counts");
    }
    Ok(())
}

async fn drop_old(client: &mut Client, oldest_ms: i64) -> Result<(), Failure> {
    let dropped = partitions::drop_old(client, oldest_ms).await?;
    for partition in dropped.names {
        tracing::info!(%partition, "dropped a partition older than --retention");
    }
    if let Some(trouble) = dropped.put_off {
        tracing::debug!(error = %trouble, "a partition older than --retention is in use, and is dropped later");
    }
    Ok(())
}

/// A piece of the ledger, with what is old in it. It begins with the last row of the piece before.
pub(crate) const LOOK: &str =
    "SELECT producer, updated_at < now() - make_interval(secs => $2) FROM batch_ledger
 WHERE producer >= $1 ORDER BY producer LIMIT $3";
/// A row that a transaction holds just now, or that was used since, stays.
pub(crate) const FORGET: &str = "DELETE FROM batch_ledger WHERE producer IN (
  SELECT producer FROM batch_ledger
  WHERE producer = ANY ($1::uuid[]) AND updated_at < now() - make_interval(secs => $2)
  FOR UPDATE SKIP LOCKED)";
/// The oldest come first by their number.
pub(crate) const LOSSES: &str = "DELETE FROM losses WHERE id = ANY (ARRAY(
  SELECT id FROM (SELECT id, at FROM losses ORDER BY id LIMIT $2) AS oldest
  WHERE at < now() - make_interval(secs => $1)))";

/// How far the walk through the ledger has come.
#[derive(Debug, Default)]
struct Walk {
    /// The next piece begins with this producer.
    from: Uuid,
    /// Rounds until the next walk begins.
    rest: u32,
}

impl Walk {
    /// Some pieces further, unless it rests. After an error the same piece comes again.
    async fn go_on(&mut self, client: &Client, age_s: f64) -> Result<(), Failure> {
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(());
        }
        let losses = delete_losses(client, age_s).await;
        let producers = self.forget(client, age_s).await;
        let deleted = [&losses, &producers].map(|deleted| *deleted.as_ref().unwrap_or(&0));
        if deleted != [0, 0] {
            let [losses, producers] = deleted;
            tracing::info!(producers, losses, "deleted rows older than --retention and a day");
        }
        producers.and(losses).map(drop)
    }

    async fn forget(&mut self, client: &Client, age_s: f64) -> Result<u64, Failure> {
        let (look, forget) = (client.prepare(LOOK).await?, client.prepare(FORGET).await?);
        let mut deleted = 0;
        for _ in 0..PIECES {
            let (mut old, mut seen, mut last) = (Vec::new(), 0, self.from);
            for row in client.query(&look, &[&self.from, &age_s, &PIECE]).await? {
                last = row.try_get(0)?;
                seen += 1;
                if row.try_get(1)? {
                    old.push(last);
                }
            }
            if !old.is_empty() {
                deleted += client.execute(&forget, &[&old, &age_s]).await?;
            }
            if seen < PIECE {
                *self = Self { from: Uuid::nil(), rest: WALK_EVERY };
                break;
            }
            self.from = last;
        }
        Ok(deleted)
    }
}

async fn delete_losses(client: &Client, age_s: f64) -> Result<u64, Failure> {
    let mut deleted = 0;
    for _ in 0..PIECES {
        let piece = client.execute(LOSSES, &[&age_s, &PIECE]).await?;
        deleted += piece;
        if piece < PIECE.unsigned_abs() {
            break;
        }
    }
    Ok(deleted)
}
