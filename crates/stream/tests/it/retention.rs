//! State that conditions between times let go: right all the same, and small.

use crate::law::{Input, input, pipeline};
use crate::operators::timed_law;
use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, new_null_array};
use arrow::datatypes::DataType;
use rivermere_base::Changes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[test]
fn interval_joins_of_every_kind() {
    for join in ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"] {
        timed_law(&format!(
            "CREATE MATERIALIZED VIEW a AS SELECT t.k, t.v, u.w, t.ts FROM t {join} u ON t.k = u.k
             AND u.ts BETWEEN t.ts - INTERVAL '3' SECOND AND t.ts + INTERVAL '1' SECOND"
        ));
    }
    for join in ["LEFT SEMI JOIN", "LEFT ANTI JOIN"] {
        timed_law(&format!(
            "CREATE MATERIALIZED VIEW a AS SELECT t.k, t.v, t.ts FROM t {join} u ON t.k = u.k
             AND u.ts >= t.ts AND u.ts < t.ts + INTERVAL '2' SECOND AND u.w <> t.v"
        ));
    }
}

#[test]
fn a_condition_that_lets_one_side_go() {
    timed_law(
        "CREATE MATERIALIZED VIEW a AS SELECT t.k, t.v, u.w FROM t JOIN u ON t.k = u.k AND u.ts >= t.ts;
         CREATE MATERIALIZED VIEW b AS SELECT t.k, t.v, u.w FROM t LEFT JOIN u ON t.k = u.k AND u.ts < t.ts",
    );
}

#[test]
fn an_interval_join_without_a_key() {
    timed_law(
        "CREATE MATERIALIZED VIEW a AS SELECT t.v, u.w FROM t JOIN u
         ON u.ts BETWEEN t.ts AND t.ts + INTERVAL '1' SECOND",
    );
}

#[test]
fn the_highest_bid_while_an_auction_is_open() {
    timed_law(
        "CREATE MATERIALIZED VIEW a AS SELECT g, AVG(CAST(final AS DOUBLE)) AS price FROM
         (SELECT t.v, t.g, MAX(u.w) AS final FROM t JOIN u ON t.k = u.k AND u.ts BETWEEN t.ts AND t.ts + INTERVAL '4' SECOND
          GROUP BY t.v, t.g) m GROUP BY g",
    );
}

#[test]
fn an_interval_join_below_others() {
    timed_law(
        "CREATE MATERIALIZED VIEW pairs AS SELECT t.k, t.v, u.w FROM t JOIN u ON t.k = u.k
         AND u.ts BETWEEN t.ts - INTERVAL '1' SECOND AND t.ts + INTERVAL '1' SECOND;
         CREATE MATERIALIZED VIEW again AS SELECT p.k, p.v, f.label FROM pairs p LEFT JOIN f ON p.k = f.k;
         CREATE MATERIALIZED VIEW best AS SELECT k, MAX(w) AS w FROM pairs GROUP BY k",
    );
}

/// One row for each table in every second; the watermarks follow two seconds behind.
fn entries_after(seconds: i64, sql: &str) -> usize {
    let mut pipeline = pipeline(sql, Input::Timed);
    let views: BTreeSet<String> = pipeline.views.iter().map(|view| view.name.clone()).collect();
    for second in 0..seconds {
        let mut inputs = BTreeMap::new();
        for (table, schema) in &pipeline.schemas {
            if pipeline.dataflow.relation_schema(table).is_none() || table == "f" {
                continue;
            }
            let columns = schema.fields().iter().map(|field| match field.data_type() {
                DataType::Int32 => Arc::new(Int32Array::from(vec![(second % 7) as i32])) as _,
                DataType::Int64 => Arc::new(Int64Array::from(vec![second])) as _,
                DataType::Utf8 => Arc::new(StringArray::from(vec!["a"])) as _,
                DataType::Timestamp(_, _) => Arc::new(TimestampMillisecondArray::from(vec![second * 1_000])) as _,
                other => new_null_array(other, 1),
            });
            let batch = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
            inputs.insert(table.clone(), vec![input(&pipeline.dataflow, table, &Changes::inserts(batch))]);
        }
        let watermarks = ["t", "u"].map(|table| (table.to_string(), (second - 2) * 1_000_000)).into();
        if second == 0 {
            pipeline.dataflow.bootstrap(inputs, &watermarks, &views, true).unwrap();
        } else {
            pipeline.dataflow.step(inputs, &watermarks).unwrap();
        }
    }
    pipeline.dataflow.state_size("a").0
}

#[test]
fn rows_that_can_match_nothing_any_more_are_gone() {
    let bounded = "CREATE MATERIALIZED VIEW a AS SELECT t.v, u.w FROM t JOIN u ON t.k = u.k
                   AND u.ts BETWEEN t.ts - INTERVAL '3' SECOND AND t.ts + INTERVAL '1' SECOND";
    let (few, many) = (entries_after(100, bounded), entries_after(1_000, bounded));
    assert_eq!(few, many, "state grows");
    assert!(many < 30, "{many} rows are kept");
    let one_side = "CREATE MATERIALIZED VIEW a AS SELECT t.v, u.w FROM t JOIN u ON t.k = u.k AND u.ts >= t.ts";
    let kept = entries_after(500, one_side);
    assert!((500..520).contains(&kept), "all rows of t and the last of u: {kept}");
    let unbounded = "CREATE MATERIALIZED VIEW a AS SELECT t.v, u.w FROM t JOIN u ON t.k = u.k AND u.w <> t.v";
    assert_eq!(entries_after(100, unbounded), 200);
}
