//! Properties of the JSON format over many random inputs: what is written reads back the same, the scan accepts what
//! `serde_json` accepts, and no bytes make it panic.

use arrow::array::builder::{
    BinaryBuilder, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, ListBuilder, MapBuilder,
    StringBuilder, TimestampMicrosecondBuilder, UInt8Builder,
};
use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rivermere_format::{Decoder, Encoder, JsonDecoder, JsonEncoder, rows_to_json_array};
use std::sync::Arc;

fn text(rng: &mut SmallRng) -> String {
    const CHARS: &[char] =
        &['a', 'Z', '0', '"', '\\', '/', '\n', '\u{0}', '\u{1f}', '\u{7f}', 'é', '€', '😀', ' ', '{'];
    (0..rng.random_range(0..20)).map(|_| *CHARS.choose(rng).unwrap()).collect()
}

fn option<T>(rng: &mut SmallRng, value: impl FnOnce(&mut SmallRng) -> T) -> Option<T> {
    rng.random_bool(0.8).then(|| value(rng))
}

fn float(rng: &mut SmallRng) -> f64 {
    loop {
        let value = f64::from_bits(rng.random());
        if value.is_finite() {
            return value;
        }
    }
}

/// A batch with a column of each kind.
fn random_batch(rng: &mut SmallRng) -> RecordBatch {
    let mut booleans = BooleanBuilder::new();
    let mut bytes = UInt8Builder::new();
    let mut integers = Int64Builder::new();
    let mut floats = Float64Builder::new();
    let mut decimals = Decimal128Builder::new().with_precision_and_scale(38, 9).unwrap();
    let mut texts = StringBuilder::new();
    let mut binaries = BinaryBuilder::new();
    let mut times = TimestampMicrosecondBuilder::new();
    let mut lists = ListBuilder::new(StringBuilder::new());
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for _ in 0..rng.random_range(0..50) {
        booleans.append_option(option(rng, |rng| rng.random()));
        bytes.append_option(option(rng, |rng| rng.random()));
        integers.append_option(option(rng, |rng| rng.random::<i64>() >> rng.random_range(0..64)));
        floats.append_option(option(rng, float));
        let limit = 10_i128.pow(38) - 1;
        decimals.append_option(option(rng, |rng| rng.random_range(-limit..=limit) >> rng.random_range(0..127)));
        texts.append_option(option(rng, text));
        binaries.append_option(option(rng, text));
        // Years 0 to 9999.
        times.append_option(option(rng, |rng| rng.random_range(-62_167_219_200_000_000..253_402_300_800_000_000_i64)));
        for _ in 0..rng.random_range(0..4) {
            lists.values().append_option(option(rng, text));
        }
        lists.append(rng.random_bool(0.8));
        for _ in 0..rng.random_range(0..4) {
            maps.keys().append_value(text(rng));
            maps.values().append_option(option(rng, |rng| rng.random()));
        }
        maps.append(rng.random_bool(0.8)).unwrap();
    }
    let inner: Vec<(Arc<Field>, ArrayRef)> = vec![
        (Arc::new(Field::new("n", DataType::Int64, true)), Arc::new(integers.finish_cloned())),
        (Arc::new(Field::new("t\"", DataType::Utf8, true)), Arc::new(texts.finish_cloned())),
    ];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("boolean", Arc::new(booleans.finish())),
        ("byte", Arc::new(bytes.finish())),
        ("integer", Arc::new(integers.finish())),
        ("float", Arc::new(floats.finish())),
        ("decimal", Arc::new(decimals.finish())),
        ("text", Arc::new(texts.finish())),
        ("binary", Arc::new(binaries.finish())),
        ("time", Arc::new(times.finish())),
        ("list", Arc::new(lists.finish())),
        ("map", Arc::new(maps.finish())),
        ("struct", Arc::new(StructArray::from(inner))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

#[test]
fn what_is_written_reads_back_the_same() {
    for seed in 0..300 {
        let batch = random_batch(&mut SmallRng::seed_from_u64(seed));
        let rows = JsonEncoder::new(batch.schema()).encode(&batch).unwrap();
        let decoded = JsonDecoder::new(batch.schema()).unwrap().decode(rows.iter().map(|row| Some(&row[..]))).unwrap();
        assert_eq!(decoded.rejected, [], "seed {seed}");
        assert_eq!(decoded.batch, batch, "seed {seed}");
        let array: Vec<serde_json::Value> = serde_json::from_slice(&rows_to_json_array([&batch]).unwrap()).unwrap();
        assert_eq!(array.len(), batch.num_rows());
    }
}

#[test]
fn any_choice_of_columns_reads_the_same_values() {
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let batch = random_batch(&mut rng);
        let rows = JsonEncoder::new(batch.schema()).encode(&batch).unwrap();
        let chosen: Vec<usize> = (0..batch.num_columns()).filter(|_| rng.random()).collect();
        let wanted = batch.project(&chosen).unwrap();
        let mut decoder = JsonDecoder::new(wanted.schema()).unwrap();
        for row in &rows {
            decoder.push(Some(row)).unwrap();
        }
        assert_eq!(decoder.finish().unwrap().batch, wanted, "seed {seed}");
    }
}

/// Some JSON, broken or not, in a row of edits.
fn mutate(rng: &mut SmallRng, record: &[u8]) -> Vec<u8> {
    const BYTES: &[u8] = b"{}[]\",:\\ue0159.-+ \ntfn\x00\x1f\xc3\xa9\xff";
    let mut record = record.to_vec();
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..=record.len());
        match rng.random_range(0..4) {
            0 => record.insert(at, *BYTES.choose(rng).unwrap()),
            1 if at < record.len() => record[at] = *BYTES.choose(rng).unwrap(),
            2 if at < record.len() => drop(record.remove(at)),
            _ => record.truncate(at),
        }
    }
    record
}

