//! What happens when the queue is full: who may wait, who goes on, and what the others are told.

use crate::answer::Refusal;
use crate::auth::Agent;
use crate::line::{Turn, Who};
use crate::service::{Shared, queue_unavailable};
use logweir_proto::answer::ProblemCode;
use logweir_queue::Shard;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Refuses a batch that the queue surely can't take, after a wait if that may help. Returns as whom it goes on.
pub(crate) async fn check(
    shared: &Shared,
    shard: Shard,
    agent: &Agent,
    mark: Option<u64>,
    hold_until: Instant,
) -> Result<Who, Refusal> {
    if let Some(why) = shared.gate.view(shard).unavailable() {
        tracing::debug!(why = ?why, "the queue is known to be unavailable");
        return Err(queue_unavailable(agent));
    }
    let mut who = Who { agent: agent.id.clone(), mark };
    let may_come = match shared.gate.look(shard, &who) {
        Turn::Now => true,
        Turn::Early(wait) => hold_for(shared, wait, hold_until).await,
        Turn::Full => hold(shared, shard, &mut who, hold_until).await,
    };
    if may_come { Ok(who) } else { Err(full(shared, shard, &who)) }
}

/// Waits in line when its turn will come soon enough and not too many wait already. Returns whether it came.
pub(crate) async fn hold(shared: &Shared, shard: Shard, who: &mut Who, until: Instant) -> bool {
    let patience = until.saturating_duration_since(Instant::now());
    let Ok(_slot) = shared.holding.try_acquire() else { return false };
    // A place of this very request: another one of this agent must not take it.
    let mine = Who { mark: who.mark.or_else(|| Some(unique())), ..who.clone() };
    let Some(wait) = shared.gate.stand_in_line(shard, &mine, patience) else { return false };
    shared.metrics.held.inc();
    sleep(wait).await;
    if shared.gate.wait_for_room(shard, until).await {
        *who = mine;
        return true;
    }
    shared.gate.leave_line(shard, &mine);
    false
}

async fn hold_for(shared: &Shared, wait: Duration, until: Instant) -> bool {
    if wait > until.saturating_duration_since(Instant::now()) {
        return false;
    }
    let Ok(_slot) = shared.holding.try_acquire() else { return false };
    shared.metrics.held.inc();
    sleep(wait).await;
    true
}

/// The refusal of a batch for which there is no room.
pub(crate) fn full(shared: &Shared, shard: Shard, who: &Who) -> Refusal {
    Refusal::new(ProblemCode::QueueFull, "the queue is full; the batch was not taken, send it again later")
        .retry_after(shared.gate.turn_away(shard, who))
}

fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
