//! Files that are compressed.

use crate::collector::Collector;
use crate::files::logrotate;
use crate::process::{Place, ended, messages, terminate, until};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Compresses a file with the real gzip; what was there goes.
fn gzip(path: &Path) {
    assert!(Command::new("gzip").arg(path).status().unwrap().success());
}

fn losses(place: &Place) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path("state/losses.ndjson")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_backfill_of_compressed_files_is_exact_through_a_kill() {
    let (place, collector) = (Place::new(), Collector::start().await);
    place.lines("a.log", &messages(0..20_000));
    gzip(&place.path("a.log"));
    // Of two parts, as `cat` makes them.
    place.lines("b1", &messages(20_000..30_000));
    place.lines("b2", &messages(30_000..40_000));
    gzip(&place.path("b1"));
    gzip(&place.path("b2"));
    let parts = ["b1.gz", "b2.gz"].map(|name| std::fs::read(place.path(name)).unwrap());
    std::fs::write(place.path("b.log.gz"), parts.concat()).unwrap();
    place.lines("c.log", &messages(40_000..40_010));

    let pattern = place.path("*.log*").to_str().unwrap().to_owned();
    let args = ["--once", "--batch-events", "100", "--max-rate", "20000", &pattern];
    let mut agent = place.start(&collector.url(), &args);
    until("a part is taken", || collector.taken.count() > 15_000).await;
    agent.kill().await.unwrap();
    assert!(collector.taken.count() < 40_010, "it was killed in the middle");
    let whole = place.run(&collector.url(), &args).await;
    assert_eq!(whole.code, Some(0), "{}", whole.log);
    assert!(collector.taken.messages() == messages(0..40_010), "{}", collector.taken.count());
    let asked = collector.taken.asked();
    let again = place.run(&collector.url(), &args).await;
    assert_eq!((again.code, collector.taken.asked()), (Some(0), asked), "{}", again.log);
    assert_eq!(losses(&place), [Value::Null; 0]);
}

#[tokio::test]
async fn of_a_damaged_one_what_can_be_read_counts_and_the_rest_is_named() {
    let (place, collector) = (Place::new(), Collector::start().await);
    place.lines("a.log", &messages(0..10_000));
    gzip(&place.path("a.log"));
    let whole = std::fs::read(place.path("a.log.gz")).unwrap();
    std::fs::write(place.path("a.log.gz"), &whole[..whole.len() / 2]).unwrap();
    let path = place.path("a.log.gz").to_str().unwrap().to_owned();
    let run = place.run(&collector.url(), &["--once", &path]).await;
    assert_eq!(run.code, Some(1), "{}", run.log);
    let taken = collector.taken.messages();
    assert!(taken.len() > 100 && taken.len() < 10_000, "{}", taken.len());
    assert_eq!(taken, messages(0..u32::try_from(taken.len()).unwrap()));
    let [loss] = &losses(&place)[..] else { panic!("{}", run.log) };
    assert_eq!(loss["reason"], "corrupt", "{loss}");
    assert!(loss["start"].as_u64().unwrap() > 0 && loss["file"] == path.as_str(), "{loss}");

    // By its name, and by its first bytes.
    for name in ["b.log.zst", "b.log"] {
        std::fs::write(place.path(name), [0x28, 0xb5, 0x2f, 0xfd, 0, 1, 2, 3, 4, 5, b'\n']).unwrap();
        let other = place.path(name).to_str().unwrap().to_owned();
        let run = place.run(&collector.url(), &["--once", &other]).await;
        assert!(run.log.contains("compressed") && run.log.contains(&other), "{}", run.log);
    }
    assert_eq!(collector.taken.count(), taken.len());
}

/// While no agent runs, the log is written on, rotated and compressed by the real logrotate, more than once.
async fn rotated_meanwhile(mode: &str, pattern: &str) {
    let (place, collector) = (Place::new(), Collector::start().await);
    place.lines("app.log", &messages(0..1_000));
    let pattern = place.path(pattern).to_str().unwrap().to_owned();
    let flags = ["--admin", "127.0.0.1:0", "--linger", "20ms", "--multiline-timeout", "50ms", &pattern];
    let agent = place.start(&collector.url(), &flags);
    until("what is there is taken", || collector.taken.count() == 1_000).await;
    terminate(&agent).await;
    let stopped = ended(agent).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);

    place.append("app.log", &messages(1_000..3_000));
    logrotate(&place, mode);
    // The first of them holds what was not read, and nobody has seen the second.
    assert!(place.path("app.log.1.gz").exists());
    let new = 3_000..3_500;
    if mode == "create" {
        place.lines("app.log", &messages(new));
    } else {
        place.append("app.log", &messages(new));
    }

    let agent = place.start(&collector.url(), &flags);
    until("the rest is taken", || collector.taken.count() >= 3_500).await;
    // It is held open, and read to its end before it goes.
    place.append("app.log", &messages(3_500..4_000));
    until("that too", || collector.taken.count() >= 4_000).await;
    logrotate(&place, mode);
    let written = std::fs::OpenOptions::new().create(true).append(true).open(place.path("app.log")).unwrap();
    drop(written);
    place.append("app.log", &messages(4_000..4_500));
    until("and what comes then", || collector.taken.count() >= 4_500).await;
    terminate(&agent).await;
    let stopped = ended(agent).await;
    assert_eq!(stopped.code, Some(0), "{}", stopped.log);

    // Whoever starts next reads none of it again.
    let agent = place.start(&collector.url(), &flags);
    place.append("app.log", &messages(4_500..4_600));
    until("the last is taken", || collector.taken.count() >= 4_600).await;
    terminate(&agent).await;
    let stopped = ended(agent).await;
    assert!(collector.taken.messages() == messages(0..4_600), "{}: {}", collector.taken.count(), stopped.log);
    assert_eq!(losses(&place), [Value::Null; 0]);
}

#[tokio::test]
async fn what_was_created_anew_and_compressed_while_no_agent_ran_is_read_from_the_compressed_file() {
    rotated_meanwhile("create", "app.log").await;
}

#[tokio::test]
async fn also_where_the_compressed_files_match() {
    rotated_meanwhile("create", "app.log*").await;
}

#[tokio::test]
async fn what_was_copied_truncated_and_compressed_while_no_agent_ran_is_read_from_the_compressed_file() {
    rotated_meanwhile("copytruncate", "app.log").await;
}
