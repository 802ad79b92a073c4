//! Ends what is left when the test process itself is killed or interrupted.
//!
//! A shell holds one end of a pipe and is told of each process group and folder. When the pipe closes, however
//! that came, it kills and removes what it was not told to forget.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

const SCRIPT: &str = r#"
groups=" "; dirs=""
while read -r op what; do
  case $op in
    group) groups="$groups$what " ;;
    ended) groups=$(printf '%s' "$groups" | sed "s/ $what / /") ;;
    dir) dirs="$dirs
$what" ;;
    keep) dirs=$(printf '%s\n' "$dirs" | grep -vxF "$what") ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
[ "$groups" = " " ] || sleep 0.2
printf '%s\n' "$dirs" | while read -r dir; do [ -z "$dir" ] || rm -rf -- "$dir"; done
"#;

static PIPE: OnceLock<(Mutex<ChildStdin>, Child)> = OnceLock::new();

fn say(line: &str) {
    let (pipe, _shell) = PIPE.get_or_init(|| {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            // A terminal's ^C goes to the foreground group.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        (Mutex::new(shell.stdin.take().expect("a piped stdin")), shell)
    });
    let mut pipe = pipe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    pipe.write_all(format!("{line}\n").as_bytes()).expect("the reaper listens");
}

pub(crate) fn group_started(id: u32) {
    say(&format!("group {id}"));
}

pub(crate) fn group_ended(id: u32) {
    say(&format!("ended {id}"));
}

pub(crate) fn remove_at_end(dir: &Path) {
    say(&format!("dir {}", dir.display()));
}

pub(crate) fn keep(dir: &Path) {
    say(&format!("keep {}", dir.display()));
}
