//! The queries of the documents, run as they stand there.

use crate::common::postgres::Postgres;
use std::collections::BTreeMap;
use std::path::Path;
use tokio_postgres::SimpleQueryMessage;

/// One with an error rate of a tenth, now and at half the amount yesterday; one that is always there; one that is silent for two
/// hours; one that has just come.
const DATA: &str = "
    SELECT logweir_make_partition((now() AT TIME ZONE 'UTC')::date - n) FROM generate_series(-1, 9) AS n;
    CREATE TEMP VIEW this (minute) AS SELECT date_trunc('minute', now());
    INSERT INTO log_counts
    SELECT minute - n * interval '1 minute', service, level, count, count * 100
    FROM this, generate_series(0, 180) AS n,
      (VALUES ('checkout', 'info', 90), ('checkout', 'error', 10), ('payments', 'info', 10)) AS c (service, level, count);
    INSERT INTO log_counts
    SELECT minute - n * interval '1 minute', 'checkout', level, count, count * 100
    FROM this, generate_series(1430, 1510) AS n, (VALUES ('info', 45), ('fatal', 5)) AS c (level, count);
    INSERT INTO log_counts SELECT minute - n * interval '24 hours', 'payments', 'info', 1, 100 FROM this, generate_series(4, 7) AS n;
    INSERT INTO log_counts SELECT minute - n * interval '1 hour', 'quiet', 'info', 1, 100 FROM this, unnest('{2,72}'::int[]) AS n;
    INSERT INTO log_counts SELECT minute, 'newcomer', 'info', 1, 100 FROM this;
    INSERT INTO batch_ledger VALUES ('00000000-0000-0000-0000-000000000001', '{[1,4),[5,8),[10,12)}'),
      ('00000000-0000-0000-0000-000000000002', '{[1,9)}'), ('00000000-0000-0000-0000-000000000003', '{}');
    INSERT INTO losses (producer, agent, bucket, reason, events, bytes)
    SELECT gen_random_uuid(), 'web-1', now(), 'too_old', n, 100 FROM generate_series(1, 2) AS n";

struct Expected {
    columns: &'static str,
    /// The beginning of a row, or any part of it.
    row: &'static str,
    /// In no row.
    never: &'static str,
}

/// By the heading that a block stands under; those of one heading in their order. Statements without an answer have no columns.
fn expected() -> BTreeMap<&'static str, Vec<Expected>> {
    let minutes = || Expected {
        columns: "bucket service total errors error_rate",
        row: " checkout 100 10 0.1",
        never: "NULL",
    };
    let one = |columns, row, never| vec![Expected { columns, row, never }];
    BTreeMap::from([
        ("Asking", vec![minutes()]),
        ("Error rate for each service and minute", vec![minutes()]),
        (
            "Error rate for each service, over an hour",
            one("service total errors error_rate", " 0.1000", "NULL"),
        ),
        ("The services with the most errors today", one("service errors", "checkout ", "payments")),
        ("The services that log the most", one("service events size", "checkout ", "NULL")),
        ("Each day of the last week", one("day events errors", " 1 0", "NULL")),
        ("Services that went silent", one("service last_seen", "quiet ", "checkout")),
        ("New services", one("service first_seen", "newcomer ", "quiet")),
        ("Compared with yesterday", one("service now yesterday", "checkout 6000 3000", "NULL")),
        (
            "What is missing: losses",
            one("reason agent events bytes first_minute last_minute", "too_old web-1 3 200 ", "NULL"),
        ),
        (
            "What is missing: gaps",
            one(
                "producer gaps events first_number last_used",
                "00000000-0000-0000-0000-000000000001 2 3 4 ",
                "0002",
            ),
        ),
        (
            "Who may do what",
            vec![
                Expected { columns: "", row: "", never: "" },
                Expected { columns: "logweir_grant", row: "", never: "NULL" },
            ],
        ),
    ])
}

