//! How runs end, and with which code.

use crate::collector::Collector;
use crate::process::{Place, ended, messages, terminate, until};
use logweir_proto::answer::{Problem, ProblemCode};
use std::io::Write as _;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_backfill_ends_with_0_and_again_sends_nothing() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..1_000));
    for _ in 0..2 {
        let ended = place.run(&collector.url(), &["--once", "--batch-events", "64", &file]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(collector.taken.messages() == messages(0..1_000), "{}", collector.taken.messages().len());
    }
}

#[tokio::test]
async fn a_backfill_with_rejects_ends_with_1_and_says_where() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &["good 1".into(), "bad 2".into(), "good 3".into()]);
    let ended = place.run(&collector.url(), &["--once", &file]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("rejects.ndjson"), "{}", ended.log);
    assert_eq!(collector.taken.messages(), ["good 1", "good 3"]);
    let rejects = std::fs::read_to_string(place.path("state/rejects.ndjson")).unwrap();
    assert_eq!(rejects.lines().count(), 1, "{rejects}");
    assert!(rejects.contains("too_old") && rejects.contains("bad 2"), "{rejects}");
}

#[tokio::test]
async fn a_stop_sends_what_was_read() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..10));
    let agent = place.start(&collector.url(), &["--admin", "127.0.0.1:0", "--linger", "1m", &file]);
    // With this linger nothing would be sent for a minute.
    until("the journal is there", || place.path("state").is_dir()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    terminate(&agent).await;
    let ended = ended(agent).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let once = place.run(&collector.url(), &["--once", &file]).await;
    assert_eq!(once.code, Some(0), "{}", once.log);
    assert_eq!(collector.taken.messages(), messages(0..10));
}

#[tokio::test]
async fn without_a_collector_a_stop_ends_in_time_and_the_next_run_sends_it() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let mut refusal = Problem::new(ProblemCode::QueueFull, "the queue is full");
    refusal.retry_after_ms = Some(30_000);
    collector.taken.refuse(Some(refusal));
    let file = place.lines("app.log", &messages(0..10));
    let flags = ["--admin", "127.0.0.1:0", "--shutdown-timeout", "300ms", &file];
    let agent = place.start(&collector.url(), &flags);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    terminate(&agent).await;
    let ended = ended(agent).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("the next run sends them"), "{}", ended.log);
    assert!(collector.taken.messages().is_empty());

    collector.taken.refuse(None);
    let ended = place.run(&collector.url(), &["--once", &file]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(collector.taken.messages(), messages(0..10));
}

/// Writes these lines to a new pipe and closes it, as an application does that ends.
fn piped(messages: &[String]) -> std::io::PipeReader {
    let (read, mut write) = std::io::pipe().unwrap();
    for message in messages {
        writeln!(write, "2026-11-24T10:00:00Z INFO {message}").unwrap();
    }
    read
}

/// The limit is longer than any test: it is not what ends the agent.
#[tokio::test]
async fn at_stdins_end_all_is_sent_and_the_agent_ends() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let flags =
        ["--admin", "127.0.0.1:0", "--shutdown-timeout", "1h", "--linger", "1h", "--batch-events", "40"];
    let agent = place.start_reading(&collector.url(), &flags, piped(&messages(0..100)));
    let ended = ended(agent).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(collector.taken.messages(), messages(0..100));
    assert!(ended.log.contains("nothing is left to send"), "{}", ended.log);
}

#[tokio::test]
async fn without_a_collector_stdins_end_ends_in_time_and_the_next_run_sends_it() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let mut refusal = Problem::new(ProblemCode::QueueFull, "the queue is full");
    refusal.retry_after_ms = Some(30_000);
    collector.taken.refuse(Some(refusal));
    // Three batches are more than the window: the rest isn't even read from the spool.
    let small = ["--admin", "127.0.0.1:0", "--batch-events", "10", "--window-batches", "2"];
    let flags = [&small[..], &["--shutdown-timeout", "1s"]].concat();
    let agent = place.start_reading(&collector.url(), &flags, piped(&messages(0..100)));
    let first = ended(agent).await;
    assert_eq!(first.code, Some(0), "{}", first.log);
    assert!(first.log.contains("they are in the spool, and the next run sends them"), "{}", first.log);
    assert!(first.log.contains("they are in the journal, and the next run sends them"), "{}", first.log);
    assert!(collector.taken.messages().is_empty());

    // The next application's lines come to what is left.
    collector.taken.refuse(None);
    let agent = place.start_reading(&collector.url(), &small, piped(&messages(100..110)));
    let second = ended(agent).await;
    assert_eq!(second.code, Some(0), "{}", second.log);
    assert_eq!(collector.taken.messages(), messages(0..110));
    assert_eq!(collector.taken.count(), 110, "none is twice");
}

/// With `--once` somebody waits for the acknowledgement, however long it takes.
#[tokio::test]
async fn a_backfill_from_stdin_waits_for_the_collector_past_the_limit() {
    let (place, collector) = (Place::new(), Collector::start().await);
    collector.taken.refuse(Some(Problem::new(ProblemCode::QueueUnavailable, "the queue is away")));
    let flags = ["--once", "--shutdown-timeout", "50ms"];
    let agent = place.start_reading(&collector.url(), &flags, piped(&messages(0..10)));
    // Each is asked later than the one before, by 250 ms, 500 ms, 1 s at most.
    until("it has been refused for longer than the limit", || collector.taken.asked() >= 5).await;
    collector.taken.refuse(None);
    let ended = ended(agent).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(collector.taken.messages(), messages(0..10));
}

#[tokio::test]
async fn one_state_directory_serves_one_agent() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..1));
    let first = place.start(&collector.url(), &["--admin", "127.0.0.1:0", &file]);
    until("the first agent is at work", || !collector.taken.messages().is_empty()).await;
    let second = place.run(&collector.url(), &["--once", &file]).await;
    assert_eq!(second.code, Some(2), "{}", second.log);
    assert!(second.log.contains("state"), "{}", second.log);
    terminate(&first).await;
    assert_eq!(ended(first).await.code, Some(0));
}

#[tokio::test]
async fn a_taken_admin_address_is_said() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..1));
    let taken = collector.address.to_string();
    let ended = place.run(&collector.url(), &["--admin", &taken, &file]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("--admin") && ended.log.contains(&taken), "{}", ended.log);
}
