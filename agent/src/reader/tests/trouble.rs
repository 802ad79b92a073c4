//! Full disks, long lines, rejected events, and the end.

use super::*;
use crate::handoff::Reject;
use logweir_proto::Seq;

fn reject(number: u64, event: &[u8]) -> Reject {
    Reject {
        number: Seq::new(number).unwrap(),
        code: "too_old".to_owned(),
        detail: "timestamp: it is too old".to_owned(),
        event: event.to_vec(),
    }
}

fn settle(rig: &mut Rig, index: usize, rejects: Vec<Reject>) {
    let (id, now) = (rig.waiting.remove(index).id, rig.now);
    rig.core().handle(Wake::Settled(Settled { id, rejects }), now);
    rig.settle_down();
}

#[test]
fn a_full_disk_stops_reading_and_nothing_is_handed_over_before_it_is_durable() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..5)));
    rig.run(1000);
    rig.core().journal.fails = true;
    rig.append("a.log", text(&numbered(5..40)));
    rig.run(5000);
    assert_eq!(rig.messages().len(), 5);
    let offset = rig.core().tails.values().next().unwrap().entry.offset;
    rig.append("a.log", text(&numbered(40..50)));
    rig.run(5000);
    assert_eq!(rig.core().tails.values().next().unwrap().entry.offset, offset, "nothing new is read");
    rig.core().journal.fails = false;
    rig.drain();
    rig.assert_sent(numbered(0..50));
    let numbers: Vec<u64> = rig.sent.keys().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<u64>>(), "the numbers have no gap");
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..50));
}

#[test]
fn the_window_stops_reading_until_something_is_settled() {
    let mut rig = Rig::started(|settings| settings.window_batches = 2);
    rig.append("a.log", text(&numbered(0..100)));
    rig.run(3000);
    assert_eq!(rig.waiting.len(), 2);
    assert_eq!(rig.core().metrics.reading_stopped.get(), 1);
    settle(&mut rig, 1, vec![]);
    rig.run(1000);
    assert_eq!(rig.waiting.len(), 2);
    // What an earlier run left counts too.
    rig.restart();
    rig.run(3000);
    assert_eq!(rig.waiting.len(), 2);
    rig.drain();
    rig.assert_sent(numbered(0..100));
}

#[test]
fn a_line_that_is_too_long_is_noted_once_and_its_neighbours_are_counted() {
    let mut rig = Rig::started(|settings| settings.max_line_bytes = 10_000);
    rig.append("a.log", "line 0\n");
    let start = 7;
    for _ in 0..64 {
        rig.append("a.log", vec![b'x'; 1 << 20]);
        rig.settle_down();
        assert!(rig.core().buffer.capacity() <= 1 << 20);
    }
    assert!(rig.records("rejects.ndjson").is_empty(), "it has not ended");
    rig.append("a.log", "\nline 1\n");
    rig.step();
    // Noted, but not yet in the journal.
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..2));
    let rejects = rig.records("rejects.ndjson");
    assert_eq!(rejects.len(), 1);
    assert_eq!(rejects[0]["code"], "too_long");
    let end = start + (64 << 20) + 1;
    assert_eq!((&rejects[0]["start"], &rejects[0]["end"]), (&Value::from(start), &Value::from(end)));
    rig.restart();
    rig.drain();
    assert_eq!(rig.records("rejects.ndjson").len(), 1);
}

#[test]
fn a_line_of_exactly_the_limit_is_sent() {
    let mut rig = Rig::started(|settings| settings.max_line_bytes = 1_000_000);
    let line = "y".repeat(1_000_000);
    rig.append("a.log", format!("{line}\n{line}z\nline 0\n"));
    rig.drain();
    rig.assert_sent([line.as_str(), "line 0"]);
}

#[test]
fn rejected_events_keep_their_number_in_the_rejects_file() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..2)));
    rig.settle_down();
    rig.append("b.log", text(&numbered(2..4)));
    rig.run(2000);
    assert_eq!(rig.waiting.len(), 2);
    let id = rig.waiting[0].id;
    settle(&mut rig, 0, vec![reject(2, b"{\"a\":\xff}")]);
    let rejects = rig.records("rejects.ndjson");
    assert_eq!(rejects.len(), 1);
    assert_eq!(rejects[0]["number"], 2);
    assert_eq!(rejects[0]["producer"], id.producer.to_string());
    assert_eq!(rejects[0]["event"], "{\"a\":\u{fffd}}");
    assert_eq!(
        (&rejects[0]["start"], &rejects[0]["end"]),
        (&7.into(), &14.into()),
        "of the second line alone"
    );
    assert_eq!(rejects[0]["exact"], true);
    assert!(rejects[0]["file"].as_str().unwrap().ends_with("a.log"));
    // Settled a second time: nothing happens.
    let now = rig.now;
    rig.core().handle(Wake::Settled(Settled { id, rejects: vec![reject(1, b"")] }), now);
    rig.settle_down();
    assert_eq!(rig.records("rejects.ndjson").len(), 1);
}

