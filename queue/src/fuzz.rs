//! Fuzz targets, see fuzz/README.md: whatever stands in the stream is a batch, or no batch for a stated reason.

use crate::entry::{Entry, EntryId, Fields, Item, Numbers, RawEntry};
use bytes::Bytes;
use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::encoding::Encoding;

const WORK: Work = Work { steps: (100, 20_000), memory: (20, 5_000) };

const NAMES: [&str; 11] =
    ["v", "agent", "producer", "seq", "events", "skip", "enc", "at", "traceparent", "body", "unknown"];

/// Fields with a number for the name and a length; a name may come twice, or not at all.
fn fields(mut input: Input<'_>) -> Fields {
    let mut fields = Fields::new();
    while !input.is_empty() && fields.len() < 50 {
        let name = NAMES[usize::from(input.byte()) % NAMES.len()];
        let len = usize::from(input.byte());
        fields.push((Bytes::from_static(name.as_bytes()), Bytes::copy_from_slice(input.take(len))));
    }
    fields
}

#[test]
fn fuzz_entry() {
    logweir_fuzz::target("queue/entry", |input| {
        let fields = fields(Input::new(input));
        let raw = RawEntry { id: EntryId("5-0".to_owned()), fields: fields.clone() };
        let item = bounded(input.len(), WORK, || Item::from(raw));
        let body = fields.iter().find(|(name, _)| name == "body").map_or(0, |(_, body)| body.len());
        assert_eq!(item.body_bytes(), u64::try_from(body).expect("short"));
        let numbers = Numbers::of(&fields);
        match item {
            Item::Batch(entry) => {
                assert_ne!(entry.enc, Encoding::Gzip);
                let numbers = numbers.expect("a batch has numbers");
                assert_eq!(
                    (numbers.batch, numbers.events, &numbers.skip),
                    (entry.batch, entry.events, &entry.skip)
                );
                numbered_right(&numbers);
                again(&entry);
            }
            Item::Unreadable(unreadable) => {
                let why = unreadable.flaw.to_string();
                assert!(why.contains('`'), "no field is named: {why}");
                // It goes to logs and to the dead letters.
                assert!(why.len() < 600 && !why.contains(char::is_control));
                numbers.iter().for_each(numbered_right);
            }
        }
    });
}

fn numbered_right(numbers: &Numbers) {
    let first = numbers.batch.seq.get();
    let last = first + (numbers.events - 1);
    assert!(
        numbers.takes(first) && numbers.takes(last) && !numbers.takes(last + 1) && !numbers.takes(first - 1)
    );
    let (mut end, mut sum) = (first, 0);
    for range in numbers.ranges() {
        assert!(end <= range.start && range.start < range.end && range.end <= last + 1);
        (end, sum) = (range.end, sum + (range.end - range.start));
    }
    assert_eq!(sum, numbers.events - u64::try_from(numbers.skip.len()).expect("few"));
}

/// Written anew from what was read, it is read as the same.
fn again(entry: &Entry) {
    let skip: Vec<String> = entry.skip.iter().map(u64::to_string).collect();
    let mut fields = vec![
        ("v", "1".to_owned()),
        ("agent", entry.agent.clone()),
        ("producer", entry.batch.producer.to_string()),
        ("seq", entry.batch.seq.to_string()),
        ("events", entry.events.to_string()),
        ("enc", entry.enc.as_str().to_owned()),
        ("at", entry.at_ms.to_string()),
    ];
    fields.extend((!skip.is_empty()).then(|| ("skip", skip.join(","))));
    fields.extend(entry.traceparent.clone().map(|trace| ("traceparent", trace)));
    let mut fields: Fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    fields.push(("body".into(), entry.body.clone()));
    assert_eq!(Item::from(RawEntry { id: entry.id.clone(), fields }), Item::Batch(entry.clone()));
}

#[test]
fn fuzz_entry_id() {
    logweir_fuzz::target("queue/entry_id", |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let id = bounded(text.len(), WORK, || text.parse::<EntryId>());
        if let Ok(id) = id {
            let (shard, of_redis) = id.parts().expect("it was parsed");
            assert_eq!(id.shard(), shard);
            assert!(
                of_redis.split('-').count() == 2 && of_redis.bytes().all(|b| b == b'-' || b.is_ascii_digit())
            );
            assert!(text.ends_with(of_redis));
        }
    });
}
