//! What can be set, and which settings make no sense.

use crate::batch::Bounds;
use clap::{Parser, Subcommand};
use logweir_queue::{Access, Ack, DeadLimits, Shards};
use logweir_telemetry::config::{CommonArgs, duration, size};
use logweir_telemetry::postgres::PostgresAccess;
use logweir_telemetry::redact::SecretUrl;
use std::net::SocketAddr;
use std::time::Duration;

/// How long each call to Redis may take.
const REDIS_DEADLINE: Duration = Duration::from_secs(2);

/// The worker of logweir: turns queued batches into exact counts in Postgres.
///
/// It reads batches from Redis, counts their events by minute, service and level, and adds the counts in one
/// transaction that also notes which events they are, so none is ever counted twice. It starts before Redis and
/// Postgres if need be, and waits for them: /readyz on the admin address says for what.
///
/// A batch that can't be counted goes to the dead letters after --max-attempts; `logweir dlq list` shows them. When
/// they are full, it stays in the queue. While Postgres or Redis is away nothing is given up: the worker waits, and
/// tries again for ever.
#[derive(Debug, Clone, Parser)]
#[command(name = "logweir-worker", version, about, max_term_width = 110)]
pub struct Args {
    /// Redis, such as redis://user:password@host:6379/0; rediss:// for TLS, or redis+sentinel://host:26379,host/service
    #[arg(long, default_value = "redis://127.0.0.1:6379", value_name = "URL", global = true)]
    pub redis: SecretUrl,
    /// How to get in.
    #[command(flatten)]
    pub redis_access: Access,
    /// Postgres, such as postgres://user:password@host:5432/database; with ?sslmode=verify-full for TLS
    #[arg(long, default_value = "postgres://logweir@127.0.0.1/logweir", value_name = "URL", global = true)]
    pub postgres: SecretUrl,
    /// How to get in.
    #[command(flatten)]
    pub postgres_access: PostgresAccess,
    /// Work only where commits wait for a standby: not ready unless synchronous_standby_names is set in Postgres
    #[arg(long, global = true)]
    pub postgres_sync_standby: bool,
    /// The admin address: /metrics, /healthz, /readyz
    #[arg(long, default_value = "127.0.0.1:4803", value_name = "ADDRESS")]
    pub admin: SocketAddr,

    /// Into how many shards the collectors put batches, 1 to 64. What lies in others is found too, if later; the limits
    /// for dead letters are divided by it
    #[arg(long, default_value_t = Shards::default(), value_name = "N")]
    pub shards: Shards,
    /// How long a worker may be silent before its batches are taken over by another
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "DURATION")]
    pub lease: Duration,
    /// How often a batch may fail by its own fault before it goes to the dead letters
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub max_attempts: u32,
    /// How long counts are kept; older events are noted as losses instead of counted
    #[arg(long, value_parser = duration, default_value = "90d", value_name = "DURATION")]
    pub retention: Duration,
    /// The most dead letters. When they are full, further bad batches stay in the queue, and nothing is thrown away
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub max_dead_entries: u64,
    /// The most bytes that the dead letters hold in Redis; likewise
    #[arg(long, value_parser = size, default_value = "1GiB", value_name = "SIZE")]
    pub max_dead_bytes: u64,
    /// How many transactions run at a time, each with a connection of its own
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub concurrency: usize,
    /// The most batches in one transaction
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub group: usize,
    /// The largest batch after decoding; at least what the collector takes
    #[arg(long, value_parser = size, default_value = "16MiB", value_name = "SIZE")]
    pub max_batch_bytes: u64,
    /// The most different (minute, service, level) in one batch; one with more fails by its own fault
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub max_batch_keys: usize,
    /// How long one batch may be computed on, decoding and adding up; then it fails by its own fault. Time that the
    /// machine gives to others doesn't count
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "DURATION")]
    pub batch_timeout: Duration,
    /// How long one transaction may take; then its connection is dropped, and it is tried again
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "DURATION")]
    pub deadline: Duration,
    /// How often old partitions, ledger rows and consumers are looked for
    #[arg(long, value_parser = duration, default_value = "1m", value_name = "DURATION")]
    pub housekeeping: Duration,
    /// How long the batches in hand may take to finish after SIGTERM
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "DURATION")]
    pub shutdown_timeout: Duration,

    /// What every service has.
    #[command(flatten)]
    pub common: CommonArgs,

    /// What to do instead of working.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can do beside working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Bring the schema in Postgres up to date, say what was applied, and stop
    Migrate,
}

