use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn holding(bytes: &[u8]) -> (tempfile::NamedTempFile, Input) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let input = Input::of(file.reopen().unwrap()).unwrap();
    (file, input)
}

/// Text that isn't alike anywhere.
fn text(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|line| format!("line {line} {:x}\n", line * 2_654_435_761).into_bytes()).collect()
}

fn all(input: &Input, from: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chunk = vec![0; 70_000];
    loop {
        match input.read_at(&mut chunk, from + length(out.len())).unwrap() {
            0 => return out,
            read => out.extend_from_slice(&chunk[..read]),
        }
    }
}

#[test]
fn any_place_is_read_in_any_order() {
    let content = text(40_000);
    let (_file, input) = holding(&gzip(&content));
    assert!(input.is_packed());
    assert_eq!(input.size().unwrap(), length(content.len()));
    assert_eq!(all(&input, 0), content);
    assert_eq!(input.flaw(), None);
    assert_eq!(input.size().unwrap(), length(content.len()));
    assert_eq!(input.head().unwrap(), content[..FINGERPRINT_BYTES]);
    let mut place = 1_usize;
    for round in 0..60 {
        place = (place * 75 + 74) % content.len();
        let len = [10, 300, 5000, 200_000][round % 4];
        let mut bytes = vec![0; len];
        let read = input.read_at(&mut bytes, length(place)).unwrap();
        assert!(bytes[..read] == content[place..content.len().min(place + len)], "at {place}");
        assert_eq!(input.before(length(place), 256).unwrap(), content[place.saturating_sub(256)..place]);
        if round % 7 == 0 {
            input.release();
            assert!(!input.is_decoding());
        }
    }
    assert!(input.before(length(content.len() + 1000), 256).unwrap().is_empty());
}

#[test]
fn several_parts_are_one_content_and_zeros_after_them_are_nothing() {
    let (one, two) = (text(10), text(300));
    let packed = [gzip(&one), gzip(b""), gzip(&two), vec![0; 3000]].concat();
    let (_file, input) = holding(&packed);
    assert_eq!(all(&input, 0), [one, two].concat());
    assert_eq!(input.flaw(), None);
}

#[test]
fn whatever_is_cut_off_what_stands_before_is_read() {
    let content = text(400);
    let packed = gzip(&content);
    for len in 3..packed.len() {
        let (_file, input) = holding(&packed[..len]);
        let read = all(&input, 0);
        assert!(content.starts_with(&read), "cut at {len}");
        assert_eq!(input.flaw(), Some(Flaw::Cut), "cut at {len}");
        // And no more is tried.
        assert_eq!(all(&input, 0), read);
    }
}

#[test]
fn every_damaged_byte_is_noticed() {
    let content = text(100);
    let packed = gzip(&content);
    // After the header, of which nothing but the magic and the flags is looked at; the last byte before the trailer has bits
    // that stand for nothing.
    for at in (10..packed.len()).filter(|at| *at != packed.len() - 9) {
        let mut damaged = packed.clone();
        damaged[at] ^= 0x10;
        let (_file, input) = holding(&damaged);
        all(&input, 0);
        assert!(input.flaw().is_some(), "at {at}");
    }
    let (_file, input) = holding(&[&packed[..], b"more"].concat());
    assert_eq!(all(&input, 0), content);
    assert!(matches!(input.flaw(), Some(Flaw::Damaged(_))));
}

#[test]
fn what_grows_is_read_on() {
    let content = text(2000);
    let packed = gzip(&content);
    let (mut file, input) = holding(&packed[..5000]);
    let read = all(&input, 0);
    assert!(read.len() < content.len() && input.flaw() == Some(Flaw::Cut));
    file.write_all(&packed[5000..]).unwrap();
    assert_eq!(all(&input, length(read.len())), content[read.len()..]);
    assert_eq!(input.flaw(), None);
}

#[test]
fn a_bomb_is_a_long_file() {
    let packed = gzip(&vec![b'0'; 100 << 20]);
    assert!(packed.len() < 200_000);
    let (_file, input) = holding(&packed);
    let mut chunk = vec![0; 256 << 10];
    let mut place = 0;
    loop {
        let read = input.read_at(&mut chunk, place).unwrap();
        if read == 0 {
            break;
        }
        place += length(read);
        assert!(input.packed().unwrap().window.capacity() <= KEEP);
    }
    assert_eq!(place, 100 << 20);
}

#[test]
fn the_first_bytes_tell_and_not_the_name() {
    let of = |bytes: &[u8]| holding(bytes).1.compression().unwrap();
    assert_eq!(of(&gzip(b"x")), Some("gzip"));
    assert_eq!(of(b"\x28\xb5\x2f\xfd...."), Some("zstd"));
    assert_eq!(of(b"\xfd7zXZ\0"), Some("xz"));
    assert_eq!(of(b"BZh91AY&SY"), Some("bzip2"));
    assert_eq!(of(b"BZh9 is text"), None);
    assert_eq!(of(b"\x1f\x8b"), None);
    assert_eq!(of(b""), None);
    let (_file, input) = holding(b"text\n");
    assert!(!input.is_packed());
    assert_eq!(all(&input, 2), b"xt\n");
}
