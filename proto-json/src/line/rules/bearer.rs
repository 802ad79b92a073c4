//! Tokens that let in whoever bears them.
//!
//! ```text
//! Authorization: Bearer x     any scheme that is followed by a secret, however short that is
//! Bearer x, token=x           where x is no word: 16 characters or more, with digits among letters
//! eyJ….eyJ….…                 a JSON Web Token, wherever it stands
//! ```
//!
//! In an object, `{"authorization": "Bearer x"}` and `{"access_token": "x"}` are told by the key. Only the token is replaced.

use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?i)authorization\\*["']?\s*[:=]\s*\\*["']?(?:bearer|basic|token|digest)(?:\s|%20)+\\*["']?([a-z0-9._~+/=-]+)"#,
        r#"|\bbearer(?:\s|%20|:)+\\*["']?([a-z0-9._~+/-]{16,}=*)"#,
        r#"|\b(?:(?:access|refresh|id|auth|bearer|session|api)[_-]?)?token\\*["']?\s*[:=]\s*\\*["']?([a-z0-9._~+/-]{16,}=*)"#,
        r"|\b(?-i:(eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*))",
    ))
    .ok()
});

/// Where they stand in the text under this key, in order.
pub(super) fn find(key: &str, text: &str) -> Vec<Range<usize>> {
    if key.to_ascii_lowercase().ends_with("authorization") || key.to_ascii_lowercase().ends_with("token") {
        // The key says as much in the object as it would in the text.
        let before = key.len() + 1;
        let both = format!("{key}:{text}");
        let found = tokens(&both).filter(|found| found.start >= before);
        return found.map(|found| found.start - before..found.end - before).collect();
    }
    tokens(text).collect()
}

fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> {
    let all = TOKEN.iter().flat_map(move |regex| regex.captures_iter(text));
    all.filter_map(|found| {
        let is_certain = found.get(1).is_some() || found.get(4).is_some();
        let token = (1..=4).find_map(|group| found.get(group))?;
        (is_certain || is_no_word(token.as_str())).then(|| token.range())
    })
}

/// Whether this is no word, name or count that somebody wrote.
fn is_no_word(token: &str) -> bool {
    let count = |is: fn(&u8) -> bool| token.bytes().filter(is).count();
    let (digits, upper, lower) =
        (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase));
    token.starts_with("eyJ") || (digits >= 4 && upper + lower > 0) || (digits > 0 && upper > 0 && lower > 0)
}
