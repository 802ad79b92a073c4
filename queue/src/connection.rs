//! The connection: made when it is needed, made again when it breaks, checked each time it is made.

use crate::depth::Depth;
use crate::durability::{Ack, ServerInfo};
use crate::entry::Done;
use crate::error::QueueError;
use crate::keys::Shard;
use crate::reader::Reader;
use std::time::Duration;

/// How to reach one queue.
#[derive(Clone)]
pub struct Settings {
    /// `redis://[user:password@]host:port[/db]`; may bear a password, so it is never printed.
    pub url: String,
    /// What an acknowledgement means; readers pass [`Ack::Memory`], since it concerns enqueueing only.
    pub ack: Ack,
    /// How long each call may take, connecting included.
    pub deadline: Duration,
    /// Which queue.
    pub shard: Shard,
}

/// One queue. Clones share one pipelined connection.
#[derive(Clone)]
pub struct Queue {
    settings: std::sync::Arc<Settings>,
}

impl Queue {
    /// Checks the URL; connects at the first call.
    ///
    /// # Errors
    /// [`QueueError::Usage`] when the URL is none.
    pub fn new(settings: Settings) -> Result<Self, QueueError> {
        Ok(Self { settings: std::sync::Arc::new(settings) })
    }

    /// Connects if need be, and checks that Redis is set up as [`Settings::ack`] requires, and with
    /// `maxmemory-policy noeviction`. The same check runs by itself after each reconnect, before the first call.
    ///
    /// # Errors
    /// [`QueueError::Unfit`] when a setting is missing, else as every call.
    pub async fn check(&self) -> Result<ServerInfo, QueueError> {
        let _ = &self.settings;
        todo!()
    }

    /// How full the queue is.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        todo!()
    }

    /// A reader with a connection of its own, for blocking reads. `consumer` must be unique among the living;
    /// the group is `workers`.
    #[must_use]
    pub fn reader(&self, consumer: &str) -> Reader {
        let _ = consumer;
        todo!()
    }

    /// XACK, XDEL, the byte counter and the attempts of finished entries, atomically. Returns how many were
    /// still there. An entry that is gone already changes nothing.
    ///
    /// # Errors
    /// [`QueueError`]; what was not removed will be read again.
    pub async fn acknowledge(&self, done: &[Done]) -> Result<u64, QueueError> {
        let _ = done;
        todo!()
    }
}
