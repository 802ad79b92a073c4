use super::*;
use crate::send::policy::Answer;
use crate::send::testing::{Scripted, Sent, answer, batch, line, problem, settle};
use bytes::Bytes;
use logweir_proto::answer::Problem;
use tokio::time::Instant;

fn numbers(settled: &Settled) -> Vec<(u64, String, String)> {
    settled
        .rejects
        .iter()
        .map(|r| (r.number.get(), r.code.clone(), String::from_utf8(r.event.clone()).unwrap()))
        .collect()
}

async fn delivered(post: Arc<Scripted>, sealed: Sealed) -> Settled {
    let id = sealed.id;
    let settled = deliver(post.shared(), sealed).await.unwrap();
    assert_eq!(settled.id, id, "reported under the name that it was sealed with");
    settled
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_out_as_it_was_sealed() {
    let post = Scripted::new(|request| settle(request, &[]));
    let sealed = batch(41, 3);
    let settled = delivered(Arc::clone(&post), sealed.clone()).await;
    assert!(settled.rejects.is_empty());
    let sent = post.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].id, &sent[0].body, sent[0].encoding), (sealed.id, &sealed.body, Encoding::Zstd));
}

#[tokio::test(start_paused = true)]
async fn rejected_indices_become_numbers_and_lines() {
    let post = Scripted::new(|request| settle(request, &[4, 0]));
    let settled = delivered(post, batch(41, 5)).await;
    let expected = [(41, "too_old".to_owned(), line(41)), (45, "too_old".to_owned(), line(45))];
    assert_eq!(numbers(&settled), expected);
}

#[tokio::test(start_paused = true)]
async fn it_is_halved_until_it_fits_and_every_event_keeps_its_number() {
    // Only up to two events, and never number 13.
    let post = Scripted::new(|request| {
        let numbers = request.numbers();
        if numbers.len() > 2 || numbers.contains(&13) { answer(413, "") } else { settle(request, &[]) }
    });
    let settled = delivered(Arc::clone(&post), batch(10, 7)).await;
    assert_eq!(numbers(&settled), [(13, "too_large".to_owned(), line(13))]);
    let asked: Vec<Vec<u64>> = post.sent().iter().map(|request| request.numbers()).collect();
    let expected: [&[u64]; 9] = [
        &[10, 11, 12, 13, 14, 15, 16],
        &[10, 11, 12],
        &[10],
        &[11, 12],
        &[13, 14, 15, 16],
        &[13, 14],
        &[13],
        &[14],
        &[15, 16],
    ];
    assert_eq!(asked, expected);
    for request in post.sent() {
        assert_eq!(request.id.seq.get(), request.numbers()[0], "named by its first number");
    }
}

#[tokio::test(start_paused = true)]
async fn halves_report_their_rejects_together_and_in_order() {
    let post = Scripted::new(|request| match request.numbers().len() {
        6 => answer(413, ""),
        _ => settle(request, &[0, 2]),
    });
    let settled = delivered(post, batch(1, 6)).await;
    assert_eq!(numbers(&settled).iter().map(|r| r.0).collect::<Vec<_>>(), [1, 3, 4, 6]);
}

#[tokio::test(start_paused = true)]
async fn without_zstd_it_goes_plain_and_so_do_the_next() {
    let post = Scripted::new(|request| {
        if request.encoding == Encoding::Zstd { answer(415, "") } else { settle(request, &[]) }
    });
    let shared = post.shared();
    deliver(Arc::clone(&shared), batch(1, 2)).await.unwrap();
    deliver(shared, batch(3, 2)).await.unwrap();
    let encodings: Vec<_> = post.sent().iter().map(|request| request.encoding).collect();
    assert_eq!(encodings, [Encoding::Zstd, Encoding::Identity, Encoding::Identity]);
    assert_eq!(post.sent()[1].body, format!("{}\n{}\n", line(1), line(2)));
}

