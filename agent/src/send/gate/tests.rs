use super::*;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

const WHOSE: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/1";

fn whose() -> Whose<'static> {
    Whose { batch: WHOSE.parse().unwrap(), trace: "" }
}

fn gate() -> (Arc<Gate>, Readiness, Registry) {
    let (metrics, registry) = Metrics::new();
    let readiness = Readiness::default();
    (Gate::new(metrics, readiness.clone()), readiness, registry)
}

fn told(seconds: u64) -> Hold {
    let wait = Wait::Told(Duration::from_secs(seconds));
    Hold { reason: Reason::QueueFull, wait, detail: "full".into() }
}

fn hold(reason: Reason, wait: Wait) -> Hold {
    Hold { reason, wait, detail: "why".into() }
}

async fn seconds_until_open(gate: &Arc<Gate>) -> (Pass, f64) {
    let begun = Instant::now();
    let pass = gate.enter().await;
    (pass, begun.elapsed().as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_before_the_time_that_one_was_told() {
    let (gate, ..) = gate();
    let (first, second) = (gate.enter().await, gate.enter().await);
    first.held(&told(10), whose());
    second.held(&told(4), whose());
    let (probe, waited) = seconds_until_open(&gate).await;
    assert!((10.0..=12.1).contains(&waited), "{waited}");
    probe.went(whose());
    assert!(seconds_until_open(&gate).await.1 < 0.01);
}

#[tokio::test(start_paused = true)]
async fn one_goes_first_and_the_others_follow_when_it_went() {
    let (gate, ..) = gate();
    gate.enter().await.held(&told(1), whose());
    let (probe, _) = seconds_until_open(&gate).await;
    let mut others = JoinSet::new();
    for _ in 0..3 {
        let gate = Arc::clone(&gate);
        others.spawn(async move { gate.enter().await.went(whose()) });
    }
    let early = tokio::time::timeout(Duration::from_secs(100), others.join_next()).await;
    assert!(early.is_err(), "nobody goes beside the probe");
    probe.went(whose());
    assert_eq!(others.join_all().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_goes_first() {
    let (gate, ..) = gate();
    gate.enter().await.held(&told(1), whose());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut all = JoinSet::new();
    for n in 0..3 {
        let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
        all.spawn(async move {
            for _ in 0..2 {
                let pass = gate.enter().await;
                order.lock().unwrap().push(n);
                pass.held(&told(1), whose());
            }
        });
        tokio::task::yield_now().await;
    }
    all.join_all().await;
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_makes_room_for_the_next() {
    let (gate, ..) = gate();
    gate.enter().await.held(&told(1), whose());
    drop(gate.enter().await);
    assert!(seconds_until_open(&gate).await.1 < 0.01);
    // So does a wait that is cancelled.
    gate.enter().await.held(&told(1), whose());
    assert!(tokio::time::timeout(Duration::from_millis(10), gate.enter()).await.is_err());
    drop(seconds_until_open(&gate).await);
}

#[tokio::test(start_paused = true)]
async fn failures_that_were_on_their_way_do_not_prolong_the_backoff() {
    let (gate, ..) = gate();
    let mut passes = Vec::new();
    for _ in 0..8 {
        passes.push(gate.enter().await);
    }
    for pass in passes {
        pass.held(&hold(Reason::Unreachable, Wait::Backoff), whose());
    }
    let (_probe, waited) = seconds_until_open(&gate).await;
    assert!(waited <= 0.26, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn backoff_grows_to_its_cap_and_begins_anew() {
    let (gate, ..) = gate();
    gate.enter().await.held(&hold(Reason::Unreachable, Wait::Backoff), whose());
    let mut longest: f64 = 0.0;
    for _ in 0..300 {
        let (probe, waited) = seconds_until_open(&gate).await;
        longest = longest.max(waited);
        probe.held(&hold(Reason::Unreachable, Wait::Backoff), whose());
    }
    assert!((30.0..=60.1).contains(&longest), "{longest}");
    gate.enter().await.went(whose());
    gate.enter().await.held(&hold(Reason::Unreachable, Wait::Backoff), whose());
    assert!(seconds_until_open(&gate).await.1 <= 0.26);
}

#[tokio::test(start_paused = true)]
async fn a_new_token_ends_the_wait_for_people() {
    let (gate, readiness, _) = gate();
    gate.enter().await.held(&hold(Reason::Unauthenticated, Wait::Long), whose());
    assert!(!readiness.is_ready());
    let waiting = Arc::clone(&gate);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { seconds_until_open(&waiting).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    gate.token_changed();
    let (probe, waited) = tasks.join_next().await.unwrap().unwrap();
    assert!((1.9..2.2).contains(&waited), "{waited}");
    probe.went(whose());
    assert!(readiness.is_ready());

    // It mends nothing else.
    gate.enter().await.held(&told(5), whose());
    gate.token_changed();
    assert!(seconds_until_open(&gate).await.1 >= 5.0);
}

#[tokio::test(start_paused = true)]
async fn the_time_is_counted_once_by_its_reason() {
    let (gate, readiness, registry) = gate();
    let (first, second) = (gate.enter().await, gate.enter().await);
    first.held(&told(8), whose());
    second.held(&told(8), whose());
    assert!(readiness.is_ready(), "a full queue is no fault of the agent's");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seconds = |gate: &Gate| {
        gate.refresh_metrics();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line =
            text.lines().find(|line| line.contains(r#"held_seconds_total{reason="queue_full"}"#)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((2.99..3.02).contains(&seconds(&gate)));
    let (probe, _) = seconds_until_open(&gate).await;
    probe.went(whose());
    let total = seconds(&gate);
    assert!((8.0..=10.1).contains(&total), "{total}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!((seconds(&gate) - total).abs() < 1e-9);
}
