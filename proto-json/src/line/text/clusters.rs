//! The logs of supercomputers, as they are published for research (https://github.com/logpai/loghub).

use super::Found;
use crate::Level;
use crate::line::{time, words};

/// `- 1117838570 2005.06.03 R02-M1 2005-06-03-15.42.50.363779 R02-M1 RAS KERNEL INFO …` (Blue Gene/L), and
/// `- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond[2915]: …` (Thunderbird, Spirit, Liberty). A word in place
/// of the dash is the alert that the line belongs to.
pub(super) fn labelled(line: &[u8]) -> Option<Found> {
    let label = line.iter().take(24).position(|b| *b == b' ')?;
    let is_label = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    if label == 0 || !line[..label].iter().all(is_label) {
        return None;
    }
    let from = label + 1;
    let (ms, len) = time::epoch_prefix(&line[from..])?;
    let mut words = Words::new(line, from + len);
    let [_, _, _, _, b'.', _, _, b'.', _, _] = words.next()? else { return None };
    let (_node, stamp) = (words.next()?, words.next()?);
    let found = Found { inside: true, ..Found::new("cluster", ms, from + len) };
    if stamp.len() == 26 && stamp.get(10) == Some(&b'-') {
        let (_node, _type, _component) = (words.next()?, words.next()?, words.next()?);
        let level = match words.next()? {
            b"FAILURE" => Some(Level::Error),
            word => words::in_text(word),
        };
        return Some(Found { level: level.map(|level| (level, "cluster")), after: words.at, ..found });
    }
    time::month(stamp)?;
    let (_day, _clock) = (words.next()?, words.next()?);
    Some(Found { is_syslog: true, after: words.at, ..found })
}

/// `134681 node-246 unix.hw state_change.unavailable 1077804742 1 Component State Change: …`
pub(super) fn numbered(line: &[u8]) -> Option<Found> {
    let mut words = Words::new(line, 0);
    let number = words.next()?;
    let node = words.next()?;
    let (_component, _state) = (words.next()?, words.next()?);
    let from = words.at + 1;
    if !number.iter().all(u8::is_ascii_digit) || !node.contains(&b'-') {
        return None;
    }
    let (ms, len) = time::epoch_prefix(line.get(from..)?)?;
    matches!(line.get(from + len..)?, [b' ', b'0' | b'1', b' ', ..])
        .then(|| Found { inside: true, ..Found::new("cluster", ms, from + len) })
}

/// The words of a line, one after the other.
struct Words<'a> {
    line: &'a [u8],
    /// Where the last one ends.
    at: usize,
}

impl<'a> Words<'a> {
    const fn new(line: &'a [u8], at: usize) -> Self {
        Self { line, at }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.at + self.line.get(self.at..)?.iter().position(|b| *b != b' ')?;
        let rest = &self.line[start..];
        self.at = start + memchr::memchr(b' ', rest).unwrap_or(rest.len());
        Some(&self.line[start..self.at])
    }
}
