//! TLS: what is shown to clients, who may vouch for theirs, and exchanging both while connections go on.
//!
//! ```text
//! --tls-cert --tls-key --client-ca ── read ──► Tls ──► each new connection's handshake
//!        └─ changed, or SIGHUP ─ read again ───┘        (open connections keep what they began with)
//! ```
//!
//! A pair that doesn't fit together, or isn't there, changes nothing.

pub(crate) mod handshakes;
pub(crate) mod names;

use crate::config::TransportArgs;
use crate::metrics::Metrics;
use logweir_telemetry::admin::Readiness;
use logweir_telemetry::watched::{LOOK, Marks, Watched};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// What clients may choose from, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// The name of the remark in `/readyz` while the files can't be used.
const REMARK: &str = "tls_files";

/// Where the certificates are.
#[derive(Debug, Clone)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    /// Whether nobody gets in without a certificate.
    required: bool,
}

/// The TLS of new connections.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    seen: Marks,
    current: RwLock<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    config: Arc<ServerConfig>,
    /// Of the own certificate, in Unix seconds.
    expires: i64,
}

impl Tls {
    /// Reads the files for the first time; `None` without `--tls-cert`.
    ///
    /// # Errors
    /// A sentence with flag and path.
    pub(crate) fn open(args: &TransportArgs) -> Result<Option<Self>, String> {
        let (Some(cert), Some(key)) = (args.tls_cert.clone(), args.tls_key.clone()) else { return Ok(None) };
        let required = args.certificates_required();
        let files = Files { cert, key, client_ca: args.client_ca.clone(), required };
        let seen = Marks::of(&files.paths());
        let current = RwLock::new(files.load()?);
        Ok(Some(Self { files, seen, current }))
    }

    /// For a new connection.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// Reads the files again whenever they change.
    pub(crate) fn watched(self: &Arc<Self>, metrics: &Metrics, readiness: Readiness) -> Watched {
        let expires = metrics.transport.certificate_expires.clone();
        expires.set(self.current.read().unwrap_or_else(PoisonError::into_inner).expires);
        let tls = Arc::clone(self);
        let load = move || {
            let loaded = tls.files.load()?;
            expires.set(loaded.expires);
            tracing::info!(cert = %tls.files.cert.display(), "certificates read again");
            *tls.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
            Ok(())
        };
        Watched {
            what: "a file of --tls-cert, --tls-key or --client-ca",
            remark: REMARK,
            paths: self.files.paths(),
            seen: self.seen.clone(),
            every: LOOK,
            load: Arc::new(load),
            metrics: metrics.tls_files.clone(),
            readiness,
        }
    }
}

impl Files {
    fn paths(&self) -> Vec<PathBuf> {
        let Self { cert, key, client_ca, required: _ } = self;
        [Some(cert), Some(key), client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn load(&self) -> Result<Current, String> {
        let chain = certificates("--tls-cert", &self.cert)?;
        let expires = chain.first().and_then(|own| names::expires(own)).unwrap_or(0);
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| format!("--tls-key {} holds no private key in PEM: {e}", self.key.display()))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS: {e}"))?;
        let builder = match &self.client_ca {
            Some(file) => builder.with_client_cert_verifier(verifier(file, self.required)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| {
            format!(
                "the certificate of --tls-cert {} and the key of --tls-key {} can't be used together: {e}",
                self.cert.display(),
                self.key.display()
            )
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Current { config: Arc::new(config), expires })
    }
}

fn verifier(file: &Path, required: bool) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let wrong = |why: String| format!("--client-ca {}: {why}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--client-ca", file)? {
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|e| wrong(e.to_string()))
}

fn certificates(flag: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| format!("{flag} {}: {why}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| wrong(format!("no certificate in PEM can be read: {e}")))?;
    if found.is_empty() { Err(wrong("there is no certificate in PEM in it".to_owned())) } else { Ok(found) }
}
