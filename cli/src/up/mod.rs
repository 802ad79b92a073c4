//! `logweir up`: the whole system on this machine.

use crate::args::Shared;
use logweir_telemetry::exit::Exit;

/// Run the whole system on this machine
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  logweir up --for 30s")]
pub(crate) struct Args {}

/// Runs it.
pub(crate) async fn run(_args: &Args, _shared: &Shared) -> anyhow::Result<Exit> {
    anyhow::bail!("not yet in this build")
}
