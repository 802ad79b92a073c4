//! Names of zones behind a time. `CET` is the same everywhere, `IST` is India, Ireland and Israel: a name that several
//! zones bear with different offsets, or that is a word besides, counts only where it is the settings zone's own at that
//! time. What isn't known is none, and the time is in the settings' zone.

use super::cursor::Cursor;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// All names in capitals that zones bear today, sorted, with the minutes east of UTC of those that can't be mistaken.
/// Source: the IANA time zone database, with which a test compares them.
const NAMES: [(&[u8], Option<i32>); 46] = [
    (b"ACDT", Some(630)),
    (b"ACST", Some(570)),
    (b"ADT", None),
    (b"AEDT", Some(660)),
    (b"AEST", Some(600)),
    (b"AKDT", Some(-480)),
    (b"AKST", Some(-540)),
    (b"AST", None),
    (b"AWST", Some(480)),
    (b"BST", Some(60)),
    (b"CAT", None),
    (b"CDT", None),
    (b"CEST", Some(120)),
    (b"CET", Some(60)),
    (b"CST", None),
    (b"EAT", None),
    (b"EDT", Some(-240)),
    (b"EEST", Some(180)),
    (b"EET", Some(120)),
    (b"EST", Some(-300)),
    (b"GMT", Some(0)),
    (b"HDT", Some(-540)),
    (b"HKT", Some(480)),
    (b"HST", Some(-600)),
    (b"IDT", Some(180)),
    (b"IST", None),
    (b"JST", Some(540)),
    (b"KST", Some(540)),
    (b"MDT", Some(-360)),
    (b"MEST", Some(120)),
    (b"MET", None),
    (b"MSK", Some(180)),
    (b"MST", Some(-420)),
    (b"NDT", Some(-150)),
    (b"NST", Some(-210)),
    (b"NZDT", Some(780)),
    (b"NZST", Some(720)),
    (b"PDT", Some(-420)),
    (b"PKT", None),
    (b"PST", None),
    (b"SAST", Some(120)),
    (b"SST", None),
    (b"UTC", Some(0)),
    (b"WAT", None),
    (b"WEST", Some(60)),
    (b"WET", Some(0)),
];

/// Since this year the offsets above are those of the database: before it, Moscow's was another for some years.
const SINCE: i16 = 2020;

/// Takes a space and the name of a zone, and says how far from UTC it is at `civil`. Nothing is taken when there is none.
pub(super) fn take(at: &mut Cursor<'_>, civil: DateTime, zone: &TimeZone) -> Option<Offset> {
    let rest = at.bytes.get(at.at..)?.strip_prefix(b" ")?;
    let len = rest.iter().take(5).take_while(|b| b.is_ascii_uppercase()).count();
    let (name, after) = rest.split_at(len);
    // All names end so, and no level does.
    if !matches!(name.last(), Some(b'T' | b'C' | b'K'))
        || !matches!(after.first(), None | Some(b' ' | b'\t' | b']' | b':' | b'|' | b',' | b'>'))
    {
        return None;
    }
    let index = NAMES.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    let fixed = NAMES[index].1.and_then(|minutes| Offset::from_seconds(minutes * 60).ok());
    let offset = match fixed {
        Some(fixed) if civil.year() >= SINCE => fixed,
        _ => own(name, civil, zone).or(fixed)?,
    };
    at.at += 1 + len;
    Some(offset)
}

/// The offset of `zone` at `civil` under which it is called `name` there. Where a clock was turned back, the name says
/// which of both hours it is.
fn own(name: &[u8], civil: DateTime, zone: &TimeZone) -> Option<Offset> {
    let offsets = match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => [offset, offset],
        AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => [before, after],
    };
    offsets.into_iter().find(|offset| {
        offset
            .to_timestamp(civil)
            .is_ok_and(|time| zone.to_offset_info(time).abbreviation().as_bytes() == name)
    })
}

