use super::*;
use crate::send::testing::{Scripted, answer, batch, problem, settle};
use logweir_proto::answer::{Problem, ProblemCode};
use policy::Outcome;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Sends these batches and gives back the first numbers of those that were reported, in order.
async fn reported(post: &Arc<Scripted>, batches: &[(u64, u64)]) -> Vec<u64> {
    let sender = Sender::new(post.shared());
    reported_by(sender, batches, 1).await
}

async fn reported_by(sender: Sender<Arc<Scripted>>, batches: &[(u64, u64)], wakes: usize) -> Vec<u64> {
    let (to_sender, sealed) = mpsc::channel(1);
    let (wake, mut wakes) = mpsc::channel(wakes);
    let mut tasks = JoinSet::new();
    tasks.spawn(sender.run(sealed, wake));
    // A reader that hands over everything before it listens: the sender must not block it.
    for (seq, events) in batches {
        to_sender.send(batch(*seq, *events)).await.unwrap();
    }
    drop(to_sender);
    let mut seen = Vec::new();
    while let Some(wake) = wakes.recv().await {
        let Wake::Settled(settled) = wake else { panic!("only batches are reported") };
        seen.push(settled.id.seq.get());
    }
    tasks.join_next().await.unwrap().unwrap().unwrap();
    seen
}

