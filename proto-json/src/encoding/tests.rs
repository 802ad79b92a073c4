use super::*;
use proptest::prelude::*;
use std::io::Write as _;

const LIMIT: usize = 1 << 20;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(body).unwrap();
    out.finish().unwrap()
}

fn encode(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => body.to_vec(),
        Encoding::Zstd => encode_zstd(body, 3),
        Encoding::Gzip => gzip(body),
    }
}

/// Something that looks like logs.
fn lines(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0_u64.. {
        if out.len() >= bytes {
            break;
        }
        writeln!(out, r#"{{"timestamp":{},"message":"request {}"}}"#, number * 977, number * 31_337).unwrap();
    }
    out.truncate(bytes);
    out
}

#[track_caller]
fn garbled(encoding: Encoding, body: &[u8]) -> String {
    match decode(encoding, body, LIMIT) {
        Err(DecodeError::Garbled { encoding: said, detail }) => {
            assert_eq!(said, encoding);
            detail
        }
        other => panic!("expected garbled, got {:?}", other.map(|out| out.len())),
    }
}

#[test]
fn names_in_any_case() {
    for encoding in [Encoding::Identity, Encoding::Zstd, Encoding::Gzip] {
        assert_eq!(Encoding::parse(encoding.as_str()), Some(encoding));
        assert_eq!(Encoding::parse(&encoding.as_str().to_uppercase()), Some(encoding));
    }
    assert_eq!(Encoding::parse("br"), None);
    assert_eq!(Encoding::parse("zstd, gzip"), None);
}

#[test]
fn bodies_around_the_limit() {
    for encoding in [Encoding::Identity, Encoding::Zstd, Encoding::Gzip] {
        for len in [0, 1, STEP - 1, STEP, STEP + 1, LIMIT / 2, LIMIT - 1, LIMIT] {
            let body = lines(len);
            assert!(
                decode(encoding, &encode(encoding, &body), LIMIT).as_ref() == Ok(&body),
                "{encoding:?} {len}"
            );
        }
        for len in [LIMIT + 1, 3 * LIMIT] {
            let body = encode(encoding, &lines(len));
            assert_eq!(
                decode(encoding, &body, LIMIT),
                Err(DecodeError::TooLarge { limit: LIMIT }),
                "{encoding:?}"
            );
        }
        assert_eq!(decode(encoding, &encode(encoding, b""), 0), Ok(Vec::new()));
        assert!(decode(encoding, &encode(encoding, b"x"), 0).is_err());
        assert_eq!(decode(encoding, &encode(encoding, b"x"), usize::MAX), Ok(b"x".to_vec()));
    }
}

#[test]
fn a_body_that_is_cut_anywhere_is_garbled() {
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let body = encode(encoding, &lines(3_000));
        for cut in 0..body.len() {
            garbled(encoding, &body[..cut]);
        }
        let large = encode(encoding, &lines(LIMIT));
        for cut in (0..large.len()).step_by(9_973) {
            garbled(encoding, &large[..cut]);
        }
    }
}

#[test]
fn a_body_with_a_wrong_bit_never_becomes_another() {
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let plain = lines(3_000);
        let body = encode(encoding, &plain);
        for place in 0..body.len() {
            let mut wrong = body.clone();
            wrong[place] ^= 0x10;
            // Some bits say nothing of the content, such as gzip's time; all others are under a checksum.
            if let Ok(out) = decode(encoding, &wrong, LIMIT) {
                assert!(out == plain, "{encoding:?}: {place}");
            }
        }
    }
}

#[test]
fn several_frames_or_members_are_one_body() {
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let (a, b) = (encode(encoding, b"first\n"), encode(encoding, &lines(100_000)));
        let empty = encode(encoding, b"");
        let body = [&empty[..], &a, &empty, &b, &a, &empty].concat();
        let plain = [b"first\n", &lines(100_000)[..], b"first\n"].concat();
        assert!(decode(encoding, &body, LIMIT) == Ok(plain));
        // The limit is on their sum, and a cut between them shows as nothing.
        assert_eq!(decode(encoding, &body, 100_011), Err(DecodeError::TooLarge { limit: 100_011 }));
        assert_eq!(decode(encoding, &a, 6), Ok(b"first\n".to_vec()));
        for cut in 1..a.len() {
            garbled(encoding, &[&b[..], &a[..cut]].concat());
        }
    }
}

