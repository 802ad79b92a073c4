//! How fast events are judged, beside building their values, and how fast lines of each form become events. Not a
//! test: run it by hand, in release, with `cargo test --release -p logweir-proto --test speed -- --ignored --nocapture`,
//! and `events` or `lines` at its end for one of both.

use jiff::tz::TimeZone;
use logweir_proto::encoding::{self, Encoding};
use logweir_proto::event::{self, Rules};
use logweir_proto::line::{Assembly, Carry, Format, Keys, MAX_EVENT_BYTES, Next, Settings};
use logweir_proto::{Level, ndjson};
use std::hint::black_box;
use std::time::{Duration, Instant};

const RULES: Rules = Rules { max_bytes: 256 << 10, window: None };
const EVENTS: usize = 20_000;

/// The best of several rounds, as the least disturbed one.
fn time(mut run: impl FnMut()) -> Duration {
    let rounds = (0..15).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    });
    rounds.min().unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
fn say(line: &str) {
    println!("{line}");
}

fn report(what: &str, bytes: usize, events: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    let (mb, rate) = (bytes as f64 / seconds / 1e6, events as f64 / seconds / 1e6);
    say(&format!("  {what:<32} {mb:>7.0} MB/s {rate:>7.2} M/s"));
}

fn body(event: impl Fn(usize) -> String) -> Vec<u8> {
    (0..EVENTS).flat_map(|n| (event(n) + "\n").into_bytes()).collect()
}

#[test]
#[ignore = "a measurement"]
fn events() {
    let bodies = [
        (
            "150 bytes, integer time",
            body(|n| {
                format!(
                    r#"{{"timestamp":{},"service":"checkout","level":"info","message":"GET /api/v1/orders/{:08} 200 in {:03} ms, 1,234 bytes sent to client"}}"#,
                    1_795_514_580_000 + n,
                    n * 7_919,
                    n % 1_000
                )
            }),
        ),
        (
            "150 bytes, RFC 3339",
            body(|n| {
                format!(
                    r#"{{"timestamp":"2026-11-24T10:03:{:02}.{:03}Z","service":"checkout","level":"info","message":"GET /api/v1/orders/{:08} 200 in {:03} ms, 12 bytes"}}"#,
                    n % 60,
                    n % 1_000,
                    n * 7_919,
                    n % 1_000
                )
            }),
        ),
        (
            "450 bytes, trace and attributes",
            body(|n| {
                format!(
                    r#"{{"timestamp":"2026-11-24T10:03:00.250Z","level":"error","service":"shop/api","message":"payment failed: \"declined\" by größe & co","trace_id":"0af7651916cd43dd8448eb211c8{n:05}","span_id":"b7ad6b71692{n:05}","attributes":{{"user":"u-{n}","http":{{"method":"POST","path":"/v1/pay","status":502,"ms":{n}.25}},"tags":["a","b","c"],"retry":true,"cause":null}},"host":"web-1","pid":4711,"thread":"http-nio-8080-exec-1","version":"1.2.3"}}"#
                )
            }),
        ),
        (
            "2 KiB, a stack trace",
            body(|n| {
                let frames = r"\n\tat com.acme.shop.checkout.PaymentService.charge(PaymentService.java:117)"
                    .repeat(25);
                format!(
                    r#"{{"timestamp":{},"service":"checkout","level":"ERROR","message":"java.lang.IllegalStateException{frames}"}}"#,
                    1_795_514_580_000 + n
                )
            }),
        ),
    ];
    for (name, body) in &bodies {
        say(&format!("{name} ({} on average)", body.len() / EVENTS));
        let took = time(|| {
            for line in ndjson::lines(black_box(body)) {
                black_box(event::check(line, &RULES).unwrap());
            }
        });
        report("lines and check", body.len(), EVENTS, took);
        let took = time(|| {
            for line in ndjson::lines(black_box(body)) {
                black_box(serde_json::from_slice::<serde_json::Value>(line).unwrap());
            }
        });
        report("lines and serde_json::Value", body.len(), EVENTS, took);
        let took = time(|| assert_eq!(ndjson::lines(black_box(body)).count(), EVENTS));
        report("lines alone", body.len(), EVENTS, took);
        let array = [b"[", &body[..body.len() - 1], b"]"].concat();
        let array: Vec<u8> = array.iter().map(|b| if *b == b'\n' { b',' } else { *b }).collect();
        let took =
            time(|| assert_eq!(ndjson::json_elements(black_box(&array), EVENTS).unwrap().len(), EVENTS));
        report("json_elements alone", body.len(), EVENTS, took);
        let zstd = encoding::encode_zstd(body, 3);
        let took = time(|| drop(encoding::decode(Encoding::Zstd, black_box(&zstd), 64 << 20).unwrap()));
        report("zstd decoding alone", body.len(), EVENTS, took);
        let took = time(|| drop(encoding::encode_zstd(black_box(body), 3)));
        report("zstd encoding alone, level 3", body.len(), EVENTS, took);
    }
}

