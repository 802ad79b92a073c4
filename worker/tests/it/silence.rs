//! Workers that die or fall silent: their batches are taken over, and tried with care.

use crate::common::{Batch, Rig, SOON, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A worker of its own; it doesn't outlive the test.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// At once, and for good.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn process(rig: &Rig, flags: &[&str]) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_logweir-worker"))
        .args(["--redis", &rig.redis.url(), "--postgres", &rig.postgres.url(), "--admin", "127.0.0.1:0"])
        .args(flags)
        .stderr(Stdio::null())
        .spawn();
    Process(child.unwrap())
}

/// What a dead worker held is counted, and no attempt stays noted.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_held_is_taken_over() {
    let rig = Rig::start().await;
    for n in 0..30 {
        rig.put(&Batch::new(1, n * 10 + 1, 10, "api")).await;
    }
    let mut dead = rig.queue.reader("dead");
    assert_eq!(dead.read(30, Duration::from_secs(1)).await.unwrap().len(), 30);
    drop(dead);
    let worker = rig.worker(&["--lease", "300ms", "--max-attempts", "1"]).await;
    rig.drained().await;
    assert_eq!(rig.count("api").await.0, 300);
    assert_eq!(rig.redis.cli(&["HLEN", "logweir:{0}:attempts"]), "0");
    assert_eq!((rig.depth().await.dead, worker.metric("logweir_worker_reclaimed_total")), (0, 30.0));
    // Dead consumers that hold nothing go too; the lanes stay.
    worker.stop().await;
    let worker = rig.worker(&["--lease", "200ms", "--housekeeping", "50ms"]).await;
    eventually("only living consumers are left", async || {
        !rig.redis.cli(&["XINFO", "CONSUMERS", "logweir:{0}:queue", "workers"]).contains("dead")
    })
    .await;
    worker.stop().await;
}

/// A batch whose worker dies each time it is touched: it is tried alone with the attempt noted before, and after
/// --max-attempts it is not touched again.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_kills_its_worker() {
    let rig = Rig::start().await;
    let first = rig.worker(&[]).await;
    first.ready().await;
    first.stop().await;
    let id = rig.put(&Batch::new(1, 1, 10, "deadly")).await;
    let mut dead = rig.queue.reader("dead");
    dead.read(1, Duration::from_secs(1)).await.unwrap();
    // The lock holds the transaction open for long enough to die in it.
    let mut holder = rig.postgres.connect().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE log_counts IN EXCLUSIVE MODE").await.unwrap();
    let flags = ["--lease", "300ms", "--max-attempts", "3"];
    for attempt in 1..=3 {
        let mut worker = process(&rig, &flags);
        eventually("the attempt is noted", async || {
            rig.queue.attempts(&id).await.unwrap().is_some_and(|noted| noted.count == attempt)
        })
        .await;
        worker.kill();
    }
    let worker = rig.worker(&flags).await;
    rig.drained().await;
    lock.rollback().await.unwrap();
    let letters = rig.queue.dead_letters(None, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts), (1, 3));
    assert!(letters[0].error.contains("died"), "{}", letters[0].error);
    assert_eq!(rig.count("deadly").await.0, 0);
    worker.stop().await;
}

/// The same batch with one that only was beside it: three notes are enough, one is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadly_batch_ends_among_the_dead_letters() {
    let rig = Rig::start().await;
    let deadly = rig.put(&Batch::new(1, 1, 10, "deadly")).await;
    let harmless = rig.put(&Batch::new(2, 1, 10, "api")).await;
    let mut dead = rig.queue.reader("dead");
    assert_eq!(dead.read(2, Duration::from_secs(1)).await.unwrap().len(), 2);
    // Each time a worker noted an attempt, and died before it could forgive.
    for _ in 0..3 {
        rig.queue.note_attempt(&deadly, "dead", "the worker that held it died or fell silent").await.unwrap();
    }
    // Here it was a coincidence, and the next try succeeds.
    rig.queue.note_attempt(&harmless, "dead", "the worker that held it died or fell silent").await.unwrap();
    let worker = rig.worker(&["--lease", "300ms", "--max-attempts", "3"]).await;
    rig.drained().await;
    let letters = rig.queue.dead_letters(None, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].entry_id, letters[0].attempts), (&deadly, 3));
    assert!(letters[0].error.contains("died"), "{}", letters[0].error);
    assert_eq!((rig.count("deadly").await.0, rig.count("api").await.0), (0, 10));
    assert_eq!(rig.redis.cli(&["HLEN", "logweir:{0}:attempts"]), "0");
    worker.stop().await;
}

/// The process is killed while its transaction is open. Nothing is counted by halves, and another takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_batch() {
    let rig = Rig::start().await;
    let first = rig.worker(&[]).await;
    first.ready().await;
    first.stop().await;
    let mut process = process(&rig, &["--lease", "500ms"]);
    let mut holder = rig.postgres.connect().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE log_counts IN EXCLUSIVE MODE").await.unwrap();
    rig.put(&Batch::new(1, 1, 100, "api")).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    eventually("it is in the middle", async || rig.postgres.row(waiting).await != "0").await;
    process.kill();
    lock.rollback().await.unwrap();
    let worker = rig.worker(&["--lease", "500ms"]).await;
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.applied(1).await.as_str()), (100, "{[1,101)}"));
    assert_eq!(worker.metric("logweir_worker_reclaimed_total"), 1.0);
    worker.stop().await;
}

