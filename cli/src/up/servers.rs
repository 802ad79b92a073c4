//! The private Redis and Postgres: how they are set up, and when they answer.

use super::child::Child;
use super::data::write_private;
use super::plan::{POSTGRES_USER, Plan, Role, Spec};
use super::programs::User;
use super::system::System;
use crate::postgres::Database;
use anyhow::Context as _;
use logweir_queue::{Ack, Queue, Settings};
use logweir_telemetry::postgres::PostgresAccess;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::Path;
use std::time::Duration;

/// How long one look at a server may take.
const LOOK: Duration = Duration::from_secs(2);

/// Redis, durable as the default of `--ack` wants it. The password stands in its file, not in its arguments.
pub(super) fn redis(plan: &Plan) -> anyhow::Result<Spec> {
    let settings = format!(
        "# Made anew by each logweir up.\n\
         bind 127.0.0.1\n\
         port {}\n\
         requirepass {}\n\
         dir ./\n\
         save \"\"\n\
         appendonly yes\n\
         appendfsync always\n\
         maxmemory-policy noeviction\n",
        plan.redis_port, plan.secret
    );
    write_private(&plan.redis_home.join("redis.conf"), settings.as_bytes())?;
    let mut spec = Spec::new("redis", Role::Redis, plan.programs.redis.clone()).arg("redis.conf");
    spec.folder = Some(plan.redis_home.clone());
    Ok(spec)
}

/// Whether Redis answers and is set up as it must be.
pub(super) async fn redis_ready(plan: &Plan) -> Result<(), String> {
    let settings = Settings::new(plan.redis.expose(), Ack::Fsync, LOOK);
    let queue = Queue::new(settings).map_err(|e| e.to_string())?;
    queue.check().await.map(drop).map_err(|e| e.to_string())
}

/// Postgres, whose data is made first when there is none.
pub(super) async fn postgres(plan: &Plan, system: &mut System) -> anyhow::Result<Spec> {
    let home = &plan.postgres_home;
    let data = home.join("data");
    private_folder(home, plan.postgres_user)?;
    may_enter(plan, system).await?;
    if !data.join("PG_VERSION").exists() {
        initdb(plan, &data, system).await?;
    }
    let mut spec = Spec::new("postgres", Role::Postgres, plan.programs.postgres.clone()).arg("-D").arg(&data);
    for setting in [
        &format!("port={}", plan.postgres_port),
        "listen_addresses=127.0.0.1",
        // A socket's path has 107 bytes at most, which the data directory's may exceed.
        "unix_socket_directories=",
        "timezone=UTC",
        "log_timezone=UTC",
    ] {
        spec = spec.arg("-c").arg(setting);
    }
    spec.user = plan.postgres_user;
    spec.folder = Some("/".into());
    Ok(spec)
}

/// Whether Postgres answers.
pub(super) async fn postgres_ready(plan: &Plan) -> Result<(), String> {
    let database =
        Database::connect(&plan.postgres, &PostgresAccess::default()).await.map_err(|e| e.to_string())?;
    database.rows("SELECT 1", &[]).await.map(drop).map_err(|e| e.to_string())
}

/// Makes the data beside its place, and moves it there when it is whole.
async fn initdb(plan: &Plan, data: &Path, system: &mut System) -> anyhow::Result<()> {
    let unfinished = plan.postgres_home.join("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    let password = plan.postgres_home.join("password");
    write_private(&password, plan.secret.as_bytes())?;
    give(&password, plan.postgres_user)?;
    let mut spec = Spec::new("initdb", Role::Setup, plan.programs.initdb.clone());
    let username = format!("--username={POSTGRES_USER}");
    for arg in ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", &username] {
        spec = spec.arg(arg);
    }
    spec = spec.arg("--pwfile").arg(&password).arg("-D").arg(&unfinished);
    spec.user = plan.postgres_user;
    spec.folder = Some("/".into());
    system.complete(spec).await?;
    std::fs::remove_file(&password)?;
    std::fs::rename(&unfinished, data).context("can't move Postgres' new data to its place")?;
    std::fs::File::open(&plan.postgres_home)?.sync_all()?;
    Ok(())
}

fn private_folder(path: &Path, owner: Option<User>) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("can't make {}", path.display()))?;
    give(path, owner)
}

fn give(path: &Path, owner: Option<User>) -> anyhow::Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    chown(path, Some(uid), Some(gid)).with_context(|| format!("can't give {} to Postgres", path.display()))
}

/// A folder above may keep Postgres' user out; its own message would not say what to do.
async fn may_enter(plan: &Plan, system: &mut System) -> anyhow::Result<()> {
    if plan.postgres_user.is_none() {
        return Ok(());
    }
    let mut spec = Spec::new("access", Role::Setup, "test".into()).arg("-w").arg(&plan.postgres_home);
    spec.user = plan.postgres_user;
    spec.folder = Some("/".into());
    let entered = system.complete(spec).await;
    entered.map_err(|_| {
        let text = format!(
            "Postgres runs as another user, since we are root, and that user may not enter {}; give a --data \
             directory that others may pass through, such as one below /var/lib",
            plan.postgres_home.display()
        );
        crate::failure::Failure::Usage(text).into()
    })
}

/// What a server that isn't ready in time is told of.
pub(super) fn late(child: Option<&Child>, name: &str, why: &str) -> anyhow::Error {
    let log =
        child.map(|child| format!("; its log {} ends with:\n{}", child.log().display(), child.log_tail()));
    anyhow::anyhow!("{name} isn't ready: {why}{}", log.unwrap_or_default())
}
