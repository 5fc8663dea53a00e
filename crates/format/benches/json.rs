//! Rows a second of one core: our decoder, pushed and in batches, beside `arrow-json` on the same records, and our
//! encoder. `cargo bench -p rivermere-format` prints the best of several rounds and the ratio.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use rivermere_format::{Decoder, Encoder, JsonDecoder, JsonEncoder};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const ROWS: usize = 32_768;
const ROUNDS: usize = 15;

/// A departure of the demo: 15 fields, about 290 bytes.
fn departures() -> Vec<String> {
    let carriers = ["UA", "AA", "B6", "DL", "EV"];
    let airports = ["JFK", "LGA", "EWR"];
    (0..ROWS)
        .map(|n| {
            let (hour, minute) = (n / 60 % 24, n % 60);
            format!(
                r#"{{"flight_id":{n},"carrier":"{}","flight":{},"tailnum":"N{:05}","origin":"{}","dest":"SFO","scheduled_at":"2013-01-31T{hour:02}:{minute:02}:00","departed_at":"2013-01-31T{hour:02}:{minute:02}:27.125","dep_delay":{}.5,"air_time":{},"distance":{},"cancelled":false,"gate":"B{}","note":null}}"#,
                carriers[n % 5],
                n % 5000,
                n % 99_999,
                airports[n % 3],
                n % 120,
                300 + n % 60,
                2500 + n % 99,
                n % 40,
            )
        })
        .collect()
}

fn columns(names: &[&str]) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let all = [
        Field::new("flight_id", DataType::Int64, false),
        Field::new("carrier", DataType::Utf8, false),
        Field::new("flight", DataType::Int32, true),
        Field::new("origin", DataType::Utf8, false),
        Field::new("dest", DataType::Utf8, false),
        Field::new("departed_at", time, false),
        Field::new("dep_delay", DataType::Float64, true),
    ];
    Arc::new(Schema::new(all.into_iter().filter(|field| names.contains(&field.name().as_str())).collect::<Vec<_>>()))
}

/// Million rows a second, the best round.
fn measure(mut round: impl FnMut()) -> f64 {
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    ROWS as f64 / best.as_secs_f64() / 1e6
}

fn main() {
    let records = departures();
    let bytes: usize = records.iter().map(String::len).sum();
    println!("{ROWS} rows of {} bytes; million rows a second of one core", bytes / ROWS);
    let seven = ["flight_id", "carrier", "flight", "origin", "dest", "departed_at", "dep_delay"];
    for wanted in [&seven[..], &seven[3..4], &seven[5..]] {
        let schema = columns(wanted);
        let mut decoder = JsonDecoder::new(schema.clone()).expect("supported types");
        let batch = measure(|| {
            let decoded = decoder.decode(records.iter().map(|record| Some(record.as_bytes()))).expect("decodes");
            assert_eq!(black_box(decoded).batch.num_rows(), ROWS);
        });
        let pushed = measure(|| {
            for record in &records {
                decoder.push(Some(record.as_bytes())).expect("fits");
            }
            assert_eq!(black_box(decoder.finish().expect("decodes")).batch.num_rows(), ROWS);
        });
        let mut theirs =
            ReaderBuilder::new(schema.clone()).with_batch_size(ROWS).build_decoder().expect("supported types");
        let arrow = measure(|| {
            for (index, record) in records.iter().enumerate() {
                theirs.decode(record.as_bytes()).expect("decodes");
                assert!(theirs.len() == index + 1 && !theirs.has_partial_record());
            }
            assert_eq!(black_box(theirs.flush().expect("decodes")).expect("rows").num_rows(), ROWS);
        });
        println!(
            "decode {} of 14 fields: {batch:.2} in a batch, {pushed:.2} pushed, arrow-json {arrow:.2}, ratio {:.1}",
            wanted.len(),
            batch / arrow
        );
    }
    let mut decoder = JsonDecoder::new(columns(&seven)).expect("supported types");
    let rows = decoder.decode(records.iter().map(|record| Some(record.as_bytes()))).expect("decodes").batch;
    let mut encoder = JsonEncoder::new(rows.schema());
    let encoded = measure(|| assert_eq!(black_box(encoder.encode(&rows).expect("encodes")).len(), ROWS));
    println!("encode 7 columns: {encoded:.2}");
}
