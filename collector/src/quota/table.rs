//! Which agent has which quota: the flags' for all, and a file's for some.
//!
//! ```toml
//! [agents."batch/*"]      # every ID that begins with batch/
//! rate = 200              # burst: 2 seconds' worth
//!
//! [agents."batch/night"]  # an exact ID wins over every prefix, a longer prefix over a shorter one
//! rate = 50000
//! burst = 500000
//! rate-bytes = "64MiB"
//! ```

use super::{Quota, Quotas};
use logweir_telemetry::config::size;
use serde::{Deserialize, Deserializer, de};
use std::collections::HashMap;

/// An agent's ID is no longer; nor is an address.
const LONGEST: usize = 128;

/// The quotas of all agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    default: Quotas,
    exact: HashMap<Box<str>, Quotas>,
    prefixes: HashMap<Box<str>, Quotas>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    agents: HashMap<Box<str>, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    rate: Option<Amount>,
    burst: Option<Amount>,
    rate_bytes: Option<Amount>,
    burst_bytes: Option<Amount>,
}

/// From 1 to [`Quota::MAX_RATE`]; as a number or as a size.
#[derive(Clone, Copy)]
struct Amount(u64);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(i64),
            Text(String),
        }
        let form = Form::deserialize(from)
            .map_err(|_| de::Error::custom("a whole number is needed, or a size such as \"4MiB\""))?;
        let amount = match form {
            Form::Number(number) => u64::try_from(number).unwrap_or(0),
            Form::Text(text) => size(&text).map_err(de::Error::custom)?,
        };
        if (1..=Quota::MAX_RATE).contains(&amount) {
            Ok(Self(amount))
        } else {
            Err(de::Error::custom(format!("it must be from 1 to {}", Quota::MAX_RATE)))
        }
    }
}

impl Table {
    /// The same for all.
    pub(crate) fn new(default: Quotas) -> Self {
        Self { default, exact: HashMap::new(), prefixes: HashMap::new() }
    }

    /// Reads a file; what an entry leaves out is as in `default`, or two seconds' worth of the entry's own rate.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(crate) fn parse(text: &str, default: Quotas) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut table = Self::new(default);
        for (pattern, entry) in file.agents {
            let (name, map) = match pattern.strip_suffix('*') {
                Some(prefix) => (prefix, &mut table.prefixes),
                None => (&*pattern, &mut table.exact),
            };
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b':' | b'-');
            if name.len() > LONGEST || !name.bytes().all(good) || (name.is_empty() && pattern.is_empty()) {
                return Err(format!(
                    "{pattern:?} is no agent's ID, no address, and no beginning of one followed by a *"
                ));
            }
            map.insert(name.into(), entry.quotas(default));
        }
        Ok(table)
    }

    /// The quotas of an agent.
    pub(crate) fn of(&self, agent: &str) -> Quotas {
        if let Some(exact) = self.exact.get(agent) {
            return *exact;
        }
        if self.prefixes.is_empty() {
            return self.default;
        }
        let beginnings = (0..=agent.len().min(LONGEST)).rev().filter_map(|length| agent.get(..length));
        beginnings.filter_map(|prefix| self.prefixes.get(prefix)).next().copied().unwrap_or(self.default)
    }

    /// How many entries of a file there are.
    pub(crate) fn len(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }
}

impl Entry {
    fn quotas(&self, default: Quotas) -> Quotas {
        let quota = |rate: Option<Amount>, burst: Option<Amount>, default: Quota| match (rate, burst) {
            (None, None) => default,
            (None, Some(burst)) => Quota::new(default.rate, burst.0),
            (Some(rate), None) => Quota::new(rate.0, rate.0.saturating_mul(2)),
            (Some(rate), Some(burst)) => Quota::new(rate.0, burst.0),
        };
        Quotas {
            events: quota(self.rate, self.burst, default.events),
            bytes: quota(self.rate_bytes, self.burst_bytes, default.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Quotas =
        Quotas { events: Quota { rate: 10, burst: 20 }, bytes: Quota { rate: 1_000, burst: 3_000 } };

    #[test]
    fn the_longest_match_wins_and_gaps_are_filled() {
        let text = r#"
            [agents."batch/*"]
            rate = 200
            [agents."batch/night*"]
            burst = 7
            [agents."batch/night"]
            rate = 5
            burst = 6
            rate-bytes = "1KiB"
            [agents."*"]
            burst-bytes = 9
            [agents."192.0.2.7"]
            rate = 1
        "#;
        let table = Table::parse(text, DEFAULT).unwrap();
        assert_eq!(table.len(), 5);
        let of = |agent: &str| {
            let Quotas { events, bytes } = table.of(agent);
            [events.rate, events.burst, bytes.rate, bytes.burst]
        };
        assert_eq!(of("batch/night"), [5, 6, 1_024, 2_048]);
        assert_eq!(of("batch/night-2"), [10, 7, 1_000, 3_000]);
        assert_eq!(of("batch/day"), [200, 400, 1_000, 3_000]);
        assert_eq!(of("batch"), [10, 20, 1_000, 9]);
        assert_eq!(of("192.0.2.7"), [1, 2, 1_000, 3_000]);
        assert_eq!(of(""), [10, 20, 1_000, 9]);
        assert_eq!(Table::parse("", DEFAULT).unwrap(), Table::new(DEFAULT));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, what) in [
            ("[agents.\"a\"]\nrate = 0", "from 1 to"),
            ("[agents.\"a\"]\nrate = -5", "from 1 to"),
            ("[agents.\"a\"]\nrate = 1.5", "whole number"),
            ("[agents.\"a\"]\nrate-bytes = \"many\"", "4MiB"),
            ("[agents.\"a\"]\nrate = 9999999999999999", "from 1 to"),
            ("[agents.\"a\"]\nspeed = 1", "speed"),
            ("[agent.\"a\"]\nrate = 1", "agent"),
            ("[agents.\"a b\"]\nrate = 1", "a b"),
            ("[agents.\"a*b\"]\nrate = 1", "a*b"),
            ("[agents.\"\"]\nrate = 1", "\"\""),
            ("[agents.\"a\"]\nrate = 1\n[agents.\"a\"]\nrate = 2", "duplicate"),
            ("nonsense", "line 1"),
        ] {
            let message = Table::parse(text, DEFAULT).unwrap_err();
            assert!(message.contains(what), "{message} should speak of {what}");
        }
    }
}
