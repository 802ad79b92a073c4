//! Several collectors, and a proxy between.

use crate::collector::Collector;
use crate::process::{Place, ended, messages, until};
use logweir_proto::answer::{Problem, ProblemCode};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

#[tokio::test]
async fn the_next_collector_takes_over_under_the_same_numbers() {
    let (place, first, second) = (Place::new(), Collector::start().await, Collector::start().await);
    let file = place.lines("app.log", &messages(0..200));
    let both = format!("{},{}", first.url(), second.url());
    let agent = place.start(&both, &["--admin", "127.0.0.1:0", "--batch-events", "10", &file]);
    until("the first one takes batches", || first.taken.messages().len() == 200).await;
    assert!(second.taken.messages().is_empty());
    first.taken.refuse(Some(Problem::new(ProblemCode::Draining, "going")));
    place.append("app.log", &messages(200..400));
    until("the second one takes over", || second.taken.messages().len() == 200).await;
    first.taken.refuse(None);
    let mut next = 400;
    until("the first one is asked again", || {
        place.append("app.log", &messages(next..next + 1));
        next += 1;
        first.taken.messages().len() > 200
    })
    .await;
    drop(agent);
    // What both have is under one number with one content, as each collector's own check of that shows; none is twice.
    let mut all = first.taken.messages();
    all.extend(second.taken.messages());
    let taken = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), taken);
}

#[tokio::test]
async fn a_collector_that_dies_in_the_middle_costs_and_doubles_nothing() {
    let (place, second) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..400));
    // It reads the request and closes without a word: nobody knows what became of it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dying = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let line = BufReader::new(socket.unwrap()).lines().next();
            assert!(line.is_some());
        }
    });
    let both = format!("{dying},{}", second.url());
    let ended = place.run(&both, &["--once", "--batch-events", "10", &file]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(second.taken.messages(), messages(0..400));
    assert!(ended.log.contains("asking the next one"), "{}", ended.log);
}

#[tokio::test]
async fn the_environments_proxy_is_used_for_https_and_not_for_http() {
    let (place, collector) = (Place::new(), Collector::start().await);
    let file = place.lines("app.log", &messages(0..3));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let (say, said) = mpsc::sync_channel(8);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let line = BufReader::new(socket.try_clone().unwrap()).lines().next().unwrap().unwrap();
            socket.write_all(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n").unwrap();
            if say.send(line).is_err() {
                return;
            }
        }
    });
    let environment = [("HTTPS_PROXY", proxy.as_str()), ("HTTP_PROXY", &proxy)];
    let child = place.start_with(&collector.url(), &["--once", &file], &environment);
    let ended = ended(child).await;
    assert_eq!((ended.code, collector.taken.messages().len()), (Some(0), 3), "{}", ended.log);
    assert!(said.try_recv().is_err(), "http:// goes straight");
    place.lines("more.log", &messages(0..3));
    let more = place.path("more.log").to_str().unwrap().to_owned();
    let agent = place.start_with("https://collector.invalid:1", &["--once", &more], &environment);
    let mut line = None;
    until("the proxy is asked", || {
        line = said.try_recv().ok();
        line.is_some()
    })
    .await;
    assert_eq!(line.as_deref(), Some("CONNECT collector.invalid:1 HTTP/1.1"));
    drop(agent);
}