#[tokio::test(start_paused = true)]
async fn what_the_collector_never_takes_is_rejected_with_each_line() {
    for (code, tries) in [(ProblemCode::Malformed, 1), (ProblemCode::Unsupported, 2)] {
        let post = Scripted::new(move |_| problem(&Problem::new(code, "why")));
        let settled = delivered(Arc::clone(&post), batch(5, 2)).await;
        let code = code.as_str().to_owned();
        assert_eq!(numbers(&settled), [(5, code.clone(), line(5)), (6, code, line(6))]);
        assert_eq!(post.sent().len(), tries);
        assert!(settled.rejects.iter().all(|r| r.detail.contains("why")));
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_422_each_line_has_its_own_reason() {
    let post = Scripted::new(|_| {
        let mut said = Problem::new(ProblemCode::AllRejected, "none is good");
        let event = |index, code: &str| RejectedEvent { index, code: code.into(), detail: "d".into() };
        said.rejected = Some(vec![event(0, "too_old"), event(1, "invalid_level")]);
        problem(&said)
    });
    let settled = delivered(post, batch(1, 2)).await;
    let expected = [(1, "too_old".to_owned(), line(1)), (2, "invalid_level".to_owned(), line(2))];
    assert_eq!(numbers(&settled), expected);
}

#[tokio::test(start_paused = true)]
async fn a_told_time_is_obeyed_and_the_trace_stays() {
    let post = Scripted::new(|request| {
        if request.attempt < 3 {
            let mut said = Problem::new(ProblemCode::RateLimited, "slowly");
            said.retry_after_ms = Some(7_000);
            problem(&said)
        } else {
            settle(request, &[])
        }
    });
    let begun = Instant::now();
    delivered(Arc::clone(&post), batch(1, 1)).await;
    let at: Vec<f64> = post.times().iter().map(|at| (*at - begun).as_secs_f64()).collect();
    assert_eq!(at.len(), 4);
    for pair in at.windows(2) {
        assert!((7.0..=8.8).contains(&(pair[1] - pair[0])), "{at:?}");
    }
    let parents: Vec<String> = post.sent().iter().map(|request| request.traceparent.clone()).collect();
    assert!(parents.iter().all(|parent| parent[..35] == parents[0][..35]), "one trace: {parents:?}");
    assert_ne!(parents[0], parents[1], "a span for each attempt");
}

#[tokio::test(start_paused = true)]
async fn it_never_gives_up() {
    let post = Scripted::new(|request| match request.attempt {
        0..300 => match request.attempt % 5 {
            0 => Outcome::Failed("connection refused".into()),
            1 => answer(502, "<html>"),
            2 => Outcome::Answer(Answer { status: 202, ..Answer::default() }),
            3 => answer(401, ""),
            _ => answer(200, "welcome"),
        },
        _ => settle(request, &[]),
    });
    let settled = delivered(Arc::clone(&post), batch(1, 4)).await;
    assert!(settled.rejects.is_empty());
    assert_eq!(post.sent().len(), 301);
    assert!(post.sent().iter().all(|request| request.id.seq.get() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_what_was_numbered_stops_the_agent() {
    let mut wrong = batch(1, 3);
    wrong.events = 4;
    let error = deliver(Scripted::new(|_| answer(413, "")).shared(), wrong).await.unwrap_err();
    assert!(matches!(error, Damaged::Lines { lines: 3, events: 4, .. }), "{error}");
    let mut garbled = batch(1, 3);
    garbled.body = Bytes::from_static(b"not zstd");
    let error = deliver(Scripted::new(|_| answer(415, "")).shared(), garbled).await.unwrap_err();
    assert!(matches!(error, Damaged::Decode { .. }), "{error}");
}

fn timed_out() -> Outcome {
    Outcome::TimedOut("no answer within 30s".into())
}

#[tokio::test(start_paused = true)]
async fn what_times_out_again_and_again_goes_in_halves_and_later_ones_at_once() {
    let first = batch(1, 4_000);
    // A quarter of it comes through, and a half doesn't.
    let carries = first.body.len() * 2 / 5;
    let post = Scripted::new(
        move |request| {
            if request.body.len() > carries { timed_out() } else { settle(request, &[]) }
        },
    );
    let shared = post.shared();
    deliver(Arc::clone(&shared), first).await.unwrap();
    let sent = post.sent();
    let mut carried = Vec::new();
    for request in &sent {
        assert_eq!(request.id.seq.get(), request.numbers()[0], "named by its first number");
        if request.body.len() <= carries {
            carried.extend(request.numbers());
        }
    }
    assert!(carried.into_iter().eq(1..=4_000));
    let failed = |sent: &[Sent]| sent.iter().filter(|r| r.body.len() > carries).count();
    let learning = failed(&sent);
    assert!(
        (2..=6).contains(&learning),
        "two for each halving, and the parts beside it are halved at once: {learning}"
    );
    deliver(shared, batch(4_001, 4_000)).await.unwrap();
    assert_eq!(failed(&post.sent()), learning, "the next one isn't tried whole");
}

#[tokio::test(start_paused = true)]
async fn one_timeout_alone_or_a_collector_that_answers_nothing_halves_nothing() {
    for (post, failures) in [
        (
            Scripted::new(
                |request| if request.attempt % 2 == 0 { timed_out() } else { settle(request, &[]) },
            ),
            1,
        ),
        (
            Scripted::new(|request| if request.attempt < 20 { timed_out() } else { settle(request, &[]) })
                .mute(),
            20,
        ),
        (
            Scripted::new(|request| match request.attempt {
                0 | 2 => timed_out(),
                1 | 3 => Outcome::Failed("reset".into()),
                _ => settle(request, &[]),
            }),
            4,
        ),
    ] {
        delivered(Arc::clone(&post), batch(1, 10)).await;
        let sent = post.sent();
        assert_eq!(sent.len(), failures + 1);
        assert!(sent.iter().all(|request| request.numbers().len() == 10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_event_is_tried_for_ever() {
    let post = Scripted::new(|request| {
        let numbers = request.numbers();
        if numbers.contains(&3) && request.attempt < 50 { timed_out() } else { settle(request, &[]) }
    });
    let settled = delivered(Arc::clone(&post), batch(1, 4)).await;
    assert!(settled.rejects.is_empty());
    assert_eq!(post.sent().last().unwrap().numbers(), [4]);
    // Before that twice the whole, once the first half, and twice the second one.
    assert_eq!(post.sent().iter().filter(|request| request.numbers() == [3]).count(), 51 - 5);
}
