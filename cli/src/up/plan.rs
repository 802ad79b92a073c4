//! What is started, with which arguments. Nothing is started here.

use super::data::DataDir;
use super::ports::{Chooser, Ports};
use super::programs::{Programs, User, postgres_user};
use super::{Args, apps};
use crate::args::Shared;
use logweir_telemetry::redact::SecretUrl;
use rustix::process::Signal;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The collector's public address when it is free and nothing else is said.
const USUAL: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 4801));

/// The user of Postgres; whoever knows the secret may do anything with this private one.
pub(super) const POSTGRES_USER: &str = "logweir";

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Prepares something, and ends by itself.
    Setup,
    Redis,
    Postgres,
    Collector,
    Worker,
    Agent,
    App,
}

impl Role {
    /// How it is asked to end: Postgres disconnects its clients at SIGINT, and waits for them at SIGTERM.
    pub(super) const fn ends_on(self) -> Signal {
        match self {
            Role::Postgres | Role::Setup => Signal::INT,
            _ => Signal::TERM,
        }
    }

    /// How long it may take to end before it is killed; the services' own limit is 10 s.
    pub(super) const fn patience(self) -> Duration {
        match self {
            Role::App => Duration::from_secs(5),
            Role::Postgres => Duration::from_secs(20),
            _ => Duration::from_secs(13),
        }
    }
}

/// One process.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    /// Also the name of its log.
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    /// Its environment has these besides ours; URLs with passwords stand here, since everybody may read arguments.
    pub(super) env: Vec<(&'static str, OsString)>,
    pub(super) user: Option<User>,
    pub(super) folder: Option<PathBuf>,
    /// Where it says whether it is ready.
    pub(super) admin: Option<SocketAddr>,
}

impl Spec {
    pub(super) fn new(name: &str, role: Role, program: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            role,
            program,
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            folder: None,
            admin: None,
        }
    }

    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    fn flag(self, flag: &str, value: impl Into<OsString>) -> Self {
        self.arg(flag).arg(value)
    }

    fn env(mut self, name: &'static str, value: &SecretUrl) -> Self {
        self.env.push((name, value.expose().into()));
        self
    }

    fn admin(mut self, address: SocketAddr) -> Self {
        self.admin = Some(address);
        self.flag("--admin", address.to_string())
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) programs: Programs,
    pub(super) redis: SecretUrl,
    pub(super) postgres: SecretUrl,
    pub(super) redis_port: u16,
    pub(super) postgres_port: u16,
    pub(super) postgres_user: Option<User>,
    pub(super) secret: String,
    /// `DATA/redis`.
    pub(super) redis_home: PathBuf,
    /// `DATA/postgres`.
    pub(super) postgres_home: PathBuf,
    /// Collector, workers, agents.
    pub(super) services: Vec<Spec>,
    /// The simulated apps; started last.
    pub(super) apps: Vec<Spec>,
    /// `DATA/apps`.
    pub(super) apps_home: PathBuf,
    /// Without the process IDs.
    pub(super) ports: Ports,
    /// Whether the collector's usual port was taken.
    pub(super) is_elsewhere: bool,
    /// From how many batches on the queue is full, where that was said.
    pub(super) max_queue_entries: Option<u64>,
}

