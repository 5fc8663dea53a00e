//! Rows to JSON objects.

use super::text;
use super::times::per_second;
use crate::calendar::{self, NANOS_PER_SECOND, SECONDS_PER_DAY};
use crate::{Encoder, FormatError};
use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, RecordBatch, StringArray, StringViewArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, SchemaRef, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::io::Write;

/// Rows to JSON objects, with every column in every object; see the [module](super) for types and rules.
#[derive(Debug)]
pub struct JsonEncoder {
    schema: SchemaRef,
}

impl JsonEncoder {
    /// An encoder of batches of this shape. Column types that JSON has no form for are written as text.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl Encoder for JsonEncoder {
    /// Slices of one buffer.
    fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, FormatError> {
        let shape = |schema: &SchemaRef| {
            let column = |field: &arrow::datatypes::FieldRef| format!("{} {}", field.name(), field.data_type());
            schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
        };
        let same = |(a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef)| {
            a.name() == b.name() && a.data_type() == b.data_type()
        };
        let found = batch.schema();
        if found.fields().len() != self.schema.fields().len()
            || !found.fields().iter().zip(self.schema.fields()).all(same)
        {
            return Err(FormatError::Shape { expected: shape(&self.schema), found: shape(&found) });
        }
        let mut out = Vec::new();
        let mut ends = Vec::with_capacity(batch.num_rows());
        let row = Object::of_batch(batch).map_err(arrow_error)?;
        for index in 0..batch.num_rows() {
            row.write(index, &mut out).map_err(arrow_error)?;
            ends.push(out.len());
        }
        let buffer = Bytes::from(out);
        let mut start = 0;
        Ok(ends.into_iter().map(|end| buffer.slice(std::mem::replace(&mut start, end)..end)).collect())
    }
}

/// All rows as one JSON array of objects, as HTTP answers have it.
///
/// # Errors
/// Only when Arrow refuses to show a value.
pub fn rows_to_json_array<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Result<Vec<u8>, FormatError> {
    let mut out = vec![b'['];
    for batch in batches {
        let row = Object::of_batch(batch).map_err(arrow_error)?;
        for index in 0..batch.num_rows() {
            if out.len() > 1 {
                out.push(b',');
            }
            row.write(index, &mut out).map_err(arrow_error)?;
        }
    }
    out.push(b']');
    Ok(out)
}

fn arrow_error(source: ArrowError) -> FormatError {
    FormatError::Arrow { format: "JSON", source }
}

/// Columns that become the fields of one object a row.
struct Object {
    /// `"name":` and column.
    fields: Vec<(Vec<u8>, Column)>,
}

impl Object {
    fn of_batch(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let schema = batch.schema();
        Self::new(schema.fields().iter().map(|field| field.name().as_str()).zip(batch.columns()))
    }

