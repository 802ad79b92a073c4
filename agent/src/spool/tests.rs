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
