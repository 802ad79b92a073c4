//! Where the programs are, and which user may run Postgres.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// The programs that `up` starts.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) agent: PathBuf,
    pub(super) collector: PathBuf,
    pub(super) worker: PathBuf,
    pub(super) redis: PathBuf,
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

/// A user and its group.
pub(super) type User = (u32, u32);

impl Programs {
    /// Finds them. `cluster` is where Postgres' data is, or will be: an older one needs the Postgres that made it.
    ///
    /// # Errors
    /// [`Failure::Usage`] that names what is missing, and says how to get it.
    pub(super) fn find(cluster: &Path) -> Result<Self, Failure> {
        let mut path = path_dirs();
        let mut own = path.clone();
        if let Ok(exe) = std::env::current_exe()
            && let Some(dir) = exe.parent()
        {
            own.insert(0, dir.to_owned());
        }
        path.extend(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
        let postgres = postgres_dirs(&path, std::fs::read_to_string(cluster.join("PG_VERSION")).ok());
        let sibling =
            "it lies beside logweir after `cargo build --release`; build it, or add its folder to PATH";
        Ok(Self {
            agent: first(&own, "logweir-agent", sibling)?,
            collector: first(&own, "logweir-collector", sibling)?,
            worker: first(&own, "logweir-worker", sibling)?,
            redis: first(&path, "redis-server", "install it, such as by apt-get install redis-server")?,
            initdb: first(&postgres, "initdb", "install it, such as by apt-get install postgresql")?,
            postgres: first(&postgres, "postgres", "install it, such as by apt-get install postgresql")?,
        })
    }
}

fn path_dirs() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

/// Debian keeps the servers out of PATH, one folder for each version: the newest first, but before it the one
/// that made the data.
fn postgres_dirs(path: &[PathBuf], made_by: Option<String>) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let made_by: Option<u32> = made_by.and_then(|version| version.trim().parse().ok());
    let exact = versions.iter().filter(|(version, _)| Some(*version) == made_by).map(|(_, dir)| dir.clone());
    let newest = versions.iter().map(|(_, dir)| dir.clone());
    exact.chain(path.iter().cloned()).chain(newest).collect()
}

fn first(dirs: &[PathBuf], name: &str, advice: &str) -> Result<PathBuf, Failure> {
    dirs.iter()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Failure::Usage(format!("can't find the program {name}: {advice}")))
}

/// Postgres refuses to run as root; `None` when we are somebody else, and it runs as we do.
pub(super) fn postgres_user() -> Result<Option<User>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = user_in(&passwd, &["postgres", "nobody"]);
    user.map(Some).ok_or_else(|| {
        Failure::Usage(
            "Postgres refuses to run as root, and there is neither a user postgres nor nobody; run logweir up \
             as another user"
                .to_owned(),
        )
    })
}

fn user_in(passwd: &str, names: &[&str]) -> Option<User> {
    names.iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse::<u32>().ok());
        Some((ids.next()??, ids.next()??))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_user_is_taken() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\npostgres:x:115:120:,:/:\n";
        assert_eq!(user_in(passwd, &["postgres", "nobody"]), Some((115, 120)));
        assert_eq!(user_in(passwd, &["pg", "nobody"]), Some((65534, 65534)));
        assert_eq!(user_in("postgres:x:oops\n", &["postgres"]), None);
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let error = first(&[PathBuf::from("/nowhere")], "logweir-agent", "build it").unwrap_err();
        assert_eq!(error.to_string(), "can't find the program logweir-agent: build it");
    }
}
