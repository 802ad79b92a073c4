//! The configuration is read again while the agent runs, and no position is lost.

use crate::collector::Collector;
use crate::files::Writer;
use crate::process::{Place, ended, free_port, get, hang_up, messages, terminate, until};
use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Child;

/// An agent with a configuration file, and what it says of itself.
struct Agent {
    place: Place,
    admin: String,
    child: Child,
}

const QUICK: &str = "linger = \"20ms\"\nmultiline-timeout = \"50ms\"\n";

impl Agent {
    async fn start(place: Place, text: &str) -> Self {
        let admin = free_port();
        let config = place.path("agent.toml");
        std::fs::write(&config, format!("{QUICK}{text}")).unwrap();
        let child = Self::spawn(&place, &admin).await;
        Self { place, admin, child }
    }

    async fn spawn(place: &Place, admin: &str) -> Child {
        let (config, state) = (place.path("agent.toml"), place.path("state"));
        let [config, state] = [&config, &state].map(|path| path.to_str().unwrap());
        let child =
            place.spawn(&["--config", config, "--admin", admin, "--timezone", "UTC", "--state-dir", state]);
        until("it is there", || std::net::TcpStream::connect(admin).is_ok()).await;
        child
    }

    /// Puts another file in the place of the first.
    fn write(&self, text: &str) {
        let new = self.place.path("agent.toml.new");
        std::fs::write(&new, format!("{QUICK}{text}")).unwrap();
        std::fs::rename(new, self.place.path("agent.toml")).unwrap();
    }

    async fn metric(&self, line: &str) -> String {
        let (_, metrics) = get(&self.admin, "/metrics").await;
        let found = metrics.lines().find_map(|text| text.strip_prefix(line)).unwrap_or_default();
        found.trim().to_owned()
    }

    /// Waits until a metric is so.
    async fn shows(&self, line: &str, value: &str) {
        let mut last = String::new();
        for _ in 0..1_000 {
            last = self.metric(line).await;
            if last == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(last, value, "{line}");
    }

    /// Another file and a signal: until it is in force.
    async fn reload(&self, text: &str) {
        let before: u64 = self.metric(OK).await.parse().unwrap();
        self.write(text);
        hang_up(&self.child).await;
        let mut after = before;
        while after == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
            after = self.metric(OK).await.parse().unwrap();
        }
    }

    async fn status(&self) -> Value {
        serde_json::from_str(&get(&self.admin, "/status").await.1).unwrap()
    }

