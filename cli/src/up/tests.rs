use super::*;
use crate::args::{Cli, Command};
use clap::Parser as _;

pub(super) fn parse(words: &[&str]) -> (Args, Shared) {
    let words = ["logweir", "up"].iter().chain(words);
    let cli = Cli::try_parse_from(words).unwrap();
    match cli.command {
        Command::Up(args) => (args, cli.shared),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_pause_lies_in_the_middle() {
    let (args, _) = parse(&["--for", "30s", "--pause-workers", "10s"]);
    let start = Instant::now();
    let at = |s| start + Duration::from_secs(s);
    let mut schedule = Schedule::new(&args, start);
    assert_eq!(schedule.next(), Some(at(10)));
    assert_eq!(schedule.due(at(9)), None);
    assert_eq!(schedule.due(at(10)), Some(Due::Pause(Duration::from_secs(10))));
    assert_eq!(schedule.next(), Some(at(20)));
    assert_eq!(schedule.due(at(19)), None);
    assert_eq!(schedule.due(at(21)), Some(Due::Resume));
    assert_eq!((schedule.next(), schedule.due(at(40))), (None, None));
}

#[test]
fn without_a_pause_nothing_is_due() {
    let (args, _) = parse(&["--for", "30s"]);
    assert_eq!(Schedule::new(&args, Instant::now()).next(), None);
}

#[test]
fn what_can_not_work_is_said_before_anything_starts() {
    for (words, hint) in
        [(vec!["--for", "5s", "--pause-workers", "5s"], "shorter"), (vec!["--tail", "-"], "logweir-agent")]
    {
        let error = parse(&words).0.validate().unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    assert!(Cli::try_parse_from(["logweir", "up", "--pause-workers", "5s"]).is_err());
    assert!(Cli::try_parse_from(["logweir", "up", "--workers", "0"]).is_err());
    assert!(Cli::try_parse_from(["logweir", "up", "--shards", "65"]).is_err());
}
