//! One process that was started here: how it ends, and what it used.

use crate::clock::until;
use crate::reaper;
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::ops::Sub;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How to start it.
#[derive(Debug)]
pub(crate) struct Spec {
    /// What it is called in messages and in its log's name.
    pub(crate) name: String,
    /// The executable.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// The user and group to run it as.
    pub(crate) user: Option<(u32, u32)>,
    /// What ends it; `None` is SIGKILL.
    pub(crate) farewell: Option<Signal>,
    /// The one core that it may use.
    pub(crate) core: Option<usize>,
}

/// The process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    farewell: Option<Signal>,
    ended: bool,
}

/// What a process and its children used since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// The most memory that the largest of them held, in bytes.
    pub(crate) peak_bytes: u64,
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All that is in memory just now.
    pub(crate) resident: u64,
    /// The most that it was.
    pub(crate) peak: u64,
    /// What isn't of a file: heap and stacks.
    pub(crate) own: u64,
    /// With its share only of what other processes have in memory too.
    pub(crate) proportional: u64,
}

/// One thread.
#[derive(Debug, Clone)]
pub(crate) struct Thread {
    /// As the system shows it.
    pub(crate) name: String,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// How often it waited for something, and so was woken.
    pub(crate) wakes: u64,
}

impl Sub for Usage {
    type Output = Duration;

    /// The time between two looks.
    fn sub(self, earlier: Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

impl Process {
    /// Starts it. stdout and stderr go to a file in `logs`.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start(spec: Spec, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{}.log", spec.name));
        let file = File::options().create(true).append(true).open(&log).context("a log file")?;
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).stdin(Stdio::null()).current_dir("/");
        command.stdout(file.try_clone()?).stderr(file);
        // What configures this program must not configure the services.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LOGWEIR_") {
                command.env_remove(name);
            }
        }
        if let Some((uid, gid)) = spec.user {
            command.uid(uid).gid(gid);
        }
        command.process_group(0);
        // A child inherits the cores of the thread that starts it.
        let mine = sched_getaffinity(None)?;
        if let Some(core) = spec.core {
            let mut one = CpuSet::new();
            one.set(core);
            sched_setaffinity(None, &one).context("choosing a core")?;
        }
        let child = command.spawn();
        sched_setaffinity(None, &mine).context("choosing cores")?;
        let child = child.with_context(|| spec.program.display().to_string())?;
        let process = Self { name: spec.name, log, child, farewell: spec.farewell, ended: false };
        reaper::say(&format!("group {}", process.child.id()))?;
        Ok(process)
    }

    /// # Errors
    /// When it has ended by itself: with the end of its log.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if self.ended {
            return Ok(());
        }
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(8).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            anyhow::bail!("{} ended by itself ({status}):\n{}", self.name, end.join("\n"));
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// When it hasn't within ten seconds.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM);
        let what = format!("{} ends", self.name);
        until(&what, Duration::from_secs(10), Duration::from_millis(5), async || {
            Ok(self.child.try_wait()?.is_some())
        })
        .await?;
        self.kill();
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.ended {
            return;
        }
        self.child.kill().ok();
        self.child.wait().ok();
        self.ended = true;
        // Where the shell has ended there is nobody left to tell.
        reaper::say(&format!("ended {}", self.child.id())).ok();
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        let id = self.child.id();
        let children = family(id);
        let of_children: Duration = children.iter().filter_map(|child| ticks(*child, 2)).sum();
        let all = children.iter().chain([&id]);
        Usage {
            cpu: ticks(id, 4).unwrap_or_default() + of_children,
            peak_bytes: all.filter_map(|member| peak_bytes(*member)).max().unwrap_or(0),
        }
    }

    /// The memory that it holds now.
    pub(crate) fn memory(&self) -> Memory {
        let read = |name: &str| {
            std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default()
        };
        let (status, rollup) = (read("status"), read("smaps_rollup"));
        Memory {
            resident: kib(&status, "VmRSS:"),
            peak: kib(&status, "VmHWM:"),
            own: kib(&status, "RssAnon:"),
            proportional: kib(&rollup, "Pss:"),
        }
    }

    /// What each of its threads has done since it was started.
    pub(crate) fn threads(&self) -> BTreeMap<u32, Thread> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let ids = tasks.into_iter().flatten().flatten();
        ids.filter_map(|entry| {
            let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).ok();
            let (schedstat, status) = (read("schedstat")?, read("status")?);
            let thread = Thread {
                name: read("comm")?.trim().to_owned(),
                cpu: Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?),
                wakes: value(&status, "voluntary_ctxt_switches:"),
            };
            Some((entry.file_name().to_str()?.parse().ok()?, thread))
        })
        .collect()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id
            && !self.ended
        {
            // One that has just ended needs no signal.
            kill_process(id, signal).ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(farewell) = self.farewell {
            self.signal(farewell);
            let deadline = Instant::now() + Duration::from_secs(3);
            while !self.ended && Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill();
    }
}

/// What this process itself has used.
pub(crate) fn own_usage() -> Usage {
    let id = std::process::id();
    Usage { cpu: ticks(id, 2).unwrap_or_default(), peak_bytes: peak_bytes(id).unwrap_or(0) }
}

/// This thread, and those that it will start, leave a core to others; where there is but one, they share it.
///
/// # Errors
/// The kernel's.
pub(crate) fn leave_core(core: usize) -> anyhow::Result<()> {
    let mut cores = sched_getaffinity(None)?;
    if cores.is_set(core) && cores.count() > 1 {
        cores.unset(core);
        sched_setaffinity(None, &cores).context("choosing cores")?;
    }
    Ok(())
}

/// What stands in `/proc/ID/stat` after the name in parentheses, which may hold anything.
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// CPU time: of the process (2 fields: user, system), and of the children that it has waited for (4 fields).
fn ticks(id: u32, fields: usize) -> Option<Duration> {
    let stat = stat(id)?;
    let ticks: u64 = stat.iter().skip(11).take(fields).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1)))
}

fn peak_bytes(id: u32) -> Option<u64> {
    Some(kib(&std::fs::read_to_string(format!("/proc/{id}/status")).ok()?, "VmHWM:"))
}

/// A line's number of kB, in bytes.
fn kib(text: &str, name: &str) -> u64 {
    value(text, name) * 1024
}

fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}

/// The children. Postgres' work is done by them.
fn family(id: u32) -> Vec<u32> {
    let parent = id.to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|other| stat(*other).is_some_and(|stat| stat.get(1) == Some(&parent)))
        .collect()
}
