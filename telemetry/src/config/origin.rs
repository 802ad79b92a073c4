//! The file among the sources of the settings, and how it and the others become arguments.

use super::{BY_HAND, usage};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the settings of a process come from, so that the file among them can be read again.
#[derive(Debug, Clone)]
pub struct Origin {
    argv: Vec<OsString>,
    file: Option<PathBuf>,
}

/// What the file holds: keys and their values. Without a file, nothing.
#[derive(Clone, Default, PartialEq)]
pub struct Values(toml::Table);

/// Settings, and each as text, whatever it came from.
pub struct Parsed<A> {
    /// The settings.
    pub args: A,
    texts: BTreeMap<String, Vec<OsString>>,
}

impl Origin {
    /// This process' arguments and environment.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(std::env::args_os().collect(), |name| std::env::var_os(name))
    }

    /// Given arguments; `env` is asked for `LOGWEIR_CONFIG`.
    pub fn new(argv: Vec<OsString>, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let file = config_path(&argv).or_else(|| env("LOGWEIR_CONFIG")).map(PathBuf::from);
        Self { argv, file }
    }

    /// The file of `--config`, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// A sentence with the file's path: it can't be read, or is no TOML.
    pub fn read(&self) -> Result<Values, String> {
        let Some(path) = &self.file else { return Ok(Values::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("cannot read the configuration file {}: {e}", path.display()))?;
        Values::of(&text).map_err(|message| self.wrong(&message))
    }

    /// Reads the file, and makes settings of all that there is.
    ///
    /// # Errors
    /// clap's, with its usual text and exit code (2, or 0 for `--help`).
    pub fn load<A: CommandFactory + FromArgMatches>(&self) -> Result<(Values, Parsed<A>), clap::Error> {
        let values = self.read().map_err(|message| usage(&mut A::command(), message))?;
        let parsed = self.parse(&values)?;
        Ok((values, parsed))
    }

    /// The settings with these values of the file.
    ///
    /// # Errors
    /// clap's error, with its usual text and exit code (2, or 0 for `--help`).
    pub fn parse<A: CommandFactory + FromArgMatches>(
        &self,
        values: &Values,
    ) -> Result<Parsed<A>, clap::Error> {
        let mut command = with_values(with_environment(A::command()), values)
            .map_err(|message| usage(&mut A::command(), self.wrong(&message)))?;
        let matches = command.clone().try_get_matches_from(&self.argv)?;
        let args = A::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?;
        let text = |arg: &Arg| {
            let raw = matches.get_raw(arg.get_id().as_str()).map(|raw| raw.map(OsString::from).collect());
            (key_of(arg).to_owned(), raw.unwrap_or_default())
        };
        Ok(Parsed { args, texts: command.get_arguments().map(text).collect() })
    }

    fn wrong(&self, message: &str) -> String {
        let path = self.file.as_deref().unwrap_or(Path::new("")).display();
        format!("in the configuration file {path}: {message}")
    }
}

impl Values {
    /// Those of a file with this text.
    ///
    /// # Errors
    /// When it is no TOML, with the line.
    pub fn of(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())
    }

    /// Takes over what `other` holds under these keys, or that it holds nothing.
    pub fn keep(&mut self, keys: &[&str], other: &Self) {
        for key in keys {
            match other.0.get(*key) {
                Some(value) => drop(self.0.insert((*key).to_owned(), value.clone())),
                None => drop(self.0.remove(*key)),
            }
        }
    }
}

impl<A> Parsed<A> {
    /// The keys of the settings that differ.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let differs = |(key, text): &(&String, &Vec<OsString>)| other.texts.get(*key) != Some(text);
        self.texts.iter().filter(differs).map(|(key, _)| key.as_str())
    }
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
pub(super) fn with_environment(command: Command) -> Command {
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
fn with_values(mut command: Command, Values(table): &Values) -> Result<Command, String> {
    for (key, value) in table {
        let values = values(value).map_err(|e| format!("{key}: {e}"))?;
        let (changed, found) = set_default(command, key, &values);
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
