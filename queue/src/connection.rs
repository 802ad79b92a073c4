//! The queue as its users see it: settings, the check, acknowledging. How it is reached is [`crate::link`]'s.

use crate::durability::{Ack, ServerInfo};
use crate::entry::Done;
use crate::error::QueueError;
use crate::keys::{Keys, Shard, Shards};
use crate::link::Link;
use crate::place::Access;
use crate::reader::{GROUP, Reader};
use crate::request::Request;
use crate::shards::{Beyond, Sum};
use crate::{reply, scripts};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The most entries that one script removes, so that none keeps Redis from others for long.
const ACKNOWLEDGE_AT_ONCE: usize = 500;

/// How long a written probe stays.
const PROBE_MS: u64 = 1_000;

/// How to reach one queue.
#[derive(Clone)]
pub struct Settings {
    /// `redis://[user:password@]host:port[/db]`, `rediss://…`, or `redis+sentinel://[user:password@]host:port,…/service[/db]`;
    /// may bear a password, so it is never printed.
    pub url: String,
    /// What is needed beside it.
    pub access: Access,
    /// What an acknowledgement means; readers pass [`Ack::Memory`], since it concerns enqueueing only.
    pub ack: Ack,
    /// How long each call may take, connecting included. Two calls may take longer: a blocking read by as long as
    /// it blocks, and an enqueue by up to 2 s where its acknowledgement must wait for `appendfsync everysec`.
    pub deadline: Duration,
    /// Into how many shards batches are put.
    pub shards: Shards,
}

impl Settings {
    /// One shard, and no files.
    #[must_use]
    pub fn new(url: &str, ack: Ack, deadline: Duration) -> Self {
        Self { url: url.to_owned(), access: Access::default(), ack, deadline, shards: Shards::default() }
    }
}

/// One queue. Clones share one pipelined connection.
#[derive(Clone)]
pub struct Queue {
    settings: Arc<Settings>,
    /// By shard.
    keys: Arc<[Keys]>,
    link: Arc<Link>,
    beyond: Arc<Beyond>,
}

impl Queue {
    /// Checks the URL, and reads the files that are named; connects at the first call.
    ///
    /// # Errors
    /// [`QueueError::Usage`] when the URL is none, a file can't be read, or no replica is asked for.
    pub fn new(settings: Settings) -> Result<Self, QueueError> {
        if settings.ack == (Ack::Replicated { replicas: 0 }) {
            let why = "--ack replicated needs at least one replica: set --replicas, or --ack fsync";
            return Err(QueueError::Usage(why.to_owned()));
        }
        let settings = Arc::new(settings);
        let link = Arc::new(Link::new(Arc::clone(&settings))?);
        Ok(Self { keys: Keys::of_all().into(), settings, link, beyond: Arc::default() })
    }

    /// Connects if need be, and checks that Redis is set up as [`Settings::ack`] requires, and with
    /// `maxmemory-policy noeviction`. The same check runs by itself after each reconnect, before the first call.
    ///
    /// # Errors
    /// [`QueueError::Unfit`] when a setting is missing (calls then fail alike, and check again by themselves after
    /// half a second), else as every call.
    pub async fn check(&self) -> Result<ServerInfo, QueueError> {
        self.link.check().await
    }

    /// Writes a few bytes, which go by themselves, to see whether Redis takes writes at all just now: without memory, or
    /// when it can't save, it still answers those who only read.
    ///
    /// # Errors
    /// [`QueueError`], as an enqueue would.
    pub async fn check_writing(&self) -> Result<(), QueueError> {
        let mut set = redis::cmd("SET");
        set.arg(Shard::default().probe()).arg(1).arg("PX").arg(PROBE_MS);
        self.link.ask(Request::Command(set)).await.map(drop)
    }

    /// A reader with a connection of its own, for blocking reads. `consumer` must be unique among the living;
    /// the group is `workers`.
    #[must_use]
    pub fn reader(&self, consumer: &str) -> Reader {
        Reader::new(self.clone(), Link::like(&self.link, Arc::clone(&self.settings)), consumer)
    }

    /// XACK, XDEL, the byte counter and the attempts of finished entries, atomically (of a very long list, piece by
    /// piece, and each shard by itself). Returns how many were still there. An entry that is gone already changes nothing.
    ///
    /// # Errors
    /// [`QueueError`]; what was not removed will be read again.
    pub async fn acknowledge(&self, done: &[Done]) -> Result<u64, QueueError> {
        let mut by_shard: BTreeMap<Shard, Vec<(&str, u64)>> = BTreeMap::new();
        for one in done {
            let (shard, id) = one.id.parts()?;
            by_shard.entry(shard).or_default().push((id, one.body_bytes));
        }
        let mut removed = Sum::default();
        for (shard, done) in by_shard {
            for piece in done.chunks(ACKNOWLEDGE_AT_ONCE) {
                removed.add(shard, self.acknowledge_piece(shard, piece).await)?;
            }
        }
        removed.end()
    }

    async fn acknowledge_piece(&self, shard: Shard, piece: &[(&str, u64)]) -> Result<u64, QueueError> {
        let keys = self.keys(shard);
        let keys = [keys.queue.as_str(), &keys.bytes, &keys.attempts];
        let fill = |call: &mut redis::Cmd| {
            call.arg(GROUP);
            for (id, body_bytes) in piece {
                call.arg(id).arg(body_bytes);
            }
        };
        reply::count(&self.link.ask(Request::Script(&scripts::ACKNOWLEDGE, &keys, &fill)).await?)
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn keys(&self, shard: Shard) -> &Keys {
        &self.keys[usize::from(shard.number())]
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn beyond(&self) -> &Beyond {
        &self.beyond
    }
}
