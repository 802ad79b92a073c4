//! `logweir verify`: is what stands in these files what stands in Postgres?
//!
//! ```text
//! files ── lines ── the agent's parser ── count ──► cells ─┐
//!                                                          ├─ compare ──► differences
//! Postgres: the same services, first to last minute ───────┘
//! ```

mod compare;
mod count;
mod lines;
mod rules;

use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use crate::postgres::Database;
use anyhow::Context as _;
use clap::ValueEnum;
use compare::Verdict;
use count::Counts;
use jiff::tz::TimeZone;
use logweir_proto::line::{self, Assembly, Carry, Keys, Origin, Rules};
use logweir_proto::{Level, Limits};
use logweir_telemetry::config::size;
use logweir_telemetry::exit::Exit;
use regex::bytes::Regex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio_postgres::types::Type;

/// The most cells (minute, service, level) that are compared; both sides are held in memory.
const MAX_CELLS: usize = 1_000_000;

/// Count files here, and compare minute by minute with Postgres
///
/// The files are read with the agent's own parser, so give it the flags that the agent was given. The counts are
/// compared with everything that Postgres holds for the same services between the first and the last minute of
/// the files: other files of the same services, rotated ones too, must be given along. Exit code 1 means that
/// there are differences.
///
/// Rejected lines (not counted, since they break the schema) and events that --include-lines and --exclude-lines leave out
/// don't make a difference. Two things depend on the moment at
/// which the agent read, and so can show as a difference: lines before the first time in a file bear the file's time
/// of modification, which may have been another one then; and an event of several lines is two if the application
/// paused within it for longer than the agent's --multiline-timeout.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  logweir verify /var/log/api.log.1 /var/log/api.log
  logweir verify --service shop --timezone Europe/Berlin shop-*.log
  logweir verify --exclude-lines 'GET /healthz' access.log
  logweir verify --json api.ndjson | jq .differences")]
pub(crate) struct Args {
    /// The files; all that were counted for their services
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The service of every line, as the agent was told
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The format of the lines
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT")]
    format: Format,
    /// The zone of times that carry none, such as Europe/Berlin [default: this machine's, as the agent's]
    #[arg(long, value_name = "TZ", value_parser = timezone)]
    timezone: Option<TimeZone>,
    /// The level of lines that carry none
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level)]
    default_level: Level,
    /// The field that holds the time, as the agent was told for these files
    #[arg(long, value_name = "NAME")]
    time_key: Option<String>,
    /// The field that holds the level
    #[arg(long, value_name = "NAME")]
    level_key: Option<String>,
    /// The field that holds the message
    #[arg(long, value_name = "NAME")]
    message_key: Option<String>,
    /// The field that holds the service
    #[arg(long, value_name = "NAME")]
    service_key: Option<String>,
    /// In text, lines that match begin an event, as the agent was told
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    multiline_start: Option<Regex>,
    /// An event of several lines that is longer is cut
    #[arg(long, value_parser = size, default_value = "128KiB", value_name = "SIZE")]
    multiline_bytes: u64,
    #[command(flatten)]
    rules: rules::RuleArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Each line shows by its form what it is
    Auto,
    /// Each line is a JSON object
    Json,
    /// Each line is text
    Text,
    /// Each line is key=value pairs
    Logfmt,
    /// Each line is wrapped by a container's runtime
    Container,
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

fn timezone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| "expected a time zone such as UTC or Europe/Berlin".to_owned())
}

fn level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| "expected trace, debug, info, warn, error or fatal".to_owned())
}

impl Args {
    fn settings(&self, file: &Path, rules: &Arc<Rules>) -> line::Settings {
        line::Settings {
            format: match self.format {
                Format::Auto => line::Format::Auto,
                Format::Json => line::Format::Json,
                Format::Text => line::Format::Text,
                Format::Logfmt => line::Format::Logfmt,
                Format::Container => line::Format::Container,
            },
            service: self.service.clone(),
            file_service: line::service_of_path(file),
            origin: Origin::of_path(file),
            keys: Keys {
                time: self.time_key.clone(),
                level: self.level_key.clone(),
                message: self.message_key.clone(),
                service: self.service_key.clone(),
            },
            default_level: self.default_level,
            timezone: self.timezone.clone().unwrap_or_else(TimeZone::system),
            multiline_start: self.multiline_start.clone(),
            max_event_bytes: usize::try_from(self.multiline_bytes).unwrap_or(usize::MAX),
            rules: Arc::clone(rules),
        }
    }
}

