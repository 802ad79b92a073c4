//! Quotas: whose they are, how they change while the collector runs, and that the times it tells are true.

use crate::common::http::{Answer, Client, get};
use crate::common::process::Process;
use crate::common::redis::Redis;
use crate::common::{BATCH, NDJSON, Running, event, events, wait_for};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

fn retry_after(answer: &Answer) -> Duration {
    Duration::from_millis(answer.json()["retry_after_ms"].as_u64().unwrap())
}

/// What `/v1/limits` says of an agent's events.
async fn quota_of(public: std::net::SocketAddr, agent: &str) -> (u64, u64) {
    let mut client = Client::connect(public).await;
    client.request("GET /v1/limits", &[("Logweir-Agent", agent)], None).await;
    let quota = client.answer().await.json()["quota"]["events"].clone();
    (quota["rate"].as_u64().unwrap(), quota["burst"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quotas_file_is_read_again_on_change_and_on_sighup_and_a_wrong_one_changes_nothing() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quotas.toml");
    std::fs::write(&file, "[agents.\"batch/*\"]\nrate = 1\nburst = 40\n").unwrap();
    let flags = ["--rate=5", "--burst=50", "--hold=0s", "--quotas", file.to_str().unwrap()];
    let collector = Process::start(&redis, &flags).await;
    assert_eq!(quota_of(collector.public, "web").await, (5, 50));
    assert_eq!(quota_of(collector.public, "batch/1").await, (1, 40));
    // A connection that lives through all of it, and an agent that has used half of its bucket.
    let mut client = Client::connect(collector.public).await;
    let headers = [NDJSON, ("Logweir-Agent", "batch/1")];
    client.post(&headers, events(20).as_bytes()).await.accepted();

    let errors = async || {
        let text = get(collector.admin, "/metrics").await.text();
        let line = text.lines().find_map(|l| l.strip_prefix("logweir_collector_quotas_file_errors_total "));
        line.unwrap().parse::<f64>().unwrap()
    };
    let after = async |before: f64| {
        wait_for("the wrong file to be seen", async || (errors().await > before).then_some(())).await;
    };
    for text in ["[agents.\"batch/*\"]\nrate = 0\n", "nonsense"] {
        let before = errors().await;
        std::fs::write(&file, text).unwrap();
        after(before).await;
        assert_eq!(quota_of(collector.public, "batch/1").await, (1, 40));
    }
    assert!(collector.log().contains("the quotas file can't be used"), "{}", collector.log());

    std::fs::write(&file, "[agents.\"batch/1\"]\nrate = 1\nburst = 400\n").unwrap();
    wait_for("the new quota", async || {
        (quota_of(collector.public, "batch/1").await == (1, 400)).then_some(())
    })
    .await;
    assert_eq!(quota_of(collector.public, "batch/2").await, (5, 50));
    // At least half of the bucket is left, and it isn't full.
    let answer = client.post(&headers, events(400).as_bytes()).await;
    answer.problem(429, "rate_limited");
    let left = answer.header("ratelimit").unwrap();
    let left: u64 = left.strip_prefix("\"events\";r=").unwrap().split(';').next().unwrap().parse().unwrap();
    assert!((200..400).contains(&left), "{left}");

    // A file that hasn't changed is read again on SIGHUP; only a wrong one is heard of.
    let before = errors().await;
    std::fs::write(&file, "nonsense").unwrap();
    after(before).await;
    for _ in 0..3 {
        let before = errors().await;
        collector.signal("-HUP");
        after(before).await;
    }
    assert_eq!(quota_of(collector.public, "batch/1").await, (1, 400));
    client.post(&[NDJSON], event("a").as_bytes()).await.accepted();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_quotas_file_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quotas.toml");
    std::fs::write(&file, "[agents.\"a\"]\nspeed = 1\n").unwrap();
    let path = file.to_str().unwrap();
    let argv = ["logweir-collector", "--quotas", path].iter().map(Into::into).collect();
    let args = logweir_telemetry::config::try_parse(argv, |_| None).unwrap();
    let message = logweir_collector::check(&args).unwrap_err().to_string();
    assert!(message.contains(path) && message.contains("speed") && message.contains("line 2"), "{message}");
}

/// What came of one client's requests: how many second tries were taken of how many, and when they came.
#[derive(Default)]
struct Returns {
    taken: usize,
    refused: usize,
    at: Vec<Instant>,
}

/// Sends batches for `span`, and obeys what it is told, to the millisecond.
async fn obey(public: std::net::SocketAddr, agent: String, body: String, span: Duration) -> Returns {
    let headers = |name: &str| {
        [NDJSON.0.to_owned(), NDJSON.1.to_owned(), "Logweir-Agent".to_owned(), agent.clone(), name.to_owned()]
    };
    let producer = uuid_like(&agent);
    let mut returns = Returns::default();
    let end = Instant::now() + span;
    let mut seq = 1;
    while Instant::now() < end {
        let [kind, ndjson, by, agent, name] = headers(&format!("{producer}/{seq}"));
        let all = [(&*kind, &*ndjson), (&*by, &*agent), ("Logweir-Batch", &*name)];
        seq += 1_000;
        let mut client = Client::connect(public).await;
        let mut answer = client.post(&all, body.as_bytes()).await;
        let mut tries = 0;
        while answer.status != 202 {
            assert!(matches!(answer.status, 429 | 503), "{}", answer.text());
            if tries == 1 {
                returns.refused += 1;
            }
            tries += 1;
            sleep(retry_after(&answer)).await;
            // Later there are only stragglers, who would lower the mean.
            if Instant::now() < end {
                returns.at.push(Instant::now());
            }
            client = Client::connect(public).await;
            answer = client.post(&all, body.as_bytes()).await;
        }
        returns.taken += usize::from(tries == 1);
    }
    returns
}

/// A producer of this agent's own.
fn uuid_like(agent: &str) -> String {
    let number: u64 = agent.bytes().filter(u8::is_ascii_digit).fold(0, |n, b| n * 10 + u64::from(b - b'0'));
    format!("{}{number:012}", &BATCH[..24])
}

/// At least 95 % of the second tries were taken, and no second saw more than twice as many returns as the mean of
/// all seconds between the first and the last.
fn judge(all: &[Returns]) {
    let (taken, refused) = all.iter().fold((0, 0), |(t, r), one| (t + one.taken, r + one.refused));
    let tries = taken + refused;
    assert!(tries >= 100, "only {tries} were refused");
    assert!(taken * 100 >= tries * 95, "{taken} of {tries} second tries were taken");
    let mut at: Vec<Instant> = all.iter().flat_map(|one| one.at.iter().copied()).collect();
    at.sort_unstable();
    let (first, last) = (at[0], at[at.len() - 1]);
    let seconds = usize::try_from((last - first).as_secs()).unwrap() + 1;
    let mut counts = vec![0_usize; seconds];
    for one in &at {
        counts[usize::try_from((*one - first).as_secs()).unwrap()] += 1;
    }
    let most = *counts.iter().max().unwrap();
    assert!(most * seconds <= at.len() * 2, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_agents_over_their_quota_come_back_when_they_are_told_and_are_taken() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &["--rate=20", "--burst=40", "--hold=0s"]).await;
    let mut agents = JoinSet::new();
    for n in 0..50 {
        let (public, body) = (collector.public, events(40));
        agents.spawn(obey(public, format!("agent-{n}"), body, Duration::from_secs(7)));
    }
    judge(&agents.join_all().await);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_agents_before_a_full_queue_come_back_when_they_are_told_and_are_taken() {
    let redis = Redis::start();
    let flags = ["--max-queue-entries=100", "--hold=0s"];
    let collector = Running::start(&redis, &flags).await;
    let mut agents = JoinSet::new();
    for n in 0..50 {
        let (public, body) = (collector.public, event("a"));
        agents.spawn(obey(public, format!("agent-{n}"), body, Duration::from_secs(8)));
    }
    // A worker that finishes 50 batches a second.
    let worker = async {
        loop {
            sleep(Duration::from_millis(20)).await;
            redis.drain(1);
        }
    };
    let all = tokio::select! {
        all = agents.join_all() => all,
        () = worker => unreachable!("it has no end"),
    };
    judge(&all);
    collector.stop().await;
}
