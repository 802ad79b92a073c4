//! The daily partitions of `log_counts`: made before they are needed, dropped when all in them is too old.
//!
//! Two functions of the schema do it with the rights of the tables' owner, so the worker need not own them; see
//! `migrations/V2__views_and_roles.sql`.

use crate::failure::{Failure, Trouble, What};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use tokio_postgres::Client;

pub(crate) const DAY_MS: i64 = 86_400_000;
const PREFIX: &str = "log_counts_";
/// Makes the partition of a day, unless it is there.
pub(crate) const MAKE: &str = "SELECT logweir_make_partition($1::text::date)";
/// All partitions, whoever made them.
pub(crate) const LIST: &str =
    "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = to_regclass('log_counts') ORDER BY 1";
/// Drops the partition of a day.
pub(crate) const DROP: &str = "SELECT logweir_drop_partition($1::text::date)";
/// A drop waits for who counts for that day or reads the counts, and all others queue behind it meanwhile.
const PATIENCE: &str = "SET LOCAL lock_timeout = '2s'";

/// The day (UTC) of a time, as the number of days since 1970.
pub(crate) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// `Err` for a day that no calendar has.
fn date_of(day: i64) -> Result<Date, Failure> {
    let start = day.checked_mul(DAY_MS).and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let Some(start) = start else {
        return Err(Failure::Batch(format!("day {day} since 1970 is not in the calendar")));
    };
    let date = start.to_zoned_datetime(TimeZone::UTC).date();
    // Postgres has no year 0, and the last day of 9999 would end in 10000.
    match date.tomorrow() {
        Ok(end) if date.year() > 0 && end.year() <= 9999 => Ok(date),
        _ => Err(Failure::Batch(format!("{date} is not in the calendar of the counts"))),
    }
}

/// The day of a partition that was made here; `None` for whatever else somebody attached.
fn date_of_name(name: &str) -> Option<Date> {
    let digits =
        name.strip_prefix(PREFIX).filter(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_digit()))?;
    Date::new(digits[..4].parse().ok()?, digits[4..6].parse().ok()?, digits[6..].parse().ok()?).ok()
}

/// Whether all of a day lies before `oldest_ms`.
fn is_over(date: Date, oldest_ms: i64) -> bool {
    let end = date.tomorrow().and_then(|end| end.to_zoned_datetime(TimeZone::UTC));
    end.is_ok_and(|end| end.timestamp().as_millisecond() <= oldest_ms)
}

/// Makes those of `days` that are missing. Returns how many those were.
pub(crate) async fn make(client: &Client, days: &BTreeSet<i64>) -> Result<usize, Failure> {
    let dates = days.iter().map(|day| date_of(*day)).collect::<Result<Vec<_>, _>>()?;
    let mut made = 0;
    for date in dates {
        let row = client.query_one(MAKE, &[&date.to_string()]).await?;
        made += usize::from(row.try_get::<_, bool>(0)?);
    }
    Ok(made)
}

/// What became of the partitions that are too old.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// The names of those that are gone.
    pub(crate) names: Vec<String>,
    /// Why the others have to wait for another round.
    pub(crate) put_off: Option<Trouble>,
}

/// Drops the partitions whose last moment lies before `oldest_ms`, except while somebody counts for them or reads them.
pub(crate) async fn drop_old(client: &mut Client, oldest_ms: i64) -> Result<Dropped, Failure> {
    let mut dropped = Dropped::default();
    for row in client.query(LIST, &[]).await? {
        let name: String = row.try_get(0)?;
        let Some(date) = date_of_name(&name).filter(|date| is_over(*date, oldest_ms)) else { continue };
        match drop_one(client, date).await {
            Ok(true) => dropped.names.push(name),
            Ok(false) => {}
            // What holds this one holds the others too: each try would make everybody wait.
            Err(Failure::World(trouble)) if trouble.what == What::Conflict => {
                dropped.put_off = Some(trouble);
                break;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(dropped)
}

async fn drop_one(client: &mut Client, date: Date) -> Result<bool, Failure> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(PATIENCE).await?;
    let dropped = transaction.query_one(DROP, &[&date.to_string()]).await?.try_get(0)?;
    transaction.commit().await?;
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_partition_is_one_day_of_utc() {
        let day = day_of(1_795_514_580_000);
        assert_eq!(date_of(day).unwrap(), date(2026, 11, 24));
        for day in [day, 0, -1, 19_782] {
            let date = date_of(day).unwrap();
            assert_eq!(date_of_name(&format!("log_counts_{}", date.strftime("%Y%m%d"))), Some(date));
            let end = (day + 1) * DAY_MS;
            assert!(is_over(date, end) && !is_over(date, end - 1), "{date}");
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
            assert_eq!(date_of_name(name), None, "{name}");
        }
        for day in [i64::MAX, i64::MIN, 4_000_000, -1_000_000] {
            assert!(matches!(date_of(day), Err(Failure::Batch(_))), "{day}");
        }
    }
}