#[test]
fn after_many_gaps_another_producer_begins() {
    let mut rig = Rig::started(|settings| settings.batch_events = 600);
    rig.append("a.log", text(&numbered(0..600)));
    rig.run(1000);
    let rejects = (1..=500).map(|number| reject(number, b"{}")).collect();
    settle(&mut rig, 0, rejects);
    rig.append("a.log", text(&numbered(600..601)));
    rig.drain();
    let producers: std::collections::BTreeSet<ProducerId> =
        rig.sent.keys().map(|(producer, _)| *producer).collect();
    assert_eq!(producers.len(), 2);
    rig.assert_sent(numbered(0..601));
}

#[test]
fn once_reads_to_the_end_and_ends_when_all_is_settled() {
    let mut rig = Rig::new(|settings| {
        settings.once = true;
        settings.from = From::End;
        settings.max_files = 2;
        settings.window_batches = 3;
    });
    rig.append("a.log", text(&numbered(0..50)));
    rig.append("b.log", "line 50\nline 51");
    rig.append("c.log", "line 52\n");
    rig.append("d.log", "line 53\n");
    rig.start();
    for _ in 0..100 {
        if rig.ended.is_some() {
            break;
        }
        rig.settle_down();
        rig.pass(100);
        if !rig.waiting.is_empty() {
            settle(&mut rig, 0, vec![]);
        }
    }
    assert_eq!(rig.ended, Some(Ended { unsettled: 0, spooled: false, rejected: 0, losses: 0, dropped: 0 }));
    rig.assert_sent(numbered(0..54));
    // A second backfill finds nothing to do.
    rig.ended = None;
    rig.restart();
    rig.run(200);
    assert!(rig.ended.is_some());
    rig.assert_sent(numbered(0..54));
}

#[test]
fn stop_seals_what_was_read_and_waits_for_it() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.settle_down();
    let now = rig.now;
    rig.core().handle(Wake::Stop, now);
    rig.append("a.log", text(&numbered(3..5)));
    rig.run(3000);
    assert_eq!(rig.ended, None);
    assert_eq!(rig.messages().len(), 3);
    rig.settle_all();
    assert_eq!(rig.ended.unwrap().unsettled, 0);
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..5));
}

#[test]
fn end_ends_at_once_and_the_next_run_sends_what_is_left() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..13)));
    rig.settle_down();
    let now = rig.now;
    rig.core().handle(Wake::End, now);
    assert_eq!(
        rig.step(),
        Next::Ended(Ended { unsettled: 1, spooled: false, rejected: 0, losses: 0, dropped: 0 })
    );
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..13));
}

#[test]
fn an_idle_reader_waits_for_the_next_scan() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..13)));
    rig.drain();
    rig.pass(300);
    let mut waited = Duration::ZERO;
    for _ in 0..10 {
        let Next::Wait(wait) = rig.step() else { panic!("busy") };
        waited += wait;
        rig.pass(u64::try_from(wait.as_millis()).unwrap());
    }
    assert!(waited >= Duration::from_secs(8), "{waited:?}");
}

/// Reading it fails with EIO, and looking at it doesn't.
fn unreadable() -> File {
    File::open("/proc/self/mem").unwrap()
}

fn only_tail(rig: &mut Rig) -> &mut crate::files::tail::Tail {
    rig.core().tails.values_mut().next().unwrap()
}

/// How often a reader does something within ten seconds when nothing but time wakes it.
fn steps_in_ten_seconds(rig: &mut Rig) -> usize {
    let end = rig.now.mono + Duration::from_secs(10);
    let mut steps = 0;
    while rig.now.mono < end && steps < 10_000 {
        steps += 1;
        match rig.step() {
            Next::Wait(wait) => rig.pass(u64::try_from(wait.as_millis()).unwrap().max(1)),
            Next::Again => {}
            Next::Ended(_) => break,
        }
        rig.take();
    }
    steps
}

