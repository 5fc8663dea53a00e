//! Nexmark step by step, as another engine answers it: rows in, and exactly these changes of the view out.
//! `RIVERMERE_ACCEPTANCE` names the folder of the data.

use crate::law::{Input, input, pipeline};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rivermere_base::Changes;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

const TABLES: &str = "
CREATE TABLE person (id BIGINT, name TEXT, email TEXT, credit_card TEXT, city TEXT, state TEXT, date_time TIMESTAMP(3), extra TEXT);
CREATE TABLE auction (id BIGINT, item TEXT, description TEXT, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP(3),
  expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra TEXT);
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, date_time TIMESTAMP(3), extra TEXT);
CREATE TABLE side_input (date_time TIMESTAMP(3), key BIGINT, value BIGINT);";

const RANKS: &str = "COUNT(*) AS total_bids,
  COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids,
  COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
  COUNT(*) FILTER (WHERE price >= 1000000) AS rank3_bids";

/// The highest valid bid of each auction, the first of equals.
const WINNING: &str = "(SELECT a.id, a.seller, a.category, b.price, b.date_time,
  ROW_NUMBER() OVER (PARTITION BY a.id, a.seller, a.category ORDER BY b.price DESC, b.date_time) AS n
  FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires) w WHERE n = 1";

/// The query of each entry, with its columns in the order of its changes.
fn query(name: &str) -> String {
    match name {
        "q0" => "SELECT auction, bidder, price, date_time, extra FROM bid".into(),
        "q1" => "SELECT auction, bidder, price * 0.908 AS price, date_time, extra FROM bid".into(),
        "q2" => "SELECT auction, price FROM bid WHERE auction % 123 = 0".into(),
        "q3" => "SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
                 WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')"
            .into(),
        "q4" => format!("SELECT category, trunc(AVG(price)) AS final FROM {WINNING} GROUP BY category"),
        "q5" => {
            let counts = "(SELECT auction, window_start, COUNT(*) AS num
              FROM TABLE(HOP(TABLE bid, DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
              GROUP BY auction, window_start)";
            format!(
                "SELECT n.auction, n.num FROM {counts} n
                 JOIN (SELECT window_start, MAX(num) AS most FROM {counts} c GROUP BY window_start) m
                 ON n.window_start = m.window_start AND n.num = m.most"
            )
        }
        "q6" => format!(
            "SELECT seller, trunc(AVG(price) OVER
               (PARTITION BY seller ORDER BY date_time ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)) AS avg FROM {WINNING}"
        ),
        "q7" => "SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
                 FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) b
                 JOIN (SELECT MAX(price) AS highest, window_start
                   FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) GROUP BY window_start) m
                 ON b.window_start = m.window_start AND b.price = m.highest"
            .into(),
        "q8" => "SELECT p.id, p.name, p.window_start AS starttime
                 FROM (SELECT DISTINCT id, name, window_start FROM TUMBLE(person, date_time, INTERVAL '10' SECOND)) p
                 JOIN (SELECT DISTINCT seller, window_start FROM TUMBLE(auction, date_time, INTERVAL '10' SECOND)) a
                 ON p.id = a.seller AND p.window_start = a.window_start"
            .into(),
        "q10" => "SELECT auction, bidder, price, date_time, extra, to_char(date_time, '%Y-%m-%d') AS date,
                  to_char(date_time, '%H:%M') AS time FROM bid"
            .into(),
        "q12" => "SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
                  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
                  GROUP BY bidder, window_start, window_end"
            .into(),
        "q13" => "SELECT auction, bidder, price, date_time, value FROM
                  (SELECT b.auction, b.bidder, b.price, b.date_time, CAST(s.value AS TEXT) AS value, ROW_NUMBER() OVER
                     (PARTITION BY b.auction, b.bidder, b.price, b.date_time ORDER BY s.date_time DESC) AS n
                   FROM bid b JOIN side_input s ON s.key = b.auction % 10000 AND s.date_time <= b.date_time) latest
                  WHERE n = 1"
            .into(),
        "q15" => {
            let distinct = |column: &str| {
                let (all, of) = (format!("COUNT(DISTINCT {column})"), |condition| format!("FILTER (WHERE {condition})"));
                format!(
                    "{all} AS t_{column}, {all} {} AS a_{column}, {all} {} AS b_{column}, {all} {} AS c_{column}",
                    of("price < 10000"),
                    of("price >= 10000 AND price < 1000000"),
                    of("price >= 1000000")
                )
            };
            format!(
                "SELECT to_char(date_time, '%Y-%m-%d') AS day, {RANKS}, {}, {} FROM bid GROUP BY to_char(date_time, '%Y-%m-%d')",
                distinct("bidder"),
                distinct("auction")
            )
        }
        "q17" => format!(
            "SELECT auction, to_char(date_time, '%Y-%m-%d') AS day, {RANKS}, MIN(price) AS min_price, MAX(price) AS max_price,
             trunc(AVG(price)) AS avg_price, SUM(price) AS sum_price FROM bid
             GROUP BY auction, to_char(date_time, '%Y-%m-%d')"
        ),
        "q18" => "SELECT auction, bidder, price, channel, url, date_time, extra FROM
                  (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC) AS n FROM bid) l
                  WHERE n = 1"
            .into(),
        "q19" => "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rank_number
                  FROM bid) r WHERE rank_number <= 10"
            .into(),
        "q20" => "SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time, b.extra, a.item, a.description,
                  a.initial_bid, a.reserve, a.date_time AS adatetime, a.expires, a.seller, a.category, a.extra AS aextra
                  FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10"
            .into(),
        "q22" => "SELECT auction, bidder, price, channel, NULLIF(split_part(url, '/', 4), '') AS dir1,
                  NULLIF(split_part(url, '/', 5), '') AS dir2, NULLIF(split_part(url, '/', 6), '') AS dir3 FROM bid"
            .into(),
        other => panic!("no query for {other}"),
    }
}

