//! A JSON scanner (RFC 8259) that borrows: it tells where values begin and end, and never builds them.
//!
//! Invariants: it takes exactly the grammar of RFC 8259, and no more; it neither recurses nor allocates, however
//! deep a text is nested, until it is nested deeper than 64. Two things are left to the caller, since they only
//! matter at the end: whether the text is UTF-8 (asked only when [`Scanner::non_ascii`]), and what becomes of
//! half a surrogate pair (`"\ud800"`), which the grammar allows but no Unicode text can hold.

mod plain;

pub(crate) use plain::run as plain_run;
use std::borrow::Cow;

/// Where a text breaks the grammar, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken {
    /// In bytes.
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    String(Text<'a>),
    Number,
    Boolean,
    Null,
    Array,
    Object,
}

/// One value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) kind: Kind<'a>,
    /// Its text, without white space around it.
    pub(crate) json: &'a [u8],
    /// How deep it is nested: 0 for anything but arrays and objects, 1 for `[]`, 2 for `[[]]`.
    pub(crate) depth: usize,
}

/// What stands between the quotes of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Value<'a> {
    /// What a string holds; `None` for other values, and for half a surrogate pair.
    pub(crate) fn text(&self) -> Option<Cow<'a, [u8]>> {
        let Kind::String(text) = self.kind else { return None };
        match text.plain() {
            Some(plain) => Some(Cow::Borrowed(plain)),
            None => serde_json::from_slice::<String>(self.json).ok().map(|s| Cow::Owned(s.into_bytes())),
        }
    }
}

/// A place in a JSON text.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
    /// Whether there may have been a byte that is no ASCII.
    non_ascii: bool,
    /// Where the first half of a surrogate pair stands alone.
    lone_surrogate: Option<usize>,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0, non_ascii: false, lone_surrogate: None }
    }

    /// Where half a surrogate pair stands alone in what was scanned.
    pub(crate) const fn lone_surrogate(&self) -> Option<usize> {
        self.lone_surrogate
    }

    /// What is wrong at this place.
    pub(crate) const fn broken(&self, what: &'static str) -> Broken {
        Broken { offset: self.at, what }
    }

    /// The next byte that is no white space; it stays to be taken.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.json.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes the byte that [`Scanner::peek`] gave.
    pub(crate) const fn take(&mut self) {
        self.at += 1;
    }

    /// Takes `byte`, after white space, or says that it's missing.
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Broken> {
        if self.peek() != Some(byte) {
            return Err(self.broken(what));
        }
        self.take();
        Ok(())
    }

    /// Takes a key and its colon.
    pub(crate) fn key(&mut self) -> Result<Text<'a>, Broken> {
        self.expect(b'"', "a key in quotes was expected")?;
        let key = self.string()?;
        self.expect(b':', "a colon was expected")?;
        Ok(key)
    }

    /// Takes one value of any kind.
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Broken> {
        let first = self.peek();
        let start = self.at;
        let mut depth = 0;
        let kind = match first {
            Some(b'{' | b'[') => {
                depth = self.nested()?;
                if first == Some(b'{') { Kind::Object } else { Kind::Array }
            }
            _ => self.scalar()?,
        };
        Ok(Value { kind, json: &self.json[start..self.at], depth })
    }

    /// Says whether nothing but white space is left, and all that was scanned is UTF-8.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        if self.peek().is_some() {
            return Err(self.broken("something follows the end of the value"));
        }
        if self.non_ascii
            && let Err(error) = std::str::from_utf8(self.json)
        {
            return Err(Broken { offset: error.valid_up_to(), what: "a byte is not UTF-8" });
        }
        Ok(())
    }

    /// A string, number or literal that begins right here.
    fn scalar(&mut self) -> Result<Kind<'a>, Broken> {
        match self.json.get(self.at) {
            Some(b'"') => {
                self.take();
                self.string().map(Kind::String)
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true", Kind::Boolean),
            Some(b'f') => self.literal(b"false", Kind::Boolean),
            Some(b'n') => self.literal(b"null", Kind::Null),
            Some(0xef) if self.json[self.at..].starts_with(b"\xef\xbb\xbf") => {
                Err(self.broken("a byte order mark was found"))
            }
            Some(_) => Err(self.broken("a value was expected")),
            None => Err(self.broken("the text ends where a value was expected")),
        }
    }

    fn literal(&mut self, word: &[u8], kind: Kind<'a>) -> Result<Kind<'a>, Broken> {
        if !self.json[self.at..].starts_with(word) {
            return Err(self.broken("a value was expected"));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind<'a>, Broken> {
        if self.json.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        // After a zero no digit may follow; what does is then no comma or bracket.
        match self.json.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.json.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.json.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.json.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while self.json.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { Err(self.broken("a digit was expected")) } else { Ok(()) }
    }

    /// The rest of a string whose opening quote is taken.
    fn string(&mut self) -> Result<Text<'a>, Broken> {
        let start = self.at;
        let mut escaped = false;
        loop {
            let (len, non_ascii) = plain::run(&self.json[self.at..]);
            self.non_ascii |= non_ascii;
            self.at += len;
            match self.json.get(self.at) {
                Some(b'"') => {
                    let raw = &self.json[start..self.at];
                    self.take();
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.broken("a control character in a string must be escaped")),
                None => return Err(self.broken("the text ends inside a string")),
            }
        }
    }

    /// One escape, or the two of a surrogate pair.
    fn escape(&mut self) -> Result<(), Broken> {
        match self.json.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let rest = &self.json[self.at..];
                let Some(unit) = utf16_unit(rest) else {
                    return Err(self.broken("four hex digits must follow \\u"));
                };
                if let 0xdc00..=0xdfff = unit {
                    self.lone_surrogate.get_or_insert(self.at);
                } else if let 0xd800..=0xdbff = unit {
                    if let Some(0xdc00..=0xdfff) = utf16_unit(&rest[6..]) {
                        self.at += 6;
                    } else {
                        self.lone_surrogate.get_or_insert(self.at);
                    }
                }
                self.at += 6;
                Ok(())
            }
            Some(_) => Err(self.broken("an escape that JSON doesn't know was found")),
            None => Err(self.broken("the text ends inside a string")),
        }
    }

    /// An array or object that begins right here; how deep it is nested.
    fn nested(&mut self) -> Result<usize, Broken> {
        let mut open = Open::default();
        let mut deepest = 0;
        loop {
            // Here stands a value.
            let is_empty = match self.peek() {
                Some(b'{') => {
                    self.take();
                    open.push(true);
                    if self.peek() == Some(b'}') {
                        true
                    } else {
                        self.key()?;
                        false
                    }
                }
                Some(b'[') => {
                    self.take();
                    open.push(false);
                    self.peek() == Some(b']')
                }
                _ => {
                    self.scalar()?;
                    true
                }
            };
            deepest = deepest.max(open.depth);
            if !is_empty {
                continue;
            }
            // Here a value has ended, or an array or object was just opened that is empty.
            loop {
                match (self.peek(), open.is_object()) {
                    (Some(b','), true) => {
                        self.take();
                        self.key()?;
                        break;
                    }
                    (Some(b','), false) => {
                        self.take();
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.take();
                        open.pop();
                        if open.depth == 0 {
                            return Ok(deepest);
                        }
                    }
                    (None, _) => return Err(self.broken("the text ends inside an array or object")),
                    (_, true) => return Err(self.broken("a comma or } was expected")),
                    (_, false) => return Err(self.broken("a comma or ] was expected")),
                }
            }
        }
    }
}

