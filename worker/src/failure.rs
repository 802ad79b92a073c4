//! The two kinds of failure, which are never mixed up.
//!
//! | kind | examples | then |
//! |---|---|---|
//! | the world | unreachable, timeout, disk full, deadlock, read-only, no rights, no table | wait, try again, for ever; no attempt is noted |
//! | the batch | a value that doesn't fit, a broken constraint, a panic | narrow down, note an attempt, in the end a dead letter |
//!
//! When in doubt it is the world: waiting in vain is seen in `/readyz`, and loses nothing.

use std::error::Error as _;
use std::fmt;
use tokio_postgres::error::SqlState;

/// Why a transaction failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    World(Trouble),
    Batch(String),
}

/// What is wrong with the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) what: What,
    pub(crate) detail: String,
    /// The SQLSTATE, when Postgres said one.
    pub(crate) code: Option<String>,
}

/// What kind of trouble it is; the label of the retries' metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// Not reachable, or the connection broke. Whether a commit took effect is unknown.
    Connection,
    /// No answer within the deadline, or one of Postgres' own timeouts.
    Timeout,
    /// A deadlock, or a lock that couldn't be had: the next try is likely to succeed.
    Conflict,
    /// Disk, memory or connections are used up.
    Resources,
    /// Starting, stopping, or cancelled by an operator.
    Intervention,
    /// A standby, or set read-only.
    ReadOnly,
    /// No such user or database, or no right: a person must mend it.
    Access,
    /// A table or column is missing, or not as expected.
    Schema,
    /// The partition of a day has been dropped meanwhile.
    Partition,
    /// Whatever else.
    Other,
}

impl What {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            What::Connection => "connection",
            What::Timeout => "timeout",
            What::Conflict => "conflict",
            What::Resources => "resources",
            What::Intervention => "intervention",
            What::ReadOnly => "read_only",
            What::Access => "access",
            What::Schema => "schema",
            What::Partition => "partition",
            What::Other => "other",
        }
    }

    /// Whether it is usual among healthy workers, and no reason to say that Postgres is lost.
    pub(crate) const fn passes_by_itself(self) -> bool {
        matches!(self, What::Conflict | What::Partition)
    }

    /// Whether the connection may be used again after it.
    pub(crate) const fn spares_the_connection(self) -> bool {
        matches!(self, What::Conflict | What::Partition)
    }
}

impl Trouble {
    pub(crate) fn new(what: What, detail: impl Into<String>) -> Self {
        Self { what, detail: detail.into(), code: None }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Failure::World(trouble)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let detail = explain(&error);
        let Some(db) = error.as_db_error() else {
            // A value that can't be sent at all is the batch's fault; the library tells it by its words only.
            return if detail.starts_with("error serializing parameter") {
                Failure::Batch(detail)
            } else {
                Trouble::new(What::Connection, detail).into()
            };
        };
        // A row without a partition bears the code of a broken constraint, but names none.
        if db.code() == &SqlState::CHECK_VIOLATION && db.constraint().is_none() {
            return Trouble::new(What::Partition, detail).into();
        }
        let code = db.code().code().to_owned();
        match judge(&code) {
            Some(what) => Failure::World(Trouble { what, detail, code: Some(code) }),
            None => Failure::Batch(detail),
        }
    }
}

/// What an SQLSTATE says of the world; `None` when the fault is the batch's. Each row has its reason.
pub(crate) fn judge(code: &str) -> Option<What> {
    Some(match code {
        // A lock or a snapshot that another transaction has, a deadlock, an object in use: over when the other is.
        "55P03" | "40001" | "40P01" | "55006" => What::Conflict,
        // statement_timeout and lock_timeout, or somebody's cancel; idle too long; the transaction too long. A slow
        // server says the same of every batch.
        "57014" | "25P03" | "25P04" => What::Timeout,
        // Nothing can be written here: a standby, or set so by a person.
        "25006" => What::ReadOnly,
        // No right on an object; no such database. A grant mends it for all batches.
        "42501" | "3D000" => What::Access,
        _ => match code.get(..2).unwrap_or("") {
            // The connection, and breaches of its protocol (a pooler's, too): the next one may do.
            "08" => What::Connection,
            // The transaction was rolled back for other transactions' sake.
            "40" => What::Conflict,
            // Disk, memory or connections used up, or an I/O error: all batches meet it.
            "53" | "58" => What::Resources,
            // Not in the state for it (the server stops, starts, is being restored): an operator's doing.
            "55" | "57" => What::Intervention,
            // No such user, or a wrong password.
            "28" => What::Access,
            // A table, column, function, schema or prepared statement isn't what this version expects: the statements
            // are the same for every batch, so no batch is to blame.
            "42" | "3F" | "26" | "0A" => What::Schema,
            // More rows than one for a row: only what is in the batch can make the same statement do that.
            "21" => return None,
            // A value that doesn't fit: too large, NUL, out of range, no text of the encoding.
            "22" => return None,
            // A constraint, or a view's condition, that the values break; neighbours don't.
            "23" | "44" => return None,
            // A limit of Postgres that the size of the values breaks, such as that of an index's row.
            "54" => return None,
            // What a person's trigger raises about a row.
            "P0" => return None,
            // Nobody has thought of it (XX000, an extension's own): losing nothing goes before going on.
            _ => What::Other,
        },
    })
}

/// The error with its causes, in one line; `Display` alone says only `db error`.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{} [{}]{detail}", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_kind() {
        for (code, what) in [
            ("08006", What::Connection),
            ("08P01", What::Connection),
            ("40001", What::Conflict),
            ("40P01", What::Conflict),
            ("55P03", What::Conflict),
            ("57014", What::Timeout),
            ("25P03", What::Timeout),
            ("53100", What::Resources),
            ("53300", What::Resources),
            ("58030", What::Resources),
            ("57P01", What::Intervention),
            ("57P03", What::Intervention),
            ("25006", What::ReadOnly),
            ("28P01", What::Access),
            ("3D000", What::Access),
            ("42501", What::Access),
            ("42P01", What::Schema),
            ("42703", What::Schema),
            ("XX000", What::Other),
            ("XX001", What::Other),
            ("25P02", What::Other),
            ("ZZ999", What::Other),
            ("", What::Other),
            ("é", What::Other),
        ] {
            assert_eq!(judge(code), Some(what), "{code}");
        }
        for code in ["22003", "22008", "22021", "22P05", "23514", "23502", "21000", "54000", "P0001"] {
            assert_eq!(judge(code), None, "{code}");
        }
    }
}
