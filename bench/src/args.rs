//! What can be asked for.

use crate::load::Keys;
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Measures logweir's services on this machine, with a Redis and a Postgres of its own.
///
/// Everything listens on free ports of 127.0.0.1 and lies in a folder that is removed at the end. Nothing is asserted
/// about times: compare the rows of one run. Exit codes: 0 done; 1 the counts are not what was put in; 2 wrong
/// usage; 3 something is missing or failed.
#[derive(Debug, Parser)]
#[command(name = "logweir-bench", version, about, max_term_width = 110)]
pub(crate) struct Args {
    /// Print one JSON document instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Where the services' programs are [default: beside this one]
    #[arg(long, env = "LOGWEIR_BIN_DIR", value_name = "DIR", global = true)]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Where the data lies: the disk whose syncs are measured [default: the temporary folder]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// A setting of Postgres, such as synchronous_commit=off; may be given several times
    #[arg(long, value_name = "NAME=VALUE", global = true)]
    pub(crate) postgres_setting: Vec<String>,
    /// How long all of it may take
    #[arg(long, value_parser = humantime::parse_duration, default_value = "180s", value_name = "DURATION", global = true)]
    pub(crate) limit: Duration,
    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The measurements.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How fast workers empty a queue, by number of workers, transactions at a time and batches per transaction
    Worker(WorkerArgs),
    /// How long after a worker's sudden death its batches are counted by another
    Takeover(TakeoverArgs),
    /// Requests and events per second of a collector on one core, with their latencies
    Collector(CollectorArgs),
    /// What good clients of a collector feel of thousands of idle and slow ones, by turns without and with them
    Hostile(HostileArgs),
    /// The hostile clients of `hostile`, as their own process; ends with its stdin
    #[command(hide = true)]
    Attack(AttackArgs),
    /// The latencies of ten agents within their quota, without and with one that sends a hundred times its share
    Fairness(FairnessArgs),
    /// Sends, and says what it saw: a part of `fairness`
    #[command(hide = true)]
    Load(LoadArgs),
    /// A file through agent, collector, Redis and workers into Postgres, with CPU and memory of each process
    Path(PathArgs),
    /// What an agent costs: at rest, at full speed, and beyond its quota
    #[command(subcommand)]
    Agent(AgentCommand),
}

/// `agent`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// CPU, wake-ups and memory of an agent whose files are all quiet
    Idle(IdleArgs),
    /// Events per second, CPU, memory and the share of fsyncs, when an agent has a backlog in many files
    Speed(SpeedArgs),
    /// Many agents that have more to send than their quota: how near to it they come, and how often they are refused
    Quota(QuotaArgs),
}

/// `worker`.
#[derive(Debug, Parser)]
pub(crate) struct WorkerArgs {
    /// How many batches each row counts
    #[arg(long, default_value_t = 4_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) batches: u64,
    /// Events in a batch
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) events: u64,
    /// How many producers the batches come from
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) producers: u64,
    /// What the events are counted under
    #[arg(long, value_enum, default_value_t = Keys::Hot)]
    pub(crate) keys: Keys,
    /// Numbers of workers to compare
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_name = "N,…", value_parser = clap::value_parser!(u64).range(1..=32))]
    pub(crate) workers: Vec<u64>,
    /// Values of the worker's --concurrency to compare
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N,…", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) concurrency: Vec<u64>,
    /// Values of the worker's --group to compare
    #[arg(long, value_delimiter = ',', default_value = "1,8,64", value_name = "N,…", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) group: Vec<u64>,
}

/// `takeover`.
#[derive(Debug, Parser)]
pub(crate) struct TakeoverArgs {
    /// The workers' --lease
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2s", value_name = "DURATION")]
    pub(crate) lease: Duration,
    /// How often it is done
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) runs: u64,
    /// How many batches the killed worker holds
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) batches: u64,
    /// Events in a batch
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) events: u64,
}

/// `collector`.
#[derive(Debug, Parser)]
pub(crate) struct CollectorArgs {
    /// Batch sizes to compare
    #[arg(long, value_delimiter = ',', default_value = "1,100,5000", value_name = "N,…", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) sizes: Vec<u64>,
    /// Connections, each kept alive with one request at a time
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) connections: u64,
    /// How long each batch size is sent
    #[arg(long, value_parser = humantime::parse_duration, default_value = "8s", value_name = "DURATION")]
    pub(crate) duration: Duration,
    /// The most requests of each size
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) requests: u64,
}

