use super::*;
use serde_json::json;

const ID: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/7";
const NOW: &str = "2026-11-24T10:00:00Z";

fn asked(events: u64) -> Asked {
    Asked { id: ID.parse().unwrap(), events, encoding: Encoding::Zstd }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, retry_after: None, pressure: None, body: Some(body.as_bytes().to_vec()) }
}

fn after(events: u64, answer: Answer) -> Action {
    decide(&asked(events), &Outcome::Answer(answer), NOW.parse().unwrap())
}

fn problem(code: ProblemCode) -> Problem {
    Problem::new(code, "said so")
}

fn says(status: u16, problem: &Problem) -> Answer {
    answer(status, &serde_json::to_string(problem).unwrap())
}

fn accepted(batch: &str, accepted: u64, rejected: &[u64]) -> String {
    let rejected: Vec<_> =
        rejected.iter().map(|i| json!({"index": i, "code": "too_old", "detail": "d"})).collect();
    json!({"batch": batch, "accepted": accepted, "rejected": rejected}).to_string()
}

/// What a test looks at: the kind of action, the reason and the wait.
fn short(action: &Action) -> String {
    match action {
        Action::Settled { rejected } => {
            let list: Vec<_> = rejected.iter().map(|e| format!("{}:{}", e.index, e.code)).collect();
            format!("settled [{}]", list.join(" "))
        }
        Action::RejectAll { code, .. } => format!("reject {}", code.as_str()),
        Action::Halve => "halve".to_owned(),
        Action::Identity => "identity".to_owned(),
        Action::Hold(hold) => match hold.wait {
            Wait::Told(d) => format!("hold {} told {}", hold.reason.as_str(), d.as_millis()),
            Wait::Backoff => format!("hold {} backoff", hold.reason.as_str()),
            Wait::Long => format!("hold {} long", hold.reason.as_str()),
        },
    }
}

/// Every status, without a word of ours.
fn of_a_proxy(status: u16) -> &'static str {
    match status {
        401 => "hold unauthenticated long",
        403 => "hold forbidden long",
        408 | 425 => "hold error backoff",
        413 => "halve",
        415 => "identity",
        429 => "hold rate_limited backoff",
        300..=499 => "hold configuration long",
        _ => "hold error backoff",
    }
}

#[test]
fn whatever_a_proxy_says_no_event_is_given_up() {
    for status in 100..=999 {
        for body in [
            "",
            "<html><h1>Bad Gateway</h1></html>",
            "{}",
            "[1]",
            r#"{"type":"about:blank","title":"x","status":400,"detail":"y"}"#,
        ] {
            assert_eq!(short(&after(3, answer(status, body))), of_a_proxy(status), "{status} {body}");
        }
        let cut = Answer { status, ..Answer::default() };
        let expected = if matches!(status, 400 | 422) { "hold error backoff" } else { of_a_proxy(status) };
        let expected = if status == 415 { "hold error backoff" } else { expected };
        assert_eq!(short(&after(3, cut)), expected, "{status}, cut off");
    }
    let failed = decide(&asked(3), &Outcome::Failed("refused".into()), NOW.parse().unwrap());
    assert_eq!(short(&failed), "hold unreachable backoff");
    let timed_out = decide(&asked(3), &Outcome::TimedOut("no answer".into()), NOW.parse().unwrap());
    assert_eq!(short(&timed_out), "hold timeout backoff");
}

#[test]
fn every_code_of_the_collector_has_its_action() {
    for code in ProblemCode::ALL {
        let expected = match code {
            ProblemCode::Malformed => "reject malformed",
            ProblemCode::Unauthenticated => "hold unauthenticated long",
            ProblemCode::Forbidden => "hold forbidden long",
            ProblemCode::NotFound | ProblemCode::MethodNotAllowed | ProblemCode::HeadersTooLarge => {
                "hold configuration long"
            }
            ProblemCode::TooSlow | ProblemCode::Internal => "hold error backoff",
            ProblemCode::TooLarge => "halve",
            ProblemCode::Unsupported => "identity",
            ProblemCode::AllRejected => "settled [0:all_rejected 1:all_rejected 2:all_rejected]",
            ProblemCode::RateLimited => "hold rate_limited told 1234",
            ProblemCode::QueueFull => "hold queue_full told 1234",
            ProblemCode::QueueUnavailable => "hold queue_unavailable told 1234",
            ProblemCode::Overloaded => "hold overloaded told 1234",
            ProblemCode::Draining => "hold draining told 1234",
        };
        let mut said = problem(code);
        said.retry_after_ms = Some(1_234);
        assert_eq!(short(&after(3, says(code.status(), &said))), expected, "{code:?}");
    }
}

#[test]
fn the_quota_may_answer_503() {
    let mut said = problem(ProblemCode::RateLimited);
    said.retry_after_ms = Some(700);
    assert_eq!(short(&after(3, says(503, &said))), "hold rate_limited told 700");
}

