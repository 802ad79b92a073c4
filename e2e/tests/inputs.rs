//! Ways into the agent that schedules can't hold: a backfill, and a spool whose agent is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::eventually;
use logweir_e2e::lines::{cell, now_ms, rfc3339};
use logweir_e2e::source::Source;
use logweir_e2e::stack::{AgentSpec, Stack};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// `--once` reads a file to its end, its last line without a line end too, exits 0 when all is acknowledged, and does nothing the
/// second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_ends_when_all_is_acknowledged() {
    let mut stack = Stack::with_services("backfill", &[], 1).await;
    let mut source = Source::file(0, &stack.apps(), 1, stack.truth.clone());
    source.write_lines(5_000).await;
    let ms = now_ms();
    stack.truth.add(cell(ms, "s0", "error"), "the last");
    source.write(format!("{} ERROR the last line", rfc3339(ms)).as_bytes()).await;
    let collector = format!("http://{}", stack.collectors[0].listen);
    let paths = vec![source.path().display().to_string()];
    let agent = stack.add_agent(AgentSpec { collector, paths, ..Default::default() });
    assert_eq!(agent.once().await, Some(0));
    let verdict = stack.drained(LIMIT).await;
    assert!(verdict.is_equal(), "{verdict}");
    assert_eq!(stack.agents[0].once().await, Some(0));
    stack.assert_exact(LIMIT, false).await;
}

fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What came through stdin while no collector answered lies in the spool, and survives the agent's death.
#[tokio::test(flavor = "multi_thread")]
async fn what_stdin_brought_survives_a_kill() {
    let mut stack = Stack::start("spool").await;
    let to = stack.add_collector(&[]);
    stack.add_worker(&[]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut source = Source::pipe(0, writer, 1, stack.truth.clone());
    let agent = stack.add_agent(AgentSpec {
        collector: format!("http://{to}"),
        paths: vec!["-".to_owned()],
        stdin: Some(reader.into()),
        ..Default::default()
    });
    agent.process.start();
    let state_dir = agent.state_dir.clone();
    for _ in 0..3 {
        source.write_lines(1_000).await;
        let spool = state_dir.join("spool");
        eventually("all lies in the spool", LIMIT, || async { size(&spool) >= source.bytes() }).await;
        stack.agents[0].process.kill();
        stack.agents[0].process.start();
    }
    stack.start_all();
    stack.assert_exact(Duration::from_secs(75), false).await;
}