impl Plan {
    /// Chooses ports, and finds the programs.
    pub(super) fn new(args: &Args, shared: &Shared, data: &DataDir) -> anyhow::Result<Self> {
        let postgres_home = data.path("postgres");
        let programs = Programs::find(&postgres_home.join("data"))?;
        let mut chooser = Chooser::default();
        let listen = match args.listen {
            Some(address) => chooser.exactly(address)?,
            None => chooser.rather(USUAL)?,
        };
        let (redis_at, postgres_at) = (chooser.free()?, chooser.free()?);
        let secret = data.secret()?;
        let url = |text: String| text.parse::<SecretUrl>().map_err(anyhow::Error::msg);
        // With its name, since redis-cli -u takes an empty one for a name.
        let redis = url(format!("redis://default:{secret}@{redis_at}"))?;
        let postgres = url(format!("postgres://{POSTGRES_USER}:{secret}@{postgres_at}/postgres"))?;
        let mut plan = Self {
            ports: Ports {
                collector: format!("http://{listen}"),
                redis: redis.expose().to_owned(),
                postgres: postgres.expose().to_owned(),
                ..Ports::default()
            },
            programs,
            redis,
            postgres,
            redis_port: redis_at.port(),
            postgres_port: postgres_at.port(),
            postgres_user: postgres_user()?,
            secret,
            redis_home: data.path("redis"),
            postgres_home,
            services: Vec::new(),
            apps: Vec::new(),
            apps_home: data.path("apps"),
            is_elsewhere: args.listen.is_none() && listen != USUAL,
            max_queue_entries: args.max_queue_entries,
        };
        plan.add_collector(args, listen, chooser.free()?);
        for number in 1..=args.workers {
            plan.add_worker(args, number, chooser.free()?);
        }
        if args.tail.is_empty() {
            for app in apps::NAMES {
                plan.add_app(args, app, chooser.free()?, data);
            }
        } else {
            plan.add_agent(args, "tail", args.tail.clone(), &[], chooser.free()?, data);
        }
        for service in &mut plan.services {
            service.args.splice(0..0, ["--log-level".into(), shared.logs().log_level.into()]);
        }
        Ok(plan)
    }

    fn add_collector(&mut self, args: &Args, listen: SocketAddr, admin: SocketAddr) {
        let mut spec = Spec::new("collector", Role::Collector, self.programs.collector.clone())
            .flag("--listen", listen.to_string())
            .flag("--shards", args.shards.to_string())
            .admin(admin)
            .env("LOGWEIR_REDIS", &self.redis);
        for (flag, value) in
            [("--max-queue-entries", args.max_queue_entries), ("--max-queue-bytes", args.max_queue_bytes)]
        {
            if let Some(value) = value {
                spec = spec.flag(flag, value.to_string());
            }
        }
        spec.args.extend(args.collector_arg.iter().cloned());
        self.ports.collector_admin = format!("http://{admin}");
        self.services.push(spec);
    }

    fn add_worker(&mut self, args: &Args, number: u16, admin: SocketAddr) {
        let mut spec = Spec::new(&format!("worker-{number}"), Role::Worker, self.programs.worker.clone())
            .flag("--shards", args.shards.to_string())
            .admin(admin)
            .env("LOGWEIR_REDIS", &self.redis)
            .env("LOGWEIR_POSTGRES", &self.postgres);
        if args.tail.is_empty() {
            spec.args.extend(apps::WORKER_FLAGS.iter().map(OsString::from));
        }
        spec.args.extend(args.worker_arg.iter().cloned());
        self.ports.worker_admin.push(format!("http://{admin}"));
        self.services.push(spec);
    }

    fn add_app(&mut self, args: &Args, app: &str, admin: SocketAddr, data: &DataDir) {
        let pattern = self.apps_home.join(format!("{app}.log*")).to_string_lossy().into_owned();
        self.add_agent(args, app, vec![pattern], &apps::AGENT_FLAGS, admin, data);
        let spec = Spec::new(&format!("app-{app}"), Role::App, "sh".into())
            .arg(apps::script(&self.apps_home))
            .arg(app)
            .arg(&self.apps_home)
            .arg(args.rate.to_string());
        self.apps.push(spec);
    }

    fn add_agent(
        &mut self,
        args: &Args,
        id: &str,
        patterns: Vec<String>,
        flags: &[&str],
        admin: SocketAddr,
        data: &DataDir,
    ) {
        let mut spec = Spec::new(&format!("agent-{id}"), Role::Agent, self.programs.agent.clone())
            .flag("--collector", self.ports.collector.clone())
            .flag("--id", id)
            .flag("--state-dir", data.path("agents").join(id))
            .flag("--from", "beginning")
            .admin(admin);
        spec.args.extend(flags.iter().map(OsString::from));
        spec.args.extend(args.agent_arg.iter().cloned());
        spec.args.push("--".into());
        spec.args.extend(patterns.into_iter().map(OsString::from));
        self.ports.agent_admin.push(format!("http://{admin}"));
        self.services.push(spec);
    }

    /// The agents' names and admin addresses.
    pub(super) fn agents(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.services
            .iter()
            .filter(|spec| spec.role == Role::Agent)
            .filter_map(|spec| Some((spec.name.strip_prefix("agent-")?, spec.admin?)))
    }
}
