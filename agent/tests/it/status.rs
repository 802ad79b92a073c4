//! What a running agent says of itself.

use crate::collector::Collector;
use crate::process::{Place, free_port, get, messages, until};
use logweir_proto::answer::{Problem, ProblemCode};
use serde_json::Value;

async fn status(place: &Place, admin: &str) -> (Option<i32>, Value) {
    let ended = place.command(&["status", "--json", "--admin", admin]).await;
    (ended.code, serde_json::from_str(&ended.out).unwrap_or_default())
}

#[tokio::test]
async fn it_shows_each_file_and_what_holds_it_back() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..50));
    let admin = free_port();
    let none = place.command(&["status", "--admin", &admin]).await;
    assert_eq!(none.code, Some(3), "{}", none.log);
    assert!(none.log.contains("no agent answers"), "{}", none.log);

    let agent = place
        .start(&collector.url(), &["--admin", &admin, "--window-batches", "1", "--linger", "10ms", &file]);
    until("all is taken", || collector.taken.messages().len() == 50).await;
    let mut seen = Value::Null;
    for _ in 0..100 {
        seen = status(&place, &admin).await.1;
        if seen["unsettled_batches"] == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let size = std::fs::metadata(place.path("app.log")).unwrap().len();
    assert_eq!((&seen["unsettled_batches"], &seen["held_back"]), (&0.into(), &Value::Null), "{seen}");
    assert_eq!(
        (&seen["files"][0]["position"], &seen["files"][0]["behind_bytes"]),
        (&size.into(), &0.into()),
        "{seen}"
    );

    // The collector wants patience: that is no trouble. Then it wants a token: that is.
    let mut problem = Problem::new(ProblemCode::QueueFull, "the queue is full");
    problem.retry_after_ms = Some(200);
    for (problem, code, reason) in [
        (problem, 0, "queue_full"),
        (Problem::new(ProblemCode::Unauthenticated, "who are you?"), 1, "unauthenticated"),
    ] {
        collector.taken.refuse(Some(problem));
        place.append("app.log", &messages(50..60));
        let mut last = (None, Value::Null);
        for _ in 0..500 {
            last = status(&place, &admin).await;
            if last.1["held_back"]["reason"] == reason {
                break;
            }
        }
        assert_eq!((last.0, &last.1["held_back"]["reason"]), (Some(code), &reason.into()), "{}", last.1);
        assert!(last.1["reading_stopped"].as_str().unwrap().contains("window"), "{}", last.1);
    }
    place.append("app.log", &messages(60..70));
    let shown = place.command(&["status", "--admin", &admin]).await;
    assert_eq!(shown.code, Some(1), "{}", shown.log);
    for part in ["held back", "unauthenticated", "who are you?", "app.log", "1 batches"] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    drop(agent);
}

#[tokio::test]
async fn an_error_that_is_over_is_still_known_and_what_is_read_has_a_rate() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..50));
    let admin = free_port();
    collector.taken.refuse(Some(Problem::new(ProblemCode::Internal, "it broke")));
    let agent = place.start(&collector.url(), &["--admin", &admin, "--linger", "10ms", &file]);
    let mut last = Value::Null;
    for _ in 0..500 {
        last = status(&place, &admin).await.1;
        if !last["last_error"].is_null() {
            break;
        }
    }
    assert!(last["last_error"]["detail"].as_str().unwrap().contains("it broke"), "{last}");
    collector.taken.refuse(None);
    until("all is taken", || collector.taken.messages().len() == 50).await;
    let mut rates = Vec::new();
    for n in 0..30 {
        place.append("app.log", &messages(100 + n..101 + n));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        last = status(&place, &admin).await.1;
        rates.push(last["files"][0]["bytes_per_second"].as_u64().unwrap());
    }
    assert!(rates.iter().any(|rate| (20..20_000).contains(rate)), "{rates:?}");
    assert_eq!(last["held_back"], Value::Null, "{last}");
    let over = place.command(&["status", "--admin", &admin]).await;
    assert_eq!(over.code, Some(0), "{}", over.log);
    assert!(over.out.contains("last error") && over.out.contains("it broke"), "{}", over.out);
    drop(agent);
}

#[tokio::test]
async fn a_rate_of_its_own_is_named_with_until_when_and_files_without_labels_are_counted_together() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..1_000));
    let admin = free_port();
    let flags = ["--admin", &admin, "--max-rate", "20", "--batch-events", "1000", "--max-file-labels", "0"];
    let agent = place.start(&collector.url(), &[&flags[..], &[&file]].concat());
    let mut last = (None, Value::Null);
    for _ in 0..100 {
        last = status(&place, &admin).await;
        if last.1["held_back"]["reason"] == "max_rate" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let held = &last.1["held_back"];
    assert_eq!((last.0, &held["reason"], &held["is_pressure"]), (Some(0), &"max_rate".into(), &true.into()));
    // 1,000 events at 20 a second, less what there was at the beginning.
    let whole = held["since_ms"].as_u64().unwrap() + held["for_ms"].as_u64().unwrap();
    assert!((45_000..=50_000).contains(&whole), "{held}");
    let shown = place.command(&["status", "--admin", &admin]).await;
    assert!(shown.out.contains("max_rate (--max-rate is 20 events a second)"), "{}", shown.out);
    let metrics = get(&admin, "/metrics").await.1;
    assert!(metrics.contains(r#"logweir_agent_behind_bytes{file="other"}"#), "{metrics}");
    assert!(!metrics.contains("app.log"), "{metrics}");
    drop(agent);
}