#[tokio::test(start_paused = true)]
async fn every_batch_is_reported_once_whatever_happens() {
    let post = Scripted::slow(Duration::from_millis(20), |request| match request.attempt % 7 {
        1 => Outcome::Failed("reset".into()),
        3 => answer(500, ""),
        5 => {
            let mut said = Problem::new(ProblemCode::QueueFull, "full");
            said.retry_after_ms = Some(300);
            problem(&said)
        }
        6 => answer(413, ""),
        _ => settle(request, &[]),
    });
    let batches: Vec<(u64, u64)> = (0..100).map(|n| (1 + n * 8, 8)).collect();
    let mut seen = reported(&post, &batches).await;
    seen.sort_unstable();
    assert_eq!(seen, batches.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn no_more_are_posted_at_a_time_than_allowed() {
    for (concurrency, seconds) in [(1, 12.0), (4, 3.0)] {
        let post =
            Scripted::slow(Duration::from_secs(1), |request| settle(request, &[])).at_a_time(concurrency);
        let begun = Instant::now();
        let batches: Vec<(u64, u64)> = (1..=12).map(|n| (n, 1)).collect();
        reported(&post, &batches).await;
        let took = begun.elapsed().as_secs_f64();
        assert!((seconds..seconds + 0.1).contains(&took), "{concurrency}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_high_queue_is_fed_ever_more_slowly() {
    let post = Scripted::slow(Duration::from_secs(1), |request| match settle(request, &[]) {
        Outcome::Answer(answer) => Outcome::Answer(policy::Answer { pressure: Some(0.9), ..answer }),
        failed => failed,
    });
    let begun = Instant::now();
    let batches: Vec<(u64, u64)> = (1..=12).map(|n| (n, 1)).collect();
    reported(&post, &batches).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((8.0..8.1).contains(&took), "four at first, then two, then one by one: {took}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_collector_costs_no_batch_its_turn_and_is_asked_again_later() {
    // The first one is dead from the 10th to the 60th second.
    let begun = Instant::now();
    let post = Scripted::slow(Duration::from_millis(100), move |request| {
        let second = begun.elapsed().as_secs();
        if request.to == 0 && (10..60).contains(&second) {
            Outcome::Failed("refused".into())
        } else {
            settle(request, &[])
        }
    })
    .of(2)
    .at_a_time(1);
    let batches: Vec<(u64, u64)> = (1..=1_500).map(|n| (n, 1)).collect();
    assert_eq!(reported(&post, &batches).await.len(), 1_500);
    let sent = post.sent();
    let second = |at: Instant| (at - begun).as_secs();
    let to_second: Vec<_> = sent.iter().zip(post.times()).filter(|(sent, _)| sent.to == 1).collect();
    let first_and_last = (second(to_second[0].1), second(to_second[to_second.len() - 1].1));
    assert_eq!(first_and_last.0, 10, "at once");
    assert!((60..121).contains(&first_and_last.1), "back after a while: {first_and_last:?}");
    let failed = sent.len() - 1_500;
    assert!((4..20).contains(&failed), "and not asked all the time: {failed}");
    let by_number: std::collections::HashSet<_> = sent.iter().map(|sent| sent.id).collect();
    assert_eq!(by_number.len(), 1_500, "each batch under its one name, whoever is asked");
}

#[tokio::test(start_paused = true)]
async fn with_all_collectors_dead_the_gate_closes_as_with_one() {
    let begun = Instant::now();
    let post = Scripted::new(move |request| {
        if begun.elapsed().as_secs() < 300 { Outcome::Failed("refused".into()) } else { settle(request, &[]) }
    })
    .of(3);
    assert_eq!(reported(&post, &[(1, 1), (2, 1)]).await.len(), 2);
    let attempts = post.sent().len();
    assert!(attempts < 80, "{attempts}");
    assert!(begun.elapsed().as_secs() <= 361, "at most the longest backoff later");
}

#[tokio::test(start_paused = true)]
async fn one_refusal_is_heeded_by_all() {
    let post = Scripted::slow(Duration::from_millis(10), |request| {
        if request.attempt < 4 {
            let mut said = Problem::new(ProblemCode::RateLimited, "slowly");
            said.retry_after_ms = Some(5_000);
            problem(&said)
        } else {
            settle(request, &[])
        }
    });
    let begun = Instant::now();
    let batches: Vec<(u64, u64)> = (1..=20).map(|n| (n, 1)).collect();
    reported(&post, &batches).await;
    let times: Vec<f64> = post.times().iter().map(|at| (*at - begun).as_secs_f64()).collect();
    assert_eq!(times.len(), 24, "the four that were on their way, and no further refusal");
    assert!(times[4] >= 5.0 && times[5] > times[4], "one probe first: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_a_limit_for_all_batches_together() {
    let post = Scripted::new(|request| settle(request, &[])).at_most(100);
    let sender = Sender::new(post.shared());
    let batches: Vec<(u64, u64)> = (0..20).map(|n| (1 + n * 50, 50)).collect();
    let begun = Instant::now();
    assert_eq!(reported_by(sender, &batches, 1).await.len(), 20);
    let took = begun.elapsed().as_secs_f64();
    assert!((8.9..9.6).contains(&took), "1,000 events at 100/s, the first 100 at once: {took}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_its_reader_has_gone() {
    let post = Scripted::new(|request| settle(request, &[]));
    let (to_sender, sealed) = mpsc::channel(1);
    let (wake, wakes) = mpsc::channel(1);
    drop(wakes);
    to_sender.send(batch(1, 1)).await.unwrap();
    let ended = Sender::new(post.shared()).run(sealed, wake).await;
    assert!(matches!(ended, Err(SendError::ReaderGone)), "{ended:?}");
}

fn small() -> limits::OwnLimits {
    let body = r#"{"limits": {"batch_events": 10, "decoded_bytes": 1000, "wire_bytes": 1000},
        "quota": {"events": {"rate": 100, "burst": 200}, "bytes": {"rate": 1000000, "burst": 1000000}}}"#;
    limits::OwnLimits::parse(body.as_bytes()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_a_collector_that_comes_up_late_or_takes_over_are_learnt_soon() {
    let post = Scripted::new(|request| match request.to {
        0 => Outcome::Failed("refused".into()),
        _ => settle(request, &[]),
    });
    let post = post.of(2).saying(small());
    post.unsaid.store(3, std::sync::atomic::Ordering::Relaxed);
    let shared = post.shared();
    let mut tasks = JoinSet::new();
    let learner = Arc::clone(&shared);
    tasks.spawn(async move { learn_limits(&learner).await });
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(shared.guidance.batch_events(), 10, "after 1, 2 and 4 s at most");
    assert_eq!(*post.asked.lock().unwrap(), [0; 4]);
    // The second takes over.
    deliver(Arc::clone(&shared), batch(1, 3)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(post.asked.lock().unwrap().last(), Some(&1));
    // And it isn't asked more often than need be.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(post.asked.lock().unwrap().len() <= 16, "{:?}", post.asked.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_known_is_not_run_into() {
    // The collector's own bucket, which refuses what comes too soon.
    let bucket = std::sync::Mutex::new((200.0_f64, Instant::now()));
    let post = Scripted::slow(Duration::from_millis(5), move |request| {
        let mut bucket = bucket.lock().unwrap();
        let now = Instant::now();
        bucket.0 = (bucket.0 + (now - bucket.1).as_secs_f64() * 100.0).min(200.0);
        bucket.1 = now;
        if bucket.0 < 50.0 {
            let mut said = Problem::new(ProblemCode::RateLimited, "slowly");
            said.retry_after_ms = Some(500);
            return problem(&said);
        }
        bucket.0 -= 50.0;
        settle(request, &[])
    })
    .saying(small());
    let batches: Vec<(u64, u64)> = (0..104).map(|n| (1 + n * 50, 50)).collect();
    let begun = Instant::now();
    assert_eq!(reported(&post, &batches).await.len(), 104);
    let took = begun.elapsed().as_secs_f64();
    assert!((47.5..54.5).contains(&took), "5,200 events, up to 200 at once and 100 a second: {took}");
    let refused = post.sent().len() - 104;
    assert!(refused <= 5, "{refused} refusals");
}

#[tokio::test(start_paused = true)]
async fn credentials_are_looked_for_only_where_there_are_some() {
    let post = Scripted::new(|request| settle(request, &[]));
    let shared = post.shared();
    let looks = || post.looks.load(std::sync::atomic::Ordering::Relaxed);
    let mut tasks = JoinSet::new();
    let sender = Arc::clone(&shared);
    tasks.spawn(async move { watch_credentials(&sender).await });
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(looks(), 0, "it isn't even woken for them");
    // The configuration names a token's file now.
    post.has_credentials.store(true, std::sync::atomic::Ordering::Relaxed);
    shared.target_has_changed();
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(looks(), 3);
    post.has_credentials.store(false, std::sync::atomic::Ordering::Relaxed);
    shared.target_has_changed();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(looks() <= 4, "{}", looks());
}
