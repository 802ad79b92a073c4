//! Under which names loggers keep the parts of an event, in JSON and in logfmt.
//!
//! A *strong* name means its part and nothing else: when its value is wrong the event is rejected with its reason. A
//! *weak* one has other uses too, and counts only where its value is what it should be.

use super::facts::By;

/// A part of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Time = 0,
    Service = 1,
    Level = 2,
    Message = 3,
}

/// How a level's number is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// 10 to 60.
    Pino,
    /// 0 to 7.
    Syslog,
    /// 10 to 50.
    Python,
    /// 5000 to 40000.
    Logback,
    /// 1 to 24.
    Otel,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    pub(super) slot: Slot,
    /// The smaller, the surer.
    pub(super) rank: u8,
    pub(super) name: &'static str,
    pub(super) weak: bool,
    pub(super) scale: Scale,
}

/// The wire's own names.
pub(super) const WIRE: [&str; 4] = ["timestamp", "service", "level", "message"];

/// From here on names are weak.
const WEAK: u8 = 20;

/// In lower case, with the rank; the wire's own have 0.
const fn entry(lower: &[u8]) -> Option<(Slot, u8, &'static str)> {
    use Slot::{Level, Message, Service, Time};
    Some(match lower {
        b"timestamp" => (Time, 1, "timestamp"),
        b"@timestamp" => (Time, 2, "@timestamp"),
        b"time" => (Time, 3, "time"),
        b"ts" => (Time, 4, "ts"),
        b"date" => (Time, 5, "date"),
        b"@t" => (Time, 21, "@t"),
        b"asctime" => (Time, 22, "asctime"),
        b"datetime" => (Time, 23, "datetime"),
        b"timemillis" => (Time, 24, "timeMillis"),
        b"eventtime" => (Time, 25, "eventTime"),
        b"event_time" => (Time, 26, "event_time"),
        b"log_time" => (Time, 27, "log_time"),
        b"timeunixnano" => (Time, 28, "timeUnixNano"),
        b"__realtime_timestamp" => (Time, 29, "__REALTIME_TIMESTAMP"),
        b"time_local" => (Time, 30, "time_local"),
        b"time_iso8601" => (Time, 31, "time_iso8601"),
        b"created" => (Time, 32, "created"),
        b"t" => (Time, 33, "t"),
        b"service" => (Service, 1, "service"),
        b"service.name" => (Service, 2, "service.name"),
        b"app" => (Service, 3, "app"),
        b"service_name" => (Service, 21, "service_name"),
        b"servicename" => (Service, 22, "serviceName"),
        b"application" => (Service, 23, "application"),
        b"app_name" => (Service, 24, "app_name"),
        b"appname" => (Service, 25, "appName"),
        b"level" => (Level, 1, "level"),
        b"severity" => (Level, 2, "severity"),
        b"lvl" => (Level, 3, "lvl"),
        b"levelname" => (Level, 4, "levelname"),
        b"loglevel" => (Level, 5, "loglevel"),
        b"log.level" => (Level, 6, "log.level"),
        b"log_level" => (Level, 7, "log_level"),
        b"severitytext" => (Level, 21, "severityText"),
        b"severity_text" => (Level, 22, "severity_text"),
        b"level_name" => (Level, 23, "level_name"),
        b"error_severity" => (Level, 24, "error_severity"),
        b"@l" => (Level, 25, "@l"),
        b"severitynumber" => (Level, 26, "severityNumber"),
        b"severity_number" => (Level, 27, "severity_number"),
        b"levelno" => (Level, 28, "levelno"),
        b"level_value" => (Level, 29, "level_value"),
        b"syslog_severity" => (Level, 30, "syslog_severity"),
        b"syslog.severity" => (Level, 31, "syslog.severity"),
        b"syslog_level" => (Level, 32, "syslog_level"),
        b"priority" => (Level, 33, "priority"),
        b"message" => (Message, 1, "message"),
        b"msg" => (Message, 2, "msg"),
        b"event" => (Message, 3, "event"),
        b"log" => (Message, 4, "log"),
        b"body" => (Message, 5, "body"),
        b"@m" => (Message, 21, "@m"),
        b"@mt" => (Message, 22, "@mt"),
        b"renderedmessage" => (Message, 23, "RenderedMessage"),
        b"messagetemplate" => (Message, 24, "MessageTemplate"),
        b"short_message" => (Message, 25, "short_message"),
        b"text" => (Message, 45, "text"),
        _ => return None,
    })
}

/// Where MongoDB has its time, before a level under the letter `s`.
pub(super) const MONGODB: &str = "t.$date";

