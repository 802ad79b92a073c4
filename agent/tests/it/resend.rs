//! Events that were refused, mended and sent again.

use crate::collector::Collector;
use crate::process::{Ended, Place, terminate, until};
use logweir_proto::answer::{Problem, ProblemCode};
use serde_json::Value;

fn records(place: &Place, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write(place: &Place, name: &str, records: &[Value]) -> String {
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(place.path(name), text).unwrap();
    place.path(name).to_str().unwrap().to_owned()
}

async fn resend(place: &Place, collector: &Collector, file: &str) -> Ended {
    place.command(&["resend", "--collector", &collector.url(), file]).await
}

#[tokio::test]
async fn mended_events_count_once_however_often_they_are_sent() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let long = format!("long {}", "x".repeat(600));
    let lines = ["good 1", "bad 2", "bad 3", &long, "bad 4", "good 5"].map(str::to_owned);
    let file = place.lines("app.log", &lines);
    let once = place.run(&collector.url(), &["--once", "--max-line-bytes", "500", &file]).await;
    assert_eq!(once.code, Some(1), "{}", once.log);
    let mut mended = records(&place, "state/rejects.ndjson");
    assert_eq!(mended.len(), 4);
    for record in &mut mended {
        let event = record["event"].as_str().map(|event| event.replace("bad", "mended"));
        let long = r#"{"timestamp": 1795514400000, "service": "app", "level": "info", "message": "long"}"#;
        record["event"] = event.unwrap_or_else(|| long.to_owned()).into();
    }
    // One was not mended.
    let still =
        mended.iter().position(|record| record["event"].as_str().unwrap().contains("mended 3")).unwrap();
    mended[still]["event"] = mended[still]["event"].as_str().unwrap().replace("mended", "bad").into();
    let again = write(&place, "mended.ndjson", &mended);
    let expected = ["good 1", "good 5", "long", "mended 2", "mended 4"];
    for _ in 0..2 {
        let ended = resend(&place, &collector, &again).await;
        assert_eq!(ended.code, Some(1), "{}", ended.log);
        // The collector of this test fails when a number comes with other content than before.
        assert_eq!(collector.taken.messages(), expected);
        let refused = records(&place, "mended.ndjson.refused");
        assert_eq!(refused.len(), 1);
        assert_eq!(
            (&refused[0]["number"], &refused[0]["detail"]),
            (&mended[still]["number"], &"it is bad".into())
        );
    }
    std::fs::remove_file(place.path("mended.ndjson.refused")).unwrap();
    mended[still]["event"] = mended[still]["event"].as_str().unwrap().replace("bad", "mended").into();
    let ended = resend(&place, &collector, &write(&place, "mended.ndjson", &mended)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(collector.taken.messages().len(), 6);
    assert!(!place.path("mended.ndjson.refused").exists(), "nothing is left to keep");
}

#[tokio::test]
async fn a_record_that_cannot_be_sent_is_kept_and_said_and_holds_up_no_other() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let good = r#"{"producer": "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10", "number": 7, "event": "{\"message\": \"it\"}"}"#;
    std::fs::write(place.path("f"), format!("{{\"half\n\n{good}\n{{\"event\": \"{{}}\"}}\n")).unwrap();
    let ended = resend(&place, &collector, place.path("f").to_str().unwrap()).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("line 1") && ended.log.contains("line 4"), "{}", ended.log);
    assert_eq!(collector.taken.messages(), ["it"]);
    let refused = std::fs::read_to_string(place.path("f.refused")).unwrap();
    assert_eq!(refused, "{\"half\n{\"event\": \"{}\"}\n");
    let missing = resend(&place, &collector, "/nowhere/f").await;
    assert_eq!(missing.code, Some(2), "{}", missing.log);
}

#[tokio::test]
async fn without_a_collector_it_waits_and_ends_when_told() {
    let (place, collector) = (Place::new(), Collector::start().await);
    collector.taken.refuse(Some(Problem::new(ProblemCode::Draining, "going")));
    let good = r#"{"producer": "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10", "number": 7, "event": "{\"message\": \"it\"}"}"#;
    std::fs::write(place.path("f"), format!("{good}\n")).unwrap();
    let file = place.path("f").to_str().unwrap().to_owned();
    let child = place.spawn(&["resend", "--collector", &collector.url(), &file]);
    until("it asks", || collector.taken.asked() > 0).await;
    terminate(&child).await;
    let ended = crate::process::ended(child).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("nothing counts twice"), "{}", ended.log);
    collector.taken.refuse(None);
    assert_eq!(resend(&place, &collector, &file).await.code, Some(0));
    assert_eq!(collector.taken.messages(), ["it"]);
}
