//! The journal's bytes on disk.
//!
//! ```text
//! header  magic 8 │ version 4 │ check 4 │
//! record  length 4 │ check of the length 4 │ checksum of the payload 16 │ payload (JSON, without NUL bytes)
//! ```
//!
//! All numbers are little-endian. Pure.
//!
//! A crash in the middle of an append leaves a *torn* end: fewer bytes than announced, or (after a power cut) blocks of
//! zeros that were never written. Such a record was never acted on, so it is cut off. Everything else that doesn't
//! fit is *damage*: then no part of the file is believed, since a batch that was sent could be missing from it.

use twox_hash::XxHash3_128;

const MAGIC: &[u8; 8] = b"logweirJ";

/// The version that this program writes, and the only one that it reads.
pub(crate) const VERSION: u32 = 1;

const HEADER: usize = 16;
const FRAME: usize = 24;

/// Why a journal isn't believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// The first bytes are others.
    #[error("it is no journal of logweir")]
    NoJournal,
    /// A newer program wrote it.
    #[error("it has version {0}, and this program knows version {VERSION} only")]
    Version(u32),
    /// A checksum doesn't fit.
    #[error("it is damaged at byte {at}")]
    Damaged {
        /// Where the record that doesn't fit begins.
        at: usize,
    },
}

/// The beginning of every journal.
pub(crate) fn header() -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&check(&out));
    out
}

/// Appends one record.
///
/// # Errors
/// Returns the payload's length when it doesn't fit in 32 bits.
pub(crate) fn push(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), usize> {
    let len = u32::try_from(payload.len()).map_err(|_| payload.len())?.to_le_bytes();
    out.extend_from_slice(&len);
    out.extend_from_slice(&check(&len));
    out.extend_from_slice(&XxHash3_128::oneshot(payload).to_le_bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// The payloads of all whole records, and whether a torn one was left out at the end.
pub(crate) fn records(bytes: &[u8]) -> Result<(Vec<&[u8]>, bool), FormatError> {
    let (head, mut rest) = bytes.split_at_checked(HEADER).ok_or(FormatError::NoJournal)?;
    if head[..8] != MAGIC[..] {
        return Err(FormatError::NoJournal);
    }
    if head[12..] != check(&head[..12]) {
        return Err(FormatError::Damaged { at: 0 });
    }
    let version = number(&head[8..12]);
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let mut payloads = Vec::new();
    while !rest.is_empty() {
        let damaged = FormatError::Damaged { at: bytes.len() - rest.len() };
        let Some((frame, after)) = rest.split_at_checked(FRAME) else { return Ok((payloads, true)) };
        if frame[4..8] != check(&frame[..4]) {
            let never_written = rest.iter().all(|byte| *byte == 0);
            return if never_written { Ok((payloads, true)) } else { Err(damaged) };
        }
        let len = number(&frame[..4]) as usize;
        let Some((payload, after)) = after.split_at_checked(len) else { return Ok((payloads, true)) };
        if XxHash3_128::oneshot(payload).to_le_bytes() != frame[8..] {
            // Only the last record can have been torn, and a payload never holds NUL.
            let never_written = after.is_empty() && payload.contains(&0);
            return if never_written { Ok((payloads, true)) } else { Err(damaged) };
        }
        payloads.push(payload);
        rest = after;
    }
    Ok((payloads, false))
}

fn check(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = XxHash3_128::oneshot(bytes).to_le_bytes();
    [a, b, c, d]
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = header();
        for payload in payloads {
            push(&mut out, payload).unwrap();
        }
        out
    }

    const PAYLOADS: [&[u8]; 4] = [b"{\"first\":1}", b"", b"{\"second\":[1,2,3]}", b"last"];

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(records(&file(&PAYLOADS)), Ok((PAYLOADS.to_vec(), false)));
        assert_eq!(records(&file(&[])), Ok((vec![], false)));
    }

    #[test]
    fn every_truncation_is_a_prefix_or_refused() {
        let whole = file(&PAYLOADS);
        for len in 0..whole.len() {
            match records(&whole[..len]) {
                Ok((read, torn)) => {
                    assert_eq!(read, PAYLOADS[..read.len()], "cut at {len}");
                    assert_eq!(torn, file(&PAYLOADS[..read.len()]).len() != len);
                }
                Err(error) => {
                    assert!(len < HEADER && error == FormatError::NoJournal, "cut at {len}: {error}")
                }
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let whole = file(&PAYLOADS);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(records(&bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn zeros_at_the_end_were_never_written() {
        let mut bytes = file(&PAYLOADS[..2]);
        bytes.resize(bytes.len() + 4096, 0);
        assert_eq!(records(&bytes), Ok((PAYLOADS[..2].to_vec(), true)));
        let mut bytes = file(&PAYLOADS[..3]);
        let len = bytes.len();
        bytes[len - 6..].fill(0);
        assert_eq!(records(&bytes), Ok((PAYLOADS[..2].to_vec(), true)));
    }

    #[test]
    fn a_newer_version_is_refused_as_such() {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&2_u32.to_le_bytes());
        let sum = check(&out);
        out.extend_from_slice(&sum);
        assert_eq!(records(&out), Err(FormatError::Version(2)));
    }
}
