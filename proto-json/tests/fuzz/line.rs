//! Log lines: whatever an application writes becomes events of one line each, the same ones each time.

use jiff::tz::TimeZone;
use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::event::{self, Rules};
use logweir_proto::line::rules::{ReadySet, RuleTexts};
use logweir_proto::line::{
    Assembly, By, Carry, Encoding, Filter, Format, Keys, MAX_EVENT_BYTES, Next, Origin, Rules as LineRules,
    Settings,
};
use logweir_proto::{Code, Level};
use regex::bytes::Regex;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const FORM: Rules = Rules { max_bytes: usize::MAX, window: None };

/// A byte can become six (`\u0001`), the buffers double, and each line has fields that are written for it.
const WORK: Work = Work { steps: (100, 5_000), memory: (400, 30_000) };

/// Regular expressions build their tables as they go: so much at most, however long the line.
const WORK_WITH_RULES: Work = Work { steps: (1_000, 4_000_000), memory: (2_000, 4 << 20) };

/// None; what is redacted; what is left out, too; and that with texts that make strings longer.
static RULES: LazyLock<[Arc<LineRules>; 4]> = LazyLock::new(|| {
    let (include, exclude) = (vec!["[a-z]".to_owned()], vec!["^#".to_owned(), "secret".to_owned()]);
    let redacting = || RuleTexts { redact: ReadySet::ALL.to_vec(), ..RuleTexts::default() };
    let own = ["[0-9]{3}=>\"\"\"", "[{} ]+$=>}", "err|x=>"].map(|rule| rule.parse().unwrap());
    let filtering = || RuleTexts { include: include.clone(), exclude: exclude.clone(), ..redacting() };
    let all = RuleTexts { replace: own.to_vec(), ..filtering() };
    [RuleTexts::default(), redacting(), filtering(), all]
        .map(|texts| Arc::new(LineRules::new(texts).unwrap()))
});

static BEGINS: LazyLock<Regex> = LazyLock::new(|| Regex::new("^[0-9]").unwrap());

fn settings(what: u8) -> Settings {
    let format = Format::ALL[usize::from(what >> 4) % Format::ALL.len()];
    Settings {
        format,
        service: (what & 1 == 1).then(|| "given".to_owned()),
        file_service: "api".to_owned(),
        origin: None,
        keys: Keys::default(),
        default_level: if what & 2 == 2 { Level::Warn } else { Level::Info },
        timezone: TimeZone::fixed(jiff::tz::offset(if what & 2 == 2 { -5 } else { 0 })),
        multiline_start: (what & 4 == 4).then(|| BEGINS.clone()),
        max_event_bytes: if what & 8 == 8 { 60 } else { MAX_EVENT_BYTES },
        rules: Arc::clone(&RULES[usize::from(what >> 4) / Format::ALL.len()]),
    }
}

/// An event, and where one could begin again after it.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    event: Vec<u8>,
    time_by: By,
    filtered: Option<Filter>,
    redacted: Vec<u32>,
    after: Carry,
    next: usize,
}

fn events(lines: &[&[u8]], settings: &Settings, carry: Carry, from: usize) -> Vec<Found> {
    let mut assembly = Assembly::new(settings, carry);
    let mut found = Vec::new();
    let mut take = |assembly: &mut Assembly<'_>, next| {
        let facts = assembly.take().expect("an event is open");
        assert_eq!(assembly.before(), assembly.after());
        found.push(Found {
            event: assembly.event().to_vec(),
            time_by: facts.time,
            filtered: facts.filtered,
            redacted: assembly.redacted().to_vec(),
            after: assembly.after(),
            next,
        });
    };
    for (index, line) in (from..).zip(&lines[from..]) {
        let mut next = assembly.line(line);
        if next == Next::Complete {
            take(&mut assembly, index);
            next = assembly.line(line);
        }
        match next {
            Next::Complete => panic!("it was shown twice, and not taken"),
            Next::Whole => take(&mut assembly, index + 1),
            Next::Open => assert!(assembly.is_open()),
            Next::Nothing => assert!(!assembly.is_open()),
        }
    }
    if assembly.is_open() {
        take(&mut assembly, lines.len());
    }
    assert_eq!(assembly.take(), None);
    found
}