/// A line with a number in it.
type Line = fn(usize) -> String;

/// One of each form.
const FORMS: [(&str, Line); 14] = [
    ("an event as JSON", |n| {
        format!(
            r#"{{"timestamp":{},"service":"shop","level":"info","message":"order {n:08} sent"}}"#,
            1_795_514_580_000 + n
        )
    }),
    ("other JSON", |n| {
        format!(
            r#"{{"time":"2026-11-24T10:03:{:02}Z","lvl":"info","msg":"order {n:08} sent","took":7}}"#,
            n % 60
        )
    }),
    ("logfmt", |n| {
        format!("ts=2026-11-24T10:03:{:02}Z level=info msg=\"order sent\" id={n:08} took=7ms", n % 60)
    }),
    ("ISO 8601", |n| format!("2026-11-24T10:03:{:02}.123Z INFO shop: order {n:08} was sent in 7 ms", n % 60)),
    ("log4j", |n| {
        format!("2026-11-24 10:03:{:02},123 WARN  [exec-7] c.a.s.Pay - order {n:08} is slow", n % 60)
    }),
    ("Postgres", |n| format!("2026-11-24 10:03:{:02}.123 CET [7] LOG:  statement: select {n:08}", n % 60)),
    ("syslog", |n| {
        format!("Nov 24 10:03:{:02} web1 sshd[7]: Accepted publickey for bob port {n:08}", n % 60)
    }),
    ("glog", |n| format!("I1124 10:03:{:02}.123456       7 controller.go:897] synced order {n:08}", n % 60)),
    ("access log", |n| {
        format!(
            r#"10.0.0.7 - - [24/Nov/2026:10:03:{:02} +0100] "GET /{n:08} HTTP/1.1" 404 7 "-" "curl/7.88""#,
            n % 60
        )
    }),
    ("HAProxy", |n| {
        format!(
            "10.0.0.7:1 [24/Nov/2026:10:03:{:02}.123] in b/s 1/0/3/6/9 503 7 - - ---- 1/1/1/1/0 0/0 \"GET /{n:08}\"",
            n % 60
        )
    }),
    ("squid", |n| {
        format!("1795514580.{:03}    192 10.0.0.7 TCP_MISS/503 4123 GET http://a/{n:08} - -", n % 1_000)
    }),
    ("a level and no time", |n| format!("INFO:root:order {n:08} was sent to the customer in 7 ms")),
    ("neither", |n| format!("order {n:08} was sent to the customer in 7 ms, and nothing else is known")),
    ("stack trace", |n| {
        format!("\tat com.acme.shop.checkout.PaymentService.charge(PaymentService.java:{n:08})")
    }),
];

/// By turns, so that a busy machine slows all of them; the best of several rounds, as the least disturbed one.
#[test]
#[ignore = "a measurement"]
fn lines() {
    const ROUNDS: usize = 30;
    let settings = Settings {
        format: Format::Auto,
        service: None,
        file_service: "api".to_owned(),
        origin: None,
        keys: Keys::default(),
        default_level: Level::Info,
        timezone: TimeZone::get("Europe/Berlin").unwrap(),
        multiline_start: None,
        max_event_bytes: MAX_EVENT_BYTES,
        rules: std::sync::Arc::default(),
    };
    let files: Vec<Vec<u8>> = FORMS.iter().map(|(_, line)| body(line)).collect();
    let mut best = [Duration::MAX; FORMS.len()];
    for _ in 0..ROUNDS {
        for (best, file) in best.iter_mut().zip(&files) {
            let begun = Instant::now();
            read(black_box(file), &settings);
            *best = begun.elapsed().min(*best);
        }
    }
    say("lines to events, --format auto");
    for ((name, _), (file, best)) in FORMS.iter().zip(files.iter().zip(best)) {
        report(name, file.len(), EVENTS, best);
    }
}

fn read(file: &[u8], settings: &Settings) {
    let mut assembly = Assembly::new(settings, Carry::at(1_795_514_580_000));
    for line in file.split(|b| *b == b'\n') {
        let mut next = assembly.line(line);
        if next == Next::Complete {
            black_box(assembly.take());
            next = assembly.line(line);
        }
        if next == Next::Whole {
            black_box(assembly.take());
        }
    }
    black_box(assembly.take());
}
