//! A private Postgres. `initdb` runs once per test process, and each server gets a copy of what it made.
//!
//! The server runs with `fsync=off`: see the crate's limits.

use crate::bins::postgres_bin;
use crate::ports::free_port;
use crate::process::{Process, Spec};
use crate::truth::{Cell, Cells};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// How long one query of the harness may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// The server.
#[derive(Debug)]
pub struct Postgres {
    /// Its process group: killing it kills the backends too.
    pub process: Process,
    /// How to ask it.
    pub database: Database,
}

/// How to reach it, whether it lives or not.
#[derive(Debug, Clone)]
pub struct Database {
    port: u16,
}

/// A connection, closed when dropped.
#[derive(Debug)]
pub struct Connection {
    /// For queries.
    pub client: Client,
    _driver: JoinSet<()>,
}

/// Postgres refuses root; an unprivileged user runs it as himself.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    ["postgres", "nobody"].iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse::<u32>().ok());
        Some((ids.next()??, ids.next()??))
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn own(dir: &Path) {
    std::fs::create_dir_all(dir).expect("Postgres' folder");
    if let Some((uid, gid)) = user() {
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).expect("root may give a folder away");
    }
}

fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = crate::stack::private_dir("template").keep();
        crate::reaper::remove_at_end(&dir);
        own(&dir);
        let data = dir.join("data");
        let mut initdb = Command::new(postgres_bin("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--wal-segsize=1", "-D"]).arg(&data).current_dir("/");
        if let Some((uid, gid)) = user() {
            use std::os::unix::process::CommandExt as _;
            initdb.uid(uid).gid(gid);
        }
        run(&mut initdb);
        data
    })
}

impl Postgres {
    /// An empty database; not started yet.
    ///
    /// # Panics
    /// When the files can't be made.
    #[must_use]
    pub fn new(dir: &Path, logs: &Path) -> Self {
        let port = free_port();
        let home = dir.join("postgres");
        own(&home);
        let data = home.join("data");
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template()).arg(&data));
        let mut args = vec!["-D".to_owned(), data.to_str().expect("UTF-8").to_owned()];
        for setting in [
            &format!("port={port}"),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "autovacuum=off",
            "shared_buffers=16MB",
            "max_connections=60",
            "max_wal_size=64MB",
            "min_wal_size=2MB",
            "wal_level=minimal",
            "max_wal_senders=0",
            "timezone=UTC",
        ] {
            args.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let mut spec = Spec::new("postgres", postgres_bin("postgres"), args);
        spec.user = user();
        // A killed one leaves its System V shared memory behind.
        spec.farewell = Some(rustix::process::Signal::QUIT);
        Self { process: Process::new(spec, logs), database: Database { port } }
    }
}

impl Database {
    /// For `--postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection, or why not.
    ///
    /// # Errors
    /// Postgres' own; none within ten seconds counts as one.
    pub async fn connect(&self) -> Result<Connection, String> {
        let url = self.url();
        let connect = tokio_postgres::connect(&url, NoTls);
        let (client, connection) =
            tokio::time::timeout(QUERY_LIMIT, connect).await.map_err(|e| e.to_string())?.map_err(text)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The client hears of it.
            let _broken = connection.await;
        });
        Ok(Connection { client, _driver: driver })
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it doesn't.
    pub async fn ready(&self) {
        crate::eventually("Postgres answers", Duration::from_secs(30), || async {
            let Ok(connection) = self.connect().await else { return false };
            connection.client.simple_query("SELECT 1").await.is_ok()
        })
        .await;
    }

    /// What is counted. No table yet is no count yet.
    ///
    /// # Errors
    /// Postgres' own.
    pub async fn counts(&self) -> Result<Cells, String> {
        let query = async {
            let connection = self.connect().await?;
            let exists = connection.client.query_one("SELECT to_regclass('log_counts') IS NOT NULL", &[]);
            if !exists.await.map_err(text)?.get::<_, bool>(0) {
                return Ok(Cells::new());
            }
            let rows = connection
                .client
                .query(
                    "SELECT extract(epoch FROM bucket)::bigint, service, level, count FROM log_counts",
                    &[],
                )
                .await
                .map_err(text)?;
            Ok(rows
                .iter()
                .map(|row| {
                    let cell =
                        Cell { minute: row.get::<_, i64>(0) / 60, service: row.get(1), level: row.get(2) };
                    (cell, u64::try_from(row.get::<_, i64>(3)).expect("a count is not negative"))
                })
                .collect())
        };
        tokio::time::timeout(QUERY_LIMIT, query).await.map_err(|e| e.to_string())?
    }

    /// The rows of `losses` as text; no table yet is no row yet.
    ///
    /// # Errors
    /// Postgres' own.
    pub async fn losses(&self) -> Result<Vec<String>, String> {
        let connection = self.connect().await?;
        let exists = connection.client.query_one("SELECT to_regclass('losses') IS NOT NULL", &[]);
        if !exists.await.map_err(text)?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let rows =
            connection.client.query("SELECT row_to_json(l)::text FROM losses l", &[]).await.map_err(text)?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.to_string(),
        None => error.to_string(),
    }
}
