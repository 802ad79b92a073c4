//! How a program gets into Postgres beside its URL: TLS, and the password's file. The same flags for every program that
//! does; what is asked there is theirs.
//!
//! ```text
//! sslmode=       disable, allow, prefer, or none   plain
//!                verify-full, require              TLS; somebody trusted vouches for the server, by the URL's name
//!                verify-ca                         TLS; somebody trusted vouches for it, by whatever name
//! ```
//!
//! `require` is stricter here than in libpq, where anybody in between may pass for the server.

use crate::redact::SecretUrl;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is needed to get into Postgres beside its URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct PostgresAccess {
    /// Who may vouch for Postgres, in PEM, with sslmode=verify-full or verify-ca [default: whom the system trusts]
    #[arg(long, value_name = "FILE", global = true)]
    pub postgres_ca_file: Option<PathBuf>,
    /// The password for Postgres, when it isn't in the URL; read again for each connection
    #[arg(long, value_name = "FILE", global = true)]
    pub postgres_password_file: Option<PathBuf>,
}

/// Whose name the server's certificate must bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    OfUrl,
    Any,
}

/// The way to one Postgres. Files are read again for each connection.
#[derive(Debug, Clone)]
pub struct Route {
    url: SecretUrl,
    names: Option<Names>,
    access: PostgresAccess,
}

impl Route {
    /// Looks whether URL and files make sense; connects to nothing.
    ///
    /// # Errors
    /// A sentence without the URL, which may bear a password.
    pub fn new(url: &SecretUrl, access: &PostgresAccess) -> Result<Self, String> {
        let (url, mode) = without_parameter(url.expose(), "sslmode");
        let names = match mode {
            None | Some("disable" | "allow" | "prefer") => None,
            Some("verify-full" | "require") => Some(Names::OfUrl),
            Some("verify-ca") => Some(Names::Any),
            Some(_) => return Err("sslmode must be disable, require, verify-ca or verify-full".to_owned()),
        };
        if names.is_none() && access.postgres_ca_file.is_some() {
            return Err("--postgres-ca-file needs sslmode=verify-full (or verify-ca) in the URL".to_owned());
        }
        let route = Self { url: url.parse()?, names, access: access.clone() };
        route.password()?;
        route.tls()?;
        Ok(route)
    }

    /// The URL without what is handled here; it may bear a password.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.expose()
    }

    /// What TLS needs; `None` where there is none.
    ///
    /// # Errors
    /// Which file can't be read, or holds no certificate.
    pub fn tls(&self) -> Result<Option<ClientConfig>, String> {
        let Some(names) = self.names else { return Ok(None) };
        let roots = Arc::new(match &self.access.postgres_ca_file {
            Some(file) => roots_of(file)?,
            None => roots_of_system()?,
        });
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| format!("TLS can't be used: {error}"))?;
        let verifier: Arc<dyn ServerCertVerifier> = match names {
            Names::OfUrl => verifier,
            Names::Any => Arc::new(AnyName(verifier)),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS can't be used: {error}"))?;
        // With the check of names left out, this is what rustls calls dangerous.
        let config = config.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Some(config.with_no_client_auth()))
    }

    /// What `--postgres-password-file` holds now.
    ///
    /// # Errors
    /// It can't be read, or holds no text.
    pub fn password(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.access.postgres_password_file else { return Ok(None) };
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("can't read --postgres-password-file {}: {error}", file.display()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("--postgres-password-file {} is empty", file.display())),
            password => Ok(Some(password.to_owned())),
        }
    }
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("--postgres-ca-file {}: {why}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"it holds no CERTIFICATE in PEM")) } else { Ok(roots) }
}

fn roots_of_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    Err(format!("the system trusts nobody{why}: name who vouches for Postgres with --postgres-ca-file"))
}

/// The URL without this parameter of its query, and the parameter's value; of several the last, as libpq has it.
fn without_parameter<'a>(url: &'a str, name: &str) -> (String, Option<&'a str>) {
    let Some((path, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let (mut rest, mut value) = (Vec::new(), None);
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some((key, of_key)) if key == name => value = Some(of_key),
            _ => rest.push(parameter),
        }
    }
    (if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) }, value)
}

/// Somebody trusted must vouch for the server, and it must hold the certificate's key; its name may be another.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last, when all else is found to be right.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(url: &str, access: &PostgresAccess) -> Result<Route, String> {
        Route::new(&url.parse().unwrap(), access)
    }

    #[test]
    fn sslmode_is_taken_out_of_the_url() {
        for (url, rest, names) in [
            ("postgres://h/d", "postgres://h/d", None),
            ("postgres://h/d?sslmode=prefer", "postgres://h/d", None),
            ("postgres://h/d?a=b&sslmode=disable&c=d", "postgres://h/d?a=b&c=d", None),
        ] {
            let route = route(url, &PostgresAccess::default()).unwrap();
            assert_eq!((route.url(), route.names), (rest, names));
            assert!(route.tls().unwrap().is_none());
        }
        let last = without_parameter("p://h/d?sslmode=disable&sslmode=require", "sslmode");
        assert_eq!(last, ("p://h/d".to_owned(), Some("require")));
    }

    #[test]
    fn what_can_not_work_is_said_at_start() {
        let file = || Some(PathBuf::from("/nowhere/at/all"));
        let none = PostgresAccess::default;
        let ca = PostgresAccess { postgres_ca_file: file(), ..none() };
        let password = PostgresAccess { postgres_password_file: file(), ..none() };
        for (url, access, says) in [
            ("postgres://u:secret@h/d?sslmode=maybe", none(), "verify-full"),
            ("postgres://u:secret@h/d", ca.clone(), "sslmode"),
            ("postgres://u:secret@h/d?sslmode=verify-full", ca, "/nowhere/at/all"),
            ("postgres://u@h/d", password, "/nowhere/at/all"),
        ] {
            let why = route(url, &access).unwrap_err();
            assert!(why.contains(says) && !why.contains("secret"), "{why}");
        }
        let empty = tempfile::NamedTempFile::new().unwrap();
        let path = Some(empty.path().to_owned());
        let access = PostgresAccess { postgres_ca_file: path.clone(), postgres_password_file: None };
        assert!(route("postgres://h/d?sslmode=verify-ca", &access).unwrap_err().contains("no CERTIFICATE"));
        let access = PostgresAccess { postgres_ca_file: None, postgres_password_file: path };
        assert!(route("postgres://h/d", &access).unwrap_err().contains("empty"));
        std::fs::write(empty.path(), "s3cret\r\n").unwrap();
        assert_eq!(route("postgres://h/d", &access).unwrap().password().unwrap().as_deref(), Some("s3cret"));
    }
}
