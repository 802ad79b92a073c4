//! The cutter against lines.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn lines_are_kept_whole_or_cut_a_byte_over_the_limit(input in "[ab\n]{0,100}", max in 1_usize..8, chunk in 1_usize..10) {
        let mut cutter = Cutter { max, len: 0 };
        let mut kept = Vec::new();
        for chunk in input.as_bytes().chunks(chunk) {
            cutter.cut(chunk, &mut kept);
        }
        let expected: Vec<String> = input.split('\n').map(|line| line.chars().take(max + 1).collect()).collect();
        prop_assert_eq!(String::from_utf8(kept).unwrap(), expected.join("\n"));
    }
}

fn writer(dir: &std::path::Path) -> Writer {
    let shared = Arc::new(Shared {
        bytes: 0.into(),
        current: 1.into(),
        full: false.into(),
        ended: false.into(),
        stop: false.into(),
        halted: false.into(),
        trouble: None.into(),
        dropped: Dropped::default().into(),
    });
    let bounds = Bounds { bytes: 1 << 20, line: 1 << 20, when_full: WhenFull::Drop };
    Writer::new(dir.to_path_buf(), bounds, shared, tokio::sync::mpsc::channel(1).0)
}

proptest! {
    /// Whenever the spool is full and however the bytes come: a line is kept or dropped, whole, and each dropped one is
    /// counted.
    #[test]
    fn lines_are_dropped_whole_and_counted(
        chunks in prop::collection::vec(("[ab\n]{1,12}", any::<bool>()), 0..24),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(dir.path());
        let (mut input, mut kept) = (String::new(), Vec::new());
        for (chunk, full) in &chunks {
            input.push_str(chunk);
            let keep = writer.drop_lines(chunk.as_bytes(), *full);
            writer.cutter.cut(keep, &mut kept);
        }
        let kept = String::from_utf8(kept).unwrap();
        let Dropped { lines, bytes } = *writer.shared.dropped.lock().unwrap();
        prop_assert_eq!(length(kept.len()) + bytes, length(input.len()));
        let all: Vec<&str> = input.split_inclusive('\n').collect();
        let whole: Vec<&str> = kept.split_inclusive('\n').collect();
        prop_assert_eq!(length(whole.len()) + lines, length(all.len()));
        // The kept lines stand among all of them, in order.
        let mut rest = all.into_iter();
        for line in whole {
            prop_assert!(rest.any(|one| one == line), "{:?} of {:?}", kept, input);
        }
    }
}

#[test]
fn after_a_gap_a_segment_begins() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    let mut kept = Vec::new();
    for (bytes, full) in [
        ("10:00 an error\n  at on", false),
        ("e\n  at two\n10:01 another", true),
        ("\n", true),
        ("  at three\n", false),
        ("  at four\n", false),
    ] {
        writer.take(bytes.as_bytes(), full, &mut kept);
    }
    let segments =
        [1, 2].map(|number| std::fs::read_to_string(dir.path().join(format!("{number:08}.log"))).unwrap());
    assert_eq!(segments, ["10:00 an error\n  at one\n", "  at three\n  at four\n"]);
    let dropped = *writer.shared.dropped.lock().unwrap();
    assert_eq!(dropped, Dropped { lines: 2, bytes: length("  at two\n10:01 another\n".len()) });
}
