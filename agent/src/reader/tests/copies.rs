//! copytruncate, where the pattern matches the copy too.

use super::*;

fn copying(change: impl FnOnce(&mut Reading)) -> Rig {
    Rig::started(|settings| {
        settings.patterns[0].push('*');
        change(settings);
    })
}

fn copy(rig: &Rig, from: &str, to: &str) {
    std::fs::copy(rig.path(from), rig.path(to)).unwrap();
}

fn empty(rig: &Rig, name: &str) {
    File::options().write(true).open(rig.path(name)).unwrap().set_len(0).unwrap();
}

#[test]
fn the_copy_is_not_read_again() {
    let mut rig = copying(|_| {});
    rig.append("app.log", text(&numbered(0..30)));
    rig.drain();
    copy(&rig, "app.log", "app.log.1");
    empty(&rig, "app.log");
    rig.append("app.log", text(&numbered(30..33)));
    rig.run(2000);
    rig.assert_sent(numbered(0..33));
    // Again, and the older copy has another name by then.
    rig.rename("app.log.1", "app.log.2");
    copy(&rig, "app.log", "app.log.1");
    empty(&rig, "app.log");
    rig.append("app.log", text(&numbered(33..35)));
    rig.drain();
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..35));
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
}

#[test]
fn what_was_unread_is_read_in_the_copy_and_is_no_loss() {
    let mut rig = copying(|settings| settings.window_batches = 1);
    rig.append("app.log", text(&numbered(0..10)));
    rig.run(1000);
    // The window is full.
    rig.append("app.log", text(&numbered(10..25)));
    rig.run(1000);
    copy(&rig, "app.log", "app-20261124.log");
    empty(&rig, "app.log");
    rig.append("app.log", text(&numbered(25..40)));
    rig.run(20_000);
    rig.drain();
    rig.assert_sent(numbered(0..40));
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    let services: Vec<bool> = rig.sent.values().map(|event| event.contains("\"app\"")).collect();
    assert!(services.iter().all(|app| *app));
}

#[test]
fn bytes_that_are_missing_in_the_copy_are_reported() {
    let mut rig = copying(|settings| settings.window_batches = 1);
    rig.append("app.log", text(&numbered(0..10)));
    rig.run(1000);
    rig.append("app.log", text(&numbered(10..15)));
    copy(&rig, "app.log", "app.log.1");
    rig.append("app.log", text(&numbered(15..20)));
    rig.run(1000);
    empty(&rig, "app.log");
    rig.drain();
    rig.assert_sent(numbered(0..15));
    let losses = rig.losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!(losses[0]["start"], text(&numbered(0..15)).len());
    assert_eq!(losses[0]["end"], text(&numbered(0..20)).len());
}

/// What is written between the copy and the truncation is read now and then; then the copy is a part of what was read.
#[test]
fn a_copy_that_lacks_what_was_read_after_it_was_made_is_not_read_again() {
    for seen in [false, true] {
        for turns in [1_usize, 40] {
            let mut rig = copying(|_| {});
            rig.append("app.log", text(&numbered(0..300)));
            rig.drain();
            copy(&rig, "app.log", "app.log.1");
            if seen {
                rig.run(1500);
            }
            for turn in 0..turns {
                rig.append("app.log", text(&numbered(300 + turn..301 + turn)));
                rig.pass(1);
                rig.step();
            }
            empty(&rig, "app.log");
            rig.append("app.log", text(&["next"]));
            rig.drain();
            rig.assert_sent(numbered(0..300 + turns).into_iter().chain(["next".to_owned()]));
            assert!(rig.losses().is_empty(), "{:?}", rig.losses());
            rig.append("app.log.1", text(&["in the copy"]));
            rig.drain();
            assert_eq!(rig.messages().len(), 302 + turns, "it is followed as any other");
        }
    }
}

#[test]
fn nor_is_it_when_the_agent_is_killed_before_it_sees_the_truncation() {
    let mut rig = copying(|_| {});
    rig.append("app.log", text(&numbered(0..30)));
    rig.run(1000);
    copy(&rig, "app.log", "app.log.1");
    rig.append("app.log", text(&numbered(30..40)));
    rig.step();
    rig.take();
    rig.kill();
    empty(&rig, "app.log");
    rig.append("app.log", text(&["next"]));
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..40).into_iter().chain(["next".to_owned()]));
    let losses = rig.losses();
    assert_eq!((losses.len(), &losses[0]["reason"]), (1, &"maybe_counted".into()), "{losses:?}");
    rig.restart();
    rig.drain();
    assert_eq!(rig.messages().len(), 41);
}

#[test]
fn a_copy_in_the_making_waits_for_its_end() {
    let mut rig = copying(|_| {});
    let content = text(&numbered(0..300));
    rig.append("app.log", &content);
    rig.drain();
    rig.append("app.log.1", "");
    rig.run(200);
    for part in content.as_bytes().chunks(700) {
        rig.append("app.log.1", part);
        rig.run(3000);
    }
    rig.run(5000);
    empty(&rig, "app.log");
    rig.append("app.log", "next\n");
    rig.drain();
    rig.assert_sent(numbered(0..300).into_iter().chain(["next".to_owned()]));
    assert!(rig.losses().is_empty());
}

#[test]
fn a_copy_that_was_made_while_no_agent_ran_is_read_on_and_its_batches_keep_their_numbers() {
    for settled in [false, true] {
        let mut rig = copying(|_| {});
        rig.append("app.log", text(&numbered(0..25)));
        rig.run(1000);
        if settled {
            rig.settle_all();
        }
        rig.append("app.log", text(&numbered(25..30)));
        rig.kill();
        copy(&rig, "app.log", "app.log.1");
        empty(&rig, "app.log");
        rig.append("app.log", text(&numbered(30..33)));
        rig.start();
        rig.drain();
        rig.restart();
        rig.drain();
        rig.assert_sent(numbered(0..33));
        assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    }
}

#[test]
fn a_kill_at_any_step_counts_nothing_twice() {
    for steps in 0..12 {
        let mut rig = copying(|settings| settings.linger = Duration::ZERO);
        rig.append("app.log", text(&numbered(0..12)));
        rig.run(1000);
        copy(&rig, "app.log", "app.log.1");
        for _ in 0..steps % 4 {
            rig.pass(50);
            rig.step();
        }
        empty(&rig, "app.log");
        rig.append("app.log", text(&numbered(12..15)));
        for _ in 0..steps {
            rig.pass(50);
            rig.step();
            rig.take();
        }
        rig.restart();
        rig.drain();
        rig.assert_sent(numbered(0..15));
        assert!(rig.losses().is_empty(), "{steps} {:?}", rig.losses());
    }
}

#[test]
fn a_file_that_begins_like_another_one_is_a_file_of_its_own() {
    let mut rig = copying(|_| {});
    rig.append("app.log", text(&numbered(0..30)));
    rig.drain();
    // It goes on otherwise: that is seen at once.
    rig.append("app.log.1", text(&numbered(0..10)));
    rig.append("app.log.1", "other\n");
    rig.run(2000);
    assert_eq!(rig.messages().len(), 41);
    // The very same, but nobody empties the first one: it is read after a while.
    rig.append("app.log.2", text(&numbered(0..30)));
    rig.run(5000);
    assert_eq!(rig.messages().len(), 41);
    rig.run(8000);
    assert_eq!(rig.messages().len(), 71);
    // In other folders, and with other names, nobody waits.
    rig.append("web.log", text(&numbered(0..30)));
    rig.run(1000);
    assert_eq!(rig.messages().len(), 101);
}
