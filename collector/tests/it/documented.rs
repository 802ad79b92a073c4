//! The OpenAPI document and the collector agree: each answer that is documented really occurs, is as it is
//! documented, and Schemathesis finds no other.

use crate::common::http::Answer;
use crate::common::redis::Redis;
use crate::common::{BATCH, JSON, NDJSON, Running, event, events, wait_for, zstd};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const TOKEN: (&str, &str) = ("Authorization", "Bearer one");
const EVENTS: &str = "/v1/events";
const DOCUMENTS: [&str; 2] = ["/v1/openapi.json", "/v1/schema"];

/// The document, and which of its answers were seen.
struct Documented {
    document: Value,
    seen: BTreeSet<String>,
}

impl Documented {
    fn new() -> Self {
        let document = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
        Self { document, seen: BTreeSet::new() }
    }

    /// `METHOD PATH STATUS`, and where the answer is a problem, its code.
    fn all(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (path, methods) in self.document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for status in operation["responses"].as_object().unwrap().keys() {
                    let name = format!("{} {path} {status}", method.to_uppercase());
                    let answer = self.answer(method, path, status).unwrap();
                    match codes(answer) {
                        codes if codes.is_empty() => drop(all.insert(name)),
                        codes => all.extend(codes.iter().map(|code| format!("{name} {code}"))),
                    }
                }
            }
        }
        all
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(at) => self.document.pointer(at.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    fn answer(&self, method: &str, path: &str, status: &str) -> Option<&Value> {
        let answers = &self.document["paths"][path][method.to_lowercase()]["responses"];
        answers.get(status).map(|answer| self.resolve(answer))
    }

    fn validate(&self, schema: &Value, value: &Value, what: &str) {
        let whole = json!({"allOf": [schema], "components": self.document["components"]});
        let validator = jsonschema::draft202012::options().build(&whole).unwrap();
        let errors: Vec<String> = validator.iter_errors(value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {value}: {errors:?}");
    }

    /// Holds an answer against the document, and ticks it off.
    #[track_caller]
    fn tick(&mut self, method: &str, path: &str, answer: &Answer) {
        let mut name = format!("{method} {path} {}", answer.status);
        let documented = self.answer(method, path, &answer.status.to_string());
        let documented = documented.unwrap_or_else(|| panic!("{name} is not documented: {}", answer.text()));
        for (header, how) in documented["headers"].as_object().unwrap() {
            let how = self.resolve(how);
            let value = answer.header(header).unwrap_or_else(|| panic!("{name} has no {header}"));
            let value = match how["schema"]["type"].as_str() {
                Some("integer") => json!(value.parse::<u64>().unwrap()),
                _ => json!(value),
            };
            self.validate(&how["schema"], &value, header);
        }
        match documented["content"].as_object() {
            None => assert!(answer.body.is_empty(), "{name}"),
            Some(content) => {
                let (kind, how) = content.iter().next().unwrap();
                assert_eq!(answer.header("content-type"), Some(&**kind), "{name}");
                let body = answer.json();
                self.validate(&how["schema"], &body, &name);
                if !codes(documented).is_empty() {
                    name += &format!(" {}", body["type"].as_str().unwrap().rsplit(':').next().unwrap());
                }
            }
        }
        self.seen.insert(name);
    }
}

/// The codes that a documented problem may have.
fn codes(answer: &Value) -> Vec<&str> {
    let parts = answer["content"]["application/problem+json"]["schema"]["allOf"].as_array();
    let types = parts.map(|parts| parts[1]["properties"]["type"]["enum"].as_array().unwrap());
    types.into_iter().flatten().map(|kind| kind.as_str().unwrap().rsplit(':').next().unwrap()).collect()
}

fn tokens(dir: &Path) -> String {
    let file = dir.join("tokens");
    let hash: String = Sha256::digest("one").iter().map(|b| format!("{b:02x}")).collect();
    std::fs::write(&file, format!("api-1 sha256:{hash}\n")).unwrap();
    format!("--tokens={}", file.display())
}

async fn send(collector: &Running, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut client = collector.client().await;
    client.request(line, headers, (!body.is_empty()).then_some(body.len())).await;
    client.send(body).await;
    if line.starts_with("HEAD ") { client.answer_to_head().await } else { client.answer().await }
}

/// Request line, headers, body.
type Case<'a> = (String, Vec<(&'a str, &'a str)>, Vec<u8>);

/// What is answered to a POST by its own fault, and by its success.
async fn posts(documented: &mut Documented, collector: &Running) {
    let good = events(2);
    let (long, name) = ("x".repeat(17 << 10), format!("{BATCH}/1"));
    let of = |query: &str| format!("POST {EVENTS}{query}");
    let typed = [TOKEN, NDJSON];
    let cases: Vec<Case<'_>> = vec![
        (of(""), typed.to_vec(), good.clone().into()),
        (of(""), vec![TOKEN, NDJSON, ("Logweir-Batch", &name)], format!("{good}17\n").into()),
        (of(""), vec![TOKEN, JSON, ("Idempotency-Key", "k")], event("a").into()),
        (of("?dry_run=1"), typed.to_vec(), format!("{good}17\n").into()),
        (of("?dry_run=1"), vec![TOKEN, NDJSON, ("Logweir-Batch", &name)], good.clone().into()),
        (of("?x"), typed.to_vec(), good.clone().into()),
        (of(""), vec![NDJSON], good.clone().into()),
        (of(""), vec![TOKEN, NDJSON, ("Logweir-Agent", "web-1")], good.clone().into()),
        (of(""), vec![TOKEN, NDJSON, ("Content-Encoding", "zstd")], zstd(&vec![b'\n'; 9 << 20])),
        (of(""), vec![TOKEN], good.clone().into()),
        (of(""), typed.to_vec(), b"17\n{}\n".to_vec()),
        (of(""), vec![TOKEN, NDJSON, ("X-Long", &long)], good.clone().into()),
        // The quota is 100 events at once.
        (of(""), typed.to_vec(), events(200).into()),
        (of(""), typed.to_vec(), events(200).into()),
    ];
    for (line, headers, body) in cases {
        documented.tick("POST", EVENTS, &send(collector, &line, &headers, &body).await);
    }
    let mut slow = collector.client().await;
    slow.request(&of(""), &typed, Some(1_000)).await;
    documented.tick("POST", EVENTS, &slow.answer().await);
}

