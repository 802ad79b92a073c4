//! From a seed to a plan: which services there are, and what happens to them when. Pure.

use crate::proxy::Faults;
use crate::source::Rotation;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::fmt;
use std::time::Duration;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An agent.
    Agent(usize),
    /// A collector.
    Collector(usize),
    /// A worker.
    Worker(usize),
    /// Redis.
    Redis,
    /// Postgres.
    Postgres,
}

/// What happens at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// SIGKILL.
    Kill(Target),
    /// It is started again.
    Start(Target),
    /// SIGSTOP.
    Pause(Target),
    /// SIGCONT.
    Resume(Target),
    /// A source's file is rotated.
    Rotate(usize, Rotation),
}

/// What an agent reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The files of these sources; with `rotated`, by a pattern that fits rotated files too.
    Files {
        /// Which.
        sources: Vec<usize>,
        /// Whether the pattern fits rotated files.
        rotated: bool,
    },
    /// One source through a pipe. What is in the pipe dies with its reader, so this agent is not killed.
    Stdin {
        /// Which.
        source: usize,
    },
}

/// One schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Whence it came.
    pub seed: u64,
    /// Collectors; the second is a narrow one.
    pub collectors: usize,
    /// Workers.
    pub workers: usize,
    /// What each agent reads.
    pub agents: Vec<Input>,
    /// How many sources there are in all.
    pub sources: usize,
    /// What the proxy does.
    pub faults: Faults,
    /// How long is written.
    pub load: Duration,
    /// What happens, in order of time.
    pub events: Vec<(Duration, Event)>,
}

/// The workers' lease.
pub const LEASE: Duration = Duration::from_secs(2);

