//! Bodies taken apart: the same parts that a slow splitter and serde_json see.

use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::ndjson::{self, BodyError};
use serde_json::Value;
use serde_json::value::RawValue;

const LINES: Work = Work { steps: (30, 500), memory: (0, 0) };

/// 16 bytes for an element of two, doubled while the list grows.
const ELEMENTS: Work = Work { steps: (30, 2_000), memory: (24, 1_000) };

#[test]
fn fuzz_ndjson() {
    logweir_fuzz::target("proto/ndjson", |body| {
        let lines = bounded(body.len(), LINES, || ndjson::lines(body).count());
        let blank = |line: &[u8]| line.iter().all(|b| b" \t\r".contains(b));
        let expected: Vec<&[u8]> = body
            .split(|b| *b == b'\n')
            .filter(|line| !blank(line))
            .map(|line| if let [line @ .., b'\r'] = line { line } else { line })
            .collect();
        assert_eq!(lines, expected.len());
        assert!(ndjson::lines(body).eq(expected.iter().copied()));
        // Cutting a body into its lines and putting these together changes no line.
        let joined: Vec<u8> = expected.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
        assert!(
            ndjson::lines(&joined)
                .map(|line| line.trim_ascii_end())
                .eq(expected.iter().map(|line| line.trim_ascii_end()))
        );
    });
}

/// The first byte limits the number of elements.
#[test]
fn fuzz_elements() {
    logweir_fuzz::target("proto/elements", |input| {
        let mut input = Input::new(input);
        let most = usize::from(input.byte());
        let body = input.rest();
        let ours = bounded(body.len(), ELEMENTS, || ndjson::json_elements(body, most));

        let is_array = body.trim_ascii_start().starts_with(b"[");
        let theirs: Result<Vec<&RawValue>, _> = if is_array {
            serde_json::from_slice(body)
        } else {
            serde_json::from_slice(body).map(|one| vec![one])
        };
        let blank = body.iter().all(|b| b" \t\r\n".contains(b));
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert!(ours.len() <= most.max(1));
                assert!(ours.iter().copied().eq(theirs.iter().map(|raw| raw.get().as_bytes())));
                ours.iter().for_each(|element| on_one_line(element));
            }
            (Err(BodyError::TooMany { limit }), Ok(theirs)) => {
                assert_eq!(limit, most);
                assert!(theirs.len() > most);
            }
            (Err(BodyError::EmptyArray), Ok(theirs)) => assert!(is_array && theirs.is_empty()),
            (Err(BodyError::Empty), Err(_)) => assert!(blank),
            // It stops at the first element that is too many, whatever follows.
            (Err(BodyError::TooMany { .. }), Err(_)) => assert!(is_array),
            (Err(BodyError::NotJson { offset, .. }), Err(_)) => assert!(!blank && offset <= body.len()),
            (ours, theirs) => panic!("{ours:?}, and serde_json says {theirs:?}"),
        }
    });
}

fn on_one_line(element: &[u8]) {
    let mut line = Vec::new();
    ndjson::push_line(&mut line, element);
    let (end, line) = line.split_last().unwrap();
    assert_eq!(*end, b'\n');
    assert!(!line.contains(&b'\n') && !line.contains(&b'\r') && line.len() == element.len());
    // It holds the same, as far as values can hold it.
    if let Ok(value) = serde_json::from_slice::<Value>(element) {
        assert_eq!(serde_json::from_slice::<Value>(line).unwrap(), value);
    }
}
