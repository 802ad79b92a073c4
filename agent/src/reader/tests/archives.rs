//! Files that are compressed: with `once`, and after rotation.

use super::*;

impl Rig {
    /// As gzip does: the compressed file is complete before the other one is gone.
    fn pack(&self, from: &str, to: &str) {
        std::fs::write(self.path(to), gzip(&std::fs::read(self.path(from)).unwrap())).unwrap();
        delete(&self.path(from));
    }
}

fn once(change: impl FnOnce(&mut Reading)) -> Rig {
    Rig::new(|settings| {
        settings.once = true;
        settings.patterns[0].push('*');
        change(settings);
    })
}

fn run_once(rig: &mut Rig) -> Ended {
    rig.ended = None;
    rig.start();
    rig.drain_once();
    rig.kill();
    rig.ended.unwrap()
}

fn following(change: impl FnOnce(&mut Reading)) -> Rig {
    Rig::started(|settings| {
        settings.patterns[0].push('*');
        change(settings);
    })
}

#[test]
fn with_once_they_are_read_whatever_their_names_are() {
    let mut rig = once(|_| {});
    rig.append("a.log", text(&numbered(0..10)));
    rig.append("b.log.1.gz", gzip(text(&numbered(10..20)).as_bytes()));
    let parts = [gzip(text(&numbered(20..25)).as_bytes()), gzip(b"line 25\nline"), gzip(b" 26\nline 27")];
    rig.append("c.log", parts.concat());
    rig.append("d.log.gz", "line 28\n");
    rig.append("e.log.gz", "");
    rig.append("f.log", b"\x28\xb5\x2f\xfd not text");
    let ended = run_once(&mut rig);
    assert_eq!(ended.losses, 0);
    rig.assert_sent(numbered(0..29));
    assert!(rig.sent.values().any(|event| event.contains("line 12") && event.contains("\"b\"")));
    // Again, and nothing is read twice.
    run_once(&mut rig);
    rig.assert_sent(numbered(0..29));
}

#[test]
fn with_once_a_kill_at_any_step_counts_each_line_once() {
    for steps in 0..30 {
        let mut rig = once(|settings| {
            settings.batch_events = 7;
            settings.window_batches = 3;
        });
        rig.append("a.log.1.gz", gzip(text(&numbered(0..60)).as_bytes()));
        rig.append("a.log", text(&numbered(60..80)));
        rig.start();
        for step in 0..steps {
            rig.step();
            rig.take();
            rig.pass(100);
            if step % 3 == 2 && !rig.waiting.is_empty() {
                let (id, now) = (rig.waiting.remove(0).id, rig.now);
                rig.core().handle(Wake::Settled(Settled { id, rejects: vec![] }), now);
            }
        }
        rig.kill();
        assert_eq!(run_once(&mut rig).losses, 0);
        rig.assert_sent(numbered(0..80));
    }
}

#[test]
fn with_once_what_is_damaged_is_read_up_to_there_and_named() {
    let content = text(&numbered(0..3000));
    let packed = gzip(content.as_bytes());
    let mut flipped = packed.clone();
    let last = flipped.len() - 8;
    flipped[last] ^= 1;
    for (damaged, whole) in [(packed[..packed.len() / 2].to_vec(), false), (flipped, true)] {
        let mut rig = once(|_| {});
        rig.append("a.log.gz", &damaged);
        let ended = run_once(&mut rig);
        assert_eq!((ended.losses, rig.sent.len() == 3000), (1, whole));
        rig.assert_sent(numbered(0..rig.sent.len()));
        let losses = rig.losses();
        assert_eq!((losses.len(), &losses[0]["reason"]), (1, &Value::from("corrupt")));
        assert_eq!(losses[0]["start"], text(&numbered(0..rig.sent.len())).len());
        // Mended in place, the rest of it is read.
        if !whole {
            assert!(rig.sent.len() > 100);
            File::options().write(true).open(rig.path("a.log.gz")).unwrap().write_all(&packed).unwrap();
            assert_eq!(run_once(&mut rig).losses, 0);
            rig.assert_sent(numbered(0..3000));
        }
    }
}

