//! Files that are renamed, deleted, truncated, and inodes that come back.

use super::*;

#[test]
fn a_renamed_file_is_read_to_its_end_and_let_go_after_the_grace() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.run(1000);
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", text(&numbered(3..5)));
    rig.append("a.log.1", text(&["late"]));
    rig.run(5000);
    rig.append("a.log.1", text(&["later"]));
    rig.run(9000);
    assert_eq!(rig.core().tails.len(), 2, "it was written to not long ago");
    rig.append("a.log.1", "without an end");
    rig.run(12_000);
    rig.settle_all();
    rig.run(3000);
    assert_eq!(rig.core().tails.len(), 1);
    let mut lines = numbered(0..5);
    lines.extend(["late", "later", "without an end"].map(ToOwned::to_owned));
    rig.assert_sent(&lines);
    rig.restart();
    rig.drain();
    rig.assert_sent(&lines);
    assert!(rig.losses().is_empty());
}

#[test]
fn a_file_that_is_renamed_while_no_agent_runs_is_found_and_finished() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.run(1000);
    rig.append("a.log", text(&numbered(3..6)));
    rig.kill();
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", text(&numbered(6..9)));
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..9));
    assert!(rig.losses().is_empty());
}

#[test]
fn a_file_that_still_matches_is_not_read_again() {
    let mut rig = Rig::started(|settings| settings.patterns[0].push('*'));
    rig.append("a.log", text(&numbered(0..3)));
    rig.run(1000);
    rig.rename("a.log", "a.log.2");
    rig.rename("a.log.2", "a.log.1");
    rig.append("a.log", text(&numbered(3..5)));
    rig.drain();
    rig.restart();
    rig.rename("a.log.1", "a.log.3");
    rig.drain();
    rig.assert_sent(numbered(0..5));
    let services: std::collections::BTreeSet<String> = rig
        .sent
        .values()
        .map(|event| serde_json::from_str::<Value>(event).unwrap()["service"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(services.len(), 1, "{services:?}");
}

#[test]
fn a_deleted_file_is_read_to_its_end_and_forgotten() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.settle_down();
    rig.append("a.log", "line 3\nline 4");
    delete(&rig.path("a.log"));
    rig.run(12_000);
    rig.settle_all();
    rig.run(3000);
    rig.assert_sent(numbered(0..5));
    assert!(rig.core().tails.is_empty());
    assert!(rig.core().journal.state().files.is_empty());
    rig.restart();
    assert!(rig.losses().is_empty());
}

#[test]
fn a_truncated_file_that_has_grown_past_the_old_place_is_noticed() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.drain();
    std::fs::write(rig.path("a.log"), text(&numbered(3..30))).unwrap();
    rig.drain();
    rig.assert_sent(numbered(0..30));
    assert!(rig.losses().is_empty());
}

#[test]
fn bytes_that_were_seen_and_not_read_before_a_truncation_are_reported() {
    let mut rig = Rig::started(|settings| settings.window_batches = 1);
    rig.append("a.log", text(&numbered(0..10)));
    rig.run(1000);
    rig.append("a.log", text(&numbered(10..20)));
    rig.run(1000);
    std::fs::write(rig.path("a.log"), "new\n").unwrap();
    rig.drain();
    let losses = rig.losses();
    assert_eq!(losses.len(), 1);
    let read = text(&numbered(0..10)).len();
    assert_eq!(losses[0]["reason"], "truncated");
    assert_eq!(
        (&losses[0]["start"], &losses[0]["end"]),
        (&Value::from(read), &Value::from(text(&numbered(0..20)).len()))
    );
    assert_eq!(rig.messages().len(), 11);
}

#[test]
fn what_replaces_a_file_while_no_agent_runs_is_read_and_the_rest_is_reported() {
    let mut rig = Rig::started(|_| {});
    for name in ["short.log", "long.log"] {
        rig.append(name, text(&numbered(0..3)));
    }
    rig.drain();
    rig.kill();
    std::fs::write(rig.path("short.log"), "a\n").unwrap();
    std::fs::write(rig.path("long.log"), text(&numbered(100..200))).unwrap();
    rig.start();
    rig.drain();
    let mut reasons: Vec<Value> = rig.losses().into_iter().map(|loss| loss["reason"].clone()).collect();
    reasons.sort_by_key(ToString::to_string);
    assert_eq!(reasons, ["replaced", "truncated"]);
    assert_eq!(rig.messages().len(), 6 + 1 + 100);
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let mut rig = Rig::started(|_| {});
    // The journal knows a file under the inode that another one is going to have.
    rig.append("a.log", text(&numbered(0..3)));
    rig.drain();
    rig.kill();
    std::fs::write(rig.path("a.log"), text(&numbered(0..3))).unwrap();
    rig.append("a.log", text(&numbered(3..5)));
    rig.start();
    rig.drain();
    assert_eq!(rig.messages().len(), 5, "the same bytes at the same place are the same");
    rig.kill();
    std::fs::write(rig.path("a.log"), text(&numbered(5..11))).unwrap();
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..11));
}

