use super::*;
use crate::send::testing::{Scripted, answer, batch, problem, settle};
use logweir_proto::answer::{Problem, ProblemCode};
use policy::Outcome;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Sends these batches and gives back the first numbers of those that were reported, in order.
async fn reported(post: &Arc<Scripted>, concurrency: usize, batches: &[(u64, u64)]) -> Vec<u64> {
    let sender = Sender::new(post.shared(), concurrency, None);
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
    let mut seen = reported(&post, 4, &batches).await;
    seen.sort_unstable();
    assert_eq!(seen, batches.iter().map(|(seq, _)| *seq).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn no_more_are_posted_at_a_time_than_allowed() {
    for (concurrency, seconds) in [(1, 12.0), (4, 3.0)] {
        let post = Scripted::slow(Duration::from_secs(1), |request| settle(request, &[]));
        let begun = Instant::now();
        let batches: Vec<(u64, u64)> = (1..=12).map(|n| (n, 1)).collect();
        reported(&post, concurrency, &batches).await;
        let took = begun.elapsed().as_secs_f64();
        assert!((seconds..seconds + 0.1).contains(&took), "{concurrency}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_high_queue_is_fed_one_batch_at_a_time() {
    let post = Scripted::slow(Duration::from_secs(1), |request| match settle(request, &[]) {
        Outcome::Answer(answer) => Outcome::Answer(policy::Answer { pressure: Some(0.9), ..answer }),
        failed => failed,
    });
    let begun = Instant::now();
    let batches: Vec<(u64, u64)> = (1..=12).map(|n| (n, 1)).collect();
    reported(&post, 4, &batches).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((9.0..9.1).contains(&took), "four at first, then one by one: {took}");
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
    reported(&post, 4, &batches).await;
    let times: Vec<f64> = post.times().iter().map(|at| (*at - begun).as_secs_f64()).collect();
    assert_eq!(times.len(), 24, "the four that were on their way, and no further refusal");
    assert!(times[4] >= 5.0 && times[5] > times[4], "one probe first: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_a_limit_for_all_batches_together() {
    let post = Scripted::new(|request| settle(request, &[]));
    let sender = Sender::new(post.shared(), 4, Some(MaxRate::new(100)));
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
    let ended = Sender::new(post.shared(), 4, None).run(sealed, wake).await;
    assert!(matches!(ended, Err(SendError::ReaderGone)), "{ended:?}");
}
