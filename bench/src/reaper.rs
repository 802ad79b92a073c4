//! Ends what is left when this process itself is killed.
//!
//! A shell holds one end of a pipe and is told of each process group and folder. When the pipe closes, however that
//! came, it kills the groups that it was not told to forget, and removes the folders.

use anyhow::Context as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

const SCRIPT: &str = r#"
groups=" "; dirs=""
while read -r op what; do
  case $op in
    group) groups="$groups$what " ;;
    ended) groups=$(printf '%s' "$groups" | sed "s/ $what / /") ;;
    dir) dirs="$dirs
$what" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
[ "$groups" = " " ] || sleep 0.2
printf '%s\n' "$dirs" | while read -r dir; do [ -z "$dir" ] || rm -rf -- "$dir"; done
"#;

static SHELL: Mutex<Option<(ChildStdin, Child)>> = Mutex::new(None);

/// Tells it one thing: `group ID`, `ended ID`, `dir PATH`.
///
/// # Errors
/// When there is no shell to tell.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut slot = SHELL.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.is_none() {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A terminal's ^C goes to the foreground group.
            .process_group(0)
            .spawn()
            .context("sh")?;
        let pipe = shell.stdin.take().context("sh has no stdin")?;
        *slot = Some((pipe, shell));
    }
    if let Some((pipe, _)) = slot.as_mut() {
        pipe.write_all(format!("{line}\n").as_bytes()).context("sh has ended")?;
    }
    Ok(())
}
