//! `logweir-agent status`: asks a running agent, and shows what it says.

use super::Status;
use crate::config::StatusArgs;
use crate::handoff::FileReport;
use crate::send::client::{Connecting, TlsClient, chain};
use comfy_table::{CellAlignment, Table};
use logweir_telemetry::exit::Exit;
use std::io::{self, Write as _};
use std::time::Duration;
use thiserror::Error;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many losses are shown; the file has them all.
const LOSSES: usize = 10;

/// Why there is nothing to show.
#[derive(Debug, Error)]
pub(crate) enum StatusError {
    #[error(
        "no agent answers at http://{address}/status: {detail}; is it running, with this --admin address? With --once it \
         serves one only when --admin is given"
    )]
    Unreachable { address: String, detail: String },
    #[error("the agent's answer is not understood: {0}; is it of another version?")]
    Answer(String),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Shows it. Exit code 1 where something holds the agent back, 0 where all is well.
///
/// # Errors
/// See [`StatusError`].
pub(crate) async fn run(args: &StatusArgs) -> Result<Exit, StatusError> {
    let answer = ask(args).await?;
    let status: Status =
        serde_json::from_str(&answer).map_err(|error| StatusError::Answer(error.to_string()))?;
    let text = if args.json { answer.trim_end().to_owned() + "\n" } else { shown(&status) };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(verdict(&status))
}

fn verdict(status: &Status) -> Exit {
    let trouble = status.held_back.as_ref().is_some_and(|held| !held.is_pressure)
        || status.config.error.is_some()
        || status.reading.files.iter().any(|file| file.error.is_some());
    if trouble { Exit::Negative } else { Exit::Done }
}

async fn ask(args: &StatusArgs) -> Result<String, StatusError> {
    let address = args.admin.to_string();
    let unreachable = |detail: String| StatusError::Unreachable { address: address.clone(), detail };
    let connecting = Connecting {
        ca_file: None,
        client_cert: None,
        proxy: None,
        connect_timeout: PATIENCE,
        concurrency: 1,
    };
    let client = TlsClient::new(connecting, &[]).map_err(|e| unreachable(e.to_string()))?.get();
    let answer = client.get(format!("http://{address}/status")).timeout(PATIENCE).send().await;
    let answer = answer.map_err(|e| unreachable(chain(&e.without_url())))?;
    let (status, text) = (answer.status(), answer.text().await);
    let text = text.map_err(|e| unreachable(e.to_string()))?;
    if status.is_success() { Ok(text) } else { Err(unreachable(format!("{status} {}", text.trim()))) }
}

fn shown(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&printable(&words));
        text.push('\n');
    };
    line(format!("agent      {} (version {})", status.agent, status.version));
    for collector in &status.collectors {
        let down = if collector.down { "  fails; not asked for a while" } else { "" };
        line(format!("collector  {}{down}", collector.url));
    }
    let config = &status.config;
    if let Some(error) = &config.error {
        line(format!(
            "config     the file can't be used as it is now; what was read before is in force: {error}"
        ));
    }
    if !config.restart.is_empty() {
        line(format!("config     waits for a restart: {}", config.restart.join(", ")));
    }
    let linger = if status.linger_factor > 1 {
        format!(", linger × {}", status.linger_factor)
    } else {
        String::new()
    };
    line(match &status.held_back {
        None => format!("sending    up to {} batches at a time{linger}", status.window_batches),
        Some(held) => format!(
            "sending    held back for {} already, and {} more: {} ({})",
            span(held.since_ms),
            span(held.for_ms),
            held.reason,
            held.detail
        ),
    });
    if let (Some(last), None) = (&status.last_error, &status.held_back) {
        line(format!("last error {} ago: {} ({})", span(last.ago_ms), last.reason, last.detail));
    }
    let reading = &status.reading;
    line(format!("unsettled  {} batches, {} bytes", reading.unsettled_batches, reading.unsettled_bytes));
    if let Some(why) = &reading.reading_stopped {
        line(format!("reading    stands still: {why}"));
    }
    for (what, found) in [("left out", &reading.filtered_events), ("redacted", &reading.redactions)] {
        if !found.is_empty() {
            let found: Vec<String> = found.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
            line(format!("{what:<9}  {}", found.join(", ")));
        }
    }
    text.push('\n');
    text.push_str(&files(status));
    if !reading.losses.is_empty() {
        text.push_str("\nlost (losses.ndjson in the state directory has all):\n");
        for loss in reading.losses.iter().rev().take(LOSSES).rev() {
            let of = |key: &str| {
                loss.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            };
            let part = |key: &str| of(key).unwrap_or_default();
            let what = if loss.get("lines").is_some() {
                format!("{} lines, {} bytes", part("lines"), part("bytes"))
            } else {
                format!("bytes {} to {}", part("start"), part("end"))
            };
            let line = format!("  {}  {}  {}  {what}", part("at"), part("reason"), part("file"));
            text.push_str(&printable(&line));
            text.push('\n');
        }
    }
    text
}

fn files(status: &Status) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["file", "format", "position", "behind", "since", "bytes/s", ""]);
    for file in &status.reading.files {
        table.add_row([
            printable(&file.file),
            printable(&file.format),
            file.position.to_string(),
            file.behind_bytes.to_string(),
            if file.behind_bytes == 0 { String::new() } else { span(file.behind_ms) },
            file.bytes_per_second.to_string(),
            printable(&remark(file)),
        ]);
    }
    for index in 0..table.column_count() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if (2..=5).contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt() + "\n"
}

fn remark(file: &FileReport) -> String {
    match (&file.error, &file.gone) {
        (Some(error), _) => format!("cannot read: {error}"),
        (None, Some(gone)) => gone.clone(),
        (None, None) => String::new(),
    }
}

fn span(ms: u64) -> String {
    let whole = if ms < 10_000 { ms } else { ms / 1_000 * 1_000 };
    humantime::format_duration(Duration::from_millis(whole)).to_string()
}

/// Text from elsewhere, so that it can neither break the layout nor command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
