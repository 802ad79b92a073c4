//! The daily partitions of `log_counts`: made before they are needed, dropped when all in them is too old.
//!
//! A table is made on its own and then attached, since that doesn't wait for those who read the counts; one after
//! another, by an advisory lock. The room left on each page keeps the counts' many updates within it (HOT).

use crate::failure::Failure;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use tokio_postgres::Client;

pub(crate) const DAY_MS: i64 = 86_400_000;
/// Held while partitions are made: `lwpt` in ASCII.
const LOCK: i64 = 0x6c77_7074;
const PREFIX: &str = "log_counts_";

/// The day (UTC) of a time, as the number of days since 1970.
pub(crate) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Partition {
    name: String,
    from: String,
    to: String,
}

impl Partition {
    /// `Err` for a day that no calendar has.
    fn of(day: i64) -> Result<Self, Failure> {
        let date = |day: i64| -> Result<Date, Failure> {
            let start = day.checked_mul(DAY_MS).and_then(|ms| Timestamp::from_millisecond(ms).ok());
            match start {
                Some(start) => Ok(start.to_zoned_datetime(TimeZone::UTC).date()),
                None => Err(Failure::Batch(format!("day {day} since 1970 is not in the calendar"))),
            }
        };
        let (from, to) = (date(day)?, date(day.saturating_add(1))?);
        if from.year() < 0 || to.year() > 9999 {
            return Err(Failure::Batch(format!("{from} is not in the calendar of the counts")));
        }
        let name = format!("{PREFIX}{:04}{:02}{:02}", from.year(), from.month(), from.day());
        Ok(Self { name, from: format!("{from} 00:00:00+00"), to: format!("{to} 00:00:00+00") })
    }
}

/// The day of a partition that was made here; `None` for whatever else somebody attached.
fn day_of_name(name: &str) -> Option<i64> {
    let digits =
        name.strip_prefix(PREFIX).filter(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_digit()))?;
    let date =
        Date::new(digits[..4].parse().ok()?, digits[4..6].parse().ok()?, digits[6..].parse().ok()?).ok()?;
    Some(day_of(date.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

/// Makes those of `days` that are missing. Returns how many those were.
pub(crate) async fn make(client: &mut Client, days: &BTreeSet<i64>) -> Result<usize, Failure> {
    let wanted = days.iter().map(|day| Partition::of(*day)).collect::<Result<Vec<_>, _>>()?;
    let mut made = 0;
    for partition in wanted {
        let transaction = client.transaction().await?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let there = transaction.query_one("SELECT to_regclass($1) IS NOT NULL", &[&partition.name]).await?;
        if !there.try_get::<_, bool>(0)? {
            let Partition { name, from, to } = &partition;
            transaction
                .batch_execute(&format!(
                    "CREATE TABLE {name} (LIKE log_counts INCLUDING ALL) WITH (fillfactor = 80);
                     ALTER TABLE log_counts ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"
                ))
                .await?;
            made += 1;
        }
        transaction.commit().await?;
    }
    Ok(made)
}

/// Drops the partitions whose last moment lies before `oldest_ms`. Returns their names.
pub(crate) async fn drop_old(client: &mut Client, oldest_ms: i64) -> Result<Vec<String>, Failure> {
    let rows = client
        .query(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = to_regclass('log_counts') ORDER BY 1",
            &[],
        )
        .await?;
    let mut dropped = Vec::new();
    for row in rows {
        let name: String = row.try_get(0)?;
        if day_of_name(&name).is_none_or(|day| (day + 1) * DAY_MS > oldest_ms) {
            continue;
        }
        // Whoever reads the counts for long is waited for only for a moment: there is another round.
        let transaction = client.transaction().await?;
        transaction
            .batch_execute(&format!("SET LOCAL lock_timeout = '2s'; DROP TABLE IF EXISTS {name}"))
            .await?;
        transaction.commit().await?;
        dropped.push(name);
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_one_day_of_utc() {
        let day = day_of(1_795_514_580_000);
        let partition = Partition::of(day).unwrap();
        assert_eq!(partition.name, "log_counts_20261124");
        assert_eq!(partition.from, "2026-11-24 00:00:00+00");
        assert_eq!(partition.to, "2026-11-25 00:00:00+00");
        for day in [day, 0, -1, day_of(0), 19_782] {
            assert_eq!(day_of_name(&Partition::of(day).unwrap().name), Some(day));
        }
    }

    #[test]
    fn other_tables_and_impossible_days_are_left_alone() {
        for name in [
            "log_counts",
            "log_counts_2026",
            "log_counts_20261301",
            "log_counts_default",
            "log_counts_2026112é",
        ] {
            assert_eq!(day_of_name(name), None, "{name}");
        }
        for day in [i64::MAX, i64::MIN, 4_000_000, -1_000_000] {
            assert!(matches!(Partition::of(day), Err(Failure::Batch(_))), "{day}");
        }
    }
}
