//! What each agent has in hand: requests, and bytes of bodies. One agent may have as much as nobody has: so alone it
//! gets half of all there is, two get a third each, and something is always left for others.
//!
//! This rule (a dynamic threshold, after Choudhury and Hahne, 1998) needs no setting and no number of agents.
//! The map holds only agents that have a request in hand.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What one agent has in hand.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    requests: AtomicUsize,
    bytes: AtomicU64,
}

impl Hand {
    /// Whether it may have `more` bytes beside those that it has, when nobody has `free`. `least` it may have anyway.
    pub(crate) fn may_have(&self, more: u64, free: u64, least: u64) -> bool {
        let wanted = self.bytes.load(Ordering::Relaxed).saturating_add(more);
        wanted <= least || wanted <= free
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// All agents with requests in hand.
#[derive(Debug, Default)]
pub(crate) struct Hands(Mutex<HashMap<Arc<str>, Arc<Hand>>>);

/// One request in hand.
#[derive(Debug)]
pub(crate) struct InHand<'a> {
    hands: &'a Hands,
    agent: Arc<str>,
    pub(crate) hand: Arc<Hand>,
}

impl Hands {
    /// One request more of this agent, when `free` more are possible in all: `None` when it has as many already.
    pub(crate) fn begin(&self, agent: &Arc<str>, free: usize) -> Option<InHand<'_>> {
        let mut hands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hand = hands.entry(agent.clone()).or_default().clone();
        let mine = hand.requests.load(Ordering::Relaxed);
        if mine > 0 && mine >= free {
            return None;
        }
        hand.requests.store(mine + 1, Ordering::Relaxed);
        Some(InHand { hands: self, agent: agent.clone(), hand })
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let mut hands = self.hands.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.hand.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            hands.remove(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gets_half_two_get_a_third_and_some_is_left() {
        let hands = Hands::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut free = 90;
        let mut held = Vec::new();
        while let Some(one) = hands.begin(&a, free) {
            held.push(one);
            free -= 1;
        }
        assert_eq!(held.len(), 45);
        let mut of_b = Vec::new();
        while let Some(one) = hands.begin(&b, free) {
            of_b.push(one);
            free -= 1;
        }
        assert_eq!(of_b.len(), 23);
        assert!(hands.begin(&a, free).is_none());
        // The last one possible goes to whoever has none.
        assert!(hands.begin(&"c".into(), 1).is_some());
        drop((held, of_b));
        assert!(hands.0.lock().unwrap().is_empty());
    }

    #[test]
    fn one_body_is_always_possible() {
        let hand = Hand::default();
        assert!(hand.may_have(100, 0, 100));
        hand.add(100);
        assert!(!hand.may_have(1, 100, 100));
        assert!(hand.may_have(1, 101, 100));
        hand.take(100);
        assert!(hand.may_have(50, 50, 10) && !hand.may_have(51, 50, 10));
    }
}