/// The SQL of a document, with the headings that it stands under.
fn blocks(text: &str) -> Vec<(String, String)> {
    let (mut blocks, mut heading, mut block): (Vec<_>, _, Option<String>) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        match &mut block {
            Some(sql) if line.trim() == "```" => {
                blocks.extend(block.take().map(|sql| (heading.clone(), sql)))
            }
            Some(sql) => *sql += &format!("{line}\n"),
            None if line.trim() == "```sql" => block = Some(String::new()),
            None if line.starts_with('#') => heading = line.trim_start_matches(['#', ' ']).to_owned(),
            None => {}
        }
    }
    assert!(block.is_none(), "a block has no end: {heading}");
    blocks
}

struct Answer {
    columns: String,
    rows: Vec<String>,
}

async fn ask(postgres: &Postgres, role: &str, sql: &str) -> Result<Answer, String> {
    let client = postgres.connect().await;
    client.batch_execute(&format!("SET TIME ZONE 'UTC'; SET ROLE {role}")).await.unwrap();
    let messages = client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    })?;
    let mut answer = Answer { columns: String::new(), rows: Vec::new() };
    for message in &messages {
        if let SimpleQueryMessage::Row(row) = message {
            answer.columns = row.columns().iter().map(|c| c.name()).collect::<Vec<_>>().join(" ");
            answer
                .rows
                .push((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join(" "));
        }
    }
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_query_of_the_documents_answers() {
    let postgres = Postgres::start().await;
    let migrate = std::process::Command::new(env!("CARGO_BIN_EXE_logweir-worker"))
        .args(["migrate", "--postgres", &postgres.url()])
        .output()
        .unwrap();
    assert!(migrate.status.success());
    postgres.run(DATA).await;
    let mut expected = expected();
    for document in ["README.md", "docs/schema.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
        for (heading, sql) in blocks(&std::fs::read_to_string(path).unwrap()) {
            let Some(Expected { columns, row, never }) =
                expected.get_mut(heading.as_str()).filter(|some| !some.is_empty()).map(|some| some.remove(0))
            else {
                panic!("{document}: nothing is expected of the SQL under {heading:?}");
            };
            // What a dashboard may not see, an operator does.
            let operator = sql.contains("batch_ledger") || heading == "Who may do what";
            let role = if operator { "postgres" } else { "logweir_reader" };
            let answer = ask(&postgres, role, &sql).await;
            let Answer { columns: given, rows } =
                answer.unwrap_or_else(|error| panic!("{document}, {heading}: {error}\n{sql}"));
            assert_eq!(given, columns, "{document}, {heading}");
            if columns.is_empty() {
                continue;
            }
            assert!(rows.iter().any(|one| one.contains(row)), "{document}, {heading}: {row:?} in {rows:#?}");
            assert!(
                never.is_empty() || !rows.iter().any(|one| one.contains(never)),
                "{document}, {heading}: {never:?} in {rows:#?}"
            );
        }
    }
    let unseen: Vec<_> =
        expected.iter().filter(|(_, left)| !left.is_empty()).map(|(heading, _)| heading).collect();
    assert!(unseen.is_empty(), "not found in the documents: {unseen:?}");
    let granted = "SELECT pg_has_role('grafana', 'logweir_reader', 'USAGE'), pg_has_role('counter', 'logweir_worker', 'USAGE')";
    assert_eq!(postgres.row(granted).await, "t t");
    // This would notice.
    assert!(ask(&postgres, "logweir_reader", "SELECT nothing FROM log_counts").await.is_err());
}

#[test]
fn blocks_are_found_with_their_headings() {
    let text = "# A\n```\nno\n```\n## B c\n```sql\nSELECT 1\n  FROM x;\n```\ntext\n```sql\nSELECT 2\n```\n";
    let found = blocks(text);
    assert_eq!(
        found,
        [("B c".to_owned(), "SELECT 1\n  FROM x;\n".to_owned()), ("B c".to_owned(), "SELECT 2\n".to_owned())]
    );
}