impl Args {
    /// Looks for settings that can't work.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub fn validate(&self) -> Result<(), String> {
        let least: [(&str, Duration, Duration); 6] = [
            ("lease", self.lease, Duration::from_millis(100)),
            ("retention", self.retention, Duration::from_secs(60)),
            ("deadline", self.deadline, Duration::from_millis(100)),
            ("batch-timeout", self.batch_timeout, Duration::from_millis(100)),
            ("housekeeping", self.housekeeping, Duration::from_millis(10)),
            ("shutdown-timeout", self.shutdown_timeout, Duration::from_millis(1)),
        ];
        if let Some((flag, _, least)) = least.iter().find(|(_, value, least)| value < least) {
            return Err(format!("--{flag} must be at least {least:?}"));
        }
        let most: [(&str, Duration, Duration); 4] = [
            ("lease", self.lease, Duration::from_secs(86_400)),
            ("deadline", self.deadline, Duration::from_secs(86_400)),
            ("batch-timeout", self.batch_timeout, Duration::from_secs(86_400)),
            ("retention", self.retention, Duration::from_secs(100 * 366 * 86_400)),
        ];
        if let Some((flag, _, most)) = most.iter().find(|(_, value, most)| value > most) {
            return Err(format!("--{flag} must be at most {} days", most.as_secs() / 86_400));
        }
        for (flag, value, range) in [
            ("max-attempts", u64::from(self.max_attempts), 1..=1_000),
            ("concurrency", u64::try_from(self.concurrency).unwrap_or(u64::MAX), 1..=256),
            ("group", u64::try_from(self.group).unwrap_or(u64::MAX), 1..=1_000),
            ("max-batch-bytes", self.max_batch_bytes, 1..=1 << 30),
            ("max-batch-keys", u64::try_from(self.max_batch_keys).unwrap_or(u64::MAX), 1..=1_000_000),
            ("max-dead-entries", self.max_dead_entries, 1..=1 << 40),
            ("max-dead-bytes", self.max_dead_bytes, 1..=1 << 50),
        ] {
            if !range.contains(&value) {
                return Err(format!("--{flag} must be from {} to {}", range.start(), range.end()));
            }
        }
        Ok(())
    }

    pub(crate) fn queue_settings(&self) -> logweir_queue::Settings {
        let settings = logweir_queue::Settings::new(self.redis.expose(), Ack::Memory, REDIS_DEADLINE);
        logweir_queue::Settings { access: self.redis_access.clone(), shards: self.shards, ..settings }
    }

    pub(crate) fn batch_bounds(&self) -> Bounds {
        Bounds {
            bytes: usize::try_from(self.max_batch_bytes).unwrap_or(usize::MAX),
            keys: self.max_batch_keys,
        }
    }

    /// Of each shard.
    pub(crate) fn dead_limits(&self) -> DeadLimits {
        DeadLimits {
            letters: self.shards.share(self.max_dead_entries),
            bytes: self.shards.share(self.max_dead_bytes),
        }
    }

    pub(crate) fn retention_ms(&self) -> i64 {
        i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Args {
        let argv = ["logweir-worker"].iter().chain(flags).map(Into::into).collect();
        logweir_telemetry::config::try_parse(argv, |_| None).unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let args = parse(&[]);
        args.validate().unwrap();
        assert_eq!(args.admin.to_string(), "127.0.0.1:4803");
        assert_eq!((args.lease, args.max_attempts), (Duration::from_secs(30), 5));
        assert_eq!((args.concurrency, args.group, args.command), (2, 64, None));
        assert_eq!((args.max_batch_keys, args.batch_timeout), (20_000, Duration::from_secs(10)));
        assert_eq!(args.retention_ms(), 90 * 86_400_000);
        assert_eq!(args.dead_limits(), DeadLimits { letters: 100_000, bytes: 1 << 30 });
    }

    #[test]
    fn the_files_for_redis_reach_the_queue() {
        let args = parse(&["--redis-ca-file", "a", "--redis-password-file", "b"]);
        let access = args.queue_settings().access;
        assert_eq!(access.redis_ca_file, Some("a".into()));
        assert_eq!(access.redis_password_file, Some("b".into()));
    }

    #[test]
    fn a_shard_has_its_part_of_the_dead_letters() {
        let args = parse(&["--shards", "4"]);
        assert_eq!(args.dead_limits(), DeadLimits { letters: 25_000, bytes: 1 << 28 });
    }

    #[test]
    fn the_url_may_stand_before_or_after_migrate() {
        for flags in
            [["--postgres", "postgres://h/x", "migrate"], ["migrate", "--postgres", "postgres://h/x"]]
        {
            let args = parse(&flags);
            assert_eq!(args.command, Some(Command::Migrate));
            assert_eq!(args.postgres.to_string(), "postgres://h/x");
        }
    }

    #[test]
    fn settings_that_cannot_work_name_the_flag() {
        for (flags, name) in [
            (["--lease", "0s"], "--lease"),
            (["--lease", "2d"], "--lease"),
            (["--max-attempts", "0"], "--max-attempts"),
            (["--concurrency", "0"], "--concurrency"),
            (["--group", "0"], "--group"),
            (["--retention", "1s"], "--retention"),
            (["--deadline", "1ms"], "--deadline"),
            (["--max-batch-bytes", "0"], "--max-batch-bytes"),
            (["--max-batch-keys", "0"], "--max-batch-keys"),
            (["--batch-timeout", "1ms"], "--batch-timeout"),
            (["--batch-timeout", "2d"], "--batch-timeout"),
            (["--max-dead-entries", "0"], "--max-dead-entries"),
            (["--max-dead-bytes", "0"], "--max-dead-bytes"),
        ] {
            let message = parse(&flags).validate().unwrap_err();
            assert!(message.contains(name), "{message}");
        }
    }
}
