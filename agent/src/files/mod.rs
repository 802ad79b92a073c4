//! The files that are followed: which they are, how they are known again, and how their lines are taken.
//!
//! ```text
//! discover  patterns ──► paths                  identity  (dev, inode), fingerprint, guard
//! input     one open file's bytes, decompressed     tail      one place in it
//! trail     places that it has passed           lines     bytes ──► lines, bounded
//! speed     how fast it is read
//! ```

pub(crate) mod discover;
pub(crate) mod identity;
pub(crate) mod input;
pub(crate) mod lines;
pub(crate) mod speed;
pub(crate) mod tail;
pub(crate) mod trail;
