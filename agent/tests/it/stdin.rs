//! stdin through a spool that is full.

use crate::collector::Collector;
use crate::process::{Ended, Place, ended, free_port, get, terminate, until};
use logweir_proto::answer::{Problem, ProblemCode};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{PipeWriter, Write as _};
use std::time::Duration;
use tokio::process::Child;

/// An agent that drops, and the pipe to it.
struct Piped {
    place: Place,
    collector: Collector,
    admin: String,
    agent: Option<Child>,
    pipe: Option<PipeWriter>,
    written: u32,
}

fn line(number: u32) -> String {
    // So long that not many fit into the spool.
    format!("2026-11-24T10:00:00Z INFO line {number:05} {}\n", "x".repeat(200))
}

impl Piped {
    async fn start(more: &[&str]) -> Self {
        let (place, collector, admin) = (Place::new(), Collector::start().await, free_port());
        let (read, pipe) = std::io::pipe().unwrap();
        let flags = [
            "--admin",
            &admin,
            "--linger",
            "20ms",
            "--multiline-timeout",
            "50ms",
            "--spool-bytes",
            "128KiB",
            "--window-batches",
            "2",
            "--batch-events",
            "20",
            "--max-line-bytes",
            "100KiB",
        ];
        let agent = place.start_reading(&collector.url(), &[&flags[..], more].concat(), read);
        Self { place, collector, admin, agent: Some(agent), pipe: Some(pipe), written: 0 }
    }

    fn write(&mut self, lines: u32) {
        for number in self.written..self.written + lines {
            self.write_text(&line(number));
        }
        self.written += lines;
    }

    fn write_text(&mut self, text: &str) {
        self.pipe.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn stop_collector(&self) {
        let mut problem = Problem::new(ProblemCode::QueueFull, "the queue is full");
        problem.retry_after_ms = Some(100);
        self.collector.taken.refuse(Some(problem));
    }

    async fn dropped(&self) -> u64 {
        self.metric("logweir_agent_dropped_lines_total ").await
    }

    async fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = get(&self.admin, "/metrics").await;
        metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").parse().unwrap()
    }

    /// Waits for its end.
    async fn end(&mut self) -> Ended {
        ended(self.agent.take().unwrap()).await
    }

    /// The numbers of the lines that were taken, each once and whole.
    fn taken(&self) -> BTreeSet<u32> {
        let messages = self.collector.taken.messages();
        let numbers: BTreeSet<u32> = messages
            .iter()
            .map(|message| {
                let number = message.split(' ').nth(1).unwrap().parse().unwrap();
                assert!(
                    line(number).trim_end().ends_with(message.as_str()),
                    "it is no whole line: {message}"
                );
                number
            })
            .collect();
        assert_eq!(numbers.len(), messages.len(), "a line was counted twice");
        numbers
    }

    fn losses(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.place.path("state/losses.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn sum(losses: &[Value], key: &str) -> u64 {
    losses.iter().map(|loss| loss[key].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_drops_whole_lines_and_counts_each() {
    let mut piped = Piped::start(&["--spool-full", "drop"]).await;
    piped.write(50);
    until("the first lines are taken", || piped.collector.taken.count() == 50).await;
    piped.stop_collector();
    // Some 5 MB into a spool of 128 KiB and a pipe of 64 KiB, and nobody takes anything: the writer never waits.
    piped.write(20_000);
    let mut dropped = piped.dropped().await;
    while dropped == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        dropped = piped.dropped().await;
    }
    piped.collector.taken.refuse(None);
    // Ever more until one comes through, so that there is something after the gap; then the end, in half a line.
    let mut last = piped.written;
    while !piped.taken().contains(&last) {
        last = piped.written;
        piped.write(1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let half = line(piped.written);
    piped.write_text(half.trim_end());
    piped.written += 1;
    drop(piped.pipe.take());
    let ended = piped.end().await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);

    let (taken, losses) = (piped.taken(), piped.losses());
    let dropped = sum(&losses, "lines");
    assert!(dropped > 15_000, "{dropped}");
    assert_eq!(taken.len() as u64 + dropped, u64::from(piped.written), "{}", ended.log);
    assert!(taken.contains(&(piped.written - 1)) && taken.contains(&0));
    assert_eq!(sum(&losses, "bytes"), dropped * line(0).len() as u64);
    assert!(losses.len() <= 4, "a record is for many lines: {losses:?}");
    for said in ["the spool is full", "no lines of stdin are dropped any more", "lines of stdin were dropped"]
    {
        assert_eq!(ended.log.matches(said).count(), 1, "{said}: {}", ended.log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_lines_are_dropped_notes_them_and_ends_with_0() {
    let mut piped = Piped::start(&["--spool-full", "drop", "--shutdown-timeout", "200ms"]).await;
    piped.stop_collector();
    piped.write(10_000);
    // Until all of it is read: what isn't dropped is in the spool.
    let each = line(0).len() as u64;
    while piped.metric("logweir_agent_spool_bytes ").await / each + piped.dropped().await < 10_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (lines, bytes) = (
        piped.dropped().await,
        piped.metric(r#"logweir_agent_lost_bytes_total{reason="spool_full"} "#).await,
    );
    assert_eq!(bytes, lines * each);
    terminate(piped.agent.as_ref().unwrap()).await;
    let ended = piped.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(sum(&piped.losses(), "lines"), lines, "{}", ended.log);
    // What the spool has goes out with the next run.
    piped.collector.taken.refuse(None);
    let once = piped.place.run(&piped.collector.url(), &["--once", "/nowhere"]).await;
    assert_eq!(once.code, Some(0), "{}", once.log);
    assert_eq!(piped.taken().len() as u64 + lines, 10_000, "{}", ended.log);
}
