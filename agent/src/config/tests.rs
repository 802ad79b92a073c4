use super::sending::as_id;
use super::*;
use jiff::tz::TimeZone;
use logweir_proto::Level;
use logweir_proto::line::Format;

fn parse(flags: &[&str]) -> Result<Args, String> {
    let argv = ["logweir-agent"].iter().chain(flags).map(Into::into).collect();
    logweir_telemetry::config::try_parse(argv, |_| None).map_err(|e| e.to_string())
}

fn with(flags: &[&str]) -> Result<Settings, String> {
    let base = ["--collector", "http://127.0.0.1:4801"];
    let args = parse(&[&base[..], flags].concat())?;
    args.settings(|name| (name == "HOME").then(|| "/home/me".into()))
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let settings = with(&["a.log", "-", "b/*.log"]).unwrap();
    let Reading { patterns, stdin, once, from, format, service, .. } = &settings.reading;
    assert_eq!((patterns.as_slice(), *stdin), (&["a.log".to_owned(), "b/*.log".to_owned()][..], true));
    assert_eq!((*once, *from, *format, service.as_deref()), (false, From::Beginning, Format::Auto, None));
    let reading = &settings.reading;
    assert_eq!((reading.batch_events, reading.batch_bytes), (5_000, 4 << 20));
    assert_eq!((reading.linger, reading.default_level), (Duration::from_millis(500), Level::Info));
    assert_eq!(settings.admin, Some("127.0.0.1:4804".parse().unwrap()));
    assert_eq!((settings.sending.max_rate, settings.shutdown_timeout), (None, Duration::from_secs(10)));
    assert!(is_name(&settings.sending.target.id, 128), "{}", settings.sending.target.id);
}

#[test]
fn once_reads_all_and_serves_nobody_unless_asked() {
    let settings = with(&["--once", "--from", "end", "a.log"]).unwrap();
    assert_eq!((settings.admin, settings.reading.from), (None, From::Beginning));
    let settings = with(&["--once", "--admin", "127.0.0.1:0", "a.log"]).unwrap();
    assert_eq!(settings.admin, Some("127.0.0.1:0".parse().unwrap()));
}

#[test]
fn settings_that_cannot_work_name_the_flag() {
    for (flags, name) in [
        (vec!["--service", "_x"], "--service"),
        (vec!["--id", ""], "--id"),
        (vec!["--id", "a b"], "--id"),
        (vec!["--timezone", "Mars/Olympus"], "--timezone"),
        (vec!["--batch-events", "10001"], "--batch-events"),
        (vec!["--batch-events", "0"], "--batch-events"),
        (vec!["--batch-bytes", "8MiB"], "--batch-bytes"),
        (vec!["--batch-bytes", "0"], "--batch-bytes"),
        (vec!["--request-timeout", "0s"], "--request-timeout"),
        (vec!["--max-rate", "0"], "--max-rate"),
        (vec!["--concurrency", "0"], "--concurrency"),
        (vec!["--default-level", "loud"], "--default-level"),
        (vec!["--collector", "ftp://h"], "http://"),
        (vec!["--collector", "127.0.0.1:4801"], "http://"),
        (vec!["--collector", "http://me:s3cret@h"], "--token-file"),
        (vec!["--collector", "http://h/?a=b"], "no ?"),
        (vec!["--format", "xml"], "--format"),
    ] {
        let collector: &[&str] = if flags[0] == "--collector" { &[] } else { &["--collector", "http://h"] };
        let message = match parse(&[collector, &flags, &["f"]].concat()) {
            Ok(args) => args.settings(|_| Some("/home/me".into())).unwrap_err(),
            Err(message) => message,
        };
        assert!(message.contains(name) && !message.contains("s3cret"), "{flags:?}: {message}");
    }
    assert!(with(&["/tmp/[a"]).unwrap_err().contains("/tmp/[a"));
    assert!(with(&[]).unwrap_err().contains("there is nothing to follow"));
    let without = parse(&["f"]).unwrap().settings(|_| Some("/home/me".into()));
    assert!(without.unwrap_err().contains("--collector"));
    assert!(parse(&["--explain", "f", "--json", "--format", "text"]).is_ok());
}

#[test]
fn the_state_lies_where_it_is_expected() {
    let dir = |vars: &[(&str, &str)], root| {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        default_state_dir(find, root).map(|path| path.to_str().unwrap().to_owned())
    };
    let of = |text: &str| Some(text.to_owned());
    let home = ("HOME", "/home/me");
    assert_eq!(dir(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), home], true), of("/var/lib/a"));
    assert_eq!(dir(&[home], true), of("/var/lib/logweir-agent"));
    assert_eq!(dir(&[("XDG_STATE_HOME", "/s"), home], false), of("/s/logweir-agent"));
    assert_eq!(
        dir(&[("XDG_STATE_HOME", "relative"), home], false),
        of("/home/me/.local/state/logweir-agent")
    );
    assert_eq!(dir(&[], false), None);
}

#[test]
fn a_hosts_name_becomes_an_id() {
    for (host, id) in
        [("web-1.example.org", "web-1.example.org"), ("_my host", "my-host"), ("", "agent"), ("Büro", "B-ro")]
    {
        assert_eq!(as_id(host), id);
    }
    assert!(is_name(&as_id(&"x".repeat(300)), 128));
}

#[test]
fn a_zone_is_known_by_its_name() {
    assert_eq!(
        with(&["--timezone", "Europe/Berlin", "f"]).map(|s| s.reading.timezone_name).ok().as_deref(),
        {
            // Only where the machine has a database of zones.
            TimeZone::get("Europe/Berlin").ok().map(|_| "Europe/Berlin")
        }
    );
}

#[test]
fn help_teaches() {
    let help = parse(&["--help"]).unwrap_err();
    for word in
        ["Examples:", "--once", "rejects.ndjson", "Exit codes", "[default: beginning]", "LOGWEIR_COLLECTOR"]
    {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
}

#[test]
fn room_is_a_size_or_a_part_of_the_whole() {
    let room = |text: &str| text.parse::<Room>();
    assert_eq!(room("64MiB"), Ok(Room::Bytes(64 << 20)));
    assert_eq!(room("1.5%"), Ok(Room::Percent(1.5)));
    for wrong in ["101%", "-1%", "%", "NaN%", "much"] {
        assert!(room(wrong).is_err(), "{wrong}");
    }
    let percent = Room::Percent(1.0);
    assert!(percent.is_more_than(9, 1000) && !percent.is_more_than(10, 1000));
    assert!(Room::Bytes(10).is_more_than(9, 1000) && !Room::Bytes(10).is_more_than(10, 1000));
    for never in [Room::Bytes(0), Room::Percent(0.0)] {
        assert!(!never.is_more_than(0, 1000));
    }
    // A file system that doesn't tell has no size.
    assert!(!percent.is_more_than(0, 0) && !Room::Bytes(10).is_more_than(0, 0));
}
