//! The binary: settings, logs, signals and the exit code around [`logweir_collector::Collector`].

use logweir_collector::config::Args;
use logweir_collector::{Collector, StartError, check};
use logweir_telemetry::exit::Exit;
use logweir_telemetry::{config, logs, shutdown};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Args = config::parse();
    if let Err(exit) = logs::init(&args.common.logs) {
        return exit.into();
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
    let signals = shutdown::listen();
    collector.serve(signals.stop()).await;
    Ok(())
}
