//! Files that the real logrotate rotates.

use crate::collector::Collector;
use crate::process::{Place, messages, terminate, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::Child;

/// How each line begins.
const LINE: &str = "2026-11-24T10:00:00Z INFO ";

/// An application that writes as fast as its disk takes it, a few lines at a time, and opens its log again when it is
/// told to.
pub(crate) struct Writer {
    written: Arc<AtomicU32>,
    /// Held while it writes.
    pause: Arc<Mutex<()>>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(log: PathBuf, reopen: PathBuf) -> Self {
        let (written, pause, stop) =
            (Arc::<AtomicU32>::default(), Arc::<Mutex<()>>::default(), Arc::<AtomicBool>::default());
        let shared = (Arc::clone(&written), Arc::clone(&pause), Arc::clone(&stop));
        let open = move || File::options().create(true).append(true).open(&log).unwrap();
        let thread = std::thread::spawn(move || {
            let (written, pause, stop) = shared;
            let mut file = open();
            while !stop.load(Ordering::Relaxed) {
                let held = pause.lock().unwrap();
                for _ in 0..10 {
                    let number = written.fetch_add(1, Ordering::Relaxed);
                    file.write_all(format!("{LINE}line {number:06}\n").as_bytes()).unwrap();
                }
                drop(held);
                if std::fs::remove_file(&reopen).is_ok() {
                    file = open();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { written, pause, stop, thread }
    }

    pub(crate) fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// A fast writer's log, rotated some times.
struct Rotated {
    place: Place,
    collector: Collector,
    agent: Child,
    written: u32,
}

/// Rotates it with the real logrotate. With `pauses` the application writes nothing while that runs.
async fn rotate(mode: &str, pattern: &str, pauses: bool) -> Rotated {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (log, reopen) = (place.path("app.log"), place.path("reopen"));
    let script = format!("{mode}\npostrotate\ntouch {}\nendscript", reopen.display());

    let pattern = place.path(pattern);
    let flags = [
        "--admin",
        "127.0.0.1:0",
        "--linger",
        "50ms",
        "--multiline-timeout",
        "200ms",
        "--batch-events",
        "200",
    ];
    let agent = place.start(&collector.url(), &[&flags[..], &[pattern.to_str().unwrap()]].concat());
    let writer = Writer::start(log, reopen.clone());
    for round in 1..=5_usize {
        until("the application writes to the new file", || !reopen.exists()).await;
        let before = messages(0..writer.written.load(Ordering::Relaxed)).pop();
        // Something of this file, and not of the older ones.
        until("the file is followed", || collector.taken.count() > 100 && collector.taken.newest() > before)
            .await;
        let held = pauses.then(|| writer.pause.lock().unwrap());
        logrotate(&place, &script);
        drop(held);
        assert!(ending(&place, "gz").len() + 1 >= round, "after {round}");
    }
    Rotated { written: writer.stop(), place, collector, agent }
}

/// Rotates `app.log` once with the real logrotate, and compresses what it leaves. `more` are lines of its configuration.
pub(crate) fn logrotate(place: &Place, more: &str) {
    let config = place.path("logrotate.conf");
    let log = place.path("app.log");
    let text = format!("{} {{\nsize 1\nrotate 20\ncompress\n{more}\n}}\n", log.display());
    std::fs::write(&config, text).unwrap();
    let mut permissions = std::fs::metadata(&config).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&config, permissions).unwrap();
    let known = "/usr/sbin/logrotate";
    let mut logrotate = Command::new(if Path::new(known).exists() { known } else { "logrotate" });
    let done =
        logrotate.arg("--force").arg("--state").arg(place.path("logrotate.state")).arg(&config).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn ending(place: &Place, ending: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(place.path(".")).unwrap().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

impl Rotated {
    /// Stops the agent: what it says, and what it has noted as lost.
    async fn stop(self) -> (String, Vec<Value>) {
        terminate(&self.agent).await;
        let ended = crate::process::ended(self.agent).await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        let losses = std::fs::read_to_string(self.place.path("state/losses.ndjson")).unwrap_or_default();
        (ended.log, losses.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// What is counted is what was written.
    async fn assert_exact(self) {
        let (taken, written) = (self.collector.taken.clone(), self.written);
        until("all is taken", || taken.count() >= written as usize).await;
        let (log, losses) = self.stop().await;
        let mut expected = messages(0..written);
        expected.sort();
        let taken = taken.messages();
        assert!(taken == expected, "{} of {written}: {log}", taken.len());
        assert_eq!(losses, [Value::Null; 0]);
    }

    /// What logrotate has left in any file.
    fn kept(&self) -> BTreeSet<String> {
        let mut text = std::fs::read_to_string(self.place.path("app.log")).unwrap();
        text += &std::fs::read_to_string(self.place.path("app.log.1")).unwrap();
        let unpacked = Command::new("gzip").arg("-dc").args(ending(&self.place, "gz")).output().unwrap();
        text += std::str::from_utf8(&unpacked.stdout).unwrap();
        text.lines().filter_map(|line| line.strip_prefix(LINE)).map(ToOwned::to_owned).collect()
    }
}

/// The application writes all the while, to the old file too until it opens the new one, which is compressed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn logrotate_creates_and_compresses() {
    rotate("create", "app.log", false).await.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logrotate_creates_and_compresses_later_and_the_old_files_match() {
    rotate("create\ndelaycompress", "app.log*", false).await.assert_exact().await;
}

/// The application writes nothing while logrotate runs; it doesn't wait for the agent.
#[tokio::test(flavor = "multi_thread")]
async fn logrotate_copies_and_truncates_and_the_copies_match() {
    rotate("copytruncate\ndelaycompress", "app.log*", true).await.assert_exact().await;
}

/// What is written between the copy and the truncation is lost by logrotate itself. Whatever it has kept is counted, once;
/// of the rest some may have been read in time; and no more is said to be lost than is.
#[tokio::test(flavor = "multi_thread")]
async fn logrotate_copies_and_truncates_while_the_application_writes() {
    let rotated = rotate("copytruncate\ndelaycompress", "app.log*", false).await;
    let (kept, written) = (rotated.kept(), rotated.written);
    let collector = rotated.collector.taken.clone();
    until("all that was kept is taken", || {
        collector.count() >= kept.len() && kept.is_subset(&collector.messages().into_iter().collect())
    })
    .await;
    let (log, losses) = rotated.stop().await;
    let messages_taken = collector.messages();
    let taken: BTreeSet<String> = messages_taken.iter().cloned().collect();
    assert_eq!(taken.len(), messages_taken.len(), "counted twice: {log}");
    let all: BTreeSet<String> = messages(0..written).into_iter().collect();
    assert!(taken.is_subset(&all) && kept.is_subset(&taken));
    let missing: u64 =
        all.difference(&taken).map(|line| u64::try_from(LINE.len() + line.len() + 1).unwrap()).sum();
    let bytes = |loss: &Value| loss["end"].as_u64().unwrap() - loss["start"].as_u64().unwrap();
    let named: u64 = losses.iter().map(bytes).sum();
    assert!(named <= missing, "{named} of {missing} bytes: {log}");
    assert!(losses.iter().all(|loss| loss["reason"] == "truncated"), "{losses:?}");
}
