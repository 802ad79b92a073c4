//! The files that are followed: which they are, how they are known again, and how their lines are taken.
//!
//! ```text
//! discover  patterns ──► paths                  identity  (dev, inode), fingerprint, guard
//! tail      one open file, one place in it      lines     bytes ──► lines, bounded
//! trail     places that it has passed           speed     how fast it is read
//! ```

pub(crate) mod discover;
pub(crate) mod identity;
pub(crate) mod lines;
pub(crate) mod speed;
pub(crate) mod tail;
pub(crate) mod trail;
