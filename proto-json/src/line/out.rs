//! Writing an event's JSON.

/// Appends a JSON string; what is no UTF-8 in `bytes` becomes U+FFFD. Returns how many runs of bytes that were.
pub(super) fn push_string(out: &mut Vec<u8>, bytes: &[u8]) -> u32 {
    out.push(b'"');
    let mut replaced = 0;
    match std::str::from_utf8(bytes) {
        Ok(_) => push_escaped(out, bytes),
        Err(_) => {
            for chunk in bytes.utf8_chunks() {
                push_escaped(out, chunk.valid().as_bytes());
                if !chunk.invalid().is_empty() {
                    replaced += 1;
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
        }
    }
    out.push(b'"');
    replaced
}

fn push_escaped(out: &mut Vec<u8>, valid: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = valid;
    loop {
        let (plain, _) = crate::scan::plain_run(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(byte) = rest.get(plain) else { return };
        rest = &rest[plain + 1..];
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
}

/// Appends an integer.
pub(super) fn push_integer(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number.unsigned_abs());
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_are_escaped_as_serde_does(text in any::<String>()) {
            let mut out = Vec::new();
            prop_assert_eq!(push_string(&mut out, text.as_bytes()), 0);
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, text);
        }

        #[test]
        fn what_is_no_utf8_is_replaced_and_counted(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            let replaced = push_string(&mut out, &bytes);
            let back: String = serde_json::from_slice(&out).unwrap();
            let chunks = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
            prop_assert_eq!(usize::try_from(replaced).unwrap(), chunks);
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn integers_are_written_as_rust_does(number in any::<i64>()) {
            let mut out = Vec::new();
            push_integer(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