#[test]
fn the_scan_accepts_what_serde_json_accepts() {
    let nothing = Arc::new(Schema::empty());
    let mut accepted = 0;
    for seed in 0..100 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let batch = random_batch(&mut rng);
        for row in JsonEncoder::new(batch.schema()).encode(&batch).unwrap() {
            let record = mutate(&mut rng, &row);
            let ours = JsonDecoder::new(nothing.clone()).unwrap().decode([Some(&record[..])]).unwrap();
            // `IgnoredAny` does not look at the bytes of text: whether it is UTF-8 is checked apart.
            let theirs = std::str::from_utf8(&record).is_ok()
                && record.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
                && serde_json::from_slice::<serde::de::IgnoredAny>(&record).is_ok();
            let shown = String::from_utf8_lossy(&record);
            assert_eq!(ours.rejected.is_empty(), theirs, "{shown}\n{:?}", ours.rejected);
            accepted += usize::from(theirs);
        }
    }
    assert!((200..4000).contains(&accepted), "the edits break some and not all: {accepted}");
}

#[test]
fn no_bytes_make_it_panic_and_every_record_is_accepted_or_rejected() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let batch = random_batch(&mut rng);
        let mut records: Vec<Vec<u8>> =
            JsonEncoder::new(batch.schema()).encode(&batch).unwrap().iter().map(|row| mutate(&mut rng, row)).collect();
        records.extend((0..20).map(|_| (0..rng.random_range(0..200)).map(|_| rng.random()).collect::<Vec<u8>>()));
        // Values of every kind under the wrong names.
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let parsed = rows_to_json_array([&batch]).unwrap();
        let parsed: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&parsed).unwrap();
        for row in parsed {
            let moved: serde_json::Map<_, _> =
                row.into_iter().map(|(_, v)| (names.choose(&mut rng).unwrap().clone(), v)).collect();
            records.push(serde_json::to_vec(&moved).unwrap());
        }
        let decoded = JsonDecoder::new(batch.schema()).unwrap().decode(records.iter().map(|r| Some(&r[..]))).unwrap();
        assert_eq!(decoded.batch.num_rows() + decoded.rejected.len(), records.len());
        assert!(decoded.rejected.is_sorted_by(|a, b| a.index < b.index));
        assert_eq!(decoded.accepted().count(), decoded.batch.num_rows());
    }
}
