//! The part of a string in which nothing needs a look: eight bytes at a time.

const ONES: u64 = 0x0101_0101_0101_0101;
const QUOTES: u64 = 0x2222_2222_2222_2222;
const BACKSLASHES: u64 = 0x5c5c_5c5c_5c5c_5c5c;
const SPACES: u64 = 0x2020_2020_2020_2020;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many bytes stand before the first quote, backslash or control character (or the end), and whether any
/// byte there, or within a word of it, is no ASCII.
pub(crate) fn run(text: &[u8]) -> (usize, bool) {
    let (words, tail) = text.as_chunks::<8>();
    let mut seen = 0;
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        seen |= word;
        let special = specials(word);
        if special != 0 {
            // The lowest mark is always true; it stands in the highest bit of its byte.
            let first = usize::try_from(special.trailing_zeros() / 8).unwrap_or_default();
            return (index * 8 + first, seen & HIGH != 0);
        }
    }
    let len = tail.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(tail.len());
    let non_ascii = seen & HIGH != 0 || !tail[..len].is_ascii();
    (words.len() * 8 + len, non_ascii)
}

/// Marks the highest bit of each byte that is special. Above the lowest mark there may be false ones, where a
/// subtraction has borrowed.
const fn specials(word: u64) -> u64 {
    let control = word.wrapping_sub(SPACES) & !word;
    (control | zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES)) & HIGH
}

/// Marks the bytes that are zero.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_seen() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut text = [b'x'; 24];
                text[place] = byte;
                let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
                let (len, non_ascii) = run(&text);
                assert_eq!(len, if is_special { place } else { 24 }, "{byte:#x} at {place}");
                assert_eq!(non_ascii, byte >= 0x80, "{byte:#x} at {place}");
                // A special byte just before hides nothing that comes after it, and nothing before it is missed.
                if place > 0 {
                    text[place - 1] = b'"';
                    assert_eq!(run(&text).0, place - 1);
                }
                assert_eq!(run(&text[place + 1..]).0, 23 - place);
            }
        }
    }
}
