//! Connections to Postgres that can't hang.
//!
//! A frozen server (SIGSTOP, a dead host) neither closes the connection nor lets its own timeouts fire, so everything
//! is wrapped in a deadline of ours; after one, the connection is dropped and the outcome is taken as unknown.
//! On the server's side, statement, lock and idle timeouts free the locks of a worker that is gone.

use crate::failure::{Failure, Trouble, What};
use logweir_telemetry::redact::SecretUrl;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

/// How long connecting may take, with the first words on it.
const CONNECT: Duration = Duration::from_secs(5);

/// Where Postgres is, and how long a transaction may take.
#[derive(Clone)]
pub(crate) struct Database {
    config: Config,
    deadline: Duration,
    sync_standby: bool,
}

/// An open connection; closed when dropped.
pub(crate) struct Connection {
    client: Client,
    _driver: JoinSet<()>,
}

impl Database {
    /// Reads the URL; connects to nothing.
    ///
    /// # Errors
    /// A sentence without the URL, which may bear a password.
    pub(crate) fn new(url: &SecretUrl, deadline: Duration) -> Result<Self, String> {
        let mut config: Config = url.expose().parse().map_err(|error| {
            format!(
                "--postgres must be postgres://[user:password@]host[:port]/database: {}",
                crate::failure::explain(&error)
            )
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err("--postgres asks for TLS (sslmode=require), which this worker doesn't speak: reach Postgres over \
                        a private network, or through a proxy on this machine that does, and leave sslmode away"
                .to_owned());
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
        Ok(Self { config, deadline, sync_standby: false })
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
            let (client, connection) = self.config.connect(NoTls).await?;
            let mut driver = JoinSet::new();
            driver.spawn(async move {
                if let Err(error) = connection.await {
                    // Whoever uses the client hears of it too.
                    tracing::debug!(error = %crate::failure::explain(&error), "a connection to Postgres ended");
                }
            });
            client.batch_execute(&self.settings()).await?;
            if self.sync_standby {
                commits_wait_for_a_standby(&client).await?;
            }
            Ok(Connection { client, _driver: driver })
        });
        within(CONNECT, "to connect", connecting).await
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

/// Runs something that asks Postgres, for at most `deadline`. Drop the connection after a timeout.
pub(crate) async fn within<T>(
    deadline: Duration,
    what: &str,
    asking: impl Future<Output = Result<T, Failure>> + Send,
) -> Result<T, Failure> {
    timeout(deadline, asking).await.unwrap_or_else(|_| {
        Err(Trouble::new(What::Timeout, format!("Postgres took longer than {deadline:?} {what}")).into())
    })
}
