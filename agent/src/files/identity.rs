//! How a file is known again.
//!
//! ```text
//! 0 ──── fingerprint ──── 1024 …………………… ├── guard, 256 ──┤ offset …… what is read next
//! ```
//!
//! A file is its device and inode. Since inodes are used again, and files are truncated and grow again, its first bytes
//! (the fingerprint) and the bytes just before the place up to where it was read (the guard) must be the same too.
//!
//! Limit: other content with the same first 1024 bytes and the same 256 bytes at the same place is taken for the
//! same. Lines with times aren't that alike.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::UNIX_EPOCH;
use twox_hash::XxHash3_128;

/// The most bytes that a fingerprint covers.
pub(crate) const FINGERPRINT_BYTES: usize = 1024;

/// The most bytes that a guard covers.
pub(crate) const GUARD_BYTES: usize = 256;

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    dev: u64,
    ino: u64,
}

impl Key {
    /// The key of the file that this metadata belongs to.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { dev: metadata.dev(), ino: metadata.ino() }
    }

    /// The device's number, which can be another after a restart of the machine.
    pub(crate) const fn device(self) -> u64 {
        self.dev
    }

    /// The inode's number.
    pub(crate) const fn inode(self) -> u64 {
        self.ino
    }

    #[cfg(test)]
    pub(crate) const fn new(dev: u64, ino: u64) -> Self {
        Self { dev, ino }
    }
}

/// What tells that a file has changed, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// In bytes.
    pub(crate) size: u64,
    /// When it was last written to, in Unix nanoseconds.
    pub(crate) modified: i128,
}

impl Stamp {
    /// The stamp of the file that this metadata belongs to.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { size: metadata.size(), modified }
    }
}

/// The checksum of some bytes, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksum {
    len: u32,
    #[serde(with = "hex")]
    hash: u128,
}

impl Checksum {
    /// Of these bytes; they are few.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { len, hash: XxHash3_128::oneshot(bytes) }
    }

    /// How many bytes it covers.
    pub(crate) const fn len(self) -> usize {
        self.len as usize
    }

    /// Whether these are the same bytes.
    pub(crate) fn is_of(self, bytes: &[u8]) -> bool {
        self == Self::of(bytes)
    }

    /// Whether `bytes` begin with the same bytes.
    pub(crate) fn begins(self, bytes: &[u8]) -> bool {
        bytes.get(..self.len()).is_some_and(|prefix| self.is_of(prefix))
    }
}

/// When the file was made, in nanoseconds of Unix time, where the file system tells.
pub(crate) fn born(metadata: &Metadata) -> Option<i64> {
    let since = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// 128 bits as 32 hex digits: JSON has no such numbers.
pub(crate) mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(hash: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{hash:032x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() != 32 || text.starts_with('+') {
            return Err(D::Error::custom("a checksum has 32 hex digits"));
        }
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_knows_its_bytes_and_only_those() {
        let sum = Checksum::of(b"hello");
        assert!(sum.is_of(b"hello") && !sum.is_of(b"hellO") && !sum.is_of(b"hell"));
        assert!(sum.begins(b"hello, world") && !sum.begins(b"hell") && !sum.begins(b"help!"));
        assert!(Checksum::of(b"").begins(b"anything"));
    }

    #[test]
    fn a_checksum_survives_json() {
        let sum = Checksum::of(b"x");
        let json = serde_json::to_string(&sum).unwrap();
        assert_eq!(serde_json::from_str::<Checksum>(&json).unwrap(), sum);
        assert!(serde_json::from_str::<Checksum>(&json.replace("\"hash\":\"", "\"hash\":\"0")).is_err());
    }
}
