//! Where batches go and how fast: what following files and `resend` have in common.

use super::{NAME_RULE, is_name};
use crate::send::client::Connecting;
use crate::send::http::Target;
use crate::send::rate::MAX_RATE;
use clap::Args;
use logweir_proto::limits::MAX_SERVICE_CHARS;
use logweir_telemetry::config::duration;
use logweir_telemetry::redact::SecretUrl;
use reqwest::Url;
use std::path::PathBuf;
use std::time::Duration;

/// More collectors than anybody has in one list.
const MAX_COLLECTORS: usize = 16;

/// The flags.
#[derive(Debug, Clone, Args)]
pub(crate) struct SendArgs {
    /// The collector: http:// or https://, and the path before /v1/events if there is one. With several (repeated, or
    /// with commas) the first is asked as long as it answers, then the next, and the first again after a while
    #[arg(long, value_name = "URL", value_parser = collector, value_delimiter = ',')]
    pub(crate) collector: Vec<Url>,
    /// This agent's ID, where the collector asks for no token [default: the host's name]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The agent's token, as `logweir token new` printed it; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The agent's own certificate and its chain (PEM), for collectors that ask for one; read again when it changes
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// The proxy to the collectors [default: for https:// what HTTPS_PROXY and NO_PROXY say, for http:// none]
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<SecretUrl>,
    /// Send no more events per second than this
    #[arg(long, value_name = "EVENTS_PER_S", value_parser = clap::value_parser!(u64).range(1..=MAX_RATE))]
    pub(crate) max_rate: Option<u64>,
    /// How many batches are posted at a time
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,
    /// How long connecting may take
    #[arg(long, value_parser = duration, default_value = "5s", value_name = "DURATION")]
    pub(crate) connect_timeout: Duration,
    /// How long an attempt may take in all
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "DURATION")]
    pub(crate) request_timeout: Duration,
}

/// Valid settings.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) target: Target,
    pub(crate) concurrency: usize,
    pub(crate) max_rate: Option<u64>,
}

impl SendArgs {
    /// The settings.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub(crate) fn settings(&self) -> Result<Sending, String> {
        if self.collector.is_empty() {
            return Err("--collector is missing: say where the collector is, such as --collector http://127.0.0.1:4801"
                .to_owned());
        }
        if self.collector.len() > MAX_COLLECTORS {
            return Err(format!("--collector: at most {MAX_COLLECTORS} of them"));
        }
        if self.collector.iter().any(|url| !url.username().is_empty() || url.password().is_some()) {
            // Said here, and without the URL: clap would print it.
            return Err("--collector: no name or password belongs there; --token-file says who the agent is"
                .to_owned());
        }
        for (flag, value) in
            [("connect-timeout", self.connect_timeout), ("request-timeout", self.request_timeout)]
        {
            if value.is_zero() {
                return Err(format!("--{flag} must be more than 0"));
            }
        }
        let concurrency = self.concurrency.into();
        let connecting = Connecting {
            ca_file: self.ca_file.clone(),
            client_cert: self.client_cert.clone().zip(self.client_key.clone()),
            proxy: self.proxy.clone(),
            connect_timeout: self.connect_timeout,
            concurrency,
        };
        let target = Target {
            collectors: self.collector.clone(),
            id: self.agent_id()?,
            token_file: self.token_file.clone(),
            connecting,
            request_timeout: self.request_timeout,
        };
        Ok(Sending { target, concurrency, max_rate: self.max_rate })
    }

    fn agent_id(&self) -> Result<String, String> {
        match &self.id {
            Some(id) if is_name(id, MAX_SERVICE_CHARS) => Ok(id.clone()),
            Some(id) => Err(format!("--id {id:?}: {NAME_RULE}")),
            None => Ok(as_id(&rustix::system::uname().nodename().to_string_lossy())),
        }
    }
}

/// A host's name as an ID.
pub(super) fn as_id(host: &str) -> String {
    let id: String = host
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(MAX_SERVICE_CHARS)
        .collect();
    if id.is_empty() { "agent".to_owned() } else { id }
}

fn collector(text: &str) -> Result<Url, String> {
    let wrong =
        |what: &str| format!("{what}; say something like http://127.0.0.1:4801 or https://logs.example.org");
    let url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must have no ? and no #"));
    }
    Ok(url)
}
