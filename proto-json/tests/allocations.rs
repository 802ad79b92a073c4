//! What is allocated: nothing for a good event, and no more than the limit for a body, whatever it claims.
//!
//! The counting allocator sees Rust's allocations of this thread, and not those that zstd's own code makes: its
//! window, which is limited, and its tables, whose size is fixed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use allocation_counter::measure;
use logweir_proto::encoding::{self, DecodeError, Encoding};
use logweir_proto::event::{self, Rules, Window};
use logweir_proto::ndjson;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};

const RULES: Rules = Rules {
    max_bytes: 256 << 10,
    window: Some(Window { now_ms: 1_795_514_580_000, max_age_ms: 90 * 86_400_000, max_ahead_ms: 600_000 }),
};

#[test]
fn a_good_event_allocates_nothing() {
    let deep = format!(
        r#"{{"timestamp":1795514580000,"service":"api","level":"info","message":"m","x":{}{}}}"#,
        "[".repeat(31),
        "]".repeat(31)
    );
    for line in [
        r#"{"timestamp":1795514580000,"service":"api","level":"info","message":"m"}"#,
        r#"{"timestamp":"2026-11-24T10:03:00.123456789+00:00","service":"api","level":"EMERGENCY","message":"größe \ud83e\udd80","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","attributes":{"a":[1,{"b":null}]},"x":1e999}"#,
        r#"{"tim\u0065stamp":"2026-11-24T10\u003a03:00.000000000000000000000000000000000000000000000000000000000000000000000000000001Z","service":"\u0061pi","level":"\u0069nfo","message":"m","trace_id":"0af7651916cd43dd8448eb211c80319\u0063","span_id":"b7ad6b716920333\u0031"}"#,
        r#"{"timestamp":1.7955145800000000000000000e12,"service":"api","level":"info","message":"m"}"#,
        &deep,
    ] {
        let info = measure(|| {
            let event = event::check(black_box(line.as_bytes()), &RULES).unwrap();
            black_box(event.service.as_str());
        });
        assert_eq!(info.count_total, 0, "{line}");
    }
}

#[test]
fn splitting_lines_allocates_nothing() {
    let body = "{}\r\n\n".repeat(1_000);
    let info = measure(|| assert_eq!(ndjson::lines(black_box(body.as_bytes())).count(), 1_000));
    assert_eq!(info.count_total, 0);
}

#[test]
fn nesting_costs_a_bit_a_level() {
    let depth = 100_000;
    let line = "[".repeat(depth) + &"]".repeat(depth);
    let info = measure(|| drop(event::check(line.as_bytes(), &RULES).unwrap_err()));
    assert!(info.bytes_max < 50_000, "{info:?}");
}

/// A zstd frame of 32 KiB that holds 1 GiB: each block repeats one byte 128 Ki times. It may claim any size.
fn zstd_bomb(claims: Option<u64>) -> Vec<u8> {
    const BLOCKS: u32 = 8 << 10;
    let mut body = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    // The descriptor (a size of 8 bytes or none), and a window of 128 KiB.
    body.extend([if claims.is_some() { 0xc0 } else { 0 }, 7 << 3]);
    body.extend(claims.iter().flat_map(|size| size.to_le_bytes()));
    for block in 0..BLOCKS {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(block == BLOCKS - 1);
        body.extend(&header.to_le_bytes()[..3]);
        body.push(b'x');
    }
    body
}

fn gzip_bomb() -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::copy(&mut io::repeat(b'x').take(64 << 20), &mut out).unwrap();
    out.flush().unwrap();
    out.finish().unwrap()
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let limit = 1 << 20;
    let zstd = zstd_bomb(None);
    assert!(zstd.len() < 33 << 10);
    for (encoding, body) in [(Encoding::Zstd, &zstd), (Encoding::Gzip, &gzip_bomb())] {
        let info = measure(|| {
            assert_eq!(encoding::decode(encoding, body, limit), Err(DecodeError::TooLarge { limit }));
        });
        // While it grows, the old half of the buffer may stand beside the new one; gzip has tables of some 64 KiB.
        let most = u64::try_from(limit + limit / 2 + (128 << 10)).unwrap();
        assert!(info.bytes_max <= most, "{encoding:?}: {info:?}");
    }
    // The bomb is one: 1 GiB comes out where the limit lets it.
    let honest = encoding::decode(Encoding::Zstd, &zstd, 1 << 30).unwrap();
    assert_eq!(honest.len(), 1 << 30);
}

#[test]
fn a_claim_reserves_nothing() {
    let limit = 1 << 30;
    // The frame says 1 GiB, ends after two blocks, and is not taken.
    let body = &zstd_bomb(Some(1 << 30))[..14 + 8];
    let info = measure(|| {
        let result = encoding::decode(Encoding::Zstd, body, limit);
        assert!(matches!(result, Err(DecodeError::Garbled { .. })), "{:?}", result.map(|out| out.len()));
    });
    assert!(info.bytes_max < 1 << 20, "{info:?}");
    for claim in [(1 << 30) + 1, u64::MAX - 2] {
        let info = measure(|| {
            let result = encoding::decode(Encoding::Zstd, &zstd_bomb(Some(claim)), limit);
            assert_eq!(result, Err(DecodeError::TooLarge { limit }));
        });
        assert!(info.bytes_max < 1 << 20, "{info:?}");
    }
}

#[test]
fn a_small_body_takes_little() {
    for (encoding, body) in [
        (Encoding::Zstd, encoding::encode_zstd(b"hello\n", 3)),
        (Encoding::Gzip, {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(b"hello\n").unwrap();
            out.finish().unwrap()
        }),
    ] {
        let info = measure(|| drop(encoding::decode(encoding, &body, 8 << 20).unwrap()));
        assert!(info.bytes_max < 200 << 10, "{encoding:?}: {info:?}");
    }
}
