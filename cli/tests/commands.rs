//! The program as a shell sees it: what stands on stdout and on stderr, and how it ends.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail as the test does")]

use logweir_proto::encoding::Encoding;
use logweir_proto::{BatchId, ProducerId, Seq};
use logweir_queue::{Ack, Burial, DeadLimits, NewEntry, Queue, QueueLimits, Settings, Shard};
use serde_json::{Value, json};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
const LINES: &[u8] = b"{\"message\":\"one\"}\n{\"message\":\"two\"}\n";

/// The program with nothing around it that could say where things are.
fn logweir(home: &TempDir, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logweir"));
    command.args(words).env("XDG_STATE_HOME", home.path()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOGWEIR_")) {
        command.env_remove(name);
    }
    command
}

fn output(home: &TempDir, words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = logweir(home, words).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A private Redis on a socket; it ends with the test.
struct Redis {
    home: TempDir,
    server: Child,
}

impl Redis {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--maxmemory-policy", "noeviction", "--unixsocket"])
            .arg(home.path().join("s"))
            .arg("--dir")
            .arg(home.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be in PATH");
        let redis = Self { home, server };
        let start = Instant::now();
        while redis.queue().check().await.is_err() {
            assert!(start.elapsed() < SOON, "redis-server does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        redis
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.home.path().join("s").display())
    }

    fn queue(&self) -> Queue {
        let deadline = Duration::from_secs(5);
        Queue::new(Settings { url: self.url(), ack: Ack::Memory, deadline, shard: Shard::default() }).unwrap()
    }

    /// Makes the batch `seq` a dead letter; answers its ID.
    async fn dead_letter(&self, seq: u64) -> String {
        let queue = self.queue();
        let producer = ProducerId::new(uuid::Uuid::from_u128(7));
        let entry = NewEntry {
            agent: "web-1",
            batch: BatchId { producer, seq: Seq::new(seq).unwrap() },
            events: 3,
            skip: &[1],
            enc: Encoding::Identity,
            at_ms: 1_795_514_580_000,
            traceparent: None,
            body: LINES,
        };
        let limits = QueueLimits { entries: 100, bytes: 1 << 20 };
        queue.enqueue(&entry, limits, None).await.unwrap();
        let items = queue.reader("worker-1").read(1, Duration::from_millis(1)).await.unwrap();
        let error = "it can't be counted";
        match queue.dead_letter(items[0].id(), "worker-1", error, DeadLimits::NONE).await.unwrap() {
            Burial::Dead(letter) => letter.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_replayed() {
    let redis = Redis::start().await;
    let (home, url) = (tempfile::tempdir().unwrap(), redis.url());
    let ask = |words: &[&str]| {
        let words = [&["dlq"], words, &["--redis", &url, "--json"]].concat();
        let (code, stdout, stderr) = output(&home, &words);
        let json = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        (code, json, stderr)
    };
    assert_eq!(ask(&["list"]), (0, json!([]), String::new()));

    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(redis.dead_letter(1 + n * 3).await);
    }
    let (code, listed, _) = ask(&["list"]);
    let listed_ids: Vec<&str> =
        listed.as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap()).collect();
    assert_eq!((code, listed_ids), (0, ids.iter().map(String::as_str).collect()));
    assert_eq!(listed[1]["seq"], 4);
    assert_eq!(listed[1]["error"], "it can't be counted");
    assert_eq!(ask(&["list", "--limit", "9"]).1.as_array().unwrap().len(), 9);

    let (code, shown, _) = ask(&["show", &ids[0]]);
    assert_eq!(code, 0);
    // The second event was rejected, and left its number to nobody.
    assert_eq!(
        shown["lines"],
        json!([{"number": 1, "event": r#"{"message":"one"}"#}, {"number": 3, "event": r#"{"message":"two"}"#}])
    );

    for unknown in ["1-1", "nonsense"] {
        let (code, shown, stderr) = ask(&["show", unknown]);
        assert_eq!((code, shown), (1, Value::Null));
        assert!(stderr.contains("dlq list"), "{stderr}");
    }

    let (code, replayed, _) = ask(&["replay", &ids[0], "1-1"]);
    assert_eq!(code, 1);
    assert_eq!((&replayed["replayed"][0]["id"], &replayed["unknown"]), (&json!(ids[0]), &json!(["1-1"])));
    let (code, replayed, _) = ask(&["replay", "--all"]);
    assert_eq!((code, replayed["replayed"].as_array().unwrap().len()), (0, 11));
    assert_eq!(ask(&["list"]).1, json!([]));
    assert_eq!(redis.queue().depth().await.unwrap().entries, 12);
}

#[test]
fn what_can_not_be_reached_ends_with_3_and_what_was_not_said_with_2() {
    let home = tempfile::tempdir().unwrap();
    for (words, code, hint) in [
        (vec!["query", "--postgres", "postgres://u:hidden@127.0.0.1:1/db"], 3, "LOGWEIR_POSTGRES"),
        (vec!["dlq", "list", "--redis", "redis://:hidden@127.0.0.1:1"], 3, "LOGWEIR_REDIS"),
        (vec!["query"], 2, "--postgres"),
        (vec!["query", "--since", "soon"], 2, "10m"),
        (vec!["verify", "/nowhere/at/all"], 2, "/nowhere/at/all"),
    ] {
        let (status, stdout, stderr) = output(&home, &words);
        assert_eq!((status, stdout.as_str()), (code, ""), "{words:?}: {stderr}");
        assert!(stderr.contains(hint) && !stderr.contains("hidden"), "{stderr}");
    }
}

#[test]
fn a_token_stands_alone_on_stdout_and_its_hash_alone_in_the_file() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tokens");
    let words = ["token", "new", "web-1", "--tokens", file.to_str().unwrap()];
    let (code, token, stderr) = output(&home, &words);
    assert_eq!((code, token.lines().count(), stderr.as_str()), (0, 1, ""));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("web-1 sha256:") && text.len() == "web-1 sha256:\n".len() + 64, "{text}");
    assert!(!text.contains(token.trim()));
}

#[test]
fn settings_come_from_the_environment_and_the_file_as_well() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("logweir.toml");
    std::fs::write(&config, "redis = \"redis://127.0.0.1:1\"\njson = true\n").unwrap();
    let (code, _, stderr) = output(&home, &["dlq", "list", "--config", config.to_str().unwrap()]);
    assert_eq!(code, 3);
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
    let mut command = logweir(&home, &["dlq", "list"]);
    let told =
        command.env("LOGWEIR_REDIS", "redis://127.0.0.1:2").env("LOGWEIR_UNHEARD_OF", "x").output().unwrap();
    assert!(String::from_utf8(told.stderr).unwrap().contains("127.0.0.1:2"));
}
