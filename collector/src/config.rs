//! What can be set, and which settings make no sense together.

mod transport;

pub use transport::{ClientAuth, TransportArgs};

use crate::pressure::Room;
use crate::quota::{Quota, Quotas};
use crate::verdict::REASON_BYTES;
use clap::{Parser, ValueEnum};
use logweir_proto::Limits;
use logweir_proto::event::Window;
use logweir_queue::{Access, Ack, QueueLimits, Shards};
use logweir_telemetry::config::{CommonArgs, duration, size};
use logweir_telemetry::redact::SecretUrl;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// No wait is longer: with far longer ones the clock's arithmetic would overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(366 * 86_400);

/// What has happened to a batch when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AckArg {
    /// It is on Redis' disk: survives a kill and a power cut
    Fsync,
    /// The same, and on so many replicas as --replicas says
    Replicated,
    /// It is in Redis' memory, whatever Redis does about its disk
    Memory,
}

/// The collector of logweir: takes batches of events over HTTP and puts them into the queue.
#[derive(Debug, Clone, Parser)]
#[command(name = "logweir-collector", version, about, max_term_width = 110)]
pub struct Args {
    /// The public address, for POST /v1/events
    #[arg(long, default_value = "127.0.0.1:4801", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The admin address: /metrics, /healthz, /readyz
    #[arg(long, default_value = "127.0.0.1:4802", value_name = "ADDRESS")]
    pub admin: SocketAddr,
    /// Redis, such as redis://user:password@host:6379/0; rediss:// for TLS, or redis+sentinel://host:26379,host/service
    #[arg(long, default_value = "redis://127.0.0.1:6379", value_name = "URL")]
    pub redis: SecretUrl,
    /// How to get in.
    #[command(flatten)]
    pub redis_access: Access,
    /// Who may post: lines of `AGENT_ID sha256:HEX [expires:TIME]`, see `logweir token new`; read again when it changes
    /// and at SIGHUP
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Serve more than loopback although there are neither tokens nor required client certificates
    #[arg(long)]
    pub insecure: bool,

    /// Events per second that each agent may send
    #[arg(long, default_value_t = 50_000, value_name = "EVENTS")]
    pub rate: u64,
    /// Events that an agent may send at once after a pause [default: 2 seconds' worth]
    #[arg(long, value_name = "EVENTS")]
    pub burst: Option<u64>,
    /// Bytes of events (after decoding) per second that each agent may send
    #[arg(long, value_parser = size, default_value = "64MiB", value_name = "SIZE")]
    pub rate_bytes: u64,
    /// Bytes that an agent may send at once after a pause [default: 2 seconds' worth]
    #[arg(long, value_parser = size, value_name = "SIZE")]
    pub burst_bytes: Option<u64>,
    /// Quotas of some agents, by ID or beginning of an ID: a TOML file with tables such as [agents."batch/*"], and in
    /// them rate, burst, rate-bytes, burst-bytes; read again when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub quotas: Option<PathBuf>,
    /// How many agents' quotas are kept in mind; the least recently seen leaves, and one with a token last
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub max_agents: usize,
    /// The status that an agent over its quota is answered
    #[arg(long, default_value_t = 429, value_name = "429|503", value_parser = quota_status)]
    pub quota_status: u16,
    /// How long a request may wait for its quota, or for room in the queue, before it is refused
    #[arg(long, value_parser = duration, default_value = "1s", value_name = "DURATION")]
    pub hold: Duration,
    /// How many requests may wait in that way at a time
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub max_holding: usize,

    /// Into how many shards batches are put, 1 to 64; the same for all collectors. Each takes its part of the queue's
    /// limits and of those for Idempotency-Keys
    #[arg(long, default_value_t = Shards::default(), value_name = "N")]
    pub shards: Shards,
    /// The queue is full when it holds so many batches
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub max_queue_entries: u64,
    /// The queue is full when its batches have so many bytes; Redis needs memory for that
    #[arg(long, value_parser = size, default_value = "1GiB", value_name = "SIZE")]
    pub max_queue_bytes: u64,
    /// For how many batches that a full queue refused room is kept until they were told to come back; to others the time
    /// is told as well, but somebody else may come first
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub max_promises: usize,
    /// What an acknowledgement means
    #[arg(long, value_enum, default_value = "fsync")]
    pub ack: AckArg,
    /// How many replicas must have a batch, with --ack replicated
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub replicas: u32,
    /// How long each call to Redis may take
    #[arg(long, value_parser = duration, default_value = "800ms", value_name = "DURATION")]
    pub redis_timeout: Duration,

