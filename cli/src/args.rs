//! The commands, and the flags that all of them have.

use crate::failure::Failure;
use crate::up::data::running;
use crate::up::ports::Ports;
use crate::{batch, dlq, query, token, up, verify};
use clap::{Args, Parser, Subcommand};
use logweir_queue::Access;
use logweir_telemetry::logs::{LogArgs, LogFormat};
use logweir_telemetry::postgres::PostgresAccess;
use logweir_telemetry::redact::SecretUrl;
use std::path::PathBuf;

const PLACES: &str = "Where things are";
const COMMON: &str = "All commands";
const USUAL_REDIS: &str = "redis://127.0.0.1:6379";

/// Run, ask and mend logweir
///
/// Data goes to stdout, everything else to stderr. Each flag may also be given as an environment variable
/// (LOGWEIR_ and the flag in capitals) or as a key of the TOML file --config.
#[derive(Debug, Parser)]
#[command(
    name = "logweir",
    version,
    after_help = "Exit codes: 0 done · 1 a negative answer (a difference, something unknown) · \
                  2 wrong usage or configuration · 3 something needed can't be reached",
    after_long_help = "\
Examples:
  logweir up                                     the whole system on this machine, with simulated apps
  logweir up --tail '/var/log/*.log'             the same for real files
  logweir query --since 10m                      what was counted in the last ten minutes
  logweir query --errors --service api           the error rate of one service by minute
  logweir verify /var/log/api.log                is every line of this file in Postgres, once?
  logweir dlq list                               the batches that could not be counted
  logweir batch 0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/1      where is this batch?

Exit codes: 0 done · 1 a negative answer (a difference, something unknown) · 2 wrong usage or configuration · \
3 something needed can't be reached"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Args),
    Query(query::Args),
    Batch(batch::Args),
    Verify(verify::Args),
    Dlq(dlq::Args),
    Token(token::Args),
}

/// What every command may be told.
#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// The Redis that holds the queue [default: that of a running `logweir up`, else redis://127.0.0.1:6379]
    #[arg(long, global = true, value_name = "URL", help_heading = PLACES)]
    redis: Option<SecretUrl>,
    #[command(flatten, next_help_heading = PLACES)]
    pub(crate) redis_access: Access,
    /// The Postgres that holds the counts, such as postgres://logweir@127.0.0.1/logweir; with ?sslmode=verify-full for
    /// TLS [default: that of a running `logweir up`]
    #[arg(long, global = true, value_name = "URL", help_heading = PLACES)]
    postgres: Option<SecretUrl>,
    #[command(flatten, next_help_heading = PLACES)]
    pub(crate) postgres_access: PostgresAccess,
    /// Where `logweir up` keeps everything [default: $XDG_STATE_HOME/logweir or ~/.local/state/logweir; for root
    /// /var/lib/logweir/up]
    #[arg(long, global = true, value_name = "DIR", help_heading = PLACES)]
    pub(crate) data: Option<PathBuf>,
    /// The collector's public address
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:4801")]
    #[arg(help_heading = PLACES)]
    pub(crate) collector: SecretUrl,
    /// The collector's admin address
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:4802")]
    #[arg(help_heading = PLACES)]
    pub(crate) collector_admin: SecretUrl,
    /// The admin address of a worker; once for each
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:4803")]
    #[arg(help_heading = PLACES)]
    pub(crate) worker_admin: Vec<SecretUrl>,
    /// The admin address of an agent; once for each
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:4804")]
    #[arg(help_heading = PLACES)]
    pub(crate) agent_admin: Vec<SecretUrl>,

    /// Print one JSON document instead of text for people
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// TOML file with any of these settings; its keys are the flags
    #[arg(long, global = true, value_name = "FILE", help_heading = COMMON)]
    pub(crate) config: Option<PathBuf>,
    /// How log lines look on stderr
    #[arg(long, global = true, value_enum, default_value = "pretty", value_name = "FORMAT")]
    #[arg(help_heading = COMMON)]
    log_format: LogFormat,
    /// The least level that is logged: error, warn, info, debug, trace, or a filter
    #[arg(long, global = true, default_value = "info", value_name = "LEVEL", help_heading = COMMON)]
    log_level: String,
}

impl Shared {
    /// Where the queue is: as it was said, else where a running `up` has it, else the usual place.
    pub(crate) fn redis(&self) -> Result<SecretUrl, Failure> {
        let found = self.redis.clone().or_else(|| self.of_running_up("redis", |ports| ports.redis));
        found.map_or_else(|| USUAL_REDIS.parse().map_err(Failure::Usage), Ok)
    }

    /// Where the counts are, likewise; there is no usual place.
    pub(crate) fn postgres(&self) -> Result<SecretUrl, Failure> {
        let found = self.postgres.clone().or_else(|| self.of_running_up("postgres", |ports| ports.postgres));
        found.ok_or_else(|| {
            let text = "which Postgres? give --postgres postgres://user@host/database, or set LOGWEIR_POSTGRES \
                        (no logweir up runs here)";
            Failure::Usage(text.to_owned())
        })
    }

    fn of_running_up(&self, what: &str, url: impl Fn(Ports) -> String) -> Option<SecretUrl> {
        let url: SecretUrl = url(running(self.data.as_deref())?).parse().ok()?;
        tracing::debug!(what, %url, "not said where it is; using that of the running logweir up");
        Some(url)
    }

    pub(crate) fn logs(&self) -> LogArgs {
        LogArgs { log_format: self.log_format, log_level: self.log_level.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_are_well_formed_and_each_teaches_by_example() {
        Cli::command().debug_assert();
        fn walk(command: &mut clap::Command) {
            for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
                if sub.get_subcommands().next().is_some() {
                    walk(sub);
                } else {
                    let help = sub.render_long_help().to_string();
                    assert!(help.contains("Example"), "{}: {help}", sub.get_name());
                }
            }
        }
        let mut command = Cli::command();
        command.build();
        walk(&mut command);
    }

    #[test]
    fn places_may_be_given_after_the_command() {
        let cli = Cli::try_parse_from([
            "logweir",
            "query",
            "--postgres",
            "postgres://u:pw@h/db",
            "--redis",
            "redis://h:1",
            "--json",
            "--worker-admin",
            "http://a:1",
            "--worker-admin",
            "http://b:2",
        ])
        .unwrap();
        assert!(cli.shared.json);
        assert_eq!(cli.shared.redis().unwrap().to_string(), "redis://h:1");
        assert_eq!(cli.shared.worker_admin.len(), 2);
        assert!(!format!("{cli:?}").contains("pw@"));
    }
}
