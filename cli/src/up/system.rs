//! All processes together: started in order, watched, stopped in order.

use super::apps;
use super::child::Child;
use super::data::DataDir;
use super::http::Http;
use super::plan::{Plan, Role, Spec};
use super::ports::{Pids, Ports};
use super::reaper::Reaper;
use super::servers;
use anyhow::Context as _;
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long everything may take to become ready: Redis and Postgres may have much to recover.
const READY: Duration = Duration::from_secs(120);
/// How often is looked whether something is ready.
const LOOK: Duration = Duration::from_millis(50);

/// The processes.
pub(super) struct System {
    children: Vec<Child>,
    logs: PathBuf,
    reaper: Reaper,
}

impl System {
    /// Nothing runs yet.
    pub(super) fn new(data: &DataDir) -> anyhow::Result<Self> {
        let reaper = Reaper::start(data.lock()?).context("can't start sh")?;
        Ok(Self { children: Vec::new(), logs: data.logs(), reaper })
    }

    fn spawn(&mut self, spec: Spec) -> anyhow::Result<()> {
        // No await between the start and the list: a start that is given up leaves nothing unknown behind.
        self.children.push(Child::spawn(spec, &self.logs, &mut self.reaper)?);
        Ok(())
    }

    /// Starts something that ends by itself, and waits for that.
    pub(super) async fn complete(&mut self, spec: Spec) -> anyhow::Result<()> {
        self.spawn(spec)?;
        match self.children.last_mut() {
            Some(child) => child.done(&mut self.reaper).await?,
            None => return Ok(()),
        }
        self.children.pop();
        Ok(())
    }

    /// Starts all, and waits until all is ready.
    ///
    /// When this is dropped half-way, [`System::stop_all`] ends what runs.
    pub(super) async fn start(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        self.spawn(servers::redis(plan)?)?;
        let postgres = servers::postgres(plan, self).await?;
        self.spawn(postgres)?;
        self.wait("redis", deadline, || servers::redis_ready(plan)).await?;
        self.wait("postgres", deadline, || servers::postgres_ready(plan)).await?;
        for spec in &plan.services {
            self.spawn(spec.clone())?;
        }
        let http = Http::new()?;
        for spec in &plan.services {
            let Some(admin) = spec.admin else { continue };
            let http = &http;
            self.wait(&spec.name, deadline, || http.ready(admin)).await?;
        }
        if !plan.apps.is_empty() {
            apps::write_script(&plan.apps_home)?;
        }
        for spec in &plan.apps {
            self.spawn(spec.clone())?;
        }
        Ok(())
    }

    async fn wait<F: Future<Output = Result<(), String>>>(
        &mut self,
        name: &str,
        deadline: Instant,
        look: impl Fn() -> F,
    ) -> anyhow::Result<()> {
        while let Err(why) = look().await {
            self.check()?;
            if Instant::now() > deadline {
                let child = self.children.iter().find(|child| child.spec.name == name);
                return Err(servers::late(child, name, &why));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Fails when one has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.children.iter_mut().filter(|child| !child.spec.role.is_setup()).try_for_each(Child::check)
    }

    fn pids(&self, role: Role) -> Vec<u32> {
        self.children.iter().filter(|child| child.spec.role == role).map(Child::pid).collect()
    }

    /// Where everything is.
    pub(super) fn ports(&self, plan: &Plan) -> Ports {
        let one = |role| self.pids(role).first().copied().unwrap_or(0);
        let pids = Pids {
            collector: one(Role::Collector),
            worker: self.pids(Role::Worker),
            agent: self.pids(Role::Agent),
            redis: one(Role::Redis),
            postgres: one(Role::Postgres),
        };
        Ports { pids, ..plan.ports.clone() }
    }

    fn signal(&mut self, role: Role, signal: Signal) {
        self.children
            .iter_mut()
            .filter(|child| child.spec.role == role)
            .for_each(|child| child.signal(signal));
    }

    /// SIGSTOP.
    pub(super) fn pause_workers(&mut self) {
        self.signal(Role::Worker, Signal::STOP);
    }

    /// SIGCONT.
    pub(super) fn resume_workers(&mut self) {
        self.signal(Role::Worker, Signal::CONT);
    }

    /// Stops all of one kind, and waits until they have ended.
    pub(super) async fn stop(&mut self, role: Role) {
        // All hear of it before one is waited for.
        self.signal(role, role.ends_on());
        for child in self.children.iter_mut().filter(|child| child.spec.role == role) {
            child.stop().await;
            self.reaper.ended(child.pid());
        }
        self.children.retain(|child| child.spec.role != role);
    }

    /// Stops everything, whatever of it runs: first those who send, last those who keep.
    pub(super) async fn stop_all(&mut self) {
        for role in
            [Role::Setup, Role::App, Role::Agent, Role::Collector, Role::Worker, Role::Postgres, Role::Redis]
        {
            self.stop(role).await;
        }
    }
}
