//! Arrow columns as Delta columns, and batches of a view as batches of its table.
//!
//! Types: PROTOCOL.md, "Schema Serialization Format". Delta knows signed integers, one time unit (microseconds), and one
//! text, one binary and one list type, so several Arrow types meet in one Delta type. A type is only ever widened; what
//! would lose information is refused with the way out.

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{StructField, StructType};
use rivermere_table::TableError;
use std::sync::Arc;

/// Digits that hold any unsigned 64-bit integer.
const UINT64_DIGITS: u8 = 20;
/// Digits of the widest decimal of the format.
const MAX_DIGITS: u8 = 38;

/// The table's columns for a view's columns.
///
/// NOT NULL is kept for whole columns, where every batch is checked when it is written. Inside lists, maps and structs
/// all is nullable: engines disagree on how to read required fields there.
///
/// # Errors
/// When a type has no equal in Delta or a name is not allowed.
pub fn table_schema(view: &Schema) -> Result<SchemaRef, TableError> {
    let mut seen = std::collections::HashSet::new();
    let mut fields = Vec::with_capacity(view.fields().len());
    for field in view.fields() {
        check_name(field.name())?;
        if !seen.insert(field.name().to_lowercase()) {
            return Err(bad_name(field.name(), "names that differ only in case are equal"));
        }
        let data_type = table_type(field.name(), field.data_type())?;
        fields.push(Field::new(field.name(), data_type, field.is_nullable()));
    }
    if fields.is_empty() {
        return Err(TableError::InvalidSpec { reason: "a table needs at least one column".to_string() });
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns in the words of the library; `schema` is of [`table_schema`].
pub(crate) fn delta_columns(schema: &Schema) -> Result<Vec<StructField>, TableError> {
    let columns: StructType = schema.try_into_kernel().map_err(|error: ArrowError| TableError::InvalidSpec {
        reason: format!("the columns cannot be written as a Delta schema: {error}"),
    })?;
    Ok(columns.into_fields().collect())
}

fn table_type(column: &str, data_type: &DataType) -> Result<DataType, TableError> {
    let refuse = |hint| {
        Err(TableError::UnsupportedType {
            column: column.to_string(),
            data_type: data_type.to_string(),
            format: "Delta",
            hint,
        })
    };
    let inner = |field: &FieldRef, name: &str| -> Result<FieldRef, TableError> {
        let data_type = table_type(&format!("{column}.{}", field.name()), field.data_type())?;
        Ok(Arc::new(Field::new(name, data_type, true)))
    };
    Ok(match data_type {
        DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => data_type.clone(),
        DataType::Float32 | DataType::Float64 | DataType::Date32 => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(UINT64_DIGITS, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale)
        | DataType::Decimal256(digits, scale) => match decimal(*digits, *scale) {
            Some(decimal) => decimal,
            None => return refuse("decimals have at most 38 digits there; use CAST(... AS DECIMAL(38, s))"),
        },
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Dictionary(_, values) => table_type(column, values)?,
        DataType::RunEndEncoded(_, values) => table_type(column, values.data_type())?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(inner(item, "element")?),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| {
                check_name(field.name())?;
                inner(field, field.name())
            });
            DataType::Struct(fields.collect::<Result<Vec<_>, _>>()?.into())
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return refuse("the map has no key and value");
            };
            let [key, value] = pair.as_ref() else {
                return refuse("the map has no key and value");
            };
            // The one nested field that cannot be null in any format.
            let key = Field::new("key", table_type(column, key.data_type())?, false);
            let pair = vec![Arc::new(key), inner(value, "value")?];
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
        }
        DataType::Null => return refuse("give the null a type, for example CAST(NULL AS VARCHAR)"),
        DataType::Time32(_) | DataType::Time64(_) => return refuse("store it as text with CAST(... AS VARCHAR)"),
        DataType::Duration(_) | DataType::Interval(_) => {
            return refuse("store a number, for example EXTRACT(EPOCH FROM ...)");
        }
        DataType::Union(_, _) => return refuse("select its parts as columns of their own"),
    })
}

fn decimal(digits: u8, scale: i8) -> Option<DataType> {
    // A negative scale counts zeros before the point; Delta writes them out.
    let (digits, scale) = match u8::try_from(scale) {
        Ok(_) => (digits, scale),
        Err(_) => (digits.checked_add(scale.unsigned_abs())?, 0),
    };
    (digits <= MAX_DIGITS).then_some(DataType::Decimal128(digits, scale))
}

