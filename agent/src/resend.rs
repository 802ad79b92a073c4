//! `resend`: sends the events of a rejects file again, each under the number that it had.
//!
//! ```text
//! FILE ─► record ─► runs of consecutive numbers ─► delivery, up to --concurrency at a time ─► taken
//!                                                                                   └─► refused ─► FILE.refused
//! ```
//!
//! Invariants: a mended event goes out under the number that its record bears, so it counts once, however often this
//! runs; a record is either taken or stands in `FILE.refused`, and that is said.
//!
//! Limits: one batch being built and `--concurrency` on their way, each of [`MAX_EVENTS`] events and [`MAX_BYTES`].

mod record;

use crate::config::Sending;
use crate::handoff::{Guidance, Reject, Sealed, Settled};
use crate::metrics::Metrics;
use crate::send::delivery::{Damaged, Shared, Speed, deliver};
use crate::send::gate::Gate;
use crate::send::http::{Http, TargetError};
use bytes::Bytes;
use logweir_proto::{BatchId, encoding};
use logweir_telemetry::admin::Readiness;
use logweir_telemetry::exit::Exit;
use logweir_telemetry::shutdown;
use record::{Mended, parse};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// How many events go together.
const MAX_EVENTS: usize = 1_000;
/// How many bytes of them, before compression.
const MAX_BYTES: usize = 1 << 20;
const ZSTD_LEVEL: i32 = 3;
/// How many refusals are said one by one; the others only stand in the file.
const SAID: u64 = 20;

/// Why it can't begin or go on.
#[derive(Debug, Error)]
pub(crate) enum ResendError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("a delivery broke off: {0}")]
    Broken(#[from] JoinError),
}

/// Sends the files one after the other, until all is taken or refused, or a signal says to stop.
///
/// # Errors
/// See [`ResendError`]. What was taken before stays so: running it again counts nothing twice.
pub(crate) async fn run(sending: Sending, files: &[PathBuf]) -> Result<Exit, ResendError> {
    let http = Http::new(&sending.target)?;
    let metrics = Metrics::new().0;
    let gate = Gate::new(metrics.clone(), Readiness::default());
    let (concurrency, max_rate) = (sending.concurrency, sending.max_rate);
    let speed = Speed { concurrency, max_rate, guidance: Guidance::default() };
    let shared = Shared::new(http, gate, metrics, speed);
    let signals = shutdown::listen();
    let (mut taken, mut refused) = (0, 0);
    for path in files {
        let mut one = Resend::new(&shared, path);
        let finished = one.run(concurrency, &signals.stop()).await;
        taken += one.taken;
        refused += one.refused.count;
        one.refused.finish()?;
        if !finished? {
            tracing::warn!(taken, "stopped early; the same command goes on, and nothing counts twice");
            return Ok(Exit::Negative);
        }
    }
    tracing::info!(taken, refused, "done");
    Ok(if refused > 0 { Exit::Negative } else { Exit::Done })
}

struct Resend<'a> {
    shared: &'a Arc<Shared<Http>>,
    path: &'a Path,
    /// Those on their way, with the records that they are made of.
    sent: HashMap<BatchId, Vec<Value>>,
    deliveries: JoinSet<Result<Settled, Damaged>>,
    taken: u64,
    refused: Refused,
}

impl<'a> Resend<'a> {
    fn new(shared: &'a Arc<Shared<Http>>, path: &'a Path) -> Self {
        let refused = Refused::beside(path);
        Self { shared, path, sent: HashMap::new(), deliveries: JoinSet::new(), taken: 0, refused }
    }

