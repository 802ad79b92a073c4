//! Putting a batch into the queue.

use crate::connection::Queue;
use crate::entry::EntryId;
use crate::error::QueueError;
use crate::keys::{Shard, key_hash};
use crate::request::Request;
use crate::{reply, scripts};
use logweir_proto::BatchId;
use logweir_proto::encoding::Encoding;
use redis::{Cmd, Value};
use std::time::Duration;

/// The most idempotency keys that are forgotten in one go, so that it keeps Redis from others for no longer.
const FORGET_AT_ONCE: usize = 1_000;

/// A batch to be enqueued; see [`crate::Entry`] for the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry<'a> {
    /// Who sent it.
    pub agent: &'a str,
    /// Its identity.
    pub batch: BatchId,
    /// How many numbers it takes, rejected events included.
    pub events: u64,
    /// The indices of the rejected events, ascending.
    pub skip: &'a [u64],
    /// How the body is encoded; never gzip.
    pub enc: Encoding,
    /// The collector's clock, in Unix milliseconds.
    pub at_ms: i64,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// NDJSON of the valid events, encoded as `enc` says.
    pub body: &'a [u8],
}

/// How full a shard of the queue may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most entries.
    pub entries: u64,
    /// The largest sum of bodies, in bytes.
    pub bytes: u64,
}

/// A poster's own key against double posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey<'a> {
    /// The key, as it came; hashed together with the agent before it becomes part of anything in Redis.
    pub key: &'a str,
    /// How long it is remembered.
    pub window: Duration,
    /// The most keys that its shard remembers at a time.
    pub max_keys: u64,
    /// The most bytes that their answers have there together; the one that passes it is still kept.
    pub max_bytes: u64,
    /// What to remember with it: the answer's body, to be given again.
    pub answer: &'a str,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue, as durably as the settings say.
    Added {
        /// The ID that it got.
        id: EntryId,
        /// Entries of its shard now, this one included.
        entries: u64,
        /// Bytes of its shard now, this one included.
        bytes: u64,
    },
    /// Nothing was added: a limit is reached.
    Full {
        /// Entries of its shard now.
        entries: u64,
        /// Bytes of its shard now.
        bytes: u64,
    },
    /// Nothing was added: this key has been enqueued before; here is the answer that it got.
    Repeated {
        /// As it was remembered.
        answer: String,
    },
    /// Nothing was added: too many keys are remembered, or their answers are too large.
    KeysFull,
}

impl NewEntry<'_> {
    /// What could not be read again must not get in.
    fn checked(&self) -> Result<(), QueueError> {
        let ascending = self.skip.windows(2).all(|pair| pair[0] < pair[1]);
        let why = if self.enc == Encoding::Gzip {
            "a body in the queue is zstd or identity, never gzip"
        } else if !self.batch.holds(self.events) {
            "a batch takes at least one number, and none past the last"
        } else if !ascending || self.skip.last().is_some_and(|last| *last >= self.events) {
            "the skipped indices must be ascending, and below the number of events"
        } else {
            return Ok(());
        };
        Err(QueueError::Usage(why.to_owned()))
    }

    /// The fields as they will stand in the stream.
    fn write(&self, call: &mut Cmd) {
        call.arg("v").arg(1).arg("agent").arg(self.agent);
        call.arg("producer").arg(self.batch.producer.to_string()).arg("seq").arg(self.batch.seq.get());
        call.arg("events").arg(self.events);
        if !self.skip.is_empty() {
            let skip: Vec<String> = self.skip.iter().map(u64::to_string).collect();
            call.arg("skip").arg(skip.join(","));
        }
        call.arg("enc").arg(self.enc.as_str()).arg("at").arg(self.at_ms);
        if let Some(traceparent) = self.traceparent {
            call.arg("traceparent").arg(traceparent);
        }
        call.arg("body").arg(self.body);
    }
}

impl IdempotencyKey<'_> {
    /// What stands for agent and key in Redis: of one length, whatever they hold.
    fn member(&self, agent: &str) -> String {
        member(agent, self.key)
    }
}

