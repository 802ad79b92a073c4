//! The service that a file's lines belong to when nothing else says so.

use super::Origin;
use crate::limits::MAX_SERVICE_CHARS;
use std::path::Path;

/// Endings that say how a file is written, compressed or rotated, and not whose it is.
const ENDINGS: [&str; 18] = [
    "log", "logs", "txt", "text", "json", "jsonl", "ndjson", "out", "err", "stdout", "stderr", "gz", "zst",
    "bz2", "xz", "old", "bak", "tmp",
];

/// The service of a file: its name without its endings (`/var/log/api.log` and `api.log.1` are `api`), with
/// characters that a service name can't have replaced by `-`.
///
/// Endings are those of kind, compression and rotation (numbers and dates, as in `api.log-20261124` and
/// `api.2026-11-24.log`), however many there are, or else the last one, whatever it is. The answer is always
/// a valid service name; a name of which nothing is left is `unknown`. Where the name says which container it is, that
/// is the service; docker's `ID-json.log` is the ID's first 12 digits.
#[must_use]
pub fn service_of_path(path: &Path) -> String {
    if let Some(origin) = Origin::of_path(path) {
        return valid(&origin.container);
    }
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name = name.trim_start_matches('.');
    valid(docker_id(name).unwrap_or_else(|| without_endings(name)))
}

/// The short form of a container's ID.
fn docker_id(name: &str) -> Option<&str> {
    let (id, ending) = name.split_at_checked(64)?;
    let is_id = id.bytes().all(|b| b.is_ascii_hexdigit()) && ending.starts_with("-json.log");
    is_id.then(|| &id[..12])
}

fn valid(stem: &str) -> String {
    let mut service: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-') { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(MAX_SERVICE_CHARS)
        .collect();
    if service.is_empty() {
        service.push_str("unknown");
    }
    service
}

fn without_endings(name: &str) -> &str {
    let mut rest = name;
    while let Some(shorter) = without_known_ending(rest) {
        rest = shorter;
    }
    if rest.len() == name.len()
        && let Some((stem, _)) = name.rsplit_once('.')
    {
        return stem;
    }
    rest
}

fn without_known_ending(name: &str) -> Option<&str> {
    if let Some(stem) = without_date(name) {
        return Some(stem);
    }
    let (stem, ending) = name.rsplit_once('.')?;
    let number = !ending.is_empty() && ending.bytes().all(|b| b.is_ascii_digit());
    let known = ENDINGS.iter().any(|e| ending.eq_ignore_ascii_case(e));
    (!stem.is_empty() && (number || known)).then_some(stem)
}

/// Without `-20261124`, `.2026-11-24` and the like at the end; also with the hour or a Unix time after it.
fn without_date(name: &str) -> Option<&str> {
    let is_date = |text: &str| {
        let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        matches!(
            shape.as_str(),
            "99999999" | "9999-99-99" | "9999_99_99" | "9999999999" | "9999-99-99-99" | "99999999-99"
        )
    };
    name.char_indices()
        .filter(|(at, c)| *at > 0 && matches!(c, '-' | '_' | '.'))
        .find(|(at, _)| is_date(&name[at + 1..]))
        .map(|(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_without_its_endings() {
        for (path, service) in [
            ("/var/log/api.log", "api"),
            ("api.log.1", "api"),
            ("api.log.12.gz", "api"),
            ("api.log-20261124", "api"),
            ("api.log-20261124.gz", "api"),
            ("api.log.2026-11-24", "api"),
            ("api-2026-11-24.log", "api"),
            ("/srv/a/nginx.access.log", "nginx.access"),
            ("com.acme.api.log", "com.acme.api"),
            ("web-1.log", "web-1"),
            ("checkout.ndjson", "checkout"),
            ("checkout.data", "checkout"),
            ("syslog", "syslog"),
            (".hidden.log", "hidden"),
            ("my app (old).log", "my-app--old-"),
            ("größe.log", "gr--e"),
            ("-.log", "unknown"),
            ("1.log", "1"),
            ("20261124.log", "20261124"),
            ("/", "unknown"),
            ("", "unknown"),
            ("/var/log/pods/shop_pay-0_0a1b/app/0.log", "app"),
        ] {
            assert_eq!(service_of_path(Path::new(path)), service, "{path}");
        }
    }

    #[test]
    fn a_containers_name_or_id() {
        let id = "0123456789abcdef".repeat(4);
        for (path, service) in [
            (format!("/var/log/containers/pay-0_shop_app-{id}.log"), "app"),
            (format!("/var/lib/docker/containers/{id}/{id}-json.log"), "0123456789ab"),
            (format!("/var/lib/docker/containers/{id}/{id}-json.log.1"), "0123456789ab"),
        ] {
            assert_eq!(service_of_path(Path::new(&path)), service, "{path}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = std::ffi::OsStr::from_bytes(b"a\xffb.log");
        assert_eq!(service_of_path(Path::new(name)), "a-b");
    }

    proptest! {
        #[test]
        fn always_a_valid_name(name in ".{0,200}") {
            let service = service_of_path(Path::new(&name));
            prop_assert!((1..=MAX_SERVICE_CHARS).contains(&service.len()));
            prop_assert!(service.starts_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert!(service.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:-".contains(&b)));
        }
    }
}
