//! What an acknowledgement means, and whether Redis is set up for it.

/// `--ack`: what has happened to an entry when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It is on Redis' disk (`appendfsync always`, or WAITAOF on Redis ≥ 7.2).
    Fsync,
    /// The same, and on so many replicas.
    Replicated {
        /// How many replicas must have it.
        replicas: u32,
    },
    /// It is in Redis' memory, whatever Redis does about its disk.
    Memory,
}

/// What was found at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Redis' version, such as `7.0.15`.
    pub version: String,
    /// What this setting may cost, to be said at start; empty for the durable ones.
    pub warnings: Vec<String>,
}
