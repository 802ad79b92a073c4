//! Batches that an earlier run left.

use super::*;
use crate::files::identity::Key;
use crate::journal::Journal;
use crate::journal::state::State;
use logweir_proto::Seq;
use proptest::prelude::*;

#[test]
fn unsettled_batches_come_back_under_their_numbers() {
    let mut rig = Rig::started(|_| {});
    rig.append(
        "a.log",
        "2026-11-24T10:00:00Z ERROR first\nno time\n\n  \n{\"message\":\"json\",\"level\":\"warn\"}\r\n",
    );
    rig.append("b.log", text(&numbered(0..25)));
    rig.run(1000);
    let (ids, sent) = (rig.ids(), rig.sent.clone());
    assert!(ids.len() >= 3);
    for _ in 0..3 {
        rig.pass(10_000);
        rig.restart();
        rig.take();
        let mut again = rig.ids();
        again.sort();
        let mut before = ids.clone();
        before.sort();
        assert_eq!(again, before);
        assert_eq!(rig.sent, sent, "the same numbers bear the same bytes, whatever time it is now");
    }
    rig.drain();
    rig.restart();
    rig.run(2000);
    assert!(rig.ids().is_empty());
    assert_eq!(rig.sent, sent);
}

#[test]
fn other_settings_do_not_change_what_was_sealed() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.run(1000);
    rig.kill();
    rig.settings.service = Some("other".to_owned());
    rig.settings.default_level = Level::Error;
    rig.settings.timezone_name = "Europe/Berlin".to_owned();
    rig.settings.timezone = TimeZone::get("Europe/Berlin").unwrap();
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..3));
}

#[test]
fn what_was_truncated_before_it_was_settled_is_reported_as_maybe_counted() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.run(1000);
    let id = rig.ids()[0];
    rig.kill();
    std::fs::write(rig.path("a.log"), text(&numbered(3..6))).unwrap();
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..6));
    let losses = rig.losses();
    let maybe: Vec<&Value> = losses.iter().filter(|loss| loss["reason"] == "maybe_counted").collect();
    assert_eq!(maybe.len(), 1);
    assert_eq!(maybe[0]["batch"], id.to_string());
    assert_eq!((&maybe[0]["events"], &maybe[0]["start"]), (&Value::from(3), &Value::from(0)));
    rig.restart();
    rig.drain();
    assert_eq!(rig.losses().len(), losses.len(), "it is reported once");
}

#[test]
fn of_a_batch_of_two_files_the_one_that_is_left_keeps_its_numbers() {
    for gone in ["a.log", "b.log", "c.log"] {
        let mut rig = Rig::started(|_| {});
        for (index, name) in ["a.log", "b.log", "c.log"].into_iter().enumerate() {
            rig.append(name, text(&numbered(2 * index..2 * index + 2)));
        }
        rig.run(1000);
        let sent = rig.sent.clone();
        assert_eq!(rig.ids().len(), 1);
        rig.kill();
        delete(&rig.path(gone));
        rig.start();
        rig.take();
        let events: u64 = rig.waiting.iter().map(|sealed| sealed.events).sum();
        assert_eq!(events, 4);
        let middle = rig.waiting.iter().any(|sealed| sealed.id.seq == Seq::FIRST) || rig.waiting.len() == 1;
        assert!(middle);
        assert_eq!(rig.sent, sent, "the same numbers for the same events");
        assert!(rig.losses().iter().any(|loss| loss["reason"] == "maybe_counted" && loss["events"] == 2));
        // The parts are batches of their own, also for the journal.
        rig.restart();
        rig.take();
        assert_eq!(rig.waiting.iter().map(|sealed| sealed.events).sum::<u64>(), 4);
        rig.drain();
        assert_eq!(rig.sent, sent);
    }
}

#[test]
fn a_batch_that_was_never_handed_over_is_sent_by_the_next_run() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..25)));
    for _ in 0..20 {
        rig.pass(100);
        rig.step();
    }
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..25));
}

/// Rewrites the journal as if the files had been on another device.
fn move_to_device(rig: &Rig, path: impl Fn(&Path) -> PathBuf) {
    let dir = &rig.settings.state_dir;
    let old = Journal::read(dir).unwrap().unwrap();
    let mut state = State::default();
    for mut entry in old.files.into_values() {
        entry.key = Key::new(entry.key.device() + 1000, entry.key.inode());
        entry.path = path(&entry.path);
        state.files.insert(entry.key, entry);
    }
    for mut batch in old.batches.into_values() {
        for piece in &mut batch.pieces {
            piece.key = Key::new(piece.key.device() + 1000, piece.key.inode());
            piece.path = path(&piece.path);
        }
        state.batches.insert(batch.id, batch);
    }
    Journal::create(dir, state).unwrap();
}

#[test]
fn a_device_whose_number_has_changed_is_the_same_device() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..5)));
    rig.append("b.log", text(&numbered(5..9)));
    rig.run(1000);
    let sent = rig.sent.clone();
    rig.kill();
    rig.rename("b.log", "b.log.1");
    move_to_device(&rig, Path::to_path_buf);
    rig.start();
    rig.take();
    assert_eq!(rig.sent, sent);
    rig.append("a.log", text(&numbered(9..12)));
    rig.drain();
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..12));
    assert!(rig.losses().is_empty());
}

