//! A client that numbers its own events, and sends the same ones in every bad way there is.

use crate::client::Post;
use crate::lines::{self, FUTURE_MS, now_ms};
use crate::truth::Truth;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long one batch may take until it is taken.
const TAKEN_LIMIT: Duration = Duration::from_secs(60);

/// How one batch is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To both collectors at once.
    AtOnce,
    /// First where its future events are rejected, then where they are taken.
    NarrowThenWide,
    /// The other way round.
    WideThenNarrow,
    /// Only where its future events are rejected.
    NarrowOnly,
    /// As a whole without waiting for the answer, then in halves.
    WholeThenHalves,
    /// Without numbers, but with a key, to both collectors at once.
    WithKey,
}

const WAYS: [Way; 6] = [
    Way::AtOnce,
    Way::NarrowThenWide,
    Way::WideThenNarrow,
    Way::NarrowOnly,
    Way::WholeThenHalves,
    Way::WithKey,
];

/// The client. `wide` takes events of the future, `narrow` doesn't; they are the same where there is one collector.
#[derive(Debug)]
pub struct Poster {
    wide: SocketAddr,
    narrow: SocketAddr,
    rng: StdRng,
    producer: Uuid,
    next: u64,
    batches: u64,
    truth: Arc<Truth>,
}

struct Event {
    json: Vec<u8>,
    ms: i64,
    level: &'static str,
    future: bool,
}

impl Poster {
    /// A new producer.
    #[must_use]
    pub fn new(wide: SocketAddr, narrow: SocketAddr, seed: u64, truth: Arc<Truth>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let producer = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
        Self { wide, narrow, rng, producer, next: 1, batches: 0, truth }
    }

    /// How many events were sent, each counted once.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.next - 1
    }

    /// Sends batches until `end`.
    ///
    /// # Panics
    /// When one is refused for good, or judged wrongly.
    pub async fn run(&mut self, end: Instant) {
        while Instant::now() < end {
            self.send_one().await;
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(5..80))).await;
        }
    }

    async fn send_one(&mut self) {
        self.batches += 1;
        let way = WAYS[self.rng.random_range(0..WAYS.len())];
        let judged = self.wide != self.narrow
            && matches!(way, Way::NarrowThenWide | Way::WideThenNarrow | Way::NarrowOnly);
        let count = self.rng.random_range(2..12);
        // The first is good, or there might be none.
        let events: Vec<Event> = (0..count).map(|i| self.event(judged && i > 0)).collect();
        for event in &events {
            if !event.future || way != Way::NarrowOnly {
                self.truth.add(lines::cell(event.ms, "poster", event.level), &format!("{}", self.producer));
            }
        }
        let first = self.next;
        self.next += count;
        let whole = self.post(&events);
        let numbered = whole.clone().batch(self.producer, first);
        let (wide, narrow) = (self.wide, self.narrow);
        match way {
            Way::AtOnce => {
                let (one, two) = tokio::join!(
                    numbered.send_until_taken(wide, TAKEN_LIMIT),
                    numbered.send_until_taken(narrow, TAKEN_LIMIT)
                );
                assert_eq!((one.rejected(), two.rejected()), (vec![], vec![]));
            }
            Way::NarrowThenWide => {
                self.judge(&numbered, &events, true).await;
                self.judge(&numbered, &events, false).await;
            }
            Way::WideThenNarrow => {
                self.judge(&numbered, &events, false).await;
                self.judge(&numbered, &events, true).await;
            }
            Way::NarrowOnly => self.judge(&numbered, &events, true).await,
            Way::WholeThenHalves => {
                let impatience = Duration::from_millis(self.rng.random_range(1..20));
                // Taken or not, answered or not: nothing may depend on it.
                let _unknown = tokio::time::timeout(impatience, numbered.send(wide)).await;
                let (left, right) = events.split_at(events.len() / 2);
                let second = first + u64::try_from(left.len()).expect("few");
                let (left, right) = (self.post(left), self.post(right));
                left.batch(self.producer, first).send_until_taken(narrow, TAKEN_LIMIT).await;
                right.batch(self.producer, second).send_until_taken(wide, TAKEN_LIMIT).await;
            }
            Way::WithKey => {
                let key = format!("{}-{}", self.producer, self.batches);
                let keyed = whole.header("Idempotency-Key", &key);
                tokio::join!(
                    keyed.send_until_taken(wide, TAKEN_LIMIT),
                    keyed.send_until_taken(narrow, TAKEN_LIMIT)
                );
            }
        }
    }

    async fn judge(&self, post: &Post, events: &[Event], narrowly: bool) {
        let to = if narrowly { self.narrow } else { self.wide };
        let answer = post.send_until_taken(to, TAKEN_LIMIT).await;
        let expected: Vec<(u64, String)> = (0u64..)
            .zip(events)
            .filter(|(_, event)| narrowly && event.future)
            .map(|(index, _)| (index, "in_future".to_owned()))
            .collect();
        assert_eq!(answer.rejected(), expected, "{answer:?}");
    }

    fn event(&mut self, may_be_future: bool) -> Event {
        let future = may_be_future && self.rng.random_bool(0.4);
        let ms = if future { now_ms() + FUTURE_MS } else { now_ms() - self.rng.random_range(0..180_000) };
        let level = ["debug", "info", "error"][self.rng.random_range(0..3)];
        let json = lines::event(ms, "poster", level, &format!("batch {}", self.batches));
        Event { json, ms, level, future }
    }

    fn post(&mut self, events: &[Event]) -> Post {
        let lines: Vec<&[u8]> = events.iter().map(|event| event.json.as_slice()).collect();
        let post = match self.rng.random_range(0..3) {
            0 => Post::json([b"[", lines.join(&b',').as_slice(), b"]"].concat()),
            1 => Post::ndjson(lines.join(&b'\n')),
            _ => Post::ndjson([lines.join(&b'\n').as_slice(), b"\n"].concat()).zstd(),
        };
        post.agent("poster")
    }
}
