//! Types and values of Iceberg, as Arrow has them.
//!
//! Iceberg spec, "Schemas and Data Types" and "Appendix D: Single-value serialization".

use arrow::array::{ArrayRef, FixedSizeBinaryArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use iceberg::spec::{
    Datum, ListType, Literal, MapType, NestedField, NestedFieldRef, PrimitiveLiteral, PrimitiveType,
    Schema as IcebergSchema, StructType, Type,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

const UTC: &str = "UTC";

/// Columns of a table, without ids: what plans see. A file may lack a column that the table requires, so nothing is promised
/// about nulls.
pub(crate) fn columns(schema: &IcebergSchema) -> SchemaRef {
    let fields = schema.as_struct().fields().iter().map(|field| inside(field, false));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A column; with its ids and those inside it where a Parquet file is written.
pub(crate) fn arrow_field(field: &NestedField, with_ids: bool) -> FieldRef {
    let plain = Field::new(&field.name, arrow_type(&field.field_type, with_ids), !field.required);
    Arc::new(match with_ids {
        true => plain.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), field.id.to_string())])),
        false => plain,
    })
}

/// A part of a column. Whoever reads may meet nulls in it that the table does not have any more.
fn inside(field: &NestedField, with_ids: bool) -> FieldRef {
    let field = arrow_field(field, with_ids);
    if with_ids { field } else { Arc::new(field.as_ref().clone().with_nullable(true)) }
}

pub(crate) fn arrow_type(data_type: &Type, with_ids: bool) -> DataType {
    match data_type {
        Type::Primitive(primitive) => primitive_type(primitive),
        Type::Struct(fields) => {
            DataType::Struct(fields.fields().iter().map(|field| inside(field, with_ids)).collect::<Fields>())
        }
        Type::List(list) => DataType::List(inside(&list.element_field, with_ids)),
        Type::Map(map) => {
            let entry = [arrow_field(&map.key_field, with_ids), inside(&map.value_field, with_ids)];
            let entries = Field::new("key_value", DataType::Struct(entry.into_iter().collect()), false);
            DataType::Map(Arc::new(entries), false)
        }
    }
}

fn primitive_type(primitive: &PrimitiveType) -> DataType {
    let utc = || Some(Arc::from(UTC));
    match primitive {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => {
            DataType::Decimal128(u8::try_from(*precision).unwrap_or(38), i8::try_from(*scale).unwrap_or(0))
        }
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        PrimitiveType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        PrimitiveType::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
        PrimitiveType::TimestamptzNs => DataType::Timestamp(TimeUnit::Nanosecond, utc()),
        // As people write it; files have its sixteen bytes.
        PrimitiveType::String | PrimitiveType::Uuid => DataType::Utf8,
        PrimitiveType::Fixed(_) | PrimitiveType::Binary => DataType::Binary,
    }
}

/// Sixteen bytes each as the text of a UUID.
pub(crate) fn uuid_text(bytes: &FixedSizeBinaryArray) -> ArrayRef {
    let text = bytes.iter().map(|bytes| Some(Uuid::from_slice(bytes?).ok()?.hyphenated().to_string()));
    Arc::new(text.collect::<arrow::array::StringArray>())
}

/// A single value in the bytes that bounds and old partition values have (Appendix D); nothing when they are not of it.
/// A bound may be of the type that the column had when its file was written.
pub(crate) fn from_bytes(bytes: &[u8], of: &PrimitiveType) -> Option<ScalarValue> {
    let four = || bytes.try_into().ok().map(i32::from_le_bytes);
    let eight = || bytes.try_into().ok().map(i64::from_le_bytes);
    let utc = || Some(Arc::from(UTC));
    Some(match of {
        PrimitiveType::Boolean => ScalarValue::Boolean(Some(*bytes.first()? != 0)),
        PrimitiveType::Int => ScalarValue::Int32(Some(four()?)),
        PrimitiveType::Long => ScalarValue::Int64(Some(four().map(i64::from).or_else(eight)?)),
        PrimitiveType::Float => ScalarValue::Float32(Some(f32::from_le_bytes(bytes.try_into().ok()?))),
        PrimitiveType::Double => {
            let single = || bytes.try_into().ok().map(|bytes| f64::from(f32::from_le_bytes(bytes)));
            ScalarValue::Float64(Some(single().or_else(|| bytes.try_into().ok().map(f64::from_le_bytes))?))
        }
        PrimitiveType::Decimal { precision, scale } => decimal(big_endian(bytes)?, *precision, *scale),
        PrimitiveType::Date => ScalarValue::Date32(Some(four()?)),
        PrimitiveType::Time => ScalarValue::Time64Microsecond(Some(eight()?)),
        PrimitiveType::Timestamp => ScalarValue::TimestampMicrosecond(Some(eight()?), None),
        PrimitiveType::Timestamptz => ScalarValue::TimestampMicrosecond(Some(eight()?), utc()),
        PrimitiveType::TimestampNs => ScalarValue::TimestampNanosecond(Some(eight()?), None),
        PrimitiveType::TimestamptzNs => ScalarValue::TimestampNanosecond(Some(eight()?), utc()),
        PrimitiveType::String => ScalarValue::Utf8(Some(std::str::from_utf8(bytes).ok()?.to_owned())),
        PrimitiveType::Uuid => ScalarValue::Utf8(Some(Uuid::from_slice(bytes).ok()?.hyphenated().to_string())),
        PrimitiveType::Fixed(_) | PrimitiveType::Binary => ScalarValue::Binary(Some(bytes.to_vec())),
    })
}

