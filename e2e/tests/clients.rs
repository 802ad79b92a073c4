//! The examples of clients, as they stand in `examples/clients`: whatever they are answered, and whichever answers get
//! lost, what they sent is counted once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::client::http;
use logweir_e2e::eventually;
use logweir_e2e::lines::{cell, event, now_ms};
use logweir_e2e::proxy::{Faults, Proxy};
use logweir_e2e::stack::Stack;
use logweir_e2e::truth::Truth;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::process::Command;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(90);
/// Of each client.
const EVENTS: i64 = 160;
/// More than the collector takes at once, so that it must be halved.
const BATCH: &str = "80";
const COLLECTOR: [&str; 5] =
    ["--rate=60", "--burst=30", "--hold=0s", "--max-queue-entries=8", "--max-batch-events=70"];

/// A program that reads events and logs them as an application does.
const LOGGING: &str = r#"
import json, logging, os, sys
sys.path.insert(0, sys.argv[1])
from logweir_client import Client
from logweir_logging import LogweirHandler
client = Client(os.environ["LOGWEIR_URL"], agent=os.environ["LOGWEIR_AGENT"])
handler = LogweirHandler(client, "logging", batch=int(os.environ["LOGWEIR_BATCH"]), close_timeout=80)
logger = logging.getLogger("app")
logger.addHandler(handler)
for line in sys.stdin:
    event = json.loads(line)
    level = getattr(logging, event["level"].upper())
    logger.handle(logging.makeLogRecord(
        {"name": "app", "levelno": level, "msg": event["message"], "created": event["timestamp"] / 1000}))
logging.shutdown()
sys.exit(4 if handler.dropped else 0)
"#;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/clients")
}

/// Lines of this service's events, recorded; with one that is rejected, and blank ones, unless `clean`.
fn lines(truth: &Truth, service: &str, from: i64, to: i64, clean: bool) -> Vec<u8> {
    let mut lines = Vec::new();
    for n in from..to {
        let (ms, level) = (now_ms() - 60_000 + n, ["info", "error"][usize::from(n % 5 == 0)]);
        truth.add(cell(ms, service, level), service);
        lines.push(event(ms, service, level, &format!("{service} {n}")));
        if n == from + 17 && !clean {
            lines.extend([b" ".to_vec(), b"\r".to_vec(), event(ms, service, "loud", "rejected"), Vec::new()]);
        }
    }
    lines.push(Vec::new());
    lines.join(&b'\n')
}

struct Client {
    name: &'static str,
    command: Command,
    stdin: Option<PathBuf>,
    /// Whether some of its events are rejected.
    rejects: bool,
}

/// All of them, with the files that they send.
fn clients(dir: &Path, url: &str, truth: &Truth) -> Vec<Client> {
    let write = |name: &str, content: Vec<u8>| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let program = |name: &'static str, program: &str, args: &[PathBuf]| {
        let mut command = Command::new(program);
        command.args(args).env("LOGWEIR_URL", url).env("LOGWEIR_AGENT", name).env("LOGWEIR_BATCH", BATCH);
        command.env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
        command
    };
    let example = |name: &str| examples().join(name);
    let mut all = Vec::new();
    let mut args = vec![example("curl.sh")];
    for n in 0..4 {
        let (from, to) = (n * EVENTS / 4, (n + 1) * EVENTS / 4);
        args.push(write(&format!("curl-{n}"), lines(truth, "curl", from, to, n > 0)));
    }
    all.push(Client { name: "curl", command: program("curl", "sh", &args), stdin: None, rejects: true });
    for (name, interpreter, file) in [
        ("shell", "sh", "logweir-post.sh"),
        ("python", "python3", "logweir_client.py"),
        ("node", "node", "logweir.mjs"),
    ] {
        let stdin = Some(write(name, lines(truth, name, 0, EVENTS, false)));
        let command = program(name, interpreter, &[example(file)]);
        all.push(Client { name, command, stdin, rejects: true });
    }
    let stdin = Some(write("logging", lines(truth, "logging", 0, EVENTS, true)));
    let script = write("app.py", LOGGING.into());
    let command = program("logging", "python3", &[script, examples()]);
    all.push(Client { name: "logging", command, stdin, rejects: false });
    all
}

async fn run(mut client: Client) -> (&'static str, bool, Output) {
    let stdin = client.stdin.map_or_else(Stdio::null, |path| std::fs::File::open(path).unwrap().into());
    let child = client.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|e| panic!("{}: {e}; ./test installs what is needed", client.name));
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    (client.name, client.rejects, output.unwrap_or_else(|_| panic!("{} doesn't end", client.name)).unwrap())
}

/// How many requests a collector answered with this code.
async fn answered(stack: &Stack, code: &str) -> f64 {
    let url = format!("http://{}/metrics", stack.collectors[0].admin);
    let text = http().get(url).send().await.unwrap().text().await.unwrap();
    let of_code = |line: &&str| {
        line.starts_with("logweir_collector_requests_total{") && line.contains(&format!("code=\"{code}\""))
    };
    text.lines().filter(of_code).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_examples_send_is_counted_once_whatever_they_are_answered() {
    let mut stack = Stack::start("clients").await;
    let collector = stack.add_collector(&COLLECTOR);
    stack.start_all();
    stack.ready().await;
    let faults = Faults { drop_answer: 0.25, cut_request: 0.1, repeat: 0.1, too_large: 0.0 };
    let proxy = Proxy::start(vec![collector], faults, 7, stack.truth.clone()).await;
    let mut running = JoinSet::new();
    for client in clients(stack.dir(), &proxy.url(), &stack.truth) {
        running.spawn(run(client));
    }
    // Nobody takes anything out of the queue, until all of them must have met it full.
    eventually("refusals", LIMIT, || async { answered(&stack, "queue_full").await >= 10.0 }).await;
    stack.add_worker(&[]);
    stack.start_all();
    for (name, rejects, output) in running.join_all().await {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(i32::from(rejects)), "{name}: {said}");
        assert_eq!(said.contains("invalid_level"), rejects, "{name}: {said}");
    }
    for code in ["rate_limited", "too_large"] {
        assert!(answered(&stack, code).await >= 4.0, "{code} didn't occur");
    }
    let dropped = proxy.happened().dropped.load(Ordering::Relaxed);
    assert!(dropped >= 10, "only {dropped} answers were lost");
    proxy.settled(LIMIT).await;
    stack.assert_exact(LIMIT, false).await;
    assert_eq!(stack.truth.total(|_| true), 5 * u64::try_from(EVENTS).unwrap());
}