/// Without column mapping a name is also a Parquet field name, and Spark refuses these characters there.
fn check_name(name: &str) -> Result<(), TableError> {
    if name.is_empty() {
        return Err(bad_name(name, "it is empty"));
    }
    if name.chars().any(|c| " ,;{}()\n\t=".contains(c)) {
        return Err(bad_name(name, "one of the characters ' ,;{}()=', tab or line end"));
    }
    Ok(())
}

fn bad_name(column: &str, reason: &str) -> TableError {
    TableError::UnsupportedName { column: column.to_string(), format: "Delta", reason: reason.to_string() }
}

/// Turns batches of a view into batches of its table.
#[derive(Clone, Debug)]
pub(crate) struct Conform {
    /// Columns of the table.
    table: SchemaRef,
    /// For each column of the table, the column of the view; `None` is filled with nulls.
    columns: Vec<Option<usize>>,
    location: Arc<str>,
}

impl Conform {
    /// # Errors
    /// When the table lacks a column of the view, has it with another type, or needs one that the view lacks.
    pub(crate) fn new(view: &Schema, table: SchemaRef, location: &str) -> Result<Self, TableError> {
        let mismatch = |reason: String| TableError::SchemaMismatch { location: location.to_string(), reason };
        let wanted = table_schema(view)?;
        for field in wanted.fields() {
            let Ok(found) = table.field_with_name(field.name()) else {
                return Err(mismatch(format!("column '{}' of the view is not in the table", field.name())));
            };
            if !same_type(found.data_type(), field.data_type()) {
                return Err(mismatch(format!(
                    "column '{}' is {} in the table and {} in the view",
                    field.name(),
                    found.data_type(),
                    field.data_type()
                )));
            }
        }
        let mut columns = Vec::with_capacity(table.fields().len());
        for field in table.fields() {
            let column = view.index_of(field.name()).ok();
            if column.is_none() && !field.is_nullable() {
                return Err(mismatch(format!(
                    "column '{}' of the table is NOT NULL but not in the view",
                    field.name()
                )));
            }
            columns.push(column);
        }
        Ok(Self { table, columns, location: location.into() })
    }

    pub(crate) fn table(&self) -> &SchemaRef {
        &self.table
    }

    /// # Errors
    /// When a value does not fit (a nanosecond timestamp out of range, a null in a NOT NULL column).
    pub(crate) fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (field, column) in self.table.fields().iter().zip(&self.columns) {
            let column = match column {
                Some(index) => cast(batch.column(*index), field.data_type())
                    .map_err(|error| self.value_error(field.name(), error))?,
                None => new_null_array(field.data_type(), batch.num_rows()),
            };
            columns.push(column);
        }
        RecordBatch::try_new(self.table.clone(), columns).map_err(|error| self.value_error("", error))
    }

    pub(crate) fn value_error(&self, column: &str, source: ArrowError) -> TableError {
        let what = if column.is_empty() { "a row".to_string() } else { format!("a value of column '{column}'") };
        TableError::Value { what, location: self.location.to_string(), source }
    }
}

pub(crate) fn cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    // A value out of range is an error, never a silent null.
    cast_with_options(column, to, &CastOptions { safe: false, format_options: FormatOptions::default() })
}

/// A batch with the columns of `schema`, in their order; what comes after them is left out.
pub(crate) fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<Vec<_>, _>>()?)
}

