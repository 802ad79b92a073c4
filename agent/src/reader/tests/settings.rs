//! Settings that change while files are followed.

use super::*;
use proptest::prelude::*;

impl Rig {
    /// Other settings, for this run and the next ones.
    fn change(&mut self, change: impl FnOnce(&mut Reading)) {
        change(&mut self.settings);
        let (settings, now) = (Box::new(self.settings.clone()), self.now);
        self.core().handle(Wake::Settings(settings), now);
    }

    fn follow(&mut self, names: &[&str]) {
        let patterns = names.iter().map(|name| self.path(name).to_str().unwrap().to_owned()).collect();
        self.change(|settings| settings.patterns = patterns);
    }

    fn followed(&mut self) -> Vec<String> {
        let name = |tail: &crate::files::tail::Tail| {
            tail.entry.path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        let mut names: Vec<String> = self.core().tails.values().map(name).collect();
        names.sort();
        names
    }
}

#[test]
fn a_batch_is_parsed_again_as_it_was_read_whatever_the_settings_are_by_then() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&[r#"{"nr":"1","msg":"one"}"#, r#"{"nr":"2","msg":"two"}"#]));
    rig.settle_down();
    assert!(rig.sent.is_empty(), "the batch is open");
    rig.change(|settings| {
        settings.format = Format::Text;
        settings.service = Some("shop".to_owned());
        settings.default_level = Level::Warn;
    });
    rig.append("a.log", text(&[r#"{"msg":"three"}"#]));
    rig.run(1000);
    rig.change(|settings| {
        settings.format = Format::Auto;
        let argv = ["agent", "--message-key", "nr", "--collector", "http://h", "f"];
        let args = argv.iter().map(Into::into).collect();
        let args: crate::config::Args = logweir_telemetry::config::try_parse(args, |_| None).unwrap();
        settings.keys = args.lines.keys();
    });
    rig.append("a.log", text(&[r#"{"nr":"4","msg":"four"}"#]));
    rig.run(1000);
    let expected = ["one", "two", r#"{"msg":"three"}"#, "4"];
    rig.assert_sent(expected);
    let events: Vec<&String> = rig.sent.values().collect();
    assert!(events[0].contains("\"info\"") && !events[0].contains("shop"), "{}", events[0]);
    assert!(events[2].contains("\"warn\"") && events[2].contains("shop"), "{}", events[2]);
    // Nothing is settled: all of it is sent again, and `take` compares it.
    rig.restart();
    rig.settle_down();
    assert_eq!(rig.waiting.len(), 3);
    rig.drain();
    rig.assert_sent(expected);
}

#[test]
fn a_file_that_is_taken_out_keeps_its_place() {
    let mut rig = Rig::started(|settings| settings.max_open_files = 1);
    for name in ["a.log", "b.log", "c.log"] {
        rig.append(name, text(&[name]));
    }
    rig.run(1500);
    rig.append("a.log", "half a li");
    rig.append("b.log", text(&["more"]));
    rig.run(1000);
    rig.follow(&["c.log"]);
    rig.append("a.log", text(&["ne", "a later"]));
    rig.append("b.log", text(&["b later"]));
    rig.run(3000);
    assert_eq!(rig.followed(), ["c.log"]);
    rig.assert_sent(["a.log", "b.log", "c.log", "more"]);
    // Also over a kill, and over a rename to a name that comes in.
    rig.restart();
    rig.drain();
    rig.rename("b.log", "d.log");
    rig.follow(&["a.log", "d.log"]);
    rig.drain();
    rig.assert_sent(["a.log", "b.log", "c.log", "more", "half a line", "a later", "b later"]);
    assert_eq!(rig.followed(), ["a.log", "d.log"]);
    assert_eq!(rig.losses(), Vec::<Value>::new());
}

#[test]
fn a_file_that_rotation_has_renamed_is_read_to_its_end_although_other_paths_go() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&["a"]));
    rig.append("b.log", text(&["b"]));
    rig.run(1000);
    rig.rename("a.log", "a.log.1");
    rig.append("a.log.1", text(&["a late"]));
    rig.follow(&["a.log"]);
    rig.append("a.log.1", text(&["a later"]));
    rig.append("b.log", text(&["b later"]));
    rig.run(3000);
    rig.assert_sent(["a", "b", "a late", "a later"]);
}

#[test]
fn what_was_taken_out_and_deleted_is_forgotten_and_no_loss() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&["a"]));
    rig.append("b.log", text(&["b"]));
    rig.run(1000);
    rig.settle_all();
    delete(&rig.path("b.log"));
    rig.settle_down();
    rig.change(|settings| settings.exclude = vec!["*.log".to_owned()]);
    rig.run(1000);
    assert_eq!(rig.followed(), Vec::<String>::new());
    assert_eq!(rig.core().journal.state().files.len(), 1, "the place of a.log");
    rig.append("a.log", text(&["unread"]));
    delete(&rig.path("a.log"));
    rig.restart();
    rig.drain();
    assert_eq!((rig.core().journal.state().files.len(), rig.losses().len()), (0, 0));
    rig.assert_sent(["a", "b"]);
}

#[test]
fn as_many_places_are_kept_as_files_were_followed() {
    let mut rig = Rig::started(|settings| settings.max_files = 300);
    for n in 0..200 {
        rig.append(&format!("{n}.log"), text(&[format!("{n} first")]));
    }
    rig.run(1500);
    rig.settle_all();
    rig.follow(&["none"]);
    rig.run(1500);
    rig.follow(&["*.log"]);
    rig.drain();
    rig.assert_sent((0..200).map(|n| format!("{n} first")));
}

#[derive(Debug, Clone)]
enum Op {
    Write(u8),
    Follow(u8),
    Parse(u8),
    Limits(u64),
    Kill,
    Settle,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u8).prop_map(Op::Write),
        4 => (0..8_u8).prop_map(Op::Follow),
        3 => (0..6_u8).prop_map(Op::Parse),
        1 => (1..20_u64).prop_map(Op::Limits),
        1 => Just(Op::Kill),
        2 => Just(Op::Settle),
        4 => prop_oneof![Just(10_u64), Just(200), Just(700)].prop_map(Op::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever changes in whatever order: each line goes out once, and a number never bears another event.
    #[test]
    fn each_line_goes_out_once_whatever_changes(ops in prop::collection::vec(op(), 1..40)) {
        const NAMES: [&str; 3] = ["a.log", "b.log", "c.log"];
        let mut rig = Rig::started(|_| {});
        let mut written = Vec::new();
        for op in ops {
            match op {
                Op::Write(file) => {
                    let lines: Vec<String> = (0..3).map(|_| {
                        written.push(format!("line {}", written.len()));
                        written.last().unwrap().clone()
                    }).collect();
                    rig.append(NAMES[usize::from(file)], text(&lines));
                }
                Op::Follow(which) => {
                    let names: Vec<&str> =
                        NAMES.into_iter().enumerate().filter(|(n, _)| which & (1 << n) > 0).map(|(_, name)| name).collect();
                    rig.follow(&names);
                }
                Op::Parse(how) => rig.change(|settings| {
                    settings.format = if how % 2 == 0 { Format::Auto } else { Format::Text };
                    settings.default_level = if how % 3 == 0 { Level::Error } else { Level::Info };
                    settings.service = (how > 3).then(|| "shop".to_owned());
                }),
                Op::Limits(events) => rig.change(|settings| {
                    settings.batch_events = events;
                    settings.window_batches = usize::try_from(events).unwrap();
                    settings.max_open_files = usize::try_from(events).unwrap();
                }),
                Op::Kill => rig.restart(),
                Op::Settle => rig.settle_all(),
                Op::Pass(ms) => rig.run(ms),
            }
        }
        rig.change(|settings| (settings.batch_events, settings.window_batches) = (100, 100));
        rig.follow(&NAMES);
        rig.drain();
        rig.assert_sent(&written);
        prop_assert_eq!(rig.losses().len(), 0);
    }
}
