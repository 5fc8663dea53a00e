//! Values in PostgreSQL's own text form where the encoder's differs: numbers, timestamps and times of the day.
//!
//! The spec is what PostgreSQL 16 prints: floats in the shortest digits that read back the same (`src/common/d2s.c`),
//! plain while the exponent is at least -4 and below 15 (6 for `float4`), else scientific with at least two digits of
//! exponent; fractions of seconds without the zeros at their end; decimals with every digit of their scale.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion_postgres::pgwire::api::results::{FieldFormat, FieldInfo};
use std::fmt::LowerExp;
use std::sync::Arc;

/// The batch with columns of text for those that PostgreSQL writes in another way than the encoder. Binary columns and
/// columns that a client wants in another style of dates stay as they are.
pub(super) fn worded(batch: RecordBatch, fields: &[FieldInfo]) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch.columns().to_vec();
    let mut schema: Vec<Arc<Field>> = batch.schema_ref().fields().iter().cloned().collect();
    let mut changed = false;
    for ((column, field), info) in columns.iter_mut().zip(&mut schema).zip(fields) {
        if info.format() != FieldFormat::Text {
            continue;
        }
        let options = info.format_options();
        let digits = i32::from(options.extra_float_digits);
        if let Some(words) = words(column, digits, options.date_style.to_uppercase().contains("ISO"))? {
            *column = words;
            *field = Arc::new(Field::new(field.name(), DataType::Utf8, field.is_nullable()));
            changed = true;
        }
    }
    if !changed {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(schema)), columns, &options)
}

fn words(column: &ArrayRef, extra_digits: i32, iso: bool) -> Result<Option<ArrayRef>, ArrowError> {
    Ok(Some(match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter();
            texts(values.map(|value| value.map(|value| float(value, value.is_finite(), 15, extra_digits))))
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().iter();
            texts(values.map(|value| value.map(|value| float(value, value.is_finite(), 6, extra_digits))))
        }
        // Longer ones than the encoder can hold are exact as well.
        DataType::Decimal128(..) | DataType::Decimal256(..) => cast(column, &DataType::Utf8)?,
        DataType::Timestamp(_, zone) if iso => {
            let wanted = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            let values = cast(column, &wanted)?;
            // Times with a zone are shown in UTC, which is what the session says its zone is.
            let suffix = if zone.is_some() { "+00" } else { "" };
            let micros = values.as_primitive::<TimestampMicrosecondType>();
            let shown = |row| micros.value_as_datetime(row).map(|at| format!("{at}{suffix}"));
            let shown: Vec<Option<String>> =
                (0..micros.len()).map(|row| micros.is_valid(row).then(|| shown(row)).flatten()).collect();
            texts(shown.into_iter().map(|text| text.map(|text| without_zeros(&text, suffix))))
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let text = cast(column, &DataType::Utf8)?;
            texts(text.as_string::<i32>().iter().map(|text| text.map(|text| without_zeros(text, ""))))
        }
        _ => return Ok(None),
    }))
}

fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Seconds without the zeros that end their fraction.
fn without_zeros(text: &str, suffix: &str) -> String {
    let Some(time) = text.strip_suffix(suffix).filter(|time| time.contains('.')) else { return text.to_owned() };
    format!("{}{suffix}", time.trim_end_matches('0').trim_end_matches('.'))
}

/// A number whose type has `digits` digits for sure. `extra_digits` is the client's `extra_float_digits`: above zero it
/// means the shortest text that reads back the same, else so many digits more or less.
fn float<T: LowerExp + PartialOrd + Default>(value: T, is_finite: bool, digits: i32, extra_digits: i32) -> String {
    if !is_finite {
        return match value.partial_cmp(&T::default()) {
            None => "NaN",
            Some(std::cmp::Ordering::Less) => "-Infinity",
            Some(_) => "Infinity",
        }
        .to_owned();
    }
    let scientific = if extra_digits > 0 {
        format!("{value:e}")
    } else {
        let after_point = usize::try_from(digits + extra_digits - 1).unwrap_or(0);
        format!("{value:.after_point$e}")
    };
    // Rust writes "-1.25e-7".
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let figures = format!("{whole}{fraction}");
    let figures = figures.trim_end_matches('0');
    let figures = if figures.is_empty() { "0" } else { figures };
    if !(-4..digits).contains(&exponent) {
        let (first, rest) = figures.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs());
    }
    match usize::try_from(exponent) {
        Ok(exponent) if figures.len() <= exponent + 1 => format!("{sign}{figures:0<width$}", width = exponent + 1),
        Ok(exponent) => {
            let (whole, fraction) = figures.split_at(exponent + 1);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{sign}0.{}{figures}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_postgres_writes_them() {
        for (value, expected) in [
            (3.0, "3"),
            (-0.0, "-0"),
            (2.5, "2.5"),
            (1e20, "1e+20"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.25e-7, "-1.25e-07"),
            (1e-300, "1e-300"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float(value, value.is_finite(), 15, 1), expected);
        }
        assert_eq!(float(0.1 + 0.2, true, 15, 0), "0.3");
        assert_eq!(float(1.0 / 3.0, true, 15, -10), "0.33333");
        assert_eq!(float(123_456_f32, true, 6, 1), "123456");
        assert_eq!(float(1_234_567_f32, true, 6, 1), "1.234567e+06");
        assert_eq!(float(0.1_f32, true, 6, 1), "0.1");
    }

    #[test]
    fn fractions_of_seconds_have_no_zeros_at_their_end() {
        assert_eq!(without_zeros("2013-01-01 05:00:00", ""), "2013-01-01 05:00:00");
        assert_eq!(without_zeros("2013-01-01 05:00:00.120+00", "+00"), "2013-01-01 05:00:00.12+00");
        assert_eq!(without_zeros("05:00:00.000", ""), "05:00:00");
    }

    #[test]
    fn only_columns_in_text_are_worded() {
        use datafusion_postgres::pgwire::api::Type;
        let column = || Arc::new(arrow::array::Float64Array::from(vec![Some(3.0), None])) as ArrayRef;
        let batch = RecordBatch::try_from_iter_with_nullable([("a", column(), true), ("b", column(), true)]).unwrap();
        let info = |format| FieldInfo::new("x".into(), None, None, Type::FLOAT8, format);
        let worded = worded(batch, &[info(FieldFormat::Text), info(FieldFormat::Binary)]).unwrap();
        assert_eq!(worded.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("3"), None]);
        assert_eq!(worded.column(1).data_type(), &DataType::Float64);
    }
}
