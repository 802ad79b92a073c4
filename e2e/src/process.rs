//! One process with its children, which can be killed, paused and started again.

use crate::reaper;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How to start it, each time.
#[derive(Debug)]
pub struct Spec {
    /// What it is called in messages and in its log's name.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The user and group to run it as.
    pub user: Option<(u32, u32)>,
    /// Its stdin; nothing when there is none.
    pub stdin: Option<OwnedFd>,
    /// Sent to it alone before it is killed at the very end, so that it tidies up.
    pub farewell: Option<Signal>,
}

impl Spec {
    /// As this user, and with nothing on stdin.
    pub fn new<I: IntoIterator<Item: Into<OsString>>>(name: &str, program: PathBuf, args: I) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { name: name.to_owned(), program, args, user: None, stdin: None, farewell: None }
    }
}

/// The process, alive or dead.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    log: PathBuf,
    child: Option<Child>,
    kills: u32,
}

impl Process {
    /// Not started yet. stdout and stderr are appended to a file in `logs`.
    #[must_use]
    pub fn new(spec: Spec, logs: &Path) -> Self {
        let log = logs.join(format!("{}.log", spec.name));
        Self { spec, log, child: None, kills: 0 }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The executable.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.spec.program
    }

    /// How often it was killed.
    #[must_use]
    pub fn kills(&self) -> u32 {
        self.kills
    }

    /// Its ID.
    ///
    /// # Panics
    /// When it doesn't run.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} doesn't run", self.name())).id()
    }

    /// Whether it was started, and not ended by us.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it, unless it runs already.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(&mut self) {
        if self.child.is_some() {
            return;
        }
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let stdin = match &self.spec.stdin {
            Some(fd) => Stdio::from(fd.try_clone().expect("a copy of the pipe's end")),
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.spec.program);
        command.args(&self.spec.args).stdin(stdin).current_dir("/");
        command.stdout(log.try_clone().expect("a copy of the log's descriptor")).stderr(log);
        // What configures this test run must not configure the services.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LOGWEIR_") {
                command.env_remove(name);
            }
        }
        if let Some((uid, gid)) = self.spec.user {
            command.uid(uid).gid(gid);
        }
        let child = command
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.spec.program.display()));
        reaper::group_started(child.id());
        self.child = Some(child);
    }

    fn signal(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        // What stands still can't fork while we look for its children.
        let _gone = kill_process(pid(child.id()), Signal::STOP);
        for member in family(child.id()) {
            // One that has just ended is no fault of the caller's.
            let _gone = kill_process(pid(member), signal);
        }
        if !matches!(signal, Signal::STOP | Signal::KILL) {
            let _gone = kill_process(pid(child.id()), Signal::CONT);
        }
    }

    /// SIGKILL to it and its children; waits until none is left.
    ///
    /// # Panics
    /// When it had ended by itself before.
    pub fn kill(&mut self) {
        self.assert_healthy();
        if self.child.is_some() {
            self.kills += 1;
            self.end();
        }
    }

    fn end(&mut self) {
        let Some(child) = &self.child else { return };
        let _gone = kill_process(pid(child.id()), Signal::STOP);
        let family = family(child.id());
        for member in &family {
            let _gone = kill_process(pid(*member), Signal::KILL);
        }
        let Some(mut child) = self.child.take() else { return };
        let _status = child.wait();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && family.iter().any(|member| lives(*member)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        reaper::group_ended(child.id());
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM; answers how it ended.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended_within(limit).await
    }

    /// Waits until it ends by itself; answers how.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub async fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            let child = self.child.as_mut().unwrap_or_else(|| panic!("{} doesn't run", self.spec.name));
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                self.end();
                return status;
            }
            assert!(
                start.elapsed() < limit,
                "{} has not ended within {limit:?}; its log: {}",
                self.name(),
                self.log.display()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends it for good, as a test ends: nobody asks how.
    pub fn stop_now(&mut self) {
        if let (Some(farewell), Some(child)) = (self.spec.farewell, &mut self.child) {
            let _gone = kill_process(pid(child.id()), farewell);
            let _gone = kill_process(pid(child.id()), Signal::CONT);
            let deadline = Instant::now() + Duration::from_secs(2);
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.end();
    }

    /// # Panics
    /// When it has ended although nobody killed it.
    pub fn assert_healthy(&mut self) {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().expect("a child can be asked")
        {
            panic!("{} ended by itself ({status}); its log: {}", self.spec.name, self.log.display());
        }
    }

    /// The most memory that it ever held, in bytes.
    ///
    /// # Panics
    /// When it doesn't run.
    #[must_use]
    pub fn peak_rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number of kB");
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop_now();
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process IDs are positive")).expect("and not 0")
}

/// State and parent of a process; `None` when it is gone.
fn stat(id: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // After the name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// Neither gone nor a zombie that nobody has waited for.
fn lives(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// A process and its children. Postgres' are in sessions of their own, so that its group isn't all of it.
fn family(id: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = ids.filter(|other| stat(*other).is_some_and(|(_, parent)| parent == id));
    std::iter::once(id).chain(children).collect()
}