    /// How long an Idempotency-Key is remembered
    #[arg(long, value_parser = duration, default_value = "1h", value_name = "DURATION")]
    pub idempotency_window: Duration,
    /// How many of them; when they are full, a new one is refused
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub max_idempotency_keys: u64,
    /// How large their answers may be together; then a new one is refused likewise
    #[arg(long, value_parser = size, default_value = "128MiB", value_name = "SIZE")]
    pub max_idempotency_bytes: u64,

    /// The oldest event that is taken
    #[arg(long, value_parser = duration, default_value = "90d", value_name = "DURATION")]
    pub max_event_age: Duration,
    /// How far ahead of this machine's clock an event may be
    #[arg(long, value_parser = duration, default_value = "10m", value_name = "DURATION")]
    pub max_event_ahead: Duration,
    /// The longest event
    #[arg(long, value_parser = size, default_value = "256KiB", value_name = "SIZE")]
    pub max_event_bytes: u64,
    /// The most events in a batch
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub max_batch_events: usize,
    /// The largest batch after decoding
    #[arg(long, value_parser = size, default_value = "8MiB", value_name = "SIZE")]
    pub max_batch_bytes: u64,
    /// The largest body on the wire
    #[arg(long, value_parser = size, default_value = "4MiB", value_name = "SIZE")]
    pub max_wire_bytes: u64,

    /// How many different services are counted in an hour; events of further ones are counted as __overflow__
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub max_series: usize,

    /// Bytes per second that a body must bring, after 5 seconds
    #[arg(long, value_parser = size, default_value = "1KiB", value_name = "SIZE")]
    pub min_body_speed: u64,
    /// How long a body may take in all
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "DURATION")]
    pub body_timeout: Duration,
    /// How many requests are worked on at a time; one agent may have half of them, or fewer where others have many
    #[arg(long, default_value_t = 4_096, value_name = "N")]
    pub max_in_flight: usize,
    /// Memory for the bodies of all of them together; one agent may have half of it, or less where others have much
    #[arg(long, value_parser = size, default_value = "256MiB", value_name = "SIZE")]
    pub max_in_flight_bytes: u64,
    /// How many bodies are decoded and validated at a time, each agent's in its turn; one agent's may be all but one of them
    /// [default: the number of cores, and one more]
    #[arg(long, value_name = "N")]
    pub decoders: Option<usize>,
    /// How many bodies may wait for that
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    pub max_waiting_bodies: usize,
    /// The public address: TLS, connections, the end.
    #[command(flatten)]
    pub transport: TransportArgs,

    /// What every service has.
    #[command(flatten)]
    pub common: CommonArgs,
}

fn quota_status(text: &str) -> Result<u16, String> {
    match text {
        "429" => Ok(429),
        "503" => Ok(503),
        _ => Err("the quota answers 429 or 503".to_owned()),
    }
}