/// What `s` stands for there.
pub(super) const MONGODB_LEVEL: Meaning =
    Meaning { slot: Slot::Level, rank: 49, name: "s", weak: true, scale: Scale::Pino };

/// The longest name, and a byte more.
const LONGEST: usize = 21;

/// What `key` stands for; its case is ignored.
pub(super) fn meaning(key: &[u8]) -> Option<Meaning> {
    let mut buffer = [0; LONGEST];
    let lower = buffer.get_mut(..key.len())?;
    lower.copy_from_slice(key);
    lower.make_ascii_lowercase();
    let (slot, rank, name) = entry(lower)?;
    let own = rank == 1 && key == name.as_bytes();
    let scale = match name {
        "severity" | "syslog_severity" | "syslog.severity" | "syslog_level" | "priority" => Scale::Syslog,
        "levelno" => Scale::Python,
        "level_value" => Scale::Logback,
        "severityNumber" | "severity_number" => Scale::Otel,
        _ => Scale::Pino,
    };
    Some(Meaning { slot, rank: if own { 0 } else { rank }, name, weak: rank > WEAK, scale })
}

/// What `inner` stands for in the object under `outer`.
pub(super) fn nested(outer: &[u8], inner: &[u8]) -> Option<Meaning> {
    use Slot::{Level, Message, Service, Time};
    let (slot, rank, name, scale) = match (outer, inner) {
        (b"log", b"level") => (Level, 8, "log.level", Scale::Pino),
        (b"service", b"name") => (Service, 4, "service.name", Scale::Pino),
        (b"fields", b"message") => (Message, 40, "fields.message", Scale::Pino),
        (b"record", b"message") => (Message, 41, "record.message", Scale::Pino),
        (b"body", b"stringValue") => (Message, 42, "body.stringValue", Scale::Pino),
        (b"syslog", b"severity") => (Level, 43, "syslog.severity", Scale::Syslog),
        (b"instant", b"epochSecond") => (Time, 44, "instant.epochSecond", Scale::Pino),
        (b"record.level", b"name") => (Level, 46, "record.level.name", Scale::Pino),
        (b"record.time", b"timestamp") => (Time, 47, "record.time.timestamp", Scale::Pino),
        (b"t", b"$date") => (Time, 48, MONGODB, Scale::Pino),
        _ => return None,
    };
    Some(Meaning { slot, rank, name, weak: true, scale })
}

/// Names of fields that say where the parts of an event are, before all others.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// The field with the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The field with the level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// The field with the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The field with the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl Keys {
    /// Whether none is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `key` stands for: by these names, else by all others.
    pub(super) fn of(&self, key: &[u8]) -> Option<Meaning> {
        self.meaning(key).or_else(|| meaning(key))
    }

    /// What `key` stands for by these names.
    fn meaning(&self, key: &[u8]) -> Option<Meaning> {
        let named = [
            (Slot::Time, &self.time),
            (Slot::Service, &self.service),
            (Slot::Level, &self.level),
            (Slot::Message, &self.message),
        ];
        let (slot, _) =
            named.into_iter().find(|(_, name)| name.as_ref().is_some_and(|name| name.as_bytes() == key))?;
        // Where the name itself says how its numbers are to be read, it still does.
        let scale = meaning(key).map_or(Scale::Pino, |meaning| meaning.scale);
        Some(Meaning { slot, rank: 0, name: MAPPED, weak: false, scale })
    }
}

/// Stands for a name from the settings.
const MAPPED: &str = "";

impl Meaning {
    /// Whether it is by a name from the settings.
    const fn is_mapped(self) -> bool {
        self.name.len() == MAPPED.len()
    }

    /// Whether it goes before `other`, whichever of the two stands first.
    pub(super) fn is_before(self, other: Self) -> bool {
        (self.rank, !self.is_mapped()) < (other.rank, !other.is_mapped())
    }

    /// The rule that it is.
    pub(super) const fn by(self) -> By {
        if self.is_mapped() { By::MappedKey } else { By::Key(self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case() {
        for (key, slot, rank) in [
            ("timestamp", Slot::Time, 0),
            ("Timestamp", Slot::Time, 1),
            ("LEVEL", Slot::Level, 1),
            ("MESSAGE", Slot::Message, 1),
            ("__REALTIME_TIMESTAMP", Slot::Time, 29),
        ] {
            let meaning = meaning(key.as_bytes()).unwrap();
            assert_eq!((meaning.slot, meaning.rank), (slot, rank), "{key}");
        }
        for key in ["", "levels", "user", "a_much_longer_name_than_any"] {
            assert!(meaning(key.as_bytes()).is_none(), "{key}");
        }
    }
}
