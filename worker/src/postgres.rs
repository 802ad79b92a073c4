//! Connections to Postgres that can't hang.
//!
//! A frozen server (SIGSTOP, a dead host) neither closes the connection nor lets its own timeouts fire, so everything
//! is wrapped in a deadline of ours; after one, the connection is dropped and the outcome is taken as unknown.
//! On the server's side, statement, lock and idle timeouts free the locks of a worker that is gone.

use crate::failure::{Failure, Trouble, What};
use logweir_telemetry::postgres::{PostgresAccess, Route};
use logweir_telemetry::redact::SecretUrl;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long connecting may take, with the first words on it.
const CONNECT: Duration = Duration::from_secs(5);

/// Where Postgres is, and how long a transaction may take.
#[derive(Clone)]
pub(crate) struct Database {
    config: Config,
    route: Route,
    deadline: Duration,
    sync_standby: bool,
}

/// An open connection; closed when dropped.
pub(crate) struct Connection {
    client: Client,
    driver: Driver,
}

/// What reads from the server; dropping it closes the connection.
struct Driver {
    /// A commit was answered without its standby.
    lonely_commit: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Database {
    /// Reads the URL; connects to nothing.
    ///
    /// # Errors
    /// A sentence without the URL, which may bear a password.
    pub(crate) fn new(url: &SecretUrl, access: &PostgresAccess, deadline: Duration) -> Result<Self, String> {
        let route = Route::new(url, access).map_err(|why| format!("--postgres: {why}"))?;
        let mut config: Config = route.url().parse().map_err(|error| {
            format!(
                "--postgres must be postgres://[user:password@]host[:port]/database[?sslmode=verify-full]: {}",
                crate::failure::explain(&error)
            )
        })?;
        if access.postgres_password_file.is_some() && config.get_password().is_some() {
            return Err(
                "there is a password in the URL of --postgres, and a --postgres-password-file: give one"
                    .to_owned(),
            );
        }
        config
            .connect_timeout(CONNECT)
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(deadline);
        if config.get_application_name().is_none() {
            config.application_name("logweir-worker");
        }
        Ok(Self { config, route, deadline, sync_standby: false })
    }

    /// Whether each connection must have commits that wait for a standby.
    pub(crate) fn insist_on_sync_standby(mut self, insist: bool) -> Self {
        self.sync_standby = insist;
        self
    }

    /// How long a transaction may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A new connection, with its timeouts set.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let connecting = Box::pin(async {
            let (client, driver) = self.open().await?;
            client.batch_execute(&self.settings()).await?;
            if self.sync_standby {
                commits_wait_for_a_standby(&client).await?;
            }
            Ok(Connection { client, driver })
        });
        within(CONNECT, "to connect", connecting).await
    }

    async fn open(&self) -> Result<(Client, Driver), Failure> {
        // A person must mend a file, as with a missing right.
        let unusable = |why: String| Trouble::new(What::Access, why);
        let mut config = self.config.clone();
        if let Some(password) = self.route.password().map_err(unusable)? {
            config.password(password);
        }
        let Some(tls) = self.route.tls().map_err(unusable)? else {
            let (client, connection) = config.connect(NoTls).await?;
            return Ok((client, Driver::of(connection)));
        };
        let (client, connection) =
            config.ssl_mode(SslMode::Require).connect(MakeRustlsConnect::new(tls)).await?;
        Ok((client, Driver::of(connection)))
    }

    fn settings(&self) -> String {
        let deadline = self.deadline.as_millis().max(2);
        // Warnings are logged; notices, such as that a table exists already, are no news.
        // A server that can look whether its client still lives (Linux) frees the locks of a killed worker in seconds.
        // Whoever turned synchronous_commit off for this user meant other programs: what is acknowledged must stay.
        format!(
            "SET client_min_messages = warning;
             SET TIME ZONE 'UTC';
             SET statement_timeout = {deadline};
             SET idle_in_transaction_session_timeout = {deadline};
             SET lock_timeout = {};
             SET default_transaction_isolation = 'read committed';
             SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') = 'off';
             DO $$ BEGIN
               PERFORM set_config('client_connection_check_interval', '2s', false);
             EXCEPTION WHEN others THEN NULL;
             END $$",
            deadline / 2
        )
    }
}

