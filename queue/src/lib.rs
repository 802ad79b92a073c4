//! The only code of logweir that speaks Redis.
//!
//! ```text
//! collector ── enqueue ──► {0}:queue ── read, reclaim ──► worker ── acknowledge (XACK + XDEL)
//!                              │                            └────── dead_letter ──► {0}:dead ── replay ──┐
//!                              └◄────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants: whatever changes more than one key is one script; nothing unacknowledged is ever trimmed, so
//! XLEN is the backlog; `bytes` is the sum of the bodies in the stream; each call has a deadline. A queue may have
//! shards; a script touches the keys of one, and whoever reads or looks sees all that hold something.
//! This crate knows neither HTTP nor Postgres.

mod attempts;
mod connection;
mod dead;
mod depth;
mod durability;
mod enqueue;
mod entry;
mod error;
mod fence;
#[cfg(test)]
mod fuzz;
mod keys;
mod link;
mod look;
mod place;
mod reader;
mod reply;
mod request;
mod scripts;
mod shards;

pub use attempts::{Attempt, Attempts};
pub use connection::{Queue, Settings};
pub use dead::{Burial, DeadLetter, DeadLimits, Replay, Restored};
pub use depth::{Depth, Recounted};
pub use durability::{Ack, ServerInfo};
pub use enqueue::{Enqueued, IdempotencyKey, NewEntry, QueueLimits};
pub use entry::{Done, Entry, EntryId, Fields, Flaw, Item, Numbers, Unreadable};
pub use error::QueueError;
pub use keys::{MAX_SHARDS, Shard, Shards};
pub use look::{Holder, Looked, Queued};
pub use place::Access;
pub use reader::Reader;
