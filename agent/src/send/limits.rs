//! What the collector takes, learnt from `GET /v1/limits`, so that no batch is built that must be refused and, once one
//! was refused for the quota, none is sent before its quota is there.
//!
//! The collector stays the judge: what is learnt here only saves refusals. One that has no such answer (an older one, a
//! proxy that doesn't let it through) is asked again now and then, and nothing is assumed of it.

use crate::handoff::Guidance;
use serde::Deserialize;
use std::time::Duration;

/// How often it is asked: a quota may be changed while agents run.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// How soon it is asked again where it didn't say, at first; each time twice as long.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// The largest body of the answer that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// The body, as far as it is needed; members may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct OwnLimits {
    pub(crate) limits: Sizes,
    pub(crate) quota: Quota,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Sizes {
    /// Events in a batch.
    batch_events: u64,
    /// Bytes of a batch before compression.
    decoded_bytes: u64,
    /// Bytes of a body as it is sent.
    wire_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Quota {
    pub(crate) events: Flow,
    /// Bytes before compression.
    pub(crate) bytes: Flow,
}

/// So many a second, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Flow {
    pub(crate) rate: u64,
    pub(crate) burst: u64,
}

impl OwnLimits {
    /// The answer's body; `None` when it is something else's.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Lets the reading half know.
    pub(crate) fn guide(&self, guidance: &Guidance) {
        let Sizes { batch_events, decoded_bytes, wire_bytes } = self.limits;
        guidance.set_limits(batch_events, decoded_bytes.min(compressible_to(wire_bytes)));
    }
}

/// How many bytes are never more than `wire` bytes after compression, whatever they are: `ZSTD_compressBound` is less
/// than the length, its 256th part, and 64 for what is short, together.
fn compressible_to(wire: u64) -> u64 {
    wire.saturating_sub(wire / 256 + 1_024).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logweir_proto::encoding::encode_zstd;
    use rand::RngExt as _;

    #[test]
    fn what_is_needed_is_read_and_the_rest_ignored() {
        let body = r#"{"agent": "a", "limits": {"event_bytes": 1, "batch_events": 100, "decoded_bytes": 8000000,
            "wire_bytes": 1000000, "more": 1}, "quota": {"events": {"rate": 5, "burst": 10},
            "bytes": {"rate": 50, "burst": 100}}, "window": {"max_age_ms": 1}, "later": []}"#;
        let limits = OwnLimits::parse(body.as_bytes()).unwrap();
        assert_eq!(limits.quota.events, Flow { rate: 5, burst: 10 });
        let guidance = Guidance::default();
        limits.guide(&guidance);
        assert_eq!(guidance.batch_events(), 100);
        assert!((950_000..1_000_000).contains(&guidance.batch_bytes()));
        assert_eq!(OwnLimits::parse(b"<html>"), None);
        assert_eq!(OwnLimits::parse(b"{}"), None);
    }

    #[test]
    fn what_cannot_be_compressed_still_fits() {
        let mut random = rand::rng();
        for wire in [2_000_u64, 70_000, 4 << 20] {
            let plain: Vec<u8> = (0..compressible_to(wire)).map(|_| random.random()).collect();
            let sent = encode_zstd(&plain, 3).len();
            assert!(u64::try_from(sent).unwrap() <= wire, "{sent} of {wire}");
        }
    }
}
