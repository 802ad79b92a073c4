//! The statements. Everything from outside is a parameter: $1 since and $2 until in Unix milliseconds (until may
//! be NULL), $3 services and $4 levels (NULL for all).

use super::{Key, MAX_ROWS};

const TIMES_AND_SERVICES: &str = "bucket >= to_timestamp($1 / 1000.0)
   AND ($2::bigint IS NULL OR bucket < to_timestamp($2 / 1000.0))
   AND ($3::text[] IS NULL OR service = ANY($3))";

/// The counts by `keys`, which are sorted and not empty. Columns: the keys, count, bytes.
pub(super) fn counts(keys: &[Key]) -> String {
    let columns: Vec<&str> = keys.iter().map(|key| column(*key)).collect();
    let order: Vec<String> = (1..=keys.len()).map(|place| place.to_string()).collect();
    let (columns, order) = (columns.join(", "), order.join(", "));
    format!(
        "SELECT {columns}, sum(count)::bigint, sum(bytes)::bigint
  FROM log_counts
 WHERE {TIMES_AND_SERVICES}
   AND ($4::text[] IS NULL OR level = ANY($4))
 GROUP BY {order}
 ORDER BY {order}
 LIMIT {limit}",
        limit = MAX_ROWS + 1,
    )
}

fn column(key: Key) -> &'static str {
    match key {
        Key::Minute => "extract(epoch FROM bucket)::bigint",
        Key::Service => "service COLLATE \"C\"",
        Key::Level => "level COLLATE \"C\"",
    }
}

/// The error rate. Columns: bucket, service, total, errors, rate.
pub(super) fn errors() -> String {
    format!(
        "SELECT extract(epoch FROM bucket)::bigint, service, total::bigint, errors::bigint, error_rate::float8
  FROM error_rate_per_minute
 WHERE {TIMES_AND_SERVICES}
 ORDER BY 1, service COLLATE \"C\"
 LIMIT {limit}",
        limit = MAX_ROWS + 1,
    )
}
