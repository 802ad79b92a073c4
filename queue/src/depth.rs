//! How full the queue is.

/// The queue's state, from one script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Entries that are not acknowledged (XLEN).
    pub entries: u64,
    /// The sum of their bodies, in bytes.
    pub bytes: u64,
    /// Those of them that a worker holds.
    pub pending: u64,
    /// The age of the oldest, in milliseconds by Redis' clock; `None` when there is none.
    pub oldest_age_ms: Option<u64>,
    /// Dead letters.
    pub dead: u64,
}
