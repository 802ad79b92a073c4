//! One connection to Postgres, with a deadline on everything.

use crate::args::Shared;
use crate::failure::Failure;
use logweir_telemetry::postgres::{PostgresAccess, Route};
use logweir_telemetry::redact::SecretUrl;
use std::error::Error as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one statement may take. Postgres is told to give up a little earlier, so that it stops as well.
const STATEMENT: Duration = Duration::from_secs(60);
const STATEMENT_IN_POSTGRES_MS: u32 = 58_000;

const REACH: &str =
    "is Postgres running there, and does it let this user in? set --postgres or LOGWEIR_POSTGRES";

/// A statement's parameter and its type.
pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection that is open until it is dropped.
pub(crate) struct Database {
    client: Client,
    url: SecretUrl,
    /// A commit was answered though its standby had not confirmed it.
    lonely_commit: Arc<AtomicBool>,
    /// Drives the connection; dropping it ends the task.
    _tasks: JoinSet<()>,
}

impl Database {
    /// Connects to the Postgres that the flags name.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn open(shared: &Shared) -> Result<Self, Failure> {
        Self::connect(&shared.postgres()?, &shared.postgres_access).await
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn connect(url: &SecretUrl, access: &PostgresAccess) -> Result<Self, Failure> {
        let usage = |why: String| Failure::Usage(format!("--postgres {url}: {why}"));
        let route = Route::new(url, access).map_err(usage)?;
        let mut config: Config = route
            .url()
            .parse()
            .map_err(|e: tokio_postgres::Error| usage(format!("it is no Postgres URL: {}", cause_of(&e))))?;
        config.application_name("logweir").connect_timeout(CONNECT);
        if let Some(password) = route.password().map_err(usage)? {
            if config.get_password().is_some() {
                return Err(usage(
                    "there is a password in it, and a --postgres-password-file: give one".into(),
                ));
            }
            config.password(password);
        }
        let tls = route.tls().map_err(usage)?;
        let unreachable =
            |cause: String| Failure::Unreachable { what: "Postgres", url: url.clone(), cause, remedy: REACH };
        let (mut tasks, lonely_commit) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        let noticed = Arc::clone(&lonely_commit);
        let connecting = async {
            let client = match tls {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tasks.spawn(drive(connection, noticed));
                    client
                }
                Some(tls) => {
                    let tls = MakeRustlsConnect::new(tls);
                    let (client, connection) = config.ssl_mode(SslMode::Require).connect(tls).await?;
                    tasks.spawn(drive(connection, noticed));
                    client
                }
            };
            // Less would hide that a commit stands without its standby.
            let settings = "SET client_min_messages = warning; SET statement_timeout";
            client.batch_execute(&format!("{settings} = {STATEMENT_IN_POSTGRES_MS}")).await?;
            Ok(client)
        };
        let client = match timeout(CONNECT, Box::pin(connecting)).await {
            Ok(Ok(client)) => client,
            Ok(Err(e)) => return Err(unreachable(cause_of(&e))),
            Err(_) => return Err(unreachable(format!("no answer within {CONNECT:?}"))),
        };
        Ok(Self { client, url: url.clone(), lonely_commit, _tasks: tasks })
    }

    /// The rows of one statement.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn rows(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        match timeout(STATEMENT, self.client.query_typed(sql, params)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(e)) => Err(self.failure(&e)),
            Err(_) => Err(self.unreachable(format!("no answer within {STATEMENT:?}"), REACH)),
        }
    }

    /// Begins a transaction whose commit is on Postgres' disk when it is said.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn begin(&self) -> Result<(), Failure> {
        // Whoever turned synchronous_commit off for this user meant other programs.
        // Its number is what is known again at the commit.
        let sql = "BEGIN ISOLATION LEVEL READ COMMITTED;
                   SELECT pg_current_xact_id();
                   SELECT set_config('synchronous_commit', 'on', true)
                   WHERE current_setting('synchronous_commit') = 'off'";
        self.simple(sql).await.map(drop)
    }

    /// Commits, and makes sure that it was one: of a failed transaction, or of none, Postgres answers COMMIT without an
    /// error.
    ///
    /// # Errors
    /// [`Failure`]; whether it took effect is unknown then.
    pub(crate) async fn commit(&self) -> Result<(), Failure> {
        let answers = self.simple("SELECT pg_current_xact_id_if_assigned(); COMMIT").await?;
        let ours = answers.iter().any(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0).is_some(),
            _ => false,
        });
        if !ours {
            return Err(self.trouble("the transaction was gone before its commit"));
        }
        if self.lonely_commit.load(Ordering::Relaxed) {
            return Err(self.trouble("the commit was answered before its standby had it"));
        }
        Ok(())
    }

    async fn simple(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Failure> {
        match timeout(STATEMENT, self.client.simple_query(sql)).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(e)) => Err(self.failure(&e)),
            Err(_) => Err(self.trouble(&format!("no answer within {STATEMENT:?}"))),
        }
    }

    /// Something is not as it should be there.
    pub(crate) fn trouble(&self, cause: &str) -> Failure {
        self.unreachable(cause.to_owned(), REACH)
    }

    fn failure(&self, error: &tokio_postgres::Error) -> Failure {
        let cause = cause_of(error);
        let Some(code) = error.code() else { return self.unreachable(cause, REACH) };
        if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
            let remedy =
                "its tables are made by the worker: start logweir-worker, or run logweir-worker migrate";
            self.unreachable(cause, remedy)
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            Failure::Usage(format!(
                "Postgres at {}: {cause}; use a user that may, such as the owner of the tables",
                self.url
            ))
        } else {
            self.unreachable(cause, "ask for less at a time, or see Postgres' log")
        }
    }

    fn unreachable(&self, cause: String, remedy: &'static str) -> Failure {
        Failure::Unreachable { what: "the counts in Postgres", url: self.url.clone(), cause, remedy }
    }
}

/// Reads from the server until it ends.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, lonely_commit: Arc<AtomicBool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: TlsStream + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            // Before the answer to a commit: the wait for its standby was cancelled, and it stands on this server alone.
            Ok(AsyncMessage::Notice(notice)) if notice.routine() == Some("SyncRepWaitForLSN") => {
                lonely_commit.store(true, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => return tracing::debug!(%error, "the connection to Postgres broke"),
        }
    }
}

/// The client's own text is little more than "db error": what happened stands in its sources.
fn cause_of(error: &tokio_postgres::Error) -> String {
    let mut text = match error.as_db_error() {
        Some(db) => return format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    };
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
