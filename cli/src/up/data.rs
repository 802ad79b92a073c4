//! The data directory: everything that `up` keeps, and who may use it just now.
//!
//! ```text
//! DATA/lock            held by `up` and by its reaper until the last process has ended
//! DATA/ports.json      where everything is; there while it runs
//! DATA/postgres.url    the same for psql "$(cat …)"
//! DATA/secret          the password of Redis and Postgres
//! DATA/redis/ DATA/postgres/ DATA/agents/ DATA/apps/ DATA/logs/
//! ```

use crate::failure::Failure;
use crate::up::ports::Ports;
use anyhow::Context as _;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the reaper of an `up` that was killed may take to end what it started, with some to spare.
const LEFTOVERS: Duration = Duration::from_secs(20);

/// The directory, locked for as long as this lives.
pub(super) struct DataDir {
    root: PathBuf,
    lock: File,
}

/// Where the data is unless `--data` says otherwise. For root it isn't below its home, which Postgres' user may
/// not enter.
pub(super) fn default_root() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return Some(state.join("logweir"));
    }
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/logweir/up".into());
    }
    absolute("HOME").map(|home| home.join(".local/state/logweir"))
}

/// The places of the `up` that runs on a directory; `None` when none does.
pub(crate) fn running(data: Option<&Path>) -> Option<Ports> {
    let root = data.map_or_else(default_root, |path| Some(path.to_owned()))?;
    let lock = File::open(root.join("lock")).ok()?;
    // Who gets the lock is alone: the file with the ports was left behind.
    if !matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let text = std::fs::read(root.join("ports.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

impl DataDir {
    /// Makes it if need be, and locks it.
    ///
    /// # Errors
    /// [`Failure::Usage`] when another `up` uses it, or it can't be made.
    pub(super) async fn open(chosen: Option<&Path>) -> anyhow::Result<Self> {
        let root = chosen.map_or_else(default_root, |path| Some(path.to_owned()));
        let root = root.ok_or_else(|| Failure::Usage("there is no $HOME: give --data DIR".to_owned()))?;
        let root = std::path::absolute(&root)?;
        let shown = root.display().to_string();
        let unusable = |e: &std::io::Error| Failure::Usage(format!("can't use --data {shown}: {e}"));
        // Others may pass through it: Postgres runs as another user where we are root. What is private below
        // has modes of its own.
        let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(&root).map_err(|e| unusable(&e))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(root.join("lock"))
            .map_err(|e| unusable(&e))?;
        acquire(&mut lock, &root).await?;
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        let dir = Self { root, lock };
        dir.forget_ports();
        for name in ["logs", "redis", "apps", "agents"] {
            let path = dir.path(name);
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|e| unusable(&e))?;
        }
        Ok(dir)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// Another handle of the same lock: it is held until both are closed.
    pub(super) fn lock(&self) -> std::io::Result<File> {
        self.lock.try_clone()
    }

    /// The password of Redis and Postgres, made once.
    pub(super) fn secret(&self) -> anyhow::Result<String> {
        let path = self.path("secret");
        match std::fs::read_to_string(&path) {
            Ok(secret) if !secret.is_empty() => return Ok(secret),
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("can't read {}", path.display()));
            }
            _ => {}
        }
        let secret = crate::token::random_hex()?;
        write_private(&path, secret.as_bytes())?;
        Ok(secret)
    }

    /// Removes what says that all of it runs.
    pub(super) fn forget_ports(&self) {
        for name in ["ports.json", "postgres.url"] {
            // Where it isn't there, nothing is to be done.
            std::fs::remove_file(self.path(name)).ok();
        }
    }
}

/// Waits only for what an `up` that was killed has left behind.
async fn acquire(lock: &mut File, root: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e).context("can't lock the data directory"),
            Err(TryLockError::WouldBlock) => {}
        }
        let mut owner = String::new();
        let mut reader: &File = lock;
        std::io::Seek::rewind(&mut reader)?;
        reader.take(20).read_to_string(&mut owner)?;
        let lives = Path::new("/proc").join(owner.trim()).exists();
        if (lives && !owner.is_empty()) || started.elapsed() > LEFTOVERS {
            let text = format!(
                "another logweir up (process {owner}) runs on {}; stop it, or give another --data DIR",
                root.display()
            );
            return Err(Failure::Usage(text).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes a whole file that only its owner may read: nobody sees a part of it.
pub(super) fn write_private(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::io::Result::Ok(())
    };
    write().with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn one_at_a_time_and_the_secret_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        let data = DataDir::open(Some(&root)).await.unwrap();
        let secret = data.secret().unwrap();
        assert_eq!(secret.len(), 64);
        assert_eq!(std::fs::metadata(root.join("secret")).unwrap().permissions().mode() & 0o777, 0o600);
        let error = DataDir::open(Some(&root)).await.err().unwrap().to_string();
        assert!(error.contains("--data") && error.contains(&std::process::id().to_string()), "{error}");
        drop(data);
        let data = DataDir::open(Some(&root)).await.unwrap();
        assert_eq!(data.secret().unwrap(), secret);
    }

    #[tokio::test]
    async fn ports_count_only_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(folder.path())).await.unwrap();
        assert!(running(Some(folder.path())).is_none());
        let ports = Ports { redis: "redis://h:1".to_owned(), ..Ports::default() };
        ports.write(&data.path("ports.json")).unwrap();
        assert_eq!(running(Some(folder.path())).unwrap().redis, "redis://h:1");
        drop(data);
        assert!(running(Some(folder.path())).is_none());
    }
}