/// Takes a space and a zone's whole name up to a bracket, as PHP writes it: `[24-Nov-2026 10:03:00 Europe/Berlin]`. What it
/// means stands in a database on the disk, of which nothing here knows: the settings must name that zone.
pub(super) fn pass_region(at: &mut Cursor<'_>) {
    const LONGEST: usize = 32;
    let Some(rest) = at.bytes.get(at.at..).and_then(|rest| rest.strip_prefix(b" ")) else { return };
    let is_part = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
    let len = rest.iter().take(LONGEST).take_while(is_part).count();
    if rest.get(len) == Some(&b']') && rest[..len].contains(&b'/') {
        at.at += 1 + len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{Timestamp, ToSpan as _};
    use std::collections::{BTreeMap, BTreeSet};

    /// Every name that a zone of the database has borne since 2020, with all its offsets in minutes.
    fn database() -> BTreeMap<String, BTreeSet<i32>> {
        let mut names: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for name in jiff::tz::db().available() {
            let Ok(zone) = TimeZone::get(name.as_str()) else { continue };
            let mut time: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
            for _ in 0..80 {
                let info = zone.to_offset_info(time);
                if info.abbreviation().bytes().all(|b| b.is_ascii_uppercase()) {
                    let minutes = info.offset().seconds() / 60;
                    names.entry(info.abbreviation().to_owned()).or_default().insert(minutes);
                }
                time = time.checked_add((24 * 31).hours()).unwrap();
            }
        }
        names
    }

    #[test]
    fn the_names_are_those_of_the_database() {
        let database = database();
        assert!(database.len() > 40);
        for (name, minutes) in NAMES {
            let name = std::str::from_utf8(name).unwrap();
            let known = database.get(name).unwrap_or_else(|| panic!("no zone is called {name}"));
            if let Some(minutes) = minutes {
                assert_eq!(known, &BTreeSet::from([minutes]), "{name}");
            }
        }
        assert!(NAMES.is_sorted());
        // Indonesia's three zones end in letters that levels end in, too.
        let left_out: Vec<_> = database
            .keys()
            .filter(|name| !NAMES.iter().any(|(known, _)| *known == name.as_bytes()))
            .filter(|name| !matches!(name.as_str(), "WIB" | "WIT" | "WITA" | "LMT"))
            .collect();
        assert!(left_out.is_empty(), "{left_out:?}");
    }

    fn at(line: &str, zone: &str) -> Option<(String, usize)> {
        let (ms, len) = super::super::dated(line.as_bytes(), &TimeZone::get(zone).unwrap())?;
        Some((Timestamp::from_millisecond(ms).unwrap().to_string(), len))
    }

    #[test]
    fn a_name_is_the_zones_own_or_one_that_can_not_be_mistaken() {
        for (zone, line, time, rest) in [
            ("UTC", "2026-11-24 11:03:00 CET [7]", "2026-11-24T10:03:00Z", " [7]"),
            ("UTC", "2026-07-24 12:03:00.5 CEST [7]", "2026-07-24T10:03:00.5Z", " [7]"),
            ("Europe/Berlin", "2026-11-24 05:03:00 EST", "2026-11-24T10:03:00Z", ""),
            // India, Israel and Ireland have the same name; elsewhere it says nothing.
            ("Asia/Kolkata", "2026-11-24 15:33:00 IST [7]", "2026-11-24T10:03:00Z", " [7]"),
            ("Asia/Jerusalem", "2026-11-24 12:03:00 IST [7]", "2026-11-24T10:03:00Z", " [7]"),
            ("UTC", "2026-11-24 10:03:00 IST [7]", "2026-11-24T10:03:00Z", " IST [7]"),
            ("America/Chicago", "2026-11-24 04:03:00 CST", "2026-11-24T10:03:00Z", ""),
            ("Asia/Shanghai", "2026-11-24 18:03:00 CST", "2026-11-24T10:03:00Z", ""),
            ("Asia/Manila", "2026-11-24 18:03:00 PST", "2026-11-24T10:03:00Z", ""),
            // The hour that there are two of.
            ("Europe/Berlin", "2026-10-25 02:30:00 CEST", "2026-10-25T00:30:00Z", ""),
            ("Europe/Berlin", "2026-10-25 02:30:00 CET", "2026-10-25T01:30:00Z", ""),
            // It was another one then.
            ("Europe/Moscow", "2012-11-24 10:03:00 MSK", "2012-11-24T06:03:00Z", ""),
            ("UTC", "2026-11-24 10:03:00 MSK", "2026-11-24T07:03:00Z", ""),
            ("UTC", "2026-11-24 10:03:00 ESTIMATE", "2026-11-24T10:03:00Z", " ESTIMATE"),
            ("UTC", "2026-11-24 10:03:00 EST-1", "2026-11-24T10:03:00Z", " EST-1"),
            ("UTC", "2026-11-24 10:03:00 CAT [main]", "2026-11-24T10:03:00Z", " CAT [main]"),
            ("UTC", "2026-11-24 10:03:00 Europe/Berlin] x", "2026-11-24T10:03:00Z", "] x"),
            ("Europe/Berlin", "2026-11-24 11:03:00 Europe/Berlin] x", "2026-11-24T10:03:00Z", "] x"),
            ("UTC", "2026-11-24 10:03:00 Europe/Berlin x", "2026-11-24T10:03:00Z", " Europe/Berlin x"),
            ("UTC", "2026-11-24 10:03:00 Checkout] x", "2026-11-24T10:03:00Z", " Checkout] x"),
        ] {
            let (found, len) = at(line, zone).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.as_str(), &line[len..]), (time, rest), "{zone}: {line}");
        }
    }
}
