//! One definition for each setting: its clap argument. From it come the flag, the environment variable
//! (`LOGWEIR_` and the flag in capitals) and the key of the TOML file, in this order of precedence.
//!
//! The file's values become the arguments' defaults before clap parses, so that `--help`, value parsers
//! and errors are the same wherever a value came from.

mod origin;

pub use origin::{Origin, Parsed, Values};

use clap::{Args, Command, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::logs::LogArgs;

/// The heading of flags that only the command line may give, since they choose or confirm what can't be undone: they have
/// neither a variable nor a key.
pub const BY_HAND: &str = "Only on the command line";

/// The flags that every service has; flatten them into its own.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// TOML file with any of these settings; its keys are the flags
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Validate the configuration, say what is wrong, and stop
    #[arg(long)]
    pub check: bool,
    /// How and how much is logged.
    #[command(flatten)]
    pub logs: LogArgs,
}

/// Parses the process' arguments, environment and `--config` file. Ends the process with code 2 and a
/// message on stderr when something is wrong, and with 0 after `--help` and `--version`.
#[must_use]
pub fn parse<A: CommandFactory + FromArgMatches>() -> A {
    match try_parse(std::env::args_os().collect(), |name| std::env::var_os(name)) {
        Ok(args) => args,
        Err(error) => error.exit(),
    }
}

/// As [`parse`], from given arguments. `env` is asked for `LOGWEIR_CONFIG` only: clap reads the other
/// variables itself.
///
/// # Errors
/// clap's error, with its usual text and exit code (2, or 0 for `--help`).
pub fn try_parse<A: CommandFactory + FromArgMatches>(
    argv: Vec<OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<A, clap::Error> {
    let (_, parsed) = Origin::new(argv, env).load()?;
    Ok(parsed.args)
}

/// A duration such as `500ms`, `30s`, `10m`, `1h`, `90d`.
///
/// # Errors
/// A sentence with an example, when the text is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|e| format!("{e}; a duration is a number with ms, s, m, h or d, such as 500ms or 90d"))
}

/// A size in bytes such as `65536`, `256KiB`, `4MiB`.
///
/// # Errors
/// A sentence with an example, when the text is none.
pub fn size(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|e| format!("{e}; a size is a number of bytes, or one with KiB, MiB or GiB, such as 4MiB"))
}

/// What clap says, without how the program is called.
#[must_use]
pub fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    first.trim_start_matches("error: ").trim_end().to_owned()
}

fn usage(command: &mut Command, message: String) -> clap::Error {
    command.error(clap::error::ErrorKind::InvalidValue, message)
}

#[cfg(test)]
mod tests {
    use super::origin::with_environment;
    use super::*;
    use clap::Parser;
    use std::io::Write as _;

    #[derive(Debug, Parser)]
    #[command(name = "demo", version)]
    struct Demo {
        #[command(flatten)]
        common: CommonArgs,
        #[arg(long, value_parser = duration, default_value = "500ms")]
        linger: Duration,
        #[arg(long, value_parser = size, default_value = "4MiB")]
        batch_bytes: u64,
        #[arg(long)]
        redis: String,
        #[arg(long)]
        once: bool,
        #[arg(long, help_heading = BY_HAND)]
        yes: bool,
        paths: Vec<String>,
    }

    fn run(file: &str, args: &[&str]) -> Result<Demo, String> {
        let mut temp = tempfile::NamedTempFile::new().unwrap();
        temp.write_all(file.as_bytes()).unwrap();
        let mut argv: Vec<OsString> = vec!["demo".into(), "--config".into(), temp.path().into()];
        argv.extend(args.iter().map(OsString::from));
        try_parse::<Demo>(argv, |_| None).map_err(|e| e.to_string())
    }

