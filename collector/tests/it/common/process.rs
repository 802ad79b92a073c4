//! The collector as a process of its own: for signals, and to look at its memory.

use super::http::{Answer, Client, get};
use super::redis::Redis;
use super::wait_for;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

pub(crate) struct Process {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts on free ports and waits until it is ready.
    pub(crate) async fn start(redis: &Redis, flags: &[&str]) -> Self {
        let process = Self::start_unready(&redis.url(), flags);
        let admin = process.admin;
        wait_for("readiness", async || (get(admin, "/readyz").await.status == 200).then_some(())).await;
        process
    }

    pub(crate) fn start_unready(redis: &str, flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_logweir-collector"))
            .args(["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--redis"])
            .arg(redis)
            // What a test says of it comes as a flag.
            .env("LOGWEIR_LOG_FORMAT", "json")
            .args(flags)
            // Else glibc keeps large blocks that were freed, up to about the same again; docs/admission.md says so.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = |line: &str, name: &str| -> Option<SocketAddr> {
            let json = format!("\"{name}\":\"");
            let (_, rest) = line.split_once(&json).or_else(|| line.split_once(&format!("{name}=")))?;
            rest.split(['"', ' ']).next()?.parse().ok()
        };
        let (public, admin) = loop {
            let line = lines.next().expect("the collector says where it listens").unwrap();
            if line.contains("the collector runs") {
                break (address(&line, "listen").unwrap(), address(&line, "admin").unwrap());
            }
        };
        let noted = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *noted.lock().unwrap() += &(line + "\n");
            }
        });
        Self { public, admin, child, log }
    }

    /// One POST on a connection of its own.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        Client::connect(self.public).await.post(headers, body).await
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        wait_for("the exit", async || self.child.try_wait().unwrap()).await.code()
    }

    /// All that it has logged since it runs.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Process {
    /// The most memory that it has held so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
