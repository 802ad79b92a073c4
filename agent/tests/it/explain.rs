//! `--explain`: the first thing that a new user runs.

use crate::process::Place;
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[tokio::test]
async fn it_shows_what_is_found_and_leaves_nothing_behind() {
    let place = Place::new();
    let text = "\u{feff}2026-11-24T10:03:00Z WARN größer\r\n2026-11-24 11:03:00 ERROR no\r\n";
    let utf16 = text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    std::fs::write(place.path("app.log"), utf16).unwrap();
    let file = place.path("app.log").to_str().unwrap().to_owned();
    let shown = place.command(&["--explain", &file, "--timezone", "Europe/Berlin"]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.log);
    for part in [
        "app.log: text (a line is text with",
        "2026-11-24T10:03:00Z",
        "ISO 8601",
        "WARN größer",
        "rest of the line",
    ] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    let json = place.command(&["--explain", &file, "--json", "--timezone", "Europe/Berlin"]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&json["format"], &json["events"][1]["time"]),
        (&"text".into(), &"2026-11-24T10:03:00Z".into())
    );

    // Compressed, and by a container's runtime.
    assert!(Command::new("gzip").arg(&file).status().unwrap().success());
    let packed = place.command(&["--explain", &format!("{file}.gz")]).await;
    assert!(packed.code == Some(0) && packed.out.contains("WARN größer"), "{}{}", packed.out, packed.log);
    let line = "2026-11-24T10:03:00.1Z stderr F {\"level\":\"error\",\"msg\":\"inner\"}\n";
    std::fs::write(place.path("0.log"), line).unwrap();
    let wrapped = place.command(&["--explain", place.path("0.log").to_str().unwrap()]).await;
    for part in ["container (a line is wrapped by", "container runtime", "field level", "inner"] {
        assert!(wrapped.out.contains(part), "{part}: {}", wrapped.out);
    }

    let missing = place.command(&["--explain", place.path("none.log").to_str().unwrap()]).await;
    assert_eq!(missing.code, Some(2), "{}", missing.log);
    assert!(missing.log.contains("none.log") && missing.log.contains("No such file"), "{}", missing.log);
    let wrong = place.command(&["--explain", &file, "--timezone", "Mars"]).await;
    assert!(wrong.code == Some(2) && wrong.log.contains("Mars"), "{}", wrong.log);
    assert!(!place.path("state").exists());
}

#[tokio::test]
async fn long_files_and_endless_streams_are_cut_and_that_is_said() {
    let place = Place::new();
    let long = format!("2026-11-24T10:03:00Z ERROR it broke\n{}", "\tat a.B(B.java:7)\n".repeat(80_000));
    std::fs::write(place.path("long.log"), long).unwrap();
    let shown = place.command(&["--explain", place.path("long.log").to_str().unwrap()]).await;
    assert!(shown.out.contains("it broke") || shown.out.contains("only the first 1024 KiB"), "{}", shown.out);
    assert!(shown.out.contains("only the first"), "{}", shown.out);

    // Whoever writes doesn't end, and what is there is shown all the same.
    let mut command = Command::new(env!("CARGO_BIN_EXE_logweir-agent"));
    let command = command.args(["--explain", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut agent = command.spawn().unwrap();
    let mut stdin = agent.stdin.take().unwrap();
    for n in 0..30 {
        writeln!(stdin, "2026-11-24T10:03:00Z WARN line {n}").unwrap();
    }
    stdin.flush().unwrap();
    let begun = Instant::now();
    let output = tokio::task::spawn_blocking(move || agent.wait_with_output().unwrap());
    let output =
        tokio::time::timeout(Duration::from_secs(20), output).await.expect("it waits for the end").unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        out.contains("WARN line 19") && out.contains("the first 20 events"),
        "{out} {:?}",
        begun.elapsed()
    );
    drop(stdin);
}
