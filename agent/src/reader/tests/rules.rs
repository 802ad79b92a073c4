//! Events that are left out, and text that is replaced: whatever happens, as the rules were when a batch was sealed.

use super::*;
use logweir_proto::line::Rules;
use logweir_proto::line::rules::{ReadySet, RuleTexts};
use proptest::prelude::*;
use std::sync::Arc;

pub(super) fn rules(include: &[&str], exclude: &[&str], replace: &[&str]) -> Arc<Rules> {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let texts = RuleTexts {
        include: owned(include),
        exclude: owned(exclude),
        redact: vec![ReadySet::Email],
        replace: replace.iter().map(|text| text.parse().unwrap()).collect(),
    };
    Arc::new(Rules::new(texts).unwrap())
}

/// What the status tells.
fn found(rig: &mut Rig) -> String {
    let now = rig.now;
    let report = rig.core().report(now);
    format!("{:?} {:?}", report.filtered_events, report.redactions)
}

const LINES: [&str; 4] = [
    "2026-11-24T10:03:00Z INFO one for a@b.co and c@d.io",
    "2026-11-24T10:04:00Z DEBUG two for a@b.co\n  and more of two",
    "without a time of its own",
    "{\"level\":\"info\",\"msg\":\"DEBUG three\"}",
];

