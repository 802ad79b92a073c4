//! stdin through the spool, and the whole reader on its thread.

use super::*;
use crate::reader::Reader;
use std::io::Write;
use std::time::Instant;

fn pipe() -> (File, std::io::PipeWriter) {
    let (read, write) = std::io::pipe().unwrap();
    (File::from(std::os::fd::OwnedFd::from(read)), write)
}

/// Real time passes until something holds: the spool has a thread of its own.
fn until(rig: &mut Rig, what: &str, mut holds: impl FnMut(&mut Rig) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds(rig) {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
        rig.pass(100);
        rig.settle_down();
    }
}

fn with_stdin(change: impl FnOnce(&mut Reading)) -> (Rig, std::io::PipeWriter) {
    let (read, write) = pipe();
    let mut rig = Rig::new(|settings| {
        settings.patterns.clear();
        settings.stdin = true;
        change(settings);
    });
    rig.try_start(Some(read)).unwrap();
    (rig, write)
}

fn spool_files(rig: &Rig) -> usize {
    std::fs::read_dir(rig.settings.state_dir.join("spool")).map_or(0, Iterator::count)
}

#[test]
fn stdin_is_read_to_its_end_and_then_it_is_over() {
    for once in [false, true] {
        let (mut rig, mut write) = with_stdin(|settings| settings.once = once);
        write.write_all(text(&numbered(0..5)).as_bytes()).unwrap();
        until(&mut rig, "lines come", |rig| rig.messages().len() == 5);
        write.write_all(b"line 5\nline 6").unwrap();
        drop(write);
        until(&mut rig, "it ends", |rig| {
            rig.settle_all();
            rig.ended.is_some()
        });
        rig.assert_sent(numbered(0..7));
        let services: Vec<bool> = rig.sent.values().map(|event| event.contains("\"stdin\"")).collect();
        assert!(services.iter().all(|stdin| *stdin));
    }
}

#[test]
fn what_is_spooled_survives_a_kill() {
    let (mut rig, mut write) = with_stdin(|_| {});
    write.write_all(text(&numbered(0..25)).as_bytes()).unwrap();
    until(&mut rig, "lines come", |rig| rig.messages().len() == 25);
    write.write_all(b"line 25\nline 26").unwrap();
    until(&mut rig, "the spool has it", |rig| rig.core().spool.as_ref().unwrap().bytes() == 205);
    let settled = rig.waiting.remove(0).id;
    let now = rig.now;
    rig.core().handle(Wake::Settled(Settled { id: settled, rejects: vec![] }), now);
    rig.kill();
    // The next run reads other input, or none.
    let (read, mut write) = pipe();
    rig.try_start(Some(read)).unwrap();
    write.write_all(b"line 27\n").unwrap();
    until(&mut rig, "all come", |rig| {
        rig.settle_all();
        rig.messages().len() == 28
    });
    rig.kill();
    rig.settings.stdin = false;
    rig.start();
    rig.drain();
    rig.assert_sent(numbered(0..28));
    assert!(rig.losses().is_empty());
}

#[test]
fn a_full_spool_lets_the_writer_wait_and_segments_go_when_they_are_settled() {
    let (mut rig, mut write) = with_stdin(|settings| {
        settings.spool_bytes = 100_000;
        settings.window_batches = 1;
        settings.batch_events = 1000;
    });
    let lines = numbered(0..60_000);
    let input = text(&lines);
    let writer = std::thread::spawn(move || write.write_all(input.as_bytes()).unwrap());
    until(&mut rig, "the spool is full", |rig| rig.core().spool.as_ref().unwrap().is_full());
    assert!(!writer.is_finished());
    let mut most = 0;
    until(&mut rig, "all come", |rig| {
        most = most.max(rig.core().spool.as_ref().unwrap().bytes());
        rig.settle_all();
        rig.ended.is_some()
    });
    writer.join().unwrap();
    assert!(most <= 300_000, "{most}");
    rig.assert_sent(&lines);
    assert!(spool_files(&rig) <= 1);
    assert!(rig.losses().is_empty());
}

#[test]
fn an_endless_line_is_cut_in_the_spool_and_noted() {
    let (mut rig, mut write) = with_stdin(|settings| settings.max_line_bytes = 1000);
    let writer = std::thread::spawn(move || {
        write.write_all(b"line 0\n").unwrap();
        for _ in 0..64 {
            write.write_all(&vec![b'x'; 1 << 20]).unwrap();
        }
        write.write_all(b"\nline 1\n").unwrap();
    });
    until(&mut rig, "it ends", |rig| {
        assert!(rig.core().spool.as_ref().unwrap().bytes() < 2000);
        rig.settle_all();
        rig.ended.is_some()
    });
    writer.join().unwrap();
    rig.assert_sent(numbered(0..2));
    assert_eq!(rig.records("rejects.ndjson").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thread_reads_hands_over_and_ends() {
    let rig = Rig::new(|settings| {
        settings.linger = Duration::from_millis(50);
        settings.scan_interval = Duration::from_secs(30);
    });
    rig.append("a.log", text(&numbered(0..35)));
    let (wake, wakes) = tokio::sync::mpsc::channel(4);
    let (sealed, mut batches) = tokio::sync::mpsc::channel(1);
    let settings = rig.settings.clone();
    let reader = Reader::open(settings, Metrics::new().0, wakes, wake.clone()).unwrap();
    let thread = tokio::task::spawn_blocking(move || reader.run(sealed, |_| {}));
    let mut events = 0;
    let mut appended = false;
    while events < 37 {
        let next = tokio::time::timeout(Duration::from_secs(10), batches.recv()).await;
        let batch: Sealed = next.expect("a change wakes the reader long before the next scan").unwrap();
        events += batch.events;
        wake.send(Wake::Settled(Settled { id: batch.id, rejects: vec![] })).await.unwrap();
        if events == 35 && !appended {
            appended = true;
            rig.append("a.log", "line 35\n");
            rig.append("b.log", "line 36\n");
        }
    }
    wake.send(Wake::Stop).await.unwrap();
    let ended = thread.await.unwrap().unwrap();
    assert_eq!(ended, Ended { unsettled: 0, spooled: false, rejected: 0, losses: 0, dropped: 0 });
}
