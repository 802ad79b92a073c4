//! Events that are left out, and text that is replaced.

use crate::collector::Collector;
use crate::process::{Place, ended, free_port, get, until};
use logweir_proto::answer::{Problem, ProblemCode};
use std::io::Write as _;

const LINES: &str = "\
2026-11-24T10:00:00Z INFO GET /healthz
2026-11-24T10:00:01Z INFO line of a@b.co paid with 4111 1111 1111 1111
2026-11-24T10:00:02Z INFO bad line, sid=1f of c@d.io
{\"timestamp\":\"2026-11-24T10:00:03Z\",\"service\":\"s\",\"level\":\"info\",\"message\":\"by e\\u0040f.gh\",\"to\":[\"a@b.co\"]}
2026-11-24T10:00:04Z ERROR healthz is down
  at Health.check(Health.java:7) for a@b.co
";

/// The flags stand in a file, as an operator writes them.
fn config(place: &Place) -> String {
    let text = "exclude-lines = [\"GET /healthz\", \"^$\"]\nredact = [\"email\", \"card\"]\n\
                redact-regex = \"sid=[0-9a-f]+=>sid=***\"\n";
    std::fs::write(place.path("agent.toml"), text).unwrap();
    place.path("agent.toml").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_redacted_stands_nowhere() {
    let (place, collector) = (Place::new(), Collector::start().await);
    std::fs::write(place.path("app.log"), LINES).unwrap();
    let (file, config, admin) = (place.path("app.log"), config(&place), free_port());
    let file = file.to_str().unwrap();

    let explained = place.command(&["--explain", file, "--config", &config]).await;
    assert!(explained.out.contains("left out by exclude-1: INFO GET /healthz"), "{}", explained.out);
    assert!(explained.out.contains("INFO line of [email] paid with [card]"), "{}", explained.out);

    let flags = ["--config", &config, "--admin", &admin, "--multiline-timeout", "100ms", file];
    let mut agent = place.start(&collector.url(), &flags);
    until("all is taken", || collector.taken.count() == 3).await;
    let rejects = place.path("state/rejects.ndjson");
    until("what is bad is noted", || {
        std::fs::read_to_string(&rejects).is_ok_and(|text| text.contains("bad"))
    })
    .await;
    let metrics = get(&admin, "/metrics").await.1;
    for line in [
        "logweir_agent_filtered_events_total{rule=\"exclude-1\"} 1",
        "logweir_agent_filtered_events_total{rule=\"exclude-2\"} 0",
        "logweir_agent_redactions_total{rule=\"email\"} 5",
        "logweir_agent_redactions_total{rule=\"card\"} 1",
        "logweir_agent_redactions_total{rule=\"regex-1\"} 1",
        "logweir_agent_events_sealed_total 4",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let status = place.command(&["status", "--admin", &admin]).await.out;
    assert!(status.contains("left out   exclude-1 1, exclude-2 0"), "{status}");
    assert!(status.contains("redacted   card 1, email 5, regex-1 1"), "{status}");
    agent.kill().await.unwrap();
    let log = ended(agent).await.log;

    assert_eq!(
        collector.taken.messages(),
        [
            "ERROR healthz is down\n  at Health.check(Health.java:7) for [email]",
            "by [email]",
            "line of [email] paid with [card]",
        ]
    );
    let rejects = std::fs::read_to_string(rejects).unwrap();
    assert!(rejects.contains("bad line, sid=*** of [email]"), "{rejects}");
    let journal = String::from_utf8_lossy(&std::fs::read(place.path("state/journal")).unwrap()).into_owned();
    for secret in ["a@b", "c@d", "e@f", "u0040f", "4111 1111", "sid=1f"] {
        for (what, text) in
            [("rejects", &rejects), ("log", &log), ("--explain", &explained.out), ("journal", &journal)]
        {
            assert!(!text.contains(secret), "{what} has {secret}: {text}");
        }
    }
}

/// The batch was sealed before the agent was killed, so it is sent as it was, under its old numbers.
#[tokio::test]
async fn other_rules_after_a_kill_change_nothing_that_was_sealed() {
    let (place, collector) = (Place::new(), Collector::start().await);
    std::fs::write(place.path("app.log"), LINES).unwrap();
    let (file, config) = (place.path("app.log").to_str().unwrap().to_owned(), config(&place));
    collector.taken.refuse(Some(Problem::new(ProblemCode::Draining, "not now")));
    let flags =
        ["--config", &config, "--admin", "127.0.0.1:0", "--linger", "300ms", "--multiline-timeout", "10ms"];
    let mut agent = place.start(&collector.url(), &[&flags[..], &[&file]].concat());
    until("the batch is sealed", || collector.taken.asked() > 0).await;
    agent.kill().await.unwrap();

    collector.taken.refuse(None);
    let mut log = std::fs::OpenOptions::new().append(true).open(place.path("app.log")).unwrap();
    log.write_all(LINES.as_bytes()).unwrap();
    let other = ["--once", "--include-lines", "GET|paid", "--redact-regex", "GET.*=>*"];
    let ended = place.run(&collector.url(), &[&other[..], &[&file]].concat()).await;
    assert_eq!(ended.code, Some(1), "what is bad is rejected: {}", ended.log);
    assert_eq!(
        collector.taken.messages(),
        [
            "*",
            "ERROR healthz is down\n  at Health.check(Health.java:7) for [email]",
            "by [email]",
            "line of [email] paid with [card]",
            "line of a@b.co paid with 4111 1111 1111 1111",
        ]
    );
}

#[tokio::test]
async fn a_wrong_rule_is_named_before_anything_happens() {
    let place = Place::new();
    for (flag, value, part) in [
        ("--include-lines", "(", "--include-lines \"(\""),
        ("--exclude-lines", "a{9999}{9999}", "--exclude-lines"),
        ("--redact", "mail", "bearer, email, card"),
        ("--redact-regex", "a", "REGEX=>TEXT"),
        ("--redact-regex", "a*=>b", "'a*=>b': it is found in an empty text"),
    ] {
        let ended = place.run("http://127.0.0.1:9", &["--check", flag, value, "x.log"]).await;
        assert_eq!(ended.code, Some(2), "{flag}: {}", ended.log);
        assert!(ended.log.contains(part), "{flag}: {}", ended.log);
    }
}
