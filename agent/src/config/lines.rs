//! How lines are read.

use crate::files::tail::Patience;
use clap::{Args, ValueEnum};
use globset::{GlobBuilder, GlobMatcher};
use jiff::tz::TimeZone;
use logweir_proto::Level;
use logweir_proto::line::{Format, Keys};
use logweir_telemetry::config::{duration, size};
use regex::bytes::{Regex, RegexBuilder};
use std::path::Path;
use std::time::Duration;

/// The lines' format, as it is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Each line shows by its form what it is
    Auto,
    /// Each line is a JSON object; one that isn't is rejected
    Json,
    /// Each line is text
    Text,
    /// Each line is key=value pairs; one that isn't is text
    Logfmt,
    /// Each line is wrapped by a container's runtime: docker's json-file, or CRI
    Container,
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Auto => Format::Auto,
            FormatArg::Json => Format::Json,
            FormatArg::Text => Format::Text,
            FormatArg::Logfmt => Format::Logfmt,
            FormatArg::Container => Format::Container,
        }
    }
}

/// The flags.
#[derive(Debug, Clone, Args)]
pub(crate) struct LineArgs {
    /// The format of the lines
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT")]
    pub(crate) format: FormatArg,
    /// The time zone of times that carry none, such as Europe/Berlin [default: the machine's]
    #[arg(long, value_name = "TZ")]
    pub(crate) timezone: Option<String>,
    /// The level of lines that carry none
    #[arg(long, default_value = "info", value_name = "LEVEL", value_parser = level)]
    pub(crate) default_level: Level,
    /// The field of JSON and logfmt lines that holds the time, before all that are known; with GLOB= only in files whose
    /// name (or path, where the glob has a /) matches; may be repeated
    #[arg(long, value_name = "[GLOB=]NAME", value_parser = key_rule)]
    pub(crate) time_key: Vec<KeyRule>,
    /// The same for the level
    #[arg(long, value_name = "[GLOB=]NAME", value_parser = key_rule)]
    pub(crate) level_key: Vec<KeyRule>,
    /// The same for the message
    #[arg(long, value_name = "[GLOB=]NAME", value_parser = key_rule)]
    pub(crate) message_key: Vec<KeyRule>,
    /// The same for the service
    #[arg(long, value_name = "[GLOB=]NAME", value_parser = key_rule)]
    pub(crate) service_key: Vec<KeyRule>,
    /// In text, lines that match begin an event, and all others continue the one before [default: lines with a time
    /// do, and lines that by their form are part of a stack trace don't]
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    pub(crate) multiline_start: Option<Regex>,
    /// An event of text at a file's end is complete when nothing has followed it for so long
    #[arg(long, value_parser = duration, default_value = "5s", value_name = "DURATION")]
    pub(crate) multiline_timeout: Duration,
    /// A line at a file's end that has no line end is taken when nothing has followed it for so long
    #[arg(long, value_parser = duration, default_value = "5s", value_name = "DURATION")]
    pub(crate) line_timeout: Duration,
    /// An event of several lines that is longer is cut
    #[arg(long, value_parser = size, default_value = "128KiB", value_name = "SIZE")]
    pub(crate) multiline_bytes: u64,
}

impl LineArgs {
    /// How long it is waited for that what stands at a file's end goes on.
    pub(crate) const fn patience(&self) -> Patience {
        Patience { event: self.multiline_timeout, line: self.line_timeout }
    }

    /// Which fields are named for which files.
    pub(crate) fn keys(&self) -> KeyRules {
        KeyRules {
            time: self.time_key.clone(),
            level: self.level_key.clone(),
            message: self.message_key.clone(),
            service: self.service_key.clone(),
        }
    }

    /// The zone, and the name by which a later run finds the same one.
    pub(crate) fn zone(&self) -> Result<(TimeZone, String), String> {
        let unknown = |name: &str, error: jiff::Error| {
            format!("--timezone {name:?} is not known ({error}); a zone is named like Europe/Berlin or UTC")
        };
        if let Some(name) = &self.timezone {
            let zone = TimeZone::get(name).map_err(|error| unknown(name, error))?;
            let name = zone.iana_name().map_or_else(|| name.clone(), str::to_owned);
            return Ok((zone, name));
        }
        // A machine that says nothing keeps UTC, as its libc does.
        let Ok(zone) = TimeZone::try_system() else { return Ok((TimeZone::UTC, "UTC".to_owned())) };
        match zone.iana_name().map(str::to_owned) {
            Some(name) if TimeZone::get(&name).is_ok() => Ok((zone, name)),
            _ => Err("the machine's time zone has no name: say --timezone, such as Europe/Berlin or UTC"
                .to_owned()),
        }
    }
}

/// A field's name, and for which files.
#[derive(Debug, Clone)]
pub(crate) struct KeyRule {
    /// A glob, and whether it is of whole paths.
    glob: Option<(GlobMatcher, bool)>,
    name: String,
}

fn key_rule(text: &str) -> Result<KeyRule, String> {
    let (glob, name) = match text.rsplit_once('=') {
        Some((glob, name)) => (Some(glob), name),
        None => (None, text),
    };
    if name.is_empty() {
        return Err("say NAME, or GLOB=NAME".to_owned());
    }
    let glob = glob.map(|glob| {
        let matcher = GlobBuilder::new(glob).literal_separator(true).build().map_err(|e| e.to_string())?;
        Ok::<_, String>((matcher.compile_matcher(), glob.contains('/')))
    });
    Ok(KeyRule { glob: glob.transpose()?, name: name.to_owned() })
}

impl KeyRule {
    fn is_for(&self, path: &Path) -> bool {
        match &self.glob {
            None => true,
            Some((glob, true)) => glob.is_match(path),
            Some((glob, false)) => path.file_name().is_some_and(|name| glob.is_match(name)),
        }
    }
}

/// Which fields are named for which files.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyRules {
    time: Vec<KeyRule>,
    level: Vec<KeyRule>,
    message: Vec<KeyRule>,
    service: Vec<KeyRule>,
}

impl KeyRules {
    /// Those for one file: a rule with a glob goes before one for all files, and of two the first.
    pub(crate) fn of(&self, path: &Path) -> Keys {
        let name = |rules: &[KeyRule]| {
            let fitting = rules.iter().filter(|rule| rule.is_for(path));
            fitting.min_by_key(|rule| rule.glob.is_none()).map(|rule| rule.name.clone())
        };
        Keys {
            time: name(&self.time),
            level: name(&self.level),
            message: name(&self.message),
            service: name(&self.service),
        }
    }
}

fn regex(text: &str) -> Result<Regex, String> {
    // Matching takes a time that is linear in the line's length, whatever the expression; this bounds its memory.
    RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|error| error.to_string())
}

fn level(text: &str) -> Result<Level, String> {
    Level::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let names: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
        format!("levels are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_for_some_files_goes_before_one_for_all() {
        let rules =
            ["when", "*.json=t", "/srv/**/*.log=at", "late.json=never"].map(|text| key_rule(text).unwrap());
        let rules = KeyRules { time: rules.to_vec(), ..KeyRules::default() };
        for (path, name) in [
            ("/var/log/a.log", "when"),
            ("/var/log/late.json", "t"),
            ("/srv/a/b.log", "at"),
            ("/srv/a/b.txt", "when"),
        ] {
            assert_eq!(rules.of(Path::new(path)).time.as_deref(), Some(name), "{path}");
        }
        assert!(key_rule("*.json=").is_err() && key_rule("[=x").is_err());
    }
}