#[test]
fn what_is_left_out_takes_no_number_and_is_counted() {
    let mut rig = Rig::started(|settings| {
        settings.rules = rules(&["INFO", "three"], &["^\\{.*three", "two$"], &[]);
    });
    assert_eq!(found(&mut rig), r#"{"exclude-1": 0, "exclude-2": 0, "include": 0} {"email": 0}"#);
    rig.append("a.log", text(&LINES));
    rig.append("a.log", "2026-11-24T10:05:00Z INFO four\n");
    rig.drain();
    rig.assert_sent(["INFO one for [email] and [email]", "INFO four"]);
    let numbers: Vec<u64> = rig.sent.keys().map(|(_, number)| *number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(found(&mut rig), r#"{"exclude-1": 1, "exclude-2": 0, "include": 1} {"email": 2}"#);
    // Nothing of it is read again, although its end is no event.
    rig.append("a.log", "2026-11-24T10:06:00Z DEBUG five\n");
    rig.drain();
    rig.restart();
    rig.drain();
    assert_eq!(rig.sent.len(), 2);
    assert_eq!(found(&mut rig), r#"{"exclude-1": 0, "exclude-2": 0, "include": 0} {"email": 0}"#);
}

#[test]
fn its_neighbours_are_what_they_would_be_beside_it() {
    let mut rig = Rig::started(|settings| settings.rules = rules(&[], &["gone"], &[]));
    rig.append("a.log", "2026-11-24T10:03:00Z INFO one gone\n{\"msg\":\"undated\"}\n");
    rig.append("a.log", "2026-11-24T10:04:00Z INFO two\n");
    rig.drain();
    rig.assert_sent(["undated", "INFO two"]);
    let undated = rig.sent.values().next().unwrap();
    assert!(
        undated.contains(r#""timestamp":1795514580000"#),
        "it has the time of the line before: {undated}"
    );
}

#[test]
fn a_batch_is_built_again_under_the_rules_that_it_was_built_with() {
    let mut rig = Rig::started(|settings| {
        settings.rules = rules(&[], &["gone"], &["line (.)=>l."]);
        settings.multiline_bytes = 200;
    });
    let lines = |from: usize| -> String {
        let line = |n| {
            format!(
                "2026-11-24T10:03:00Z INFO line {n} of a@b.co{}\n  more\n",
                if n % 3 == 1 { " gone" } else { "" }
            )
        };
        (from..from + 20).map(line).collect()
    };
    rig.append("a.log", lines(0));
    rig.run(1_000);
    let first = rig.sent.clone();
    assert!(
        first.len() > 10 && first.values().all(|event| event.contains("l.") && event.contains("of [email]")),
        "{first:?}"
    );
    // Nobody has answered. Another agent, with other rules: the rig compares what is sent again.
    rig.kill();
    rig.settings.rules = rules(&["line 2"], &["7"], &["line=>LINE"]);
    rig.start();
    rig.run(1_000);
    assert_eq!(rig.waiting.iter().map(|sealed| sealed.events).sum::<u64>(), first.len() as u64);
    assert_eq!(rig.sent, first);
    rig.append("a.log", lines(20));
    rig.drain();
    let new: Vec<String> = rig
        .sent
        .iter()
        .filter(|(number, _)| !first.contains_key(number))
        .map(|(_, event)| message(event))
        .collect();
    let expected = (20..30)
        .filter(|n| *n != 27)
        .map(|n| format!("INFO LINE {n} of [email]{}\n  more", if n % 3 == 1 { " gone" } else { "" }));
    assert_eq!(new, expected.collect::<Vec<_>>());
    // And none at all.
    rig.kill();
    rig.settings.rules = Arc::default();
    rig.append("a.log", "2026-11-24T10:03:00Z INFO line 7 of a@b.co\n");
    rig.start();
    rig.drain();
    assert_eq!(rig.messages().iter().filter(|message| *message == "INFO line 7 of a@b.co").count(), 1);
}

#[test]
fn rules_that_the_journal_holds_and_nobody_can_apply_stop_the_agent() {
    let mut rig = Rig::started(|settings| settings.rules = rules(&[], &["gone"], &[]));
    rig.append("a.log", "INFO kept\n");
    rig.run(1_000);
    assert_eq!(rig.sent.len(), 1);
    let batches = rig.core().journal.state().batches.clone();
    rig.kill();
    let mut state = crate::journal::Journal::read(&rig.settings.state_dir).unwrap().unwrap();
    for batch in state.batches.values_mut() {
        batch.parsing.rules.exclude = vec!["(".to_owned()];
    }
    assert_ne!(state.batches, batches);
    drop(crate::journal::Journal::create(&rig.settings.state_dir, state).unwrap());
    let error = rig.try_start(None).unwrap_err().to_string();
    assert!(error.contains("the journal holds rules") && error.contains("unclosed group"), "{error}");
}

/// With as many rules as there may be, a batch's record is longer by their text and the marks around it.
#[test]
fn the_journal_holds_rules_for_what_they_are_long() {
    let size = |rules: Arc<Rules>| {
        let mut rig = Rig::started(|settings| {
            settings.rules = rules;
            settings.window_batches = 5;
        });
        rig.append("a.log", text(&numbered(0..50)));
        rig.run(1_000);
        assert_eq!(rig.waiting.len(), 5);
        rig.core().journal.len()
    };
    let most = vec!["x".repeat(4_096 / 16); 16];
    let most: Vec<&str> = most.iter().map(String::as_str).collect();
    let (none, some) = (size(Arc::default()), size(rules(&[], &["healthz"], &[])));
    let all = size(rules(&[], &most, &[]));
    println!("5 batches and their files: {none} bytes without rules, {some} with two, {all} with the most");
    let longer = (all - none) / 5;
    assert!((4_096..4_096 + 200).contains(&longer), "{none} {some} {all}");
}

/// What happens next.
#[derive(Debug, Clone)]
enum Op {
    /// An event of this kind, and so many lines more.
    Event(&'static str, usize),
    Json(&'static str),
    Pass(u64),
    Settle(usize),
    /// The next agent has these rules.
    Restart(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let kind = || prop::sample::select(vec!["always", "never", "sometimes"]);
    prop_oneof![
        5 => (kind(), 0_usize..4).prop_map(|(kind, more)| Op::Event(kind, more)),
        2 => kind().prop_map(Op::Json),
        3 => prop_oneof![Just(10_u64), Just(600), Just(6_000)].prop_map(Op::Pass),
        2 => (0_usize..5).prop_map(Op::Settle),
        2 => (0_usize..4).prop_map(Op::Restart),
    ]
}

fn nth(which: usize) -> Arc<Rules> {
    match which {
        0 => rules(&[], &["never"], &["text=>one"]),
        1 => rules(&["always", "sometimes"], &[], &["text=>"]),
        2 => rules(&["kind always"], &[], &["text=>\"\\"]),
        _ => rules(&[], &["some", "^(.|\n)*never"], &[]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The rig compares: a number never bears another event, whatever the rules have become meanwhile. Here: what all of
    /// them keep is sent once, what none keeps never, and nothing twice.
    #[test]
    fn rules_change_what_is_read_and_not_what_was_sealed(ops in prop::collection::vec(op(), 1..50)) {
        let mut rig = Rig::started(|settings| {
            settings.patience = Patience { event: Duration::from_secs(5), line: Duration::from_secs(5) };
            settings.batch_events = 4;
            settings.window_batches = 4;
            settings.rules = nth(0);
        });
        let mut written: Vec<&str> = Vec::new();
        for op in ops {
            match op {
                Op::Event(kind, more) => {
                    let (number, rest) = (written.len(), "  text of a@b.co\n".repeat(more));
                    rig.append("a.log", format!("2026-11-24T10:03:00Z INFO text <{number}> kind {kind}\n{rest}"));
                    written.push(kind);
                }
                Op::Json(kind) => {
                    let number = written.len();
                    rig.append("a.log", format!("{{\"msg\":\"text <{number}>\",\"x\":\"kind {kind}\"}}\n"));
                    written.push(kind);
                }
                Op::Pass(ms) => rig.run(ms),
                Op::Settle(index) => {
                    if index < rig.waiting.len() {
                        let id = rig.waiting.remove(index).id;
                        let now = rig.now;
                        rig.core().handle(Wake::Settled(Settled { id, rejects: vec![] }), now);
                    }
                }
                Op::Restart(which) => {
                    rig.kill();
                    rig.settings.rules = nth(which);
                    rig.start();
                }
            }
        }
        rig.drain();
        let messages = rig.messages();
        let mut sent = vec![0; written.len()];
        for message in &messages {
            let number = message.split(['<', '>']).nth(1).and_then(|number| number.parse::<usize>().ok());
            sent[number.expect("each event has its first line")] += 1;
            prop_assert!(!message.contains("a@b"));
        }
        for (number, kind) in written.iter().enumerate() {
            let right = match *kind {
                "always" => sent[number] == 1,
                "never" => sent[number] == 0,
                _ => sent[number] <= 1,
            };
            prop_assert!(right, "{number} ({kind}) was sent {} times: {messages:?}", sent[number]);
        }
        prop_assert!(rig.losses().is_empty());
    }
}