#[test]
fn milliseconds_are_preferred_and_absurd_times_bounded() {
    for (ms, header, expected) in [
        (Some(1_500), Some("2"), "told 1500"),
        (None, Some("2"), "told 2000"),
        (None, Some("Tue, 24 Nov 2026 10:00:09 GMT"), "told 9000"),
        (Some(0), None, "told 50"),
        (None, Some("86400"), "told 60000"),
        (Some(u64::MAX), None, "told 60000"),
        (None, Some("soon"), "backoff"),
        (None, None, "backoff"),
    ] {
        let mut said = problem(ProblemCode::QueueFull);
        said.retry_after_ms = ms;
        let answer = Answer { retry_after: header.map(str::to_owned), ..says(503, &said) };
        assert_eq!(short(&after(3, answer)), format!("hold queue_full {expected}"), "{ms:?} {header:?}");
    }
    let balancer = Answer { retry_after: Some("5".into()), ..answer(503, "no backend") };
    assert_eq!(short(&after(3, balancer)), "hold error told 5000");
    let balancer = Answer { retry_after: Some("5".into()), ..answer(429, "") };
    assert_eq!(short(&after(3, balancer)), "hold rate_limited told 5000");
    let terse = answer(503, r#"{"type":"https://example.org/problems/draining","retry_after_ms":1500}"#);
    assert_eq!(short(&after(3, terse)), "hold draining told 1500");
    let nameless = answer(429, r#"{"retry_after_ms":1500}"#);
    assert_eq!(short(&after(3, nameless)), "hold rate_limited told 1500");
}

#[test]
fn a_202_settles_only_when_it_accounts_for_this_batch() {
    let other = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a11/7";
    for (body, expected) in [
        (accepted(ID, 3, &[]), "settled []"),
        (accepted(&ID.to_uppercase(), 3, &[]), "settled []"),
        (accepted(ID, 1, &[2, 0]), "settled [0:too_old 2:too_old]"),
        (accepted(ID, 0, &[0, 1, 2]), "settled [0:too_old 1:too_old 2:too_old]"),
        (accepted(other, 3, &[]), "hold error backoff"),
        (accepted("", 3, &[]), "hold error backoff"),
        (accepted(ID, 2, &[]), "hold error backoff"),
        (accepted(ID, 4, &[]), "hold error backoff"),
        (accepted(ID, 3, &[0]), "hold error backoff"),
        (accepted(ID, u64::MAX, &[0, 1, 2, 3]), "hold error backoff"),
        (accepted(ID, 1, &[0, 0]), "hold error backoff"),
        (accepted(ID, 2, &[3]), "hold error backoff"),
        ("accepted".to_owned(), "hold error backoff"),
        (String::new(), "hold error backoff"),
    ] {
        assert_eq!(short(&after(3, answer(202, &body))), expected, "{body}");
        for status in [200, 201, 204, 206] {
            assert_eq!(short(&after(3, answer(status, &body))), "hold error backoff", "{status}");
        }
    }
}

#[test]
fn in_a_422_each_event_has_its_own_reason() {
    let rejected = |indices: &[u64]| {
        let mut said = problem(ProblemCode::AllRejected);
        let event =
            |index: &u64| RejectedEvent { index: *index, code: "in_future".into(), detail: "d".into() };
        said.rejected = Some(indices.iter().map(event).collect());
        short(&after(2, says(422, &said)))
    };
    assert_eq!(rejected(&[1, 0]), "settled [0:in_future 1:in_future]");
    assert_eq!(rejected(&[1]), "settled [0:all_rejected 1:in_future]");
    assert_eq!(rejected(&[0, 2]), "hold error backoff");
    assert_eq!(rejected(&[0, 0]), "hold error backoff");
}

#[test]
fn what_cannot_be_made_smaller_or_plainer_is_rejected() {
    assert_eq!(short(&after(2, answer(413, ""))), "halve");
    assert_eq!(short(&after(1, answer(413, ""))), "reject too_large");
    let plain = Asked { encoding: Encoding::Identity, ..asked(2) };
    let again = |answer| short(&decide(&plain, &Outcome::Answer(answer), NOW.parse().unwrap()));
    assert_eq!(again(says(415, &problem(ProblemCode::Unsupported))), "reject unsupported");
    assert_eq!(again(answer(415, "<html>")), "hold configuration long");
}

#[test]
fn people_are_told_what_was_said() {
    let detail = |answer| match after(3, answer) {
        Action::Hold(hold) => hold.detail,
        other => panic!("{other:?}"),
    };
    assert_eq!(detail(says(403, &problem(ProblemCode::Forbidden))), "403 forbidden: said so");
    let redirect = detail(answer(301, "moved\r\n\x1b[31m to there"));
    assert!(
        redirect.contains("redirects are not followed") && redirect.ends_with("moved [31m to there"),
        "{redirect}"
    );
    assert!(detail(answer(404, "")).contains("--collector"));
    assert!(detail(answer(500, &"x".repeat(10_000))).len() < 400);
}
