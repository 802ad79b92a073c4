//! What becomes of names: links that lead elsewhere, folders that are replaced or can't be read, file systems over others.

use crate::collector::Collector;
use crate::mount::Mounted;
use crate::process::{Place, ended, messages, terminate, until};
use std::fs::{create_dir, hard_link, remove_file, rename, set_permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const QUICK: [&str; 6] = ["--admin", "127.0.0.1:0", "--linger", "20ms", "--multiline-timeout", "100ms"];

fn start(place: &Place, collector: &Collector, patterns: &[&str]) -> Child {
    let paths: Vec<String> = patterns.iter().map(|p| place.path(p).to_str().unwrap().to_owned()).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    place.start(&collector.url(), &[&QUICK[..], &paths].concat())
}

async fn taken(collector: &Collector, count: u32) {
    until("all is taken", || collector.taken.count() >= count as usize).await;
}

/// Each of so many lines was taken, once, and nothing is said to be lost.
async fn exact(place: &Place, collector: &Collector, agent: Child, count: u32) {
    taken(collector, count).await;
    // What would be read a second time would be so by the next scan.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    terminate(&agent).await;
    let log = ended(agent).await.log;
    assert!(
        collector.taken.messages() == messages(0..count),
        "{} of {count}: {log}",
        collector.taken.count()
    );
    assert_eq!(std::fs::read_to_string(place.path("state/losses.ndjson")).unwrap_or_default(), "", "{log}");
}

#[tokio::test]
async fn a_link_that_leads_to_another_file_loses_nothing_of_the_first() {
    let (place, collector) = (Place::new(), Collector::start().await);
    create_dir(place.path("days")).unwrap();
    place.lines("days/1.log", &messages(0..10));
    let link = |day: &str| {
        symlink(place.path(day), place.path("new")).unwrap();
        rename(place.path("new"), place.path("current")).unwrap();
    };
    link("days/1.log");
    let agent = start(&place, &collector, &["current"]);
    taken(&collector, 10).await;
    place.append("days/1.log", &messages(10..20));
    place.lines("days/2.log", &messages(20..30));
    link("days/2.log");
    place.append("days/1.log", &messages(30..40));
    taken(&collector, 40).await;
    // And while no agent runs.
    terminate(&agent).await;
    assert_eq!(ended(agent).await.code, Some(0));
    place.append("days/2.log", &messages(40..50));
    place.lines("days/3.log", &messages(50..60));
    link("days/3.log");
    let agent = start(&place, &collector, &["current"]);
    exact(&place, &collector, agent, 60).await;
}

/// As kubelet rotates a container's log, whose link stands in another folder.
#[tokio::test]
async fn what_a_link_leads_to_is_found_beside_itself_when_it_is_renamed() {
    let (place, collector) = (Place::new(), Collector::start().await);
    create_dir(place.path("pod")).unwrap();
    place.lines("pod/0.log", &messages(0..10));
    symlink(place.path("pod/0.log"), place.path("app.log")).unwrap();
    let agent = start(&place, &collector, &["*.log"]);
    taken(&collector, 10).await;
    terminate(&agent).await;
    assert_eq!(ended(agent).await.code, Some(0));
    place.append("pod/0.log", &messages(10..20));
    rename(place.path("pod/0.log"), place.path("pod/0.log.20261124")).unwrap();
    place.lines("pod/0.log", &messages(20..30));
    let agent = start(&place, &collector, &["*.log"]);
    exact(&place, &collector, agent, 30).await;
}

#[tokio::test]
async fn hard_links_under_two_patterns_are_one_file() {
    let (place, collector) = (Place::new(), Collector::start().await);
    create_dir(place.path("a")).unwrap();
    create_dir(place.path("b")).unwrap();
    place.lines("a/app.log", &messages(0..10));
    hard_link(place.path("a/app.log"), place.path("b/web.log")).unwrap();
    let agent = start(&place, &collector, &["b/*.log", "a/*.log"]);
    taken(&collector, 10).await;
    place.append("b/web.log", &messages(10..20));
    taken(&collector, 20).await;
    remove_file(place.path("a/app.log")).unwrap();
    place.append("b/web.log", &messages(20..30));
    taken(&collector, 30).await;
    hard_link(place.path("b/web.log"), place.path("a/other.log")).unwrap();
    remove_file(place.path("b/web.log")).unwrap();
    place.append("a/other.log", &messages(30..40));
    exact(&place, &collector, agent, 40).await;
}

#[tokio::test]
async fn a_file_that_is_renamed_over_another_one_takes_nothing_of_it_along() {
    let (place, collector) = (Place::new(), Collector::start().await);
    place.lines("a.log", &messages(0..10));
    place.lines("b.log", &messages(10..20));
    let agent = start(&place, &collector, &["*.log"]);
    taken(&collector, 20).await;
    place.append("a.log", &messages(20..30));
    place.append("b.log", &messages(30..40));
    rename(place.path("a.log"), place.path("b.log")).unwrap();
    place.lines("new", &messages(40..50));
    rename(place.path("new"), place.path("b.log")).unwrap();
    exact(&place, &collector, agent, 50).await;
}

/// Also at the speed of a folder that is watched.
#[tokio::test]
async fn a_folder_that_is_replaced_is_followed_and_the_old_one_read_to_its_end() {
    let (place, collector) = (Place::new(), Collector::start().await);
    create_dir(place.path("logs")).unwrap();
    place.lines("logs/app.log", &messages(0..10));
    let agent = start(&place, &collector, &["logs/*.log"]);
    taken(&collector, 10).await;
    for round in 1..4 {
        let from = 20 * round;
        place.append("logs/app.log", &messages(from - 10..from));
        rename(place.path("logs"), place.path(&format!("old{round}"))).unwrap();
        create_dir(place.path("logs")).unwrap();
        place.lines("logs/app.log", &messages(from..from + 10));
        taken(&collector, from + 10).await;
    }
    exact(&place, &collector, agent, 70).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_for_a_while_is_read_on() {
    let (place, collector) = (Place::new(), Collector::start().await);
    create_dir(place.path("state")).unwrap();
    create_dir(place.path("logs")).unwrap();
    let pattern = place.path("logs/*.log").to_str().unwrap().to_owned();
    place.lines("logs/app.log", &messages(0..10));
    // What isn't open is looked at by its name.
    let args = [&QUICK[..], &["--max-open-files", "1", &pattern]].concat();
    let agent = place.start_unprivileged(&collector.url(), &args);
    taken(&collector, 10).await;
    place.lines("logs/web.log", &messages(10..20));
    taken(&collector, 20).await;
    for (mode, from) in [(0o000, 20), (0o444, 40), (0o111, 60)] {
        set_permissions(place.path("logs"), std::fs::Permissions::from_mode(mode)).unwrap();
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        set_permissions(place.path("logs"), std::fs::Permissions::from_mode(0o755)).unwrap();
        place.append("logs/app.log", &messages(from..from + 10));
        place.append("logs/web.log", &messages(from + 10..from + 20));
        taken(&collector, from + 20).await;
    }
    exact(&place, &collector, agent, 80).await;
}

/// A file of a lower layer becomes another one beneath when it is first written to; its name and number stay.
#[tokio::test]
async fn what_an_overlay_copies_up_is_read_on() {
    let (place, collector) = (Place::new(), Collector::start().await);
    create_dir(place.path("lower")).unwrap();
    place.lines("lower/app.log", &messages(0..10));
    let Some(_overlay) = Mounted::overlay(&place.path("lower"), &place.path("layers"), &place.path("logs"))
    else {
        return;
    };
    let agent = start(&place, &collector, &["logs/*.log"]);
    taken(&collector, 10).await;
    place.append("logs/app.log", &messages(10..20));
    taken(&collector, 20).await;
    rename(place.path("logs/app.log"), place.path("logs/app.log.1")).unwrap();
    place.append("logs/app.log.1", &messages(20..25));
    place.lines("logs/app.log", &messages(25..30));
    exact(&place, &collector, agent, 30).await;
}

/// Many file systems get another device number each time they are mounted.
#[tokio::test]
async fn a_file_system_that_is_mounted_again_is_read_on() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let dirs = ["lower", "layers", "logs"].map(|name| place.path(name));
    create_dir(&dirs[0]).unwrap();
    let mount = || Mounted::overlay(&dirs[0], &dirs[1], &dirs[2]);
    let Some(mounted) = mount() else { return };
    place.lines("logs/app.log", &messages(0..10));
    place.lines("logs/web.log", &messages(10..20));
    let device = || std::fs::metadata(place.path("logs/app.log")).unwrap().dev();
    let before = device();
    let agent = start(&place, &collector, &["logs/*.log"]);
    taken(&collector, 20).await;
    // The agent holds the files of the old one open, so that its number is not free.
    drop(mounted);
    let _mounted = mount().unwrap();
    assert_ne!(device(), before);
    place.append("logs/app.log", &messages(20..30));
    place.append("logs/web.log", &messages(30..40));
    taken(&collector, 40).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    terminate(&agent).await;
    assert_eq!(ended(agent).await.code, Some(0));
    let agent = start(&place, &collector, &["logs/*.log"]);
    place.append("logs/app.log", &messages(40..50));
    exact(&place, &collector, agent, 50).await;
}

#[tokio::test]
async fn a_bind_mount_is_the_same_file_once_more() {
    let (place, collector) = (Place::new(), Collector::start().await);
    create_dir(place.path("logs")).unwrap();
    create_dir(place.path("same")).unwrap();
    place.lines("logs/app.log", &messages(0..10));
    let agent = start(&place, &collector, &["*/app.log"]);
    taken(&collector, 10).await;
    let Some(bound) = Mounted::bound(&place.path("logs"), &place.path("same")) else { return };
    place.append("same/app.log", &messages(10..20));
    taken(&collector, 20).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    drop(bound);
    place.append("logs/app.log", &messages(20..30));
    exact(&place, &collector, agent, 30).await;
}

/// In a namespace of its own the system's limits concern nobody else.
#[tokio::test]
async fn folders_that_cannot_be_watched_are_scanned_and_it_is_said() {
    for (limit, what) in [("max_inotify_watches", 1), ("max_inotify_instances", 0)] {
        let (place, collector) = (Place::new(), Collector::start().await);
        for folder in ["a", "b", "c"] {
            create_dir(place.path(folder)).unwrap();
        }
        place.lines("a/app.log", &messages(0..10));
        let script = format!("echo {what} > /proc/sys/user/{limit} && exec \"$@\"");
        let (state, pattern) = (place.path("state"), place.path("*/*.log"));
        let agent = Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", &script, "sh"])
            .arg(env!("CARGO_BIN_EXE_logweir-agent"))
            .args(["--collector", &collector.url(), "--timezone", "UTC", "--state-dir"])
            .arg(&state)
            .args(QUICK)
            .arg(&pattern)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("it begins, or nothing is allowed", || {
            state.join("journal").exists()
                || agent.id().is_none_or(|id| !std::path::Path::new(&format!("/proc/{id}/exe")).exists())
        })
        .await;
        if !state.join("journal").exists() {
            println!("SKIPPED: no user namespace can be made here");
            return;
        }
        taken(&collector, 10).await;
        place.lines("b/app.log", &messages(10..20));
        taken(&collector, 20).await;
        place.lines("c/app.log", &messages(20..30));
        place.append("b/app.log", &messages(30..40));
        taken(&collector, 40).await;
        terminate(&agent).await;
        let log = ended(agent).await.log;
        assert!(collector.taken.messages() == messages(0..40), "{log}");
        assert!(log.contains("they are looked up once a second"), "{limit}: {log}");
    }
}
