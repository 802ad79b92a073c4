//! Decoding: never more than the limit comes out, and never anything that wasn't put in.

use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::encoding::{self, DecodeError, Encoding};
use std::io::Write as _;

const ENCODINGS: [Encoding; 3] = [Encoding::Zstd, Encoding::Gzip, Encoding::Identity];

/// The output with one byte more, half as much again while it moves, and what miniz needs, for two members of gzip.
fn work(limit: usize) -> Work {
    let limit = u64::try_from(limit).unwrap();
    Work { steps: (0, u64::MAX), memory: (0, limit + limit / 2 + (128 << 10)) }
}

fn decode(encoding: Encoding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let decoded = bounded(body.len(), work(limit), || encoding::decode(encoding, body, limit));
    match &decoded {
        Ok(out) => assert!(out.len() <= limit),
        Err(DecodeError::TooLarge { limit: said }) => assert_eq!(*said, limit),
        Err(DecodeError::Garbled { encoding: said, detail }) => {
            assert_eq!(*said, encoding);
            assert!(detail.len() < 200, "{detail}");
        }
    }
    decoded
}

/// Any bytes. The first two give the encoding and the limit.
#[test]
fn fuzz_decode() {
    logweir_fuzz::target("proto/decode", |input| {
        let mut input = Input::new(input);
        let encoding = ENCODINGS[usize::from(input.byte()) % 3];
        let limit = usize::from(input.byte()) * 1_024;
        let body = input.rest();
        let Ok(out) = decode(encoding, body, limit) else { return };
        // The limit decides only whether there is an output, not which.
        assert!(decode(encoding, body, out.len()).as_ref() == Ok(&out));
        if let Some(less) = out.len().checked_sub(1) {
            assert_eq!(decode(encoding, body, less), Err(DecodeError::TooLarge { limit: less }));
        }
    });
}

/// A body that was well encoded, and then damaged: frames or members of repeated bytes, and changes to them.
#[test]
fn fuzz_damaged_body() {
    logweir_fuzz::target("proto/damaged_body", |input| {
        let mut input = Input::new(input);
        let encoding = ENCODINGS[usize::from(input.byte()) % 2];
        let (mut plain, mut body) = (Vec::new(), Vec::new());
        for _ in 0..input.byte() % 4 {
            let times = 1 << (input.byte() % 10);
            let len = usize::from(input.byte());
            let part = input.take(len).repeat(times);
            body.extend(encode(encoding, &part, input.byte()));
            plain.extend(part);
        }
        let limit = 64 << 10;
        let fits = plain.len() <= limit;
        match decode(encoding, &body, limit) {
            Ok(out) => assert!(fits && out == plain),
            Err(DecodeError::TooLarge { .. }) => assert!(!fits),
            Err(DecodeError::Garbled { detail, .. }) => assert!(body.is_empty(), "{detail}"),
        }
        while !input.is_empty() && !body.is_empty() {
            let (what, at, byte) = (input.byte(), usize::from(input.short()) % body.len(), input.byte());
            match what % 4 {
                0 => body[at] ^= byte,
                1 => body.truncate(at),
                2 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        // gzip's checksum of a change is in reach of chance, but what comes out is bounded still.
        let _bounded = decode(encoding, &body, limit);
    });
}

fn encode(encoding: Encoding, part: &[u8], level: u8) -> Vec<u8> {
    if encoding == Encoding::Zstd {
        return encoding::encode_zstd(part, i32::from(level % 8) - 3);
    }
    let level = flate2::Compression::new(u32::from(level % 10));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(part).unwrap();
    encoder.finish().unwrap()
}
