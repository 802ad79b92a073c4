//! What an agent costs, seen from outside: at rest, at full speed, and beyond its quota.

pub(crate) mod idle;
pub(crate) mod quota;
pub(crate) mod speed;

use crate::clock::{now_ms, until};
use crate::load::{Generator, Keys};
use crate::services::Service;
use std::path::Path;
use std::time::Duration;

/// Writes `files` files of `lines` lines each. Answers how many bytes they have.
fn write(folder: &Path, files: u64, lines: u64) -> anyhow::Result<u64> {
    let mut generator = Generator::new(Keys::Hot, now_ms());
    let (mut bytes, mut text) = (0, Vec::new());
    for file in 0..files {
        text.clear();
        for _ in 0..lines {
            generator.line(&mut text)?;
        }
        std::fs::write(folder.join(format!("app-{file}.log")), &text)?;
        bytes += u64::try_from(text.len())?;
    }
    Ok(bytes)
}

/// Waits until so many events are acknowledged and the agent has taken that in.
async fn settled(agent: &mut Service, events: u64, pause: Duration) -> anyhow::Result<()> {
    until("everything is acknowledged", Duration::from_secs(3_600), pause, async || {
        agent.process.check()?;
        let metrics = agent.metrics().await?;
        let sent = metrics.sum("logweir_agent_events_sent_total ");
        Ok(sent >= events as f64 && metrics.sum("logweir_agent_unsettled_batches ") < 0.5)
    })
    .await
}

/// In MiB, to a tenth.
fn mib(bytes: u64) -> f64 {
    (bytes as f64 / 104_857.6).round() / 10.0
}

/// To so many digits.
fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