impl Plan {
    /// The plan of a seed: always the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let collectors = rng.random_range(1..=2);
        let workers = rng.random_range(2..=3);
        let mut sources = 0;
        let mut agents = Vec::new();
        for n in 0..rng.random_range(1..=2) {
            // At least one agent can be killed.
            if n > 0 && rng.random_bool(0.4) {
                agents.push(Input::Stdin { source: sources });
                sources += 1;
            } else {
                let count = rng.random_range(1..=2);
                agents.push(Input::Files {
                    sources: (sources..sources + count).collect(),
                    rotated: rng.random_bool(0.5),
                });
                sources += count;
            }
        }
        let mut often = |most: f64| if rng.random_bool(0.7) { rng.random_range(0.0..most) } else { 0.0 };
        let faults = Faults {
            drop_answer: often(0.3),
            cut_request: often(0.15),
            repeat: often(0.3),
            too_large: often(1.0),
        };
        let load = Duration::from_millis(rng.random_range(4_000..7_000));
        let mut plan = Self { seed, collectors, workers, agents, sources, faults, load, events: Vec::new() };
        for _ in 0..rng.random_range(4..=10) {
            plan.add_action(&mut rng);
        }
        plan.events.sort_by_key(|(at, _)| *at);
        plan
    }

    fn targets(&self) -> Vec<Target> {
        let agents = self.agents.iter().enumerate();
        let killable = agents.filter(|(_, input)| matches!(input, Input::Files { .. }));
        let mut targets: Vec<Target> = killable.map(|(n, _)| Target::Agent(n)).collect();
        targets.extend((0..self.collectors).map(Target::Collector));
        targets.extend((0..self.workers).map(Target::Worker));
        targets.extend([Target::Redis, Target::Postgres]);
        targets
    }

    fn add_action(&mut self, rng: &mut StdRng) {
        let millis = Duration::from_millis;
        let at = millis(rng.random_range(300..u64::try_from(self.load.as_millis()).expect("seconds")));
        match rng.random_range(0..100) {
            0..45 => self.kill(rng, at, 1),
            45..60 => {
                let several = rng.random_range(2..=4);
                self.kill(rng, at, several);
            }
            60..65 => self.kill(rng, at, usize::MAX),
            65..75 => {
                let worker = Target::Worker(rng.random_range(0..self.workers));
                self.pause(at, worker, LEASE + millis(rng.random_range(500..2_000)));
            }
            75..82 => {
                let targets = self.targets();
                let target = targets[rng.random_range(0..targets.len())];
                self.pause(at, target, millis(rng.random_range(200..1_500)));
            }
            _ => self.rotate(rng, at),
        }
    }

    fn kill(&mut self, rng: &mut StdRng, at: Duration, count: usize) {
        let mut targets = self.targets();
        while targets.len() > count {
            targets.swap_remove(rng.random_range(0..targets.len()));
        }
        for target in targets {
            let down = Duration::from_millis(rng.random_range(0..1_500));
            self.events.extend([(at, Event::Kill(target)), (at + down, Event::Start(target))]);
        }
    }

    fn pause(&mut self, at: Duration, target: Target, long: Duration) {
        self.events.extend([(at, Event::Pause(target)), (at + long, Event::Resume(target))]);
    }

    fn rotate(&mut self, rng: &mut StdRng, at: Duration) {
        let inputs = self.agents.iter().filter_map(|input| match input {
            Input::Files { sources, rotated } => Some((sources, *rotated)),
            Input::Stdin { .. } => None,
        });
        let files: Vec<(usize, bool)> = inputs
            .flat_map(|(sources, rotated)| sources.iter().map(move |source| (*source, rotated)))
            .collect();
        let (source, rotated) = files[rng.random_range(0..files.len())];
        let rotation = match rng.random_range(0..14) {
            0..4 => Rotation::Rename,
            // A file that is renamed out of the pattern before anybody could see it is nobody's loss to avoid.
            4..6 if rotated => Rotation::RenameTwice,
            4..6 => Rotation::Rename,
            6..9 => Rotation::CopyTruncate,
            9 => Rotation::DeleteOldest,
            n => Rotation::Logrotate { copies: n >= 12 },
        };
        self.events.push((at, Event::Rotate(source, rotation)));
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { drop_answer, cut_request, repeat, too_large } = self.faults;
        writeln!(
            f,
            "seed {}: {} collectors, {} workers, agents on {:?}; {:?} of load; answers lost {drop_answer:.2}, cut {cut_request:.2}, repeated {repeat:.2}, 413 {too_large:.2}",
            self.seed, self.collectors, self.workers, self.agents, self.load
        )?;
        for (at, event) in &self.events {
            writeln!(f, "  {:>6.3} s {event:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_again() {
        for seed in 0..200 {
            assert_eq!(Plan::new(seed), Plan::new(seed));
        }
    }

    #[test]
    fn the_plans_have_everything_in_them() {
        let plans: Vec<Plan> = (0..200).map(Plan::new).collect();
        let events: Vec<Event> =
            plans.iter().flat_map(|plan| plan.events.iter().map(|(_, event)| *event)).collect();
        let has = |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count() >= 10;
        assert!(has(&|e| matches!(e, Event::Kill(Target::Agent(_)))));
        assert!(has(&|e| matches!(e, Event::Kill(Target::Collector(1)))));
        assert!(has(&|e| matches!(e, Event::Kill(Target::Worker(2)))));
        assert!(has(&|e| matches!(e, Event::Kill(Target::Redis))));
        assert!(has(&|e| matches!(e, Event::Kill(Target::Postgres))));
        assert!(has(&|e| matches!(e, Event::Pause(Target::Worker(_)))));
        for rotation in [
            Rotation::Rename,
            Rotation::RenameTwice,
            Rotation::CopyTruncate,
            Rotation::Logrotate { copies: false },
            Rotation::Logrotate { copies: true },
            Rotation::DeleteOldest,
        ] {
            assert!(has(&|e| matches!(e, Event::Rotate(_, r) if *r == rotation)), "{rotation:?}");
        }
        for plan in &plans {
            assert!(plan.events.is_sorted_by_key(|(at, _)| *at));
            for (n, input) in plan.agents.iter().enumerate() {
                let killed = plan.events.iter().any(|(_, e)| *e == Event::Kill(Target::Agent(n)));
                assert!(
                    !killed || matches!(input, Input::Files { .. }),
                    "what is in a pipe can't be read again"
                );
            }
        }
    }
}