#[test]
fn what_was_read_to_its_end_before_an_orderly_stop_is_no_loss_when_it_is_deleted() {
    for once in [false, true] {
        let mut rig = Rig::started(|settings| settings.once = once);
        rig.append("a.log", text(&numbered(0..3)));
        rig.append("b.log", text(&numbered(3..6)));
        rig.restart();
        rig.run(3000);
        rig.settle_all();
        if !once {
            // Its handle is still open when the agent is told to stop.
            delete(&rig.path("b.log"));
            rig.stop();
        }
        assert!(rig.ended.is_some(), "once: {once}");
        rig.kill();
        delete(&rig.path("a.log"));
        rig.start();
        assert!(rig.losses().is_empty(), "{:?}", rig.losses());
        rig.run(3000);
        rig.assert_sent(numbered(0..6));
    }
}

#[test]
fn what_was_read_to_its_end_before_an_orderly_stop_and_is_truncated_since_is_said() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.drain();
    rig.stop();
    rig.kill();
    rig.append("a.log", text(&numbered(3..6)));
    // As copytruncate does: what was written meanwhile is gone from here.
    std::fs::write(rig.path("a.log"), "later\n").unwrap();
    rig.start();
    rig.drain();
    assert_eq!(rig.losses().len(), 1, "{:?}", rig.losses());
    rig.assert_sent(numbered(0..3).into_iter().chain(["later".to_owned()]));
}

#[test]
fn what_is_written_after_an_orderly_stop_is_read_and_a_later_deletion_reported() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.drain();
    rig.stop();
    rig.kill();
    rig.append("a.log", text(&numbered(3..6)));
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..6));
    rig.kill();
    delete(&rig.path("a.log"));
    rig.start();
    assert_eq!(rig.losses().len(), 1, "nobody knows whether more was written");
    assert_eq!(rig.core().ended.losses, 0);
}

#[test]
fn a_deletion_while_no_agent_runs_is_reported_once() {
    let mut rig =
        Rig::started(|settings| settings.patterns[0] = settings.patterns[0].replace("*.log", "*/*.log"));
    rig.append("x/a.log", text(&numbered(0..3)));
    rig.append("x/b.log", text(&numbered(3..6)));
    rig.drain();
    rig.kill();
    delete(&rig.path("x/a.log"));
    rig.start();
    assert_eq!(rig.losses().len(), 1);
    assert_eq!(rig.losses()[0]["reason"], "deleted");
    rig.restart();
    rig.drain();
    assert_eq!(rig.losses().len(), 1);
    rig.assert_sent(numbered(0..6));
}

#[test]
fn with_from_end_only_what_comes_after_the_very_first_start_is_read() {
    let mut rig = Rig::new(|settings| settings.from = From::End);
    rig.append("a.log", "old\nunfinish");
    rig.start();
    rig.run(1000);
    rig.append("a.log", "ed\nline 0\n");
    rig.append("b.log", "line 1\n");
    rig.run(2000);
    rig.restart();
    rig.append("c.log", "line 2\n");
    rig.drain();
    rig.assert_sent(["unfinished", "line 0", "line 1", "line 2"]);
}

#[test]
fn more_files_than_allowed_are_left_alone_until_there_is_room() {
    let mut rig = Rig::started(|settings| settings.max_files = 2);
    for number in 0..3 {
        rig.append(&format!("{number}.log"), text(&numbered(number..number + 1)));
    }
    rig.drain();
    assert_eq!(rig.messages().len(), 2);
    delete(&rig.path("0.log"));
    delete(&rig.path("1.log"));
    rig.run(15_000);
    rig.settle_all();
    rig.drain();
    rig.assert_sent(numbered(0..3));
}

#[test]
fn a_quiet_file_that_is_renamed_is_followed_for_the_grace_too() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.drain();
    rig.rename("a.log", "a.log.1");
    rig.run(5000);
    // The application has not opened the new file yet.
    rig.append("a.log.1", text(&numbered(3..5)));
    rig.run(20_000);
    rig.settle_all();
    rig.drain();
    rig.assert_sent(numbered(0..5));
}

#[test]
fn an_end_that_is_cut_off_before_it_was_read_is_reported() {
    let mut rig = Rig::started(|settings| settings.window_batches = 1);
    rig.append("a.log", text(&numbered(0..10)));
    rig.run(1000);
    rig.append("a.log", text(&numbered(10..20)));
    rig.run(1000);
    // What was read stays.
    let (cut, seen) = (text(&numbered(0..12)).len(), text(&numbered(0..20)).len());
    File::options().write(true).open(rig.path("a.log")).unwrap().set_len(cut as u64).unwrap();
    rig.drain();
    rig.assert_sent(numbered(0..12));
    let losses = rig.losses();
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert_eq!((&losses[0]["start"], &losses[0]["end"]), (&Value::from(cut), &Value::from(seen)));
}
