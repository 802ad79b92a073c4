//! What of a file's events is left out, and what of their text is replaced before anything of it leaves the parser.
//!
//! ```text
//! lines of an event ─► include ─► exclude ─► filtered: it is no event, but what it says of its neighbours holds
//! event's JSON ─► own rules ─► bearer, email, card ─► the same event, with fixed text in the places of what was found
//! ```
//!
//! Invariants: both are functions of the rules and the event alone; a redacted event is valid exactly when it was valid
//! before, and bears the same time, service and level; without rules nothing is looked at.
//!
//! Limits: [`MAX_RULES`] of each kind, of [`MAX_TEXT_BYTES`] together, each compiled to at most 1 MiB. An event that
//! would become longer than [`MAX_REDACTED_BYTES`] by what is written in the places is written with nothing there.

mod bearer;
mod card;
mod email;
mod event;

use regex::bytes::{RegexSet, RegexSetBuilder};
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The most rules of each kind.
pub const MAX_RULES: usize = 16;
/// The most bytes of all rules together, as they are written: the agent's journal holds them with each batch.
pub const MAX_TEXT_BYTES: usize = 4 << 10;
/// No event grows beyond this by being redacted.
pub const MAX_REDACTED_BYTES: usize = 256 << 10;

/// The most bytes that a rule or a set of them takes when it is compiled.
const COMPILED_BYTES: usize = 1 << 20;

/// Rules as they are written in flags, in files and in the agent's journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleTexts {
    /// Only events in which one of these expressions is found are kept (`--include-lines`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Events in which one of these is found are left out (`--exclude-lines`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// What is replaced besides (`--redact`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<ReadySet>,
    /// What is replaced by a text of its own (`--redact-regex`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<Replacement>,
}

impl RuleTexts {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.include.is_empty()
            && self.exclude.is_empty()
            && self.redact.is_empty()
            && self.replace.is_empty()
    }

    fn bytes(&self) -> usize {
        let expressions = self.include.iter().chain(&self.exclude).map(String::len);
        let pairs = self.replace.iter().map(|rule| rule.regex.len() + rule.text.len());
        expressions.chain(pairs).sum()
    }
}

/// What is recognised without an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadySet {
    /// What comes with `Authorization: Bearer`, and what is a token without doubt.
    Bearer,
    /// Addresses of e-mail.
    Email,
    /// Numbers of payment cards. Last, since the others leave edges of words where there were none.
    Card,
}

impl ReadySet {
    /// All of them, in the order in which they are applied.
    pub const ALL: [ReadySet; 3] = [ReadySet::Bearer, ReadySet::Email, ReadySet::Card];

    /// Its name, as `--redact` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ReadySet::Bearer => "bearer",
            ReadySet::Card => "card",
            ReadySet::Email => "email",
        }
    }

    /// What is written in the place of what was found.
    const fn text(self) -> &'static str {
        match self {
            ReadySet::Bearer => "[token]",
            ReadySet::Card => "[card]",
            ReadySet::Email => "[email]",
        }
    }
}

impl FromStr for ReadySet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let set = Self::ALL.into_iter().find(|set| set.as_str() == text);
        set.ok_or_else(|| format!("known are {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// An expression, and the text that is written in the place of what it finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, String)", into = "(String, String)")]
pub struct Replacement {
    /// The expression.
    pub regex: String,
    /// The text, as it is: nothing in it refers to what was found.
    pub text: String,
}

impl From<(String, String)> for Replacement {
    fn from((regex, text): (String, String)) -> Self {
        Self { regex, text }
    }
}

impl From<Replacement> for (String, String) {
    fn from(rule: Replacement) -> Self {
        (rule.regex, rule.text)
    }
}

impl FromStr for Replacement {
    type Err = String;

    /// `REGEX=>TEXT`; the text begins after the last `=>`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (regex, text) =
            text.rsplit_once("=>").ok_or("say REGEX=>TEXT, such as 'sid=[0-9a-f]+=>sid=***'")?;
        Ok(Self { regex: regex.to_owned(), text: text.to_owned() })
    }
}

/// Why an event is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// There are expressions of what is kept, and none was found in it.
    Include,
    /// This one of what is left out was found; counted from 1.
    Exclude(usize),
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Filter::Include => f.write_str("include"),
            Filter::Exclude(number) => write!(f, "exclude-{number}"),
        }
    }
}

/// Rules, ready to be applied. By default there is none.
#[derive(Debug, Default)]
pub struct Rules {
    texts: RuleTexts,
    include: Option<RegexSet>,
    exclude: Option<RegexSet>,
    redactions: Vec<Redaction>,
}

/// One rule of what is replaced.
#[derive(Debug)]
struct Redaction {
    name: String,
    finder: Finder,
    text: String,
}

#[derive(Debug)]
enum Finder {
    Regex(Regex),
    Ready(ReadySet),
}

