//! The agent's binary with a state directory of its own.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long anything may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A user and a group who own nothing.
const NOBODY: u32 = 65_534;

/// A folder with the state directory and what is tailed.
pub(crate) struct Place(TempDir);

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// What it printed on stdout.
    pub(crate) out: String,
    pub(crate) log: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file of these lines, as text with a time.
    pub(crate) fn lines(&self, name: &str, messages: &[String]) -> String {
        let lines: String =
            messages.iter().map(|message| format!("2026-11-24T10:00:00Z INFO {message}\n")).collect();
        std::fs::write(self.path(name), lines).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Adds lines of the same form to a file.
    pub(crate) fn append(&self, name: &str, messages: &[String]) {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path(name)).unwrap();
        for message in messages {
            writeln!(file, "2026-11-24T10:00:00Z INFO {message}").unwrap();
        }
    }

    pub(crate) fn start(&self, collector: &str, args: &[&str]) -> Child {
        self.start_with(collector, args, &[])
    }

    /// With this on its stdin, which it reads.
    pub(crate) fn start_reading(&self, collector: &str, args: &[&str], stdin: std::io::PipeReader) -> Child {
        let (state, mut command) = (self.path("state"), Command::new(env!("CARGO_BIN_EXE_logweir-agent")));
        let first = ["--collector", collector, "--timezone", "UTC", "--state-dir", state.to_str().unwrap()];
        spawned(command.args(first).args(args).arg("-").env_clear().stdin(stdin))
    }

    /// With these variables, and no others.
    pub(crate) fn start_with(&self, collector: &str, args: &[&str], environment: &[(&str, &str)]) -> Child {
        let state = self.path("state");
        let first = ["--collector", collector, "--timezone", "UTC", "--state-dir", state.to_str().unwrap()];
        Self::spawned(&[&first, args].concat(), environment)
    }

    /// As somebody who isn't root, whoever runs the tests. The state directory is theirs.
    pub(crate) fn start_unprivileged(&self, collector: &str, args: &[&str]) -> Child {
        let (state, program) = (self.path("state"), self.path("logweir-agent"));
        // Others may not enter every folder that a checkout can be in.
        std::fs::copy(env!("CARGO_BIN_EXE_logweir-agent"), &program).unwrap();
        let mut command = Command::new(program);
        if std::fs::metadata(self.0.path()).unwrap().uid() == 0 {
            std::fs::set_permissions(self.0.path(), Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let first = ["--collector", collector, "--timezone", "UTC", "--state-dir", state.to_str().unwrap()];
        spawned(command.args(first).args(args).env_clear())
    }

    /// With these arguments, and no others.
    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        Self::spawned(args, &[])
    }

    pub(crate) async fn command(&self, args: &[&str]) -> Ended {
        ended(self.spawn(args)).await
    }

    fn spawned(args: &[&str], environment: &[(&str, &str)]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logweir-agent"));
        spawned(command.args(args).env_clear().envs(environment.iter().copied()).stdin(Stdio::null()))
    }

    pub(crate) async fn run(&self, collector: &str, args: &[&str]) -> Ended {
        ended(self.start(collector, args)).await
    }
}

fn spawned(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// Waits for its end.
pub(crate) async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), out: text(&output.stdout), log: text(&output.stderr) }
}

/// Sends SIGTERM.
pub(crate) async fn terminate(child: &Child) {
    signal(child, "-TERM").await;
}

/// Sends SIGHUP.
pub(crate) async fn hang_up(child: &Child) {
    signal(child, "-HUP").await;
}

async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
}

/// Waits until this holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "not within {LIMIT:?}: {what}");
}

pub(crate) fn messages(n: std::ops::Range<u32>) -> Vec<String> {
    n.map(|n| format!("line {n:06}")).collect()
}

/// An address of this machine that nobody listens at.
pub(crate) fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Asks the admin address: status and body.
pub(crate) async fn get(admin: &str, path: &str) -> (u16, String) {
    // Another test may have been faster.
    drop(rustls::crypto::ring::default_provider().install_default());
    let answer = reqwest::get(format!("http://{admin}{path}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