impl Args {
    /// Looks for settings that can't work.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub fn validate(&self) -> Result<(), String> {
        if self.is_open_to_all() && !self.insecure {
            return Err(format!(
                "--listen {} is open to others, and there are no --tokens: give a tokens file or a --client-ca, \
                 listen on 127.0.0.1, or say --insecure if everybody who can reach this address may post",
                self.listen
            ));
        }
        self.transport.validate(self.tokens.is_some())?;
        if self.listen == self.admin && self.admin.port() != 0 {
            return Err(format!(
                "--listen and --admin are both {}: give each a port of its own, and keep --admin from the public",
                self.admin
            ));
        }
        let positive: [(&str, u64); 20] = [
            ("rate", self.rate),
            ("burst", self.burst.unwrap_or(1)),
            ("rate-bytes", self.rate_bytes),
            ("burst-bytes", self.burst_bytes.unwrap_or(1)),
            ("max-agents", count(self.max_agents)),
            ("max-queue-entries", self.max_queue_entries),
            ("max-queue-bytes", self.max_queue_bytes),
            ("max-event-bytes", self.max_event_bytes),
            ("max-batch-events", count(self.max_batch_events)),
            ("max-batch-bytes", self.max_batch_bytes),
            ("max-wire-bytes", self.max_wire_bytes),
            ("max-connections", count(self.transport.max_connections)),
            ("max-handshakes", count(self.transport.max_handshakes)),
            ("max-streams", self.transport.max_streams.into()),
            ("min-body-speed", self.min_body_speed),
            ("max-in-flight", count(self.max_in_flight)),
            ("max-series", count(self.max_series)),
            ("decoders", self.decoders.map_or(1, count)),
            ("max-idempotency-keys", self.max_idempotency_keys),
            ("max-idempotency-bytes", self.max_idempotency_bytes),
        ];
        if let Some((flag, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("--{flag} must be at least 1"));
        }
        let waits: [(&str, Duration, u64); 9] = [
            ("hold", self.hold, 0),
            ("redis-timeout", self.redis_timeout, 1),
            ("header-timeout", self.transport.header_timeout, 1),
            ("idle-timeout", self.transport.idle_timeout, 1),
            ("handshake-timeout", self.transport.handshake_timeout, 1),
            ("body-timeout", self.body_timeout, 1),
            ("drain-grace", self.transport.drain_grace, 0),
            ("shutdown-timeout", self.transport.shutdown_timeout, 0),
            ("idempotency-window", self.idempotency_window, 1),
        ];
        for (flag, value, least) in waits {
            if millis(value) < least {
                return Err(format!("--{flag} must be at least {least}ms"));
            }
            if value > LONGEST_WAIT {
                return Err(format!("--{flag} must be at most {} days", LONGEST_WAIT.as_secs() / 86_400));
            }
        }
        for (flag, value) in [("rate", self.rate), ("rate-bytes", self.rate_bytes)] {
            if value > Quota::MAX_RATE {
                return Err(format!("--{flag} must be at most {}", Quota::MAX_RATE));
            }
        }
        if self.ack == AckArg::Replicated && self.replicas == 0 {
            return Err("--ack replicated needs --replicas of at least 1".to_owned());
        }
        if self.max_queue_entries < u64::from(self.shards.count()) {
            return Err(format!("--max-queue-entries must be at least --shards ({})", self.shards));
        }
        let one = self.one_body();
        if self.max_in_flight_bytes < one {
            return Err(format!(
                "--max-in-flight-bytes must be at least --max-wire-bytes, three times --max-batch-bytes and {REASON_BYTES} \
                 bytes for each of --max-batch-events ({one})"
            ));
        }
        if self.max_in_flight_bytes > crate::budget::Budget::MAX_BYTES {
            return Err(format!(
                "--max-in-flight-bytes must be at most {}",
                crate::budget::Budget::MAX_BYTES
            ));
        }
        Ok(())
    }

    /// The memory of the largest body: as it came, as it is, without the rejected events, and compressed; and what is
    /// said of each rejected event.
    pub(crate) fn one_body(&self) -> u64 {
        let reasons = count(self.max_batch_events).saturating_mul(count(REASON_BYTES));
        self.max_batch_bytes.saturating_mul(3).saturating_add(self.max_wire_bytes).saturating_add(reasons)
    }

    /// Whether nothing says who may post, on an address that others can reach.
    pub(crate) fn is_open_to_all(&self) -> bool {
        self.tokens.is_none() && !self.transport.certificates_required() && !self.listen.ip().is_loopback()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            event_bytes: fit(self.max_event_bytes),
            batch_events: self.max_batch_events,
            decoded_bytes: fit(self.max_batch_bytes),
            wire_bytes: fit(self.max_wire_bytes),
        }
    }

    pub(crate) fn window(&self, now_ms: i64) -> Window {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        Window { now_ms, max_age_ms: ms(self.max_event_age), max_ahead_ms: ms(self.max_event_ahead) }
    }

    /// Of agents that the quotas file says nothing of.
    pub(crate) fn default_quotas(&self) -> Quotas {
        let two_seconds = |rate: u64| rate.saturating_mul(2);
        Quotas {
            events: Quota::new(self.rate, self.burst.unwrap_or(two_seconds(self.rate))),
            bytes: Quota::new(self.rate_bytes, self.burst_bytes.unwrap_or(two_seconds(self.rate_bytes))),
        }
    }

    pub(crate) fn room(&self) -> Room {
        let QueueLimits { entries, bytes } = self.queue_limits();
        Room { entries, bytes }
    }

    /// Of each shard.
    pub(crate) fn queue_limits(&self) -> QueueLimits {
        QueueLimits {
            entries: self.shards.share(self.max_queue_entries),
            bytes: self.shards.share(self.max_queue_bytes),
        }
    }

    pub(crate) fn queue_settings(&self) -> logweir_queue::Settings {
        let ack = match self.ack {
            AckArg::Fsync => Ack::Fsync,
            AckArg::Replicated => Ack::Replicated { replicas: self.replicas },
            AckArg::Memory => Ack::Memory,
        };
        let settings = logweir_queue::Settings::new(self.redis.expose(), ack, self.redis_timeout);
        logweir_queue::Settings { access: self.redis_access.clone(), shards: self.shards, ..settings }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn fit(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Args {
        let argv = ["logweir-collector"].iter().chain(flags).map(Into::into).collect();
        logweir_telemetry::config::try_parse(argv, |_| None).unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let args = parse(&[]);
        args.validate().unwrap();
        assert_eq!(args.limits(), Limits::default());
        assert_eq!(args.listen.to_string(), "127.0.0.1:4801");
        assert_eq!(args.admin.to_string(), "127.0.0.1:4802");
        let window = args.window(0);
        assert_eq!((window.max_age_ms, window.max_ahead_ms), (90 * 86_400_000, 600_000));
        assert_eq!((args.hold, args.quota_status), (Duration::from_secs(1), 429));
    }

    #[test]
    fn the_files_for_redis_reach_the_queue() {
        let args = parse(&["--redis-ca-file", "a", "--redis-password-file", "b"]);
        let access = args.queue_settings().access;
        assert_eq!(access.redis_ca_file, Some("a".into()));
        assert_eq!(access.redis_password_file, Some("b".into()));
    }

    #[test]
    fn a_shard_has_its_part_of_the_limits() {
        let args = parse(&["--shards", "4", "--max-queue-entries", "10", "--max-queue-bytes", "4KiB"]);
        args.validate().unwrap();
        assert_eq!(args.queue_limits(), QueueLimits { entries: 2, bytes: 1_024 });
    }

    #[test]
    fn without_tokens_only_loopback_is_served() {
        let message = parse(&["--listen", "0.0.0.0:4801"]).validate().unwrap_err();
        assert!(message.contains("--tokens") && message.contains("--insecure"), "{message}");
        parse(&["--listen", "0.0.0.0:4801", "--insecure"]).validate().unwrap();
        parse(&["--listen", "0.0.0.0:4801", "--tokens", "f"]).validate().unwrap();
        parse(&["--listen", "[::1]:4801"]).validate().unwrap();
        parse(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).validate().unwrap();
        let message = parse(&["--listen", "127.0.0.1:4802"]).validate().unwrap_err();
        assert!(message.contains("a port of its own"), "{message}");
        assert!(parse(&["--max-series", "0"]).validate().unwrap_err().contains("--max-series"));
        let tls = ["--listen", "0.0.0.0:4801", "--tls-cert", "c", "--tls-key", "k"];
        let message = parse(&tls).validate().unwrap_err();
        assert!(message.contains("--client-ca"), "{message}");
        let certified = [&tls[..], &["--client-ca", "a"]].concat();
        parse(&certified).validate().unwrap();
        let optional = [&certified[..], &["--client-auth", "optional"]].concat();
        let message = parse(&optional).validate().unwrap_err();
        assert!(message.contains("--tokens"), "{message}");
        parse(&[&optional[..], &["--tokens", "t"]].concat()).validate().unwrap();
    }

    #[test]
    fn settings_that_cannot_work_name_the_flag() {
        for (flags, name) in [
            (vec!["--rate", "0"], "--rate"),
            (vec!["--burst", "0"], "--burst"),
            (vec!["--max-queue-entries", "0"], "--max-queue-entries"),
            (vec!["--max-queue-entries", "3", "--shards", "4"], "--max-queue-entries"),
            (vec!["--ack", "replicated", "--replicas", "0"], "--replicas"),
            (vec!["--max-in-flight-bytes", "1MiB"], "--max-in-flight-bytes"),
            (vec!["--redis-timeout", "0s"], "--redis-timeout"),
            (vec!["--redis-timeout", "18446744073709551615s"], "--redis-timeout"),
            (vec!["--hold", "400d"], "--hold"),
            (vec!["--header-timeout", "0s"], "--header-timeout"),
            (vec!["--body-timeout", "0s"], "--body-timeout"),
            (vec!["--idle-timeout", "0s"], "--idle-timeout"),
            (vec!["--handshake-timeout", "0s"], "--handshake-timeout"),
            (vec!["--max-handshakes", "0"], "--max-handshakes"),
            (vec!["--max-streams", "0"], "--max-streams"),
            (vec!["--client-auth", "optional"], "--client-ca"),
            (vec!["--client-ca", "a"], "--tls-cert"),
            (vec!["--tls-cert", "a"], "--tls-key"),
            (vec!["--drain-grace", "11s"], "--drain-grace"),
            (vec!["--idempotency-window", "0s"], "--idempotency-window"),
            (vec!["--max-idempotency-bytes", "0"], "--max-idempotency-bytes"),
        ] {
            let message = parse(&flags).validate().unwrap_err();
            assert!(message.contains(name), "{message}");
        }
    }
}
