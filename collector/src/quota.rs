//! How much each agent may send: a leaky bucket of events and one of bytes, by agent ID.
//!
//! ```text
//!                     refill, each 50 ms
//!                            ▼
//!   admit(n) ─► promised? ─► │ balance − owed │ ≥ min(n, burst)?  yes: charge n, go on
//!                  │         └────────────────┘          soon enough: charge n now, go on after that time
//!                  └► go on, charged before                     else: refuse, say when, and set n aside for then
//! ```
//!
//! Whoever waits or was told a time has been charged already: so the times that others are told are true, and the
//! order of arrival is kept. What was set aside flows back when nobody comes for it.
//!
//! Limits: [`Limiters`] keeps `--max-agents` agents, and forgets the least recently seen, whose bucket is full
//! when it comes back. Those that nobody vouches for are forgotten first; where only others are left, they share one
//! bucket: so however many IDs somebody makes up, no authenticated agent is forgotten for them.

mod bucket;
mod promises;
mod returns;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use crate::auth::Agent;
use crate::pressure::spread;
use bucket::Bucket;
use lru::LruCache;
use promises::{Amounts, Promises};
use returns::Returns;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use table::Table;
use tokio::time::Instant;

/// What may flow through one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    /// For each second.
    pub(crate) rate: u64,
    /// At once, after a pause.
    pub(crate) burst: u64,
}

impl Quota {
    /// The largest rate and burst: far beyond what a machine can send, and no product of it overflows.
    pub(crate) const MAX_RATE: u64 = 1 << 40;

    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        Self { rate: rate.clamp(1, Self::MAX_RATE), burst: burst.clamp(1, Self::MAX_RATE) }
    }

    /// In how many seconds an empty bucket is full again, rounded up.
    pub(crate) fn window_s(self) -> u64 {
        self.burst.div_ceil(self.rate)
    }
}

/// The quotas of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quotas {
    pub(crate) events: Quota,
    pub(crate) bytes: Quota,
}

/// A batch that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// Stands for the batch's own identity, the same each time that it comes; `None` when it has none.
    pub(crate) key: Option<u64>,
    /// How long its request may wait.
    pub(crate) patience: Duration,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Charged: go on after that time (zero: at once).
    After(Duration, Charge),
    /// Not let in.
    Refused(Denial),
}

/// When it would be possible, and what there is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Until the buckets hold this batch.
    pub(crate) wait: Duration,
    /// When to come back: then, but where many would come back together at most twice as late. No later than the
    /// buckets can save up for, so that this costs nobody anything of its quota.
    pub(crate) come_back: Duration,
    /// The agent's quotas.
    pub(crate) quotas: Quotas,
    /// Events that could be sent now.
    pub(crate) events_left: u64,
    /// Bytes that could be sent now.
    pub(crate) bytes_left: u64,
}

/// The buckets of one agent.
struct Buckets {
    /// Empty for the common ones.
    id: Arc<str>,
    events: Bucket,
    bytes: Bucket,
    quotas: Quotas,
    /// The table that `quotas` were taken from.
    table: Arc<Table>,
    promises: Promises,
    refusals: u64,
}

impl Buckets {
    fn new(id: Arc<str>, table: Arc<Table>) -> Self {
        let quotas = table.of(&id);
        let (events, bytes) = (Bucket::new(quotas.events), Bucket::new(quotas.bytes));
        Self { id, events, bytes, quotas, table, promises: Promises::default(), refusals: 0 }
    }

    fn follow(&mut self, table: &Arc<Table>) {
        if Arc::ptr_eq(&self.table, table) {
            return;
        }
        self.quotas = table.of(&self.id);
        self.events.change(self.quotas.events);
        self.bytes.change(self.quotas.bytes);
        self.table = table.clone();
    }

    fn charge(&mut self, amounts: Amounts) {
        self.events.charge(amounts.events);
        self.bytes.charge(amounts.bytes);
    }

    fn refund(&mut self, amounts: Amounts) {
        self.events.refund(amounts.events);
        self.bytes.refund(amounts.bytes);
    }

