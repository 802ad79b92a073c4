//! Free ports that stay ours: a service comes back on the port that it had before it was killed.

use rand::RngExt as _;
use std::fs::File;
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range from which the kernel takes ports for outgoing connections.
const RANGE: std::ops::Range<u16> = 10_000..30_000;

/// Held until the process ends, so that test runs side by side don't choose the same.
static CLAIMS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A loopback port on which nobody listens.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let dir = std::env::temp_dir().join("logweir-e2e-ports");
    std::fs::create_dir_all(&dir).expect("a folder for the claims on ports");
    for _ in 0..1_000 {
        let port = rand::rng().random_range(RANGE);
        let claim = File::options().create(true).append(true).open(dir.join(port.to_string()));
        let Ok(claim) = claim else { continue };
        if claim.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            CLAIMS.lock().expect("no panic while claiming").push(claim);
            return port;
        }
    }
    panic!("no free port in {RANGE:?}");
}
