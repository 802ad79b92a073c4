//! Files that the real logrotate rotates.

use crate::collector::Collector;
use crate::process::{Place, messages, terminate, until};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An application that writes as fast as its disk takes it, a few lines at a time, and opens its log again when it is
/// told to.
struct Writer {
    written: Arc<AtomicU32>,
    /// Held while it writes.
    pause: Arc<Mutex<()>>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(log: PathBuf, reopen: PathBuf) -> Self {
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
                    file.write_all(format!("2026-11-24T10:00:00Z INFO line {number:04}\n").as_bytes())
                        .unwrap();
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

    fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// Rotates a fast writer's log some times with the real logrotate; what is counted must be what was written.
async fn rotated(mode: &str, pattern: &str, pauses: bool) {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (log, reopen, config) = (place.path("app.log"), place.path("reopen"), place.path("logrotate.conf"));
    let script = format!("postrotate\ntouch {}\nendscript", reopen.display());
    let text = format!("{} {{\nsize 1\nrotate 20\ncompress\n{mode}\n{script}\n}}\n", log.display());
    std::fs::write(&config, text).unwrap();
    let mut permissions = std::fs::metadata(&config).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&config, permissions).unwrap();

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
        let before = writer.written.load(Ordering::Relaxed) as usize;
        // More than there are in the older files.
        until("the file is followed", || collector.taken.count() > before + 100).await;
        let held = pauses.then(|| writer.pause.lock().unwrap());
        let known = "/usr/sbin/logrotate";
        let mut logrotate = Command::new(if Path::new(known).exists() { known } else { "logrotate" });
        let done =
            logrotate.arg("--force").arg("--state").arg(place.path("logrotate.state")).arg(&config).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        drop(held);
        let packed = std::fs::read_dir(place.path(".")).unwrap().flatten();
        let packed =
            packed.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "gz")).count();
        assert!(packed + 1 >= round, "{packed} after {round}");
    }
    let written = writer.stop();
    until("all is taken", || collector.taken.count() >= written as usize).await;
    terminate(&agent).await;
    let ended = crate::process::ended(agent).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let (taken, expected) = (collector.taken.messages(), messages(0..written));
    let mut expected = expected;
    expected.sort();
    assert!(taken == expected, "{} of {written}: {}", taken.len(), ended.log);
    let losses = std::fs::read_to_string(place.path("state/losses.ndjson")).unwrap_or_default();
    assert_eq!(losses, "");
}

/// The application writes all the while, to the old file too until it opens the new one, which is compressed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn logrotate_creates_and_compresses() {
    rotated("create", "app.log", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logrotate_creates_and_compresses_later_and_the_old_files_match() {
    rotated("create\ndelaycompress", "app.log*", false).await;
}

/// What is written between the copy and the truncation is lost by logrotate itself, before anybody could read it. So the
/// application writes nothing while it runs; it doesn't wait for the agent.
#[tokio::test(flavor = "multi_thread")]
async fn logrotate_copies_and_truncates_and_the_copies_match() {
    rotated("copytruncate\ndelaycompress", "app.log*", true).await;
}
