use super::*;
use arrow::array::{Decimal128Array, TimestampMicrosecondArray, TimestampSecondArray};
use arrow::datatypes::{Field, Schema};
use std::sync::Arc;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn rows(batch: &RecordBatch) -> Vec<String> {
    let encoded = JsonEncoder::new(batch.schema()).encode(batch).unwrap();
    encoded.into_iter().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
}

fn check(array: impl Array + 'static, expected: &[&str]) {
    let written: Vec<_> = expected.iter().map(|value| format!("{{\"a\":{value}}}")).collect();
    assert_eq!(rows(&batch(vec![("a", Arc::new(array) as ArrayRef)])), written);
}

#[test]
fn every_column_is_in_every_object() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("a\"b", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("x\n"), Some("é")]))),
    ];
    let batch = batch(columns);
    assert_eq!(rows(&batch), [r#"{"a\"b":1,"text":"x\n"}"#, r#"{"a\"b":null,"text":"é"}"#]);
    let array = String::from_utf8(rows_to_json_array([&batch, &batch.slice(1, 1)]).unwrap()).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&array).unwrap();
    assert_eq!(parsed.as_array().unwrap().len(), 3);
    assert_eq!(parsed[2]["text"], "é");
    assert_eq!(rows_to_json_array([]).unwrap(), b"[]");
}

#[test]
fn floats_are_shortest_and_null_when_not_finite() {
    check(
        Float64Array::from(vec![0.1, 1.0, -0.0, 1e300, f64::NAN, f64::INFINITY]),
        &["0.1", "1.0", "-0.0", "1e300", "null", "null"],
    );
    check(Float32Array::from(vec![0.1, 16_777_216.0]), &["0.1", "16777216.0"]);
}

#[test]
fn decimals_have_all_their_digits() {
    let decimals = |scale| {
        Decimal128Array::from(vec![0, 1, -1, 12_345, i128::from(i64::MIN)]).with_precision_and_scale(38, scale).unwrap()
    };
    check(decimals(0), &["0", "1", "-1", "12345", "-9223372036854775808"]);
    check(decimals(3), &["0.000", "0.001", "-0.001", "12.345", "-9223372036854775.808"]);
    check(decimals(-2), &["0", "100", "-100", "1234500", "-922337203685477580800"]);
}

#[test]
fn timestamps_are_iso_text() {
    let micros = vec![0, 1_359_624_600_250_000, -1];
    check(
        TimestampMicrosecondArray::from(micros.clone()),
        &["\"1970-01-01T00:00:00\"", "\"2013-01-31T09:30:00.25\"", "\"1969-12-31T23:59:59.999999\""],
    );
    check(
        TimestampMicrosecondArray::from(micros).with_timezone("+02:00"),
        &["\"1970-01-01T00:00:00Z\"", "\"2013-01-31T09:30:00.25Z\"", "\"1969-12-31T23:59:59.999999Z\""],
    );
    // The far ends of the type are text of some kind, and no panic.
    assert_eq!(rows(&batch(vec![("a", Arc::new(TimestampSecondArray::from(vec![i64::MIN, i64::MAX])))])).len(), 2);
}

#[test]
fn what_json_has_no_form_for_is_text() {
    let durations = arrow::array::DurationSecondArray::from(vec![90]);
    check(durations, &["\"PT90S\""]);
    let words: arrow::array::DictionaryArray<arrow::datatypes::Int8Type> = ["x", "y", "x"].into_iter().collect();
    check(words, &["\"x\"", "\"y\"", "\"x\""]);
}

#[test]
fn another_shape_is_refused() {
    let schema = Arc::new(Schema::new(vec![Field::new("b", DataType::Int64, true)]));
    let error = JsonEncoder::new(schema).encode(&batch(vec![("a", Arc::new(Int64Array::from(vec![1])))])).unwrap_err();
    assert!(error.to_string().starts_with("RM-1203"), "{error}");
}