fn member(agent: &str, key: &str) -> String {
    key_hash(agent, key).iter().fold(String::with_capacity(64), |mut hex, byte| {
        hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        hex
    })
}

impl Queue {
    /// Enqueues one batch, atomically, into its shard ([`crate::Shards::of`]), and waits until it is as durable as
    /// [`crate::Settings::ack`] says. The limits refuse a batch when they are reached already, so one batch may pass
    /// them.
    ///
    /// # Errors
    /// [`QueueError`]; except after [`QueueError::Unfit`] and [`QueueError::Usage`] it is unknown whether the batch
    /// is in the queue, and it must be sent again under the same identity.
    pub async fn enqueue(
        &self,
        entry: &NewEntry<'_>,
        limits: QueueLimits,
        idempotency: Option<&IdempotencyKey<'_>>,
    ) -> Result<Enqueued, QueueError> {
        entry.checked()?;
        let shard = self.settings().shards.of(
            entry.batch.producer,
            entry.agent,
            idempotency.map(|idempotency| idempotency.key),
        );
        let keys = self.keys(shard);
        let keys = [keys.queue.as_str(), &keys.bytes, &keys.idem, &keys.idem_answers, &keys.idem_bytes];
        let member = idempotency.map(|key| key.member(entry.agent));
        let fill = |call: &mut Cmd| {
            call.arg(limits.entries).arg(limits.bytes).arg(entry.body.len());
            match (idempotency, &member) {
                (Some(key), Some(member)) => {
                    let window_ms = u64::try_from(key.window.as_millis()).unwrap_or(u64::MAX);
                    call.arg(member).arg(window_ms).arg(key.max_keys).arg(key.max_bytes).arg(key.answer);
                }
                _ => {
                    call.arg("").arg(0).arg(0).arg(0).arg("");
                }
            }
            entry.write(call);
        };
        let answer = self.link().ask_durably(Request::Script(&scripts::ENQUEUE, &keys, &fill)).await?;
        enqueued(shard, answer)
    }

    /// What this agent's idempotency key was answered, as long as it is remembered in its shard.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn answer_of(
        &self,
        shard: Shard,
        agent: &str,
        key: &str,
    ) -> Result<Option<String>, QueueError> {
        let keys = self.keys(shard);
        let keys = [keys.idem.as_str(), &keys.idem_answers];
        let fill = |call: &mut Cmd| {
            call.arg(member(agent, key));
        };
        match self.link().ask(Request::Script(&scripts::KNOWN_KEY, &keys, &fill)).await? {
            Value::Nil => Ok(None),
            answer => reply::text(answer).map(Some),
        }
    }

    /// Forgets up to a thousand idempotency keys whose time is over, and returns how many. They count as
    /// forgotten before, but take memory; so somebody must call this from time to time.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn forget_old_keys(&self) -> Result<u64, QueueError> {
        let shards = self.shards().await?;
        let each = (FORGET_AT_ONCE / shards.len().max(1)).max(1);
        let fill = |call: &mut Cmd| {
            call.arg(each);
        };
        let answers = self.of_each(shards, &scripts::FORGET_KEYS, &fill, |keys| {
            vec![&keys.idem, &keys.idem_answers, &keys.idem_bytes]
        });
        reply::sum(answers.await?)
    }
}

fn enqueued(shard: Shard, answer: Value) -> Result<Enqueued, QueueError> {
    let mut parts = reply::array(answer)?.into_iter();
    let what = reply::text(parts.next().unwrap_or_default())?;
    let mut next = || parts.next().unwrap_or_default();
    match what.as_str() {
        "added" => Ok(Enqueued::Added {
            id: EntryId::of(shard, reply::text(next())?),
            entries: reply::count(&next())?,
            bytes: reply::count(&next())?,
        }),
        "full" => Ok(Enqueued::Full { entries: reply::count(&next())?, bytes: reply::count(&next())? }),
        "repeated" => Ok(Enqueued::Repeated { answer: reply::text(next())? }),
        "keys_full" => Ok(Enqueued::KeysFull),
        other => Err(QueueError::Protocol(format!("the enqueue script said `{other}`"))),
    }
}
