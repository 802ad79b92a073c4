//! What has happened between two looks.

use super::super::watch::Sample;
use std::collections::BTreeSet;
use std::time::Duration;

/// So long without a refusal ends a time of refusals: agents come back only every few seconds.
const CALM: Duration = Duration::from_secs(4);

/// What was the case at the last look.
#[derive(Debug, Default)]
pub(super) struct Changes {
    seen: bool,
    refused: u64,
    limited: u64,
    /// When the last 503 was seen, while they go on.
    refusing: Option<Duration>,
    limiting: Option<Duration>,
    stopped: BTreeSet<String>,
    silent: BTreeSet<String>,
    /// Something was held back, and not all of it has come through yet.
    backlog: bool,
}

impl Changes {
    /// The sentences for what is new.
    pub(super) fn of(&mut self, at: Duration, sample: &Sample) -> Vec<String> {
        let mut news = Vec::new();
        let first = !std::mem::replace(&mut self.seen, true);
        let more = |now: u64, before: &mut u64| now > std::mem::replace(before, now) && !first;
        let refused = more(sample.refused, &mut self.refused);
        let limited = more(sample.limited, &mut self.limited);
        if begins(&mut self.refusing, refused, at) {
            news.push(format!("the collector answers 503: {} batches are in the queue", sample.entries));
        }
        if begins(&mut self.limiting, limited, at) {
            news.push("the collector answers 429: an agent is over its quota".to_owned());
        }
        self.backlog |= refused || limited;
        for agent in &sample.agents {
            if agent.stopped && self.stopped.insert(agent.name.clone()) {
                news.push(format!("the agent {} stops reading: its buffer is full", agent.name));
                self.backlog = true;
            } else if !agent.stopped && self.stopped.remove(&agent.name) {
                news.push(format!("the agent {} reads on", agent.name));
            }
        }
        for name in &sample.silent {
            if self.silent.insert(name.clone()) {
                news.push(format!("{name} doesn't answer"));
            }
        }
        self.silent.retain(|name| sample.silent.contains(name));
        if self.backlog && sample.is_drained() && self.stopped.is_empty() {
            news.push("all that was held back is drained".to_owned());
            self.backlog = false;
        }
        news
    }
}

/// Whether it begins now; `last` is when it was last seen, until it is over.
fn begins(last: &mut Option<Duration>, happens: bool, at: Duration) -> bool {
    if happens {
        return last.replace(at).is_none();
    }
    last.take_if(|last| at.saturating_sub(*last) > CALM);
    false
}

#[cfg(test)]
mod tests {
    use super::super::super::watch::Agent;
    use super::*;

    fn at(second: u64, entries: u64, refused: u64, stopped: bool) -> (Duration, Sample) {
        let agent = Agent { name: "api".to_owned(), stopped, unsettled: entries, ..Agent::default() };
        let sample = Sample { entries, refused, agents: vec![agent], ..Sample::default() };
        (Duration::from_secs(second), sample)
    }

    #[test]
    fn an_outage_is_told_once() {
        let mut changes = Changes::default();
        let mut told = Vec::new();
        for (time, sample) in [
            at(0, 0, 7, false),
            at(1, 20, 7, false),
            at(2, 20, 9, false),
            at(3, 20, 11, true),
            at(4, 20, 11, true),
            at(5, 10, 12, true),
            at(6, 3, 12, false),
            at(7, 0, 12, false),
            at(8, 0, 12, false),
            at(20, 20, 13, false),
        ] {
            told.extend(changes.of(time, &sample).into_iter().map(|text| (time.as_secs(), text)));
        }
        let text = |s: &str| s.to_owned();
        assert_eq!(
            told,
            [
                (2, text("the collector answers 503: 20 batches are in the queue")),
                (3, text("the agent api stops reading: its buffer is full")),
                (6, text("the agent api reads on")),
                (7, text("all that was held back is drained")),
            ]
        );
    }
}
