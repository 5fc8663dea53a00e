//! Rows as tests compare and show them.

use super::yaml::{Node, kind};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use rivermere_format::{Decoder, Encoder, FormatError, JsonDecoder, JsonEncoder};
use serde_norway::Value;
use std::sync::Arc;

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Float(f64),
    /// Everything else, exactly, as JSON.
    Json(String),
}

/// A column of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) is_number: bool,
}

/// Rows with columns of known types.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rows {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Rows {
    /// The named columns of batches.
    ///
    /// # Errors
    /// When a batch lacks a column.
    pub(super) fn of(schema: &SchemaRef, batches: &[RecordBatch], names: &[String]) -> Result<Self, FormatError> {
        let arrow = |source: ArrowError| FormatError::Arrow { format: "rows", source };
        let places: Vec<usize> =
            names.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>().map_err(arrow)?;
        let mut rows =
            Self { columns: places.iter().map(|place| Column::of(schema.field(*place))).collect(), rows: vec![] };
        for batch in batches {
            let columns: Vec<Vec<Cell>> =
                places.iter().map(|place| cells(batch.column(*place).as_ref())).collect::<Result<_, _>>()?;
            let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
            rows.rows.extend((0..batch.num_rows()).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()));
        }
        Ok(rows)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }
}

impl Column {
    fn of(field: &Field) -> Self {
        let data_type = field.data_type();
        Self { name: field.name().clone(), is_number: data_type.is_numeric() }
    }
}

impl Cell {
    /// The value for people. A text that could be taken for something else has its quotes.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Float(float) => float.to_string(),
            Self::Json(json) => match serde_json::from_str::<serde_json::Value>(json) {
                Ok(serde_json::Value::String(text)) => {
                    let is_plain = !text.is_empty()
                        && text.trim() == text
                        && !text.contains(|char: char| char.is_control() || char == '|')
                        && text != "null"
                        && text.parse::<f64>().is_err();
                    if is_plain { text } else { json.clone() }
                }
                _ => json.clone(),
            },
        }
    }

    /// The value for programs.
    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Float(float) => match serde_json::Number::from_f64(*float) {
                Some(number) => number.into(),
                None => float.to_string().into(),
            },
            Self::Json(json) => serde_json::from_str(json).unwrap_or_else(|_| json.clone().into()),
        }
    }
}

fn cells(array: &dyn Array) -> Result<Vec<Cell>, FormatError> {
    let arrow = |source: ArrowError| FormatError::Arrow { format: "rows", source };
    if array.data_type().is_floating() {
        let floats = cast(array, &DataType::Float64).map_err(arrow)?;
        let floats = floats.as_primitive::<Float64Type>();
        return Ok(floats.iter().map(|float| float.map_or(Cell::Null, Cell::Float)).collect());
    }
    // One column at a time, under a name whose JSON is known.
    let schema = Arc::new(Schema::new(vec![Field::new("v", array.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![arrow::array::make_array(array.to_data())]).map_err(arrow)?;
    let rows = JsonEncoder::new(schema).encode(&batch)?;
    let cell = |(index, row): (usize, &bytes::Bytes)| {
        if array.is_null(index) {
            return Cell::Null;
        }
        let text = String::from_utf8_lossy(row);
        let value = text.strip_prefix("{\"v\":").and_then(|text| text.strip_suffix('}'));
        Cell::Json(value.unwrap_or(&text).to_owned())
    };
    Ok(rows.iter().enumerate().map(cell).collect())
}

/// A YAML value as the JSON that a producer would send. Numbers that JSON has no form for become texts, which the
/// decoder of records reads.
///
/// # Errors
/// What YAML has and JSON has not, in words.
pub(super) fn as_json(value: &Value) -> Result<serde_json::Value, String> {
    Ok(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(bool) => (*bool).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => number.into(),
            (_, Some(number), _) => number.into(),
            (.., Some(number)) if number.is_finite() => number.into(),
            (.., Some(number)) if number.is_nan() => "NaN".into(),
            (.., Some(number)) => if number > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            _ => return Err("this number has no form in JSON".into()),
        },
        Value::String(text) => text.clone().into(),
        Value::Sequence(items) => items.iter().map(as_json).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Mapping(fields) => {
            let field = |(name, value): (&Value, &Value)| match name {
                Value::String(name) => Ok((name.clone(), as_json(value)?)),
                other => Err(format!("the name of a field is a text, and this is {}", kind(other))),
            };
            serde_json::Value::Object(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
        Value::Tagged(_) => return Err("a record has no tags".into()),
    })
}

/// Reads values as columns of these types, in the way that records are read, so that a time may be written in every way
/// that a producer may write it. The message of the first that does not fit, with its index.
pub(super) fn typed(schema: SchemaRef, rows: &[serde_json::Value]) -> Result<RecordBatch, (usize, String)> {
    // An expected null is compared like any value, whatever the column allows.
    let nullable = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
    let schema = Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Vec<_>>()));
    let told = |error: FormatError| (0, error.to_string());
    let records: Vec<Vec<u8>> = rows.iter().map(|row| row.to_string().into_bytes()).collect();
    let mut decoder = JsonDecoder::new(schema).map_err(told)?;
    for record in &records {
        decoder.push(Some(record)).map_err(told)?;
    }
    let decoded = decoder.finish().map_err(told)?;
    match decoded.rejected.into_iter().next() {
        Some(rejected) => Err((rejected.index, rejected.reason)),
        None => Ok(decoded.batch),
    }
}

/// Milliseconds since 1970-01-01 UTC of a time written in a test.
pub(super) fn time_ms(node: &Node) -> Result<i64, crate::Problem> {
    let schema = Arc::new(Schema::new(vec![Field::new(
        "at",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None),
        true,
    )]));
    let text = node.text("'at'")?;
    let batch = typed(schema, &[serde_json::json!({ "at": text })]).map_err(|(_, reason)| node.place.wrong(reason))?;
    let times = batch.column(0).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    Ok(times.iter().flatten().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_typed_and_shown_without_doubt() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("at", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None), false),
            Field::new("name", DataType::Utf8, true),
            Field::new("delay", DataType::Float64, true),
            Field::new("n", DataType::Int64, false),
        ]));
        let rows = [
            serde_json::json!({"at": "2013-01-01 05:17", "name": "EWR", "delay": 2, "n": 1}),
            serde_json::json!({"at": "2013-01-01T05:17:00Z", "name": "12", "delay": "NaN", "n": null}),
        ];
        let batch = typed(schema.clone(), &rows).unwrap();
        let names: Vec<String> = ["at", "name", "delay", "n"].map(String::from).to_vec();
        let rows = Rows::of(&schema, &[batch], &names).unwrap();
        let shown: Vec<Vec<String>> = rows.rows.iter().map(|row| row.iter().map(Cell::shown).collect()).collect();
        assert_eq!(shown[0], ["2013-01-01T05:17:00", "EWR", "2", "1"]);
        assert_eq!(shown[1][0], shown[0][0], "both texts are the same time");
        assert_eq!(shown[1][1..], ["\"12\"", "NaN", "null"]);
    }

    #[test]
    fn a_value_of_another_type_is_told() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let rows = [serde_json::json!({"n": 1}), serde_json::json!({"n": "many"})];
        let (index, reason) = typed(schema, &rows).unwrap_err();
        assert_eq!(index, 1);
        assert!(reason.contains("'n'") || reason.contains('n'), "{reason}");
    }
}
