//! Which ports were chosen, and the file that says so.

use super::data::write_private;
use anyhow::Context as _;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

/// Below the range from which the kernel takes ports for outgoing connections, so that none is taken between
/// being chosen and being used.
const RANGE: std::ops::Range<u16> = 10_000..30_000;

/// The ports file. All but the pids are URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) collector: String,
    pub(crate) collector_admin: String,
    pub(crate) worker_admin: Vec<String>,
    pub(crate) agent_admin: Vec<String>,
    /// With the password.
    pub(crate) redis: String,
    /// With the password.
    pub(crate) postgres: String,
    pub(crate) pids: Pids,
}

/// The processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pids {
    pub(crate) collector: u32,
    pub(crate) worker: Vec<u32>,
    pub(crate) agent: Vec<u32>,
    pub(crate) redis: u32,
    pub(crate) postgres: u32,
}

impl Ports {
    /// Writes the file: all of it or nothing.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        write_private(path, &text)
    }
}

/// Chooses free ports of loopback, each once.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    /// Held until all are chosen.
    held: Vec<TcpListener>,
}

impl Chooser {
    pub(super) fn free(&mut self) -> anyhow::Result<SocketAddr> {
        for _ in 0..1_000 {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(RANGE)));
            if let Ok(listener) = TcpListener::bind(address) {
                self.held.push(listener);
                return Ok(address);
            }
        }
        anyhow::bail!("no free port on 127.0.0.1 between {} and {}", RANGE.start, RANGE.end)
    }

    /// The wanted address, or another when it is taken.
    pub(super) fn rather(&mut self, wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
        match TcpListener::bind(wanted) {
            Ok(listener) => {
                self.held.push(listener);
                Ok(wanted)
            }
            Err(_) => self.free(),
        }
    }

    /// Exactly this one.
    pub(super) fn exactly(&mut self, wanted: SocketAddr) -> anyhow::Result<SocketAddr> {
        let listener =
            TcpListener::bind(wanted).with_context(|| format!("can't listen on --listen {wanted}"))?;
        let address = listener.local_addr()?;
        self.held.push(listener);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_exactly_these_keys() {
        let ports = Ports {
            collector: "http://127.0.0.1:4801".to_owned(),
            collector_admin: "http://127.0.0.1:2".to_owned(),
            worker_admin: vec!["http://127.0.0.1:3".to_owned()],
            agent_admin: vec![],
            redis: "redis://127.0.0.1:4".to_owned(),
            postgres: "postgres://127.0.0.1:5/postgres".to_owned(),
            pids: Pids { collector: 1, worker: vec![2, 3], agent: vec![], redis: 4, postgres: 5 },
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.json");
        ports.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["agent_admin", "collector", "collector_admin", "pids", "postgres", "redis", "worker_admin"]
        );
        assert_eq!(json["pids"]["worker"], serde_json::json!([2, 3]));
        assert_eq!(serde_json::from_str::<Ports>(&text).unwrap(), ports);
    }

    #[test]
    fn a_port_is_chosen_once() {
        let mut chooser = Chooser::default();
        let first = chooser.free().unwrap();
        assert_ne!(chooser.rather(first).unwrap(), first);
        let error = format!("{:#}", chooser.exactly(first).unwrap_err());
        assert!(error.contains("--listen"), "{error}");
    }
}
