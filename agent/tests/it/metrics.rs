//! What Prometheus gets.

use crate::collector::Collector;
use crate::process::{Place, free_port, get, messages, until};
use logweir_proto::answer::{Problem, ProblemCode};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// All values, by name and labels.
async fn metrics(admin: &str) -> BTreeMap<String, f64> {
    let (status, text) = get(admin, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn each_promised_metric_is_there_and_says_what_was_read_sent_and_refused() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let mut problem = Problem::new(ProblemCode::QueueFull, "the queue is full");
    problem.retry_after_ms = Some(100);
    collector.taken.refuse(Some(problem));

    let timed = place.lines("timed.log", &["one".into(), "bad two".into(), "three".into()]);
    let (bytes, cut, plain) = (place.path("bytes.log"), place.path("cut.log"), place.path("plain.log"));
    std::fs::write(&bytes, b"2026-11-24T10:00:00Z INFO \xff and \xfe\n").unwrap();
    let trace = "\tat a.B(B.java:7)\n".repeat(20);
    std::fs::write(&cut, format!("2026-11-24T10:00:00Z ERROR it broke\n{trace}")).unwrap();
    std::fs::write(&plain, "no time\nnone here\n").unwrap();
    let modified = SystemTime::now() - Duration::from_secs(5_400);
    std::fs::File::options().write(true).open(&plain).unwrap().set_modified(modified).unwrap();

    let admin = free_port();
    let files = [&bytes, &cut, &plain].map(|path| path.to_str().unwrap().to_owned());
    let flags =
        ["--admin", &admin, "--linger", "10ms", "--multiline-bytes", "100", "--multiline-timeout", "50ms"];
    let paths = [timed.as_str(), &files[0], &files[1], &files[2]];
    let agent = place.start(&collector.url(), &[&flags[..], &paths].concat());
    until("it has asked twice", || collector.taken.asked() >= 2).await;
    collector.taken.refuse(None);
    until("all are taken", || collector.taken.count() == 6).await;
    let mut now = BTreeMap::new();
    for _ in 0..200 {
        now = metrics(&admin).await;
        if now["logweir_agent_unsettled_batches"] == 0.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let of =
        |name: &str| *now.get(&format!("logweir_agent_{name}")).unwrap_or_else(|| panic!("{name}: {now:#?}"));
    let sizes =
        [&place.path("timed.log"), &bytes, &cut, &plain].map(|path| std::fs::metadata(path).unwrap().len());
    assert_eq!(of("lines_read_total"), 27.0);
    assert_eq!(of("read_bytes_total"), sizes.iter().sum::<u64>() as f64);
    assert_eq!((of("events_sealed_total"), of("events_sent_total")), (7.0, 6.0), "{now:#?}");
    assert_eq!(
        (of("undated_events_total"), of("cut_events_total"), of("invalid_utf8_total")),
        (2.0, 1.0, 2.0)
    );
    assert_eq!(of(r#"rejects_total{reason="too_old"}"#), 1.0);
    let refused = of(r#"answers_total{status="503"}"#);
    assert!(refused >= 2.0 && of(r#"answers_total{status="202"}"#) >= 1.0, "{now:#?}");
    assert!(of("retries_total") >= 1.0 && of("sent_bytes_total") > 0.0, "{now:#?}");
    assert!(of(r#"held_seconds_total{reason="queue_full"}"#) > 0.0, "{now:#?}");
    assert_eq!((of("in_flight_batches"), of("files"), of("spool_bytes")), (0.0, 4.0, 0.0));
    assert_eq!(of(&format!("behind_bytes{{file=\"{timed}\"}}")), 0.0);

    // Lines without a time have that of the file.
    let at = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let event = collector.taken.event_of("none here");
    assert!(event.contains(&format!("\"timestamp\":{at},")), "{event} at {at}");
    drop(agent);
}

#[tokio::test]
async fn what_is_lost_is_counted_by_its_reason() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let mut problem = Problem::new(ProblemCode::QueueFull, "the queue is full");
    problem.retry_after_ms = Some(50);
    collector.taken.refuse(Some(problem));
    let file = place.lines("app.log", &messages(0..1_000));
    let admin = free_port();
    let flags =
        ["--admin", &admin, "--linger", "10ms", "--batch-events", "10", "--window-batches", "1", &file];
    let agent = place.start(&collector.url(), &flags);
    until("it has asked", || collector.taken.asked() >= 1).await;
    let size = std::fs::metadata(&file).unwrap().len();
    place.lines("app.log", &messages(2_000..2_001));
    collector.taken.refuse(None);
    until("what is there now is taken", || collector.taken.messages().contains(&"line 002000".to_owned()))
        .await;
    let now = metrics(&admin).await;
    let lost: f64 =
        now.iter().filter(|(name, _)| name.contains("lost_bytes_total")).map(|(_, value)| value).sum();
    assert!(lost > size as f64 * 0.9 && lost <= size as f64, "{now:#?}");
    let losses = std::fs::read_to_string(place.path("state/losses.ndjson")).unwrap();
    let ranges = losses.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let bytes: u64 = ranges.map(|loss| loss["end"].as_u64().unwrap() - loss["start"].as_u64().unwrap()).sum();
    assert_eq!(lost, bytes as f64, "{losses}");
    drop(agent);
}
