//! Does what a plan says to a stack of its own, and asks the oracle.

use crate::poster::Poster;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::schedule::{Event, Input, Plan, Target};
use crate::source::{Rotation, Source, Steady};
use crate::stack::{AgentSpec, Stack};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(150);

/// How long all may take to come through when everything is well again.
const DRAIN: Duration = Duration::from_secs(75);

/// What happened in a schedule that ended well.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// SIGKILLs.
    pub kills: u32,
    /// Lines and events written.
    pub lines: u64,
    /// Answers that the proxy lost, requests that it cut, repeated, and answered 413.
    pub proxy: [u64; 4],
    /// How long it took.
    pub took: Duration,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.kills += other.kills;
        self.lines += other.lines;
        self.took += other.took;
        for (sum, n) in self.proxy.iter_mut().zip(other.proxy) {
            *sum += n;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lost, cut, repeated, too_large] = self.proxy;
        write!(
            f,
            "{} kills, {} lines, {lost} answers lost, {cut} requests cut, {repeated} repeated, {too_large} halved",
            self.kills, self.lines
        )
    }
}

/// Runs one schedule.
///
/// # Panics
/// When Postgres doesn't equal the truth at the end, or anything else is not as it should be.
pub async fn run(plan: &Plan) -> Report {
    let start = Instant::now();
    let mut stack = Stack::start("schedule").await;
    let Ok(mut report) = tokio::time::timeout(LIMIT, on(plan, &mut stack)).await else {
        panic!("not done within {LIMIT:?}");
    };
    report.took = start.elapsed();
    report
}

async fn on(plan: &Plan, stack: &mut Stack) -> Report {
    let wide = stack.add_collector(&["--hold", "200ms"]);
    let mut listen = vec![wide];
    if plan.collectors > 1 {
        listen.push(stack.add_collector(&["--hold", "200ms", "--max-event-ahead", "5s"]));
    }
    for _ in 0..plan.workers {
        stack.add_worker(&["--lease", &format!("{}s", crate::schedule::LEASE.as_secs())]);
    }
    let proxy = Proxy::start(listen.clone(), plan.faults, plan.seed, stack.truth.clone()).await;
    let mut sources = Vec::new();
    let steady: Vec<Steady> = plan.agents.iter().map(|_| Steady::default()).collect();
    for (n, input) in plan.agents.iter().enumerate() {
        let added = add_agent(plan, stack, n, input, &proxy);
        let only_while_seen = matches!(input, Input::Files { rotated: false, .. });
        sources.extend(added.into_iter().map(|(id, source)| {
            let source = if only_while_seen { source.renamed_while(steady[n].clone()) } else { source };
            (id, source)
        }));
    }
    stack.start_all();
    steady.iter().for_each(Steady::begins);

    let end = Instant::now() + plan.load;
    let mut poster = Poster::new(wide, listen[listen.len() - 1], plan.seed ^ 0x9057, stack.truth.clone());
    let mut posting = JoinSet::new();
    posting.spawn(async move {
        poster.run(end).await;
        poster.sent()
    });
    let mut rotations = BTreeMap::new();
    let mut writing = JoinSet::new();
    for (id, mut source) in sources {
        let (sender, receiver) = mpsc::channel(32);
        rotations.insert(id, sender);
        let database = stack.postgres.database.clone();
        writing.spawn(async move {
            source.run(end, receiver, &database).await;
            source
        });
    }

    happen(plan, stack, &rotations, &steady).await;
    stack.heal();
    let sources = finished(writing).await;
    let mut lines: u64 = sources.iter().map(Source::written).sum();
    lines += finished(posting).await.into_iter().sum::<u64>();
    proxy.calm();

    stack.assert_exact(DRAIN, plan.collectors > 1).await;
    // Whether an event of the future was taken is known when its attempts are through.
    proxy.settled(DRAIN).await;
    let verdict = stack.drained(DRAIN).await;
    assert!(verdict.is_equal(), "when all attempts are through: {verdict}");
    let happened = proxy.happened();
    let proxy = [&happened.dropped, &happened.cut, &happened.repeated, &happened.too_large]
        .map(|n| n.load(Ordering::Relaxed));
    Report { kills: stack.kills(), lines, proxy, took: Duration::ZERO }
}

async fn finished<T: 'static>(mut tasks: JoinSet<T>) -> Vec<T> {
    let mut results = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => results.push(result),
            Err(e) => std::panic::resume_unwind(e.into_panic()),
        }
    }
    results
}

fn add_agent(plan: &Plan, stack: &mut Stack, n: usize, input: &Input, proxy: &Proxy) -> Vec<(usize, Source)> {
    let seed = |id: usize| plan.seed.wrapping_add(u64::try_from(id).expect("few") + 1);
    let mut spec = AgentSpec { collector: proxy.url(), ..Default::default() };
    let mut sources = Vec::new();
    match input {
        Input::Files { sources: ids, rotated } => {
            let dir = stack.apps().join(format!("a{n}"));
            std::fs::create_dir_all(&dir).expect("a folder");
            for id in ids {
                let source = Source::file(*id, &dir, seed(*id), stack.truth.clone());
                sources.push((*id, source.with_future(plan.collectors > 1)));
            }
            spec.paths.push(format!("{}/*.log{}", dir.display(), if *rotated { "*" } else { "" }));
        }
        Input::Stdin { source } => {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let writer = Source::pipe(*source, writer, seed(*source), stack.truth.clone());
            sources.push((*source, writer.with_future(plan.collectors > 1)));
            spec.stdin = Some(reader.into());
            spec.paths.push("-".to_owned());
        }
    }
    stack.add_agent(spec);
    sources
}

async fn happen(
    plan: &Plan,
    stack: &mut Stack,
    rotations: &BTreeMap<usize, mpsc::Sender<Rotation>>,
    steady: &[Steady],
) {
    let start = tokio::time::Instant::now();
    for (at, event) in &plan.events {
        tokio::time::sleep_until(start + *at).await;
        stack.assert_healthy();
        match event {
            Event::Kill(Target::Agent(n)) | Event::Pause(Target::Agent(n)) => steady[*n].ends(),
            Event::Start(Target::Agent(n)) | Event::Resume(Target::Agent(n)) => steady[*n].begins(),
            _ => {}
        }
        match event {
            Event::Kill(target) => process(stack, *target).kill(),
            Event::Start(target) => process(stack, *target).start(),
            Event::Pause(target) => process(stack, *target).pause(),
            Event::Resume(target) => process(stack, *target).resume(),
            Event::Rotate(source, rotation) => {
                // A source that waits for a count gets its next order later, or not at all.
                let _full = rotations[source].try_send(*rotation);
            }
        }
    }
    tokio::time::sleep_until(start + plan.load).await;
}

fn process(stack: &mut Stack, target: Target) -> &mut Process {
    match target {
        Target::Agent(n) => &mut stack.agents[n].process,
        Target::Collector(n) => &mut stack.collectors[n].process,
        Target::Worker(n) => &mut stack.workers[n].process,
        Target::Redis => &mut stack.redis.process,
        Target::Postgres => &mut stack.postgres.process,
    }
}