    fn new<'a>(fields: impl Iterator<Item = (&'a str, &'a ArrayRef)>) -> Result<Self, ArrowError> {
        let field = |(name, array): (&str, &ArrayRef)| {
            let mut key = Vec::new();
            text::write(name, &mut key);
            key.push(b':');
            Ok((key, Column::new(array)?))
        };
        Ok(Self { fields: fields.map(field).collect::<Result<_, ArrowError>>()? })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.push(b'{');
        for (index, (key, column)) in self.fields.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            column.write(row, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

/// An array with its nulls and the way its values are written.
struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Boolean(BooleanArray),
    Int8(Int8Array),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    UInt8(UInt8Array),
    UInt16(UInt16Array),
    UInt32(UInt32Array),
    UInt64(UInt64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal128(arrow::array::Decimal128Array, i8),
    Date32(arrow::array::Date32Array),
    Time(Vec<i64>, TimeUnit),
    Timestamp(arrow::buffer::ScalarBuffer<i64>, TimeUnit, bool),
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    /// Start of each row in the items, and one end more.
    List(Vec<usize>, Box<Column>),
    Struct(Object),
    Map(Vec<usize>, Box<Column>, Box<Column>),
    /// As Arrow shows it.
    Shown(ArrayRef),
}

impl Column {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(array.as_boolean().clone()),
            DataType::Int8 => Values::Int8(array.as_primitive().clone()),
            DataType::Int16 => Values::Int16(array.as_primitive().clone()),
            DataType::Int32 => Values::Int32(array.as_primitive().clone()),
            DataType::Int64 => Values::Int64(array.as_primitive().clone()),
            DataType::UInt8 => Values::UInt8(array.as_primitive().clone()),
            DataType::UInt16 => Values::UInt16(array.as_primitive().clone()),
            DataType::UInt32 => Values::UInt32(array.as_primitive().clone()),
            DataType::UInt64 => Values::UInt64(array.as_primitive().clone()),
            DataType::Float16 => return Self::new(&cast(array, &DataType::Float32)?),
            DataType::Float32 => Values::Float32(array.as_primitive().clone()),
            DataType::Float64 => Values::Float64(array.as_primitive().clone()),
            DataType::Decimal128(_, scale) => {
                Values::Decimal128(array.as_primitive::<Decimal128Type>().clone(), *scale)
            }
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                return Self::new(&cast(array, &DataType::Decimal128(*precision, *scale))?);
            }
            DataType::Date32 => Values::Date32(array.as_primitive::<Date32Type>().clone()),
            DataType::Date64 => return Self::new(&cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None))?),
            DataType::Time32(TimeUnit::Second) => {
                Values::Time(widen(array.as_primitive::<Time32SecondType>().values()), TimeUnit::Second)
            }
            DataType::Time32(_) => {
                Values::Time(widen(array.as_primitive::<Time32MillisecondType>().values()), TimeUnit::Millisecond)
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                Values::Time(array.as_primitive::<Time64MicrosecondType>().values().to_vec(), TimeUnit::Microsecond)
            }
            DataType::Time64(_) => {
                Values::Time(array.as_primitive::<Time64NanosecondType>().values().to_vec(), TimeUnit::Nanosecond)
            }
            DataType::Timestamp(unit, zone) => {
                let values = match unit {
                    TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
                    TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
                    TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
                };
                Values::Timestamp(values.clone(), *unit, zone.is_some())
            }
            DataType::Utf8 => Values::Utf8(array.as_string().clone()),
            DataType::LargeUtf8 => Values::LargeUtf8(array.as_string().clone()),
            DataType::Utf8View => Values::Utf8View(array.as_string_view().clone()),
            DataType::Binary => Values::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Values::LargeBinary(array.as_binary().clone()),
            DataType::BinaryView => Values::BinaryView(array.as_binary_view().clone()),
            DataType::FixedSizeBinary(_) => return Self::new(&cast(array, &DataType::Binary)?),
            DataType::Dictionary(_, values) => return Self::new(&cast(array, values)?),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(starts(list.value_offsets()), Box::new(Self::new(list.values())?))
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                Values::List(starts(list.value_offsets()), Box::new(Self::new(list.values())?))
            }
            DataType::FixedSizeList(item, _) => return Self::new(&cast(array, &DataType::List(item.clone()))?),
            DataType::Struct(fields) => {
                let names = fields.iter().map(|field| field.name().as_str());
                Values::Struct(Object::new(names.zip(array.as_struct().columns()))?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let keys = cast(map.keys(), &DataType::Utf8)?;
                let (keys, values) = (Self::new(&keys)?, Self::new(map.values())?);
                Values::Map(starts(map.value_offsets()), Box::new(keys), Box::new(values))
            }
            _ => Values::Shown(array.clone()),
        };
        Ok(Self { nulls: array.logical_nulls(), values })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match &self.values {
            Values::Null => out.extend_from_slice(b"null"),
            Values::Boolean(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            Values::Int8(array) => integer(array.value(row), out),
            Values::Int16(array) => integer(array.value(row), out),
            Values::Int32(array) => integer(array.value(row), out),
            Values::Int64(array) => integer(array.value(row), out),
            Values::UInt8(array) => integer(array.value(row), out),
            Values::UInt16(array) => integer(array.value(row), out),
            Values::UInt32(array) => integer(array.value(row), out),
            Values::UInt64(array) => integer(array.value(row), out),
            Values::Float32(array) => float(array.value(row), out),
            Values::Float64(array) => float(array.value(row), out),
            Values::Decimal128(array, scale) => decimal(array.value(row), *scale, out),
            Values::Date32(array) => {
                out.push(b'"');
                date(i64::from(array.value(row)), out);
                out.push(b'"');
            }
            Values::Time(values, unit) => {
                out.push(b'"');
                time(values.get(row).copied().unwrap_or_default(), *unit, out);
                out.push(b'"');
            }
            Values::Timestamp(values, unit, zoned) => {
                let units_per_day = per_second(*unit) * SECONDS_PER_DAY;
                let value = values.get(row).copied().unwrap_or_default();
                out.push(b'"');
                date(value.div_euclid(units_per_day), out);
                out.push(b'T');
                time(value.rem_euclid(units_per_day), *unit, out);
                out.extend_from_slice(if *zoned { b"Z\"" } else { b"\"" });
            }
            Values::Utf8(array) => text::write(array.value(row), out),
            Values::LargeUtf8(array) => text::write(array.value(row), out),
            Values::Utf8View(array) => text::write(array.value(row), out),
            Values::Binary(array) => base64(array.value(row), out),
            Values::LargeBinary(array) => base64(array.value(row), out),
            Values::BinaryView(array) => base64(array.value(row), out),
            Values::List(starts, items) => {
                out.push(b'[');
                for (index, item) in items_of(starts, row).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    items.write(item, out)?;
                }
                out.push(b']');
            }
            Values::Struct(object) => object.write(row, out)?,
            Values::Map(starts, keys, values) => {
                out.push(b'{');
                for (index, entry) in items_of(starts, row).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    keys.write(entry, out)?;
                    out.push(b':');
                    values.write(entry, out)?;
                }
                out.push(b'}');
            }
            Values::Shown(array) => {
                let options = FormatOptions::default();
                let shown = ArrayFormatter::try_new(array, &options)?.value(row).try_to_string()?;
                text::write(&shown, out);
            }
        }
        Ok(())
    }
}