/// While Postgres hangs in the first try of a batch that was taken over, that costs no attempt: neither by time nor
/// when the worker is killed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_is_not_blamed_for_a_slow_postgres() {
    let rig = Rig::start().await;
    let first = rig.worker(&[]).await;
    first.ready().await;
    first.stop().await;
    let id = rig.put(&Batch::new(1, 1, 10, "api")).await;
    let mut dead = rig.queue.reader("dead");
    dead.read(1, Duration::from_secs(1)).await.unwrap();
    let mut holder = rig.postgres.connect().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE log_counts IN EXCLUSIVE MODE").await.unwrap();
    let worker = rig.worker(&["--lease", "300ms", "--max-attempts", "1"]).await;
    eventually("an attempt is noted", async || rig.queue.attempts(&id).await.unwrap().is_some()).await;
    eventually("and forgiven", async || rig.queue.attempts(&id).await.unwrap().is_none()).await;
    lock.rollback().await.unwrap();
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (10, 0));
    worker.stop().await;
}

/// A batch that was taken over and can't be counted fails by its real reason, and by as many attempts as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_that_is_really_bad() {
    let rig = Rig::start().await;
    let id = rig.put(&Batch { body: b"nonsense".to_vec(), ..Batch::new(1, 1, 10, "x") }).await;
    let mut dead = rig.queue.reader("dead");
    dead.read(1, Duration::from_secs(1)).await.unwrap();
    let worker = rig.worker(&["--lease", "300ms", "--max-attempts", "3"]).await;
    rig.drained().await;
    let letters = rig.queue.dead_letters(None, 10).await.unwrap();
    assert_eq!((letters.len(), &letters[0].entry_id, letters[0].attempts), (1, &id, 3));
    assert!(letters[0].error.contains("zstd"), "{}", letters[0].error);
    assert_eq!(worker.metric("logweir_worker_batches_total{result=\"failed\"}"), 3.0);
    worker.stop().await;
}

/// What was counted, but can't be acknowledged, is found again and again: that is no failure of the batch.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_acknowledged_is_not_blamed_for_it() {
    let rig = Rig::start().await;
    let id = rig.put(&Batch::new(1, 1, 10, "api")).await;
    let mut dead = rig.queue.reader("dead");
    dead.read(1, Duration::from_secs(1)).await.unwrap();
    // Somebody has put another kind of value where the bytes are kept.
    rig.redis.cli(&["DEL", "logweir:{0}:bytes"]);
    rig.redis.cli(&["LPUSH", "logweir:{0}:bytes", "no number"]);
    let worker = rig.worker(&["--lease", "200ms", "--max-attempts", "2", "--concurrency", "1"]).await;
    eventually("it is found again and again", async || {
        worker.metric("logweir_worker_batches_total{result=\"duplicate\"}") >= 3.0
    })
    .await;
    eventually("no attempt stays noted", async || rig.queue.attempts(&id).await.unwrap().is_none()).await;
    rig.redis.cli(&["DEL", "logweir:{0}:bytes"]);
    rig.drained().await;
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (10, 0));
    worker.stop().await;
}

/// A worker that is stopped over and over, as on a machine that has no time for it, needs many times --batch-timeout for
/// a batch by the clock on the wall; what it computes is little. No attempt is noted.
#[tokio::test(flavor = "multi_thread")]
async fn a_starved_worker_blames_no_batch() {
    let rig = Rig::start().await;
    let first = rig.worker(&[]).await;
    first.ready().await;
    first.stop().await;
    rig.put(&Batch::new(1, 1, 160_000, "api")).await;
    let flags = ["--batch-timeout", "1s", "--max-attempts", "1", "--concurrency", "1"];
    let worker = process(&rig, &flags);
    let begun = Instant::now();
    while rig.depth().await.entries > 0 {
        assert!(begun.elapsed() < SOON && rig.depth().await.dead == 0, "it can't be counted");
        worker.signal(Signal::STOP);
        tokio::time::sleep(Duration::from_millis(60)).await;
        worker.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2), "it was not starved: {took:?}");
    assert_eq!((rig.count("api").await.0, rig.depth().await.dead), (160_000, 0));
}

/// Two processes are killed in turn, at whatever they do, while batches come, some of them twice.
#[tokio::test(flavor = "multi_thread")]
async fn workers_are_killed_again_and_again() {
    let rig = Rig::start().await;
    let flags = ["--lease", "300ms", "--max-attempts", "1000", "--group", "3"];
    let mut workers = [process(&rig, &flags), process(&rig, &flags)];
    for round in 0..16u64 {
        for n in 0..20u64 {
            let batch = Batch::new(u128::from(n % 4) + 1, round * 50 + n / 4 * 10 + 1, 10, "api");
            rig.put(&batch).await;
            if n % 5 == 0 {
                rig.put(&batch).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(60 + round * 7)).await;
        let victim = usize::from(round % 2 == 0);
        workers[victim].kill();
        workers[victim] = process(&rig, &flags);
    }
    rig.drained().await;
    drop(workers);
    assert_eq!(rig.count("api").await.0, 16 * 200);
    for producer in 1..=4 {
        assert_eq!(rig.applied(producer).await, "{[1,801)}");
    }
    assert_eq!(
        (rig.depth().await.dead, rig.redis.cli(&["HLEN", "logweir:{0}:attempts"])),
        (0, "0".to_owned())
    );
}
