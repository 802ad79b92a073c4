//! More files than handles.

use super::*;

fn few_handles(change: impl FnOnce(&mut Reading)) -> Rig {
    Rig::started(|settings| {
        settings.max_open_files = 8;
        settings.max_files = 1000;
        change(settings);
    })
}

fn name(number: usize) -> String {
    format!("{number:03}.log")
}

#[test]
fn more_files_than_handles_are_all_read_and_those_that_rest_are_watched() {
    let mut rig = few_handles(|_| {});
    for number in 0..100 {
        rig.append(&name(number), text(&numbered(number..number + 1)));
    }
    for _ in 0..100 {
        rig.settle_down();
        assert!(rig.core().handles.count() <= 8, "{}", rig.core().handles.count());
        rig.pass(20);
    }
    rig.drain();
    rig.assert_sent(numbered(0..100));
    // Each of them has grown, and some have other names by now.
    for number in 0..100 {
        if number % 3 == 0 {
            rig.rename(&name(number), &format!("{number:03}.old"));
        }
        let now = if number % 3 == 0 { format!("{number:03}.old") } else { name(number) };
        rig.append(&now, text(&numbered(100 + number..101 + number)));
    }
    rig.run(2000);
    assert!(rig.core().handles.count() <= 8);
    rig.drain();
    rig.assert_sent(numbered(0..200));
    rig.restart();
    assert!(rig.core().handles.count() <= 8);
    rig.drain();
    rig.assert_sent(numbered(0..200));
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
}

#[test]
fn what_happens_to_a_closed_file_is_seen_when_it_is_opened_again() {
    let mut rig = few_handles(|settings| settings.max_open_files = 1);
    for number in 0..3 {
        rig.append(&name(number), text(&numbered(10 * number..10 * number + 10)));
    }
    rig.drain();
    let closed = rig.core().tails.values().filter(|tail| !tail.is_open()).count();
    assert_eq!(closed, 2);
    // Truncated, and replaced by content that is as long; whichever of them is open.
    for number in 0..3 {
        std::fs::write(rig.path(&name(number)), text(&numbered(100 + 10 * number..110 + 10 * number)))
            .unwrap();
    }
    rig.drain();
    rig.assert_sent(numbered(0..30).into_iter().chain(numbered(100..130)));
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
}

#[test]
fn a_deleted_file_is_a_named_loss_where_its_bytes_were_seen_and_not_read() {
    let mut rig = few_handles(|settings| {
        settings.max_open_files = 1;
        settings.window_batches = 1;
    });
    for number in 0..3 {
        rig.append(&name(number), text(&numbered(10 * number..10 * number + 5)));
    }
    rig.drain();
    // Nothing can be read from now on, so at most one of the files is held open.
    rig.append("full.log", text(&numbered(50..80)));
    rig.run(2000);
    for number in 0..3 {
        rig.append(&name(number), text(&numbered(10 * number + 5..10 * number + 10)));
    }
    rig.run(2000);
    for number in 0..3 {
        delete(&rig.path(&name(number)));
    }
    rig.run(3000);
    rig.drain();
    let losses = rig.losses();
    let lost: u64 =
        losses.iter().map(|loss| loss["end"].as_u64().unwrap() - loss["start"].as_u64().unwrap()).sum();
    let read = rig.messages().len();
    assert!(losses.len() >= 2 && losses.iter().all(|loss| loss["reason"] == "deleted"), "{losses:?}");
    assert_eq!(read + losses.len() * 5, 60, "{losses:?}");
    assert!(lost > 0);
    // It is said once, also across a restart.
    rig.restart();
    rig.drain();
    assert_eq!(rig.losses().len(), losses.len());
}