/// `hostile`.
#[derive(Debug, Parser)]
pub(crate) struct HostileArgs {
    /// Connections that send nothing
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=15_000))]
    pub(crate) idle: u64,
    /// Connections that send a letter of a header each second
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=15_000))]
    pub(crate) slow: u64,
    /// Good clients
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) clients: u64,
    /// Batches per second of each good client
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) rate: u64,
    /// Events in a batch
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) events: u64,
    /// How long each half of a round is measured
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s", value_name = "DURATION")]
    pub(crate) duration: Duration,
    /// How often without and with them
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) rounds: u64,
}

/// `attack`.
#[derive(Debug, Parser)]
pub(crate) struct AttackArgs {
    /// The collector
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: SocketAddr,
    /// Connections that send nothing
    #[arg(long, value_name = "N")]
    pub(crate) idle: u64,
    /// Connections that send a letter of a header each second
    #[arg(long, value_name = "N")]
    pub(crate) slow: u64,
}

/// `fairness`.
#[derive(Debug, Parser)]
pub(crate) struct FairnessArgs {
    /// Each agent's quota, in events per second
    #[arg(long, default_value_t = 2_000, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(200..=100_000))]
    pub(crate) rate: u64,
    /// How long each half of a round takes
    #[arg(long, value_parser = humantime::parse_duration, default_value = "6s", value_name = "DURATION")]
    pub(crate) duration: Duration,
    /// How often both halves are done, one after the other
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=20))]
    pub(crate) rounds: u64,
}

/// `load`.
#[derive(Debug, Clone, Parser)]
pub(crate) struct LoadArgs {
    /// The collector
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// How the agents' IDs begin
    #[arg(long)]
    pub(crate) name: String,
    /// How many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) agents: u64,
    /// Of all of them together
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) requests_per_second: u64,
    /// For how long
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
}

/// `path`.
#[derive(Debug, Parser)]
pub(crate) struct PathArgs {
    /// Lines in the file
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub(crate) lines: u64,
    /// How many workers
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=32))]
    pub(crate) workers: u64,
    /// What the lines are counted under
    #[arg(long, value_enum, default_value_t = Keys::Hot)]
    pub(crate) keys: Keys,
    /// A further argument for the agent, such as --agent-arg=--batch-events=1000; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) agent_arg: Vec<String>,
}

/// `agent idle`.
#[derive(Debug, Parser)]
pub(crate) struct IdleArgs {
    /// How many files are followed
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) files: u64,
    /// How long it is looked at
    #[arg(long, value_parser = humantime::parse_duration, default_value = "40s", value_name = "DURATION")]
    pub(crate) duration: Duration,
    /// A further argument for the agent; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) agent_arg: Vec<String>,
}

/// `agent speed`.
#[derive(Debug, Parser)]
pub(crate) struct SpeedArgs {
    /// How many files hold the backlog
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) files: u64,
    /// Lines in each file
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) lines: u64,
    /// How often with the state directory on the disk (of --dir), and in memory
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) rounds: u64,
    /// A file system in memory, where a sync costs nothing
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    pub(crate) memory_dir: PathBuf,
    /// A further argument for the agent; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) agent_arg: Vec<String>,
}

/// `agent quota`.
#[derive(Debug, Parser)]
pub(crate) struct QuotaArgs {
    /// How many agents, each a process of its own
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=200))]
    pub(crate) agents: u64,
    /// Each agent's quota, in events per second
    #[arg(long, default_value_t = 500, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) rate: u64,
    /// How many times its quota each agent's application writes
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) times: u64,
    /// How long they may take to settle
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s", value_name = "DURATION")]
    pub(crate) settle: Duration,
    /// How long each row is
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s", value_name = "DURATION")]
    pub(crate) duration: Duration,
    /// How many rows
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) rows: u64,
    /// A further argument for the agents; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) agent_arg: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound_and_every_load_has_an_end() {
        Args::command().debug_assert();
        for flags in [
            ["worker", "--batches=0"],
            ["collector", "--requests=9999999"],
            ["fairness", "--rounds=0"],
            ["path", "--lines=x"],
        ] {
            assert!(Args::try_parse_from([&["logweir-bench"], &flags[..]].concat()).is_err(), "{flags:?}");
        }
    }
}