/// The arrays and objects that are open, a bit each; a set bit is an object.
#[derive(Default)]
struct Open {
    depth: usize,
    /// The innermost ones, the last of them in the lowest bit.
    top: u64,
    /// Full words of those further out. Nothing that is valid gets here.
    below: Vec<u64>,
}

impl Open {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.below.push(self.top);
        }
        self.top = self.top << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.top >>= 1;
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.top = self.below.pop().unwrap_or_default();
        }
    }

    const fn is_object(&self) -> bool {
        self.top & 1 == 1
    }
}

/// The number of an escape such as `\u00e9` at the beginning of `text`.
pub(crate) fn utf16_unit(text: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = text else { return None };
    digits.get(..4)?.iter().try_fold(0, |unit, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(unit << 4 | u16::from(value))
    })
}

impl<'a> Text<'a> {
    /// The bytes between the quotes where they need no decoding.
    pub(crate) const fn plain(&self) -> Option<&'a [u8]> {
        if self.escaped { None } else { Some(self.raw) }
    }

    /// The bytes between the quotes, as they are written.
    pub(crate) const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What the string holds, byte by byte, as far as it is ASCII; anything else is some byte over 127 for each
    /// character or part of one.
    pub(crate) const fn ascii(&self) -> Ascii<'a> {
        Ascii { rest: self.raw }
    }
}

/// See [`Text::ascii`].
pub(crate) struct Ascii<'a> {
    rest: &'a [u8],
}

impl Iterator for Ascii<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *first != b'\\' {
            return Some(*first);
        }
        let (letter, after) = rest.split_first()?;
        let (byte, rest) = match letter {
            b'b' => (0x08, after),
            b'f' => (0x0c, after),
            b'n' => (b'\n', after),
            b'r' => (b'\r', after),
            b't' => (b'\t', after),
            b'u' => {
                let hex = after.get(..4).and_then(|d| std::str::from_utf8(d).ok());
                let unit = hex.and_then(|d| u16::from_str_radix(d, 16).ok());
                let byte = unit.and_then(|u| u8::try_from(u).ok()).filter(u8::is_ascii);
                (byte.unwrap_or(0xff), after.get(4..).unwrap_or_default())
            }
            _ => (*letter, after),
        };
        self.rest = rest;
        Some(byte)
    }
}

#[cfg(test)]
mod tests;