#[test]
fn with_once_a_file_that_is_being_compressed_is_read_once() {
    // The original is an input too.
    let content = text(&numbered(0..3000));
    let packed = gzip(content.as_bytes());
    let mut rig = once(|_| {});
    rig.append("a.log.1", &content);
    rig.append("a.log.1.gz", &packed[..packed.len() / 2]);
    assert_eq!(run_once(&mut rig).losses, 0);
    rig.assert_sent(numbered(0..3000));

    // It isn't: what is there of the compressed one is waited for to become whole.
    let mut rig = once(|settings| settings.patterns[0].push_str(".gz"));
    rig.append("a.log.1", &content);
    rig.append("a.log.1.gz", &packed[..packed.len() / 2]);
    rig.start();
    for _ in 0..30 {
        rig.settle_down();
        rig.pass(100);
    }
    rig.settle_all();
    assert!(rig.ended.is_none() && rig.losses().is_empty());
    rig.append("a.log.1.gz", &packed[packed.len() / 2..]);
    rig.drain_once();
    assert_eq!(rig.ended.unwrap().losses, 0);
    rig.assert_sent(numbered(0..3000));

    // It stays as it is.
    let mut rig = once(|settings| settings.patterns[0].push_str(".gz"));
    rig.append("a.log.1", &content);
    rig.append("a.log.1.gz", &packed[..packed.len() / 2]);
    rig.start();
    for _ in 0..130 {
        rig.settle_down();
        rig.settle_all();
        if rig.ended.is_some() {
            break;
        }
        rig.pass(100);
    }
    assert_eq!(rig.ended.unwrap().losses, 1);
}

#[test]
fn while_following_they_are_left_alone() {
    let mut rig = following(|settings| settings.from = From::End);
    rig.append("a.log.1.gz", gzip(b"old\n"));
    rig.append("b.log", gzip(b"old\n"));
    rig.run(1000);
    rig.append("a.log", "new\n");
    rig.append("c.log", gzip(b"old\n"));
    rig.append("d.log", b"\xfd7zXZ\0 not text\n");
    rig.drain();
    rig.restart();
    rig.drain();
    rig.assert_sent(["new"]);
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    let scans = rig.core().scans;
    assert!(scans > 10 && rig.core().alone.len() == 3);
}

#[test]
fn what_was_unread_is_read_in_the_compressed_file_and_is_no_loss() {
    for (pattern, settled) in [("", true), ("", false), ("*", true), ("*", false)] {
        let mut rig = Rig::started(|settings| settings.patterns[0].push_str(pattern));
        rig.append("app.log", text(&numbered(0..25)));
        rig.run(1000);
        if settled {
            rig.settle_all();
        }
        rig.append("app.log", text(&numbered(25..30)));
        rig.kill();
        // Older ones, and one of another application.
        rig.append("app.log.2.gz", gzip(b"older\n"));
        rig.append("web.log.1.gz", gzip(text(&numbered(0..40)).as_bytes()));
        rig.pack("app.log", "app.log.1.gz");
        rig.append("app.log", text(&numbered(30..33)));
        rig.start();
        rig.run(1000);
        rig.rename("app.log.2.gz", "app.log.3.gz");
        rig.rename("app.log.1.gz", "app.log.2.gz");
        rig.restart();
        rig.drain();
        rig.restart();
        rig.drain();
        rig.assert_sent(numbered(0..33));
        assert!(rig.losses().is_empty(), "{:?}", rig.losses());
        // What it knows of it is bounded.
        assert!(rig.core().tails.values().all(|tail| !tail.entry.packed));
    }
}

#[test]
fn a_kill_at_any_step_counts_nothing_twice() {
    for steps in 0..14 {
        let mut rig = following(|settings| {
            settings.linger = Duration::ZERO;
            settings.batch_events = 4;
        });
        rig.append("app.log", text(&numbered(0..12)));
        rig.run(1000);
        rig.append("app.log", text(&numbered(12..30)));
        rig.kill();
        rig.pack("app.log", "app.log.1.gz");
        rig.start();
        for _ in 0..steps {
            rig.step();
            rig.take();
            rig.pass(50);
        }
        rig.restart();
        rig.drain();
        rig.assert_sent(numbered(0..30));
        assert!(rig.losses().is_empty(), "{steps} {:?}", rig.losses());
    }
}

#[test]
fn a_file_that_is_held_open_is_read_on_as_it_is() {
    for restart in [false, true] {
        for give_up in [false, true] {
            let mut rig = following(|settings| settings.window_batches = 1);
            if give_up {
                rig.kill();
                rig.settings.close_deleted = Duration::from_secs(60);
                rig.start();
            }
            rig.append("app.log", text(&numbered(0..10)));
            rig.run(1000);
            // The window is full.
            rig.append("app.log", text(&numbered(10..50)));
            rig.run(1000);
            rig.pack("app.log", "app.log.1.gz");
            rig.append("app.log", text(&numbered(50..55)));
            rig.run(1000);
            if give_up {
                rig.run(70_000);
                assert!(rig.core().tails.values().any(|tail| tail.entry.packed), "its room is free");
            }
            if restart {
                rig.restart();
            }
            rig.drain();
            rig.drain();
            rig.restart();
            rig.drain();
            rig.assert_sent(numbered(0..55));
            assert!(rig.losses().is_empty(), "{:?}", rig.losses());
        }
    }
}

