//! The settings of the public address: TLS, connections, and the orderly end.

use clap::ValueEnum;
use logweir_telemetry::config::duration;
use std::path::PathBuf;
use std::time::Duration;

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientAuth {
    /// Nobody connects without one
    Required,
    /// A token will do as well
    Optional,
}

/// Flags of the transport; part of the collector's own.
#[derive(Debug, Clone, clap::Args)]
pub struct TransportArgs {
    /// The certificate to show to clients, with its chain, in PEM: serves HTTPS (TLS 1.2 and 1.3). Read again, with the
    /// two files below, when one changes and at SIGHUP; open connections go on
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Who may vouch for clients, in PEM. A client's certificate names its agent: the URIs and DNS names among its
    /// subject alternative names are the IDs that it may post as
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate, where there is a --client-ca
    #[arg(long, value_enum, default_value = "required")]
    pub client_auth: ClientAuth,
    /// How long a TLS handshake may take
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "DURATION")]
    pub handshake_timeout: Duration,
    /// How many of them are under way at a time; beyond that, the oldest is given up
    #[arg(long, default_value_t = 1_024, value_name = "N")]
    pub max_handshakes: usize,

    /// How many connections are open at a time; more wait to be accepted
    #[arg(long, default_value_t = 16_384, value_name = "N")]
    pub max_connections: usize,
    /// How many of them one address may have (with IPv6, one /64); further ones are closed at once. 0 is no limit,
    /// for behind a load balancer
    #[arg(long, default_value_t = 1_024, value_name = "N")]
    pub max_connections_per_address: usize,
    /// How many requests a client may have open on one HTTP/2 connection
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub max_streams: u32,
    /// How long a connection may take until its first request, and to send the headers of any that it has begun
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "DURATION")]
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests. Behind a load balancer, longer than its own
    #[arg(long, value_parser = duration, default_value = "90s", value_name = "DURATION")]
    pub idle_timeout: Duration,

    /// How long after SIGTERM requests are still taken, while /readyz says 503 so that load balancers turn away.
    /// Then they are answered `draining`
    #[arg(long, value_parser = duration, default_value = "0s", value_name = "DURATION")]
    pub drain_grace: Duration,
    /// How long after SIGTERM the collector ends at the latest; requests in hand have until then
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "DURATION")]
    pub shutdown_timeout: Duration,
}

impl TransportArgs {
    /// Whether nobody gets in without a certificate.
    pub(crate) fn certificates_required(&self) -> bool {
        self.client_ca.is_some() && self.client_auth == ClientAuth::Required
    }

    /// Looks for settings that can't work, beside the bounds of each.
    pub(super) fn validate(&self, tokens: bool) -> Result<(), String> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err("--tls-cert and --tls-key need each other".to_owned());
        }
        if self.client_ca.is_some() && self.tls_cert.is_none() {
            return Err(
                "--client-ca needs --tls-cert and --tls-key: certificates are shown within TLS".to_owned()
            );
        }
        if self.client_ca.is_some() && self.client_auth == ClientAuth::Optional && !tokens {
            return Err("--client-auth optional needs --tokens, for those who show no certificate".to_owned());
        }
        if self.client_ca.is_none() && self.client_auth == ClientAuth::Optional {
            return Err("--client-auth needs --client-ca: who may vouch for clients".to_owned());
        }
        if self.drain_grace > self.shutdown_timeout {
            return Err(
                "--drain-grace must not be longer than --shutdown-timeout, of which it is a part".to_owned()
            );
        }
        Ok(())
    }
}
