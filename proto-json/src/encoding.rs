//! How bodies are compressed, and decoding that stops at a limit.

use thiserror::Error;

/// How a body is encoded, on the wire and in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Zstandard, RFC 8878.
    Zstd,
    /// gzip, RFC 1952; on the wire only.
    Gzip,
}

impl Encoding {
    /// The name in `Content-Encoding` and in the queue's `enc` field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Zstd => "zstd",
            Encoding::Gzip => "gzip",
        }
    }

    /// The encoding of that name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Encoding::Identity, Encoding::Zstd, Encoding::Gzip]
            .into_iter()
            .find(|e| name.trim().eq_ignore_ascii_case(e.as_str()))
    }
}

/// Why a body can't be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More than the limit comes out.
    #[error("the decoded body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Cut off, garbled, or with a window over [`crate::limits::ZSTD_WINDOW_LOG`].
    #[error("the body is no whole {} stream: {detail}", encoding.as_str())]
    Garbled {
        /// What it was said to be.
        encoding: Encoding,
        /// What the decoder says.
        detail: String,
    },
}

/// Decodes a whole body. Several zstd frames or gzip members in a row are one body; anything after them, or a
/// cut end, is garbled. No more than `limit` bytes and a small constant are ever allocated.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(encoding: Encoding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let _ = (encoding, body, limit);
    todo!()
}

/// Compresses a body with zstd at `level` (3 is what the agent uses). The frame bears its content size and a checksum.
#[must_use]
pub fn encode_zstd(body: &[u8], level: i32) -> Vec<u8> {
    let _ = (body, level);
    todo!()
}
