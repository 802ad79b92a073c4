use super::bucket::REFILL;
use super::*;
use tokio::time::{Instant, advance, sleep};

const PLENTY: Quota = Quota { rate: 1 << 30, burst: 1 << 31 };

fn of(max: usize, quotas: Quotas) -> Limiters {
    Limiters::new(max, Table::new(quotas))
}

fn stranger(id: &str) -> Agent {
    Agent { id: id.into(), authenticated: false }
}

fn vouched(id: &str) -> Agent {
    Agent { id: id.into(), authenticated: true }
}

/// Asks without an identity.
fn ask(limiters: &Limiters, agent: &Agent, events: u64, bytes: u64, patience: Duration) -> Admission {
    limiters.admit(&Ask { agent, events, bytes, key: None, patience })
}

/// Asks for a batch that has an identity.
fn ask_as(limiters: &Limiters, agent: &Agent, key: u64, events: u64) -> Admission {
    limiters.admit(&Ask { agent, events, bytes: 0, key: Some(key), patience: Duration::ZERO })
}

fn limiters(rate: u64, burst: u64) -> Limiters {
    of(100, Quotas { events: Quota::new(rate, burst), bytes: PLENTY })
}

fn refused(admission: &Admission) -> Duration {
    match admission {
        Admission::Refused(denial) => denial.wait,
        Admission::After(wait, _) => panic!("admitted after {wait:?}"),
    }
}

