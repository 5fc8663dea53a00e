use super::*;
use crate::Encoder;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use std::sync::Arc;

/// Decodes `values` as one column and writes what came out: JSON of the accepted, reasons of the rejected.
fn decode(data_type: DataType, nullable: bool, values: &[&str]) -> Vec<String> {
    let records: Vec<_> = values.iter().map(|value| format!("{{\"x\": [1], \"a\": {value} }}")).collect();
    decode_records(vec![Field::new("a", data_type, nullable)], &records)
}

fn decode_records(fields: Vec<Field>, records: &[impl AsRef<[u8]>]) -> Vec<String> {
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = JsonDecoder::new(schema.clone()).unwrap();
    let decoded = decoder.decode(records.iter().map(|record| Some(record.as_ref()))).unwrap();
    let mut told = vec![String::new(); records.len()];
    for rejected in &decoded.rejected {
        told[rejected.index] = rejected.reason.clone();
    }
    let encoded = crate::JsonEncoder::new(schema).encode(&decoded.batch).unwrap();
    for (index, row) in decoded.accepted().zip(encoded) {
        told[index] = String::from_utf8(row.to_vec()).unwrap();
    }
    told
}

/// Each value reads as what stands beside it.
fn check(data_type: DataType, cases: &[(&str, &str)]) {
    let values: Vec<_> = cases.iter().map(|(value, _)| *value).collect();
    let expected: Vec<_> = cases.iter().map(|(_, read)| format!("{{\"a\":{read}}}")).collect();
    assert_eq!(decode(data_type, true, &values), expected);
}

/// Each value is rejected with what stands beside it in the reason.
fn refuse(data_type: DataType, cases: &[(&str, &str)]) {
    let values: Vec<_> = cases.iter().map(|(value, _)| *value).collect();
    for (reason, (value, expected)) in decode(data_type, true, &values).iter().zip(cases) {
        assert!(reason.starts_with("column 'a") && reason.contains(expected), "{value}: {reason}");
    }
}

#[test]
fn whole_numbers() {
    check(
        DataType::Int32,
        &[("1", "1"), ("-2147483648", "-2147483648"), ("1e3", "1000"), ("\"7\"", "7"), ("null", "null")],
    );
    check(DataType::UInt64, &[("18446744073709551615", "18446744073709551615")]);
    refuse(
        DataType::Int32,
        &[
            ("2147483648", "expected Int32, found the number 2147483648, which is out of its range"),
            ("1.5", "which is no whole number"),
            ("\"1 \"", "found the string \"1 \""),
            ("\"\"", "found the string \"\""),
            ("true", "found the boolean true"),
            ("{}", "found the object {}"),
            ("[1]", "found the array [1]"),
        ],
    );
}

