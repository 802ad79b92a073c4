//! How fast events are judged, beside building their values. Not a test: run it by hand, in release, with
//! `cargo test --release -p logweir-proto --test speed -- --ignored --nocapture`.

use logweir_proto::encoding::{self, Encoding};
use logweir_proto::event::{self, Rules};
use logweir_proto::ndjson;
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
    say(&format!("  {what:<32} {mb:>7.0} MB/s {rate:>7.2} M events/s"));
}

fn body(event: impl Fn(usize) -> String) -> Vec<u8> {
    (0..EVENTS).flat_map(|n| (event(n) + "\n").into_bytes()).collect()
}

#[test]
#[ignore = "a measurement"]
fn speed() {
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
