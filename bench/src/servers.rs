//! A Redis and a Postgres for one run, as durable as the defaults ask for.

use crate::clock::until;
use crate::load::Cells;
use crate::place::{Place, free_address, installed};
use crate::process::{Process, Spec};
use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

const READY: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Redis with `appendfsync always`.
#[derive(Debug)]
pub(crate) struct Redis {
    /// Its process.
    pub(crate) process: Process,
    address: SocketAddr,
}

/// Postgres with its own defaults for durability, and what was set by `--postgres-setting`.
#[derive(Debug)]
pub(crate) struct Postgres {
    /// Its process.
    pub(crate) process: Process,
    address: SocketAddr,
}

/// A connection, closed when dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    /// For queries.
    pub(crate) client: Client,
    _driver: JoinSet<()>,
}

impl Redis {
    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub(crate) async fn start(place: &Place) -> anyhow::Result<Self> {
        let address = free_address()?;
        let data = place.folder("redis")?;
        let port = address.port().to_string();
        let mut args: Vec<std::ffi::OsString> = Vec::new();
        for (name, value) in [
            ("--port", port.as_str()),
            ("--bind", "127.0.0.1"),
            ("--save", ""),
            ("--appendonly", "yes"),
            ("--appendfsync", "always"),
            ("--auto-aof-rewrite-percentage", "0"),
            ("--maxmemory-policy", "noeviction"),
        ] {
            args.extend([name.into(), value.into()]);
        }
        args.extend(["--dir".into(), data.into()]);
        let program = installed("redis-server")?;
        let spec = Spec { name: "redis".to_owned(), program, args, user: None, farewell: None, core: None };
        let mut redis = Self { process: Process::start(spec, place.path())?, address };
        until("Redis answers", READY, PAUSE, async || {
            redis.process.check()?;
            Ok(redis.connect().await.is_ok())
        })
        .await?;
        Ok(redis)
    }

    /// For `--redis`.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// A connection with a deadline for each call.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub(crate) async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let mut connection =
            redis::Client::open(self.url())?.get_multiplexed_async_connection().await.context("Redis")?;
        connection.set_response_timeout(Duration::from_secs(20));
        Ok(connection)
    }

    /// Version and settings.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub(crate) async fn describe(&self) -> anyhow::Result<String> {
        let mut connection = self.connect().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default();
        let sync: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(&mut connection).await?;
        Ok(format!("{version}, {}", sync.join(" ")))
    }
}

/// Postgres refuses root; an unprivileged user runs it as himself.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse::<u32>().ok());
        Some((ids.next()??, ids.next()??))
    })
}

fn initdb(data: &Path, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    let mut initdb = Command::new(installed("initdb")?);
    initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]);
    initdb.arg(data).current_dir("/");
    if let Some((uid, gid)) = user {
        use std::os::unix::process::CommandExt as _;
        initdb.uid(uid).gid(gid);
    }
    let output = initdb.output().context("initdb")?;
    anyhow::ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Postgres {
    /// Starts an empty one, and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub(crate) async fn start(place: &Place) -> anyhow::Result<Self> {
        let address = free_address()?;
        let home = place.folder("postgres")?;
        let user = user();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&home, Some(uid), Some(gid))?;
        }
        let data = home.join("data");
        tokio::task::spawn_blocking({
            let data = data.clone();
            move || initdb(&data, user)
        })
        .await??;
        let mut settings = vec![
            format!("port={}", address.port()),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "timezone=UTC".to_owned(),
        ];
        settings.extend(place.postgres_settings.iter().cloned());
        let mut args = vec!["-D".into(), data.into()];
        for setting in settings {
            args.extend(["-c".into(), setting.into()]);
        }
        let spec = Spec {
            name: "postgres".to_owned(),
            program: installed("postgres")?,
            args,
            user,
            // A killed one leaves its shared memory behind.
            farewell: Some(Signal::QUIT),
            core: None,
        };
        let mut postgres = Self { process: Process::start(spec, place.path())?, address };
        until("Postgres answers", READY, PAUSE, async || {
            postgres.process.check()?;
            Ok(postgres.connect().await.is_ok())
        })
        .await?;
        Ok(postgres)
    }

    /// For `--postgres`.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    /// A connection.
    ///
    /// # Errors
    /// When it doesn't answer within some seconds.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let url = self.url();
        let connect = tokio_postgres::connect(&url, NoTls);
        let (client, connection) = tokio::time::timeout(Duration::from_secs(10), connect).await??;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The client hears of it.
            connection.await.ok();
        });
        Ok(Connection { client, _driver: driver })
    }

    /// Version and settings.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub(crate) async fn describe(&self) -> anyhow::Result<String> {
        let connection = self.connect().await?;
        let mut text = String::new();
        for (name, before) in [
            ("server_version", ""),
            ("fsync", ", fsync "),
            ("synchronous_commit", ", synchronous_commit "),
            ("shared_buffers", ", shared_buffers "),
            ("autovacuum", ", autovacuum "),
        ] {
            let row = connection.client.query_one(&format!("SHOW {name}"), &[]).await?;
            text += before;
            text += row.get(0);
        }
        Ok(text)
    }
}

impl Connection {
    /// How many events are counted, by the ledger: it has few rows, so that asking often costs little.
    ///
    /// # Errors
    /// Postgres' own.
    pub(crate) async fn counted(&self) -> anyhow::Result<u64> {
        let query =
            "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM batch_ledger, unnest(applied) r";
        Ok(u64::try_from(self.client.query_one(query, &[]).await?.get::<_, i64>(0))?)
    }

    /// What is counted, by minute, service and level.
    ///
    /// # Errors
    /// Postgres' own.
    pub(crate) async fn cells(&self) -> anyhow::Result<Cells> {
        let query = "SELECT extract(epoch FROM bucket)::bigint / 60, service, level, count FROM log_counts";
        let rows = self.client.query(query, &[]).await?;
        rows.iter()
            .map(|row| Ok(((row.get(0), row.get(1), row.get(2)), u64::try_from(row.get::<_, i64>(3))?)))
            .collect()
    }

    /// Forgets what was counted, so that the same batches count again.
    ///
    /// # Errors
    /// Postgres' own.
    pub(crate) async fn forget(&self) -> anyhow::Result<()> {
        self.client
            .batch_execute("TRUNCATE log_counts, batch_ledger, losses; SELECT pg_stat_reset()")
            .await?;
        // So that no row pays for the writes of the one before.
        self.client.batch_execute("CHECKPOINT").await?;
        Ok(())
    }
}
