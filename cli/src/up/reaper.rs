//! Ends the processes when `up` itself could not: it was killed, or panicked.
//!
//! A shell holds one end of a pipe, and is told of each process that was started and has ended. When the pipe
//! closes, however that came, it ends what is left: politely first, as each process likes it, then by force.
//! It also holds the data directory's lock until then, so that nobody starts a second Redis on the same files.

use rustix::process::Signal;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Lines on stdin: `started PID SIGNAL` and `ended PID`. A process that was paused is woken up to hear the signal.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
alive=
while read -r what pid signal; do
  case $what in
    started) alive="$alive $pid:$signal" ;;
    ended)
      rest=
      for one in $alive; do [ "${one%%:*}" = "$pid" ] || rest="$rest $one"; done
      alive=$rest ;;
  esac
done
for one in $alive; do
  kill -s "${one##*:}" "${one%%:*}"
  kill -s CONT "${one%%:*}"
done
tries=0
while [ "$tries" -lt 50 ]; do
  left=
  for one in $alive; do kill -0 "${one%%:*}" && left=yes; done
  [ -n "$left" ] || break
  sleep 0.1
  tries=$((tries + 1))
done
for one in $alive; do kill -s KILL -- "-${one%%:*}"; done
"#;

/// The shell.
pub(super) struct Reaper {
    pipe: Option<ChildStdin>,
    shell: Child,
}

impl Reaper {
    pub(super) fn start(lock: File) -> std::io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            // It says nothing there: this is how it holds the lock.
            .stdout(lock)
            .stderr(Stdio::null())
            .current_dir("/")
            // A terminal's ^C goes to the foreground group.
            .process_group(0)
            .spawn()?;
        Ok(Self { pipe: shell.stdin.take(), shell })
    }

    pub(super) fn started(&mut self, pid: u32, ends_on: Signal) {
        let name = match ends_on {
            Signal::INT => "INT",
            _ => "TERM",
        };
        self.tell(&format!("started {pid} {name}\n"));
    }

    pub(super) fn ended(&mut self, pid: u32) {
        self.tell(&format!("ended {pid}\n"));
    }

    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = pipe.write_all(line.as_bytes())
        {
            tracing::warn!(%error, "nobody is left who would end the processes if this one were killed");
            self.pipe = None;
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.pipe = None;
        // It ends by itself when its pipe is closed.
        self.shell.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").process_group(0).spawn().unwrap()
    }

    #[test]
    fn what_has_not_ended_is_ended() {
        let file = tempfile::tempfile().unwrap();
        let mut reaper = Reaper::start(file).unwrap();
        let (mut one, mut two) = (sleeper(), sleeper());
        reaper.started(one.id(), Signal::TERM);
        reaper.started(two.id(), Signal::INT);
        reaper.ended(two.id());
        // Not here: it waits until somebody has asked how they ended.
        let ending = std::thread::spawn(move || drop(reaper));
        let deadline = Instant::now() + Duration::from_secs(10);
        while one.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
        ending.join().unwrap();
        assert!(two.try_wait().unwrap().is_none(), "it was told to leave this one alone");
        two.kill().unwrap();
        two.wait().unwrap();
    }
}