#[test]
fn anything_after_the_end_is_garbled() {
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let body = encode(encoding, b"first\n");
        for after in [&b"\0"[..], b"\n", b"x", b"more", b"much more than a header has", &[0; 100]] {
            garbled(encoding, &[&body[..], after].concat());
        }
        garbled(encoding, b"first\n");
        garbled(encoding, b"");
    }
    garbled(Encoding::Zstd, &gzip(b"first\n"));
    garbled(Encoding::Gzip, &encode_zstd(b"first\n", 3));
}

#[test]
fn skippable_frames_are_passed_over() {
    let skip = [&0x184d_2a53_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"12345"].concat();
    let body = encode_zstd(b"first\n", 3);
    let all = [&skip[..], &body, &skip, &skip, &body, &skip].concat();
    assert_eq!(decode(Encoding::Zstd, &all, LIMIT), Ok(b"first\nfirst\n".to_vec()));
    assert_eq!(decode(Encoding::Zstd, &skip, LIMIT), Ok(Vec::new()));
    garbled(Encoding::Zstd, &all[..all.len() - 1]);
    let endless = [&0x184d_2a50_u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), b"12345"].concat();
    garbled(Encoding::Zstd, &endless);
}

fn with_window(log: u32, body: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn windows_are_limited() {
    let body = lines(200_000);
    assert!(decode(Encoding::Zstd, &with_window(23, &body), LIMIT).as_ref() == Ok(&body));
    for log in [24, 27, 31] {
        assert_eq!(garbled(Encoding::Zstd, &with_window(log, &body)), "its window is larger than 8 MiB");
    }
    // What this crate writes, it reads.
    let large = vec![b'x'; 9 << 20];
    for level in [-7, 1, 3, 22] {
        assert!(
            decode(Encoding::Zstd, &encode_zstd(&large, level), 16 << 20).as_ref() == Ok(&large),
            "{level}"
        );
    }
}

#[test]
fn a_frame_bears_its_size_and_a_checksum() {
    let body = encode_zstd(&lines(3_000), 3);
    assert_eq!(zstd::zstd_safe::get_frame_content_size(&body).ok(), Some(Some(3_000)));
    let mut wrong = body;
    *wrong.last_mut().unwrap() ^= 1;
    assert!(garbled(Encoding::Zstd, &wrong).contains("checksum"));
}

#[test]
fn a_window_that_is_too_large_for_a_body_that_is_too_large_anyway() {
    // 20 MiB in one segment: a smaller batch would do, so it is not the window that must be said.
    let body = zstd::bulk::compress(&vec![b'x'; 20 << 20], 22).unwrap();
    assert_eq!(decode(Encoding::Zstd, &body, 8 << 20), Err(DecodeError::TooLarge { limit: 8 << 20 }));
    assert!(matches!(decode(Encoding::Zstd, &body, 64 << 20), Err(DecodeError::Garbled { .. })));
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_verdict(body in any::<Vec<u8>>(), magic in 0..4_u8) {
        let magic: &[u8] = match magic {
            0 => &[0x28, 0xb5, 0x2f, 0xfd],
            1 => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0],
            2 => &[0x50, 0x2a, 0x4d, 0x18],
            _ => &[],
        };
        let body = [magic, &body].concat();
        for encoding in [Encoding::Identity, Encoding::Zstd, Encoding::Gzip] {
            if let Ok(out) = decode(encoding, &body, 10_000) {
                prop_assert!(out.len() <= 10_000);
            }
        }
    }

    #[test]
    fn what_is_encoded_comes_back(body in any::<Vec<u8>>(), level in -5..23_i32) {
        prop_assert_eq!(decode(Encoding::Zstd, &encode_zstd(&body, level), body.len()), Ok(body));
    }
}
