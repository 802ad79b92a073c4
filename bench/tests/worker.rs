//! A measurement runs from end to end, with the programs beside it, and finds the counts right.

use serde_json::{Value, json};
use std::process::Command;

#[test]
fn workers_count_what_was_put_in() {
    let output = Command::new(env!("CARGO_BIN_EXE_logweir-bench"))
        .args(["worker", "--json", "--batches=20", "--events=10", "--producers=3", "--keys=spread"])
        .args(["--workers=1,2", "--concurrency=1", "--group=8", "--limit=60s"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["wrong"], json!([]));
    let cases: Vec<(u64, u64)> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["workers"].as_u64().unwrap(), row["group"].as_u64().unwrap()))
        .collect();
    assert_eq!(cases, [(1, 8), (2, 8)]);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(report["repeat"].as_str().unwrap().starts_with("logweir-bench worker --json"));
}