#[test]
fn a_deleted_file_that_was_read_is_no_loss_and_its_inode_can_be_another_file() {
    let mut rig = few_handles(|settings| settings.max_open_files = 1);
    rig.append("a.log", text(&numbered(0..3)));
    rig.append("b.log", text(&numbered(3..6)));
    rig.append("c.log", text(&numbered(6..9)));
    rig.drain();
    for file in ["a.log", "b.log", "c.log"] {
        delete(&rig.path(file));
    }
    // On many file systems these take the same inodes.
    rig.append("d.log", text(&numbered(0..3)));
    rig.append("e.log", text(&numbered(3..6)));
    rig.append("f.log", text(&numbered(6..9)));
    rig.drain();
    assert_eq!(rig.messages().len(), 18);
    let services: std::collections::BTreeSet<String> = rig
        .sent
        .values()
        .map(|event| serde_json::from_str::<Value>(event).unwrap()["service"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(services.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "f"]);
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    rig.run(12_000);
    assert_eq!(rig.core().tails.len(), 3);
}

#[test]
fn a_file_that_is_far_behind_holds_up_no_other() {
    let mut rig = Rig::started(|settings| settings.batch_events = 1_000_000);
    rig.append("a.log", text(&numbered(0..1_000_000)));
    for number in 0..20 {
        rig.append(&format!("b{number}.log"), "other\n");
    }
    let behind = |rig: &mut Rig| {
        let tails = rig.core().tails.values();
        tails.map(|tail| (tail.entry.path.ends_with("a.log"), tail.behind())).collect::<Vec<_>>()
    };
    // Each file has had its turn before the large one has had three.
    rig.step();
    rig.step();
    let after = behind(&mut rig);
    assert!(after.iter().all(|(large, bytes)| *large || *bytes == 0), "{after:?}");
    assert!(after.iter().any(|(large, bytes)| *large && *bytes > 10_000_000), "{after:?}");
    // Also what is written while it is read on.
    rig.append("b7.log", "more\n");
    rig.step();
    rig.step();
    assert!(behind(&mut rig).iter().all(|(large, bytes)| *large || *bytes == 0));
}

#[test]
fn files_that_are_too_old_are_left_alone_until_they_are_written_to() {
    let mut rig = Rig::new(|settings| settings.ignore_older = Some(Duration::from_secs(3600)));
    let set_age = |rig: &Rig, name: &str, age: u64| {
        let now = Duration::from_millis(u64::try_from(rig.now.unix_ms).unwrap());
        let file = File::options().write(true).open(rig.path(name)).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + now - Duration::from_secs(age)).unwrap();
    };
    rig.append("old.log", text(&numbered(0..3)));
    set_age(&rig, "old.log", 4000);
    rig.append("new.log", text(&numbered(3..6)));
    set_age(&rig, "new.log", 3000);
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(3..6));
    // One that is followed stays so, across a restart too.
    rig.pass(4_000_000);
    rig.restart();
    rig.append("new.log", text(&numbered(6..7)));
    set_age(&rig, "new.log", 0);
    rig.append("old.log", text(&numbered(7..8)));
    set_age(&rig, "old.log", 0);
    rig.drain();
    rig.assert_sent(numbered(0..8));
}

#[test]
fn what_is_excluded_is_not_read_and_one_that_was_followed_is_finished() {
    let mut rig = Rig::new(|settings| settings.exclude = vec!["debug*".to_owned()]);
    rig.append("a.log", text(&numbered(0..3)));
    rig.append("debug.log", "noise\n");
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..3));
    rig.kill();
    rig.append("a.log", text(&numbered(3..6)));
    rig.settings.exclude = vec!["*.log".to_owned()];
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..6));
    assert!(rig.losses().is_empty());
}

#[test]
fn a_deleted_file_that_cannot_be_read_for_long_is_closed_and_its_rest_named() {
    let mut rig = Rig::started(|settings| settings.window_batches = 1);
    rig.append("a.log", text(&numbered(0..30)));
    rig.run(1000);
    delete(&rig.path("a.log"));
    rig.run(5000);
    rig.pass(1_700_000);
    rig.run(1000);
    assert_eq!((rig.core().handles.count(), rig.losses().len()), (1, 0));
    rig.pass(200_000);
    rig.run(1000);
    assert_eq!(rig.core().handles.count(), 0);
    let losses = rig.losses();
    assert_eq!((losses.len(), &losses[0]["reason"]), (1, &Value::from("deleted")));
    assert_eq!(losses[0]["start"], text(&numbered(0..10)).len());
    assert_eq!(losses[0]["end"], text(&numbered(0..30)).len());
    rig.drain();
    rig.assert_sent(numbered(0..10));
    // It is said once.
    rig.restart();
    rig.drain();
    assert_eq!(rig.losses().len(), 1);
}

#[test]
fn on_a_full_disk_a_deleted_file_is_given_up_when_it_cannot_be_read_on_and_never_one_that_is() {
    let mut rig = Rig::started(|settings| {
        settings.window_batches = 1;
        settings.close_deleted_below = Room::Percent(100.0);
    });
    for number in 0..2 {
        rig.append(&name(number), text(&numbered(100 * number..100 * number + 60)));
    }
    rig.run(2000);
    for number in 0..2 {
        delete(&rig.path(&name(number)));
        rig.run(1000);
    }
    // A batch in three seconds is slow, but each of the two has its turn within ten.
    for _ in 0..13 {
        rig.run(3000);
        rig.settle_all();
    }
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    rig.drain();
    assert_eq!((rig.core().handles.count(), rig.messages().len()), (0, 120));
    rig.append(&name(2), text(&numbered(200..230)));
    rig.append(&name(3), text(&numbered(300..330)));
    rig.run(2000);
    for number in 2..4 {
        delete(&rig.path(&name(number)));
    }
    rig.run(9000);
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    rig.run(4000);
    let losses = rig.losses();
    assert_eq!(losses.len(), 2, "{losses:?}");
    assert!(losses.iter().all(|loss| loss["reason"] == "disk_full"), "{losses:?}");
    assert_eq!(rig.core().handles.count(), 0);
    // What was read of them is sent, and the rest is named.
    rig.drain();
    let lost: u64 =
        losses.iter().map(|loss| loss["end"].as_u64().unwrap() - loss["start"].as_u64().unwrap()).sum();
    let line = "line 200\n".len() as u64;
    assert_eq!(rig.messages().len() as u64 - 120 + lost / line, 60);
    rig.restart();
    rig.drain();
    assert_eq!(rig.losses().len(), 2);
}