    /// How long this batch must wait; charged if that is no longer than its patience.
    fn admit(
        &mut self,
        ask: &Ask<'_>,
        amounts: Amounts,
        returns: &Mutex<Returns>,
    ) -> Result<Duration, Denial> {
        let now = Instant::now();
        while let Some(amounts) = self.promises.forget_one(now) {
            self.refund(amounts);
        }
        if let Some(found) = self.promises.find(now, ask.key, amounts) {
            if found.wait > ask.patience {
                return Err(self.denial(found.wait, found.wait));
            }
            let set_aside = self.promises.redeem(found);
            self.refund(set_aside);
            self.charge(amounts);
            return Ok(found.wait);
        }
        let waits = (self.events.wait(amounts.events), self.bytes.wait(amounts.bytes));
        let wait = waits.0.max(waits.1);
        if wait <= ask.patience {
            self.charge(amounts);
            return Ok(wait);
        }
        self.refusals = self.refusals.wrapping_add(1);
        let window = if waits.0 >= waits.1 { self.events.window() } else { self.bytes.window() };
        let within = spread(&ask.agent.id, self.refusals, Duration::from_secs(1)).as_secs_f64();
        let mut returns = returns.lock().unwrap_or_else(PoisonError::into_inner);
        let come_back = returns.place(now, wait, wait.min(window), within);
        drop(returns);
        let denial = self.denial(wait, come_back);
        if self.promises.make(now, (wait, come_back), ask.key, amounts) {
            self.charge(amounts);
        }
        Err(denial)
    }

    fn denial(&mut self, wait: Duration, come_back: Duration) -> Denial {
        let (events_left, bytes_left) = (self.events.left(), self.bytes.left());
        Denial { wait, come_back, quotas: self.quotas, events_left, bytes_left }
    }
}

type Shared = Arc<Mutex<Buckets>>;

/// What was charged for one request. Dropped without [`Charge::keep`], it is refunded: the batch was not taken.
pub(crate) struct Charge {
    agent: Option<Shared>,
    amounts: Amounts,
}

impl Charge {
    /// The batch was taken.
    pub(crate) fn keep(mut self) {
        self.agent = None;
    }
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Charge").field(&self.amounts).finish()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.lock().unwrap_or_else(PoisonError::into_inner).refund(self.amounts);
        }
    }
}

/// The agents that are remembered.
struct Known {
    /// A token or certificate says who they are.
    vouched: LruCache<Arc<str>, Shared>,
    /// They say so themselves, or their address does.
    strangers: LruCache<Arc<str>, Shared>,
    max: usize,
    /// The bucket of all strangers for whom there is no place.
    common: Option<Shared>,
}

impl Known {
    fn of(&mut self, agent: &Agent, table: &Arc<Table>) -> Shared {
        let new = |id: Arc<str>| Arc::new(Mutex::new(Buckets::new(id, table.clone())));
        let cache = if agent.authenticated { &mut self.vouched } else { &mut self.strangers };
        if let Some(known) = cache.get(&agent.id) {
            return known.clone();
        }
        if self.vouched.len() + self.strangers.len() >= self.max && self.strangers.pop_lru().is_none() {
            if !agent.authenticated {
                return self.common.get_or_insert_with(|| new("".into())).clone();
            }
            self.vouched.pop_lru();
        }
        let buckets = new(agent.id.clone());
        let cache = if agent.authenticated { &mut self.vouched } else { &mut self.strangers };
        cache.put(agent.id.clone(), buckets.clone());
        buckets
    }
}

/// The buckets of all agents.
pub(crate) struct Limiters {
    known: Mutex<Known>,
    returns: Mutex<Returns>,
    table: RwLock<Arc<Table>>,
    count: AtomicUsize,
}

impl Limiters {
    pub(crate) fn new(max_agents: usize, table: Table) -> Self {
        // `unbounded`: they grow with the agents that come, and are kept below the limit together.
        let known = Known {
            vouched: LruCache::unbounded(),
            strangers: LruCache::unbounded(),
            max: NonZeroUsize::new(max_agents).map_or(1, NonZeroUsize::get),
            common: None,
        };
        let returns = Mutex::new(Returns::new(Instant::now()));
        Self {
            known: Mutex::new(known),
            returns,
            table: RwLock::new(Arc::new(table)),
            count: AtomicUsize::new(0),
        }
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The quotas in force for an agent.
    pub(crate) fn quotas_of(&self, agent: &str) -> Quotas {
        self.table().of(agent)
    }

    /// Changes the quotas of all; each agent's bucket stays as full as it is. Returns whether anything is different.
    pub(crate) fn change(&self, table: Table) -> bool {
        let mut current = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let differs = **current != table;
        if differs {
            *current = Arc::new(table);
        }
        differs
    }

    /// How many agents are remembered.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether an agent may send a batch. Must be called within a Tokio runtime, whose clock the buckets use.
    pub(crate) fn admit(&self, ask: &Ask<'_>) -> Admission {
        let table = self.table();
        let shared = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = known.of(ask.agent, &table);
            self.count.store(known.vouched.len() + known.strangers.len(), Ordering::Relaxed);
            shared
        };
        let amounts = Amounts { events: ask.events, bytes: ask.bytes };
        let outcome = {
            let mut buckets = shared.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.follow(&table);
            buckets.admit(ask, amounts, &self.returns)
        };
        match outcome {
            Ok(wait) => Admission::After(wait, Charge { agent: Some(shared), amounts }),
            Err(denial) => Admission::Refused(denial),
        }
    }
}
