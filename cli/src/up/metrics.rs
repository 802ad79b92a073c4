//! Reading the text of metrics: just enough for the screen.

/// The values of one scrape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metrics<'a>(&'a str);

impl<'a> Metrics<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The labels (as text) and values of a metric.
    fn series(self, name: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            match rest.strip_prefix('{') {
                // A label's value may hold a brace; what follows the last one is the number.
                Some(labelled) => labelled.rsplit_once('}').map(|(labels, value)| (labels, value.trim())),
                None => rest.strip_prefix(' ').map(|value| ("", value.trim())),
            }
        })
    }

    /// The sum of a metric over all series whose labels hold `label` (such as `status="503"`). Fractions are
    /// left out, and so is what is below zero.
    pub(super) fn sum(self, name: &str, label: &str) -> u64 {
        self.series(name).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| whole(value)).sum()
    }

    /// The one value of a metric without labels; `None` when it isn't there.
    pub(super) fn value(self, name: &str) -> Option<u64> {
        self.series(name).next().map(|(_, value)| whole(value))
    }
}

fn whole(value: &str) -> u64 {
    let value = value.split(' ').next().unwrap_or("");
    value.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP logweir_collector_requests Requests by status and code.
# TYPE logweir_collector_requests counter
logweir_collector_requests_total{status=\"202\",code=\"ok\"} 17
logweir_collector_requests_total{status=\"503\",code=\"queue_full\"} 3
logweir_collector_requests_total{status=\"503\",code=\"draining\"} 1
logweir_collector_queue_entries 20
logweir_collector_queue_entries_more 99
logweir_agent_behind_bytes{file=\"/var/log/a{b}.log\"} 512
logweir_agent_held_seconds_total{reason=\"queue_full\"} 2.75
logweir_agent_reading_stopped -1
# EOF
";

    #[test]
    fn values_are_summed_by_label() {
        let metrics = Metrics::new(TEXT);
        assert_eq!(metrics.sum("logweir_collector_requests_total", "status=\"503\""), 4);
        assert_eq!(metrics.sum("logweir_collector_requests_total", ""), 21);
        assert_eq!(metrics.sum("logweir_agent_behind_bytes", ""), 512);
        assert_eq!(metrics.sum("logweir_agent_held_seconds_total", "queue_full"), 2);
        assert_eq!(metrics.value("logweir_collector_queue_entries"), Some(20));
        assert_eq!(metrics.value("logweir_agent_reading_stopped"), Some(0));
        assert_eq!(metrics.value("logweir_nothing"), None);
    }
}
