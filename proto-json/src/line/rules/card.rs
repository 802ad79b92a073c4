//! Numbers of payment cards: 13 to 19 digits, as an issuer gives them, whose last one fits the others (Luhn's check).
//!
//! They stand alone or in groups of four to six, all with the same space, `-` or `+` between. One in ten numbers passes the check
//! by chance; most of the others fail at their length and first digits, so numbers of orders and times are left alone.

use std::ops::Range;

const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Where they stand, in order.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let text = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    let mut group = next_group(text, 0);
    while let Some(first) = group {
        group = next_group(text, first.end);
        if first.start < at {
            continue;
        }
        if let Some(end) = card_from(text, first.clone()) {
            found.push(first.start..end);
            at = end;
        }
    }
    found
}

/// The next run of digits.
fn next_group(text: &[u8], from: usize) -> Option<Range<usize>> {
    let start = from + text.get(from..)?.iter().position(u8::is_ascii_digit)?;
    Some(start..start + digits(&text[start..]))
}

fn digits(text: &[u8]) -> usize {
    text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len())
}

/// Where a card's number ends that begins with this group.
fn card_from(text: &[u8], first: Range<usize>) -> Option<usize> {
    if !is_edge(text[..first.start].iter().rev()) {
        return None;
    }
    let mut number: Vec<u8> = text[first.clone()].iter().take(DIGITS.end() + 1).copied().collect();
    let mut end = first.end;
    let mut longest = None;
    let mut is_last = false;
    loop {
        if number.len() > *DIGITS.end() {
            return longest;
        }
        if is_edge(text[end..].iter()) && is_card(&number) {
            longest = Some(end);
        }
        // More groups?
        let Some(separator) = text.get(end).copied() else { return longest };
        let next = digits(text.get(end + 1..).unwrap_or_default());
        let fits = matches!(separator, b' ' | b'-' | b'+')
            && (end == first.end || separator == text[first.end])
            && first.len() == 4
            && !is_last
            && (1..=7).contains(&next);
        if !fits {
            return longest;
        }
        is_last = !(4..=6).contains(&next);
        number.extend_from_slice(&text[end + 1..end + 1 + next]);
        end += 1 + next;
    }
}

/// Whether a number can end, or begin, before these bytes: it is no part of a word or of a fraction.
fn is_edge<'a>(mut bytes: impl Iterator<Item = &'a u8>) -> bool {
    match bytes.next() {
        Some(b'.') => !bytes.next().is_some_and(u8::is_ascii_digit),
        Some(byte) => !byte.is_ascii_alphanumeric(),
        None => true,
    }
}

fn is_card(number: &[u8]) -> bool {
    DIGITS.contains(&number.len()) && is_issued(number) && passes_luhn(number)
}

/// Whether an issuer gives numbers of this length that begin so.
fn is_issued(number: &[u8]) -> bool {
    let first =
        |count: usize| number[..count].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    let len = number.len();
    match (first(1), first(2), first(4)) {
        // Visa.
        (4, ..) => matches!(len, 13 | 16 | 19),
        // Mastercard.
        (_, 51..=55, _) | (_, _, 2221..=2720) => len == 16,
        // American Express.
        (_, 34 | 37, _) => len == 15,
        // Diners Club.
        (_, 36 | 38 | 39, _) | (_, _, 3000..=3059 | 3095) => len == 14 || len == 16,
        // JCB.
        (_, _, 3528..=3589) => (16..=19).contains(&len),
        // Discover, UnionPay, and Maestro, whose numbers may be shorter.
        (_, 62 | 64 | 65, _) | (_, _, 6011) => (16..=19).contains(&len),
        (_, 50 | 56..=69, _) => matches!(len, 13 | 15 | 16 | 18 | 19),
        _ => false,
    }
}

fn passes_luhn(number: &[u8]) -> bool {
    let sum: u32 = (0..)
        .zip(number.iter().rev())
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            match at % 2 {
                0 => digit,
                _ => digit * 2 / 10 + digit * 2 % 10,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}