async fn reads(documented: &mut Documented, collector: &Running) {
    let long = "x".repeat(17 << 10);
    for path in [&DOCUMENTS[..], &["/v1/limits"]].concat() {
        for method in ["GET", "HEAD"] {
            let mut answers = Vec::new();
            for (query, headers) in [
                ("", vec![TOKEN]),
                ("?x=1", vec![TOKEN]),
                ("", vec![]),
                ("", vec![TOKEN, ("Logweir-Agent", "web-1")]),
                ("", vec![TOKEN, ("X-Long", &long)]),
            ] {
                answers.push(send(collector, &format!("{method} {path}{query}"), &headers, b"").await);
            }
            if let Some(tag) = answers[0].header("etag") {
                let known = [TOKEN, ("If-None-Match", tag)];
                answers.push(send(collector, &format!("{method} {path}"), &known, b"").await);
            }
            for answer in &answers {
                documented.tick(method, path, answer);
            }
        }
    }
}

/// What is answered when the collector or its queue can't take a batch just now.
async fn unavailable(documented: &mut Documented, dir: &Path) {
    let mut redis = Redis::start();
    let tokens = tokens(dir);
    let post = async |collector: &Running| {
        send(collector, &format!("POST {EVENTS}"), &[TOKEN, NDJSON], events(1).as_bytes()).await
    };
    let busy =
        Running::start(&redis, &[&tokens, "--max-in-flight=1", "--quota-status=503", "--hold=0s"]).await;
    let mut hanging = busy.client().await;
    hanging.request(&format!("POST {EVENTS}"), &[TOKEN, NDJSON], Some(10)).await;
    let overloaded = wait_for("the only place to be taken", async || {
        Some(post(&busy).await).filter(|answer| answer.status == 503)
    })
    .await;
    documented.tick("POST", EVENTS, &overloaded);
    drop(hanging);
    wait_for("the place to be free", async || (post(&busy).await.status == 202).then_some(())).await;
    busy.stop().await;

    let strict =
        Running::start(&redis, &[&tokens, "--rate=1", "--burst=1", "--quota-status=503", "--hold=0s"]).await;
    let limited = wait_for("the quota to be spent", async || {
        Some(post(&strict).await).filter(|answer| answer.status == 503)
    })
    .await;
    documented.tick("POST", EVENTS, &limited);
    strict.stop().await;

    let full = Running::start(&redis, &[&tokens, "--max-queue-entries=1", "--hold=0s"]).await;
    documented.tick("POST", EVENTS, &post(&full).await);
    full.begin_stop();
    let draining = wait_for("draining", async || {
        Some(post(&full).await).filter(|answer| answer.text().contains(":draining"))
    });
    documented.tick("POST", EVENTS, &draining.await);
    full.stop().await;

    let lonely = Running::start(&redis, &[&tokens]).await;
    redis.kill();
    documented.tick("POST", EVENTS, &post(&lonely).await);
    lonely.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_documented_answer_occurs_as_it_is_documented() {
    let mut documented = Documented::new();
    let (redis, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    let flags = [&*tokens(dir.path()), "--rate=1", "--burst=200", "--hold=0s", "--body-timeout=300ms"];
    let collector = Running::start(&redis, &flags).await;
    posts(&mut documented, &collector).await;
    reads(&mut documented, &collector).await;
    collector.stop().await;
    unavailable(&mut documented, dir.path()).await;
    let all = documented.all();
    let missing: Vec<_> = all.difference(&documented.seen).collect();
    assert!(missing.is_empty(), "documented, but not seen: {missing:#?}");
    assert_eq!(all, documented.seen);
}

#[test]
fn the_document_holds_the_published_schema_and_every_code() {
    let Documented { document, .. } = Documented::new();
    let mut schema: Value = serde_json::from_str(logweir_proto::EVENT_SCHEMA).unwrap();
    let members = schema.as_object_mut().unwrap();
    assert!(members.remove("$schema").is_some() && members.remove("$id").is_some());
    assert_eq!(document["components"]["schemas"]["Event"], schema, "copy event.v1.schema.json here");
    let known: Vec<&str> = logweir_proto::Code::ALL.iter().map(|code| code.as_str()).collect();
    let reasons = &document["components"]["schemas"]["Rejected"]["properties"]["code"]["enum"];
    assert_eq!(reasons, &json!(known));
    // Each problem is some documented answer's, or told in the introduction.
    let text = document.to_string();
    let introduction = document["info"]["description"].as_str().unwrap();
    for code in logweir_proto::answer::ProblemCode::ALL {
        let named = format!("urn:logweir:problem:{}", code.as_str());
        assert!(text.contains(&named) || introduction.contains(&format!("`{}`", code.as_str())), "{named}");
    }
}

/// A tool of the environment that ./test makes.
pub(crate) fn python(tool: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/python/bin").join(tool);
    assert!(path.is_file(), "{} is missing: run ./test, which installs it", path.display());
    path
}

/// Schemathesis makes requests from the document, right and wrong ones, and holds the answers against it. It is
/// repeated exactly by its seed; `LOGWEIR_OPENAPI_SEED` tries another.
#[tokio::test(flavor = "multi_thread")]
async fn a_fuzzer_finds_no_answer_that_is_not_documented() {
    let (redis, dir) = (Redis::start(), tempfile::tempdir().unwrap());
    let flags = [&*tokens(dir.path()), "--rate=1000000", "--max-queue-entries=100000"];
    let collector = Running::start(&redis, &flags).await;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let answers = dir.path().join("answers.json");
    let mut fuzzer = Command::new(python("schemathesis"));
    fuzzer
        .arg("--config-file")
        .arg(here.join("tests/openapi/schemathesis.toml"))
        .arg("run")
        .arg(here.join("openapi.json"))
        .args(["--url", &format!("http://{}", collector.public), "--header", "Authorization: Bearer one"])
        .args(["--checks", "all", "--continue-on-failure", "--no-color", "--seed"])
        .arg(std::env::var("LOGWEIR_OPENAPI_SEED").unwrap_or_else(|_| "1".to_owned()))
        .current_dir(dir.path())
        .env("SCHEMATHESIS_HOOKS", here.join("tests/openapi/hooks.py"))
        .env("LOGWEIR_ANSWERS", &answers)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || fuzzer.output().unwrap()).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    // It did try something, of the good and of the bad.
    let answers: BTreeMap<String, u64> = serde_json::from_slice(&std::fs::read(answers).unwrap()).unwrap();
    for (answer, least) in [
        ("POST /v1/events 202", 50),
        ("POST /v1/events 200", 5),
        ("POST /v1/events 400", 50),
        ("POST /v1/events 415", 5),
        ("POST /v1/events 422", 1),
        ("PUT /v1/events 405", 1),
        ("GET /v1/schema 200", 5),
    ] {
        let seen = answers.get(answer).copied().unwrap_or(0);
        assert!(seen >= least, "{answer}: {seen} times, at least {least} expected; {answers:?}");
    }
    collector.stop().await;
}
