//! Rows as text: a JSON array of objects, newline-delimited JSON, CSV.
//!
//! Timestamps are ISO 8601, NaN and the infinities are null in JSON (which has no word for them), decimals and 64-bit
//! integers are JSON numbers, binary is hexadecimal. A null is written, never left out, so that all rows have the same
//! shape. CSV follows RFC 4180 with a header line; a null is an empty field.

use crate::ServeError;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use std::io::Write;
use std::sync::Arc;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// An array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
}

/// Rows that are written at once; a longer batch is cut, so that a large answer streams.
pub(crate) const ROWS_PER_CHUNK: usize = 8192;

impl RowFormat {
    /// The media type of the format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// The format of a name as in `format=csv`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// All rows as one text.
///
/// # Errors
/// When a column cannot be written in the format.
pub fn write_rows(format: RowFormat, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, ServeError> {
    let mut writer = RowWriter::new(format, schema.clone())?;
    let mut text = Vec::new();
    for batch in batches {
        text.extend_from_slice(&writer.write(batch)?);
    }
    text.extend_from_slice(&writer.finish()?);
    Ok(text)
}

/// Writes rows batch by batch. The pieces of [`write`](Self::write) and [`finish`](Self::finish) joined are the text.
pub(crate) struct RowWriter {
    format: RowFormat,
    schema: SchemaRef,
    started: bool,
}

impl RowWriter {
    pub(crate) fn new(format: RowFormat, schema: SchemaRef) -> Result<Self, ServeError> {
        if format == RowFormat::Csv
            && let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested())
        {
            let data_type = field.data_type().to_string();
            return Err(ServeError::NotForCsv { column: field.name().clone(), data_type });
        }
        Ok(Self { format, schema, started: false })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, ServeError> {
        let mut text = Vec::with_capacity(batch.num_rows().saturating_mul(64).min(1 << 20));
        match self.format {
            RowFormat::Json => {
                if batch.num_rows() == 0 {
                    return Ok(Bytes::new());
                }
                text.push(if self.started { b',' } else { b'[' });
                write_json_objects(batch, b',', &mut text)?;
            }
            RowFormat::Ndjson => write_json_objects(batch, b'\n', &mut text)?,
            RowFormat::Csv => self.write_csv(batch, !self.started, &mut text)?,
        }
        self.started = true;
        Ok(text.into())
    }

    pub(crate) fn finish(&mut self) -> Result<Bytes, ServeError> {
        Ok(match (self.format, self.started) {
            (RowFormat::Json, true) => Bytes::from_static(b"]"),
            (RowFormat::Json, false) => Bytes::from_static(b"[]"),
            (RowFormat::Csv, false) => {
                let mut text = Vec::new();
                self.write_csv(&RecordBatch::new_empty(self.schema.clone()), true, &mut text)?;
                text.into()
            }
            (RowFormat::Ndjson, _) | (RowFormat::Csv, true) => Bytes::new(),
        })
    }

    fn write_csv(&self, batch: &RecordBatch, header: bool, text: &mut Vec<u8>) -> Result<(), ServeError> {
        let mut writer = arrow::csv::WriterBuilder::new().with_header(header).build(&mut *text);
        // The writer prints its header with the first batch, even an empty one.
        Ok(writer.write(batch)?)
    }
}

/// The rows as JSON objects with `separator` between them; after the last one too when it is a newline.
pub(crate) fn write_json_objects(batch: &RecordBatch, separator: u8, text: &mut Vec<u8>) -> Result<(), ServeError> {
    let start = text.len();
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(Decimals))
        .build::<_, LineDelimited>(&mut *text);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    if separator != b'\n' {
        // Newlines inside values are escaped, so every one here ends a row.
        text.truncate(text.len().saturating_sub(1).max(start));
        for byte in text.iter_mut().skip(start).filter(|byte| **byte == b'\n') {
            *byte = separator;
        }
    }
    Ok(())
}

/// Writes decimals and non-finite floats as JSON knows them.
#[derive(Debug)]
struct Decimals;

struct DecimalEncoder<'a>(ArrayFormatter<'a>);

impl Encoder for DecimalEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = write!(out, "{}", self.0.value(row));
    }
}

