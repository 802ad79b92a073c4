//! A collector that answers by a script: no sockets, and time as the test says.

use crate::handoff::{Guidance, Sealed};
use crate::metrics::Metrics;
use crate::send::delivery::{Shared, Speed};
use crate::send::gate::Gate;
use crate::send::http::{Post, Request};
use crate::send::limits::OwnLimits;
use crate::send::policy::{Answer, Outcome};
use logweir_proto::answer::Problem;
use logweir_proto::{BatchId, Seq, encoding, ndjson};
use logweir_telemetry::admin::Readiness;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const PRODUCER: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10";

/// The event with this number, as it is sent.
pub(crate) fn line(number: u64) -> String {
    format!(r#"{{"n":{number}}}"#)
}

/// A batch of such events.
pub(crate) fn batch(seq: u64, events: u64) -> Sealed {
    let plain: String = (seq..seq + events).map(|n| line(n) + "\n").collect();
    let id = BatchId { producer: PRODUCER.parse().unwrap(), seq: Seq::new(seq).unwrap() };
    let body = encoding::encode_zstd(plain.as_bytes(), 3).into();
    Sealed { id, events, body, plain_bytes: u64::try_from(plain.len()).unwrap() }
}

pub(crate) fn answer(status: u16, body: &str) -> Outcome {
    Outcome::Answer(Answer { status, body: Some(body.into()), ..Answer::default() })
}

pub(crate) fn problem(problem: &Problem) -> Outcome {
    answer(problem.status, &serde_json::to_string(problem).unwrap())
}

/// What the collector would say, with these events rejected.
pub(crate) fn settle(request: &Sent, rejected: &[u64]) -> Outcome {
    let events = u64::try_from(request.numbers().len() - rejected.len()).unwrap();
    let rejected: Vec<_> =
        rejected.iter().map(|i| json!({"index": i, "code": "too_old", "detail": "d"})).collect();
    let body = json!({"batch": request.id.to_string(), "accepted": events, "rejected": rejected});
    answer(202, &body.to_string())
}

/// A request, and the how manieth it is from 0.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    request: Request,
    /// The collector that it went to.
    pub(crate) to: usize,
    pub(crate) attempt: usize,
    at: Instant,
}

impl std::ops::Deref for Sent {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl Sent {
    /// The numbers in its body.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let plain = encoding::decode(self.encoding, &self.body, 1 << 20).unwrap();
        let number = |line: &[u8]| {
            let event: serde_json::Value = serde_json::from_slice(line).unwrap();
            event["n"].as_u64().unwrap()
        };
        ndjson::lines(&plain).map(number).collect()
    }
}

type Script = Box<dyn Fn(&Sent) -> Outcome + Send + Sync>;

pub(crate) struct Scripted {
    script: Script,
    sent: Mutex<Vec<Sent>>,
    /// How long each answer takes.
    pub(crate) takes: Duration,
    collectors: usize,
    concurrency: usize,
    max_rate: Option<u64>,
    /// Whether there are credentials, and how often they were looked for.
    pub(crate) has_credentials: AtomicBool,
    pub(crate) looks: AtomicUsize,
    /// What it says of its limits.
    limits: Option<OwnLimits>,
    /// How often it was asked before it says that, and who was asked.
    pub(crate) unsaid: AtomicUsize,
    pub(crate) asked: Mutex<Vec<usize>>,
    /// Whether it answers what is small.
    answers: bool,
}

impl Scripted {
    pub(crate) fn new(script: impl Fn(&Sent) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        Self::slow(Duration::ZERO, script)
    }

    pub(crate) fn slow(
        takes: Duration,
        script: impl Fn(&Sent) -> Outcome + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            sent: Mutex::default(),
            takes,
            collectors: 1,
            concurrency: 4,
            max_rate: None,
            has_credentials: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
            limits: None,
            unsaid: AtomicUsize::new(0),
            asked: Mutex::default(),
            answers: true,
        })
    }

    /// So many collectors.
    pub(crate) fn of(self: Arc<Self>, collectors: usize) -> Arc<Self> {
        Arc::new(Self { collectors, ..Arc::into_inner(self).unwrap() })
    }

    /// So many batches at a time.
    pub(crate) fn at_a_time(self: Arc<Self>, concurrency: usize) -> Arc<Self> {
        Arc::new(Self { concurrency, ..Arc::into_inner(self).unwrap() })
    }

    /// At most so many events a second.
    pub(crate) fn at_most(self: Arc<Self>, events_per_s: u64) -> Arc<Self> {
        Arc::new(Self { max_rate: Some(events_per_s), ..Arc::into_inner(self).unwrap() })
    }

    /// It answers nothing at all.
    pub(crate) fn mute(self: Arc<Self>) -> Arc<Self> {
        Arc::new(Self { answers: false, ..Arc::into_inner(self).unwrap() })
    }

    /// It says this of its limits.
    pub(crate) fn saying(self: Arc<Self>, limits: OwnLimits) -> Arc<Self> {
        Arc::new(Self { limits: Some(limits), ..Arc::into_inner(self).unwrap() })
    }

    pub(crate) fn shared(self: &Arc<Self>) -> Arc<Shared<Arc<Self>>> {
        let metrics = Metrics::new().0;
        let gate = Gate::new(metrics.clone(), Readiness::default());
        let guidance = Guidance::default();
        let speed = Speed { concurrency: self.concurrency, max_rate: self.max_rate, guidance };
        Shared::new(Arc::clone(self), gate, metrics, speed)
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    pub(crate) fn times(&self) -> Vec<Instant> {
        self.sent().iter().map(|sent| sent.at).collect()
    }
}

impl Post for Arc<Scripted> {
    fn collectors(&self) -> usize {
        self.collectors
    }

    async fn post(&self, to: usize, request: Request) -> Outcome {
        let sent = {
            let mut all = self.sent.lock().unwrap();
            let sent = Sent { request, to, attempt: all.len(), at: Instant::now() };
            all.push(sent.clone());
            sent
        };
        tokio::time::sleep(self.takes).await;
        (self.script)(&sent)
    }

    async fn limits(&self, to: usize) -> Option<OwnLimits> {
        self.asked.lock().unwrap().push(to);
        let unsaid =
            self.unsaid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        self.limits.filter(|_| unsaid.is_err())
    }

    fn has_credentials(&self) -> bool {
        self.has_credentials.load(Ordering::Relaxed)
    }

    async fn answers(&self, _: usize) -> bool {
        self.answers
    }

    async fn new_credentials(&self) -> bool {
        self.looks.fetch_add(1, Ordering::Relaxed);
        false
    }
}