#[test]
fn floats_booleans_and_text() {
    check(
        DataType::Float64,
        &[("0.1", "0.1"), ("-1e-7", "-1e-7"), ("\"2.5\"", "2.5"), ("\"NaN\"", "null"), ("5", "5.0")],
    );
    refuse(DataType::Float64, &[("1e999", "out of its range"), ("\"nan\"", "the string"), ("false", "the boolean")]);
    check(DataType::Boolean, &[("true", "true"), ("false", "false"), ("null", "null")]);
    refuse(DataType::Boolean, &[("\"true\"", "the string \"true\""), ("1", "the number 1")]);
    for text in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
        check(text.clone(), &[(r#""a\u00e9\n""#, r#""aé\n""#), ("\"\"", "\"\""), ("null", "null")]);
        refuse(text, &[("1", "the number 1"), (r#""\ud800""#, "half of a surrogate pair")]);
    }
    for bytes in [DataType::Binary, DataType::LargeBinary, DataType::BinaryView] {
        check(bytes.clone(), &[("\"AQI=\"", "\"AQI=\""), ("\"AQI\"", "\"AQI=\""), (r#""\/\/8=""#, "\"//8=\"")]);
        refuse(bytes, &[("\"*\"", "not base64")]);
    }
}

#[test]
fn decimals() {
    check(
        DataType::Decimal128(6, 2),
        &[("1", "1.00"), ("\"-0.005\"", "-0.01"), ("9999.99", "9999.99"), ("1e3", "1000.00")],
    );
    refuse(DataType::Decimal128(6, 2), &[("9999.995", "out of its range"), ("\"x\"", "the string")]);
}

#[test]
fn dates_and_times() {
    check(DataType::Date32, &[("\"2013-01-31\"", "\"2013-01-31\""), ("0", "\"1970-01-01\"")]);
    refuse(DataType::Date32, &[("\"2013-02-30\"", "not a date like"), ("1.5", "no whole number")]);
    check(DataType::Time64(TimeUnit::Microsecond), &[("\"09:30:00.25\"", "\"09:30:00.25\"")]);
    check(DataType::Time32(TimeUnit::Second), &[("\"09:30:00.25\"", "\"09:30:00\"")]);
    refuse(DataType::Time64(TimeUnit::Microsecond), &[("34200", "the number 34200")]);
    for unit in [TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        check(
            DataType::Timestamp(unit, None),
            &[
                ("\"2013-01-31T09:30:00.250Z\"", "\"2013-01-31T09:30:00.25\""),
                ("\"2013-01-31 09:30:00+01:00\"", "\"2013-01-31T08:30:00\""),
                ("1359624600250", "\"2013-01-31T09:30:00.25\""),
            ],
        );
    }
    check(
        DataType::Timestamp(TimeUnit::Second, Some("UTC".into())),
        &[("\"2013-01-31T09:30\"", "\"2013-01-31T09:30:00Z\"")],
    );
    refuse(
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        &[("\"soon\"", "not a time like"), ("\"9999-01-01\"", "out of its range"), ("9e18", "out of its range")],
    );
}

#[test]
fn nested_columns() {
    let item = Arc::new(Field::new_list_field(DataType::Int8, true));
    check(DataType::List(item.clone()), &[("[1, null, 3]", "[1,null,3]"), ("[]", "[]"), ("null", "null")]);
    check(DataType::LargeList(item.clone()), &[("[1]", "[1]")]);
    refuse(
        DataType::List(item),
        &[("[1, 300]", "column 'a[]': expected Int8, found the number 300"), ("1", "found the number 1")],
    );

    let point = DataType::Struct(Fields::from(vec![
        Field::new("x", DataType::Int64, false),
        Field::new("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, false))), true),
    ]));
    check(point.clone(), &[(r#"{"tags":["p"],"x":1,"z":{}}"#, r#"{"x":1,"tags":["p"]}"#), ("null", "null")]);
    refuse(
        point.clone(),
        &[
            ("{}", "column 'a.x': expected Int64, found no such field, and the column is NOT NULL"),
            (r#"{"x":1,"tags":[null]}"#, "column 'a.tags[]': expected Utf8, found null"),
        ],
    );
    let points = DataType::List(Arc::new(Field::new_list_field(point, true)));
    check(points, &[(r#"[{"x":1},null,{"x":2,"tags":[]}]"#, r#"[{"x":1,"tags":null},null,{"x":2,"tags":[]}]"#)]);

    let entries =
        Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int64, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
    check(map.clone(), &[(r#"{"\u0061":1,"b":null}"#, r#"{"a":1,"b":null}"#), ("{}", "{}"), ("null", "null")]);
    refuse(map, &[(r#"{"b":"x"}"#, "column 'a[]': expected Int64")]);
}

#[test]
fn a_value_is_exactly_one_object() {
    let records = [
        r#"{"a":1}{"a":2}"#,
        r#"{"a":1} x"#,
        "",
        "  ",
        "null",
        "true",
        "12",
        "\"a\"",
        "[{\"a\":1}]",
        "{\"a\":1",
        "{\"a\":01}",
        "\u{feff}{\"a\":1}",
        " {\"a\":1} \n",
    ];
    let expected = [
        "expected one JSON object, found more after its end (byte 7)",
        "expected one JSON object, found more after its end (byte 8)",
        "the value is empty, expected one JSON object",
        "the value is empty, expected one JSON object",
        "expected one JSON object, found null",
        "expected one JSON object, found a boolean",
        "expected one JSON object, found a number",
        "expected one JSON object, found a string",
        "expected one JSON object, found an array",
        "not valid JSON at byte 6: the object has no end",
        "not valid JSON at byte 6: a number has no leading zeros",
        "not valid JSON at byte 0: expected a value",
        "{\"a\":1}",
    ];
    assert_eq!(decode_records(vec![Field::new("a", DataType::Int64, true)], &records), expected);
}

#[test]
fn no_value_bad_utf8_and_too_much_are_rejected() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let mut decoder = JsonDecoder::with_limits(schema, JsonLimits { max_record_bytes: 20 }).unwrap();
    decoder.push(None).unwrap();
    decoder.push(Some(b"{\"a\":\"\xff\"}")).unwrap();
    decoder.push(Some(b"{\"a\":1111111111111111}")).unwrap();
    decoder.push(Some(b"{\"a\":1}")).unwrap();
    let decoded = decoder.finish().unwrap();
    let reasons: Vec<_> = decoded.rejected.iter().map(|rejected| rejected.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the record has no value, expected one JSON object",
            "the value is not UTF-8 (byte 6)",
            "the value has 22 bytes, the limit for one JSON object is 20",
        ]
    );
    assert_eq!(decoded.accepted().collect::<Vec<_>>(), [3]);
}

#[test]
fn unwanted_fields_are_checked_for_syntax_and_depth_only() {
    let fields = vec![Field::new("a", DataType::Int64, false)];
    let deep = format!("{{\"a\":1,\"z\":{}{}}}", "[".repeat(70), "]".repeat(70));
    let told = decode_records(fields, &[r#"{"z":1e9999,"a":1}"#, r#"{"z":tru,"a":1}"#, r#"{"z":"\q","a":1}"#, &deep]);
    assert_eq!(told[0], "{\"a\":1}");
    assert_eq!(told[1], "not valid JSON at byte 5: expected a value");
    assert_eq!(told[2], "not valid JSON at byte 6: unknown escape in a string");
    assert_eq!(told[3], "not valid JSON at byte 74: nested too deeply (the limit is 64)");
}

#[test]
fn the_last_of_a_repeated_field_counts_and_escaped_names_are_names() {
    let fields = vec![Field::new("a", DataType::Int64, false)];
    assert_eq!(decode_records(fields, &[r#"{"a":1,"\u0061":2}"#, r#"{"a":"x","a":3}"#]), ["{\"a\":2}", "{\"a\":3}"]);
}

#[test]
fn not_null_columns_reject_null_and_missing() {
    let fields = vec![Field::new("a", DataType::Int64, false), Field::new("b", DataType::Utf8, false)];
    let told = decode_records(fields, &[r#"{"a":null,"b":"x"}"#, r#"{"a":1}"#, r#"{}"#, r#"{"b":"y","a":2}"#]);
    assert_eq!(
        told,
        [
            "column 'a': expected Int64, found null, and the column is NOT NULL",
            "column 'b': expected Utf8, found no such field, and the column is NOT NULL",
            "column 'a': expected Int64, found no such field, and the column is NOT NULL",
            r#"{"a":2,"b":"y"}"#,
        ]
    );
}

#[test]
fn rows_stay_in_order_over_many_chunks_and_rejections() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
    let mut pushing = JsonDecoder::new(schema.clone()).unwrap();
    let records: Vec<String> = (0..2000)
        .map(|n| if n % 7 == 3 { format!("{{\"a\":\"no {n}\"}}") } else { format!("{{\"x\":{n},\"a\":{n}}}") })
        .collect();
    for record in &records {
        pushing.push(Some(record.as_bytes())).unwrap();
    }
    let pushed = pushing.finish().unwrap();
    let values: Vec<i64> = (0..2000).filter(|n| n % 7 != 3).collect();
    let expected =
        RecordBatch::try_new(schema.clone(), vec![Arc::new(arrow::array::Int64Array::from(values))]).unwrap();
    assert_eq!(pushed.batch, expected);
    assert_eq!(
        pushed.rejected.iter().map(|r| r.index).collect::<Vec<_>>(),
        (0..2000).filter(|n| n % 7 == 3).collect::<Vec<_>>()
    );
    assert_eq!(pushed.accepted().collect::<Vec<_>>(), (0..2000).filter(|n| n % 7 != 3).collect::<Vec<_>>());
    let decoded = JsonDecoder::new(schema).unwrap().decode(records.iter().map(|r| Some(r.as_bytes()))).unwrap();
    assert_eq!((decoded.batch, decoded.rejected), (pushed.batch, pushed.rejected));
    let again = pushing.finish().unwrap();
    assert_eq!((again.batch.num_rows(), again.rejected.len()), (0, 0));
}

#[test]
fn no_wanted_columns_still_count_rows() {
    let told = JsonDecoder::new(Arc::new(Schema::empty()))
        .unwrap()
        .decode([Some(&b"{}"[..]), Some(b"{\"a\":1}"), Some(b"x")])
        .unwrap();
    assert_eq!((told.batch.num_rows(), told.rejected.len()), (2, 1));
}

#[test]
fn a_reason_is_short_whatever_the_value() {
    let long = format!("\"{}\"", "é".repeat(100_000));
    let told = decode(DataType::Int64, true, &[&long]);
    assert!(told[0].len() < 300 && told[0].ends_with("...\""), "{}", told[0].len());
}

#[test]
fn types_without_a_form_are_refused_at_once() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Duration(TimeUnit::Second), true)]));
    let error = JsonDecoder::new(schema).unwrap_err().to_string();
    assert!(error.starts_with("RM-1201: column 'a' of type Duration") && error.contains("read as JSON"), "{error}");
}