#[test]
fn a_file_that_cannot_be_read_is_tried_again_each_second_and_holds_up_no_other() {
    let mut rig = Rig::started(|_| {});
    rig.append("a.log", text(&numbered(0..3)));
    rig.drain();
    let file = only_tail(&mut rig).swap_file(crate::files::input::Input::plain(unreadable()));
    // It is at its end for good, so that it is read without having grown.
    delete(&rig.path("a.log"));
    rig.append("b.log", text(&numbered(3..6)));
    rig.run(12_000);
    let steps = steps_in_ten_seconds(&mut rig);
    assert!(steps <= 60, "{steps}");
    rig.assert_sent(numbered(0..6));
    let is_a = |tail: &&mut crate::files::tail::Tail| tail.source.path.ends_with("a.log");
    rig.core().tails.values_mut().find(is_a).unwrap().swap_file(file);
    rig.drain();
    assert_eq!(rig.core().tails.len(), 1, "it was read to its end, and let go");
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
}

#[test]
fn with_once_a_file_that_cannot_be_read_is_a_loss_and_the_run_ends() {
    let mut rig = Rig::new(|settings| {
        settings.once = true;
        settings.window_batches = 1;
    });
    rig.append("a.log", text(&numbered(0..20)));
    rig.start();
    rig.settle_down();
    let file = only_tail(&mut rig).swap_file(crate::files::input::Input::plain(unreadable()));
    rig.settle_all();
    rig.run(3000);
    rig.settle_all();
    assert_eq!(rig.ended, Some(Ended { unsettled: 0, spooled: false, rejected: 0, losses: 1, dropped: 0 }));
    assert_eq!(rig.losses()[0]["reason"], "unreadable");
    assert_eq!(rig.losses()[0]["start"], text(&numbered(0..10)).len());
    drop(file);
    rig.restart();
    rig.drain();
    rig.assert_sent(numbered(0..20));
}

#[test]
fn with_once_a_file_that_cannot_be_opened_is_a_loss() {
    let mut rig = Rig::new(|settings| {
        settings.once = true;
        settings.patterns.push("/proc/self/mem".to_owned());
    });
    rig.append("a.log", text(&numbered(0..3)));
    rig.start();
    rig.drain_once();
    assert_eq!(rig.ended, Some(Ended { unsettled: 0, spooled: false, rejected: 0, losses: 1, dropped: 0 }));
    assert_eq!(rig.losses()[0]["file"], "/proc/self/mem");
    rig.assert_sent(numbered(0..3));
}

#[test]
fn with_once_files_that_are_renamed_before_their_turn_are_read_and_deleted_ones_named() {
    let mut rig = Rig::new(|settings| {
        settings.once = true;
        settings.max_files = 1;
        settings.window_batches = 1;
    });
    for name in 0..6 {
        rig.append(&format!("{name}.log"), text(&numbered(20 * name..20 * name + 20)));
    }
    rig.start();
    rig.settle_down();
    // The first one is open, and can't go on before something is settled.
    for name in 1..5 {
        rig.rename(&format!("{name}.log"), &format!("{name}.old"));
    }
    delete(&rig.path("5.log"));
    rig.drain_once();
    assert_eq!(rig.ended, Some(Ended { unsettled: 0, spooled: false, rejected: 0, losses: 1, dropped: 0 }));
    let losses = rig.losses();
    assert_eq!((losses.len(), &losses[0]["reason"]), (1, &Value::from("deleted")));
    assert!(losses[0]["file"].as_str().unwrap().ends_with("5.log"));
    rig.assert_sent(numbered(0..100));
}

#[test]
fn while_nothing_can_be_written_the_reader_waits() {
    let mut rig = Rig::started(|settings| settings.linger = Duration::from_secs(60));
    rig.append("a.log", text(&numbered(0..3)));
    rig.settle_down();
    rig.append("a.log", text(&numbered(3..30)));
    rig.core().journal.fails = true;
    // By then it is high time for the places, and for the open batch.
    rig.run(70_000);
    let steps = steps_in_ten_seconds(&mut rig);
    assert!(steps <= 60, "{steps}");
    rig.drain_after_failure();
    rig.assert_sent(numbered(0..30));
}

#[test]
fn never_more_closed_files_are_remembered_than_allowed() {
    let mut rig = Rig::started(|settings| settings.max_files = 100);
    for names in [0..100, 100..200] {
        for name in names.clone() {
            rig.append(&format!("{name}.log"), text(&numbered(name..name + 1)));
        }
        rig.drain();
        for name in names {
            rig.rename(&format!("{name}.log"), &format!("{name}.old"));
        }
        rig.drain();
    }
    let closed = rig.core().journal.state().files.values().filter(|entry| entry.closed_ms.is_some()).count();
    assert_eq!((closed, rig.core().tails.len()), (100, 0), "as many as are followed");
    rig.assert_sent(numbered(0..200));
}
