//! What people see while it runs: on a terminal a small table that is drawn anew, elsewhere a line a second; in
//! between a line for each thing that happens.

mod changes;

use super::plan::Plan;
use super::watch::{Agent, Sample};
use crate::output;
use changes::Changes;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// The most services in the table; with more, the rest is summed up.
const MAX_SERVICES: usize = 12;
/// The most services in a line; with more, only the sum is shown.
const MAX_IN_LINE: usize = 4;
/// How wide the picture of the queue is.
const BAR: u64 = 30;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A table in place.
    Terminal,
    /// Lines on stdout.
    Lines,
    /// Lines on stderr: stdout is for one JSON document.
    Json,
}

/// The screen.
pub(super) struct Screen {
    mode: Mode,
    view: View,
    changes: Changes,
    /// When all was ready.
    start: Instant,
    /// How many lines of the table are on the terminal.
    drawn: usize,
}

impl Screen {
    pub(super) fn new(plan: &Plan, json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode = match json {
            true => Mode::Json,
            false if std::io::stdout().is_terminal() && !dumb => Mode::Terminal,
            false => Mode::Lines,
        };
        let view = View { max_entries: plan.max_queue_entries, last: None };
        Self { mode, view, changes: Changes::default(), start: Instant::now(), drawn: 0 }
    }

    /// Shows what was seen now.
    pub(super) fn show(&mut self, sample: &Sample) -> anyhow::Result<()> {
        let at = self.start.elapsed();
        for change in self.changes.of(at, sample) {
            self.event(&change)?;
        }
        match self.mode {
            Mode::Terminal => {
                let text = self.view.table(at, sample);
                let erase = self.erase();
                self.drawn = text.lines().count();
                // No wrapping: a line that is cut keeps its place.
                output::data(format!("{erase}\x1b[?7l{text}\x1b[?7h").as_bytes())?;
            }
            Mode::Lines => output::data(format!("{}\n", self.view.line(at, sample)).as_bytes())?,
            Mode::Json => output::note(&self.view.line(at, sample)),
        }
        self.view.last = Some((at, sample.clone()));
        Ok(())
    }

    /// Something happened.
    pub(super) fn event(&mut self, text: &str) -> anyhow::Result<()> {
        match self.mode {
            Mode::Terminal => {
                let erase = self.erase();
                output::data(format!("{erase}──── {text}\n").as_bytes())
            }
            Mode::Lines => output::data(format!("──── {text}\n").as_bytes()),
            Mode::Json => {
                output::note(&format!("──── {text}"));
                Ok(())
            }
        }
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }
}

/// How a sample looks, beside the one before.
struct View {
    max_entries: Option<u64>,
    last: Option<(Duration, Sample)>,
}

impl View {
    /// So much more a second than before.
    fn per_second(&self, at: Duration, now: u64, before: impl Fn(&Sample) -> u64) -> u64 {
        let Some((then, last)) = &self.last else { return 0 };
        let ms = u64::try_from(at.saturating_sub(*then).as_millis()).unwrap_or(u64::MAX).max(1);
        now.saturating_sub(before(last)).saturating_mul(1_000) / ms
    }

    fn line(&self, at: Duration, sample: &Sample) -> String {
        let total = sample.total();
        let rate = self.per_second(at, total, Sample::total);
        let mut text = format!("{:>4} s  counted {total} (+{rate}/s)", at.as_secs());
        let services = sample.services();
        if (2..=MAX_IN_LINE).contains(&services.len()) {
            let each: Vec<String> = services.iter().map(|(name, count)| format!("{name} {count}")).collect();
            text += &format!(": {}", each.join(", "));
        }
        text += &format!("  queue {}", self.queue(sample));
        let last = self.last.as_ref().map(|(_, last)| last);
        for (status, now, before) in [
            ("503", sample.refused, last.map_or(0, |s| s.refused)),
            ("429", sample.limited, last.map_or(0, |s| s.limited)),
        ] {
            if now > 0 {
                text += &format!("  {status}: {now} (+{})", now.saturating_sub(before));
            }
        }
        for agent in sample.agents.iter().filter(|agent| agent.stopped || agent.behind > 0) {
            text += &format!("  {}: {}", agent.name, state(agent));
        }
        for name in &sample.silent {
            text += &format!("  {name} doesn't answer");
        }
        output::printable(&text)
    }

    fn queue(&self, sample: &Sample) -> String {
        let entries = sample.entries;
        let of = self.max_entries.map_or_else(|| entries.to_string(), |max| format!("{entries}/{max}"));
        format!("{of} batches {}", bytes(sample.bytes))
    }

