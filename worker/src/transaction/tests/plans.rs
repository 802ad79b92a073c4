//! How Postgres carries out each statement, on tables so large that it matters.

use super::*;
use crate::housekeeping::{FORGET, LOOK, LOSSES};
use std::collections::BTreeSet;

/// Ten days with 6,000 cells each, 50,000 producers, as many losses.
const FILL: &str = "
    SELECT logweir_make_partition((now() AT TIME ZONE 'UTC')::date - n) FROM generate_series(-1, 9) AS n;
    INSERT INTO log_counts
    SELECT date_trunc('day', now(), 'UTC') - interval '9 days' + n * interval '1 minute', service, level, 1, 100
    FROM generate_series(0, 14399) AS n, unnest('{a,b}'::text[]) AS service, unnest('{info,error}'::text[]) AS level;
    INSERT INTO batch_ledger (producer, applied) SELECT gen_random_uuid(), '{[1,100)}' FROM generate_series(1, 50000);
    INSERT INTO losses (reason, events) SELECT 'too_old', 1 FROM generate_series(1, 50000)";

struct Plan(String);

impl Plan {
    fn has(&self, part: &str) -> &Self {
        assert!(self.0.contains(part), "{part} is missing:\n{}", self.0);
        self
    }

    fn never(&self, part: &str) -> &Self {
        assert!(!self.0.contains(part), "{part}:\n{}", self.0);
        self
    }

    /// The partitions that were read.
    fn partitions(&self) -> BTreeSet<String> {
        let read = self.0.lines().filter(|line| line.contains(" on log_counts_") && !line.contains("never"));
        let name = |line: &str| line.split(" on ").nth(1)?.split(' ').next().map(str::to_owned);
        read.filter_map(name).collect()
    }
}

async fn explain(client: &Client, options: &str, sql: &str) -> Plan {
    let rows = client.simple_query(&format!("EXPLAIN ({options}) {sql}")).await.unwrap();
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(|line| format!("{line}\n")),
        _ => None,
    };
    Plan(rows.iter().filter_map(line).collect())
}

/// Of a prepared statement with values of the size that a group brings; Postgres plans some executions for the values, and
/// later ones for any.
async fn both(client: &Client, sql: &str, values: &str) -> [Plan; 2] {
    client.batch_execute(&format!("DEALLOCATE ALL; PREPARE s AS {sql}")).await.unwrap();
    let plan = async |mode: &str| {
        client.batch_execute(&format!("SET plan_cache_mode = {mode}")).await.unwrap();
        explain(client, "COSTS OFF", &format!("EXECUTE s ({values})")).await
    };
    [plan("force_custom_plan").await, plan("force_generic_plan").await]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_finds_its_rows_by_the_key() {
    let (server, database) = database().await;
    migrate(&database).await.unwrap();
    server.run(FILL).await;
    server.run("ANALYZE").await;
    let client = database.connect().await.unwrap();
    let sample = |sql: &str| format!("ARRAY(SELECT {sql} FROM batch_ledger ORDER BY producer LIMIT 64)");
    // Literals, as the planner sees the worker's values too.
    let literal = async |sql: String| server.row(&format!("SELECT quote_literal({sql})")).await;
    let producers = literal(sample("producer")).await;
    let ranges = literal(sample("applied::text")).await;
    let newest = literal(sample("extract(epoch FROM now())::bigint")).await;
    let cells = "SELECT (extract(epoch FROM now())::bigint / 60 - n) * 60 FROM generate_series(1, 500) AS n";
    let minutes = literal(format!("ARRAY({cells})")).await;
    let repeat = async |value: &str| literal(format!("array_fill({value}, ARRAY[500])")).await;
    let (texts, numbers) = (repeat("'a'::text").await, repeat("1::bigint").await);

    for plan in both(&client, MAKE_ROWS, &producers).await {
        plan.has("Conflict Resolution: NOTHING").never("Seq Scan");
    }
    for plan in both(&client, LOCK_ROWS, &producers).await {
        plan.has("LockRows").has(" batch_ledger_pkey").never("Seq Scan");
    }
    for plan in both(&client, APPLY, &format!("{producers}, {ranges}, {newest}")).await {
        plan.has("Index Scan using batch_ledger_pkey").never("Seq Scan");
    }
    for plan in both(&client, COUNT, &format!("{minutes}, {texts}, {texts}, {numbers}, {numbers}")).await {
        plan.has("Conflict Arbiter Indexes: log_counts_pkey").has("Sort").never("Seq Scan");
    }
    let uuids =
        literal("array_fill('00000000-0000-0000-0000-000000000001'::uuid, ARRAY[500])".to_owned()).await;
    for plan in both(&client, LOSE, &format!("{uuids}, {texts}, {minutes}, {numbers}, {numbers}")).await {
        plan.never("Seq Scan");
    }
    for plan in both(&client, LOOK, "'80000000-0000-0000-0000-000000000000', 86400, 1000").await {
        plan.has("Index Scan using batch_ledger_pkey").never("Seq Scan").never("Sort");
    }
    for plan in both(&client, FORGET, &format!("{producers}, 86400")).await {
        plan.has("LockRows").has(" batch_ledger_pkey").never("Seq Scan");
    }
    for plan in both(&client, LOSSES, "86400, 1000").await {
        plan.has("using losses_pkey").never("Seq Scan").never("Sort");
    }
}

/// With a lower bound on the bucket, only the days since then are read; in the hours' and days' views, the first and the last
/// day too, by one look into an index.
#[tokio::test(flavor = "multi_thread")]
async fn a_lower_bound_reads_its_days_only() {
    let (server, database) = database().await;
    migrate(&database).await.unwrap();
    server.run(FILL).await;
    server.run("ANALYZE").await;
    let client = database.connect().await.unwrap();
    let name = async |days_ago: i32| {
        let day = format!("now() AT TIME ZONE 'UTC' - interval '{days_ago} days'");
        server.row(&format!("SELECT 'log_counts_' || to_char({day}, 'YYYYMMDD')")).await
    };
    let (tomorrow, first) = (name(-1).await, name(9).await);
    let wanted = BTreeSet::from([name(1).await, name(0).await]);
    let since = "date_trunc('day', now(), 'UTC') - interval '24 hours'";
    for from in ["log_counts", "error_rate_per_minute", "counts_per_hour", "counts_per_day"] {
        let sql = format!("SELECT * FROM {from} WHERE bucket >= {since}");
        let plan = explain(&client, "ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF", &sql).await;
        let mut read = plan.partitions();
        assert!(read.is_superset(&wanted), "{from}: {}", plan.0);
        read.remove(&tomorrow);
        if from.starts_with("counts_per") {
            read.remove(&first);
        }
        assert_eq!(read, wanted, "{from}: {}", plan.0);
    }
    // The views add up to the same.
    for (view, unit) in [("counts_per_hour", "hour"), ("counts_per_day", "day")] {
        let group = format!("date_trunc('{unit}', bucket, 'UTC'), service, level");
        let plain = format!(
            "SELECT {group}, sum(count)::bigint, sum(bytes)::bigint FROM log_counts GROUP BY {group}"
        );
        let differ = format!("(TABLE {view} EXCEPT {plain}) UNION ALL ({plain} EXCEPT TABLE {view})");
        assert_eq!(server.row(&format!("SELECT count(*) FROM ({differ}) AS d")).await, "0", "{view}");
        let sums = server.row(&format!("SELECT sum(count), sum(bytes) FROM {view}")).await;
        assert_eq!(sums, "57600 5760000", "{view}");
    }
}
