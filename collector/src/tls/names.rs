//! What a certificate says: as which agents its holder may post, and until when.

use crate::auth::valid_agent_id;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// More names than anyone needs.
const MAX_NAMES: usize = 64;

/// A client's certificate, which somebody of `--client-ca` vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The agents, the one that is meant without another word first: URIs (such as SPIFFE IDs), then DNS names.
    /// What can't be an agent's ID, such as a wildcard, is left out.
    pub(crate) agents: Vec<Arc<str>>,
    /// In Unix seconds.
    pub(crate) expires: i64,
}

impl Certificate {
    /// Takes it apart. One that can't be read names nobody.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Self {
        let Ok((_, parsed)) = X509Certificate::from_der(der) else {
            return Self { agents: Vec::new(), expires: 0 };
        };
        let names = parsed.subject_alternative_name().ok().flatten().map(|found| found.value);
        let names = names.map(|value| value.general_names.as_slice()).unwrap_or_default();
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let hosts = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(host) => Some(*host),
            _ => None,
        });
        let agents = uris.chain(hosts).filter(|name| valid_agent_id(name)).take(MAX_NAMES).map(Arc::from);
        Self { agents: agents.collect(), expires: parsed.validity().not_after.timestamp() }
    }
}

/// Until when a certificate is valid, in Unix seconds.
pub(crate) fn expires(der: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn read(names: Vec<SanType>) -> Vec<String> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::read(certificate.der()).agents.iter().map(ToString::to_string).collect()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    #[test]
    fn uris_come_before_dns_names_and_nothing_else_is_an_agent() {
        let mail = SanType::Rfc822Name("ops@example.com".try_into().unwrap());
        let ip = SanType::IpAddress("192.0.2.1".parse().unwrap());
        let names = vec![mail, dns("web-1.example.com"), ip, uri("spiffe://example.com/web-1"), dns("web-1")];
        assert_eq!(read(names), ["spiffe://example.com/web-1", "web-1.example.com", "web-1"]);
        assert!(read(vec![dns("*.example.com"), uri("urn:a?b=c"), dns(&"a".repeat(129))]).is_empty());
        assert!(read(Vec::new()).is_empty());
    }

    #[test]
    fn what_cannot_be_read_names_nobody() {
        let none = Certificate { agents: Vec::new(), expires: 0 };
        assert_eq!(Certificate::read(&CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01])), none);
    }
}