    /// Whether it came to the end of the file.
    async fn run(&mut self, concurrency: usize, stop: &CancellationToken) -> Result<bool, ResendError> {
        let failed = |source| ResendError::File { path: self.path.to_owned(), source };
        let mut lines = BufReader::new(File::open(self.path).map_err(failed)?).split(b'\n');
        let mut open: Vec<Mended> = Vec::new();
        let mut number = 0_u64;
        loop {
            let line = lines
                .next()
                .transpose()
                .map_err(|source| ResendError::File { path: self.path.to_owned(), source })?;
            let ended = line.is_none();
            let mut next = None;
            if let Some(line) = line {
                number += 1;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                match parse(&line) {
                    Ok(mended) => next = Some(mended),
                    Err(why) => self.refused.keep(&line, &format!("line {number}: {why}"))?,
                }
            }
            if ended || next.as_ref().is_some_and(|next| !goes_with(&open, next)) {
                while self.deliveries.len() >= concurrency {
                    if !self.settle_one(stop).await? {
                        return Ok(false);
                    }
                }
                self.send(std::mem::take(&mut open));
            }
            open.extend(next);
            if ended {
                break;
            }
        }
        while !self.deliveries.is_empty() {
            if !self.settle_one(stop).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send(&mut self, batch: Vec<Mended>) {
        let Some(first) = batch.first() else { return };
        let (id, events) = (first.id, u64::try_from(batch.len()).unwrap_or(u64::MAX));
        let mut plain = Vec::new();
        let mut records = Vec::new();
        for mended in batch {
            plain.extend_from_slice(&mended.event);
            plain.push(b'\n');
            records.push(mended.record);
        }
        let plain_bytes = u64::try_from(plain.len()).unwrap_or(u64::MAX);
        let body = Bytes::from(encoding::encode_zstd(&plain, ZSTD_LEVEL));
        self.sent.insert(id, records);
        self.deliveries.spawn(deliver(Arc::clone(self.shared), Sealed { id, events, body, plain_bytes }));
    }

    /// Waits until one batch is settled; `false` when it is time to stop.
    async fn settle_one(&mut self, stop: &CancellationToken) -> Result<bool, ResendError> {
        let done = tokio::select! {
            Some(done) = self.deliveries.join_next() => done,
            () = stop.cancelled() => return Ok(false),
        };
        let Settled { id, rejects } = done??;
        let records = self.sent.remove(&id).unwrap_or_default();
        self.taken += u64::try_from(records.len().saturating_sub(rejects.len())).unwrap_or(u64::MAX);
        for reject in rejects {
            let index = reject.number.get().saturating_sub(id.seq.get());
            if let Some(record) = usize::try_from(index).ok().and_then(|index| records.get(index)) {
                self.refused.again(record.clone(), &reject)?;
            }
        }
        Ok(true)
    }
}

/// Whether the next one goes into the open batch.
fn goes_with(open: &[Mended], next: &Mended) -> bool {
    let Some(last) = open.last() else { return true };
    let bytes: usize = open.iter().map(|mended| mended.event.len() + 1).sum();
    last.id.producer == next.id.producer
        && last.id.seq.plus(1) == Some(next.id.seq)
        && open.len() < MAX_EVENTS
        && bytes + next.event.len() < MAX_BYTES
}

/// What is not taken, in `FILE.refused`; there is no such file when there is nothing to keep.
struct Refused {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl Refused {
    fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".refused");
        Self { path: name.into(), file: None, count: 0 }
    }

    /// A line that can't even be sent, as it is.
    fn keep(&mut self, line: &[u8], why: &str) -> Result<(), ResendError> {
        self.say(why);
        self.write(line)
    }

    /// The collector's answer, with the record as it was mended.
    fn again(&mut self, mut record: Value, reject: &Reject) -> Result<(), ResendError> {
        let Reject { number, code, detail, .. } = reject;
        self.say(&format!("number {number}: {code}: {detail}"));
        record["code"] = code.as_str().into();
        record["detail"] = detail.as_str().into();
        self.write(record.to_string().as_bytes())
    }

    fn say(&mut self, why: &str) {
        self.count += 1;
        if self.count <= SAID {
            tracing::warn!(file = %self.path.display(), "refused, {why}");
        }
    }

    fn write(&mut self, line: &[u8]) -> Result<(), ResendError> {
        let failed = |source| ResendError::File { path: self.path.clone(), source };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(BufWriter::new(File::create(&self.path).map_err(failed)?)),
        };
        file.write_all(line).and_then(|()| file.write_all(b"\n")).map_err(failed)
    }

    fn finish(self) -> Result<(), ResendError> {
        let Some(file) = self.file else { return Ok(()) };
        let written =
            file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        tracing::warn!(file = %self.path.display(), refused = self.count, "events were refused; this is where they lie");
        written.map_err(|source| ResendError::File { path: self.path, source })
    }
}