/// A value as [`from_bytes`] reads it; nothing for null.
pub(crate) fn to_bytes(value: &ScalarValue, of: &PrimitiveType) -> Option<Vec<u8>> {
    let value = value.cast_to(&primitive_type(of)).ok()?;
    Some(match value {
        ScalarValue::Boolean(value) => vec![u8::from(value?)],
        ScalarValue::Int32(value) | ScalarValue::Date32(value) => value?.to_le_bytes().to_vec(),
        ScalarValue::Int64(value)
        | ScalarValue::Time64Microsecond(value)
        | ScalarValue::TimestampMicrosecond(value, _)
        | ScalarValue::TimestampNanosecond(value, _) => value?.to_le_bytes().to_vec(),
        ScalarValue::Float32(value) => value?.to_le_bytes().to_vec(),
        ScalarValue::Float64(value) => value?.to_le_bytes().to_vec(),
        ScalarValue::Decimal128(value, ..) => {
            let whole = value?.to_be_bytes();
            // Without the bytes that say nothing more than the sign.
            let sign = if whole[0] & 0x80 == 0 { 0 } else { 0xff };
            let same = |at: usize| {
                whole.get(at) == Some(&sign) && whole.get(at + 1).is_some_and(|next| next & 0x80 == sign & 0x80)
            };
            let first = (0..15).find(|at| !same(*at)).unwrap_or(15);
            whole.get(first..)?.to_vec()
        }
        ScalarValue::Utf8(value) if *of == PrimitiveType::Uuid => Uuid::parse_str(&value?).ok()?.as_bytes().to_vec(),
        ScalarValue::Utf8(value) => value?.into_bytes(),
        ScalarValue::Binary(value) => value?,
        _ => return None,
    })
}

/// A value as the library has it; nothing for null.
pub(crate) fn datum(value: &ScalarValue, of: &PrimitiveType) -> Result<Option<Datum>, iceberg::Error> {
    to_bytes(value, of).map(|bytes| Datum::try_from_bytes(&bytes, of.clone())).transpose()
}

/// The same inside a record.
pub(crate) fn literal(value: &ScalarValue, of: &PrimitiveType) -> Result<Option<Literal>, iceberg::Error> {
    Ok(datum(value, of)?.map(Literal::from))
}

/// The type of a column that is made; nothing where Iceberg has none.
pub(crate) fn iceberg_type(data_type: &DataType, next_id: &mut i32) -> Option<Type> {
    let mut id = || {
        *next_id += 1;
        *next_id
    };
    let primitive = |primitive: PrimitiveType| Some(Type::Primitive(primitive));
    match data_type {
        DataType::Boolean => primitive(PrimitiveType::Boolean),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            primitive(PrimitiveType::Int)
        }
        DataType::Int64 | DataType::UInt32 => primitive(PrimitiveType::Long),
        DataType::UInt64 => primitive(PrimitiveType::Decimal { precision: 20, scale: 0 }),
        DataType::Float16 | DataType::Float32 => primitive(PrimitiveType::Float),
        DataType::Float64 => primitive(PrimitiveType::Double),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            let scale = u32::try_from(*scale).ok()?;
            primitive(PrimitiveType::Decimal { precision: u32::from(*precision), scale })
        }
        DataType::Date32 | DataType::Date64 => primitive(PrimitiveType::Date),
        DataType::Time32(_) | DataType::Time64(_) => primitive(PrimitiveType::Time),
        DataType::Timestamp(_, None) => primitive(PrimitiveType::Timestamp),
        DataType::Timestamp(_, Some(_)) => primitive(PrimitiveType::Timestamptz),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => primitive(PrimitiveType::String),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            primitive(PrimitiveType::Binary)
        }
        DataType::Dictionary(_, values) => iceberg_type(values, next_id),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            let own = id();
            let element = iceberg_type(element.data_type(), next_id)?;
            Some(Type::List(ListType { element_field: NestedField::list_element(own, element, false).into() }))
        }
        DataType::Struct(fields) => {
            let mut inside: Vec<NestedFieldRef> = vec![];
            for field in fields {
                let own = {
                    *next_id += 1;
                    *next_id
                };
                inside.push(NestedField::optional(own, field.name(), iceberg_type(field.data_type(), next_id)?).into());
            }
            Some(Type::Struct(StructType::new(inside)))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let [key, value] = pair.as_ref() else { return None };
            let (key_id, value_id) = (id(), id());
            let key = iceberg_type(key.data_type(), next_id)?;
            let value = iceberg_type(value.data_type(), next_id)?;
            Some(Type::Map(MapType {
                key_field: NestedField::map_key_element(key_id, key).into(),
                value_field: NestedField::map_value_element(value_id, value, false).into(),
            }))
        }
        _ => None,
    }
}