#[test]
fn what_may_be_on_a_file_system_that_is_not_mounted_is_kept() {
    let mut rig =
        Rig::started(|settings| settings.patterns[0] = settings.patterns[0].replace("*.log", "logs/*.log"));
    rig.append("logs/a.log", text(&numbered(0..5)));
    rig.run(1000);
    let sent = rig.sent.clone();
    rig.kill();
    rig.rename("logs", "elsewhere");
    std::fs::create_dir(rig.path("logs")).unwrap();
    move_to_device(&rig, Path::to_path_buf);
    rig.start();
    rig.run(3000);
    assert!(rig.ids().is_empty() && rig.losses().is_empty());
    rig.kill();
    std::fs::remove_dir(rig.path("logs")).unwrap();
    rig.rename("elsewhere", "logs");
    rig.start();
    rig.take();
    assert_eq!(rig.sent, sent);
    rig.drain();
    rig.assert_sent(numbered(0..5));
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn two_agents_of_one_copied_state_directory_never_give_a_number_to_two_lines() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..25)));
    rig.run(1000);
    rig.kill();
    // The machine is cloned, with batches on their way. Each of the two goes on writing to its own file.
    let (state, copy) = (rig.settings.state_dir.clone(), rig.path("copy"));
    copy_folder(&state, &copy);
    let before = std::fs::read(rig.path("a.log")).unwrap();
    let sent = rig.sent.clone();
    rig.append("a.log", text(&numbered(100..130)));
    rig.start();
    rig.drain();
    rig.kill();
    let first: std::collections::BTreeSet<_> = rig.sent.keys().copied().collect();

    // The other one: the same inode, since it is the same image.
    File::options().write(true).open(rig.path("a.log")).unwrap().set_len(before.len() as u64).unwrap();
    rig.append("a.log", text(&numbered(200..230)));
    std::fs::remove_dir_all(&state).unwrap();
    copy_folder(&copy, &state);
    // What is taken from both is compared by number: the rig fails when one bears two lines.
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..25).into_iter().chain(numbered(100..130)).chain(numbered(200..230)));
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    let again: usize = rig.sent.keys().filter(|number| sent.contains_key(number)).count();
    assert_eq!((again, rig.sent.len() - first.len()), (25, 30), "what was sealed before keeps its numbers");
}

#[test]
fn a_restored_state_directory_counts_nothing_under_a_number_of_other_content() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..25)));
    rig.run(1000);
    rig.kill();
    let (state, copy) = (rig.settings.state_dir.clone(), rig.path("copy"));
    copy_folder(&state, &copy);
    rig.start();
    rig.drain();
    rig.append("a.log", text(&numbered(25..40)));
    rig.drain();
    rig.kill();
    // Since the backup the file was emptied, and begins with the same lines as before.
    std::fs::write(rig.path("a.log"), text(&numbered(0..24)) + &text(&numbered(50..60))).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    copy_folder(&copy, &state);
    rig.start();
    rig.drain();
    let maybe: Vec<Value> =
        rig.losses().into_iter().filter(|loss| loss["reason"] == "maybe_counted").collect();
    assert_eq!(maybe.len(), 1, "the batch whose bytes are others is not sent: {:?}", rig.losses());
    assert_eq!(maybe[0]["events"], 5);
    assert!(rig.messages().iter().filter(|message| *message == "line 59").count() == 1);
}

#[test]
fn a_second_agent_gets_a_clear_error() {
    let mut rig = Rig::started(|_| {});
    let first = rig.running.take();
    let error = rig.try_start(None).unwrap_err().to_string();
    assert!(error.contains("another agent uses the state directory"), "{error}");
    drop(first);
    rig.start();
}

#[test]
fn a_damaged_journal_is_refused() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..25)));
    rig.run(1000);
    rig.kill();
    let path = rig.settings.state_dir.join("journal");
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let error = rig.try_start(None).unwrap_err().to_string();
    assert!(error.contains("damaged at byte") && error.contains("restore it"), "{error}");
    std::fs::write(&path, &whole).unwrap();
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..25));
}

#[test]
fn a_torn_end_of_the_journal_was_never_acted_on() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..5)));
    rig.run(1000);
    rig.kill();
    let path = rig.settings.state_dir.join("journal");
    let mut bytes = std::fs::read(&path).unwrap();
    let whole = bytes.len();
    crate::journal::format::push(&mut bytes, b"{\"sealed\":[]}").unwrap();
    for cut in whole..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        rig.restart();
    }
    rig.drain();
    rig.assert_sent(numbered(0..5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A crash leaves a prefix of the journal: whatever was handed over by then keeps its numbers.
    #[test]
    fn any_prefix_of_the_journal_gives_each_line_at_most_one_number(
        writes in prop::collection::vec((0_usize..3, 1_usize..15), 1..8),
        at in 0.0_f64..1.0,
    ) {
        let mut rig = Rig::started(|settings| settings.batch_events = 4);
        let path = rig.settings.state_dir.join("journal");
        let (mut lengths, mut sent, mut line) = (vec![std::fs::metadata(&path).unwrap().len()], vec![BTreeMap::new()], 0);
        for (file, count) in writes {
            rig.append(&format!("{file}.log"), text(&numbered(line..line + count)));
            line += count;
            rig.run(700);
            lengths.push(std::fs::metadata(&path).unwrap().len());
            sent.push(rig.sent.clone());
        }
        let len = lengths[lengths.len() - 1] - lengths[0];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
        let cut = lengths[0] + (len as f64 * at) as u64;
        let durable = lengths.iter().rposition(|len| *len <= cut).unwrap();
        rig.kill();
        File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
        // Nothing after this moment had been sent.
        rig.sent = sent.swap_remove(durable);
        rig.start();
        rig.drain();
        rig.assert_sent(numbered(0..line));
    }
}
