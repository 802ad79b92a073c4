use super::*;
use proptest::prelude::*;

fn split(body: &str) -> Vec<&str> {
    lines(body.as_bytes()).map(|line| std::str::from_utf8(line).unwrap()).collect()
}

fn elements(body: &str) -> Result<Vec<&str>, BodyError> {
    let elements = json_elements(body.as_bytes(), 5)?;
    Ok(elements.into_iter().map(|e| std::str::from_utf8(e).unwrap()).collect())
}

#[test]
fn lines_without_their_ends() {
    for (body, expected) in [
        ("", &[][..]),
        ("\n", &[]),
        ("\r\n", &[]),
        ("\n\n \t\n\r\r\n  ", &[]),
        ("a", &["a"]),
        ("a\n", &["a"]),
        ("a\r\n", &["a"]),
        ("a\r", &["a"]),
        ("a\nb", &["a", "b"]),
        ("a\r\nb\r\n", &["a", "b"]),
        ("\n\na\n \n\nb\n\n", &["a", "b"]),
        (" a \n\tb\t", &[" a ", "\tb\t"]),
        // Only one end is taken off, and a lone carriage return is none.
        ("a\r\r\n", &["a\r"]),
        ("a\rb\n", &["a\rb"]),
        ("a\0b\n\0\nc", &["a\0b", "\0", "c"]),
        ("a\u{b}\n\u{c}\n\u{a0}\n\u{2028}\n\u{85}b", &["a\u{b}", "\u{c}", "\u{a0}", "\u{2028}", "\u{85}b"]),
        ("\u{feff}\na", &["\u{feff}", "a"]),
    ] {
        assert_eq!(split(body), expected, "{body:?}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_lines_too() {
    assert_eq!(lines(b"\xff\n\xfe\r\n").collect::<Vec<_>>(), [b"\xff", b"\xfe"]);
}

#[test]
fn a_body_that_is_no_array_is_one_event() {
    for body in ["{}", "7", "\"[1,2]\"", "null", r#"{"a":[1,2]}"#] {
        assert_eq!(elements(body), Ok(vec![body]));
        assert_eq!(elements(&format!(" \t\r\n{body}\n")), Ok(vec![body]));
    }
}

#[test]
fn the_elements_of_an_array() {
    for (body, expected) in [
        ("[1]", &["1"][..]),
        (" [ 1 , 2 ] \n", &["1", "2"]),
        ("[\n  {\n    \"a\": 1\n  },\r\n\t{}\n]", &["{\n    \"a\": 1\n  }", "{}"]),
        ("[[1,2],[[]],[{\"a\":[3]}]]", &["[1,2]", "[[]]", "[{\"a\":[3]}]"]),
        (r#"["],[","}","{","\"]","\\"]"#, &[r#""],[""#, r#""}""#, r#""{""#, r#""\"]""#, r#""\\""#]),
        (
            r#"[{"],":"\u005d\",[{"},-1.5e3,true,null]"#,
            &[r#"{"],":"\u005d\",[{"}"#, "-1.5e3", "true", "null"],
        ),
        ("[1e999,\"é\",\"🦀\"]", &["1e999", "\"é\"", "\"🦀\""]),
        // Only the event that holds it is rejected for half a surrogate pair.
        (r#"["\ud800",{}]"#, &[r#""\ud800""#, "{}"]),
        ("[1,2,3,4,5]", &["1", "2", "3", "4", "5"]),
    ] {
        assert_eq!(elements(body), Ok(expected.to_vec()), "{body}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(elements(&format!("[{deep},7]")), Ok(vec![&deep[..], "7"]));
}

#[test]
fn bodies_that_are_empty() {
    for body in ["", " ", "\n\t\r "] {
        assert_eq!(elements(body), Err(BodyError::Empty), "{body:?}");
    }
    for body in ["[]", " [ \n ] "] {
        assert_eq!(elements(body), Err(BodyError::EmptyArray), "{body:?}");
    }
}

#[test]
fn too_many_elements() {
    assert_eq!(elements("[1,2,3,4,5,6]"), Err(BodyError::TooMany { limit: 5 }));
    // It stops there, and leaves the rest alone.
    assert_eq!(elements("[1,2,3,4,5,6,nonsense"), Err(BodyError::TooMany { limit: 5 }));
    assert_eq!(json_elements(b"[1]", 0), Err(BodyError::TooMany { limit: 0 }));
}

#[test]
fn bodies_that_are_no_json_say_where_and_what() {
    for (body, offset, what) in [
        ("[1,2", 4, "the text ends inside an array or object"),
        ("[1 2]", 3, "a comma or ] was expected"),
        ("[1,]", 3, "a value was expected"),
        ("[,1]", 1, "a value was expected"),
        ("[1]]", 3, "something follows the end of the value"),
        ("[1] [2]", 4, "something follows the end of the value"),
        ("[] x", 3, "something follows the end of the value"),
        ("{}{}", 2, "something follows the end of the value"),
        ("{}\n{}\n", 3, "something follows the end of the value"),
        ("[{]}", 2, "a key in quotes was expected"),
        ("[\"a\0\"]", 3, "a control character in a string must be escaped"),
        ("\u{feff}[]", 0, "a byte order mark was found"),
        ("[nonsense]", 1, "a value was expected"),
    ] {
        assert_eq!(elements(body), Err(BodyError::NotJson { offset, what }), "{body:?}");
    }
    let wrong = json_elements(b"[1,\"ab\xff\"]", 5);
    assert_eq!(wrong, Err(BodyError::NotJson { offset: 6, what: "a byte is not UTF-8" }));
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "the body must be JSON in UTF-8, but at byte 6 a byte is not UTF-8"
    );
}

#[test]
fn elements_become_lines() {
    let mut out = Vec::new();
    for element in elements("[{\r\n\"a\":\n1},\n\"\\n\"]").unwrap() {
        push_line(&mut out, element.as_bytes());
    }
    assert_eq!(out, b"{  \"a\": 1}\n\"\\n\"\n");
}

proptest! {
    /// A slow obvious twin.
    #[test]
    fn lines_are_split_at_line_feeds(body in "[ab \t\r\n]{0,40}") {
        let expected: Vec<&str> = body
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
            .filter(|line| line.chars().any(|c| !matches!(c, ' ' | '\t' | '\r')))
            .collect();
        prop_assert_eq!(split(&body), expected);
    }

    /// Whatever JSON stands in an array: each element comes out as it was written.
    #[test]
    fn any_elements_come_out_as_they_were(
        values in proptest::collection::vec(any_json(), 1..10),
        pretty: bool,
        space in "[ \t\r\n]{0,3}",
    ) {
        let write = |v: &serde_json::Value| {
            if pretty { serde_json::to_string_pretty(v) } else { serde_json::to_string(v) }.unwrap()
        };
        let texts: Vec<String> = values.iter().map(write).collect();
        let comma = format!("{space},{space}");
        let body = format!("{space}[{space}{}{space}]{space}", texts.join(&comma));
        let out = json_elements(body.as_bytes(), 10).unwrap();
        prop_assert_eq!(&out, &texts.iter().map(String::as_bytes).collect::<Vec<_>>());
        let mut lines = Vec::new();
        out.iter().for_each(|element| push_line(&mut lines, element));
        let again: Vec<serde_json::Value> =
            super::lines(&lines).map(|line| serde_json::from_slice(line).unwrap()).collect();
        prop_assert_eq!(again, values);
    }

    #[test]
    fn any_bytes_end_in_a_verdict(body in any::<Vec<u8>>(), max in 0..4_usize) {
        prop_assert!(lines(&body).all(|line| !is_blank(line)));
        if let Ok(elements) = json_elements(&body, max) {
            prop_assert!(!elements.is_empty() && elements.len() <= max.max(1));
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[\\[\\]{},\"\\\\:]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::hash_map("[a-c\\[\\]\"]{0,3}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
