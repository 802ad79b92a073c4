//! Schedules of faults from seeds. `LOGWEIR_SCHEDULES=N` says how many (25), `SEED=S` the first one's seed,
//! `LOGWEIR_PARALLEL=N` how many at a time (3).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::run::{Report, run};
use logweir_e2e::schedule::Plan;
use std::collections::HashMap;
use std::time::Instant;
use tokio::task::JoinSet;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

fn reason(error: tokio::task::JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_the_counts_are_exact() {
    let schedules = number("LOGWEIR_SCHEDULES").unwrap_or(25);
    let parallel = usize::try_from(number("LOGWEIR_PARALLEL").unwrap_or(3)).unwrap();
    let first: u64 = number("SEED").unwrap_or_else(|| rand::random_range(0..1 << 48));
    let start = Instant::now();
    let mut waiting: Vec<u64> = (0..schedules).rev().map(|n| first.wrapping_add(n)).collect();
    let (mut running, mut seeds) = (JoinSet::new(), HashMap::new());
    let (mut sum, mut failed) = (Report::default(), Vec::new());
    loop {
        while running.len() < parallel.max(1)
            && let Some(seed) = waiting.pop()
        {
            let plan = Plan::new(seed);
            println!("{plan}");
            let task = running.spawn(async move { run(&plan).await });
            seeds.insert(task.id(), seed);
        }
        match running.join_next_with_id().await {
            None => break,
            Some(Ok((id, report))) => {
                println!(
                    "seed {}: equal in every cell after {:.1} s; {report}",
                    seeds[&id],
                    report.took.as_secs_f64()
                );
                sum += report;
            }
            Some(Err(error)) => {
                let seed = seeds[&error.id()];
                println!("seed {seed}: FAILED: {}", reason(error));
                println!("to repeat it: SEED={seed} ./test soak 1");
                failed.push(seed);
            }
        }
    }
    println!(
        "{schedules} schedules in {:.0} s: {} with differences; {sum}",
        start.elapsed().as_secs_f64(),
        failed.len()
    );
    assert!(failed.is_empty(), "failing seeds: {failed:?}; to repeat one: SEED=… ./test soak 1");
}
