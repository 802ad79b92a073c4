//! A private Redis process, and a few words of its protocol: independent of the crate that the collector uses.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Durable as the collector wants it.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

pub(crate) struct Redis {
    child: Child,
    port: u16,
    flags: Vec<String>,
    dir: tempfile::TempDir,
}

/// A value of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    List(Vec<Value>),
}

/// An entry of the queue, as it stands in Redis.
pub(crate) type Entry = HashMap<String, Vec<u8>>;

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(DURABLE)
    }

    pub(crate) fn with(flags: &[&str]) -> Self {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        let child = spawn(port, dir.path(), &flags);
        let redis = Self { child, port, flags, dir };
        redis.wait();
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.try_command(&["PING"]).is_err() {
            assert!(Instant::now() < deadline, "Redis doesn't start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, self.dir.path(), &self.flags);
        self.wait();
    }

    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    pub(crate) fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).unwrap()
    }

    fn try_command(&self, words: &[&str]) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        read_value(&mut BufReader::new(stream))
    }

    /// All entries of the queue, the oldest first.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let Value::List(entries) = self.command(&["XRANGE", "logweir:{0}:queue", "-", "+"]) else {
            panic!("no list")
        };
        entries.into_iter().map(entry).collect()
    }

    /// Removes the `n` oldest entries, as if a worker had finished them.
    pub(crate) fn drain(&self, n: usize) {
        let Value::List(entries) = self.command(&["XRANGE", "logweir:{0}:queue", "-", "+"]) else {
            panic!("no list")
        };
        for one in entries.into_iter().take(n) {
            let Value::List(parts) = &one else { panic!("no entry") };
            let Value::Text(id) = &parts[0] else { panic!("no ID") };
            let id = String::from_utf8(id.clone()).unwrap();
            let bytes = entry(one)["body"].len();
            self.command(&["XDEL", "logweir:{0}:queue", &id]);
            self.command(&["DECRBY", "logweir:{0}:bytes", &bytes.to_string()]);
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A paused process must be killed as well.
        let _already_ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn entry(value: Value) -> Entry {
    let Value::List(mut parts) = value else { panic!("no entry") };
    let Some(Value::List(fields)) = parts.pop() else { panic!("no fields") };
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        other => panic!("no text: {other:?}"),
    };
    fields.chunks(2).map(|pair| (String::from_utf8(text(&pair[0])).unwrap(), text(&pair[1]))).collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, dir: &Path, flags: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(dir)
        .args(["--maxmemory-policy", "noeviction"])
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn read_value(reader: &mut BufReader<TcpStream>) -> Result<Value, String> {
    let mut line = String::new();
    reader.read_line(&mut line).map_err(|e| e.to_string())?;
    let Some((kind, rest)) = line.trim_end().split_at_checked(1) else { return Err("no answer".to_owned()) };
    let number = || rest.parse::<i64>().map_err(|e| e.to_string());
    match kind {
        "+" => Ok(Value::Text(rest.as_bytes().to_vec())),
        ":" => Ok(Value::Int(number()?)),
        "$" => match usize::try_from(number()?) {
            Err(_) => Ok(Value::Nil),
            Ok(length) => {
                let mut text = vec![0; length + 2];
                reader.read_exact(&mut text).map_err(|e| e.to_string())?;
                text.truncate(length);
                Ok(Value::Text(text))
            }
        },
        "*" => (0..number()?.max(0)).map(|_| read_value(reader)).collect::<Result<_, _>>().map(Value::List),
        _ => Err(line.trim_end().to_owned()),
    }
}
