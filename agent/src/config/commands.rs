//! What the agent does besides following files.

use super::{ADMIN, SendArgs};
use clap::Subcommand;
use logweir_telemetry::config::CommonArgs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What else the agent does.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Sends the events of a rejects file again, after they have been mended
    #[command(after_help = RESEND)]
    Resend(Box<ResendArgs>),
    /// Shows how a running agent is: each file, what holds it back, what was lost
    Status(StatusArgs),
}

/// `status`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StatusArgs {
    /// The admin address of the agent
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN)]
    pub(crate) admin: SocketAddr,
    /// Print the whole status as one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// `resend`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ResendArgs {
    /// Mended copies of rejects.ndjson
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) sending: SendArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

const RESEND: &str = "\
Copy STATE_DIR/rejects.ndjson, and mend the member `event` of each record: it is the event as it was sent, as JSON text
(or write an object there). Leave the other members alone: they hold the number under which the event is sent, so each
counts once, however often this command runs and whatever else was on its way. Delete the records to give up.

  logweir-agent resend --collector http://127.0.0.1:4801 mended.ndjson

What is refused again is written to FILE.refused, with the new reason, and the command exits 1.";
