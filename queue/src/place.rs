//! Where Redis is, and how one gets in: its URL, TLS, the password's file, and Sentinel.
//!
//! ```text
//! redis://, rediss://, unix ─────────────────────────────────┐
//! redis+sentinel://a,b/service ─ ask a, then b ─► the master ┴─► with what the files hold now ─► a connection
//! ```
//!
//! Each connection is made anew from here: a password or certificate that was exchanged meanwhile, or a master that
//! was promoted, is found at the next attempt.

use crate::error::{QueueError, has_code};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisError, TlsCertificates, cmd,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// The port of a sentinel that names none.
const SENTINEL_PORT: u16 = 26_379;

/// What is needed to get into Redis beside its URL: the same flags for every program that uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Access {
    /// Who may vouch for Redis, in PEM, with rediss:// [default: whom the system trusts]
    #[arg(long, value_name = "FILE", global = true)]
    pub redis_ca_file: Option<PathBuf>,
    /// The certificate to show to Redis, in PEM, where it asks for one
    #[arg(long, value_name = "FILE", global = true)]
    pub redis_cert_file: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", global = true)]
    pub redis_key_file: Option<PathBuf>,
    /// The password for Redis, when it isn't in the URL; read again for each connection
    #[arg(long, value_name = "FILE", global = true)]
    pub redis_password_file: Option<PathBuf>,
}

/// One server, or a service of Sentinel.
pub(crate) struct Place {
    server: ConnectionInfo,
    sentinels: Option<Sentinels>,
    access: Access,
}

struct Sentinels {
    service: String,
    servers: Vec<ConnectionInfo>,
    /// The one that answered last.
    good: AtomicUsize,
}

type Result<T> = std::result::Result<T, QueueError>;

impl Place {
    /// Looks whether URL and files make sense.
    pub(crate) fn new(url: &str, access: Access) -> Result<Self> {
        let (server, sentinels) = match url.split_once("+sentinel://") {
            Some((scheme @ ("redis" | "rediss"), rest)) => {
                let (server, sentinels) = sentinels(scheme, rest)?;
                (server, Some(sentinels))
            }
            _ => (parse(url)?, None),
        };
        let place = Self { server, sentinels, access };
        place.check()?;
        Ok(place)
    }

    fn check(&self) -> Result<()> {
        let Access { redis_ca_file, redis_cert_file, redis_key_file, redis_password_file } = &self.access;
        let usage = |why: &str| Err(QueueError::Usage(why.to_owned()));
        match self.server.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return usage(
                    "`#insecure` is not supported: name who vouches for Redis with --redis-ca-file",
                );
            }
            ConnectionAddr::TcpTls { .. } => {}
            _ if redis_ca_file.is_some() || redis_cert_file.is_some() || redis_key_file.is_some() => {
                return usage("--redis-ca-file, --redis-cert-file and --redis-key-file need rediss://");
            }
            _ => {}
        }
        if redis_cert_file.is_some() != redis_key_file.is_some() {
            return usage("--redis-cert-file and --redis-key-file need each other");
        }
        if redis_password_file.is_some() && self.server.redis_settings().password().is_some() {
            return usage("there is a password in the URL of Redis, and a --redis-password-file: give one");
        }
        self.password().and(self.certificates().map(drop)).map_err(QueueError::Usage)
    }

    fn password(&self) -> std::result::Result<Option<String>, String> {
        let Some(file) = &self.access.redis_password_file else { return Ok(None) };
        let text = String::from_utf8(read("--redis-password-file", file)?)
            .map_err(|_| format!("--redis-password-file {} is no text", file.display()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("--redis-password-file {} is empty", file.display())),
            password => Ok(Some(password.to_owned())),
        }
    }

    fn certificates(&self) -> std::result::Result<TlsCertificates, String> {
        let pem = |flag: &str, file: &Option<PathBuf>, kind: &str| {
            let Some(file) = file else { return Ok(None) };
            let pem = read(flag, file)?;
            if String::from_utf8_lossy(&pem).contains(kind) {
                Ok(Some(pem))
            } else {
                Err(format!("{flag} {} holds no {kind} in PEM", file.display()))
            }
        };
        let cert = pem("--redis-cert-file", &self.access.redis_cert_file, "CERTIFICATE")?;
        let key = pem("--redis-key-file", &self.access.redis_key_file, "PRIVATE KEY")?;
        let client_tls =
            cert.zip(key).map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let root_cert = pem("--redis-ca-file", &self.access.redis_ca_file, "CERTIFICATE")?;
        Ok(TlsCertificates { client_tls, root_cert })
    }

    /// Whether it is Sentinel that says where the master is.
    pub(crate) fn is_watched(&self) -> bool {
        self.sentinels.is_some()
    }

    /// A new connection. `patience` is for all of it.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<MultiplexedConnection> {
        let mut server = self.server.clone();
        if let Some(sentinels) = &self.sentinels {
            server = server.set_addr(self.master(sentinels, patience).await?);
        }
        let server = self.with_password(server)?;
        let address = server.addr().to_string();
        self.open(server).await.map_err(|error| at(&address, error))
    }

    fn with_password(&self, server: ConnectionInfo) -> Result<ConnectionInfo> {
        let Some(password) = self.password().map_err(QueueError::unavailable)? else { return Ok(server) };
        let settings = server.redis_settings().clone().set_password(password);
        Ok(server.set_redis_settings(settings))
    }

    async fn open(&self, server: ConnectionInfo) -> Result<MultiplexedConnection> {
        let client = if matches!(server.addr(), ConnectionAddr::TcpTls { .. }) {
            // Another provider that is there already does as well.
            rustls::crypto::ring::default_provider().install_default().ok();
            Client::build_with_tls(server, self.certificates().map_err(QueueError::unavailable)?)?
        } else {
            Client::open(server)?
        };
        // Deadlines are the caller's: they hold for connecting and asking together.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Where the master is, from the first sentinel that knows.
    async fn master(&self, sentinels: &Sentinels, patience: Duration) -> Result<ConnectionAddr> {
        let count = sentinels.servers.len();
        // Half of the time is the master's.
        let each = patience / 2 / u32::try_from(count).unwrap_or(u32::MAX);
        let first = sentinels.good.load(Ordering::Relaxed);
        let mut why = String::new();
        for number in (0..count).map(|step| (first + step) % count) {
            let sentinel = &sentinels.servers[number];
            let asked = timeout(each, self.ask(sentinel, &sentinels.service)).await;
            match asked.unwrap_or(Err(QueueError::Timeout(each))) {
                Ok((host, port)) => {
                    sentinels.good.store(number, Ordering::Relaxed);
                    return Ok(match self.server.addr() {
                        ConnectionAddr::TcpTls { .. } => {
                            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
                        }
                        _ => ConnectionAddr::Tcp(host, port),
                    });
                }
                Err(error) => why = format!("Sentinel at {}: {error}", sentinel.addr()),
            }
        }
        Err(QueueError::unavailable(why))
    }

    async fn ask(&self, sentinel: &ConnectionInfo, service: &str) -> Result<(String, u16)> {
        let mut ask = cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let mut connection = self.open(sentinel.clone()).await?;
        let mut answer = ask.query_async::<Option<(String, u16)>>(&mut connection).await;
        if answer.as_ref().is_err_and(|error| has_code(error, "NOAUTH")) {
            // It has the same users as Redis then.
            let settings = self.server.redis_settings().clone().set_db(0);
            let sentinel = self.with_password(sentinel.clone().set_redis_settings(settings))?;
            answer = ask.query_async(&mut self.open(sentinel).await?).await;
        }
        answer?.ok_or_else(|| QueueError::unavailable(format!("it knows no master named `{service}`")))
    }
}