/// Equal but for names and nullability inside lists, maps and structs, and for how a time zone is spelled.
fn same_type(left: &DataType, right: &DataType) -> bool {
    match (left, right) {
        (DataType::Timestamp(left, left_zone), DataType::Timestamp(right, right_zone)) => {
            left == right && left_zone.is_some() == right_zone.is_some()
        }
        (DataType::List(left), DataType::List(right)) => same_type(left.data_type(), right.data_type()),
        (DataType::Map(left, _), DataType::Map(right, _)) => match (left.data_type(), right.data_type()) {
            (DataType::Struct(left), DataType::Struct(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| same_type(left.data_type(), right.data_type()))
            }
            _ => false,
        },
        (DataType::Struct(left), DataType::Struct(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.name() == right.name() && same_type(left.data_type(), right.data_type()))
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::IntervalUnit;

    fn check(from: DataType, to: Option<DataType>) {
        let view = Schema::new(vec![Field::new("c", from.clone(), true)]);
        let found = table_schema(&view).ok().map(|schema| schema.field(0).data_type().clone());
        assert_eq!(found, to, "{from}");
    }

    fn list(item: DataType, nullable: bool, name: &str) -> FieldRef {
        Arc::new(Field::new(name, item, nullable))
    }

    #[test]
    fn every_type_is_kept_widened_or_refused() {
        use DataType::*;
        for same in [Boolean, Int8, Int16, Int32, Int64, Float32, Float64, Date32, Utf8, Binary] {
            check(same.clone(), Some(same));
        }
        check(UInt8, Some(Int16));
        check(UInt16, Some(Int32));
        check(UInt32, Some(Int64));
        check(UInt64, Some(Decimal128(20, 0)));
        check(Float16, Some(Float32));
        check(Utf8View, Some(Utf8));
        check(LargeUtf8, Some(Utf8));
        check(BinaryView, Some(Binary));
        check(FixedSizeBinary(16), Some(Binary));
        check(Date64, Some(Date32));
        check(Decimal32(7, 2), Some(Decimal128(7, 2)));
        check(Decimal128(10, -2), Some(Decimal128(12, 0)));
        check(Decimal256(38, 10), Some(Decimal128(38, 10)));
        check(Decimal256(39, 0), None);
        check(Timestamp(TimeUnit::Nanosecond, None), Some(Timestamp(TimeUnit::Microsecond, None)));
        check(
            Timestamp(TimeUnit::Millisecond, Some("Europe/Zurich".into())),
            Some(Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        );
        check(Dictionary(Box::new(Int32), Box::new(Utf8)), Some(Utf8));
        check(List(list(UInt8, false, "item")), Some(List(list(Int16, true, "element"))));
        check(LargeList(list(Utf8View, true, "item")), Some(List(list(Utf8, true, "element"))));
        check(
            Struct(vec![Field::new("a", UInt16, false)].into()),
            Some(Struct(vec![Field::new("a", Int32, true)].into())),
        );
        for refused in [
            Null,
            Time32(TimeUnit::Second),
            Time64(TimeUnit::Nanosecond),
            Duration(TimeUnit::Second),
            Interval(IntervalUnit::MonthDayNano),
            List(list(Time64(TimeUnit::Nanosecond), true, "item")),
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn names_that_parquet_or_spark_refuse_ask_for_an_alias() {
        for name in ["count(*)", "a b", "", "x=1"] {
            let view = Schema::new(vec![Field::new(name, DataType::Int64, true)]);
            assert!(matches!(table_schema(&view), Err(TableError::UnsupportedName { .. })), "{name}");
        }
        let twice = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("A", DataType::Int64, true)]);
        assert!(table_schema(&twice).is_err());
    }

    #[test]
    fn values_are_widened_and_never_nulled() {
        let view = Schema::new(vec![
            Field::new("n", DataType::UInt64, false),
            Field::new("t", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
        ]);
        let conform = Conform::new(&view, table_schema(&view).unwrap(), "t").unwrap();
        let batch = RecordBatch::try_new(
            Arc::new(view),
            vec![
                Arc::new(UInt64Array::from(vec![u64::MAX])),
                Arc::new(TimestampNanosecondArray::from(vec![Some(1_999)])),
            ],
        )
        .unwrap();
        let rows = conform.rows(&batch).unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&[rows]).unwrap().to_string();
        assert!(shown.contains("18446744073709551615") && shown.contains("1970-01-01T00:00:00.000001"), "{shown}");
    }

    #[test]
    fn a_table_may_have_more_nullable_columns_but_no_other_types() {
        let view = Schema::new(vec![Field::new("a", DataType::Int64, true)]);
        let wider = Schema::new(vec![Field::new("b", DataType::Utf8, true), Field::new("a", DataType::Int64, true)]);
        assert!(Conform::new(&view, Arc::new(wider), "t").is_ok());
        for table in [
            Schema::new(vec![Field::new("a", DataType::Utf8, true)]),
            Schema::new(vec![Field::new("b", DataType::Int64, true)]),
            Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, false)]),
        ] {
            assert!(matches!(Conform::new(&view, Arc::new(table), "t"), Err(TableError::SchemaMismatch { .. })));
        }
    }
}
