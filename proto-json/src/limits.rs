//! How large things may be.

/// The deepest nesting of an event; the event itself is depth 1.
pub const MAX_DEPTH: usize = 32;
/// The deepest nesting of `attributes`; the object itself is depth 1.
pub const MAX_ATTRIBUTES_DEPTH: usize = 16;
/// The longest service name, in characters (all of them ASCII).
pub const MAX_SERVICE_CHARS: usize = 128;
/// The largest window of a zstd frame that is decoded: 8 MiB, as log2.
pub const ZSTD_WINDOW_LOG: u32 = 23;

/// The limits of one request. [`Limits::default`] is what the collector applies unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest event, in bytes of its JSON.
    pub event_bytes: usize,
    /// The most events in a batch.
    pub batch_events: usize,
    /// The largest body after decoding, in bytes.
    pub decoded_bytes: usize,
    /// The largest body on the wire, in bytes.
    pub wire_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { event_bytes: 256 << 10, batch_events: 10_000, decoded_bytes: 8 << 20, wire_bytes: 4 << 20 }
    }
}