fn widen(values: &[i32]) -> Vec<i64> {
    values.iter().map(|value| i64::from(*value)).collect()
}

fn starts<O: arrow::array::OffsetSizeTrait>(offsets: &[O]) -> Vec<usize> {
    offsets.iter().map(|offset| offset.as_usize()).collect()
}

fn items_of(starts: &[usize], row: usize) -> std::ops::Range<usize> {
    match starts.get(row..row + 2) {
        Some(&[start, end]) => start..end,
        _ => 0..0,
    }
}

fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest text that reads back as the same number.
fn float<T: ryu::Float + Into<f64> + Copy>(value: T, out: &mut Vec<u8>) {
    if value.into().is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// All digits of the scale.
fn decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs());
    if value < 0 {
        out.push(b'-');
    }
    match usize::try_from(scale) {
        Ok(0) => out.extend_from_slice(digits.as_bytes()),
        Ok(places) => {
            // At least one digit before the point.
            let digits = format!("{digits:0>width$}", width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            out.extend_from_slice(whole.as_bytes());
            out.push(b'.');
            out.extend_from_slice(fraction.as_bytes());
        }
        Err(_) => {
            out.extend_from_slice(digits.as_bytes());
            if value != 0 {
                out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
            }
        }
    }
}

fn date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = calendar::civil(days);
    match year {
        0..=9999 => {
            two_digits((year / 100) as u32, out);
            two_digits((year % 100) as u32, out);
        }
        // ISO 8601 expanded years; nothing reads them back.
        _ => {
            let _ = write!(out, "{year:+05}");
        }
    }
    out.push(b'-');
    two_digits(month, out);
    out.push(b'-');
    two_digits(day, out);
}

/// `09:30:00`, with as many digits of the second as are not zero.
fn time(units: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let per_second = per_second(unit);
    let seconds = units.div_euclid(per_second);
    two_digits((seconds / 3600) as u32, out);
    out.push(b':');
    two_digits((seconds / 60 % 60) as u32, out);
    out.push(b':');
    two_digits((seconds % 60) as u32, out);
    let mut nanos = units.rem_euclid(per_second) * (NANOS_PER_SECOND / per_second);
    if nanos > 0 {
        out.push(b'.');
        let mut scale = NANOS_PER_SECOND / 10;
        while nanos > 0 {
            out.push(b'0' + (nanos / scale) as u8);
            nanos %= scale;
            scale /= 10;
        }
    }
}

fn two_digits(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests;
