//! Where everything of one run lies: its folder, its ports, the programs.

use crate::args::Args;
use crate::reaper;
use anyhow::Context as _;
use rand::RngExt as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Below the range from which the kernel takes ports for outgoing connections.
const RANGE: std::ops::Range<u16> = 10_000..30_000;

/// The folder is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    bin_dir: PathBuf,
    /// For Postgres.
    pub(crate) postgres_settings: Vec<String>,
}

impl Place {
    /// # Errors
    /// When the folder can't be made.
    pub(crate) fn new(args: &Args) -> anyhow::Result<Self> {
        let within = args.dir.clone().unwrap_or_else(std::env::temp_dir);
        let within = std::path::absolute(within)?;
        let dir = tempfile::Builder::new().prefix("logweir-bench-").tempdir_in(&within).context("--dir")?;
        reaper::say(&format!("dir {}", dir.path().display()))?;
        // Postgres may have to run as another user.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
        let bin_dir = match &args.bin_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => std::env::current_exe()?.parent().context("this program lies nowhere")?.to_owned(),
        };
        Ok(Self { dir, bin_dir, postgres_settings: args.postgres_setting.clone() })
    }

    /// All of it.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A new folder in it.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.dir.path().join(name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    /// A program of the services.
    ///
    /// # Errors
    /// When it isn't built.
    pub(crate) fn service(&self, name: &str) -> anyhow::Result<PathBuf> {
        let program = self.bin_dir.join(name);
        let profile = if self.profile() == "release" { " --release" } else { "" };
        anyhow::ensure!(
            program.is_file(),
            "{} is missing: run `cargo build --workspace{profile}` first, or set --bin-dir",
            program.display()
        );
        Ok(program)
    }

    /// The build profile of the services: the name of their folder.
    pub(crate) fn profile(&self) -> String {
        self.bin_dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// A program from PATH, or from where Debian keeps those of Postgres.
///
/// # Errors
/// When there is none.
pub(crate) fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        dirs.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let found = dirs.into_iter().map(|dir| dir.join(name)).find(|program| program.is_file());
    found.with_context(|| format!("{name} is not installed: ./test installs what is missing"))
}

/// An address of loopback on which nobody listens.
///
/// # Errors
/// When there is none.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    (0..1_000)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(RANGE))))
        .find(|address| TcpListener::bind(address).is_ok())
        .with_context(|| format!("no free port in {RANGE:?}"))
}
