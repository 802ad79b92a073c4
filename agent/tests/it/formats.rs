//! What the agent finds in files, and says of it.

use crate::collector::Collector;
use crate::process::Place;

/// The lines of its log that hold this.
fn said<'a>(log: &'a str, part: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(part)).collect()
}

#[tokio::test]
async fn it_says_once_what_a_file_is_and_why() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.path("app.log");
    let mut text = "welcome\n".to_owned();
    for n in 0..10 {
        text.push_str(&format!("{{\"ts\":1795514580,\"lvl\":\"warn\",\"msg\":\"json {n}\"}}\n"));
    }
    for n in 0..20 {
        text.push_str(&format!("2026-11-24T10:03:00Z ERROR text {n}\n"));
    }
    std::fs::write(&file, text).unwrap();
    let ended = place.run(&collector.url(), &["--once", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(collector.taken.messages().len(), 31);
    let lines = said(&ended.log, "its lines are taken for");
    let [first, then] = lines[..] else { panic!("{}", ended.log) };
    for part in ["taken for json: one is a JSON object", "app.log", "field ts", "field lvl"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    for part in ["taken for text now", "was=\"json\"", "ISO 8601", "place"] {
        assert!(then.contains(part), "{part}: {then}");
    }
}

/// An application whose runtime prints text between its JSON lines must not fill the agent's log, which may be read by
/// an agent too.
#[tokio::test]
async fn a_file_of_mixed_lines_is_not_talked_about_for_ever() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (mixed, runs) = (place.path("mixed.log"), place.path("runs.log"));
    let line = |json: bool, n: usize| match json {
        true => format!("{{\"time\":\"2026-11-24T10:03:00Z\",\"level\":\"warn\",\"msg\":\"{n}\"}}\n"),
        false => format!("2026-11-24T10:03:00Z ERROR {n}\n"),
    };
    std::fs::write(&mixed, (0..1_000).map(|n| line(n % 2 == 0, n)).collect::<String>()).unwrap();
    std::fs::write(&runs, (0..1_000).map(|n| line(n / 20 % 2 == 0, n)).collect::<String>()).unwrap();
    let files = [mixed.to_str().unwrap(), runs.to_str().unwrap()];
    let ended = place.run(&collector.url(), &[&["--once"], &files[..]].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(collector.taken.messages().len(), 2_000);
    let about = said(&ended.log, "its lines");
    let of = |name: &str| about.iter().filter(|line| line.contains(name)).count();
    assert_eq!(of("mixed.log"), 1, "{}", ended.log);
    // The first, three changes, and that no more is said.
    assert_eq!(of("runs.log"), 5, "{}", ended.log);
}

#[tokio::test]
async fn utf_16_is_read_in_both_orders() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let text = "\u{feff}2026-11-24T10:03:00Z WARN größer\r\n2026-11-24T10:03:01Z ERROR 🦀 no\r\n";
    let (little, big) = (place.path("little.log"), place.path("big.log"));
    std::fs::write(&little, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    std::fs::write(&big, text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()).unwrap();
    let files = [little.to_str().unwrap(), big.to_str().unwrap()];
    let ended = place.run(&collector.url(), &[&["--once"], &files[..]].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let messages = collector.taken.messages();
    assert_eq!(messages, ["ERROR 🦀 no", "ERROR 🦀 no", "WARN größer", "WARN größer"]);
    let event = collector.taken.event_of("ERROR 🦀 no");
    assert!(event.contains(r#""level":"error""#) && event.contains("1795514581000"), "{event}");
}

/// As the kubelet lays them out: a link in one folder to a link in another to the file.
#[tokio::test]
async fn a_containers_log_is_followed_through_its_links() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let id = "0a".repeat(32);
    for folder in ["containers", "pods/shop_pay-0_1/app", "docker"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
    }
    let lines = concat!(
        "{\"log\":\"{\\\"level\\\":\\\"error\\\",\\\"msg\\\":\\\"in two \",\"stream\":\"stderr\",\"time\":\"2026-11-24T10:03:00.1Z\"}\n",
        "{\"log\":\"parts\\\"}\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-24T10:03:00.2Z\"}\n",
        "{\"log\":\"WARN low\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-24T10:03:01Z\"}\n",
    );
    std::fs::write(place.path("docker/x-json.log"), lines).unwrap();
    let (pod, link) =
        (place.path("pods/shop_pay-0_1/app/0.log"), format!("containers/pay-0_shop_app-{id}.log"));
    std::os::unix::fs::symlink(place.path("docker/x-json.log"), &pod).unwrap();
    std::os::unix::fs::symlink(&pod, place.path(&link)).unwrap();
    let pattern = place.path("containers/*.log");
    let ended = place.run(&collector.url(), &["--once", pattern.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(collector.taken.messages(), ["WARN low", "in two parts"]);
    for (message, parts) in [
        (
            "in two parts",
            ["1795514580", "\"service\":\"app\"", "\"level\":\"error\"", "\"stream\":\"stderr\""],
        ),
        (
            "WARN low",
            ["\"namespace\":\"shop\"", "\"pod\":\"pay-0\"", "\"container\":\"app\"", "\"level\":\"warn\""],
        ),
    ] {
        let event = collector.taken.event_of(message);
        for part in parts {
            assert!(event.contains(part), "{part}: {event}");
        }
    }
}
