//! Events of several lines: the same whenever and however often they are read.

use super::*;
use proptest::prelude::*;

fn patient(settings: &mut Reading) {
    settings.patience = Patience { event: Duration::from_secs(5), line: Duration::from_secs(5) };
}

const FIRST: &str = "2026-11-24T10:03:00Z ERROR it broke\n";
const TRACE: &str = "java.lang.IllegalStateException: no\n\tat com.acme.Main.main(Main.java:7)\n";
const NEXT: &str = "2026-11-24T10:03:01Z INFO it goes on\n";

#[test]
fn a_stack_trace_is_one_event_with_the_line_before() {
    let mut rig = Rig::started(patient);
    rig.append("a.log", FIRST);
    rig.run(4_000);
    assert!(rig.sent.is_empty(), "more may come");
    rig.append("a.log", TRACE);
    rig.run(4_000);
    assert!(rig.sent.is_empty(), "more may come");
    rig.append("a.log", NEXT);
    rig.run(1_000);
    let whole = "ERROR it broke\njava.lang.IllegalStateException: no\n\tat com.acme.Main.main(Main.java:7)";
    rig.assert_sent([whole]);
    rig.run(6_000);
    rig.assert_sent([whole, "INFO it goes on"]);
}

#[test]
fn what_nothing_follows_is_an_event_after_a_while_and_so_it_stays() {
    let mut rig = Rig::started(patient);
    rig.append("a.log", FIRST);
    rig.run(6_000);
    rig.assert_sent(["ERROR it broke"]);
    rig.append("a.log", TRACE);
    rig.append("a.log", NEXT);
    rig.run(1_000);
    let late = "java.lang.IllegalStateException: no\n\tat com.acme.Main.main(Main.java:7)";
    rig.assert_sent(["ERROR it broke", late]);
    // Nothing was settled, so all of it is read again, with all of the lines there: the rig compares.
    rig.restart();
    rig.run(1_000);
    rig.assert_sent(["ERROR it broke", late]);
    rig.drain();
    rig.assert_sent(["ERROR it broke", late, "INFO it goes on"]);
}

#[test]
fn two_events_that_ended_for_want_of_more_are_two_in_one_batch() {
    let mut rig = Rig::started(|settings| {
        patient(settings);
        settings.linger = Duration::from_secs(60);
    });
    rig.append("a.log", FIRST);
    rig.run(6_000);
    rig.append("a.log", TRACE);
    rig.run(60_000);
    assert_eq!((rig.waiting.len(), rig.sent.len()), (1, 2));
    rig.restart();
    rig.run(1_000);
    assert_eq!((rig.waiting.len(), rig.sent.len()), (1, 2));
}

#[test]
fn a_line_without_its_end_is_taken_after_a_while() {
    let mut rig = Rig::started(patient);
    rig.append("a.log", "2026-11-24T10:03:00Z ERROR ha");
    rig.run(4_000);
    rig.append("a.log", "lf");
    rig.run(4_000);
    assert!(rig.sent.is_empty());
    rig.run(2_000);
    rig.assert_sent(["ERROR half"]);
    rig.append("a.log", " of it\n");
    rig.drain();
    rig.assert_sent(["ERROR half", " of it"]);
    rig.restart();
    rig.drain();
    rig.assert_sent(["ERROR half", " of it"]);
}

#[test]
fn json_lines_do_not_wait() {
    let mut rig = Rig::started(patient);
    rig.append("a.log", "{\"msg\":\"at once\"}\n");
    rig.run(1_000);
    rig.assert_sent(["at once"]);
}

#[test]
fn an_event_that_is_too_long_is_cut_and_counted_once() {
    let mut rig = Rig::started(|settings| {
        patient(settings);
        settings.multiline_bytes = 200;
        settings.batch_events = 1;
    });
    rig.append("a.log", FIRST);
    for _ in 0..100 {
        rig.append("a.log", TRACE);
    }
    rig.append("a.log", NEXT);
    rig.drain();
    assert_eq!(rig.sent.len(), 2);
    let event: Value = serde_json::from_str(rig.sent.values().next().unwrap()).unwrap();
    assert_eq!(event["attributes"]["truncated"], "true");
    let message = event["message"].as_str().unwrap();
    assert!((100..200).contains(&message.len()), "{message}");
    rig.restart();
    rig.drain();
    assert_eq!(rig.sent.len(), 2);
}

