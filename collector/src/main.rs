//! The binary: settings, logs, signals and the exit code around [`logweir_collector::Collector`].

use logweir_collector::config::Args;
use logweir_collector::{Collector, StartError, check};
use logweir_telemetry::exit::Exit;
use logweir_telemetry::{config, logs, shutdown};
use std::process::ExitCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let args: Args = config::parse();
    if let Err(error) = logs::init(&args.common.logs) {
        use std::io::Write as _;
        // There is no log to write this to.
        return match writeln!(std::io::stderr(), "error: {error}") {
            Ok(()) | Err(_) => Exit::Usage.into(),
        };
    }
    match run(args) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            tracing::error!("{error}");
            Exit::Usage.into()
        }
    }
}

fn run(args: Args) -> Result<(), StartError> {
    if args.common.check {
        check(&args)?;
        tracing::info!("the configuration is valid");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| StartError::Settings(format!("the runtime doesn't start: {e}")))?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> Result<(), StartError> {
    let collector = Collector::bind(args).await?;
    let stop = CancellationToken::new();
    let mut signals = JoinSet::new();
    let on_signal = stop.clone();
    signals.spawn(async move {
        if let Err(error) = shutdown::on_signal(on_signal).await {
            tracing::error!(%error, "signals can't be caught; a stop will be abrupt");
        }
    });
    collector.serve(stop).await;
    signals.shutdown().await;
    Ok(())
}
