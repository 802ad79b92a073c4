//! `logweir token new`: a token for an agent. The file keeps only its hash, so who reads the file can't post.

use crate::args::Shared;
use crate::failure::Failure;
use crate::output;
use anyhow::Context as _;
use clap::Subcommand;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use logweir_proto::limits::MAX_SERVICE_CHARS;
use logweir_telemetry::config::duration;
use logweir_telemetry::exit::Exit;
use rand::TryRng as _;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Make tokens for agents
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
}

/// Make a token for an agent, and print it
///
/// The token stands on stdout alone, and nowhere else: the file that the collector reads gets only its hash, as
/// a line "AGENT_ID sha256:HEX [expires:TIME]". An agent may have several tokens, so that one can be replaced without a
/// gap; to revoke one, remove its line: the collector reads the file again within a second or two. Blank lines are
/// ignored, and # begins a comment.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  logweir token new web-1 --tokens /etc/logweir/tokens > web-1.token
  logweir-collector --tokens /etc/logweir/tokens …
  logweir-agent --token-file web-1.token …")]
struct New {
    /// The agent's ID: 1 to 128 characters of A–Z a–z 0–9 . _ / : - beginning with a letter or digit
    #[arg(value_parser = agent_id)]
    agent_id: String,
    /// The file with the collector's tokens; it is made when it doesn't exist
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// How long the token works, such as 90d [default: until its line is removed]
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    expires: Option<Duration>,
}

fn agent_id(text: &str) -> Result<String, String> {
    let charset = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:-".contains(&b));
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if charset && first && text.len() <= MAX_SERVICE_CHARS {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 128 characters of A-Z a-z 0-9 . _ / : - beginning with a letter or digit"
            .to_owned())
    }
}

/// Does it.
pub(crate) fn run(args: &Args, shared: &Shared) -> anyhow::Result<Exit> {
    let Command::New(new) = &args.command;
    let token = format!("lw_{}", random_hex()?);
    let expires = new.expires.map(|after| end(Timestamp::now(), after)).transpose()?;
    let line = tokens_line(&new.agent_id, &token, expires);
    // The hash first: a token that was printed must work.
    append(&new.tokens, &line)
        .map_err(|e| Failure::Usage(format!("can't write the tokens file {}: {e}", new.tokens.display())))?;
    if shared.json {
        let expires = expires.map(|end| end.to_string());
        output::json(&serde_json::json!({"agent": new.agent_id, "token": token, "expires": expires}))?;
    } else {
        output::data(format!("{token}\n").as_bytes())?;
    }
    Ok(Exit::Done)
}

/// 32 random bytes as 64 digits, for secrets.
pub(crate) fn random_hex() -> anyhow::Result<String> {
    let mut random = [0u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut random).context("the operating system gave no random bytes")?;
    Ok(hex(&random))
}

/// In whole seconds, rounded up.
fn end(now: Timestamp, after: Duration) -> anyhow::Result<Timestamp> {
    let end = now
        .checked_add(after)
        .and_then(|end| end.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil)));
    end.map_err(|e| Failure::Usage(format!("--expires is too far away: {e}")).into())
}

fn tokens_line(agent_id: &str, token: &str, expires: Option<Timestamp>) -> String {
    let expires = expires.map(|end| format!(" expires:{end}")).unwrap_or_default();
    format!("{agent_id} sha256:{}{expires}\n", hex(&Sha256::digest(token.as_bytes())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Appends one line, durably and in one write, while no other `token new` does.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    file.lock()?;
    let text = if ends_within_a_line(&mut file)? { format!("\n{line}") } else { line.to_owned() };
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn ends_within_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_file_keeps_the_hash_only() {
        let line = tokens_line("web-1", "lw_abc", None);
        // As `printf lw_abc | sha256sum` says.
        let hash = "440ac5970e622df3d8c208f5cdb6cc471c72dca18e0a36ac8f34122f86309cb5";
        assert_eq!(line, format!("web-1 sha256:{hash}\n"));
        assert!(!line.contains("lw_abc"));
    }

    #[test]
    fn an_end_is_written_as_the_collector_reads_it() {
        let now: Timestamp = "2026-11-24T10:03:00.25Z".parse().unwrap();
        let end = end(now, Duration::from_secs(90 * 86_400)).unwrap();
        let line = tokens_line("web-1", "lw_abc", Some(end));
        assert!(line.ends_with(" expires:2027-02-22T10:03:01Z\n"), "{line}");
        assert!(super::end(now, Duration::from_secs(u64::MAX)).is_err());
    }

    #[test]
    fn lines_are_appended_and_never_run_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        append(&path, "a sha256:1\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "# by hand\na sha256:1").unwrap();
        append(&path, "b sha256:2\n").unwrap();
        append(&path, "c sha256:3\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "# by hand\na sha256:1\nb sha256:2\nc sha256:3\n"
        );
    }

    #[test]
    fn many_at_once_lose_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::thread::scope(|scope| {
            for agent in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..8 {
                        append(path, &format!("agent-{agent} sha256:x\n")).unwrap();
                    }
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|l| l.ends_with(" sha256:x")).count(), 64);
        assert_eq!(text.lines().count(), 64);
    }

    #[test]
    fn agent_ids_are_of_the_service_charset() {
        for good in ["a", "web-1", "A.b_c/d:e-f", &"x".repeat(128)] {
            assert!(agent_id(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "-a", "#a", "ä", &"x".repeat(129)] {
            assert!(agent_id(bad).is_err(), "{bad}");
        }
    }
}
