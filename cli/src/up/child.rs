//! One process: started with its log, asked to end, made to end.

use super::plan::{Role, Spec};
use super::reaper::Reaper;
use crate::failure::Failure;
use anyhow::Context as _;
use logweir_telemetry::exit::Exit;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child as Process, Command};
use tokio::time::timeout;

/// How much of a log an error shows.
const TAIL_BYTES: u64 = 4_096;
const TAIL_LINES: usize = 12;

/// A process that was started.
///
/// Dropping it doesn't kill it: the reaper ends it as it likes to be ended, which a kill would not.
pub(super) struct Child {
    pub(super) spec: Spec,
    log: PathBuf,
    process: Process,
    pid: Pid,
}

impl Child {
    pub(super) fn spawn(spec: Spec, logs: &Path, reaper: &mut Reaper) -> anyhow::Result<Self> {
        let path = logs.join(format!("{}.log", spec.name));
        if path.exists() {
            std::fs::rename(&path, path.with_extension("log.old"))?;
        }
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("can't write {}", path.display()))?;
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A terminal's ^C is for us: we stop the others in order.
        command.process_group(0);
        // What is meant for us would mean something else to them.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LOGWEIR_"))
        {
            command.env_remove(name);
        }
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        if let Some((uid, gid)) = spec.user {
            command.uid(uid).gid(gid);
        }
        if let Some(folder) = &spec.folder {
            command.current_dir(folder);
        }
        let process = command.spawn().with_context(|| format!("can't start {}", spec.program.display()))?;
        let pid = process.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).context("it has no ID")?;
        reaper.started(number(pid), spec.role.ends_on());
        tracing::debug!(name = spec.name, pid = number(pid), program = %spec.program.display(), "started");
        Ok(Self { spec, log: path, process, pid })
    }

    pub(super) fn pid(&self) -> u32 {
        number(self.pid)
    }

    /// How it ended, if it has.
    fn status(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Fails when it has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.status() {
            Some(status) => Err(self.ended(status)),
            None => Ok(()),
        }
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        let (name, log) = (&self.spec.name, self.log.display());
        let tail = self.log_tail();
        let text = format!("{name} has ended by itself ({status}); its log {log} ends with:\n{tail}");
        // Where a program is told something wrong by --collector-arg and the like, so are we.
        if status.code() == Some(i32::from(Exit::Usage.code())) {
            return Failure::Usage(text).into();
        }
        anyhow::anyhow!(text)
    }

    /// The last lines of its log, or that there is none.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|e| format!("  (can't be read: {e})"))
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until something that ends by itself has done so, and well.
    pub(super) async fn done(&mut self, reaper: &mut Reaper) -> anyhow::Result<()> {
        let status = self.process.wait().await?;
        reaper.ended(self.pid());
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            // It may end at this moment.
            kill_process(self.pid, signal).ok();
        }
    }

    /// Asks it to end, and kills it with its children when it doesn't.
    pub(super) async fn stop(&mut self) {
        let role = self.spec.role;
        self.signal(role.ends_on());
        // It may be paused.
        self.signal(Signal::CONT);
        if timeout(role.patience(), self.process.wait()).await.is_err() {
            tracing::warn!(name = self.spec.name, "doesn't end within {:?}; killed", role.patience());
            kill_process_group(self.pid, Signal::KILL).ok();
            self.process.wait().await.ok();
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    Ok(last
        .iter()
        .map(|line| format!("  {}\n", crate::output::printable(line)))
        .collect::<String>()
        .trim_end()
        .to_owned())
}

impl Role {
    /// Whether it ends by itself.
    pub(super) const fn is_setup(self) -> bool {
        matches!(self, Role::Setup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn shell(script: &str, role: Role) -> Spec {
        Spec::new("it", role, "sh".into()).arg("-c").arg(script)
    }

    fn reaper() -> Reaper {
        Reaper::start(tempfile::tempfile().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_shows_its_log() {
        let logs = tempfile::tempdir().unwrap();
        let mut reaper = reaper();
        let spec = shell("echo the disk is full; exit 3", Role::Worker);
        let mut child = Child::spawn(spec, logs.path(), &mut reaper).unwrap();
        child.process.wait().await.unwrap();
        let error = child.check().unwrap_err().to_string();
        assert!(
            error.contains("it has ended") && error.contains("3") && error.contains("disk is full"),
            "{error}"
        );
        reaper.ended(child.pid());
    }

    #[tokio::test]
    async fn a_paused_one_stops_at_once() {
        let logs = tempfile::tempdir().unwrap();
        let mut reaper = reaper();
        let spec = shell("trap 'exit 0' TERM; while :; do sleep 0.05; done", Role::Worker);
        let mut child = Child::spawn(spec, logs.path(), &mut reaper).unwrap();
        child.check().unwrap();
        child.signal(Signal::STOP);
        let start = Instant::now();
        child.stop().await;
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(child.status().is_some());
        reaper.ended(child.pid());
    }

    #[test]
    fn a_tail_is_short() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        let tail = tail(file.path()).unwrap();
        assert_eq!(tail.lines().count(), TAIL_LINES);
        assert!(tail.ends_with("  line 4999"), "{tail}");
    }
}
