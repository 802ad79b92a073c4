//! Short texts that stand for something: batches, services, levels, encodings.

use logweir_fuzz::{Work, bounded};
use logweir_proto::encoding::Encoding;
use logweir_proto::line::service_of_path;
use logweir_proto::{BatchId, Level};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const WORK: Work = Work { steps: (100, 3_000), memory: (0, 0) };

#[test]
fn fuzz_batch_id() {
    logweir_fuzz::target("proto/batch_id", |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let ours = bounded(text.len(), WORK, || text.parse::<BatchId>());
        assert_eq!(ours.is_ok(), is_batch_id(text), "{text:?}: {ours:?}");
        let Ok(batch) = ours else { return };
        let again = batch.to_string();
        assert_eq!(again, text.to_ascii_lowercase());
        assert_eq!(again.parse(), Ok(batch));
        assert!(batch.holds(1) && !batch.holds(0));
        assert_eq!(batch.holds(2), batch.seq.plus(1).is_some());
    });
}

fn is_batch_id(text: &str) -> bool {
    let Some((uuid, seq)) = text.split_once('/') else { return false };
    let groups: Vec<&str> = uuid.split('-').collect();
    let hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let form = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(|g| hex(g));
    let nil = uuid.chars().all(|c| c == '0' || c == '-');
    let decimal = seq.chars().all(|c| c.is_ascii_digit()) && !seq.starts_with('0');
    let fits = seq.parse::<u128>().is_ok_and(|n| (1..=(1 << 63) - 2).contains(&n));
    form && !nil && decimal && fits
}

#[test]
fn fuzz_service_of_path() {
    logweir_fuzz::target("proto/service_of_path", |input| {
        // No file's name is longer; what comes before it doesn't matter.
        let name = &input[..input.len().min(255)];
        let service = service_of_path(Path::new(OsStr::from_bytes(name)));
        assert!((1..=128).contains(&service.len()), "{service:?}");
        assert!(service.starts_with(|c: char| c.is_ascii_alphanumeric()), "{service:?}");
        assert!(service.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:-".contains(&b)), "{service:?}");
        if !name.is_empty() && !name.contains(&b'/') {
            let inside = Path::new("/var/log").join(OsStr::from_bytes(name));
            assert!(name == b"." || name == b".." || service_of_path(&inside) == service);
        }

        let Ok(text) = std::str::from_utf8(input) else { return };
        let level = bounded(text.len(), WORK, || Level::parse(text));
        let names = Level::ALL.iter().map(|level| (level.as_str(), *level)).chain(Level::SYNONYMS);
        let lower = text.to_ascii_lowercase();
        assert_eq!(level, names.into_iter().find(|(name, _)| *name == lower).map(|(_, level)| level));
        let encoding = Encoding::parse(text).map(Encoding::as_str);
        assert_eq!(encoding, ["zstd", "gzip", "identity"].into_iter().find(|name| lower.trim() == *name));
    });
}
