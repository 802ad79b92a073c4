//! A private Redis, and what can be seen of the queue in it from outside.

use crate::bins;
use crate::ports::free_port;
use crate::process::{Process, Spec};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The stream of batches.
pub const QUEUE: &str = "logweir:{0}:queue";
/// The stream of dead letters.
pub const DEAD: &str = "logweir:{0}:dead";

/// The server.
#[derive(Debug)]
pub struct Redis {
    /// Its process.
    pub process: Process,
    /// How to ask it.
    pub queue: Queue,
}

/// How to reach it, whether it lives or not.
#[derive(Debug, Clone)]
pub struct Queue {
    port: u16,
}

/// What is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Batches.
    pub queued: u64,
    /// Those of them that a worker holds.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Redis {
    /// As durable as the default of `--ack` wants it; not started yet.
    #[must_use]
    pub fn new(dir: &Path, logs: &Path) -> Self {
        let port = free_port();
        let data = dir.join("redis");
        std::fs::create_dir_all(&data).expect("Redis' folder");
        let args = [
            ["--port", &port.to_string()],
            ["--bind", "127.0.0.1"],
            ["--dir", data.to_str().expect("UTF-8")],
            ["--save", ""],
            ["--appendonly", "yes"],
            ["--appendfsync", "always"],
            ["--maxmemory-policy", "noeviction"],
        ];
        let program: PathBuf = bins::redis_server();
        Self {
            process: Process::new(Spec::new("redis", program, args.concat()), logs),
            queue: Queue { port },
        }
    }
}

impl Queue {
    /// For `--redis`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection, or why not.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        connection.set_response_timeout(Duration::from_secs(5));
        Ok(connection)
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it doesn't.
    pub async fn ready(&self) {
        crate::eventually("Redis answers", Duration::from_secs(20), || async {
            let Ok(mut connection) = self.connect().await else { return false };
            redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
        })
        .await;
    }

    /// What is in the queue, as Redis itself says.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn depth(&self) -> redis::RedisResult<Depth> {
        let mut connection = self.connect().await?;
        let queued = connection.xlen(QUEUE).await?;
        let dead = connection.xlen(DEAD).await?;
        let groups: Vec<std::collections::HashMap<String, redis::Value>> =
            match redis::cmd("XINFO").arg("GROUPS").arg(QUEUE).query_async(&mut connection).await {
                Ok(groups) => groups,
                // The stream isn't made before the first batch or worker comes.
                Err(e) if e.to_string().contains("no such key") => Vec::new(),
                Err(e) => return Err(e),
            };
        let pending = groups
            .iter()
            .filter_map(|group| group.get("pending"))
            .map(|value| redis::from_redis_value::<u64>(value.clone()).unwrap_or(0))
            .sum();
        Ok(Depth { queued, pending, dead })
    }
}