fn read(flag: &str, file: &Path) -> std::result::Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("can't read {flag} {}: {error}", file.display()))
}

/// With the address, which the error itself lacks.
fn at(address: &str, error: QueueError) -> QueueError {
    match error {
        QueueError::Unavailable(error) => QueueError::unavailable(format!("{address}: {error}")),
        other => other,
    }
}

fn parse(url: &str) -> Result<ConnectionInfo> {
    let usage = |error: RedisError| {
        // The URL itself is not repeated, since it may bear a password.
        QueueError::Usage(format!(
            "the URL of Redis must be redis://[user:password@]host:port[/db], with rediss: for TLS, or \
             redis+sentinel://[user:password@]host:port,host:port/service[/db]: {error}"
        ))
    };
    let info = url.into_connection_info().map_err(usage)?;
    // It would need a right of its own, for nothing.
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// The server whose address isn't known yet, and those who know.
fn sentinels(scheme: &str, rest: &str) -> Result<(ConnectionInfo, Sentinels)> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let (service, db) = path.split_once('/').unwrap_or((path, ""));
    if service.is_empty() {
        let why =
            "the URL of Redis names sentinels but no service: redis+sentinel://host:port,host:port/service";
        return Err(QueueError::Usage(why.to_owned()));
    }
    let servers: Result<Vec<_>> = hosts
        .split(',')
        .map(|host| {
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
            parse(&format!("{scheme}://{host}{port}"))
        })
        .collect();
    let server = parse(&format!("{scheme}://{user}master/{db}"))?;
    Ok((server, Sentinels { service: service.to_owned(), servers: servers?, good: AtomicUsize::new(0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<Place> {
        Place::new(url, Access::default())
    }

    #[test]
    fn sentinels_are_listed_before_their_service() {
        let place =
            place("redis+sentinel://user:p%40ss@a:1,b,[::1]:3/main/2").unwrap_or_else(|e| panic!("{e}"));
        let settings = place.server.redis_settings();
        assert_eq!(
            (settings.username(), settings.password(), settings.db()),
            (Some("user"), Some("p@ss"), 2)
        );
        let sentinels = place.sentinels.unwrap();
        assert_eq!(sentinels.service, "main");
        let addresses: Vec<String> =
            sentinels.servers.iter().map(|server| server.addr().to_string()).collect();
        assert_eq!(addresses, ["a:1", "b:26379", "::1:3"]);
        assert!(sentinels.servers.iter().all(|server| server.redis_settings().password().is_none()));
    }

    #[test]
    fn what_can_not_work_is_said_at_start() {
        for (url, says) in [
            ("redis+sentinel://a:1,b:2", "no service"),
            ("redis+sentinel://a:x/main", "redis+sentinel://"),
            ("http://h", "redis://"),
            ("rediss://h#insecure", "--redis-ca-file"),
        ] {
            let Err(QueueError::Usage(why)) = place(url) else { panic!("{url}") };
            assert!(why.contains(says), "{why}");
        }
        let file = || Some(PathBuf::from("/nowhere/at/all"));
        let none = Access::default;
        for (url, access, says) in [
            ("redis://h", Access { redis_ca_file: file(), ..none() }, "rediss://"),
            ("rediss://h", Access { redis_ca_file: file(), ..none() }, "/nowhere/at/all"),
            ("rediss://h", Access { redis_key_file: file(), ..none() }, "each other"),
            ("redis://h", Access { redis_password_file: file(), ..none() }, "/nowhere/at/all"),
            ("redis://u:secret@h", Access { redis_password_file: file(), ..none() }, "give one"),
        ] {
            let Err(QueueError::Usage(why)) = Place::new(url, access) else { panic!("{url}") };
            assert!(why.contains(says) && !why.contains("secret"), "{why}");
        }
    }
}
