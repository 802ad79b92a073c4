//! On what machine, and with which settings, something was measured.

use crate::place::Place;
use crate::servers::{Postgres, Redis};
use serde::Serialize;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// All that a figure depends on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_mib: u64,
    kernel: String,
    /// The build profile of the services.
    profile: String,
    redis: Option<String>,
    postgres: Option<String>,
    before: Mood,
    after: Option<Mood>,
}

/// What else is going on. On a busy machine a sync takes a tick of the scheduler and more, and all figures with it.
#[derive(Debug, Clone, Serialize)]
struct Mood {
    /// The load averages of 1, 5 and 15 minutes.
    load_average: String,
    /// The median of some syncs of 4 KiB in the folder of the data.
    sync_ms: f64,
}

impl Mood {
    fn look(place: &Place) -> anyhow::Result<Self> {
        Ok(Self {
            load_average: line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            sync_ms: sync_ms(place.path())?,
        })
    }
}

impl Machine {
    /// Looks around.
    ///
    /// # Errors
    /// When a server doesn't answer, or nothing can be written.
    pub(crate) async fn look(
        place: &Place,
        redis: Option<&Redis>,
        postgres: Option<&Postgres>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            cores: cores(),
            processor: field("/proc/cpuinfo", "model name"),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .trim_end_matches(" kB")
                .parse::<u64>()
                .unwrap_or(0)
                / 1024,
            kernel: line("/proc/sys/kernel/osrelease"),
            profile: place.profile(),
            redis: match redis {
                Some(redis) => Some(redis.describe().await?),
                None => None,
            },
            postgres: match postgres {
                Some(postgres) => Some(postgres.describe().await?),
                None => None,
            },
            before: Mood::look(place)?,
            after: None,
        })
    }

    /// Looks again at what else is going on, now that it is done.
    ///
    /// # Errors
    /// When nothing can be written.
    pub(crate) fn look_again(&mut self, place: &Place) -> anyhow::Result<()> {
        self.after = Some(Mood::look(place)?);
        Ok(())
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "machine: {} cores ({}), {} MiB, Linux {}",
            self.cores, self.processor, self.memory_mib, self.kernel
        )?;
        for (when, mood) in [("before", Some(&self.before)), ("after", self.after.as_ref())] {
            if let Some(Mood { load_average, sync_ms }) = mood {
                writeln!(f, "{when}: load average {load_average}; a sync of 4 KiB takes {sync_ms} ms")?;
            }
        }
        writeln!(f, "build: {}", self.profile)?;
        for (name, server) in [("Redis", &self.redis), ("Postgres", &self.postgres)] {
            if let Some(server) = server {
                writeln!(f, "{name} {server}")?;
            }
        }
        Ok(())
    }
}

/// All cores, whichever this process keeps to.
fn cores() -> usize {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines().filter(|line| line.starts_with("processor")).count()
}

fn line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
}

/// The time that one small write to the disk takes.
fn sync_ms(dir: &Path) -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 100 && start.elapsed() < Duration::from_secs(1) {
        let before = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok((median.as_secs_f64() * 100_000.0).round() / 100.0)
}
