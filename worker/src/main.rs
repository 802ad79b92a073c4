//! The binary: settings, logs, signals and the exit code around [`logweir_worker::Worker`].

use logweir_telemetry::exit::Exit;
use logweir_telemetry::{config, logs, shutdown};
use logweir_worker::config::{Args, Command};
use logweir_worker::{SchemaError, StartError, Worker, check, migrate};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Args = config::parse();
    if let Err(exit) = logs::init(&args.common.logs) {
        return exit.into();
    }
    match run(args) {
        Ok(()) => Exit::Done.into(),
        Err((exit, error)) => {
            tracing::error!("{error}");
            exit.into()
        }
    }
}

fn run(args: Args) -> Result<(), (Exit, String)> {
    let usage = |error: StartError| (Exit::Usage, error.to_string());
    if args.common.check {
        check(&args).map_err(usage)?;
        tracing::info!("the configuration is valid");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| (Exit::Usage, format!("the runtime doesn't start: {e}")))?;
    match args.command {
        Some(Command::Migrate) => runtime.block_on(migrate_once(&args)),
        None => runtime.block_on(work(args)).map_err(usage),
    }
}

async fn migrate_once(args: &Args) -> Result<(), (Exit, String)> {
    let applied = migrate(args).await.map_err(|error| {
        let exit = match &error {
            SchemaError::Unavailable(_) => Exit::Unreachable,
            SchemaError::Unfit(_) => Exit::Usage,
        };
        (exit, format!("cannot migrate {}: {error}", args.postgres))
    })?;
    let text = match applied.as_slice() {
        [] => "nothing to apply: the schema is up to date\n".to_owned(),
        some => some.iter().map(|name| format!("applied {name}\n")).collect(),
    };
    // A closed pipe is no error: the schema is what was asked for.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn work(args: Args) -> Result<(), StartError> {
    let worker = Worker::bind(args).await?;
    let signals = shutdown::listen();
    worker.work(signals.stop()).await;
    Ok(())
}
