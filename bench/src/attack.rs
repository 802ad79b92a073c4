//! The hostile clients of `hostile`: a process of their own, so that their work isn't the good ones'.
//!
//! It is this program again, which says `ready` when all are connected, holds them until its stdin ends, and then says
//! how many it holds.

use crate::args::AttackArgs;
use crate::place::Place;
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections from each address: below the collector's limit, and far below the ports that there are.
const PER_ADDRESS: u64 = 900;
/// How long all of them may take to connect.
const CONNECTING: Duration = Duration::from_secs(60);
/// Between two letters, and before who was cut off comes again.
const PAUSE: Duration = Duration::from_secs(1);

/// The process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Attackers {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Attackers {
    /// Starts them, and waits until all are connected.
    ///
    /// # Errors
    /// When they can't connect.
    pub(crate) async fn start(place: &Place, to: SocketAddr, idle: u64, slow: u64) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["attack", "--to", &to.to_string()])
            .args(["--idle", &idle.to_string(), "--slow", &slow.to_string()])
            .current_dir(place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let mut attackers = Self { child, stdin, lines };
        let line = timeout(CONNECTING, attackers.lines.next_line())
            .await
            .context("the attackers don't connect")??;
        anyhow::ensure!(line.as_deref() == Some("ready"), "the attackers ended: {line:?}");
        Ok(attackers)
    }

    /// Ends them. Answers how many connections they held then.
    ///
    /// # Errors
    /// When they don't say so.
    pub(crate) async fn end(self) -> anyhow::Result<u64> {
        let Self { mut child, stdin, mut lines } = self;
        drop(stdin);
        let held = timeout(CONNECTING, lines.next_line()).await??.context("the attackers ended")?.parse()?;
        timeout(CONNECTING, child.wait()).await??;
        Ok(held)
    }
}

/// Is the attackers.
///
/// # Errors
/// When there are not enough file descriptors.
pub(crate) async fn run(args: &AttackArgs) -> anyhow::Result<()> {
    let all = args.idle + args.slow;
    let limit = getrlimit(Resource::Nofile);
    let wanted = all + 64;
    anyhow::ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{wanted} open files are needed: raise `ulimit -Hn`, or ask for fewer connections"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })?;
    let connected = Arc::new(AtomicU64::new(0));
    let mut attackers = JoinSet::new();
    for number in 0..all {
        let from = source(number)?;
        attackers.spawn(attack(from, args.to, number < args.slow, Arc::clone(&connected)));
        // So that a backlog of some hundred is enough.
        if number % 100 == 99 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    while connected.load(Ordering::Relaxed) < all {
        sleep(Duration::from_millis(20)).await;
    }
    say("ready")?;
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    say(&connected.load(Ordering::Relaxed).to_string())?;
    attackers.shutdown().await;
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    Ok(writeln!(stdout, "{line}").and_then(|()| stdout.flush())?)
}

/// 127.0.0.2, 127.0.0.3, …
fn source(number: u64) -> anyhow::Result<IpAddr> {
    Ok(Ipv4Addr::new(127, 0, 0, u8::try_from(2 + number / PER_ADDRESS)?).into())
}

async fn attack(from: IpAddr, to: SocketAddr, slow: bool, connected: Arc<AtomicU64>) {
    loop {
        if let Ok(stream) = connect(from, to).await {
            connected.fetch_add(1, Ordering::Relaxed);
            hold(stream, slow).await;
            connected.fetch_sub(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// Until the other side ends it.
async fn hold(stream: TcpStream, slow: bool) {
    let (mut read, mut write) = stream.into_split();
    let letters = async {
        if slow {
            let beginning = b"POST /v1/events HTTP/1.1\r\nHost: collector\r\nX-Slow: ";
            let mut sent = write.write_all(beginning).await;
            while sent.is_ok() {
                sleep(PAUSE).await;
                sent = write.write_all(b"x").await;
            }
        } else {
            std::future::pending::<()>().await;
        }
    };
    let mut buffer = [0; 512];
    let end = async { while matches!(read.read(&mut buffer).await, Ok(1..)) {} };
    tokio::select! {
        () = letters => {}
        () = end => {}
    }
}
