//! How long a thread has computed. Unlike the time of day this stands still while the thread has no turn: on a machine
//! that is busy with others, or while the whole process is stopped.

use rustix::thread::{Pid, gettid};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// Of Linux, wherever a program sees them.
const TICK: Duration = Duration::from_millis(10);

/// One thread's, from its [`start`](ThreadClock::start); others look at it.
#[derive(Debug, Default)]
pub(crate) struct ThreadClock(OnceLock<Start>);

#[derive(Debug)]
struct Start {
    thread: Pid,
    /// What it had computed before.
    computed: Option<Duration>,
    at: Instant,
}

impl ThreadClock {
    /// The calling thread is the one; later calls change nothing.
    pub(crate) fn start(&self) {
        self.0.get_or_init(|| {
            let thread = gettid();
            Start { thread, computed: computed(thread), at: Instant::now() }
        });
    }

    /// How long it has computed since its start: nothing before it. Where the system doesn't tell, it is the time
    /// that has passed.
    pub(crate) fn used(&self) -> Duration {
        let Some(Start { thread, computed: before, at }) = self.0.get() else { return Duration::ZERO };
        match before.zip(computed(*thread)) {
            Some((before, now)) => now.saturating_sub(before),
            None => at.elapsed(),
        }
    }
}

/// All that a thread of this process has ever computed (proc(5)): in nanoseconds, or where the kernel was built without
/// that, in ticks.
fn computed(thread: Pid) -> Option<Duration> {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/self/task/{}/{name}", thread.as_raw_nonzero())).ok()
    };
    let nanos = |text: String| text.split(' ').next()?.parse().ok().map(Duration::from_nanos);
    read("schedstat").and_then(nanos).or_else(|| read("stat").as_deref().and_then(of_stat))
}

/// The fields 14 and 15: in user and in kernel mode. The second one, the name, may hold anything.
fn of_stat(text: &str) -> Option<Duration> {
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK.saturating_mul(ticks()?.saturating_add(ticks()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn only_computing_counts() {
        let clock = Arc::new(ThreadClock::default());
        assert_eq!(clock.used(), Duration::ZERO);
        let ((computed, hear), (go_on, wait)) = (sync_channel(1), sync_channel::<()>(1));
        let of_thread = Arc::clone(&clock);
        let thread = std::thread::spawn(move || {
            of_thread.start();
            // As long as it takes by its own clock.
            while of_thread.used() < Duration::from_millis(30) {}
            computed.send(()).unwrap();
            wait.recv().unwrap();
        });
        hear.recv().unwrap();
        let (begun, before) = (Instant::now(), clock.used());
        assert!(before >= Duration::from_millis(30));
        std::thread::sleep(Duration::from_millis(200));
        let used = clock.used() - before;
        assert!(used < begun.elapsed() / 2, "{used:?} while it waits");
        go_on.send(()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 5 1 1 1";
        assert_eq!(of_stat(line), Some(Duration::from_millis(420)));
        assert_eq!(of_stat("7 (a) S 1"), None);
    }
}
