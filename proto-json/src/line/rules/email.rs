//! Addresses of e-mail.
//!
//! `@` may also be written as in URLs (`%40`) and in JSON inside of a string (`\u0040`). What only looks like an address is
//! left alone: `git@github.com:org/repo`, `user@1000.service`, `icon@2x.png`, `react@18.2.0-rc.beta`.

use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

static ADDRESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let label = r"[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?";
    Regex::new(&format!(
        r"([\p{{L}}\p{{N}}._%+-]+)(?:@|%40|\\u0040)((?:{label}\.)+(xn--[A-Za-z0-9-]+|\p{{L}}{{2,}}))"
    ))
    .ok()
});

/// Names under which people are not reached, but repositories are.
const REPOSITORIES: [&str; 3] = ["git", "hg", "svn"];

/// What ends systemd's units with instances, and names of files.
const NO_DOMAINS: [&str; 22] = [
    "service",
    "socket",
    "timer",
    "target",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "path",
    "device",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "js",
    "css",
    "json",
    "yaml",
    "log",
];

/// Where they stand, in order.
pub(super) fn find(text: &str) -> impl Iterator<Item = Range<usize>> {
    let regex = ADDRESS.as_ref().filter(|_| may_hold(text.as_bytes()));
    let all = regex.into_iter().flat_map(move |regex| regex.captures_iter(text));
    all.filter_map(|found| {
        let [local, domain, top] = [1, 2, 3].map(|group| found.get(group).map_or("", |part| part.as_str()));
        is_address(local, domain, top).then(|| found.get_match().range())
    })
}

/// Most texts have no sign that could be one, and a byte is found faster than a form.
fn may_hold(text: &[u8]) -> bool {
    memchr::memchr(b'@', text).is_some()
        || memchr::memmem::find(text, b"%40").is_some()
        || memchr::memmem::find(text, b"\\u0040").is_some()
}

fn is_address(local: &str, domain: &str, top: &str) -> bool {
    let is_version = |domain: &str| {
        let mut labels = domain.split('.').map(|label| label.bytes().all(|b| b.is_ascii_digit()));
        labels.next() == Some(true) && labels.next() == Some(true)
    };
    !REPOSITORIES.contains(&local) && !NO_DOMAINS.contains(&top) && !is_version(domain)
}
