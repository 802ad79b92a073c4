//! One definition for each setting: its clap argument. From it come the flag, the environment variable
//! (`LOGWEIR_` and the flag in capitals) and the key of the TOML file, in this order of precedence.
//!
//! The file's values become the arguments' defaults before clap parses, so that `--help`, value parsers
//! and errors are the same wherever a value came from.

use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches};
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
    let mut command = with_environment(A::command());
    if let Some(path) = config_path(&argv).or_else(|| env("LOGWEIR_CONFIG")) {
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            usage(&mut command, format!("cannot read the configuration file {}: {e}", path.display()))
        })?;
        command = with_file(command, &text).map_err(|message| {
            usage(&mut A::command(), format!("in the configuration file {}: {message}", path.display()))
        })?;
    }
    let matches = command.clone().try_get_matches_from(argv)?;
    A::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
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

fn usage(command: &mut Command, message: String) -> clap::Error {
    command.error(clap::error::ErrorKind::InvalidValue, message)
}

/// The value of `--config`, found before the real parse, since the file changes how that goes.
fn config_path(argv: &[OsString]) -> Option<OsString> {
    let mut rest = argv.iter().skip(1);
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some("--") => return None,
            Some("--config") => return rest.next().cloned(),
            Some(text) => {
                if let Some(value) = text.strip_prefix("--config=") {
                    return Some(value.into());
                }
            }
            None => {}
        }
    }
    None
}

fn is_setting(arg: &Arg) -> bool {
    arg.get_help_heading() != Some(BY_HAND)
        && !matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort | ArgAction::Version
        )
}

/// Gives each flag its variable.
fn with_environment(command: Command) -> Command {
    command
        .mut_args(|arg| match arg.get_long() {
            Some(long) if is_setting(&arg) => {
                let name = format!("LOGWEIR_{}", long.replace('-', "_").to_uppercase());
                arg.env(name).hide_env_values(true)
            }
            _ => arg,
        })
        .mut_subcommands(with_environment)
}

/// Makes the file's values the defaults. A key is the flag without its dashes; positional arguments go by
/// their name.
fn with_file(mut command: Command, text: &str) -> Result<Command, String> {
    let table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())?;
    for (key, value) in table {
        let values = values(&value).map_err(|e| format!("{key}: {e}"))?;
        let (changed, found) = set_default(command, &key, &values);
        command = changed;
        if !found {
            let known = known_keys(&command);
            return Err(format!("unknown key {key:?}; known are {}", known.join(", ")));
        }
    }
    Ok(command)
}

fn key_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str())
}

fn set_default(command: Command, key: &str, values: &[String]) -> (Command, bool) {
    let mut found = false;
    let command = command.mut_args(|arg| {
        if key_of(&arg) == key && key != "config" && is_setting(&arg) {
            found = true;
            arg.required(false).default_values(values.to_vec())
        } else {
            arg
        }
    });
    let command = command.mut_subcommands(|sub| {
        let (sub, inner) = set_default(sub, key, values);
        found |= inner;
        sub
    });
    (command, found)
}

fn known_keys(command: &Command) -> Vec<String> {
    let mut keys: Vec<String> = command
        .get_arguments()
        .filter(|arg| is_setting(arg) && key_of(arg) != "config")
        .map(|arg| key_of(arg).to_owned())
        .chain(command.get_subcommands().flat_map(known_keys))
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

fn values(value: &toml::Value) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(text) => Ok(vec![text.clone()]),
        toml::Value::Integer(number) => Ok(vec![number.to_string()]),
        toml::Value::Float(number) => Ok(vec![number.to_string()]),
        toml::Value::Boolean(flag) => Ok(vec![flag.to_string()]),
        toml::Value::Array(items) => {
            let nested: Result<Vec<_>, _> = items.iter().map(values).collect();
            Ok(nested?.concat())
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => {
            Err("a value is a text, a number, true or false, or a list of these; the file is flat".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
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
}
