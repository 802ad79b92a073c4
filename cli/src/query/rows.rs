//! The rows of the answers, and how they look.

use super::Key;
use crate::output::Column;
use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

/// One count, with the keys that were asked for.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct CountRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<String>,
    pub(super) count: i64,
    pub(super) bytes: i64,
}

impl CountRow {
    pub(super) fn read(row: &Row, keys: &[Key]) -> anyhow::Result<Self> {
        let mut read = Self::default();
        for (place, key) in keys.iter().enumerate() {
            match key {
                Key::Minute => read.bucket = Some(bucket(row.try_get(place)?)?),
                Key::Service => read.service = Some(row.try_get(place)?),
                Key::Level => read.level = Some(row.try_get(place)?),
            }
        }
        read.count = row.try_get(keys.len())?;
        read.bytes = row.try_get(keys.len() + 1)?;
        Ok(read)
    }

    pub(super) fn columns(keys: &[Key]) -> Vec<Column> {
        let title = |key: &Key| match key {
            Key::Minute => ("bucket", false),
            Key::Service => ("service", false),
            Key::Level => ("level", false),
        };
        keys.iter().map(title).chain([("count", true), ("bytes", true)]).collect()
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let keys = [&self.bucket, &self.service, &self.level].into_iter().flatten().cloned();
        keys.chain([self.count.to_string(), self.bytes.to_string()]).collect()
    }
}

/// The error rate of one service in one minute.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ErrorRow {
    pub(super) bucket: String,
    pub(super) service: String,
    pub(super) total: i64,
    pub(super) errors: i64,
    pub(super) error_rate: f64,
}

impl ErrorRow {
    pub(super) const COLUMNS: [Column; 5] =
        [("bucket", false), ("service", false), ("total", true), ("errors", true), ("error_rate", true)];

    pub(super) fn read(row: &Row) -> anyhow::Result<Self> {
        Ok(Self {
            bucket: bucket(row.try_get(0)?)?,
            service: row.try_get(1)?,
            total: row.try_get(2)?,
            errors: row.try_get(3)?,
            error_rate: row.try_get(4)?,
        })
    }

    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            self.bucket.clone(),
            self.service.clone(),
            self.total.to_string(),
            self.errors.to_string(),
            format!("{:.4}", self.error_rate),
        ]
    }
}

/// `2026-11-24T10:03:00Z`
pub(crate) fn bucket(unix_seconds: i64) -> anyhow::Result<String> {
    let time = Timestamp::from_second(unix_seconds).context("Postgres gave a time that is out of range")?;
    Ok(time.to_string())
}