#[test]
fn a_file_that_is_closed_is_read_on_compressed() {
    let mut rig = following(|settings| {
        settings.window_batches = 1;
        settings.max_open_files = 1;
    });
    for name in ["app.log", "web.log"] {
        rig.append(name, text(&[format!("{name} 0")]));
    }
    rig.run(1000);
    for name in ["app.log", "web.log"] {
        rig.append(name, text(&(1..30).map(|n| format!("{name} {n}")).collect::<Vec<_>>()));
    }
    rig.run(2000);
    for name in ["app.log", "web.log"] {
        rig.pack(name, &format!("{name}.1.gz"));
    }
    rig.run(5000);
    rig.drain();
    rig.drain();
    let all = ["app.log", "web.log"].map(|name| (0..30).map(move |n| format!("{name} {n}")));
    rig.assert_sent(all.into_iter().flatten());
    assert!(rig.losses().is_empty(), "{:?}", rig.losses());
}

#[test]
fn what_was_read_before_it_was_compressed_is_not_read_again() {
    for orderly in [false, true] {
        let mut rig = following(|_| {});
        rig.append("app.log", text(&numbered(0..30)));
        rig.drain();
        rig.rename("app.log", "app.log.1");
        rig.append("app.log", text(&numbered(30..35)));
        rig.drain();
        // Later, as delaycompress does.
        if orderly {
            rig.stop();
            rig.ended = None;
            rig.kill();
        }
        rig.rename("app.log.1", "app.log.2");
        rig.pack("app.log.2", "app.log.2.gz");
        if orderly {
            rig.start();
        }
        rig.drain();
        rig.assert_sent(numbered(0..35));
        // Also by one who reads what is compressed.
        rig.kill();
        rig.settings.once = true;
        run_once(&mut rig);
        rig.assert_sent(numbered(0..35));
        assert!(rig.losses().is_empty(), "{:?}", rig.losses());
    }
}

#[test]
fn a_compressed_file_that_only_begins_like_it_is_not_its_rest() {
    let mut rig = following(|_| {});
    let line = "the same line each time\n".repeat(100);
    rig.append("app.log", &line);
    rig.append("app.log", text(&numbered(0..30)));
    rig.drain();
    let read = rig.sent.len();
    rig.append("app.log", text(&numbered(30..40)));
    rig.kill();
    rig.append("app.log.1.gz", gzip((line + &text(&numbered(100..200))).as_bytes()));
    delete(&rig.path("app.log"));
    rig.start();
    rig.drain();
    assert_eq!(rig.sent.len(), read);
    assert_eq!(rig.losses()[0]["reason"], "deleted");
}

#[test]
fn a_copy_that_was_emptied_and_compressed_is_read_on() {
    for pattern in ["", "*"] {
        for running in [false, true] {
            let mut rig = Rig::started(|settings| {
                settings.patterns[0].push_str(pattern);
                settings.window_batches = 1;
            });
            rig.append("app.log", text(&numbered(0..10)));
            rig.run(1000);
            rig.append("app.log", text(&numbered(10..30)));
            rig.run(1000);
            if !running {
                rig.kill();
            }
            std::fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
            File::options().write(true).open(rig.path("app.log")).unwrap().set_len(0).unwrap();
            rig.pack("app.log.1", "app.log.1.gz");
            rig.append("app.log", text(&numbered(30..35)));
            if !running {
                rig.start();
            }
            rig.drain();
            rig.drain();
            rig.restart();
            rig.drain();
            rig.assert_sent(numbered(0..35));
            assert!(rig.losses().is_empty(), "{pattern} {running} {:?}", rig.losses());
        }
    }
}

#[test]
fn a_damaged_rest_is_named_once() {
    let mut rig = following(|_| {});
    rig.append("app.log", text(&numbered(0..1000)));
    rig.drain();
    rig.append("app.log", text(&numbered(1000..3000)));
    rig.kill();
    let packed = gzip(&std::fs::read(rig.path("app.log")).unwrap());
    std::fs::write(rig.path("app.log.1.gz"), &packed[..packed.len() - 100]).unwrap();
    delete(&rig.path("app.log"));
    rig.start();
    for _ in 0..3 {
        rig.drain();
        rig.restart();
    }
    rig.drain();
    let read = rig.sent.len();
    assert!(read > 2000 && read < 3000);
    rig.assert_sent(numbered(0..read));
    let losses = rig.losses();
    assert_eq!((losses.len(), &losses[0]["reason"]), (1, &Value::from("corrupt")), "{losses:?}");
    assert_eq!(losses[0]["start"], text(&numbered(0..read)).len());
}