#[test]
fn parts_of_a_containers_line_are_one_event() {
    let mut rig = Rig::started(patient);
    rig.append("a.log", "2026-11-24T10:03:00.1Z stdout P {\"level\":\"error\",\n");
    rig.run(1_000);
    rig.append("a.log", "2026-11-24T10:03:00.2Z stdout F \"msg\":\"whole\"}\n");
    rig.run(1_000);
    rig.assert_sent(["whole"]);
    rig.restart();
    rig.drain();
    rig.assert_sent(["whole"]);
}

#[test]
fn utf16_is_read_from_any_place() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut rig = Rig::started(patient);
    rig.append(
        "a.log",
        utf16("\u{feff}2026-11-24T10:03:00Z ERROR größe \u{0a0a}\r\n2026-11-24T10:03:00Z two\r\n"),
    );
    rig.run(1_000);
    rig.assert_sent(["ERROR größe \u{0a0a}"]);
    rig.restart();
    rig.append("a.log", utf16("2026-11-24T10:03:00Z three\r\n"));
    rig.drain();
    rig.assert_sent(["ERROR größe \u{0a0a}", "two", "three"]);
}

/// What happens next.
#[derive(Debug, Clone)]
enum Op {
    /// An event's first line, and so many that continue it.
    Event(usize),
    /// Lines that continue whatever stands before.
    More(usize),
    Json,
    /// A part of a line, whose rest comes with the next write.
    Half,
    Pass(u64),
    Settle(usize),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_usize..5).prop_map(Op::Event),
        3 => (1_usize..4).prop_map(Op::More),
        1 => Just(Op::Json),
        1 => Just(Op::Half),
        4 => prop_oneof![Just(10_u64), Just(600), Just(3_000), Just(6_000)].prop_map(Op::Pass),
        2 => (0_usize..5).prop_map(Op::Settle),
        2 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// The rig compares: a number never bears another event. Here: each line is in one event, and in its place.
    #[test]
    fn lines_are_grouped_the_same_whatever_happens(ops in prop::collection::vec(op(), 1..60)) {
        let mut rig = Rig::started(|settings| {
            patient(settings);
            settings.batch_events = 5;
            settings.window_batches = 4;
            settings.multiline_bytes = 300;
        });
        let (mut number, mut whole) = (0, true);
        let mut line = |rig: &Rig, before: &str, whole: bool| {
            let lead = if whole { "" } else { " rest\n" };
            rig.append("a.log", format!("{lead}{before}line {number}\n"));
            number += 1;
        };
        for op in ops {
            match op {
                Op::Event(more) => {
                    line(&rig, "2026-11-24T10:03:00Z INFO ", whole);
                    (0..more).for_each(|_| line(&rig, "  ", true));
                    whole = true;
                }
                Op::More(more) => {
                    line(&rig, "  ", whole);
                    (1..more).for_each(|_| line(&rig, "  ", true));
                    whole = true;
                }
                Op::Json => {
                    rig.append("a.log", if whole { "" } else { " rest\n" });
                    rig.append("a.log", "{\"msg\":\"json\"}\n");
                    whole = true;
                }
                Op::Half => {
                    rig.append("a.log", if whole { "  half" } else { " rest\n  half" });
                    whole = false;
                }
                Op::Pass(ms) => rig.run(ms),
                Op::Settle(index) => {
                    if index < rig.waiting.len() {
                        let id = rig.waiting.remove(index).id;
                        let now = rig.now;
                        rig.core().handle(Wake::Settled(Settled { id, rejects: vec![] }), now);
                    }
                }
                Op::Restart => rig.restart(),
            }
        }
        rig.append("a.log", if whole { "" } else { " rest\n" });
        rig.drain();
        let text = rig.messages().join("\n");
        let cut = rig.sent.values().any(|event| event.contains("truncated"));
        let mut lines: Vec<usize> =
            text.lines().filter_map(|line| line.rsplit_once("line ")?.1.parse().ok()).collect();
        lines.sort_unstable();
        let expected: Vec<usize> = (0..number).collect();
        if cut {
            lines.dedup();
            prop_assert!(lines.len() <= expected.len());
        } else {
            prop_assert_eq!(lines, expected);
        }
        prop_assert!(rig.losses().is_empty());
    }
}