    #[test]
    fn the_file_is_last_and_flags_are_first() {
        let demo = run(
            "linger = \"2s\"\nbatch-bytes = 10\nredis = \"a\"\nonce = true\npaths = [\"x\", \"y\"]\n",
            &[],
        )
        .unwrap();
        assert_eq!(
            (demo.linger, demo.batch_bytes, demo.redis.as_str(), demo.once),
            (Duration::from_secs(2), 10, "a", true)
        );
        assert_eq!(demo.paths, ["x", "y"]);
        assert!(!demo.common.check);
        let demo = run(
            "linger = \"2s\"\nredis = \"a\"\npaths = [\"x\"]\n",
            &["--linger", "1m", "--redis", "b", "z"],
        )
        .unwrap();
        assert_eq!((demo.linger, demo.redis.as_str()), (Duration::from_secs(60), "b"));
        assert_eq!(demo.paths, ["z"]);
    }

    #[test]
    fn a_wrong_file_says_where_and_what() {
        let unknown = run("lingr = \"2s\"\n", &[]).unwrap_err();
        assert!(unknown.contains("unknown key \"lingr\"") && unknown.contains("linger"), "{unknown}");
        let bad = run("linger = \"soon\"\nredis=\"a\"", &[]).unwrap_err();
        assert!(bad.contains("linger") && bad.contains("500ms"), "{bad}");
        let nested = run("[agent]\nlinger = \"2s\"\n", &[]).unwrap_err();
        assert!(nested.contains("flat"), "{nested}");
        let missing = run("", &[]).unwrap_err();
        assert!(missing.contains("--redis"), "{missing}");
        let broken = run("linger = \n", &[]).unwrap_err();
        assert!(broken.contains("line 1"), "{broken}");
    }

    #[test]
    fn every_flag_has_its_variable() {
        let command = with_environment(Demo::command());
        let arg = command.get_arguments().find(|a| a.get_long() == Some("batch-bytes")).unwrap();
        assert_eq!(arg.get_env().unwrap(), "LOGWEIR_BATCH_BYTES");
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("LOGWEIR_REDIS") && help.contains("500ms"), "{help}");
    }

    #[test]
    fn what_is_confirmed_is_confirmed_on_the_command_line() {
        let command = with_environment(Demo::command());
        let arg = command.get_arguments().find(|a| a.get_long() == Some("yes")).unwrap();
        assert_eq!(arg.get_env(), None);
        let refused = run("yes = true\nredis = \"a\"", &[]).unwrap_err();
        assert!(refused.contains("unknown key \"yes\""), "{refused}");
        assert!(run("redis = \"a\"", &["--yes"]).unwrap().yes);
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("90d").unwrap(), Duration::from_secs(90 * 86_400));
        assert!(duration("5").is_err());
        assert_eq!(size("256KiB").unwrap(), 262_144);
        assert_eq!(size("8MiB").unwrap(), 8 << 20);
        assert_eq!(size("17").unwrap(), 17);
        assert!(size("many").is_err());
    }

    #[test]
    fn what_is_kept_and_what_differs() {
        let origin = Origin::new(["demo", "--linger", "3s"].map(OsString::from).to_vec(), |_| None);
        let values = |text: &str| Values::of(text).unwrap();
        let parsed = |values: &Values| origin.parse::<Demo>(values).unwrap();
        let running = values("linger = \"1s\"\nbatch-bytes = 10\nredis = \"a\"\n");
        let mut new = values("linger = \"2s\"\nonce = true\nredis = \"b\"\npaths = [\"x\", \"y\"]\n");
        let differences =
            |a: &Values, b: &Values| parsed(a).differences(&parsed(b)).map(str::to_owned).collect::<Vec<_>>();
        // A flag goes before the file, so that key changes nothing.
        assert_eq!(differences(&new, &running), ["batch-bytes", "once", "paths", "redis"]);
        new.keep(&["redis", "batch-bytes", "once"], &running);
        assert_eq!(differences(&new, &running), ["paths"]);
        let demo = parsed(&new).args;
        assert_eq!((demo.batch_bytes, demo.redis.as_str(), demo.once), (10, "a", false));
    }
}
