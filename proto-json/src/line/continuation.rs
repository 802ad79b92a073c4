//! Lines that by their form are a part of the event before: the stack traces of Java, Python, Go, Node, Ruby, .NET
//! and Rust.
//!
//! In a file whose lines usually have a time, a line without one continues the event before whatever it looks like;
//! there these forms only say that nothing is unusual about that.

/// What an event that isn't over yet is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trace {
    /// Nothing that has a form of its own.
    #[default]
    Not,
    /// After `Traceback (most recent call last):` and before the exception's name.
    Python,
    /// After `panic: …` or `goroutine 1 [running]:`.
    Go,
    /// After `thread 'main' panicked at …:`, before the message.
    Rust,
}

/// How lines begin that are part of a stack trace.
const BEGINNINGS: [&[u8]; 22] = [
    // Java, and what its tools shorten.
    b"Caused by: ",
    b"Suppressed: ",
    b"Wrapped by: ",
    b"... ",
    // Python.
    b"Traceback (most recent call last):",
    b"During handling of the above exception, another exception occurred:",
    b"The above exception was the direct cause of the following exception:",
    // Go.
    b"goroutine ",
    b"created by ",
    b"[signal ",
    b"exit status ",
    b"runtime stack:",
    // Node.
    b"at ",
    b"Node.js v",
    // Ruby.
    b"from ",
    // .NET.
    b"---> ",
    b"--- End of ",
    // Rust.
    b"stack backtrace:",
    b"note: run with `RUST_BACKTRACE",
    b"note: Some details are omitted",
    // The end of an object that was printed over several lines.
    b"}",
    b"]",
];

/// How events begin that are stack traces themselves: nothing was logged before them.
const HEADINGS: [&[u8]; 5] = [
    b"Traceback (most recent call last):",
    b"Exception in thread ",
    b"Unhandled exception",
    b"Uncaught ",
    b"fatal error: ",
];

impl Trace {
    /// Whether a line without a time is part of the event, by its form.
    pub(super) fn takes(self, line: &[u8]) -> bool {
        is_indented(line)
            || BEGINNINGS.iter().any(|b| line.starts_with(b)) && !is_sentence(line)
            || is_qualified_exception(line)
            || match self {
                Trace::Not => false,
                Trace::Python | Trace::Rust => true,
                Trace::Go => is_go_frame(line),
            }
    }

    /// What the event is in the middle of after this line.
    pub(super) fn after(self, line: &[u8]) -> Self {
        if line.starts_with(b"Traceback (most recent call last):") {
            return Trace::Python;
        }
        if [b"panic: ".as_slice(), b"fatal error: ", b"goroutine "].iter().any(|b| line.starts_with(b)) {
            return Trace::Go;
        }
        if is_panic(line) {
            return Trace::Rust;
        }
        if self == Trace::Rust {
            return Trace::Not;
        }
        // The exception's name ends what Python's heading began.
        if self == Trace::Python && !is_indented(line) { Trace::Not } else { self }
    }
}

/// Whether the line is the heading of a stack trace that begins an event.
pub(super) fn is_heading(line: &[u8]) -> bool {
    HEADINGS.iter().any(|heading| line.starts_with(heading)) || is_panic(line)
}

fn is_panic(line: &[u8]) -> bool {
    line.starts_with(b"thread '") && memchr::memmem::find(line, b"' panicked at ").is_some()
}

fn is_indented(line: &[u8]) -> bool {
    line.starts_with(b"\t") || line.starts_with(b"  ")
}

/// The words of `BEGINNINGS` that are words of prose, too.
fn is_sentence(line: &[u8]) -> bool {
    let has = |what: &[u8]| memchr::memchr2(what[0], what[1], line).is_some();
    match line {
        // `at main (app.js:3:7)`, `from app.rb:3:in 'main'`
        [b'a', b't', b' ', ..] => !has(b"(:"),
        [b'f', b'r', b'o', b'm', b' ', ..] => !has(b"::"),
        // `... 12 more`
        [b'.', b'.', b'.', b' ', rest @ ..] => !rest.first().is_some_and(u8::is_ascii_digit),
        // `goroutine 7 [running]:`
        [b'g', b'o', b'r', ..] => !line.trim_ascii_end().ends_with(b"]:"),
        [b'}' | b']', rest @ ..] => rest.len() > 2,
        _ => false,
    }
}

/// `java.lang.IllegalStateException: …`, `System.InvalidOperationException: …`: the name has dots.
fn is_qualified_exception(line: &[u8]) -> bool {
    let len = line.iter().take(256).take_while(|b| b.is_ascii_alphanumeric() || b"._$".contains(b)).count();
    let name = &line[..len];
    let named = [b"Exception".as_slice(), b"Error", b"Throwable"].iter().any(|end| name.ends_with(end));
    named && name.contains(&b'.') && matches!(line.get(len), None | Some(b':'))
}

/// `main.run(0xc000012345, 0x3)`, `net/http.(*Server).Serve(...)`
fn is_go_frame(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    line.ends_with(b")") && line.contains(&b'(') && line.contains(&b'.') && !line.starts_with(b"(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_traces_and_sentences_that_look_like_them() {
        for line in [
            "\tat com.acme.Main.main(Main.java:7)",
            "Caused by: java.io.IOException: broken pipe",
            "... 12 more",
            "java.lang.IllegalStateException: no",
            "    raise ValueError('x')",
            "goroutine 1 [running]:",
            "at main (/srv/app.js:3:7)",
            "from app.rb:3:in 'main'",
            "   at Shop.Pay.Charge() in /src/Pay.cs:line 12",
            "--- End of stack trace from previous location ---",
            "stack backtrace:",
            "}",
        ] {
            assert!(Trace::Not.takes(line.as_bytes()), "{line}");
        }
        for line in [
            "at last it works",
            "from now on",
            "... and so on",
            "goroutine pool is full",
            "ValueError: x",
            "Error: boom",
            "main.run(0x1)",
            "hello",
            "}; done",
        ] {
            assert!(!Trace::Not.takes(line.as_bytes()), "{line}");
        }
        assert!(Trace::Go.takes(b"net/http.(*Server).Serve(0xc000012345, {0x7f, 0x3})"));
        assert!(Trace::Python.takes(b"ValueError: x"));
        let python = Trace::Not.after(b"Traceback (most recent call last):");
        assert_eq!(python.after(b"  File \"x.py\", line 3, in <module>"), Trace::Python);
        assert_eq!(python.after(b"ValueError: x"), Trace::Not);
        assert!(
            is_heading(b"thread 'main' panicked at src/main.rs:2:5:") && !is_heading(b"thread 'main' ended")
        );
    }
}