    fn table(&self, at: Duration, sample: &Sample) -> String {
        let total = sample.total();
        let rate = self.per_second(at, total, Sample::total);
        let mut text = format!("{:>4} s  {total} events counted, {rate} a second\n", at.as_secs());
        let bar = self.max_entries.map_or_else(String::new, |max| {
            let full = (sample.entries.min(max) * BAR).checked_div(max).unwrap_or(0);
            format!("[{}] ", (0..BAR).map(|at| if at < full { '#' } else { ' ' }).collect::<String>())
        });
        text += &format!("queue   {bar}{}\n", self.queue(sample));
        text += &format!("refused {} with 503, {} with 429\n", sample.refused, sample.limited);
        for name in &sample.silent {
            text += &format!("{name} doesn't answer\n");
        }
        text + &output::table(
            &[("service", false), ("counted", true), ("a second", true), ("agent", false)],
            self.rows(at, sample),
        )
    }

    /// A row for each service, beside the agent of the same name, then the other agents.
    fn rows(&self, at: Duration, sample: &Sample) -> Vec<Vec<String>> {
        let services = sample.services();
        let count = |s: &Sample, name: &str| s.services().get(name).copied().unwrap_or(0);
        let agent = |name: &str| sample.agents.iter().find(|agent| agent.name == name);
        let mut rows: Vec<Vec<String>> = services
            .iter()
            .take(MAX_SERVICES)
            .map(|(name, counted)| {
                let rate = self.per_second(at, *counted, |last| count(last, name));
                vec![
                    (*name).to_owned(),
                    counted.to_string(),
                    rate.to_string(),
                    agent(name).map_or_else(String::new, state),
                ]
            })
            .collect();
        let more: u64 = services.values().skip(MAX_SERVICES).sum();
        if more > 0 {
            let name = format!("{} more", services.len() - MAX_SERVICES);
            rows.push(vec![name, more.to_string(), String::new(), String::new()]);
        }
        let alone = sample.agents.iter().filter(|agent| !services.contains_key(agent.name.as_str()));
        rows.extend(alone.map(|agent| {
            vec!["-".to_owned(), String::new(), String::new(), format!("{}: {}", agent.name, state(agent))]
        }));
        rows
    }
}

/// How an agent fares.
fn state(agent: &Agent) -> String {
    let mut parts = Vec::new();
    if agent.stopped {
        parts.push("not reading".to_owned());
    }
    if agent.unsettled > 0 {
        parts.push(format!("{} batches unsettled", agent.unsettled));
    }
    if agent.behind > 0 {
        parts.push(format!("{} behind", bytes(agent.behind)));
    }
    if agent.rejects > 0 {
        parts.push(format!("{} rejected", agent.rejects));
    }
    if parts.is_empty() { "up to date".to_owned() } else { parts.join(", ") }
}

/// `512 B`, `1.5 KiB`, `20.0 MiB`.
pub(super) fn bytes(count: u64) -> String {
    let in_unit = |shift: u32| format!("{}.{}", count >> shift, ((count >> (shift - 10)) % 1024) * 10 / 1024);
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", in_unit(10)),
        1_048_576..1_073_741_824 => format!("{} MiB", in_unit(20)),
        _ => format!("{} GiB", in_unit(30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(counted: u64) -> Sample {
        let count = |service: &str, level: &str, n| ((service.to_owned(), level.to_owned()), n);
        Sample {
            counts: [count("api", "info", counted), count("api", "error", 10), count("web", "info", 5)]
                .into(),
            entries: 20,
            bytes: 1_536,
            refused: 4,
            agents: vec![
                Agent { name: "api".to_owned(), unsettled: 3, stopped: true, behind: 2_048, rejects: 0 },
                Agent { name: "tail".to_owned(), ..Agent::default() },
            ],
            ..Sample::default()
        }
    }

    #[test]
    fn a_line_says_what_matters() {
        let mut view = View { max_entries: Some(20), last: None };
        let first = Sample { refused: 1, ..sample(100) };
        view.last = Some((Duration::from_secs(10), first));
        assert_eq!(
            view.line(Duration::from_secs(12), &sample(200)),
            "  12 s  counted 215 (+50/s): api 210, web 5  queue 20/20 batches 1.5 KiB  503: 4 (+3)  \
             api: not reading, 3 batches unsettled, 2.0 KiB behind"
        );
    }

    #[test]
    fn the_table_sets_services_beside_their_agents() {
        let view = View { max_entries: Some(40), last: None };
        assert_eq!(
            view.table(Duration::from_secs(3), &sample(100)),
            "   3 s  115 events counted, 0 a second\n\
             queue   [###############               ] 20/40 batches 1.5 KiB\n\
             refused 4 with 503, 0 with 429\n\
             service  counted  a second  agent\n\
             api          110         0  not reading, 3 batches unsettled, 2.0 KiB behind\n\
             web            5         0\n\
             -                           tail: up to date\n"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (20 << 20, "20.0 MiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