/// Does it.
pub(crate) async fn run(args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let mut counts = Counts::new(Limits::default().event_bytes, MAX_CELLS);
    let rules = Arc::new(args.rules.rules().map_err(Failure::Usage)?);
    for file in &args.files {
        count_file(args, &rules, file, &mut counts)?;
    }
    let database = match counts.span() {
        Some(span) => cells_of_postgres(shared, &counts.services(), span).await?,
        None => Vec::new(),
    };
    let verdict = Verdict::new(counts, database);
    if shared.json {
        output::json(&verdict)?;
    } else {
        output::data(verdict.text().as_bytes())?;
    }
    Ok(if verdict.equal { Exit::Done } else { Exit::Negative })
}

fn count_file(args: &Args, rules: &Arc<Rules>, path: &Path, counts: &mut Counts) -> anyhow::Result<()> {
    let unreadable = |e: std::io::Error| Failure::Usage(format!("can't read {}: {e}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let modified = file.metadata().and_then(|m| m.modified()).map_err(unreadable)?;
    let modified_ms = modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis());
    let mut carry = Carry::at(i64::try_from(modified_ms)?);
    let settings = args.settings(path, rules);
    let mut lines = lines::Lines::new(file, Limits::default().event_bytes);
    carry.begin(lines.begin().map_err(unreadable)?);
    let mut assembly = Assembly::new(&settings, carry);
    while let Some(line) = lines.next().map_err(unreadable)? {
        counts.add(line, &mut assembly).map_err(Failure::Usage)?;
    }
    counts.take(&mut assembly).map_err(Failure::Usage)?;
    Ok(())
}

async fn cells_of_postgres(
    shared: &Shared,
    services: &[String],
    (first_ms, last_ms): (i64, i64),
) -> anyhow::Result<Vec<(count::Cell, u64)>> {
    let database = Database::open(shared).await?;
    let limit = i64::try_from(MAX_CELLS + 1)?;
    let rows = database
        .rows(
            "SELECT extract(epoch FROM bucket)::bigint * 1000, service, level, count
               FROM log_counts
              WHERE service = ANY($1)
                AND bucket >= to_timestamp($2 / 1000.0) AND bucket <= to_timestamp($3 / 1000.0)
              LIMIT $4",
            &[
                (&services, Type::TEXT_ARRAY),
                (&first_ms, Type::INT8),
                (&last_ms, Type::INT8),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    if rows.len() > MAX_CELLS {
        return Err(Failure::Usage(count::too_many(MAX_CELLS)).into());
    }
    rows.iter()
        .map(|row| {
            let cell = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let count: i64 = row.try_get(3)?;
            Ok((cell, u64::try_from(count).context("Postgres holds a negative count")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use std::collections::BTreeMap;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// What real loggers wrote is counted as those who asked for it know it: see the folder's README.
    #[test]
    fn the_corpus_is_counted_event_by_event() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto-json/tests/corpus");
        let mut files = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "expected") {
                continue;
            }
            files += 1;
            let mut expected: BTreeMap<(String, String), u64> = BTreeMap::new();
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let (minute, level) = line.split_once(' ').unwrap();
                *expected.entry((minute.to_owned(), level.to_owned())).or_default() += 1;
            }
            let log = path.with_extension("log");
            let flags = ["verify", "--timezone", "UTC", log.to_str().unwrap()];
            let args = Command::parse_from(flags).args;
            let mut counts = Counts::new(Limits::default().event_bytes, MAX_CELLS);
            count_file(&args, &Arc::default(), &log, &mut counts).unwrap();
            let found: BTreeMap<(String, String), u64> = counts
                .cells
                .iter()
                .map(|((minute, _, level), count)| {
                    let time = jiff::Timestamp::from_millisecond(*minute).unwrap().to_string();
                    ((time.replace(":00Z", "Z"), level.clone()), *count)
                })
                .collect();
            assert_eq!(found, expected, "{}", log.display());
            assert_eq!(counts.rejected, 0);
        }
        assert!(files >= 20, "{files}");
    }
}
