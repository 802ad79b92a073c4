//! The reader, driven step by step; time and the sender are the test's.

mod archives;
mod copies;
mod lives;
mod many;
mod multiline;
mod recovery;
mod rotation;
mod rules;
mod settings;
mod skim;
mod stdin;
mod trouble;

use super::core::{Core, Moment};
use super::{Next, start};
use crate::files::tail::Patience;
use crate::handoff::{Ended, Guidance, ReadError, Sealed, Settled, Wake};
use crate::metrics::Metrics;
use crate::settings::{From, Reading, Room};
use jiff::tz::TimeZone;
use logweir_proto::encoding::{Encoding, decode};
use logweir_proto::line::Format;
use logweir_proto::{BatchId, Level, ProducerId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An agent whose sender is the test.
struct Rig {
    dir: tempfile::TempDir,
    settings: Reading,
    now: Moment,
    running: Option<(Core, File)>,
    /// What was handed over and not settled.
    waiting: Vec<Sealed>,
    /// Whatever was handed over may have been counted, so it counts here: number to event, across all runs.
    sent: BTreeMap<(ProducerId, u64), String>,
    ended: Option<Ended>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Reading)) -> Self {
        // In memory where there is such a folder: the disk's fsync would take most of the time.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(folder).unwrap();
        let mut settings = Reading {
            state_dir: dir.path().join("state"),
            patterns: vec![dir.path().join("*.log").to_str().unwrap().to_owned()],
            exclude: Vec::new(),
            ignore_older: None,
            stdin: false,
            once: false,
            from: From::Beginning,
            format: Format::Auto,
            service: None,
            default_level: Level::Info,
            keys: crate::config::KeyRules::default(),
            multiline_start: None,
            // A line is an event at once, and one without its end waits for ever.
            patience: Patience { event: Duration::ZERO, line: Duration::from_secs(1_000_000) },
            multiline_bytes: 1 << 20,
            rules: std::sync::Arc::default(),
            timezone: TimeZone::UTC,
            timezone_name: "UTC".to_owned(),
            linger: Duration::from_millis(500),
            guidance: Guidance::default(),
            batch_events: 10,
            batch_bytes: 1 << 20,
            max_line_bytes: 1 << 20,
            window_batches: 100,
            window_bytes: 64 << 20,
            spool_bytes: 64 << 20,
            spool_full: crate::spool::WhenFull::Wait,
            max_files: 100,
            max_open_files: 50,
            close_deleted: Duration::from_secs(1800),
            close_deleted_below: Room::Bytes(0),
            scan_interval: Duration::from_secs(1),
        };
        change(&mut settings);
        let now = Moment { mono: Duration::ZERO, unix_ms: 1_795_000_000_000 };
        let (running, waiting, sent, ended) = (None, Vec::new(), BTreeMap::new(), None);
        Self { dir, settings, now, running, waiting, sent, ended }
    }

    fn started(change: impl FnOnce(&mut Reading)) -> Self {
        let mut rig = Self::new(change);
        rig.start();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn try_start(&mut self, stdin: Option<File>) -> Result<(), ReadError> {
        let (wake, _) = tokio::sync::mpsc::channel(1);
        self.running = Some(start::open(self.settings.clone(), Metrics::new().0, wake, stdin, self.now)?);
        Ok(())
    }

    fn start(&mut self) {
        self.try_start(None).unwrap();
    }

    /// As SIGKILL does.
    fn kill(&mut self) {
        self.running = None;
        self.waiting.clear();
    }

    fn restart(&mut self) {
        self.kill();
        self.start();
    }

    fn core(&mut self) -> &mut Core {
        &mut self.running.as_mut().unwrap().0
    }

    fn step(&mut self) -> Next {
        let now = self.now;
        let next = self.core().step(now);
        if let Next::Ended(ended) = next {
            self.ended = Some(ended);
        }
        next
    }

    /// Takes what is handed over. The same number must never bear another event, nor the same event another number.
    fn take(&mut self) {
        while let Some(sealed) = self.core().outbox.pop_front() {
            let body = decode(Encoding::Zstd, &sealed.body, 1 << 30).unwrap();
            assert_eq!(body.len() as u64, sealed.plain_bytes);
            let events: Vec<&[u8]> = logweir_proto::ndjson::lines(&body).collect();
            assert_eq!(events.len() as u64, sealed.events);
            for (number, event) in (sealed.id.seq.get()..).zip(events) {
                let event = String::from_utf8(event.to_vec()).unwrap();
                if let Some(before) = self.sent.insert((sealed.id.producer, number), event.clone()) {
                    assert_eq!(before, event, "a number was used for other content");
                }
            }
            self.waiting.push(sealed);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono += Duration::from_millis(ms);
        self.now.unix_ms += i64::try_from(ms).unwrap();
    }

    /// Steps until there is nothing to do at this moment.
    fn settle_down(&mut self) {
        for _ in 0..10_000 {
            let next = self.step();
            self.take();
            if next != Next::Again {
                return;
            }
        }
        panic!("busy for ever");
    }

    /// Lets time pass in small steps.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.settle_down();
            self.pass(100);
        }
        self.settle_down();
    }

    fn settle_all(&mut self) {
        let now = self.now;
        for sealed in std::mem::take(&mut self.waiting) {
            self.core().handle(Wake::Settled(Settled { id: sealed.id, rejects: vec![] }), now);
        }
        self.settle_down();
    }

    /// Runs until all is read, sealed and settled.
    fn drain(&mut self) {
        for _ in 0..20 {
            self.run(1200);
            self.settle_all();
        }
        assert!(self.core().unsettled.is_empty());
    }

    /// The same with `once`, until it ends.
    fn drain_once(&mut self) {
        for _ in 0..100 {
            self.settle_down();
            self.settle_all();
            if self.ended.is_some() {
                return;
            }
            self.pass(100);
        }
        panic!("it doesn't end");
    }

    /// The disk has room again.
    fn drain_after_failure(&mut self) {
        self.core().journal.fails = false;
        self.drain();
    }

    /// As SIGTERM does, when all is settled soon.
    fn stop(&mut self) {
        let now = self.now;
        self.core().handle(Wake::Stop, now);
        for _ in 0..20 {
            self.settle_down();
            self.pass(200);
        }
        assert!(self.ended.is_some());
    }

    fn messages(&self) -> Vec<String> {
        self.sent.values().map(|event| message(event)).collect()
    }

    /// The messages, sorted: each is expected once.
    #[track_caller]
    fn assert_sent<S: AsRef<str>>(&self, expected: impl IntoIterator<Item = S>) {
        let mut expected: Vec<String> = expected.into_iter().map(|text| text.as_ref().to_owned()).collect();
        let mut messages = self.messages();
        expected.sort();
        messages.sort();
        assert_eq!(messages, expected);
    }

    fn records(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.settings.state_dir.join(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn losses(&self) -> Vec<Value> {
        self.records("losses.ndjson")
    }

    fn ids(&self) -> Vec<BatchId> {
        self.waiting.iter().map(|sealed| sealed.id).collect()
    }
}

fn message(event: &str) -> String {
    serde_json::from_str::<Value>(event).unwrap()["message"].as_str().unwrap().to_owned()
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

fn text<S: AsRef<str>>(lines: &[S]) -> String {
    lines.iter().map(|line| format!("{}\n", line.as_ref())).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn delete(path: &Path) {
    std::fs::remove_file(path).unwrap();
}
