//! Disks that are full, and a state directory that can't be written.

use crate::collector::Collector;
use crate::mount::Mounted;
use crate::process::{Place, ended, free_port, get, messages, terminate, until};
use logweir_proto::answer::{Problem, ProblemCode};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const QUICK: [&str; 4] = ["--linger", "20ms", "--multiline-timeout", "100ms"];

/// The value of a series at the admin address.
async fn metric(admin: &str, name: &str) -> Option<u64> {
    let text = get(admin, "/metrics").await.1;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Waits until `/readyz` says this.
async fn says(admin: &str, what: &str) {
    let mut last = (200, String::new());
    for _ in 0..1_000 {
        last = get(admin, "/readyz").await;
        if last.0 == 503 && last.1.contains(what) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(last.0 == 503 && last.1.contains(what), "{what}: {last:?}");
}

/// It is at rest, says so, and reads nothing of what is written now.
async fn reads_nothing(place: &Place, admin: &str, written: &mut u32) {
    assert_eq!(metric(admin, "logweir_agent_state_writable").await, Some(0));
    assert_eq!(metric(admin, "logweir_agent_reading_stopped").await, Some(1));
    let read = metric(admin, "logweir_agent_read_bytes_total").await;
    place.append("app.log", &messages(*written..*written + 500));
    *written += 500;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(metric(admin, "logweir_agent_read_bytes_total").await, read, "it has gone on reading");
    assert_eq!(metric(admin, "logweir_agent_state_writable").await, Some(0));
}

async fn all_is_well(admin: &str) {
    assert_eq!(get(admin, "/readyz").await.0, 200);
    assert_eq!(metric(admin, "logweir_agent_state_writable").await, Some(1));
}

/// A real file system that has no room for the journal, is read-only for a while, and then has room again.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_or_read_only_disk_nothing_new_is_read_and_it_recovers_by_itself() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (state, admin) = (place.path("state"), free_port());
    let Some(mounted) = Mounted::memory(&state, 512) else { return };
    let file = place.lines("app.log", &messages(0..10));
    let agent = place.start(&collector.url(), &[&QUICK[..], &["--admin", &admin, &file]].concat());
    until("all is taken", || collector.taken.messages().len() == 10).await;
    all_is_well(&admin).await;

    let filler = mounted.fill();
    let mut written = 10;
    // The journal's last page has some room left.
    while get(&admin, "/readyz").await.0 != 503 && written < 10_000 {
        place.append("app.log", &messages(written..written + 10));
        written += 10;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    says(&admin, "cannot write the journal: No space left").await;
    reads_nothing(&place, &admin, &mut written).await;
    assert!(collector.taken.count() < written as usize - 500, "nothing is sent that isn't in the journal");
    let read_only = Mounted::read_only(&state).unwrap();
    says(&admin, "cannot write the journal: Read-only file system").await;
    reads_nothing(&place, &admin, &mut written).await;
    drop(read_only);
    says(&admin, "cannot write the journal: No space left").await;

    std::fs::remove_file(filler).unwrap();
    until("all is taken", || collector.taken.count() >= written as usize).await;
    let mut expected = messages(0..written);
    expected.sort();
    assert!(collector.taken.messages() == expected);
    all_is_well(&admin).await;
    terminate(&agent).await;
    let log = ended(agent).await.log;
    assert!(log.contains("cannot write the journal") && log.contains("can be written again"), "{log}");
}

/// What a rejected event needs can't be written: neither is it dropped, nor is anything read.
async fn recovers(place: &Place, collector: &Collector, admin: &str, why: &str, back: impl FnOnce()) {
    let mut written = 10;
    place.append("app.log", &["bad".to_owned()]);
    says(admin, &format!("cannot write the rejects file: {why}")).await;
    reads_nothing(place, admin, &mut written).await;
    back();
    until("all is taken", || collector.taken.count() >= written as usize).await;
    let mut expected = messages(0..written);
    expected.sort();
    assert!(collector.taken.messages() == expected);
    all_is_well(admin).await;
    let rejects = std::fs::read_to_string(place.path("state/rejects.ndjson")).unwrap();
    assert_eq!((rejects.lines().count(), rejects.contains("it is bad")), (1, true), "{rejects}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_becomes_read_only_is_waited_for() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (state, admin) = (place.path("state"), free_port());
    let file = place.lines("app.log", &messages(0..10));
    let agent = place.start(&collector.url(), &[&QUICK[..], &["--admin", &admin, &file]].concat());
    until("all is taken", || collector.taken.messages().len() == 10).await;
    let Some(read_only) = Mounted::read_only(&state) else { return };
    recovers(&place, &collector, &admin, "Read-only file system", || drop(read_only)).await;
    terminate(&agent).await;
    assert_eq!(ended(agent).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_may_not_be_written_any_more_is_waited_for() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (state, admin) = (place.path("state"), free_port());
    let file = place.lines("app.log", &messages(0..10));
    std::fs::create_dir(&state).unwrap();
    let args = [&QUICK[..], &["--admin", &admin, &file]].concat();
    let agent = place.start_unprivileged(&collector.url(), &args);
    until("all is taken", || collector.taken.messages().len() == 10).await;
    let allow = |mode: u32| std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o500);
    recovers(&place, &collector, &admin, "Permission denied", || allow(0o700)).await;
    terminate(&agent).await;
    assert_eq!(ended(agent).await.code, Some(0));
    // At the start a person is told.
    allow(0o500);
    let ended = ended(place.start_unprivileged(&collector.url(), &args)).await;
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("Permission denied") && ended.log.contains("state"), "{}", ended.log);
    allow(0o700);
}

/// What comes through a pipe waits in the pipe.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_spool_has_no_room_stdin_waits_and_it_is_said() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (state, admin) = (place.path("state"), free_port());
    let Some(mounted) = Mounted::memory(&state, 1024) else { return };
    let (read, mut write) = std::io::pipe().unwrap();
    let agent = place.start_reading(&collector.url(), &[&QUICK[..], &["--admin", &admin]].concat(), read);
    let line = |message: &String| format!("2026-11-24T10:00:00Z INFO {message}\n");
    write.write_all(line(&messages(0..1)[0]).as_bytes()).unwrap();
    until("the first is taken", || collector.taken.messages().len() == 1).await;
    let filler = mounted.fill();
    // More than pipe and spool hold.
    let writer = std::thread::spawn(move || {
        for message in messages(1..9_000) {
            write.write_all(line(&message).as_bytes()).unwrap();
        }
    });
    says(&admin, "cannot write the spool: No space left").await;
    assert_eq!(metric(&admin, "logweir_agent_state_writable").await, Some(0));
    assert!(!writer.is_finished());
    std::fs::remove_file(filler).unwrap();
    let log = ended(agent).await.log;
    writer.join().unwrap();
    assert!(collector.taken.messages() == messages(0..9_000), "{} {log}", collector.taken.count());
    assert!(log.contains("the spool can be written again"), "{log}");
}

/// The collector takes nothing, and a file that was deleted fills the disk: its room comes back, and its rest is named. As
/// long as there is room, it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_deleted_file_that_cannot_be_read_on_is_given_up() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let (logs, admin) = (place.path("logs"), free_port());
    let Some(mounted) = Mounted::memory(&logs, 2048) else { return };
    let file = place.lines("logs/app.log", &messages(0..9_000));
    let size = std::fs::metadata(&file).unwrap().len();
    let free = || {
        let stat = rustix::fs::statvfs(&logs).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let small = ["--batch-events", "100", "--window-batches", "1", "--admin", &admin, &file];
    let mut refusal = Problem::new(ProblemCode::QueueFull, "the queue is full");
    refusal.retry_after_ms = Some(1_000);
    collector.taken.refuse(Some(refusal));
    let agent = place.start(&collector.url(), &[&QUICK[..], &small].concat());
    until("it asks", || collector.taken.asked() > 0).await;
    std::fs::remove_file(&file).unwrap();
    let before = free();
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(free(), before, "there is room, so it is kept");

    let filler = mounted.fill();
    until("its room is free", || free() >= size).await;
    let lost = metric(&admin, "logweir_agent_lost_bytes_total{reason=\"disk_full\"}").await.unwrap();
    let text = std::fs::read_to_string(place.path("state/losses.ndjson")).unwrap();
    let loss: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&loss["reason"], &loss["end"]), (&"disk_full".into(), &size.into()), "{text}");
    assert_eq!(loss["start"].as_u64().unwrap() + lost, size);
    std::fs::remove_file(filler).unwrap();
    collector.taken.refuse(None);
    let read = loss["start"].as_u64().unwrap() * 9_000 / size;
    until("what was read is taken", || collector.taken.count() as u64 == read).await;
    terminate(&agent).await;
    let ended = ended(agent).await;
    assert!(ended.log.contains("--close-deleted-below"), "{}", ended.log);
    assert_eq!(collector.taken.messages(), messages(0..u32::try_from(read).unwrap()));
}