/// The first byte chooses the settings, the second the time before; then follow the lines of a file.
#[test]
fn fuzz_line() {
    logweir_fuzz::target("proto/line", |input| {
        let mut input = Input::new(input);
        let settings = settings(input.byte());
        let mut carry = Carry::at(i64::from(input.byte()) * 7_000_000_000 + 1_000_000_000_000);
        let file = input.rest();
        carry.begin(file);
        let lines = split(file, carry.state.encoding);
        let work = if settings.rules.texts().is_empty() { WORK } else { WORK_WITH_RULES };
        let all = bounded(file.len(), work, || events(&lines, &settings, carry, 0));
        assert!(all.len() <= lines.len());
        for found in &all {
            is_right(found, &settings, file);
        }
        if !settings.rules.texts().is_empty() {
            let plain = Settings { rules: Arc::default(), ..settings.clone() };
            are_the_same(&events(&lines, &plain, carry, 0), &all, &settings);
        }
        // Whoever begins again between two events gets the same ones. In the last place, which may have none after it,
        // and in one other.
        let others = all.len().checked_sub(1).into_iter().chain(all.len().checked_div(2));
        for at in others.filter(|at| *at < all.len()) {
            let again = events(&lines, &settings, all[at].after, all[at].next);
            assert_eq!(again, all[at + 1..], "from the line {}", all[at].next);
        }
    });
}

/// Rules change the text of events, and which of them are any; nothing else.
fn are_the_same(plain: &[Found], ruled: &[Found], settings: &Settings) {
    assert_eq!(plain.len(), ruled.len());
    let means = |found: &Found| {
        let event = event::check(found.event.trim_ascii_end(), &FORM).ok()?;
        Some((event.timestamp_ms, event.service.as_str().to_owned(), event.level))
    };
    for (plain, ruled) in plain.iter().zip(ruled) {
        assert_eq!((plain.after, plain.next, plain.time_by), (ruled.after, ruled.next, ruled.time_by));
        assert_eq!(means(plain), means(ruled), "{plain:?} became {ruled:?}");
        assert_eq!(
            logweir_proto::ndjson::lines(&ruled.event).count(),
            logweir_proto::ndjson::lines(&plain.event).count()
        );
        let found = ruled.redacted.iter().any(|count| *count > 0);
        assert!(found || plain.event == ruled.event);
        // What the ready sets find is gone.
        if settings.rules.texts().replace.is_empty() && means(ruled).is_some() {
            let again = Settings {
                format: Format::Json,
                service: None,
                rules: Arc::clone(&RULES[1]),
                ..settings.clone()
            };
            let event = ruled.event.strip_suffix(b"\n").unwrap();
            let again = events(&[event], &again, Carry::at(0), 0);
            assert!(again[0].redacted.iter().all(|count| *count == 0), "{again:?}");
        }
    }
}

fn split(file: &[u8], encoding: Encoding) -> Vec<&[u8]> {
    let (mut rest, mut lines) = (file, Vec::new());
    while let Some((len, taken)) = encoding.line_end(rest) {
        lines.push(&rest[..len]);
        rest = &rest[taken..];
    }
    lines.push(rest);
    lines
}

fn is_right(found: &Found, settings: &Settings, file: &[u8]) {
    let (end, event) = found.event.split_last().expect("it has an end");
    assert!(*end == b'\n' && !event.contains(&b'\n'));
    // A byte that must be escaped becomes six, and the value of a pair can stand in its field and in the message. Besides:
    // the names of the fields, the service, the time, where it was written and that it was cut.
    // Texts that are longer than what they replace bring at most as much again.
    let most = if settings.rules.texts().replace.is_empty() { 12 } else { 48 };
    assert!(event.len() <= most * file.len() + 300);
    match event::check(event, &FORM).map_err(|rejection| rejection.code) {
        Ok(valid) => {
            // A time before 1970 is none for the parser, but goes out as it stands, and the collector says what is wrong.
            assert!(valid.timestamp_ms < 0 || valid.timestamp_ms == found.after.timestamp_ms);
            if let Some(given) = &settings.service {
                assert_eq!(valid.service.as_str(), given);
            }
            // What the agent has written, it reads as it is. Times before 1973 are the exception: written as
            // milliseconds, they look like seconds.
            let early = !(100_000_000_000..100_000_000_000_000).contains(&valid.timestamp_ms);
            let plain = Settings {
                format: Format::Auto,
                service: None,
                multiline_start: None,
                rules: Arc::default(),
                ..settings.clone()
            };
            let again = events(&[event], &plain, Carry::at(0), 0);
            assert!(early || again.len() == 1 && again[0].event == found.event, "{again:?}");
        }
        // Only a line that has something of its own can be wrong.
        Err(code) => {
            assert!(settings.format != Format::Text, "{code}");
            assert!(code != Code::MissingField, "what is missing has a default");
            assert!(code != Code::NotObject || settings.format == Format::Json);
            // Half a surrogate pair is no JSON, but in a line that is an object otherwise.
            let half = file.windows(2).any(|at| at == b"\\u");
            assert!(code != Code::NotJson || half || settings.format == Format::Json);
        }
    }
}

#[test]
fn fuzz_origin() {
    logweir_fuzz::target("proto/origin", |input| {
        let Ok(path) = std::str::from_utf8(input) else { return };
        if let Some(origin) = Origin::of_path(Path::new(path)) {
            let parts = [&origin.namespace, &origin.pod, &origin.container];
            assert!(parts.iter().all(|part| path.contains(part.as_str()) && !part.contains('/')));
        }
    });
}
