//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder into which cargo built this test: `target/debug` or `target/release`.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this executable");
    let dir = exe.parent().expect("an executable lies in a folder");
    if dir.ends_with("deps") {
        dir.parent().expect("deps lies in a folder").to_owned()
    } else {
        dir.to_owned()
    }
}

fn in_dir(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is missing: run ./test, or `cargo build --workspace` first (or set LOGWEIR_BIN_DIR)",
        path.display()
    );
    path
}

/// A program of this workspace, such as `logweir-agent`; `LOGWEIR_BIN_DIR` overrides where it is looked for.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn bin(name: &str) -> PathBuf {
    let dir = std::env::var_os("LOGWEIR_BIN_DIR").map_or_else(profile_dir, PathBuf::from);
    in_dir(&dir, name)
}

/// The same program with a fault built in, from `LOGWEIR_FAULT_BIN_DIR`; without that it is built here.
///
/// # Panics
/// When it can't be built.
#[must_use]
pub fn faulty_bin(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("LOGWEIR_FAULT_BIN_DIR") {
        return in_dir(Path::new(&dir), name);
    }
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned();
        let target = root.join("target/fault");
        for (package, feature) in
            [("logweir-worker", "fault-ledger-off"), ("logweir-agent", "fault-journal-ignored")]
        {
            let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .current_dir(&root)
                .args(["build", "--quiet", "--locked", "-p", package, "--features", feature, "--target-dir"])
                .arg(&target)
                .status()
                .expect("cargo runs");
            assert!(status.success(), "{package} with {feature} doesn't build");
        }
        target.join("debug")
    });
    in_dir(dir, name)
}

/// A program of Postgres: from PATH, or from where Debian keeps them.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn postgres_bin(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        dirs.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    dirs.into_iter()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} of Postgres is missing: run ./test, which installs it"))
}

/// `redis-server`.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn redis_server() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("redis-server"))
        .find(|path| path.is_file())
        .expect("redis-server is missing: run ./test, which installs it")
}
