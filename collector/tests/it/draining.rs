//! SIGTERM under load, to the real program: nothing that was acknowledged is lost.

use crate::common::http::{Client, get};
use crate::common::process::Process;
use crate::common::redis::Redis;
use crate::common::{NDJSON, event};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What came of one poster's requests.
#[derive(Default)]
struct Posted {
    acknowledged: Vec<String>,
    /// After the signal, in the order that they came: 202, 503, and 0 for none.
    after: Vec<(u16, bool)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing_that_was_acknowledged() {
    let redis = Redis::start();
    let mut collector = Process::start(&redis, &["--drain-grace=700ms", "--shutdown-timeout=8s"]).await;
    let (to, signalled) = (collector.public, std::sync::Arc::new(std::sync::OnceLock::<Instant>::new()));
    let mut posters = JoinSet::new();
    for number in 0..8_u128 {
        let signalled = signalled.clone();
        posters.spawn(async move {
            let producer = uuid::Uuid::from_u128(number + 1);
            let mut posted = Posted::default();
            let mut client = Client::connect(to).await;
            for seq in 1.. {
                let batch = format!("{producer}/{seq}");
                let body = event("x");
                let answer = client.try_post(&[NDJSON, ("Logweir-Batch", &batch)], body.as_bytes()).await;
                let closing = answer.as_ref().is_some_and(|a| a.header("connection") == Some("close"));
                let status = answer.as_ref().map_or(0, |answer| answer.status);
                match answer {
                    Some(answer) if status == 202 => posted.acknowledged.push(answer.accepted().0),
                    Some(answer) => {
                        answer.problem(503, "draining");
                        assert!(closing, "a refused client is sent away");
                    }
                    None => {}
                }
                if signalled.get().is_some() {
                    posted.after.push((status, closing));
                }
                if status == 0 || closing {
                    match TcpStream::connect(to).await {
                        Ok(stream) => client = Client::over(stream),
                        Err(_) => break,
                    }
                }
            }
            posted
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    signalled.set(Instant::now()).unwrap();
    collector.signal("-TERM");
    // At once, while requests are still taken.
    let ready = async {
        while get(collector.admin, "/readyz").await.status != 503 {}
        signalled.get().unwrap().elapsed()
    };
    let ready = ready.await;
    assert!(ready < Duration::from_millis(700), "{ready:?}");
    let mut acknowledged = Vec::new();
    let mut seen = BTreeMap::new();
    for posted in posters.join_all().await {
        acknowledged.extend(posted.acknowledged);
        for (status, _) in posted.after {
            *seen.entry(status).or_insert(0) += 1;
        }
    }
    assert_eq!(collector.exit_code().await, Some(0));
    let took = signalled.get().unwrap().elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(8), "{took:?}");
    assert!(seen[&202] > 8, "within the grace requests are taken: {seen:?}");
    assert!(seen[&503] >= 8, "then they are refused: {seen:?}");

    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let stored = redis.entries();
    let stored: HashSet<String> =
        stored.iter().map(|entry| format!("{}/{}", text(&entry["producer"]), text(&entry["seq"]))).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|batch| !stored.contains(*batch)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
}
