//! File systems of a test's own, which only root can mount.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// It is there until it is dropped, or the test has ended.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A file system in memory, of so many KiB. `None`, and a line that says so, where nothing can be mounted.
    pub(crate) fn memory(at: &Path, kib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        Self::mount(at, &["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
    }

    /// The same folder over itself, where nothing can be written.
    pub(crate) fn read_only(at: &Path) -> Option<Self> {
        let over = Self::bound(at, at)?;
        let again = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at).status();
        assert!(again.unwrap().success());
        Some(over)
    }

    /// One folder in the place of another.
    pub(crate) fn bound(folder: &Path, at: &Path) -> Option<Self> {
        Self::mount(at, &["--bind", folder.to_str().unwrap()])
    }

    /// What is written goes to `layers`, and `lower` stays as it is.
    pub(crate) fn overlay(lower: &Path, layers: &Path, at: &Path) -> Option<Self> {
        let (upper, work) = (layers.join("upper"), layers.join("work"));
        for dir in [&upper, &work, at] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let [lower, upper, work] = [lower, &upper, &work].map(Path::display);
        let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        Self::mount(at, &["-t", "overlay", "-o", &layers, "overlay"])
    }

    #[expect(clippy::print_stdout, reason = "whoever runs the tests shall know that this one hasn't run")]
    fn mount(at: &Path, args: &[&str]) -> Option<Self> {
        if Command::new("mount").args(args).arg(at).output().is_ok_and(|done| done.status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("SKIPPED: nothing can be mounted here, since that needs root");
        None
    }

    /// Takes all the room that there is.
    pub(crate) fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        filler
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}
