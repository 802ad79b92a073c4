//! The queue by its keys: filled without a collector, and looked at.

use crate::load::{Batch, Generator};
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use uuid::Uuid;

/// The stream of batches.
pub(crate) const QUEUE: &str = "logweir:{0}:queue";
const BYTES: &str = "logweir:{0}:bytes";
/// Where a filled stream is kept, to be copied from.
const KEPT: &str = "bench:{0}:kept";
/// Entries in one call: large enough that it isn't the round trips that take time.
const PIECE: usize = 64;

/// Makes batches and keeps them beside the queue, in the format that a collector writes.
///
/// # Errors
/// Redis' own.
pub(crate) async fn keep(
    connection: &mut MultiplexedConnection,
    generator: &mut Generator,
    batches: u64,
    events: u64,
    producers: u64,
) -> anyhow::Result<u64> {
    let producers: Vec<Uuid> = (0..producers).map(|_| Uuid::new_v4()).collect();
    let mut next: HashMap<Uuid, u64> = HashMap::new();
    let mut bytes = 0;
    let mut pipe = redis::pipe();
    let mut in_pipe = 0;
    redis::cmd("DEL").arg(KEPT).query_async::<()>(connection).await?;
    for (_, producer) in (0..batches).zip(producers.iter().cycle()) {
        let seq = next.entry(*producer).or_insert(1);
        let batch = Batch { producer: *producer, seq: *seq, events, body: generator.body(events)? };
        *seq += events;
        bytes += u64::try_from(batch.body.len())?;
        add(&mut pipe, &batch);
        in_pipe += 1;
        if in_pipe == PIECE {
            pipe.query_async::<()>(connection).await?;
            pipe.clear();
            in_pipe = 0;
        }
    }
    if in_pipe > 0 {
        pipe.query_async::<()>(connection).await?;
    }
    Ok(bytes)
}

fn add(pipe: &mut redis::Pipeline, batch: &Batch) {
    pipe.cmd("XADD").arg(KEPT).arg("*").arg("v").arg(1).arg("agent").arg("bench");
    pipe.arg("producer").arg(batch.producer.to_string()).arg("seq").arg(batch.seq);
    pipe.arg("events").arg(batch.events).arg("enc").arg("zstd").arg("at").arg(crate::clock::now_ms());
    pipe.arg("body").arg(&batch.body[..]).ignore();
}

/// Puts what is kept into the queue, in place of what is there.
///
/// # Errors
/// Redis' own.
pub(crate) async fn fill(connection: &mut MultiplexedConnection, bytes: u64) -> anyhow::Result<()> {
    redis::pipe()
        .cmd("COPY")
        .arg(KEPT)
        .arg(QUEUE)
        .arg("REPLACE")
        .ignore()
        .cmd("SET")
        .arg(BYTES)
        .arg(bytes)
        .ignore()
        .query_async::<()>(connection)
        .await?;
    Ok(())
}

/// Empties it.
///
/// # Errors
/// Redis' own.
pub(crate) async fn clear(connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    Ok(redis::cmd("DEL").arg(QUEUE).arg(BYTES).query_async::<()>(connection).await?)
}

/// How many batches are in it.
///
/// # Errors
/// Redis' own.
pub(crate) async fn depth(connection: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    Ok(redis::cmd("XLEN").arg(QUEUE).query_async(connection).await?)
}

/// How many of them a worker holds.
///
/// # Errors
/// Redis' own.
pub(crate) async fn held(connection: &mut MultiplexedConnection) -> anyhow::Result<u64> {
    let groups: redis::RedisResult<Vec<HashMap<String, redis::Value>>> =
        redis::cmd("XINFO").arg("GROUPS").arg(QUEUE).query_async(connection).await;
    let groups = match groups {
        Ok(groups) => groups,
        Err(e) if e.to_string().contains("no such key") => return Ok(0),
        Err(e) => return Err(e.into()),
    };
    let mut held = 0;
    for group in &groups {
        if let Some(pending) = group.get("pending") {
            held += redis::from_redis_value::<u64>(pending.clone())?;
        }
    }
    Ok(held)
}