pub(crate) fn decimal(value: i128, precision: u32, scale: u32) -> ScalarValue {
    ScalarValue::Decimal128(Some(value), u8::try_from(precision).unwrap_or(38), i8::try_from(scale).unwrap_or(0))
}

/// Two's complement, as short as it may be.
pub(crate) fn big_endian(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [sign; 16];
    whole.get_mut(16_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

/// A default of a column; nothing for what is not a single value.
pub(crate) fn from_literal(literal: &Literal, of: &Type) -> Option<ScalarValue> {
    let (Literal::Primitive(value), Type::Primitive(of)) = (literal, of) else { return None };
    let utc = || Some(Arc::from(UTC));
    Some(match (value, of) {
        (PrimitiveLiteral::Boolean(value), _) => ScalarValue::Boolean(Some(*value)),
        (PrimitiveLiteral::Int(value), PrimitiveType::Date) => ScalarValue::Date32(Some(*value)),
        (PrimitiveLiteral::Int(value), PrimitiveType::Long) => ScalarValue::Int64(Some(i64::from(*value))),
        (PrimitiveLiteral::Int(value), _) => ScalarValue::Int32(Some(*value)),
        (PrimitiveLiteral::Long(value), PrimitiveType::Time) => ScalarValue::Time64Microsecond(Some(*value)),
        (PrimitiveLiteral::Long(value), PrimitiveType::Timestamp) => {
            ScalarValue::TimestampMicrosecond(Some(*value), None)
        }
        (PrimitiveLiteral::Long(value), PrimitiveType::Timestamptz) => {
            ScalarValue::TimestampMicrosecond(Some(*value), utc())
        }
        (PrimitiveLiteral::Long(value), PrimitiveType::TimestampNs) => {
            ScalarValue::TimestampNanosecond(Some(*value), None)
        }
        (PrimitiveLiteral::Long(value), PrimitiveType::TimestamptzNs) => {
            ScalarValue::TimestampNanosecond(Some(*value), utc())
        }
        (PrimitiveLiteral::Long(value), _) => ScalarValue::Int64(Some(*value)),
        (PrimitiveLiteral::Float(value), PrimitiveType::Double) => ScalarValue::Float64(Some(f64::from(value.0))),
        (PrimitiveLiteral::Float(value), _) => ScalarValue::Float32(Some(value.0)),
        (PrimitiveLiteral::Double(value), _) => ScalarValue::Float64(Some(value.0)),
        (PrimitiveLiteral::String(value), _) => ScalarValue::Utf8(Some(value.clone())),
        (PrimitiveLiteral::Binary(value), _) => ScalarValue::Binary(Some(value.clone())),
        (PrimitiveLiteral::Int128(value), PrimitiveType::Decimal { precision, scale }) => {
            decimal(*value, *precision, *scale)
        }
        (PrimitiveLiteral::UInt128(value), _) => {
            ScalarValue::Utf8(Some(Uuid::from_u128(*value).hyphenated().to_string()))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_bounds_are_values_also_of_the_narrower_type_that_a_column_had() {
        assert_eq!(from_bytes(&[5, 0, 0, 0], &PrimitiveType::Long), Some(ScalarValue::Int64(Some(5))));
        assert_eq!(from_bytes(&1.5_f32.to_le_bytes(), &PrimitiveType::Double), Some(ScalarValue::Float64(Some(1.5))));
        let of = PrimitiveType::Decimal { precision: 9, scale: 2 };
        assert_eq!(from_bytes(&[0xff, 0x38], &of), Some(ScalarValue::Decimal128(Some(-200), 9, 2)));
        for (value, bytes) in
            [(-200, vec![0xff, 0x38]), (127, vec![0x7f]), (128, vec![0, 0x80]), (0, vec![0]), (-1, vec![0xff])]
        {
            assert_eq!(to_bytes(&ScalarValue::Decimal128(Some(value), 9, 2), &of), Some(bytes.clone()));
            assert_eq!(from_bytes(&bytes, &of), Some(ScalarValue::Decimal128(Some(value), 9, 2)));
        }
        assert_eq!(from_bytes(&[1, 2, 3], &PrimitiveType::Int), None);
        assert_eq!(big_endian(&[0; 17]), None);
    }
}
