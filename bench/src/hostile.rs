//! What good clients feel of hostile ones: the same load, by turns without and with thousands of idle connections and
//! hundreds of clients that send their headers letter by letter.

use crate::args::HostileArgs;
use crate::attack::Attackers;
use crate::clock::now_ms;
use crate::http::Connection;
use crate::load::{Generator, Keys};
use crate::machine::Machine;
use crate::output::{Report, Row, note, per};
use crate::place::Place;
use crate::queue;
use crate::servers::Redis;
use crate::services;
use bytes::Bytes;
use hyper::StatusCode;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

/// # Errors
/// When something doesn't start or answer.
pub(crate) async fn run(args: &HostileArgs, place: &Place) -> anyhow::Result<Report> {
    let redis = Redis::start(place).await?;
    let mut machine = Machine::look(place, Some(&redis), None).await?;
    let mut depth = redis.connect().await?;
    let mut collector = services::collector(place, &redis, None, &services::no_quota())?;
    collector.ready().await?;
    let body = Generator::new(Keys::Hot, now_ms()).body(args.events)?;
    let mut wrong = Vec::new();
    let (mut rows, mut without, mut with) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        for hostile in [false, true] {
            queue::clear(&mut depth).await?;
            let attackers = match hostile {
                true => Some(Attackers::start(place, collector.listen, args.idle, args.slow).await?),
                false => None,
            };
            let cpu = collector.process.usage();
            let begun = Instant::now();
            let (mut times, refused) = load(args, collector.listen, &body).await?;
            let took = begun.elapsed();
            let cpu = collector.process.usage() - cpu;
            collector.process.check()?;
            let held = match attackers {
                Some(attackers) => attackers.end().await?,
                None => 0,
            };
            let taken = u64::try_from(times.len())?;
            let queued = queue::depth(&mut depth).await?;
            if queued != taken {
                wrong.push(format!("round {round}: {taken} were acknowledged, {queued} are in the queue"));
            }
            times.sort_unstable();
            let at = |share: usize| {
                let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
                times.get(index).copied().unwrap_or_default()
            };
            let row = Row::default()
                .with("round", round)
                .with("attackers", if hostile { args.idle + args.slow } else { 0 })
                .with("connected_at_the_end", held)
                .rate("requests/s", taken, took)
                .with("refused", refused)
                .millis("p50_ms", at(50))
                .millis("p99_ms", at(99))
                .millis("max_ms", at(100))
                .seconds("CPU_collector", cpu);
            if hostile { &mut with } else { &mut without }.push(at(99));
            rows.push(row);
            note(&format!("round {round}, attackers: {hostile}: done"));
        }
    }
    machine.look_again(place)?;
    let (without, with) = (median(without), median(with));
    let ratio = per(u64::try_from(with.as_micros())?, without.as_secs_f64() * 1e6);
    Ok(Report {
        title: format!(
            "hostile clients: p99 of good ones {:.2} ms without, {:.2} ms with them (medians): {ratio:.2} times",
            without.as_secs_f64() * 1e3,
            with.as_secs_f64() * 1e3
        ),
        machine,
        rows,
        notes: vec![
            format!(
                "{} good clients, each {} batches of {} events per second on a connection of its own",
                args.clients, args.rate, args.events
            ),
            format!(
                "{} connections that send nothing and {} that send a letter of a header each second, from a process of \
                 their own; who is cut off comes again",
                args.idle, args.slow
            ),
        ],
        wrong,
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn load(args: &HostileArgs, to: SocketAddr, body: &Bytes) -> anyhow::Result<(Vec<Duration>, u64)> {
    let mut clients = JoinSet::new();
    for _ in 0..args.clients {
        clients.spawn(client(to, body.clone(), args.events, args.rate, args.duration));
    }
    let (mut times, mut refused) = (Vec::new(), 0);
    while let Some(done) = clients.join_next().await {
        let (its_times, its_refused) = done??;
        times.extend(its_times);
        refused += its_refused;
    }
    Ok((times, refused))
}

/// Sends at a steady rate. A request's time begins when it was due, so that a stall counts for all that it holds up.
async fn client(
    to: SocketAddr,
    body: Bytes,
    events: u64,
    rate: u64,
    duration: Duration,
) -> anyhow::Result<(Vec<Duration>, u64)> {
    let mut connection = Connection::open(to).await?;
    let producer = Uuid::new_v4();
    let mut due = interval(Duration::from_secs(1) / u32::try_from(rate)?);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut times, mut refused, mut seq) = (Vec::new(), 0, 1);
    let end = Instant::now() + duration;
    loop {
        let at = due.tick().await;
        if Instant::now() >= end {
            return Ok((times, refused));
        }
        let status = connection.post("bench", &format!("{producer}/{seq}"), body.clone()).await?;
        seq += events;
        if status == StatusCode::ACCEPTED {
            times.push(at.elapsed());
        } else {
            refused += 1;
        }
    }
}
