//! Keeps the schema up to date, and lets the lanes wait until it is.

use crate::health::{Health, SCHEMA};
use crate::migrate::{SchemaError, migrate};
use crate::postgres::Database;
use crate::wait::Backoff;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether the schema is there.
pub(crate) struct Schema(watch::Sender<bool>);

impl Schema {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// A table was missing: it is looked at anew.
    pub(crate) fn is_missing(&self) {
        self.0.send_replace(false);
    }

    /// Waits until the schema is there. Cancel-safe.
    pub(crate) async fn ready(&self) {
        self.wait_for(true).await;
    }

    async fn wait_for(&self, wanted: bool) {
        // An error would mean that the sender is gone, and it is here.
        let _seen = self.0.subscribe().wait_for(|ready| *ready == wanted).await.is_ok();
    }

    /// Applies the migrations at start and whenever a table was missing, until `stop`.
    pub(crate) async fn run(&self, database: &Database, health: &Health, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut said = String::new();
        while stop.run_until_cancelled(self.wait_for(false)).await.is_some() {
            let Some(migrated) = stop.run_until_cancelled(migrate(database)).await else { return };
            match migrated {
                Ok(applied) => {
                    for migration in &applied {
                        tracing::info!(%migration, "applied a migration");
                    }
                    if applied.is_empty() {
                        tracing::info!("the schema is up to date");
                    }
                    health.readiness.set(SCHEMA, Ok(()));
                    self.0.send_replace(true);
                    backoff = Backoff::default();
                    said.clear();
                }
                Err(error) => {
                    let why = error.to_string();
                    if let SchemaError::Unfit(_) = error
                        && why != said
                    {
                        tracing::error!(%error, "the schema can't be used until somebody mends this");
                        said.clone_from(&why);
                    }
                    health.readiness.set(SCHEMA, Err(why));
                    stop.run_until_cancelled(tokio::time::sleep(backoff.next())).await;
                }
            }
        }
    }
}
