//! The protocol of `docs/architecture.md`, explored in full: every order of every step, in a small world.
//!
//! **Who acts.** An agent with one batch, which comes to the collectors as a whole or in halves, at any time and any
//! number of times: sent again, repeated by a proxy, halved while an earlier attempt is unanswered, or sent from the
//! journal after a crash. Collectors, each of which may find other events valid (the rest is `skip`), and whose answer
//! may get lost after the batch is in the queue. A queue, where leases expire at any time, the group may vanish, and
//! acknowledging, dead-lettering and replaying are atomic. Two workers, which read up to two batches, lock the
//! ledger's row, commit, acknowledge or give up, and die between any two steps; a commit's answer may get lost; whoever
//! was taken for dead goes on. An operator who replays dead letters, and drops them: first their gap is closed, then the
//! letter deleted.
//!
//! **What is left out.** Postgres' transaction is two steps, lock and commit, as far apart as one likes. Attempts aren't
//! numbered: any failure may be the last. A batch has one or two events, and two or three entries exist at a time,
//! though any number over time. A ledger row is never forgotten, no event is too old, and Redis keeps what it said.
//! States are told apart by a hash of 64 bits.
//! What the code does in each step is for other tests: `src/settle/interleavings.rs`, and the schedules of `e2e/`.
//!
//! **What is proven** for these worlds, by visiting each state: no event is ever counted twice; what a drop closed is
//! never counted afterwards; an acknowledged event is at each moment counted, dropped, or in an entry; and from each
//! state, once the troubles are over, every path leads to the end where each acknowledged event is counted once, unless
//! it is a dead letter or was dropped. The second half proves that the first can fail.

#![expect(
    clippy::print_stdout,
    reason = "the sizes of the worlds and the counterexamples are what one wants to see"
)]

mod model;

use model::{Action, COUNTED_ONCE, DROPPED_STAYS, Fault, IN_THE_END, NOTHING_VANISHES, Protocol};
use stateright::{Checker, HasDiscoveries, Model};
use std::time::Instant;

fn explore(events: u8, slots: usize) {
    let begun = Instant::now();
    let checker = Protocol { events, slots, fault: Fault::None }.checker().threads(2).spawn_bfs().join();
    println!(
        "{events} events, {slots} entries at a time: {} states, {} steps, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        begun.elapsed(),
    );
    checker.assert_properties();
}

/// A short way to what this fault breaks. Workers and places may change their numbers between two steps.
fn counterexample(fault: Fault, property: &'static str) -> Vec<Action> {
    let protocol = Protocol { events: 2, slots: 2, fault };
    let found = HasDiscoveries::AnyOf([property].into());
    // With more threads it would not be the same way each time.
    let checker = protocol.checker().finish_when(found).spawn_bfs().join();
    let way = checker.assert_any_discovery(property).into_actions();
    let steps: String = way.iter().map(|action| format!("\n  {action:?}")).collect();
    println!("{fault:?}, after {} states:{steps}", checker.unique_state_count());
    way
}

#[test]
fn two_events_in_two_entries() {
    explore(2, 2);
}

#[test]
fn one_event_in_three_entries() {
    explore(1, 3);
}

/// 27,601,874 states: takes minutes, in a release build.
#[test]
#[ignore = "large: cargo test --release -p logweir-worker --test protocol -- --ignored --nocapture"]
fn two_events_in_three_entries() {
    explore(2, 3);
}

#[test]
fn without_the_ledger_a_second_delivery_counts_twice() {
    counterexample(Fault::LedgerOff, COUNTED_ONCE);
}

#[test]
fn a_ledger_read_before_the_lock_is_too_old() {
    let way = counterexample(Fault::ReadBeforeLock, COUNTED_ONCE);
    let locks = way.iter().filter(|action| matches!(action, Action::Lock { .. })).count();
    assert_eq!(locks, 2, "it takes two at once");
}

#[test]
fn acknowledged_before_its_commit_a_batch_dies_with_its_worker() {
    let way = counterexample(Fault::AcknowledgedFirst, IN_THE_END);
    assert!(way.iter().any(|action| matches!(action, Action::Crash { .. })));
}

#[test]
fn a_replay_under_new_numbers_counts_twice() {
    let way = counterexample(Fault::ReplayedAnew, COUNTED_ONCE);
    assert!(way.iter().any(|action| matches!(action, Action::Replay { .. })));
}

#[test]
fn lines_sent_anew_under_new_numbers_count_twice() {
    counterexample(Fault::JournalIgnored, COUNTED_ONCE);
}

#[test]
fn with_skipped_numbers_applied_what_another_collector_took_vanishes() {
    counterexample(Fault::SkippedApplied, NOTHING_VANISHES);
}

#[test]
fn a_drop_that_leaves_its_gap_open_is_undone_by_another_copy() {
    counterexample(Fault::DropLeavesGap, DROPPED_STAYS);
}
