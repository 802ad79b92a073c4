//! The program as a shell sees it: what stands on stdout and on stderr, and how it ends.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail as the test does"
)]

use logweir_proto::encoding::Encoding;
use logweir_proto::{BatchId, ProducerId, Seq};
use logweir_queue::{Ack, Burial, DeadLimits, Enqueued, NewEntry, Queue, QueueLimits, Settings, Shards};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
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
        Queue::new(Settings::new(&self.url(), Ack::Memory, deadline)).unwrap()
    }

    /// Makes the batch `seq` a dead letter; answers its ID.
    async fn dead_letter(&self, seq: u64) -> String {
        bury(&self.queue(), 7, seq).await
    }
}

async fn bury(queue: &Queue, producer: u128, seq: u64) -> String {
    let producer = ProducerId::new(uuid::Uuid::from_u128(producer));
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

impl Drop for Redis {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _gone = self.server.kill();
        let _gone = self.server.wait();
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
    let (_, cut, stderr) = ask(&["list", "--limit", "9"]);
    assert_eq!(cut.as_array().unwrap().len(), 9);
    assert!(stderr.contains("these are 9 of 12"), "{stderr}");

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

/// Whatever is left in an environment gives nothing up.
#[tokio::test]
async fn what_can_not_be_undone_is_said_on_the_command_line() {
    let redis = Redis::start().await;
    redis.dead_letter(1).await;
    let home = tempfile::tempdir().unwrap();
    for what in ["drop", "replay"] {
        let mut command = logweir(&home, &["dlq", what, "--redis", &redis.url()]);
        let Output { status, stderr, .. } =
            command.env("LOGWEIR_ALL", "true").env("LOGWEIR_YES", "true").output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(status.code() == Some(2) && stderr.contains("<ID>"), "{status}: {stderr}");
    }
    // Without anybody who could be asked, it must be said, too.
    let (code, stdout, stderr) = output(&home, &["dlq", "drop", "--all", "--redis", &redis.url()]);
    assert!((code, stdout.as_str()) == (2, "") && stderr.contains("--yes"), "{stderr}");
    assert_eq!(redis.queue().depth().await.unwrap().dead, 1);
}

/// A person who answers no is told, and so is the program that reads the document.
#[tokio::test]
async fn nothing_is_dropped_when_the_answer_is_no() {
    let redis = Redis::start().await;
    redis.dead_letter(1).await;
    let home = tempfile::tempdir().unwrap();
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap();
    rustix::pty::unlockpt(&terminal).unwrap();
    let name = rustix::pty::ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let stdin = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let words = ["dlq", "drop", "--all", "--json", "--redis", &redis.url()];
    let asked =
        logweir(&home, &words).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::fs::File::from(terminal).write_all(b"n\n").unwrap();
    let Output { status, stdout, stderr } = asked.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((status.code(), document), (Some(1), json!({"dropped": [], "unknown": []})));
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.contains("[y/N]") && stderr.contains("nothing was dropped"), "{stderr}");
    assert_eq!(redis.queue().depth().await.unwrap().dead, 1);
}

/// Redis dies while the list is being read: what was listed is a whole document, and the exit code tells.
#[tokio::test]
async fn a_list_that_breaks_off_is_a_document() {
    let mut redis = Redis::start().await;
    let queue = redis.queue();
    for seq in 1..=3_000 {
        bury(&queue, 7, seq * 3).await;
    }
    let home = tempfile::tempdir().unwrap();
    let words = ["dlq", "list", "--limit", "10000", "--json", "--redis", &redis.url()];
    let mut list = logweir(&home, &words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = list.stdout.take().unwrap();
    let mut text = vec![0];
    // It has begun, and can't go far: nobody reads what it writes.
    stdout.read_exact(&mut text).unwrap();
    redis.server.kill().unwrap();
    redis.server.wait().unwrap();
    stdout.read_to_end(&mut text).unwrap();
    let listed: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert!(!listed.is_empty() && listed.len() < 3_000, "{}", listed.len());
    let Output { status, stderr, .. } = list.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(3) && stderr.contains("LOGWEIR_REDIS"), "{status}: {stderr}");
}

#[tokio::test]
async fn an_export_can_be_imported_byte_for_byte_and_only_once() {
    let redis = Redis::start().await;
    let (home, url) = (tempfile::tempdir().unwrap(), redis.url());
    let file = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let ask = |words: &[&str]| output(&home, &[&["dlq"], words, &["--redis", &url]].concat());
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(redis.dead_letter(1 + n * 3).await);
    }
    let (first, second) = (file("first"), file("second"));
    assert_eq!(ask(&["export", &first]).0, 0);
    let text = std::fs::read_to_string(&first).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    assert_eq!(lines[1]["lines"][1], json!({"number": 6, "event": r#"{"message":"two"}"#}));
    // To stdout it is the same, and nothing else.
    assert_eq!(ask(&["export", "-", "--all"]), (0, text.clone(), String::new()));
    let (code, one, stderr) = ask(&["export", "-", &ids[2], "1-1"]);
    assert_eq!((code, one.as_str()), (1, format!("{}\n", text.lines().nth(2).unwrap()).as_str()));
    assert!(stderr.contains("no dead letter 1-1"), "{stderr}");

    // All are there already; then two are missing.
    let (code, said, stderr) = ask(&["import", &first]);
    assert_eq!((code, said.lines().filter(|line| line.ends_with("is there already")).count()), (0, 5));
    assert!(stderr.contains("0 dead letters are back; 5 were there already"), "{stderr}");
    let queue = redis.queue();
    for id in [&ids[1], &ids[4]] {
        assert!(queue.remove_dead_letter(&id.parse().unwrap()).await.unwrap());
    }
    let (code, done, _) = ask(&["import", &first, "--json"]);
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((code, done["skipped"].as_array().unwrap().len()), (0, 3));
    assert_eq!(done["imported"][1]["was"], json!(ids[4]));
    assert_eq!(queue.depth().await.unwrap().dead, 5);

    // Into an empty Redis, and out again: but for the IDs it is the same file.
    for id in queue.dead_letters(None, 100).await.unwrap().into_iter().map(|letter| letter.id) {
        queue.remove_dead_letter(&id).await.unwrap();
    }
    assert_eq!(ask(&["import", &first]).0, 0);
    let without_id = |text: &str| -> Vec<Value> {
        let line = |line: &str| -> Value {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("id").unwrap();
            line
        };
        text.lines().map(line).collect()
    };
    assert_eq!(ask(&["export", &second, "--all"]).0, 0);
    assert_eq!(without_id(&std::fs::read_to_string(&second).unwrap()), without_id(&text));

    // A file that ends in nonsense, or is none.
    std::fs::write(&second, text.clone() + "{}\n").unwrap();
    let (code, _, stderr) = ask(&["import", &second]);
    assert_eq!(code, 2);
    assert!(stderr.contains("line 6 is no dead letter"), "{stderr}");
    assert_eq!(ask(&["import", &file("third")]).0, 2);
    assert_eq!(ask(&["export", &file("no/such/folder")]).0, 2);
    assert_eq!(queue.depth().await.unwrap().dead, 5);
}

#[tokio::test]
async fn two_imports_at_once_put_each_letter_back_once() {
    let redis = Redis::start().await;
    let home = tempfile::tempdir().unwrap();
    for n in 0..60 {
        redis.dead_letter(1 + n * 3).await;
    }
    let file = home.path().join("dead");
    let url = redis.url();
    let words = |what: &'static str| ["dlq", what, file.to_str().unwrap(), "--redis", &url];
    assert_eq!(output(&home, &words("export")).0, 0);
    let queue = redis.queue();
    for letter in queue.dead_letters(None, 100).await.unwrap() {
        queue.remove_dead_letter(&letter.id).await.unwrap();
    }
    let imports: Vec<Child> =
        (0..3).map(|_| logweir(&home, &words("import")).stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut import in imports {
        assert!(import.wait().unwrap().success());
    }
    assert_eq!(queue.depth().await.unwrap().dead, 60);
}

#[tokio::test]
async fn thousands_of_dead_letters_are_listed_and_replayed() {
    let redis = Redis::start().await;
    let queue = redis.queue();
    let (home, url) = (tempfile::tempdir().unwrap(), redis.url());
    let producer = ProducerId::new(uuid::Uuid::from_u128(7));
    const MANY: usize = 3_000;
    for n in 0..MANY {
        let entry = NewEntry {
            agent: "web-1",
            batch: BatchId { producer, seq: Seq::new(1 + u64::try_from(n).unwrap()).unwrap() },
            events: 1,
            skip: &[],
            enc: Encoding::Identity,
            at_ms: 1_795_514_580_000,
            traceparent: None,
            body: LINES,
        };
        let limits = QueueLimits { entries: 1 << 20, bytes: 1 << 30 };
        let Enqueued::Added { id, .. } = queue.enqueue(&entry, limits, None).await.unwrap() else { panic!() };
        queue.dead_letter(&id, "w", "no", DeadLimits::NONE).await.unwrap();
    }
    let (code, json, _) = output(&home, &["dlq", "list", "--limit", "10000", "--json", "--redis", &url]);
    let listed: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!((code, listed.len()), (0, MANY));
    let seqs: Vec<u64> = listed.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted() && seqs[0] == 1);
    let (_, text, stderr) = output(&home, &["dlq", "list", "--limit", "1234", "--redis", &url]);
    assert_eq!(text.lines().filter(|line| !line.starts_with("id ")).count(), 1234);
    assert!(stderr.contains("these are 1234 of 3000"), "{stderr}");
    let (code, _, stderr) = output(&home, &["dlq", "replay", "--all", "--redis", &url]);
    assert_eq!(code, 0, "{stderr}");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.entries, depth.dead, depth.dead_bytes), (3_000, 0, 0));
}

#[tokio::test]
async fn dead_letters_of_all_shards_are_one_list() {
    let redis = Redis::start().await;
    let (home, url) = (tempfile::tempdir().unwrap(), redis.url());
    let ask = |words: &[&str]| {
        let words = [&["dlq"], words, &["--redis", &url, "--json"]].concat();
        let (code, stdout, stderr) = output(&home, &words);
        (code, serde_json::from_str(&stdout).unwrap_or(Value::Null), stderr)
    };
    let settings = Settings::new(&url, Ack::Memory, Duration::from_secs(5));
    let queue = Queue::new(Settings { shards: Shards::new(4).unwrap(), ..settings }).unwrap();
    for producer in 1..=12 {
        bury(&queue, producer, 1).await;
    }
    let (code, listed, _) = ask(&["list"]);
    let ids: Vec<String> =
        listed.as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((code, ids.len()), (0, 12));
    let third = ids.iter().find(|id| id.starts_with("3:")).unwrap();
    assert_eq!(ask(&["show", third]).1["id"], third.as_str());
    let file = home.path().join("dead.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(ask(&["export", file]).0, 0);
    let (code, imported, _) = ask(&["import", file]);
    assert_eq!((code, imported["skipped"].as_array().unwrap().len()), (0, 12), "{imported}");
    assert_eq!(ask(&["replay", third]).0, 0);
    let (code, imported, _) = ask(&["import", file]);
    assert_eq!((code, imported["imported"].as_array().unwrap().len()), (0, 1), "{imported}");
    assert!(imported["imported"][0]["id"].as_str().unwrap().starts_with("3:"), "{imported}");
    let (code, replayed, _) = ask(&["replay", "--all"]);
    assert_eq!((code, replayed["replayed"].as_array().unwrap().len()), (0, 12));
    assert_eq!(queue.depth().await.unwrap().entries, 13);
}

#[test]
fn what_can_not_be_reached_ends_with_3_and_what_was_not_said_with_2() {
    let home = tempfile::tempdir().unwrap();
    for (words, code, hint) in [
        (vec!["query", "--postgres", "postgres://u:hidden@127.0.0.1:1/db"], 3, "LOGWEIR_POSTGRES"),
        (vec!["dlq", "list", "--redis", "redis://:hidden@127.0.0.1:1"], 3, "LOGWEIR_REDIS"),
        (vec!["query"], 2, "--postgres"),
        (vec!["batch", "nonsense"], 2, "PRODUCER/SEQ"),
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
