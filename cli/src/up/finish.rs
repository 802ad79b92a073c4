//! The end of `--for`: the apps stop, everything drains, and their own counts stand beside those of Postgres.

use super::apps;
use super::plan::{Plan, Role};
use super::screen::{Screen, bytes};
use super::system::System;
use super::watch::{Counts, Sample, Watch};
use super::{Args, TICK};
use crate::args::Shared;
use crate::output;
use logweir_telemetry::exit::Exit;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long draining may take in all.
const LIMIT: Duration = Duration::from_secs(180);
/// How long nothing may move before the rest is given up, while batches are under way: an agent that was refused
/// may wait for 30 s before it comes back.
const STUCK: Duration = Duration::from_secs(40);
/// The same when nothing is under way: what isn't read now (a last line without its end) won't be.
const QUIET: Duration = Duration::from_secs(5);

/// One line of the comparison.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    app: String,
    level: String,
    written: u64,
    counted: u64,
    equal: bool,
}

/// What `--json` prints at the end.
#[derive(Debug, Serialize)]
struct Comparison {
    equal: bool,
    apps: Vec<Row>,
}

/// Ends the run.
pub(super) async fn finish(
    args: &Args,
    shared: &Shared,
    plan: &Plan,
    system: &mut System,
    watch: &mut Watch,
    screen: &mut Screen,
) -> anyhow::Result<Exit> {
    if !args.tail.is_empty() {
        screen.event("the time is over; waiting until what was read is counted")?;
        let sample = drained(system, watch, screen, |_| true).await?;
        return counts(shared, &sample);
    }
    screen.event("the apps stop; waiting until everything is drained")?;
    system.stop(Role::App).await;
    let written = apps::written(&plan.apps_home)?;
    let equal = |sample: &Sample| compare(&written, &sample.counts).iter().all(|row| row.equal);
    let sample = drained(system, watch, screen, equal).await?;
    compared(shared, compare(&written, &sample.counts))
}

/// Waits until nothing is under way and `done`, or until nothing moves any more.
async fn drained(
    system: &mut System,
    watch: &mut Watch,
    screen: &mut Screen,
    done: impl Fn(&Sample) -> bool,
) -> anyhow::Result<Sample> {
    let start = Instant::now();
    let (mut moved, mut last) = (start, Sample::default());
    // Two looks alike: the collector's picture of the queue may be a second old.
    let mut drained_before = false;
    loop {
        system.check()?;
        let sample = watch.sample().await.clone();
        screen.show(&sample)?;
        let drained = sample.is_drained() && done(&sample);
        if drained && drained_before && sample.counts == last.counts {
            return Ok(sample);
        }
        drained_before = drained;
        if has_moved(&last, &sample) {
            moved = Instant::now();
        }
        let patience = if sample.is_under_way() { STUCK } else { QUIET };
        if moved.elapsed() > patience || start.elapsed() > LIMIT {
            if let Some(left) = left_over(&sample) {
                screen.event(&left)?;
            }
            return Ok(sample);
        }
        last = sample;
        sleep(TICK).await;
    }
}

/// What has not come through, for people.
fn left_over(sample: &Sample) -> Option<String> {
    if sample.is_under_way() {
        let unsettled: u64 = sample.agents.iter().map(|agent| agent.unsettled).sum();
        let entries = sample.entries;
        return Some(format!("given up: {unsettled} batches are unsettled, {entries} are in the queue"));
    }
    let behind: u64 = sample.agents.iter().map(|agent| agent.behind).sum();
    let unread = format!("{} were not read: a last line counts once its end is written", bytes(behind));
    (behind > 0).then_some(unread)
}

/// Refusals alone are no movement.
fn has_moved(last: &Sample, sample: &Sample) -> bool {
    last.counts != sample.counts || last.entries != sample.entries || last.agents != sample.agents
}

/// Every cell of either side.
fn compare(written: &Counts, counted: &Counts) -> Vec<Row> {
    let of_apps = |key: &&(String, String)| apps::NAMES.contains(&key.0.as_str());
    let keys: BTreeSet<_> = written.keys().chain(counted.keys()).filter(of_apps).collect();
    let count = |counts: &Counts, key| counts.get(key).copied().unwrap_or(0);
    keys.into_iter()
        .map(|key| {
            let (written, counted) = (count(written, key), count(counted, key));
            let (app, level) = key.clone();
            Row { app, level, written, counted, equal: written == counted }
        })
        .collect()
}

fn compared(shared: &Shared, apps: Vec<Row>) -> anyhow::Result<Exit> {
    let comparison = Comparison { equal: apps.iter().all(|row| row.equal), apps };
    if shared.json {
        output::json(&comparison)?;
    } else {
        let columns =
            [("app", false), ("level", false), ("written", true), ("counted", true), ("equal", false)];
        let rows = comparison.apps.iter().map(|row| {
            let equal = if row.equal { "yes" } else { "NO" };
            vec![
                row.app.clone(),
                row.level.clone(),
                row.written.to_string(),
                row.counted.to_string(),
                equal.to_owned(),
            ]
        });
        let verdict = if comparison.equal {
            let total: u64 = comparison.apps.iter().map(|row| row.counted).sum();
            format!("equal: each of the {total} lines that the apps wrote is counted once\n")
        } else {
            "different: what the apps wrote is not what Postgres holds\n".to_owned()
        };
        output::data(format!("\n{}\n{verdict}", output::table(&columns, rows)).as_bytes())?;
    }
    Ok(if comparison.equal { Exit::Done } else { Exit::Negative })
}

fn counts(shared: &Shared, sample: &Sample) -> anyhow::Result<Exit> {
    let services = sample.services();
    if shared.json {
        let rows: Vec<_> = services
            .iter()
            .map(|(service, count)| serde_json::json!({"service": service, "count": count}))
            .collect();
        output::json(&rows)?;
    } else {
        let rows = services.iter().map(|(service, count)| vec![(*service).to_owned(), count.to_string()]);
        let table = output::table(&[("service", false), ("counted", true)], rows);
        output::data(format!("\n{table}").as_bytes())?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(cells: &[(&str, &str, u64)]) -> Counts {
        cells.iter().map(|(app, level, n)| (((*app).to_owned(), (*level).to_owned()), *n)).collect()
    }

    #[test]
    fn both_sides_are_compared_and_other_services_left_out() {
        let written = counts_of(&[("search", "info", 7), ("search", "warn", 2)]);
        let counted = counts_of(&[("search", "info", 7), ("search", "fatal", 1), ("mine", "info", 9)]);
        let rows = compare(&written, &counted);
        let short: Vec<_> = rows.iter().map(|r| (r.level.as_str(), r.written, r.counted, r.equal)).collect();
        assert_eq!(short, [("fatal", 0, 1, false), ("info", 7, 7, true), ("warn", 2, 0, false)]);
    }
}