fn admitted(admission: Admission) -> Duration {
    match admission {
        Admission::After(wait, charge) => {
            charge.keep();
            wait
        }
        Admission::Refused(denial) => panic!("refused: {denial:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_burst_passes_and_then_the_rate() {
    let limiters = limiters(100, 200);
    let a = stranger("a");
    assert_eq!(admitted(ask(&limiters, &a, 200, 0, Duration::ZERO)), Duration::ZERO);
    let wait = refused(&ask(&limiters, &a, 50, 0, Duration::ZERO));
    assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_millis(551), "{wait:?}");
    // Another agent has its own.
    assert_eq!(admitted(ask(&limiters, &stranger("b"), 200, 0, Duration::ZERO)), Duration::ZERO);
    advance(wait).await;
    assert_eq!(admitted(ask(&limiters, &a, 50, 0, Duration::ZERO)), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_told_is_true_at_any_moment() {
    for (rate, burst, batch) in
        [(7, 3, 2), (100, 200, 150), (1_000, 10, 10), (50_000, 100_000, 9_999), (3, 1, 40)]
    {
        let limiters = limiters(rate, burst);
        let a = stranger("a");
        for round in 0..200_u64 {
            let wait = match ask_as(&limiters, &a, round, batch) {
                Admission::After(_, charge) => {
                    charge.keep();
                    // Odd steps, so that the refills are met at any phase.
                    advance(Duration::from_micros(round * 7_919 % 30_011)).await;
                    continue;
                }
                Admission::Refused(denial) => denial.wait,
            };
            // A good deal earlier it is refused, and that changes nothing.
            let early = wait.saturating_sub(REFILL + Duration::from_millis(5));
            advance(early).await;
            if early > Duration::ZERO {
                refused(&ask_as(&limiters, &a, round, batch));
            }
            advance(wait - early + Duration::from_millis(1)).await;
            admitted(ask_as(&limiters, &a, round, batch));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_settles_at_its_quota() {
    let limiters = limiters(1_000, 100);
    let a = stranger("a");
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < Duration::from_secs(60) {
        match ask(&limiters, &a, 37, 0, Duration::ZERO) {
            Admission::After(_, charge) => {
                charge.keep();
                sent += 37;
            }
            Admission::Refused(denial) => sleep(denial.wait).await,
        }
    }
    assert!((55_000..=60_300).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn asking_all_the_time_costs_little_of_the_quota() {
    let limiters = limiters(1_000, 100);
    let a = stranger("a");
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < Duration::from_secs(20) {
        if let Admission::After(_, charge) = ask(&limiters, &a, 5, 0, Duration::ZERO) {
            charge.keep();
            sent += 5;
        }
        advance(Duration::from_micros(1_900)).await;
    }
    assert!((19_400..=20_200).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_burst_passes_on_credit() {
    let limiters = limiters(100, 100);
    let a = stranger("a");
    assert_eq!(admitted(ask(&limiters, &a, 1_000, 0, Duration::ZERO)), Duration::ZERO);
    // 900 are owed, and one more is wanted.
    let wait = refused(&ask(&limiters, &a, 1, 0, Duration::ZERO));
    assert!(wait >= Duration::from_millis(9_010) && wait <= Duration::from_millis(9_062), "{wait:?}");
    advance(wait).await;
    admitted(ask(&limiters, &a, 1, 0, Duration::ZERO));
    // A long pause fills the bucket up to the burst, and no further.
    advance(Duration::from_secs(3_600)).await;
    admitted(ask(&limiters, &a, 100, 0, Duration::ZERO));
    refused(&ask(&limiters, &a, 10, 0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_charged_at_once_and_refunded_when_it_goes() {
    let limiters = limiters(100, 100);
    let a = stranger("a");
    admitted(ask(&limiters, &a, 100, 0, Duration::ZERO));
    let Admission::After(first, charge) = ask(&limiters, &a, 40, 0, Duration::from_secs(1)) else {
        panic!("must wait")
    };
    assert!(first >= Duration::from_millis(400) && first <= Duration::from_millis(451), "{first:?}");
    let second = refused(&ask(&limiters, &a, 40, 0, Duration::from_millis(700)));
    assert!(second >= Duration::from_millis(800), "{second:?}");
    drop(charge);
    // The second one's is still set aside; the first one's has come back.
    let third = refused(&ask(&limiters, &a, 40, 0, Duration::ZERO));
    assert!(third >= Duration::from_millis(800) && third <= Duration::from_millis(851), "{third:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_count_too() {
    let quotas = Quotas { events: PLENTY, bytes: Quota::new(1_000, 1_000) };
    let limiters = of(1, quotas);
    let a = stranger("a");
    admitted(ask(&limiters, &a, 1, 1_000, Duration::ZERO));
    let Admission::Refused(denial) = ask(&limiters, &a, 1, 500, Duration::ZERO) else { panic!("refused") };
    assert!(denial.wait >= Duration::from_millis(500), "{denial:?}");
    assert_eq!(denial.bytes_left, 0);
    assert!(denial.events_left > 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn the_map_is_bounded() {
    let limiters = limiters(1, 1);
    for n in 0..1_000 {
        admitted(ask(&limiters, &stranger(&format!("agent-{n}")), 1, 0, Duration::ZERO));
    }
    assert_eq!(limiters.count(), 100);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_refused_together_are_told_different_times_and_all_are_true() {
    let limiters = limiters(100, 100);
    let a = stranger("a");
    admitted(ask_as(&limiters, &a, 0, 100));
    let waits: Vec<Duration> = (1..=16).map(|key| refused(&ask_as(&limiters, &a, key, 50))).collect();
    for (n, wait) in (1..).zip(&waits) {
        let least = Duration::from_millis(500 * n);
        assert!(*wait >= least && *wait <= least + Duration::from_millis(51), "{n}: {wait:?}");
    }
    // Whoever comes meanwhile stands behind them, and asking again too early is told the same moment.
    assert!(refused(&ask_as(&limiters, &a, 99, 10)) >= Duration::from_millis(8_100));
    advance(Duration::from_millis(200)).await;
    assert_eq!(refused(&ask_as(&limiters, &a, 2, 50)), waits[1] - Duration::from_millis(200));
    let start = Instant::now() - Duration::from_millis(200);
    for (key, wait) in (1..).zip(&waits) {
        tokio::time::sleep_until(start + *wait).await;
        admitted(ask_as(&limiters, &a, key, 50));
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_identity_any_promise_that_is_due_will_do() {
    let limiters = limiters(100, 100);
    let a = stranger("a");
    admitted(ask(&limiters, &a, 100, 0, Duration::ZERO));
    let small = refused(&ask(&limiters, &a, 20, 0, Duration::ZERO));
    let large = refused(&ask(&limiters, &a, 80, 0, Duration::ZERO));
    advance(small).await;
    // The small one's promise doesn't do for the large one, which isn't due.
    refused(&ask(&limiters, &a, 80, 0, Duration::ZERO));
    advance(large - small).await;
    admitted(ask(&limiters, &a, 80, 0, Duration::ZERO));
    admitted(ask(&limiters, &a, 20, 0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_for_nobody_comes_back() {
    let limiters = limiters(100, 100);
    let a = stranger("a");
    admitted(ask_as(&limiters, &a, 0, 100));
    for key in 1..=40 {
        refused(&ask_as(&limiters, &a, key, 100));
    }
    // 16 of them were promised; none comes. The last one was told up to 17 s, and kept half as long again.
    advance(Duration::from_secs(30)).await;
    admitted(ask_as(&limiters, &a, 100, 100));
    refused(&ask_as(&limiters, &a, 101, 50));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_told_is_exact_and_where_many_come_together_spread_as_far_as_the_burst_lasts() {
    let limiters = limiters(100, 200);
    let mut times = Vec::new();
    for n in 0..200 {
        let agent = stranger(&format!("agent-{n}"));
        // 500 are owed, so 700 are missing: more than the burst.
        admitted(ask_as(&limiters, &agent, 0, 700));
        let Admission::Refused(denial) = ask_as(&limiters, &agent, 1, 200) else { panic!("refused") };
        assert!(n > 0 || denial.come_back == denial.wait, "who is alone is told no more than the time");
        assert!(denial.come_back >= denial.wait && denial.come_back <= denial.wait + Duration::from_secs(2));
        times.push((denial.come_back - denial.wait).as_secs_f64());
    }
    for quarter in 0..4_u32 {
        let from = f64::from(quarter) / 2.0;
        let here = times.iter().filter(|t| (from..from + 0.5).contains(*t)).count();
        assert!((30..=70).contains(&here), "{here} of 200 from {from}");
    }
}

#[tokio::test(start_paused = true)]
async fn made_up_ids_push_out_one_another_and_nobody_who_is_vouched_for() {
    let limiters = of(100, Quotas { events: Quota::new(1, 10), bytes: PLENTY });
    for n in 0..60 {
        admitted(ask(&limiters, &vouched(&format!("real-{n}")), 10, 0, Duration::ZERO));
    }
    for n in 0..10_000 {
        admitted(ask(&limiters, &stranger(&format!("made-up-{n}")), 10, 0, Duration::ZERO));
    }
    assert_eq!(limiters.count(), 100);
    // None of their buckets is full again.
    for n in 0..60 {
        refused(&ask_as(&limiters, &vouched(&format!("real-{n}")), 1, 10));
    }
    // A name that nobody vouches for is another agent, even if it is the same.
    admitted(ask(&limiters, &stranger("real-1"), 10, 0, Duration::ZERO));
    // With no place left for them, strangers share one bucket, and the vouched ones push out one another.
    for n in 60..100 {
        admitted(ask(&limiters, &vouched(&format!("real-{n}")), 10, 0, Duration::ZERO));
    }
    admitted(ask(&limiters, &stranger("x"), 6, 0, Duration::ZERO));
    refused(&ask_as(&limiters, &stranger("y"), 1, 6));
    admitted(ask(&limiters, &vouched("real-100"), 10, 0, Duration::ZERO));
    assert_eq!(limiters.count(), 100);
    admitted(ask(&limiters, &vouched("real-0"), 10, 0, Duration::ZERO));
    refused(&ask_as(&limiters, &vouched("real-99"), 1, 10));
}

#[tokio::test(start_paused = true)]
async fn other_quotas_leave_a_bucket_as_full_as_it_is_and_a_promise_as_it_was() {
    let limiters = limiters(100, 100);
    let (a, b) = (stranger("a"), stranger("b"));
    admitted(ask(&limiters, &a, 75, 0, Duration::ZERO));
    admitted(ask_as(&limiters, &b, 0, 200));
    let promised = refused(&ask_as(&limiters, &b, 1, 100));
    let quotas = |rate, burst| Quotas { events: Quota::new(rate, burst), bytes: PLENTY };
    assert!(limiters.change(Table::new(quotas(1_000, 4_000))));
    assert!(!limiters.change(Table::new(quotas(1_000, 4_000))));
    // A quarter was left.
    let Admission::Refused(denial) = ask_as(&limiters, &a, 1, 4_000) else { panic!("refused") };
    assert_eq!((denial.events_left, denial.quotas), (1_000, quotas(1_000, 4_000)));
    assert!(denial.wait >= Duration::from_secs(3) && denial.wait <= Duration::from_millis(3_051));
    // Ten times the rate, so ten times what was owed: neither a gift nor a punishment.
    advance(promised).await;
    admitted(ask_as(&limiters, &b, 1, 100));
    let c = stranger("c");
    admitted(ask(&limiters, &c, 4_000, 0, Duration::ZERO));
}
