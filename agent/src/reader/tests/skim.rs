//! What is looked up when the system tells of changes, and when it doesn't.

use super::super::skim::{FULL, Told};
use super::*;
use std::time::SystemTime;

/// Files in a folder that was last changed long ago, all read, and an agent that the system tells of changes or not.
fn quiet(files: usize, tells: bool, change: impl FnOnce(&mut Reading)) -> Rig {
    let mut rig = Rig::new(change);
    for number in 0..files {
        rig.append(&format!("{number}.log"), text(&numbered(number..number + 1)));
    }
    rig.start();
    rig.core().skim.set_told(tells);
    still(rig.dir.path());
    rig.drain();
    assert_eq!(scans(&mut rig, 5) <= 1, tells);
    rig
}

/// As if the folder had not been changed for an hour.
fn still(folder: &Path) {
    let hour = Duration::from_secs(3600);
    File::open(folder).unwrap().set_modified(SystemTime::now() - hour).unwrap();
}

/// What the system tells.
fn tell(rig: &mut Rig, names: &[&str]) {
    let told = Told::default();
    told.grown(names.iter().map(|name| rig.path(name)).collect());
    rig.core().told(told.take());
}

/// How often all was looked up in so many seconds.
fn scans(rig: &mut Rig, seconds: u64) -> u64 {
    let before = rig.core().scans;
    rig.run(1_000 * seconds);
    rig.core().scans - before
}

#[test]
fn quiet_files_are_looked_up_each_second_only_where_nobody_tells() {
    let few = |settings: &mut Reading| settings.max_open_files = 3;
    let untold = scans(&mut quiet(10, false, few), 100);
    let told = scans(&mut quiet(10, true, few), 100);
    assert!((98..=101).contains(&untold), "{untold}");
    assert!((8..=11).contains(&told), "{told}");
}

#[test]
fn what_is_told_to_have_grown_is_read_at_once_and_the_rest_soon() {
    let mut rig = quiet(10, true, |settings| settings.max_open_files = 3);
    let names: Vec<String> = (0..10).map(|number| format!("{number}.log")).collect();
    let before = rig.core().scans;
    for (number, name) in names.iter().enumerate() {
        rig.append(name, text(&numbered(10 + number..11 + number)));
        tell(&mut rig, &[name]);
        rig.run(100);
    }
    rig.run(500);
    assert!(rig.core().scans - before <= 1, "open or closed, each was found by its name");
    rig.assert_sent(numbered(0..20));
    for (number, name) in names.iter().enumerate() {
        rig.append(name, text(&numbered(20 + number..21 + number)));
    }
    rig.run(u64::try_from(FULL.as_millis()).unwrap() + 1_500);
    rig.assert_sent(numbered(0..30));
}

#[test]
fn more_has_grown_than_a_round_reads() {
    let mut rig = quiet(60, true, |settings| settings.batch_events = 100);
    let names: Vec<String> = (0..60).map(|number| format!("{number}.log")).collect();
    for (number, name) in names.iter().enumerate() {
        rig.append(name, text(&numbered(60 + number..61 + number)));
    }
    let (names, before): (Vec<&str>, _) = (names.iter().map(String::as_str).collect(), rig.core().scans);
    tell(&mut rig, &names);
    rig.run(600);
    assert!(rig.core().scans - before <= 1);
    rig.assert_sent(numbered(0..120));
}

#[test]
fn a_new_file_is_found_within_a_second_whether_told_or_not() {
    for tells in [false, true] {
        let mut rig = quiet(3, tells, |settings| {
            let deep = settings.patterns[0].replace("*.log", "{*,deep/**/*,later/*}.log");
            settings.patterns = vec![deep];
        });
        rig.append("new.log", "line 3\n");
        rig.run(1_000);
        rig.run(600);
        rig.assert_sent(numbered(0..4));
        // Folders that come later, too.
        still(rig.dir.path());
        rig.drain();
        rig.append("deep/down/a.log", "line 4\n");
        rig.append("later/b.log", "line 5\n");
        rig.run(1_000);
        rig.run(600);
        rig.assert_sent(numbered(0..6));
    }
}

#[test]
fn a_folder_that_was_changed_just_now_may_change_again_unseen() {
    let mut rig = quiet(3, true, |_| {});
    rig.append("new.log", "line 3\n");
    rig.run(1_000);
    let again = scans(&mut rig, 5);
    assert!((4..=6).contains(&again), "{again}");
    still(rig.dir.path());
    rig.run(1_000);
    let still = scans(&mut rig, 5);
    assert!(still <= 1, "{still}");
}

#[test]
fn links_are_looked_up_each_second() {
    type Link = fn(&Path, &Path) -> std::io::Result<()>;
    let kinds: [Link; 2] =
        [|from, to| std::os::unix::fs::symlink(from, to), |from, to| std::fs::hard_link(from, to)];
    for link in kinds {
        let mut rig = quiet(3, true, |_| {});
        rig.append("elsewhere/data", "line 3\n");
        link(&rig.path("elsewhere/data"), &rig.path("link.log")).unwrap();
        still(rig.dir.path());
        rig.drain();
        rig.append("elsewhere/data", "line 4\n");
        rig.run(1_000);
        rig.run(600);
        rig.assert_sent(numbered(0..5));
        let scans = scans(&mut rig, 10);
        assert!((9..=11).contains(&scans), "{scans}");
    }
}

#[test]
fn after_events_were_dropped_everything_is_looked_up() {
    let mut rig = quiet(3, true, |settings| settings.max_open_files = 1);
    rig.run(1_000);
    for number in 0..3 {
        rig.append(&format!("{number}.log"), text(&numbered(3 + number..4 + number)));
    }
    let told = Told::default();
    told.dropped();
    rig.core().told(told.take());
    rig.run(1_000);
    rig.run(600);
    rig.assert_sent(numbered(0..6));
}

#[test]
fn more_names_than_are_kept_are_not_forgotten() {
    let mut rig = quiet(3, true, |settings| settings.max_open_files = 1);
    rig.run(1_000);
    for number in 0..3 {
        rig.append(&format!("{number}.log"), text(&numbered(3 + number..4 + number)));
    }
    let told = Told::default();
    assert!(told.grown((0..10_000).map(|number| rig.path(&format!("other-{number}"))).collect()));
    assert!(!told.grown((0..3).map(|number| rig.path(&format!("{number}.log"))).collect()));
    rig.core().told(told.take());
    rig.run(1_000);
    rig.run(600);
    rig.assert_sent(numbered(0..6));
}

#[test]
fn what_is_rotated_while_the_system_tells_is_read_to_its_end() {
    let mut rig = quiet(2, true, |_| {});
    rig.append("0.log", "line 2\n");
    rig.rename("0.log", "0.log.1");
    rig.append("0.log", "line 3\n");
    rig.append("0.log.1", "line 4\n");
    rig.run(1_000);
    rig.run(600);
    rig.assert_sent(numbered(0..5));
    rig.append("0.log.1", "line 5\n");
    rig.run(1_000);
    rig.run(600);
    rig.assert_sent(numbered(0..6));
    std::fs::write(rig.path("1.log"), "line 6\n").unwrap();
    tell(&mut rig, &["1.log"]);
    rig.run(600);
    rig.assert_sent(numbered(0..7));
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
}