impl EncoderFactory for Decimals {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a arrow::datatypes::FieldRef,
        array: &'a dyn arrow::array::Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !is_decimal(array.data_type()) {
            return Ok(None);
        }
        const OPTIONS: FormatOptions<'static> = FormatOptions::new();
        let encoder = DecimalEncoder(ArrayFormatter::try_new(array, &OPTIONS)?);
        Ok(Some(NullableEncoder::new(Box::new(encoder), array.logical_nulls())))
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    matches!(data_type, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

/// The column as `GET /v1/views` describes it.
impl From<&Field> for crate::ColumnInfo {
    fn from(field: &Field) -> Self {
        Self { name: field.name().clone(), data_type: field.data_type().to_string(), nullable: field.is_nullable() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
        UInt64Array,
    };

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn check(format: RowFormat, columns: Vec<(&str, ArrayRef)>, expected: &str) {
        let batch = batch(columns);
        let text = write_rows(format, &batch.schema(), std::slice::from_ref(&batch)).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    fn every_type() -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("id", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
            ("big", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
            ("part", Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))),
            ("price", Arc::new(Decimal128Array::from(vec![Some(1234), None]).with_precision_and_scale(10, 2).unwrap())),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![1_357_275_600_000, 1_357_275_600_123]))),
            ("text", Arc::new(StringArray::from(vec!["a \"b\"\n,c", "ä"]))),
            ("raw", Arc::new(BinaryArray::from(vec![&[0_u8, 255][..], &[]]))),
        ]
    }

    #[test]
    fn json_is_an_array_of_objects_with_every_null() {
        check(
            RowFormat::Json,
            every_type(),
            "[{\"id\":9223372036854775807,\"big\":18446744073709551615,\"part\":null,\"price\":12.34,\
             \"at\":\"2013-01-04T05:00:00\",\"text\":\"a \\\"b\\\"\\n,c\",\"raw\":\"00ff\"},\
             {\"id\":null,\"big\":0,\"part\":0.5,\"price\":null,\"at\":\"2013-01-04T05:00:00.123\",\"text\":\"ä\",\
             \"raw\":\"\"}]",
        );
    }

    #[test]
    fn ndjson_ends_every_row_with_a_newline() {
        let id: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        check(RowFormat::Ndjson, vec![("id", id)], "{\"id\":1}\n{\"id\":2}\n");
    }

    #[test]
    fn csv_has_a_header_and_quotes() {
        check(
            RowFormat::Csv,
            every_type(),
            "id,big,part,price,at,text,raw\n\
             9223372036854775807,18446744073709551615,NaN,12.34,2013-01-04T05:00:00,\"a \"\"b\"\"\n,c\",00ff\n\
             ,0,0.5,,2013-01-04T05:00:00.123,ä,\n",
        );
    }

    #[test]
    fn no_rows_are_an_empty_array_and_a_lone_header() {
        let schema = batch(vec![("id", Arc::new(Int64Array::from(vec![1])))]).schema();
        for (format, expected) in [(RowFormat::Json, "[]"), (RowFormat::Ndjson, ""), (RowFormat::Csv, "id\n")] {
            assert_eq!(write_rows(format, &schema, &[]).unwrap(), expected.as_bytes());
            let empty = RecordBatch::new_empty(schema.clone());
            assert_eq!(write_rows(format, &schema, &[empty]).unwrap(), expected.as_bytes(), "{format:?}");
        }
    }

    #[test]
    fn batches_join_without_a_seam() {
        let one = batch(vec![("id", Arc::new(Int64Array::from(vec![1])))]);
        let two = batch(vec![("id", Arc::new(Int64Array::from(vec![2, 3])))]);
        let text = write_rows(RowFormat::Json, &one.schema(), &[one.clone(), two.slice(0, 0), two.clone()]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), r#"[{"id":1},{"id":2},{"id":3}]"#);
        let text = write_rows(RowFormat::Csv, &one.schema(), &[one.clone(), two]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "id\n1\n2\n3\n");
    }

    #[test]
    fn nested_columns_are_refused_as_csv_and_written_as_json() {
        let list = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(vec![Some(vec![
            Some(1),
            None,
        ])]);
        let batch = batch(vec![("list", Arc::new(list))]);
        let refused = write_rows(RowFormat::Csv, &batch.schema(), std::slice::from_ref(&batch));
        assert!(matches!(refused, Err(ServeError::NotForCsv { .. })));
        let text = write_rows(RowFormat::Json, &batch.schema(), std::slice::from_ref(&batch)).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), r#"[{"list":[1,null]}]"#);
    }
}
