//! The HTTP client, made from the files that TLS needs; made anew when their content changes.
//!
//! ```text
//! --ca-file, --client-cert, --client-key ──► TLS ──► Client (connections, HTTP/1.1, or HTTP/2 where TLS agrees on it)
//! --proxy, else HTTPS_PROXY and NO_PROXY ──► CONNECT
//! ```
//!
//! Invariants: redirects are never followed (a POST would become a GET, or events would go where nobody said); a proxy
//! is used for https:// only where the environment names one, and for anything where `--proxy` does; a dead HTTP/2
//! connection is found by pings, so that it can't swallow one attempt after the other.

use logweir_telemetry::redact::SecretUrl;
use reqwest::{Certificate, Client, Identity, NoProxy, Proxy, Url, redirect};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// An idle connection is closed before the collector closes it (after 30 s), so that none breaks under an attempt.
const IDLE: Duration = Duration::from_secs(20);
/// How often an HTTP/2 connection with attempts on it is asked whether it still lives, and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// No file of certificates or keys is larger.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// How connections are made.
#[derive(Debug, Clone)]
pub(crate) struct Connecting {
    /// Certificates that are trusted besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// The agent's own certificate (with its chain) and key.
    pub(crate) client_cert: Option<(PathBuf, PathBuf)>,
    /// For whatever `--collector` says.
    pub(crate) proxy: Option<SecretUrl>,
    pub(crate) connect_timeout: Duration,
    /// Attempts at a time, and so idle connections.
    pub(crate) concurrency: usize,
}

/// Why there can be no client. A person must mend it.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("{flag} {}: {detail}", path.display())]
    File { flag: &'static str, path: PathBuf, detail: String },
    #[error("--proxy {proxy}: {detail}")]
    Proxy { proxy: SecretUrl, detail: String },
    #[error(
        "TLS can't be set up: {0} (are the system's root certificates installed? --ca-file gives others)"
    )]
    Client(String),
}

/// The client of now.
#[derive(Debug)]
pub(crate) struct TlsClient {
    connecting: Connecting,
    tls: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    client: Client,
    /// What it was made from.
    files: Files,
    /// The files can't be used just now, and that has been said.
    failing: bool,
}

/// The content of the files; never printed.
#[derive(PartialEq, Eq)]
struct Files {
    ca: Option<Vec<u8>>,
    /// Certificate and key, one after the other.
    own: Option<Vec<u8>>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads the files; connects to nothing yet. Without an https:// among the URLs there is no TLS at all, so that a
    /// machine without root certificates shall do.
    ///
    /// # Errors
    /// When a file is wrong, or the system has no root certificates and a URL needs them.
    pub(crate) fn new(connecting: Connecting, urls: &[Url]) -> Result<Self, ClientError> {
        // What reqwest finds here is what it uses; that there is one already is as good.
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider had been installed before");
        }
        let tls = urls.iter().any(|url| url.scheme() == "https");
        let files = connecting.read()?;
        let client = connecting.client(tls, &files)?;
        Ok(Self { connecting, tls, state: Mutex::new(State { client, files, failing: false }) })
    }

    /// A handle to it; connections are shared.
    pub(crate) fn get(&self) -> Client {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).client.clone()
    }

    /// Whether there are files that it is made from.
    pub(crate) const fn has_files(&self) -> bool {
        self.connecting.ca_file.is_some() || self.connecting.client_cert.is_some()
    }

    /// Looks at the files again, and says whether there is a new client. What can't be used leaves the old one in
    /// place, since files that are being replaced may not fit one another for a moment.
    pub(crate) fn refresh(&self) -> bool {
        let made = self.connecting.read().and_then(|files| {
            let changed = files != self.state.lock().unwrap_or_else(PoisonError::into_inner).files;
            let client = changed.then(|| self.connecting.client(self.tls, &files)).transpose()?;
            Ok(client.map(|client| (client, files)))
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(None) => state.failing = false,
            Ok(Some((client, files))) => {
                *state = State { client, files, failing: false };
                tracing::info!("there are new certificates");
                return true;
            }
            Err(error) => {
                if !std::mem::replace(&mut state.failing, true) {
                    tracing::warn!(%error, "going on with the certificates that were read before");
                }
            }
        }
        false
    }
}

impl Connecting {
    fn read(&self) -> Result<Files, ClientError> {
        let ca = self.ca_file.as_deref().map(|path| read("--ca-file", path)).transpose()?;
        let own = match &self.client_cert {
            None => None,
            Some((cert, key)) => {
                let mut own = read("--client-cert", cert)?;
                own.push(b'\n');
                own.extend(read("--client-key", key)?);
                Some(own)
            }
        };
        Ok(Files { ca, own })
    }

    fn client(&self, tls: bool, files: &Files) -> Result<Client, ClientError> {
        let mut builder = Client::builder()
            .user_agent(concat!("logweir-agent/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(PING.0)
            .http2_keep_alive_timeout(PING.1)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(self.concurrency)
            .no_proxy();
        if let Some(proxy) = self.proxy()? {
            builder = builder.proxy(proxy);
        }
        // A wrong file is said, whether it is used or not.
        let mut trusted = Vec::new();
        if let (Some(pem), Some(path)) = (&files.ca, &self.ca_file) {
            let wrong = |detail| ClientError::File { flag: "--ca-file", path: path.clone(), detail };
            trusted = Certificate::from_pem_bundle(pem).map_err(|e| wrong(chain(&e)))?;
            if trusted.is_empty() {
                return Err(wrong("there is no certificate in it; it must be in PEM form".to_owned()));
            }
        }
        if let (Some(pem), Some((path, _))) = (&files.own, &self.client_cert) {
            let identity = Identity::from_pem(pem).map_err(|e| ClientError::File {
                flag: "--client-cert",
                path: path.clone(),
                detail: format!(
                    "{}; with --client-key it must hold a certificate and its key in PEM form",
                    chain(&e)
                ),
            })?;
            builder = builder.identity(identity);
        }
        builder = if tls { builder.tls_certs_merge(trusted) } else { builder.tls_certs_only([]) };
        builder.build().map_err(|e| ClientError::Client(chain(&e)))
    }

    fn proxy(&self) -> Result<Option<Proxy>, ClientError> {
        let Some(proxy) = &self.proxy else { return Ok(from_environment()) };
        let made = Proxy::all(proxy.expose());
        // Its own words may hold the password.
        let wrong = |_| ClientError::Proxy {
            proxy: proxy.clone(),
            detail: "this is no proxy's address; say something like http://proxy.example.org:3128".to_owned(),
        };
        Ok(Some(made.map_err(wrong)?.no_proxy(NoProxy::from_env())))
    }
}

/// What the environment says of https://; a value that is no URL is none, as elsewhere.
fn from_environment() -> Option<Proxy> {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let url = named("HTTPS_PROXY").or_else(|| named("https_proxy"))?;
    Some(Proxy::https(url).ok()?.no_proxy(NoProxy::from_env()))
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, ClientError> {
    use std::io::Read as _;
    let wrong = |detail: String| ClientError::File { flag, path: path.to_owned(), detail };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| wrong(e.to_string()))?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut content).map_err(|e| wrong(e.to_string()))?;
    Ok(content)
}

/// The error with its causes, since reqwest's own words are only "error sending request".
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
