//! A whole system of its own: Redis, Postgres, and as many services as wanted, on ports and in folders of its own.

use crate::bins::bin;
use crate::client::{self, Post};
use crate::drain::{Verdict, drained};
use crate::ports::free_port;
use crate::postgres::Postgres;
use crate::process::{Process, Spec};
use crate::reaper;
use crate::redis::Redis;
use crate::truth::Truth;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder that others may enter: Postgres runs as another user.
///
/// # Panics
/// When it can't be made.
#[must_use]
pub fn private_dir(name: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("logweir-e2e-{name}-")).tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("our own folder");
    dir
}

/// A collector or a worker.
#[derive(Debug)]
pub struct Service {
    /// Its process.
    pub process: Process,
    /// The admin address.
    pub admin: SocketAddr,
    /// The public address; a worker has none, and says its admin address here.
    pub listen: SocketAddr,
}

/// How an agent is started.
#[derive(Debug, Default)]
pub struct AgentSpec {
    /// Its URL of the collector, or of the proxy before it.
    pub collector: String,
    /// More flags.
    pub flags: Vec<String>,
    /// Globs and files, or `-`.
    pub paths: Vec<String>,
    /// The reading end of the pipe on its stdin.
    pub stdin: Option<OwnedFd>,
    /// The program, where it isn't the usual one.
    pub program: Option<PathBuf>,
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    /// Its process.
    pub process: Process,
    /// The admin address.
    pub admin: SocketAddr,
    /// Its journal, rejects and spool.
    pub state_dir: PathBuf,
    args: Vec<OsString>,
}

/// All of it. What lives is killed when it is dropped; its folder stays when a test failed.
#[derive(Debug)]
pub struct Stack {
    /// The agents.
    pub agents: Vec<Agent>,
    /// The collectors.
    pub collectors: Vec<Service>,
    /// The workers.
    pub workers: Vec<Service>,
    /// Redis.
    pub redis: Redis,
    /// Postgres.
    pub postgres: Postgres,
    /// What was written.
    pub truth: Arc<Truth>,
    refused: Vec<(SocketAddr, Post)>,
    dir: Option<TempDir>,
}

impl Stack {
    /// Redis and Postgres, running; no services yet.
    ///
    /// # Panics
    /// When one of them doesn't start.
    pub async fn start(name: &str) -> Self {
        let dir = private_dir(name);
        reaper::remove_at_end(dir.path());
        let logs = dir.path().join("logs");
        std::fs::create_dir_all(&logs).expect("a folder for logs");
        std::fs::create_dir_all(dir.path().join("apps")).expect("a folder for what the apps write");
        let mut redis = Redis::new(dir.path(), &logs);
        let mut postgres = Postgres::new(dir.path(), &logs);
        redis.process.start();
        postgres.process.start();
        let truth = Arc::new(Truth::new(dir.path()));
        let (agents, collectors, workers, refused) = Default::default();
        let stack = Self { agents, collectors, workers, redis, postgres, truth, refused, dir: Some(dir) };
        stack.redis.queue.ready().await;
        stack.postgres.database.ready().await;
        stack
    }

    /// With one collector and so many workers, ready.
    ///
    /// # Panics
    /// When they don't become ready.
    pub async fn with_services(name: &str, collector_flags: &[&str], workers: usize) -> Self {
        let mut stack = Self::start(name).await;
        stack.add_collector(collector_flags);
        for _ in 0..workers {
            stack.add_worker(&[]);
        }
        stack.start_all();
        stack.ready().await;
        stack
    }

