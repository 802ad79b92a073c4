//! The schema: `migrations/` of the repository, built into the worker and applied one after another.
//!
//! Workers that start at the same moment take turns by an advisory lock; the second finds nothing left to do.
//! A schema that is newer than this worker is left alone: an older worker doesn't write into what it doesn't know.
//! Where nothing is left to do the schema is only read, so a worker's user needs no right to change it.

use crate::failure::{Failure, What, explain};
use crate::postgres::{Connection, Database, within};
use refinery::error::Kind;
use refinery::{Migration, Runner};
use std::time::Duration;
use thiserror::Error;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

/// In the order of their numbers; a test holds this list to the folder.
const MIGRATIONS: [(&str, &str); 2] = [
    ("V1__counts_and_ledger", include_str!("../../migrations/V1__counts_and_ledger.sql")),
    ("V2__views_and_roles", include_str!("../../migrations/V2__views_and_roles.sql")),
];

/// Held while the schema is looked at and changed: `lwsc` in ASCII.
const LOCK: i64 = 0x6c77_7363;
/// How long it may take altogether, the wait for another worker's migration included.
const DEADLINE: Duration = Duration::from_secs(300);

/// Why the schema isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// It can't be asked just now, and the sentence says why.
    #[error("{0}")]
    Unavailable(String),
    /// It doesn't fit this worker: a person must act.
    #[error("{0}")]
    Unfit(String),
}

impl From<Failure> for SchemaError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::World(trouble) if trouble.what == What::Access => Self::Unfit(trouble.detail),
            Failure::World(trouble) => Self::Unavailable(trouble.detail),
            Failure::Batch(detail) => Self::Unfit(detail),
        }
    }
}

impl From<tokio_postgres::Error> for SchemaError {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Brings the schema up to date. Returns the names of what it applied, which may be none.
pub(crate) async fn migrate(database: &Database) -> Result<Vec<String>, SchemaError> {
    let mut connection = database.connect().await?;
    within(DEADLINE, "to migrate the schema", async { Ok(apply(&mut connection).await) }).await?
}

async fn apply(connection: &mut Connection) -> Result<Vec<String>, SchemaError> {
    // A migration may take longer than a group of batches may.
    connection
        .batch_execute(
            "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0",
        )
        .await?;
    // Closing the connection frees it.
    connection.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await?;
    run(connection).await
}

async fn run(connection: &mut Connection) -> Result<Vec<String>, SchemaError> {
    let ours = migrations()?;
    let applied = history(connection).await?;
    let newest = ours.iter().map(Migration::version).max().unwrap_or(0);
    if let Some(newer) = applied.iter().map(|one| one.version).max().filter(|version| *version > newest) {
        return Err(SchemaError::Unfit(format!(
            "the schema in Postgres has version {newer}, and this worker ({}) knows {newest}: start a newer worker",
            env!("CARGO_PKG_VERSION")
        )));
    }
    if ours.iter().map(Applied::of).eq(applied) {
        return Ok(Vec::new());
    }
    let runner = Runner::new(&ours).set_abort_divergent(true).set_abort_missing(true);
    // Its log lines say what ours do.
    let running = runner.run_async(&mut **connection).with_subscriber(NoSubscriber::default());
    let report = running.await.map_err(|error| judge(&error))?;
    Ok(report.applied_migrations().iter().map(|m| format!("V{}__{}", m.version(), m.name())).collect())
}

/// What is known of an applied migration.
#[derive(PartialEq)]
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

impl Applied {
    fn of(migration: &Migration) -> Self {
        Self {
            version: migration.version(),
            name: migration.name().to_owned(),
            checksum: migration.checksum().to_string(),
        }
    }
}

/// The applied migrations, in their order.
async fn history(connection: &Connection) -> Result<Vec<Applied>, SchemaError> {
    let known =
        connection.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await?;
    if !known.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = connection
        .query(
            "SELECT version, name::text, checksum::text FROM refinery_schema_history ORDER BY version",
            &[],
        )
        .await?;
    let applied = rows.iter().map(|row| {
        let (version, name, checksum) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Applied { version, name, checksum })
    });
    applied.collect::<Result<_, tokio_postgres::Error>>().map_err(Into::into)
}

fn migrations() -> Result<Vec<Migration>, SchemaError> {
    let parse = |(name, sql): &(&str, &str)| Migration::unapplied(name, sql);
    MIGRATIONS
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .map_err(|error| SchemaError::Unfit(error.to_string()))
}

fn judge(error: &refinery::Error) -> SchemaError {
    match error.kind() {
        Kind::Connection(doing, cause) => match cause.downcast_ref::<tokio_postgres::Error>() {
            Some(cause) if cause.as_db_error().is_none() => SchemaError::Unavailable(explain(cause)),
            Some(cause) => {
                let detail = format!("{doing}: {}", explain(cause));
                match cause.code().and_then(|code| crate::failure::judge(code.code())) {
                    Some(What::Access) => SchemaError::Unfit(format!(
                        "{detail}; let the owner of the tables, or of the database, run `logweir-worker migrate`"
                    )),
                    Some(What::Schema) | None => SchemaError::Unfit(detail),
                    Some(_) => SchemaError::Unavailable(detail),
                }
            }
            None => SchemaError::Unavailable(format!("{doing}: {cause}")),
        },
        Kind::DivergentVersion(applied, ours) => SchemaError::Unfit(format!(
            "the schema in Postgres was made by another {applied} than this worker's {ours}: use the worker that made \
             it, or an empty database"
        )),
        _ => SchemaError::Unfit(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sql"))
            .collect();
        files.sort();
        let ours: Vec<String> = MIGRATIONS.iter().map(|(name, _)| format!("{name}.sql")).collect();
        assert_eq!(files, ours);
        assert_eq!(migrations().unwrap().len(), MIGRATIONS.len());
    }
}
