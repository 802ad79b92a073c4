//! The services, started with the flags that a measurement needs.

use crate::clock::until;
use crate::http;
use crate::place::{Place, free_address};
use crate::process::{Process, Spec};
use crate::servers::{Postgres, Redis};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A service.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its process.
    pub(crate) process: Process,
    admin: SocketAddr,
    /// The public address; a collector's.
    pub(crate) listen: SocketAddr,
}

impl Service {
    fn start(
        place: &Place,
        program: &str,
        name: &str,
        args: &[String],
        core: Option<usize>,
    ) -> anyhow::Result<Self> {
        let admin = free_address()?;
        let mut all: Vec<std::ffi::OsString> = args.iter().map(Into::into).collect();
        all.extend(["--admin".into(), admin.to_string().into(), "--log-level".into(), "warn".into()]);
        let program = place.service(program)?;
        let spec = Spec { name: name.to_owned(), program, args: all, user: None, farewell: None, core };
        Ok(Self { process: Process::start(spec, place.path())?, admin, listen: admin })
    }

    /// What it tells of itself.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(http::get(self.admin, "/metrics").await?))
    }

    /// Waits until it can do its job.
    ///
    /// # Errors
    /// When it can't within half a minute.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        until("a service is ready", Duration::from_secs(30), Duration::from_millis(10), async || {
            self.process.check()?;
            Ok(http::is_ready(self.admin).await)
        })
        .await
    }
}

/// The text of `/metrics`.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of the series that begin so: `name{label="…"` or `name `.
    pub(crate) fn sum(&self, beginning: &str) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(beginning));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .fold(0.0, |sum, value| sum + value)
    }
}

/// A worker with further flags.
///
/// # Errors
/// When it can't be started.
pub(crate) fn worker(
    place: &Place,
    redis: &Redis,
    postgres: &Postgres,
    name: &str,
    flags: &[String],
) -> anyhow::Result<Service> {
    let mut args = vec!["--redis".to_owned(), redis.url(), "--postgres".to_owned(), postgres.url()];
    args.extend_from_slice(flags);
    Service::start(place, "logweir-worker", name, &args, None)
}

/// A quota that nothing reaches, where that is not what is measured.
pub(crate) fn no_quota() -> [String; 2] {
    ["--rate=1000000000", "--rate-bytes=100GiB"].map(str::to_owned)
}

/// A collector with these quotas, before a queue that doesn't become full.
///
/// # Errors
/// When it can't be started.
pub(crate) fn collector(
    place: &Place,
    redis: &Redis,
    core: Option<usize>,
    quota: &[String],
) -> anyhow::Result<Service> {
    let listen = free_address()?;
    let mut args = vec!["--redis".to_owned(), redis.url(), "--listen".to_owned(), listen.to_string()];
    args.extend_from_slice(quota);
    args.push("--max-queue-entries=1000000".to_owned());
    let mut service = Service::start(place, "logweir-collector", "collector", &args, core)?;
    service.listen = listen;
    Ok(service)
}

/// Where an agent reads, keeps its state, and sends to.
#[derive(Debug)]
pub(crate) struct Tailing<'a> {
    /// Its ID.
    pub(crate) id: &'a str,
    /// Its collector.
    pub(crate) collector: SocketAddr,
    /// Its state directory.
    pub(crate) state: &'a Path,
    /// What it follows.
    pub(crate) pattern: &'a Path,
}

/// An agent with further flags.
///
/// # Errors
/// When it can't be started.
pub(crate) fn agent(place: &Place, tailing: &Tailing<'_>, flags: &[String]) -> anyhow::Result<Service> {
    let Tailing { id, collector, state, pattern } = tailing;
    let mut args = vec!["--collector".to_owned(), format!("http://{collector}"), format!("--id={id}")];
    args.extend(["--state-dir".to_owned(), state.display().to_string()]);
    args.extend_from_slice(flags);
    args.push(pattern.display().to_string());
    Service::start(place, "logweir-agent", id, &args, None)
}

/// Brings Postgres' schema up to date, so that no measurement pays for that.
///
/// # Errors
/// When it can't.
pub(crate) async fn migrate(place: &Place, postgres: &Postgres) -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new(place.service("logweir-worker")?);
    command.args(["migrate", "--postgres", &postgres.url()]).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await??;
    anyhow::ensure!(
        output.status.success(),
        "logweir-worker migrate: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
