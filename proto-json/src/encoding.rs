//! How bodies are compressed, and decoding that stops at a limit.

use crate::limits::ZSTD_WINDOW_LOG;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, Read};
use thiserror::Error;

/// The output has room for so much at least.
const STEP: usize = 64 << 10;

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
/// cut end, is garbled, and so is an empty body of these two. Skippable zstd frames are passed over.
///
/// The output takes at most `limit` + 1 bytes, whatever the body claims about itself (half as much again for a
/// moment, where the allocator must move the buffer to let it grow). What the decoders need comes on top: for zstd
/// a window of at most 8 MiB, for gzip 32 KiB, and some tables.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(encoding: Encoding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    match encoding {
        Encoding::Identity if body.len() > limit => Err(DecodeError::TooLarge { limit }),
        Encoding::Identity => Ok(body.to_vec()),
        Encoding::Zstd => decode_zstd(body, limit),
        Encoding::Gzip => drain(MultiGzDecoder::new(body), body.len(), limit)
            .map_err(|stop| stop.into_error(encoding, limit)),
    }
}

/// [`decode`] for zstd.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_zstd(body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    // A frame in one segment needs a window as large as its content. Where that is over the limit anyway, the
    // answer is that the body is too large, which can be mended by sending less, and not that its window is.
    if let Ok(Some(size)) = zstd::zstd_safe::get_frame_content_size(body)
        && usize::try_from(size).is_ok_and(|size| size > limit)
    {
        return Err(DecodeError::TooLarge { limit });
    }
    let open = || {
        let mut decoder = zstd::Decoder::with_buffer(body)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Ok(decoder)
    };
    let decoded = open().map_err(Stop::Garbled).and_then(|decoder| drain(decoder, body.len(), limit));
    decoded.map_err(|stop| stop.into_error(Encoding::Zstd, limit))
}

/// Why decoding stops before the end.
enum Stop {
    TooLarge,
    Garbled(io::Error),
}

impl Stop {
    fn into_error(self, encoding: Encoding, limit: usize) -> DecodeError {
        match self {
            Stop::TooLarge => DecodeError::TooLarge { limit },
            Stop::Garbled(error) => {
                let mut detail = error.to_string();
                // So zstd calls a window over the limit.
                if detail.contains("too much memory") {
                    detail = format!("its window is larger than {} MiB", (1_u64 << ZSTD_WINDOW_LOG) >> 20);
                }
                DecodeError::Garbled { encoding, detail }
            }
        }
    }
}

/// Reads to the end, but not past `limit` bytes. The buffer grows with what has come, never by what is announced.
fn drain(mut reader: impl Read, encoded_bytes: usize, limit: usize) -> Result<Vec<u8>, Stop> {
    // One byte more than the limit tells a body of just the limit from one that goes on.
    let most = limit.saturating_add(1);
    let mut out = Vec::new();
    let mut len = 0;
    let mut size = first_size(encoded_bytes, most);
    loop {
        if len == out.len() {
            out.reserve_exact(size - len);
            out.resize(size, 0);
            size = size.saturating_mul(2).min(most);
        }
        match reader.read(&mut out[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stop::Garbled(error)),
        }
        if len == most {
            return Err(Stop::TooLarge);
        }
    }
    out.truncate(len);
    Ok(out)
}

/// The buffer's first size: so many times halved from the largest that doubling ends there, and what is thrown
/// away by the last step is never more than half. Logs shrink to an eighth or less, so most bodies then need
/// a step or two.
fn first_size(encoded_bytes: usize, most: usize) -> usize {
    let guess = encoded_bytes.saturating_mul(8).max(STEP);
    let mut size = most;
    while size / 2 >= guess {
        size = size.div_ceil(2);
    }
    size
}

/// Compresses a body with zstd at `level` (3 is what the agent uses). The frame bears its content size and a
/// checksum. Levels over 19 count as 19: their windows would be larger than [`decode`] takes.
#[must_use]
#[expect(clippy::expect_used, reason = "see the message; a Vec would abort there too")]
pub fn encode_zstd(body: &[u8], level: i32) -> Vec<u8> {
    let encode = || {
        let mut compressor = zstd::bulk::Compressor::new(level.min(19))?;
        compressor.include_checksum(true)?;
        compressor.compress(body)
    };
    encode().expect("zstd fails only where there is no memory: the buffer has the worst case's size")
}

#[cfg(test)]
mod tests;
