//! What the two halves are told, after flags have become values.

use crate::batch::Limits;
use crate::config::KeyRules;
use crate::files::tail::Patience;
use crate::handoff::Guidance;
use crate::journal::state::{FileEntry, Parsing};
use crate::spool::WhenFull;
use jiff::tz::TimeZone;
use logweir_proto::Level;
use logweir_proto::line::{self, Format, Rules};
use logweir_telemetry::config::size;
use regex::bytes::Regex;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Where a file that is seen for the first time is read from, when the agent starts. Files that appear later, and
/// all with `--once`, are read from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum From {
    /// All that is in it.
    Beginning,
    /// Only what is written from now on.
    End,
}

/// How much room a file system has left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Room {
    /// In bytes.
    Bytes(u64),
    /// In hundredths of all that it holds.
    Percent(f64),
}

impl Room {
    /// Whether a file system of `all` bytes, of which `free` are left, has less. Of one that doesn't tell nobody knows.
    pub(crate) fn is_more_than(self, free: u64, all: u64) -> bool {
        match self {
            Self::Bytes(bytes) => all > 0 && free < bytes,
            #[expect(clippy::cast_precision_loss, reason = "a share of a disk needs no last byte")]
            Self::Percent(percent) => (free as f64) * 100.0 < percent * all as f64,
        }
    }
}

impl FromStr for Room {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(number) = text.strip_suffix('%') else { return size(text).map(Self::Bytes) };
        match number.trim_end().parse() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
            _ => Err("a part of the whole is a number from 0 to 100 and %, such as 1%".to_owned()),
        }
    }
}

/// What the reading half must know.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Journal, spool, rejects and losses.
    pub(crate) state_dir: PathBuf,
    /// Paths and globs, as they were given.
    pub(crate) patterns: Vec<String>,
    /// Globs of what is left out, as they were given.
    pub(crate) exclude: Vec<String>,
    /// Files that were last written to longer ago are not begun with.
    pub(crate) ignore_older: Option<Duration>,
    /// Whether stdin is read (`-` among the paths).
    pub(crate) stdin: bool,
    /// Read to the end of the inputs, and end when all is settled.
    pub(crate) once: bool,
    /// Where files that are there at the first start are read from.
    pub(crate) from: From,
    /// The format of the lines.
    pub(crate) format: Format,
    /// The service of every line.
    pub(crate) service: Option<String>,
    /// The level of lines that carry none.
    pub(crate) default_level: Level,
    /// Which fields are the parts of an event, by file.
    pub(crate) keys: KeyRules,
    /// In text, lines that match begin an event.
    pub(crate) multiline_start: Option<Regex>,
    /// How long it is waited for that what stands at a file's end goes on.
    pub(crate) patience: Patience,
    /// A longer event of several lines is cut.
    pub(crate) multiline_bytes: usize,
    /// Which events are left out, and what is replaced in the others.
    pub(crate) rules: Arc<Rules>,
    /// The zone of times that carry none.
    pub(crate) timezone: TimeZone,
    /// The zone's name, as the journal keeps it.
    pub(crate) timezone_name: String,
    /// How long the first event of a batch waits for others.
    pub(crate) linger: Duration,
    /// What the sending half has learnt of the collector.
    pub(crate) guidance: Guidance,
    /// A batch with so many events is sealed.
    pub(crate) batch_events: u64,
    /// A batch with so many bytes (before compression) is sealed.
    pub(crate) batch_bytes: u64,
    /// A line that is longer is not sent, but noted in the rejects file.
    pub(crate) max_line_bytes: usize,
    /// With so many unsettled batches, reading stops.
    pub(crate) window_batches: usize,
    /// With so many bytes of unsettled (compressed) bodies, reading stops.
    pub(crate) window_bytes: u64,
    /// The most bytes that the spool of stdin may hold.
    pub(crate) spool_bytes: u64,
    /// What becomes of stdin then.
    pub(crate) spool_full: WhenFull,
    /// The most files that are followed; further ones are named in the log and left alone.
    pub(crate) max_files: usize,
    /// So long after it was deleted, a file that can't be read to its end is given up.
    pub(crate) close_deleted: Duration,
    /// The same, but soon, where its file system has less room than this.
    pub(crate) close_deleted_below: Room,
    /// The most files that are held open; others are looked at by their names.
    pub(crate) max_open_files: usize,
    /// How often the patterns are looked up, whatever wakes the reader in between.
    pub(crate) scan_interval: Duration,
}

impl Reading {
    /// What the parser must know about a file's lines.
    pub(crate) fn parser(&self, entry: &FileEntry) -> line::Settings {
        line::Settings {
            format: self.format,
            service: self.service.clone(),
            file_service: entry.service.clone(),
            origin: entry.origin.clone(),
            keys: entry.keys.clone(),
            default_level: self.default_level,
            timezone: self.timezone.clone(),
            multiline_start: self.multiline_start.clone(),
            max_event_bytes: self.multiline_bytes,
            rules: Arc::clone(&self.rules),
        }
    }

    /// What of it the journal keeps with each batch.
    pub(crate) fn parsing(&self) -> Parsing {
        Parsing {
            format: self.format,
            service: self.service.clone(),
            default_level: self.default_level,
            timezone: self.timezone_name.clone(),
            multiline_start: self.multiline_start.as_ref().map(|regex| regex.as_str().to_owned()),
            multiline_bytes: self.multiline_bytes,
            rules: self.rules.texts().clone(),
        }
    }

    /// When a batch is sealed.
    pub(crate) const fn limits(&self) -> Limits {
        Limits { events: self.batch_events, bytes: self.batch_bytes, linger: self.linger }
    }

    /// The most bytes that are held while an event isn't complete: its lines, and the next one with a byte over the limit.
    pub(crate) fn most_open_bytes(&self) -> usize {
        let lines = self.multiline_bytes.max(self.max_line_bytes).saturating_add(2);
        lines.saturating_add(self.max_line_bytes).saturating_add(2)
    }

    /// Where the segments of stdin's spool are.
    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }

    /// Whether this is a segment of the spool.
    pub(crate) fn is_spooled(&self, path: &Path) -> bool {
        path.strip_prefix(&self.state_dir).is_ok_and(|below| below.starts_with("spool"))
    }
}
