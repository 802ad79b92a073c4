use super::*;
use proptest::prelude::*;
use serde::de::IgnoredAny;

/// Where one value ends, and how deep it is nested.
fn scan(text: &[u8]) -> Result<usize, Broken> {
    let mut json = Scanner::new(text);
    let depth = json.value()?.depth;
    json.end().map(|()| depth)
}

fn what(text: &str) -> (usize, &'static str) {
    let broken = scan(text.as_bytes()).unwrap_err();
    (broken.offset, broken.what)
}

#[test]
fn depth_is_counted_across_words_of_the_stack() {
    for depth in [1, 2, 63, 64, 65, 127, 128, 129, 200, 100_000] {
        let arrays = "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(scan(arrays.as_bytes()), Ok(depth));
        let mixed = format!("{}{}", r#"{"a":["#.repeat(depth), "]}".repeat(depth));
        assert_eq!(scan(mixed.as_bytes()), Ok(2 * depth));
        let twice = format!("[{mixed},[{mixed}]]");
        assert_eq!(scan(twice.as_bytes()), Ok(2 * depth + 2));
        // One bracket of the wrong kind, at the far end.
        let wrong = mixed[..mixed.len() - 1].to_owned() + "]";
        assert!(scan(wrong.as_bytes()).is_err());
    }
}

#[test]
fn errors_say_where_and_what() {
    for (text, error) in [
        ("", (0, "the text ends where a value was expected")),
        ("  x", (2, "a value was expected")),
        ("\u{feff}{}", (0, "a byte order mark was found")),
        ("[1 2]", (3, "a comma or ] was expected")),
        (r#"{"a":1 "b":2}"#, (7, "a comma or } was expected")),
        ("{a:1}", (1, "a key in quotes was expected")),
        (r#"{"a" 1}"#, (5, "a colon was expected")),
        ("[1", (2, "the text ends inside an array or object")),
        ("\"a", (2, "the text ends inside a string")),
        ("\"a\u{1}\"", (2, "a control character in a string must be escaped")),
        (r#""\x41""#, (1, "an escape that JSON doesn't know was found")),
        (r#""\u12g4""#, (1, "four hex digits must follow \\u")),
        ("-x", (1, "a digit was expected")),
        ("01", (1, "something follows the end of the value")),
        ("{} {}", (3, "something follows the end of the value")),
    ] {
        assert_eq!(what(text), error, "{text:?}");
    }
    assert_eq!(scan(b"[\"aaaaaaaa\xff\"]").map_err(|b| b.offset), Err(10));
}

#[test]
fn half_a_surrogate_pair_is_marked_and_no_more() {
    for (text, place) in [
        (r#""\ud83e\udd80""#, None),
        (r#""x\ud83e""#, Some(2)),
        (r#""\ud83e\ud83e\udd80""#, Some(1)),
        (r#""\udd80\ud83e""#, Some(1)),
        (r#"["a","\udd80"]"#, Some(6)),
        (r#"{"\udd80":1}"#, Some(2)),
    ] {
        let mut json = Scanner::new(text.as_bytes());
        json.value().unwrap();
        json.end().unwrap();
        assert_eq!(json.lone_surrogate(), place, "{text}");
    }
}

/// Pieces from which something like JSON comes often.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "\t",
        "\n",
        "\r",
        "\\u",
        "\\n",
        "\\\"",
        "\\ud800",
        "\\udc00",
        "\\u00e9",
        "0",
        "-",
        "1",
        "23",
        ".5",
        "e",
        "E+",
        "true",
        "false",
        "null",
        "nul",
        "\"a\"",
        "\"a\":",
        "{}",
        "[]",
        "\"longer than eight bytes\"",
        "é",
        "🦀",
        "\u{2028}",
        "\u{feff}",
        "\0",
        "\u{1f}",
    ];
    let piece = prop_oneof![
        20 => proptest::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// serde_json's parser that ignores values takes the same grammar.
    #[test]
    fn the_grammar_is_serde_jsons(text in pieces()) {
        let theirs = std::str::from_utf8(&text).is_ok_and(|t| serde_json::from_str::<IgnoredAny>(t).is_ok());
        prop_assert_eq!(scan(&text).is_ok(), theirs, "{:?}", String::from_utf8_lossy(&text));
    }

    /// Strings mean what serde_json says, as far as they are ASCII.
    #[test]
    fn strings_are_decoded_as_serde_json_does(text in pieces()) {
        let json = [&b"\""[..], &text, b"\""].concat();
        let Ok(theirs) = serde_json::from_slice::<String>(&json) else { return Ok(()) };
        let value = Scanner::new(&json).value().unwrap();
        let Kind::String(ours) = value.kind else { panic!("{value:?}") };
        let ascii = |bytes: &mut dyn Iterator<Item = u8>| bytes.filter(u8::is_ascii).collect::<Vec<_>>();
        prop_assert_eq!(ascii(&mut ours.ascii()), ascii(&mut theirs.bytes()));
        prop_assert_eq!(ours.ascii().all(|b| b.is_ascii()), theirs.is_ascii());
    }
}