impl Rules {
    /// Compiles rules.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub fn new(mut texts: RuleTexts) -> Result<Self, String> {
        texts.redact.sort_unstable();
        texts.redact.dedup();
        let counts = [
            ("include-lines", texts.include.len()),
            ("exclude-lines", texts.exclude.len()),
            ("redact-regex", texts.replace.len()),
        ];
        if let Some((flag, count)) = counts.into_iter().find(|(_, count)| *count > MAX_RULES) {
            return Err(format!("--{flag} is given {count} times; {MAX_RULES} is the most: join some by |"));
        }
        let bytes = texts.bytes();
        if bytes > MAX_TEXT_BYTES {
            return Err(format!(
                "--include-lines, --exclude-lines and --redact-regex have {bytes} bytes together; {MAX_TEXT_BYTES} is \
                 the most, since the journal holds them with each batch"
            ));
        }
        let mut redactions = Vec::new();
        for (number, rule) in (1..).zip(&texts.replace) {
            let finder = Finder::Regex(own_rule(rule)?);
            redactions.push(Redaction { name: format!("regex-{number}"), finder, text: rule.text.clone() });
        }
        redactions.extend(texts.redact.iter().map(|set| Redaction {
            name: set.as_str().to_owned(),
            finder: Finder::Ready(*set),
            text: set.text().to_owned(),
        }));
        let include = set("include-lines", &texts.include)?;
        let exclude = set("exclude-lines", &texts.exclude)?;
        Ok(Self { texts, include, exclude, redactions })
    }

    /// As they were written.
    #[must_use]
    pub const fn texts(&self) -> &RuleTexts {
        &self.texts
    }

    /// The names under which events that are left out are counted.
    pub fn filters(&self) -> impl Iterator<Item = Filter> {
        let include = self.include.is_some().then_some(Filter::Include);
        include.into_iter().chain((1..=self.texts.exclude.len()).map(Filter::Exclude))
    }

    /// The names of what is replaced, in the order in which they are applied.
    pub fn redactions(&self) -> impl Iterator<Item = &str> {
        self.redactions.iter().map(|rule| rule.name.as_str())
    }

    /// Why the event of these lines is left out; `None` when it isn't.
    pub(super) fn filter(&self, lines: &[u8]) -> Option<Filter> {
        if self.include.is_none() && self.exclude.is_none() {
            return None;
        }
        let lines = lines.trim_ascii_end();
        if self.include.as_ref().is_some_and(|set| !set.is_match(lines)) {
            return Some(Filter::Include);
        }
        let exclude = self.exclude.as_ref().filter(|set| set.is_match(lines))?;
        exclude.matches(lines).iter().next().map(|index| Filter::Exclude(index + 1))
    }

    /// Replaces what the rules find in an event, which ends with `\n`. In `found`, how many places that were, by rule.
    pub(super) fn redact(&self, event: &mut Vec<u8>, found: &mut Vec<u32>) {
        found.clear();
        if !self.redactions.is_empty() {
            found.resize(self.redactions.len(), 0);
            event::redact(self, event, found);
        }
    }

    /// The text with what the rules find in it replaced; `None` when nothing is found. It stands under `key` in an
    /// object, or alone.
    ///
    /// # Errors
    /// When it would become longer than `places` allow.
    fn text(
        &self,
        key: &str,
        text: &str,
        places: Places,
        found: &mut [u32],
    ) -> Result<Option<String>, TooLong> {
        let mut new: Option<String> = None;
        for (rule, found) in self.redactions.iter().zip(found) {
            let old = new.as_deref().unwrap_or(text);
            if let Some(replaced) = rule.replace(key, old, places, found)? {
                new = Some(replaced);
            }
        }
        Ok(new)
    }
}

/// What is written in the places of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// The rules' texts.
    Text,
    /// Nothing, since with them the event would be too long.
    Nothing,
}

/// See [`MAX_REDACTED_BYTES`].
struct TooLong;

impl Redaction {
    fn replace(
        &self,
        key: &str,
        old: &str,
        places: Places,
        found: &mut u32,
    ) -> Result<Option<String>, TooLong> {
        let text = if places == Places::Text { self.text.as_str() } else { "" };
        let (mut new, mut at) = (String::new(), 0);
        let mut place = |Range { start, end }: Range<usize>| {
            new.push_str(&old[at..start]);
            new.push_str(text);
            at = end;
            *found = found.saturating_add(1);
            if new.len() > old.len().max(MAX_REDACTED_BYTES) { Err(TooLong) } else { Ok(()) }
        };
        match &self.finder {
            Finder::Regex(regex) => {
                let found = regex.find_iter(old).filter(|found| !found.is_empty());
                found.map(|found| found.range()).try_for_each(&mut place)?;
            }
            Finder::Ready(ReadySet::Bearer) => bearer::find(key, old).into_iter().try_for_each(&mut place)?,
            Finder::Ready(ReadySet::Card) => card::find(old).into_iter().try_for_each(&mut place)?,
            Finder::Ready(ReadySet::Email) => email::find(old).try_for_each(&mut place)?,
        }
        if at == 0 {
            return Ok(None);
        }
        new.push_str(&old[at..]);
        Ok(Some(new))
    }
}

fn own_rule(rule: &Replacement) -> Result<Regex, String> {
    let Replacement { regex, text } = rule;
    let wrong = |why: String| Err(format!("--redact-regex '{regex}=>{text}': {why}"));
    if text.chars().any(char::is_control) {
        return wrong("the text after => must have no control characters".to_owned());
    }
    match RegexBuilder::new(regex).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).build() {
        Ok(compiled) if compiled.is_match("") => {
            wrong("it is found in an empty text, and so everywhere".to_owned())
        }
        Ok(compiled) => Ok(compiled),
        Err(error) => wrong(error.to_string()),
    }
}

fn set(flag: &str, expressions: &[String]) -> Result<Option<RegexSet>, String> {
    if expressions.is_empty() {
        return Ok(None);
    }
    let build = |expressions: &[String]| {
        RegexSetBuilder::new(expressions).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).build()
    };
    // One by one first, so that a message names the one that is wrong.
    for expression in expressions {
        build(std::slice::from_ref(expression))
            .map_err(|error| format!("--{flag} {expression:?}: {error}"))?;
    }
    build(expressions).map(Some).map_err(|error| format!("all --{flag} together: {error}"))
}

#[cfg(test)]
mod tests;