impl Connection {
    /// Whether since the last question a commit was answered though its standby had not confirmed it: that wait was
    /// cancelled, and the commit stands on this server alone.
    pub(crate) fn lonely_commit(&self) -> bool {
        self.driver.lonely_commit.swap(false, Ordering::Relaxed)
    }
}

impl Driver {
    fn of<S, T>(mut connection: tokio_postgres::Connection<S, T>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: TlsStream + Unpin + Send + 'static,
    {
        let (lonely_commit, mut task) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let noticed = Arc::clone(&lonely_commit);
        task.spawn(async move {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    // It comes before the answer that it concerns, so whoever gets that finds this. Postgres' own name
                    // of the place is the same in every language.
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        let lonely = notice.routine() == Some("SyncRepWaitForLSN");
                        noticed.fetch_or(lonely, Ordering::Relaxed);
                        // Only warnings come, as `settings` asks for no less.
                        tracing::warn!(code = notice.code().code(), "Postgres: {}", notice.message());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        // Whoever uses the client hears of it too.
                        let error = crate::failure::explain(&error);
                        return tracing::debug!(%error, "a connection to Postgres ended");
                    }
                    None => return,
                }
            }
        });
        Self { lonely_commit, _task: task }
    }
}

/// What `--postgres-sync-standby` insists on. Whether the standby is there, each commit sees by itself.
async fn commits_wait_for_a_standby(client: &Client) -> Result<(), Failure> {
    let settings =
        "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')";
    let row = client.query_one(settings, &[]).await?;
    let (names, commit): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let wrong = if names.trim().is_empty() {
        "synchronous_standby_names is not set, so commits wait for no standby: set it in the configuration of Postgres \
         to the application_name of the standby, such as 'FIRST 1 (standby1)', and reload that"
            .to_owned()
    } else if !["on", "remote_apply"].contains(&commit.as_str()) {
        format!(
            "synchronous_commit is {commit} for this user, so commits don't wait for the standby's disk: set it to on, by \
             ALTER ROLE … SET synchronous_commit = on"
        )
    } else {
        return Ok(());
    };
    // A person must mend it, as with a missing right.
    Err(Trouble::new(What::Access, format!("--postgres-sync-standby: {wrong}")).into())
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Runs something that asks Postgres, for at most `deadline`. Drop the connection after a timeout. An answer that comes
/// later is none: where commits wait for a standby, one that has waited too long for it is answered without it.
pub(crate) async fn within<T>(
    deadline: Duration,
    what: &str,
    asking: impl Future<Output = Result<T, Failure>> + Send,
) -> Result<T, Failure> {
    let begun = Instant::now();
    match timeout(deadline, asking).await {
        // A worker that stood still meanwhile finds the answer and the end of its time at once.
        Ok(answer) if answer.is_err() || begun.elapsed() < deadline => answer,
        _ => {
            Err(Trouble::new(What::Timeout, format!("Postgres took longer than {deadline:?} {what}")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As when the process stood still: both the answer and the end of the time are there when it goes on.
    #[tokio::test]
    async fn a_success_that_comes_too_late_is_none() {
        let limit = Duration::from_millis(20);
        let late = async {
            std::thread::sleep(limit * 2);
            Ok(())
        };
        let answer = within(limit, "to answer", late).await;
        assert!(matches!(&answer, Err(Failure::World(t)) if t.what == What::Timeout), "{answer:?}");
        within(limit * 1_000, "to answer", async { Ok(()) }).await.unwrap();
        let failed = async {
            std::thread::sleep(limit * 2);
            Err::<(), _>(Failure::Batch("its own".to_owned()))
        };
        assert_eq!(within(limit, "to answer", failed).await, Err(Failure::Batch("its own".to_owned())));
    }
}