    /// The names of the files that it follows.
    async fn follows(&self) -> Vec<String> {
        let status = self.status().await;
        let name = |file: &Value| file["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        status["files"].as_array().unwrap().iter().map(name).collect()
    }

    async fn end(self) -> (Place, String) {
        terminate(&self.child).await;
        let ended = ended(self.child).await;
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        (self.place, ended.log)
    }
}

const OK: &str = r#"logweir_agent_config_reloads_total{result="ok"} "#;
const FAILED: &str = r#"logweir_agent_config_reloads_total{result="failed"} "#;

fn named(prefix: &str, n: std::ops::Range<u32>) -> Vec<String> {
    messages(n).into_iter().map(|message| format!("{prefix} {message}")).collect()
}

fn sorted(parts: &[Vec<String>]) -> Vec<String> {
    let mut all = parts.concat();
    all.sort();
    all
}

fn config(collector: &Collector, paths: &[&PathBuf], more: &str) -> String {
    format!("collector = \"{}\"\npaths = {paths:?}\n{more}", collector.url())
}

#[tokio::test]
async fn a_path_comes_and_goes_and_comes_back_where_it_was_also_after_a_kill() {
    let (place, collector) = (Place::new(), Collector::start().await);
    place.lines("a.log", &named("a", 0..10));
    place.lines("b.log", &named("b", 0..10));
    let (a, b) = (place.path("a.log"), place.path("b.log"));
    let (only_a, only_b) = (config(&collector, &[&a], ""), config(&collector, &[&b], ""));
    let both = config(&collector, &[&a, &b], "");
    let mut agent = Agent::start(place, &only_a).await;
    until("a is taken", || collector.taken.messages() == named("a", 0..10)).await;

    agent.reload(&both).await;
    until("b is taken too", || collector.taken.count() == 20).await;
    agent.reload(&only_b).await;
    until_follows(&agent, &["b.log"]).await;
    agent.place.append("a.log", &named("a", 10..20));
    agent.place.append("b.log", &named("b", 10..20));
    until("more of b is taken", || collector.taken.count() == 30).await;
    assert_eq!(collector.taken.messages(), sorted(&[named("a", 0..10), named("b", 0..20)]));

    agent.child.kill().await.unwrap();
    agent.child = Agent::spawn(&agent.place, &agent.admin).await;
    agent.place.append("b.log", &named("b", 20..30));
    until("the next run goes on", || collector.taken.count() == 40).await;
    assert_eq!(agent.follows().await, ["b.log"]);
    agent.reload(&both).await;
    let all = sorted(&[named("a", 0..20), named("b", 0..30)]);
    until("what was written to a meanwhile is taken", || collector.taken.count() >= all.len()).await;
    let (place, log) = agent.end().await;
    assert_eq!(collector.taken.messages(), all, "{log}");
    assert!(!place.path("state/losses.ndjson").exists(), "{log}");
}

async fn until_follows(agent: &Agent, names: &[&str]) {
    for _ in 0..1_000 {
        if agent.follows().await == names {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(agent.follows().await, names);
}

/// Without a signal, and although a batch waits already: at 2 events a second this would take minutes.
#[tokio::test]
async fn a_changed_file_is_enough_and_another_rate_is_for_the_batch_that_waits() {
    let (place, collector) = (Place::new(), Collector::start().await);
    place.lines("a.log", &messages(0..1_000));
    let a = place.path("a.log");
    let agent = Agent::start(place, &config(&collector, &[&a], "max-rate = 2\n")).await;
    let held = || async { agent.status().await["held_back"]["reason"] == "max_rate" };
    while !held().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(collector.taken.count(), 0);
    agent.write(&config(&collector, &[&a], "max-rate = 1000000\nmax-file-labels = 0\n"));
    until("all is taken", || collector.taken.messages() == messages(0..1_000)).await;
    agent.shows(OK, "1").await;
    agent.shows(r#"logweir_agent_behind_bytes{file="other"} "#, "0").await;
    agent.end().await;
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_is_said() {
    let (place, collector) = (Place::new(), Collector::start().await);
    place.lines("a.log", &named("a", 0..10));
    place.lines("b.log", &named("b", 0..10));
    let (a, b) = (place.path("a.log"), place.path("b.log"));
    let agent = Agent::start(place, &config(&collector, &[&a], "")).await;
    until("a is taken", || collector.taken.count() == 10).await;
    let mut failures = 0;
    for (wrong, said) in [
        ("lingr = \"1s\"", "unknown key \"lingr\""),
        ("max-rate = 0", "'0' for '--max-rate"),
        ("batch-events = 1000000", "--batch-events must be at most"),
        ("service = \"no name\"", "--service"),
        ("log-level = \"a=b=c\"", "--log-level"),
        ("token-file = \"/no/such/token\"", "--token-file /no/such/token"),
        ("format = ", "TOML parse error at line 5"),
    ] {
        // What is right in it stays out, too.
        agent.write(&config(&collector, &[&a, &b], wrong));
        hang_up(&agent.child).await;
        failures += 1;
        agent.shows(FAILED, &failures.to_string()).await;
        agent.shows("logweir_agent_config_stale ", "1").await;
        let status = agent.status().await;
        let error = status["config"]["error"].as_str().unwrap_or_default();
        assert!(error.contains(said) && error.contains("agent.toml"), "{wrong}: {status}");
        let (code, ready) = get(&agent.admin, "/readyz").await;
        assert!(code == 200 && ready.contains("what was read before stays in force"), "{ready}");
        agent.place.append("a.log", &named("a", failures * 10..failures * 10 + 10));
        let so_many = (failures as usize + 1) * 10;
        until("it goes on", || collector.taken.count() == so_many).await;
    }
    let shown = agent.place.command(&["status", "--admin", &agent.admin]).await;
    assert_eq!(shown.code, Some(1), "{}", shown.out);
    assert!(shown.out.contains("config") && shown.out.contains("TOML parse error"), "{}", shown.out);

    agent.reload(&config(&collector, &[&a, &b], "")).await;
    agent.shows("logweir_agent_config_stale ", "0").await;
    let all = sorted(&[named("a", 0..80), named("b", 0..10)]);
    until("b is taken", || collector.taken.messages() == all).await;
    assert_eq!(agent.status().await["config"]["error"], Value::Null);
    let (_, log) = agent.end().await;
    assert!(log.contains("the configuration file can be used again"), "{log}");
}

#[tokio::test]
async fn how_lines_are_read_changes_from_one_line_to_the_next() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let line = |n: u32| format!("{{\"time\":\"2026-11-24T10:00:00Z\",\"nr\":\"n{n}\",\"msg\":\"m{n}\"}}\n");
    let a = place.path("a.log");
    std::fs::write(&a, line(0)).unwrap();
    let agent = Agent::start(place, &config(&collector, &[&a], "format = \"json\"\n")).await;
    let fields = |event: &str| {
        let event: Value = serde_json::from_str(event).unwrap();
        ["service", "level", "message"].map(|name| event[name].as_str().unwrap().to_owned())
    };
    for (n, (more, expected)) in [
        ("", ["a", "info", "m0"]),
        ("default-level = \"warn\"\nservice = \"shop\"\n", ["shop", "warn", "m1"]),
        ("message-key = \"nr\"\n", ["a", "info", "n2"]),
        ("format = \"text\"\ndefault-level = \"debug\"\n", ["a", "debug", ""]),
        ("", ["a", "info", "m4"]),
    ]
    .into_iter()
    .enumerate()
    {
        if n > 0 {
            agent.reload(&config(&collector, &[&a], more)).await;
            let mut file = std::fs::OpenOptions::new().append(true).open(&a).unwrap();
            file.write_all(line(u32::try_from(n).unwrap()).as_bytes()).unwrap();
        }
        until("it is taken", || collector.taken.count() == n + 1).await;
        let newest = collector.taken.newest_event();
        let [service, level, message] = fields(&newest);
        assert_eq!((service.as_str(), level.as_str()), (expected[0], expected[1]), "{newest}");
        if expected[2].is_empty() {
            assert!(message.contains("\"msg\":\"m3\""), "{newest}");
        } else {
            assert_eq!(message, expected[2], "{newest}");
        }
    }
    agent.end().await;
}

#[tokio::test]
async fn what_only_a_restart_changes_is_named_and_the_collector_changes_at_once() {
    let (place, first, second) = (Place::new(), Collector::start().await, Collector::start().await);
    place.lines("a.log", &messages(0..10));
    let a = place.path("a.log");
    let agent = Agent::start(place, &config(&first, &[&a], "")).await;
    until("the first collector has them", || first.taken.count() == 10).await;
    // --admin and --state-dir stand on the command line, which goes before the file: they aren't named.
    let fixed = "id = \"other\"\nspool-bytes = \"1MiB\"\nadmin = \"127.0.0.1:1\"\nstate-dir = \"/nowhere\"\n";
    let text = config(&second, &[&a], fixed).replace("paths = [", "paths = [\"-\", ");
    agent.reload(&text).await;
    let status = agent.status().await;
    assert_eq!(status["config"]["restart"], serde_json::json!(["--id", "--spool-bytes", "- (stdin)"]));
    assert_ne!(status["agent"], "other");
    agent.shows("logweir_agent_config_pending ", "3").await;
    agent.place.append("a.log", &messages(10..20));
    until("the second collector has them", || second.taken.count() == 10).await;
    assert_eq!(first.taken.count(), 10);
    agent.reload(&config(&second, &[&a], "log-level = \"debug\"\n")).await;
    agent.shows("logweir_agent_config_pending ", "0").await;
    agent.place.append("a.log", &messages(20..30));
    until("the second collector has them", || second.taken.count() == 20).await;
    let (_, log) = agent.end().await;
    assert!(
        log.contains("--id, --spool-bytes, - (stdin)") && log.contains("restart to change them"),
        "{log}"
    );
    let debug = log.find("DEBUG").unwrap();
    assert!(debug > log.find("restart to change them").unwrap(), "{log}");
}

/// Two applications write as fast as they can while the configuration changes all the time.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_each_line_counts_once_whatever_the_configuration_does() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (a, b, never) = (place.path("a.log"), place.path("b.log"), place.path("reopen"));
    let writers = [&a, &b].map(|log| Writer::start(log.clone(), never.clone()));
    let mut agent = Agent::start(place, &config(&collector, &[&a, &b], "")).await;
    for round in 0..20_u32 {
        let (paths, more): (&[&PathBuf], &str) = match round % 5 {
            0 => (&[&a], "batch-events = 7\n"),
            1 => (&[&b, &a], "default-level = \"warn\"\nmultiline-start = \"^20\"\n"),
            2 => (&[&b], "format = \"text\"\n"),
            3 => (&[&a, &b], "window-batches = 1\nservice = \"one\"\n"),
            _ => (&[], "window-bytes = \"1KiB\"\n"),
        };
        let mut text = config(&collector, paths, more);
        if paths.is_empty() {
            text = text.replace("[]", "[\"/nowhere/at/all\"]");
        }
        agent.reload(&text).await;
        if round % 8 == 7 {
            agent.child.kill().await.unwrap();
            agent.child = Agent::spawn(&agent.place, &agent.admin).await;
        }
    }
    let written = writers.map(Writer::stop);
    agent.reload(&config(&collector, &[&a, &b], "")).await;
    let all = (written[0] + written[1]) as usize;
    until("all is taken", || collector.taken.count() >= all).await;
    let (place, log) = agent.end().await;
    let (taken, expected) =
        (collector.taken.messages(), sorted(&[messages(0..written[0]), messages(0..written[1])]));
    assert!(taken == expected, "{} of {all}: {log}", taken.len());
    assert!(!place.path("state/losses.ndjson").exists(), "{log}");
}

#[tokio::test]
async fn what_is_left_out_and_replaced_changes_from_one_line_to_the_next() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = PathBuf::from(place.lines("a.log", &["one a@example.org".into(), "two".into()]));
    let agent = Agent::start(place, &config(&collector, &[&file], "")).await;
    until("both are taken", || collector.taken.count() == 2).await;
    agent.reload(&config(&collector, &[&file], "exclude-lines = [\"three\"]\nredact = [\"email\"]\n")).await;
    agent.place.append("a.log", &["three".into(), "four b@example.org".into()]);
    until("one more is taken", || collector.taken.count() == 3).await;
    assert_eq!(agent.metric("logweir_agent_filtered_events_total{rule=\"exclude-1\"} ").await, "1");
    assert_eq!(agent.metric("logweir_agent_redactions_total{rule=\"email\"} ").await, "1");
    agent.reload(&config(&collector, &[&file], "include-lines = [\"six\"]\n")).await;
    agent.place.append("a.log", &["five".into(), "six c@example.org".into()]);
    until("the last is taken", || collector.taken.count() == 4).await;
    assert_eq!(collector.taken.messages(), ["four [email]", "one a@example.org", "six c@example.org", "two"]);
    agent.end().await;
}
