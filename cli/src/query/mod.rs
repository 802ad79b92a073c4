//! `logweir query`: the counts, or the error rate.

mod rows;
mod sql;

use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use crate::postgres::{Database, Param};
use clap::ValueEnum;
use jiff::Timestamp;
use logweir_proto::Level;
use logweir_telemetry::config;
use logweir_telemetry::exit::Exit;
use std::time::Duration;
use tokio_postgres::types::Type;

/// The most rows of one answer; it is held in memory before it is printed, so that it is whole or not at all.
pub(crate) const MAX_ROWS: usize = 1_000_000;

/// Print the counts, or the error rate, by minute, service and level
///
/// The counts are those of Postgres, which hold each event once. Times are whole minutes in UTC; the minute
/// in which --since lies is included.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir query                                    the last hour, by minute, service and level
  logweir query --since 10m --service api          one service
  logweir query --since 1d --by service,level      sums over a day
  logweir query --errors --json                    error rate by minute and service
  logweir query --since 2026-11-24T10:00:00Z --until 2026-11-24T11:00:00Z --csv > hour.csv")]
pub(crate) struct Args {
    /// Only this service; may be given several times
    #[arg(long, value_name = "SERVICE")]
    service: Vec<String>,
    /// Only this level; may be given several times
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    level: Vec<Level>,
    /// From when on: a duration before now (10m, 1h, 7d) or a time (2026-11-24T10:00:00Z)
    #[arg(long, value_name = "WHEN", default_value = "1h", value_parser = moment)]
    since: Moment,
    /// Until when, likewise; minutes that begin then or later are left out [default: no end]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<Moment>,
    /// What to count by; the rest is summed up
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        value_enum,
        default_value = "minute,service,level"
    )]
    by: Vec<Key>,
    /// The error rate by minute and service: events of level error or fatal, and their share
    #[arg(long, conflicts_with = "level")]
    errors: bool,
    /// Print CSV (RFC 4180) instead of a table
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// What counts are grouped by. The order is that of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Key {
    Minute,
    Service,
    Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Ago(Duration),
    At(Timestamp),
}

impl Moment {
    fn ms(self, now_ms: i64) -> i64 {
        match self {
            Moment::Ago(ago) => {
                now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)).max(0)
            }
            Moment::At(at) => at.as_millisecond(),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse() {
        return Ok(Moment::At(at));
    }
    config::duration(text).map(Moment::Ago).map_err(|_| {
        "expected a duration before now, such as 10m, 1h or 7d, or a time such as 2026-11-24T10:00:00Z"
            .to_owned()
    })
}

fn level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| "expected trace, debug, info, warn, error or fatal".to_owned())
}

/// The events that are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Filter {
    since_ms: i64,
    until_ms: Option<i64>,
    services: Option<Vec<String>>,
    levels: Option<Vec<&'static str>>,
}

impl Filter {
    fn new(args: &Args, now_ms: i64) -> Self {
        Self {
            since_ms: args.since.ms(now_ms).div_euclid(60_000) * 60_000,
            until_ms: args.until.map(|until| until.ms(now_ms)),
            services: (!args.service.is_empty()).then(|| args.service.clone()),
            levels: (!args.level.is_empty()).then(|| args.level.iter().map(|l| l.as_str()).collect()),
        }
    }

    fn params(&self) -> [Param<'_>; 4] {
        [
            (&self.since_ms, Type::INT8),
            (&self.until_ms, Type::INT8),
            (&self.services, Type::TEXT_ARRAY),
            (&self.levels, Type::TEXT_ARRAY),
        ]
    }
}

/// Answers the question.
pub(crate) async fn run(args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let filter = Filter::new(args, Timestamp::now().as_millisecond());
    let mut keys = args.by.clone();
    keys.sort_unstable();
    keys.dedup();
    let database = Database::open(shared).await?;
    if args.errors {
        let params = filter.params();
        let rows = database.rows(&sql::errors(), &params[..3]).await?;
        let rows = limited(rows)?.iter().map(rows::ErrorRow::read).collect::<Result<Vec<_>, _>>()?;
        print(args, shared, &rows::ErrorRow::COLUMNS, &rows, rows::ErrorRow::cells)?;
    } else {
        let rows = database.rows(&sql::counts(&keys), &filter.params()).await?;
        let read = |row| rows::CountRow::read(row, &keys);
        let rows = limited(rows)?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        print(args, shared, &rows::CountRow::columns(&keys), &rows, rows::CountRow::cells)?;
    }
    Ok(Exit::Done)
}

fn limited<T>(rows: Vec<T>) -> Result<Vec<T>, Failure> {
    if rows.len() > MAX_ROWS {
        let advice = "ask for less: a shorter --since, one --service, or fewer keys in --by";
        return Err(Failure::Usage(format!("these are more than {MAX_ROWS} rows; {advice}")));
    }
    Ok(rows)
}

fn print<T: serde::Serialize>(
    args: &Args,
    shared: &Shared,
    columns: &[output::Column],
    rows: &[T],
    cells: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    if shared.json {
        return output::json(&rows);
    }
    let cells = rows.iter().map(cells);
    if args.csv {
        return output::data(output::csv(columns, cells).as_bytes());
    }
    output::data(output::table(columns, cells).as_bytes())?;
    if rows.is_empty() {
        output::note("nothing was counted there; a longer --since shows more");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