    /// Where all its files are.
    ///
    /// # Panics
    /// Never while it lives.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("until it is dropped").path()
    }

    /// Where the apps write.
    #[must_use]
    pub fn apps(&self) -> PathBuf {
        self.dir().join("apps")
    }

    fn logs(&self) -> PathBuf {
        self.dir().join("logs")
    }

    fn service(
        &self,
        kind: &str,
        n: usize,
        program: PathBuf,
        mut args: Vec<String>,
        flags: &[&str],
    ) -> Service {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = local();
        let mut listen = admin;
        args.extend(["--admin".to_owned(), admin.to_string(), "--redis".to_owned(), self.redis.queue.url()]);
        if kind == "collector" {
            listen = local();
            args.extend(["--listen".to_owned(), listen.to_string()]);
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let process = Process::new(Spec::new(&format!("{kind}{n}"), program, args), &self.logs());
        Service { process, admin, listen }
    }

    /// One more collector, not started yet.
    pub fn add_collector(&mut self, flags: &[&str]) -> SocketAddr {
        let collector =
            self.service("collector", self.collectors.len(), bin("logweir-collector"), Vec::new(), flags);
        let listen = collector.listen;
        self.collectors.push(collector);
        listen
    }

    /// One more worker with a short lease, not started yet.
    pub fn add_worker(&mut self, flags: &[&str]) {
        self.add_worker_of(bin("logweir-worker"), flags);
    }

    /// The same, of another program.
    pub fn add_worker_of(&mut self, program: PathBuf, flags: &[&str]) {
        let mut args = vec!["--postgres".to_owned(), self.postgres.database.url()];
        if !flags.contains(&"--lease") {
            args.extend(["--lease".to_owned(), "2s".to_owned()]);
        }
        let worker = self.service("worker", self.workers.len(), program, args, flags);
        self.workers.push(worker);
    }

    /// One more agent with small batches, not started yet.
    ///
    /// # Panics
    /// When its folder can't be made.
    pub fn add_agent(&mut self, spec: AgentSpec) -> &mut Agent {
        let n = self.agents.len();
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let state_dir = self.dir().join(format!("agent{n}-state"));
        std::fs::create_dir_all(&state_dir).expect("a state directory");
        let mut args: Vec<OsString> = Vec::new();
        for (flag, value) in [
            ("--collector", spec.collector.clone()),
            ("--id", format!("agent{n}")),
            ("--admin", admin.to_string()),
            ("--from", "beginning".to_owned()),
        ] {
            args.extend([flag.into(), value.into()]);
        }
        for (flag, value) in [("--linger", "50ms"), ("--batch-events", "200")] {
            if !spec.flags.iter().any(|f| f == flag) {
                args.extend([flag.into(), value.into()]);
            }
        }
        args.extend(["--state-dir".into(), state_dir.clone().into()]);
        args.extend(spec.flags.iter().chain(&spec.paths).map(OsString::from));
        let program = spec.program.unwrap_or_else(|| bin("logweir-agent"));
        let mut process = Spec::new(&format!("agent{n}"), program, args.clone());
        process.stdin = spec.stdin;
        let process = Process::new(process, &self.logs());
        self.agents.push(Agent { process, admin, state_dir, args });
        self.agents.last_mut().expect("just pushed")
    }

    /// Starts every service that doesn't run.
    pub fn start_all(&mut self) {
        for process in self.services() {
            process.start();
        }
    }

    /// Starts everything that doesn't run, and wakes what sleeps.
    pub fn heal(&mut self) {
        for process in self.processes() {
            process.start();
            process.resume();
        }
    }

    fn services(&mut self) -> impl Iterator<Item = &mut Process> {
        let services =
            self.collectors.iter_mut().chain(&mut self.workers).map(|service| &mut service.process);
        services.chain(self.agents.iter_mut().map(|agent| &mut agent.process))
    }

    /// Every process.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let services =
            self.collectors.iter_mut().chain(&mut self.workers).map(|service| &mut service.process);
        let agents = self.agents.iter_mut().map(|agent| &mut agent.process);
        [&mut self.redis.process, &mut self.postgres.process].into_iter().chain(services).chain(agents)
    }

    /// How often a process was killed.
    pub fn kills(&mut self) -> u32 {
        self.processes().map(|process| process.kills()).sum()
    }

    /// # Panics
    /// When a process has ended by itself.
    pub fn assert_healthy(&mut self) {
        self.processes().for_each(Process::assert_healthy);
    }

    /// Waits until each collector and worker says that it is ready.
    ///
    /// # Panics
    /// When one isn't within 30 s.
    pub async fn ready(&mut self) {
        for service in self.collectors.iter_mut().chain(&mut self.workers) {
            let what =
                format!("{} is ready; its log: {}", service.process.name(), service.process.log().display());
            let start = Instant::now();
            while !matches!(client::get(service.admin, "/readyz").await, Ok((200, _))) {
                service.process.assert_healthy();
                assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
    }

    /// Remembers a POST that was refused.
    pub fn retry_later(&mut self, to: SocketAddr, post: Post) {
        self.refused.push((to, post));
    }

    /// Sends what was refused until it is taken.
    pub async fn send_what_was_refused(&mut self) {
        for (to, post) in self.refused.drain(..) {
            post.send_until_taken(to, Duration::from_secs(30)).await;
        }
    }

    /// Waits until all has come through, and compares.
    pub async fn drained(&self, limit: Duration) -> Verdict {
        drained(&self.postgres.database, &self.redis.queue, &self.truth, limit).await
    }

    /// The whole end of a run: all comes through, the agents stop and have nothing left to send, and then still
    /// nothing was counted twice.
    ///
    /// `rejects` says whether agents may have rejected events.
    ///
    /// # Panics
    /// When truth and database differ, with both.
    pub async fn assert_exact(&mut self, limit: Duration, rejects: bool) {
        let verdict = self.drained(limit).await;
        assert!(verdict.is_equal(), "{verdict}");
        self.assert_healthy();
        for agent in &mut self.agents {
            agent.finish(rejects).await;
        }
        let verdict = self.drained(limit).await;
        assert!(verdict.is_equal(), "after the agents have finished: {verdict}");
        self.assert_healthy();
        let losses = self.postgres.database.losses().await.expect("Postgres answers");
        assert!(losses.is_empty(), "losses: {losses:?}");
    }
}

impl Agent {
    /// Stops it, and lets a run with `--once` send whatever is left.
    ///
    /// # Panics
    /// When it doesn't stop in time, or can't finish.
    pub async fn finish(&mut self, rejects: bool) {
        if self.process.is_started() {
            self.process.resume();
            let status = self.process.terminate(Duration::from_secs(20)).await;
            let log = self.process.log().display();
            assert!(
                status.code() == Some(0) || (rejects && status.code() == Some(1)),
                "SIGTERM: {status}; log {log}"
            );
        }
        let status = self.once().await;
        let log = self.process.log().display();
        assert!(status == Some(0) || (rejects && status == Some(1)), "--once: {status:?}; log {log}");
    }

    /// Runs it with `--once` and the same state; answers its exit code.
    ///
    /// # Panics
    /// When it doesn't end.
    pub async fn once(&mut self) -> Option<i32> {
        let name = format!("{}-once", self.process.name());
        let logs = self.process.log().parent().expect("a log lies in a folder").to_owned();
        let mut args = self.args.clone();
        args.insert(0, "--once".into());
        let mut once = Process::new(Spec::new(&name, self.process.program().to_owned(), args), &logs);
        once.start();
        once.ended_within(Duration::from_secs(40)).await.code()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // Left to itself it removes its shared memory.
        if let Some(dir) = self.dir.take() {
            if std::thread::panicking() {
                let path = dir.keep();
                reaper::keep(&path);
                eprintln!("logs and data: {}", path.display());
            } else {
                self.processes().for_each(|process| process.stop_now());
            }
        }
    }
}
