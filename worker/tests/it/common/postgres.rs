//! A private Postgres process, made by `initdb`, and gone with its folder when dropped.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub(crate) struct Postgres {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

/// How long anything may take that only needs a moment.
const SOON: Duration = Duration::from_secs(30);

impl Postgres {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
            std::os::unix::fs::chown(&data, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = as_user("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        let made = initdb.args(["--wal-segsize=1", "-D"]).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(&data, port);
        let postgres = Self { child, port, dir };
        postgres.ready().await;
        postgres
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// A file of the server's own, in its folder.
    pub(crate) fn put_file(&self, name: &str, text: &str) {
        let path = self.dir.path().join("data").join(name);
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// At once, without a word to its clients.
    pub(crate) fn kill(&mut self) {
        self.signal("-QUIT");
        self.child.wait().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.dir.path().join("data"), self.port);
        self.ready().await;
    }

    /// SIGSTOP to it and to all of its children.
    pub(crate) fn freeze(&self) {
        // First the one that makes children.
        self.signal("-STOP");
        self.signal_children("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal_children("-CONT");
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(kill(signal, self.child.id()));
    }

    fn signal_children(&self, signal: &str) {
        let parent = self.child.id().to_string();
        let is_child = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&parent))
        };
        let names = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child);
        for pid in pids {
            // One that has just ended is as good.
            let _gone = kill(signal, pid);
        }
    }

    async fn ready(&self) {
        let deadline = Instant::now() + SOON;
        while let Err(error) = self.try_connect().await {
            assert!(Instant::now() < deadline, "Postgres doesn't start: {error:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        // It ends when the client is dropped, or the runtime.
        #[expect(clippy::disallowed_methods, reason = "a test's connection ends with the test")]
        drop(tokio::spawn(connection));
        client.simple_query("SELECT 1").await?;
        Ok(client)
    }

    pub(crate) async fn connect(&self) -> Client {
        self.try_connect().await.unwrap()
    }

    /// Runs statements.
    pub(crate) async fn run(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.unwrap();
    }

    /// The rows of a query, their columns joined by spaces.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        let answers = self.connect().await.simple_query(sql).await.unwrap();
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                let columns: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
                Some(columns.join(" "))
            }
            _ => None,
        };
        answers.iter().filter_map(row).collect()
    }

    /// The same, of one row.
    pub(crate) async fn row(&self, sql: &str) -> String {
        self.rows(sql).await.join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed by SIGKILL it would leave its shared memory behind; frozen, it hears nothing.
        self.thaw_all();
        let _gone = kill("-QUIT", self.child.id());
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _killed = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Postgres {
    fn thaw_all(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal_children("-CONT");
            let _gone = kill("-CONT", self.child.id());
        }
    }
}

fn kill(signal: &str, pid: u32) -> bool {
    let mut kill = Command::new("kill");
    kill.args([signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}

fn spawn(data: &Path, port: u16) -> Child {
    let mut server = as_user("postgres");
    server.arg("-D").arg(data);
    for setting in [
        &format!("port={port}"),
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        "shared_buffers=16MB",
        "max_connections=40",
        "autovacuum=off",
        "timezone=Europe/Athens",
    ] {
        server.args(["-c", setting]);
    }
    server.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
}

/// Postgres refuses root: then an unprivileged user runs it.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    ["postgres", "nobody"].iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
        Some((ids.next()??, ids.next()??))
    })
}

fn as_user(program: &str) -> Command {
    let mut dirs: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        dirs.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let path = dirs.into_iter().map(|dir| dir.join(program)).find(|path| path.is_file());
    let mut command = Command::new(path.unwrap_or_else(|| panic!("{program} of Postgres is missing")));
    command.current_dir("/");
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}