/// The rows of a table in one step.
fn rows(schema: &SchemaRef, rows: &[&[Value]]) -> RecordBatch {
    let column = |(at, data_type): (usize, &DataType)| -> ArrayRef {
        let values = rows.iter().map(|row| &row[at + 1]);
        match data_type {
            DataType::Int64 => Arc::new(values.map(Value::as_i64).collect::<Int64Array>()),
            DataType::Utf8 => Arc::new(values.map(Value::as_str).collect::<StringArray>()),
            _ => Arc::new(TimestampMillisecondArray::from_iter(
                values.map(|value| string_to_timestamp_nanos(value.as_str()?).ok().map(|ns| ns / 1_000_000)),
            )),
        }
    };
    let columns = schema.fields().iter().map(|field| field.data_type()).enumerate().map(column).collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

/// Numbers with eight digits, times without a T; the rest as it is.
fn plain(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) => format!("{number:.8e}"),
        Err(_) if text.len() >= 19 && text.as_bytes()[10] == b'T' => text.replace('T', " "),
        Err(_) => text.into(),
    }
}

fn plain_value(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

fn told(changes: &Changes) -> BTreeMap<Vec<String>, i64> {
    let options = FormatOptions::default().with_null("null");
    let columns = changes.batch().columns().iter();
    let formatters: Vec<ArrayFormatter> =
        columns.map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let mut rows = BTreeMap::new();
    for row in 0..changes.num_rows() {
        let values = formatters.iter().map(|formatter| plain(&formatter.value(row).to_string())).collect();
        *rows.entry(values).or_default() += changes.weight(row);
    }
    rows
}

#[test]
fn nexmark_step_by_step_changes_as_others_say() {
    let Some(folder) = std::env::var_os("RIVERMERE_ACCEPTANCE") else {
        eprintln!("skipped: RIVERMERE_ACCEPTANCE is not set");
        return;
    };
    let folder = PathBuf::from(folder).join("nexmark-steps/steps");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut right = 0;
    for entry in entries {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let entry: Value = serde_json::from_str(&text).unwrap();
        let name = entry["query"].as_str().unwrap();
        for (number, case) in entry["cases"].as_array().unwrap().iter().enumerate() {
            let sql = format!("{TABLES}\nCREATE MATERIALIZED VIEW result AS {}", query(name));
            let mut pipeline = pipeline(&sql, Input::Appended);
            for (step, given) in case.as_array().unwrap().iter().enumerate() {
                let mut tables: BTreeMap<&str, Vec<&[Value]>> = BTreeMap::new();
                for row in given["inputs"].as_array().unwrap() {
                    let row = row.as_array().unwrap().as_slice();
                    tables.entry(row[0].as_str().unwrap()).or_default().push(row);
                }
                let inputs = tables.iter().map(|(table, values)| {
                    let changes = Changes::inserts(rows(&pipeline.schemas[*table], values));
                    ((*table).to_string(), vec![input(&pipeline.dataflow, table, &changes)])
                });
                let (inputs, watermarks) = (inputs.collect(), BTreeMap::new());
                let output = match step {
                    0 => pipeline.dataflow.bootstrap(inputs, &watermarks, &BTreeSet::from(["result".into()]), true),
                    _ => pipeline.dataflow.step(inputs, &watermarks),
                };
                let mut expected = BTreeMap::new();
                for change in given["changes"].as_array().unwrap() {
                    let row: Vec<String> = change[0].as_array().unwrap().iter().map(plain_value).collect();
                    *expected.entry(row).or_default() += change[1].as_i64().unwrap();
                }
                let found = output.unwrap().views.iter().map(|(_, changes)| told(changes)).next().unwrap_or_default();
                assert_eq!(found, expected, "{name}, case {number}, step {step}");
            }
            right += 1;
        }
    }
    assert_eq!(right, 26, "all of the catalogue");
}
