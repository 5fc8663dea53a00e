//! Columns in the words of Hive, for engines that look at no more than a metastore has.

use arrow::datatypes::{DataType, Schema};
use rivermere_store::MetastoreColumn;

/// The columns of a table. What Hive has no type for is called by the nearest one that holds it.
pub fn metastore_columns(schema: &Schema) -> Vec<MetastoreColumn> {
    let column = |field: &arrow::datatypes::FieldRef| MetastoreColumn {
        name: field.name().clone(),
        hive_type: hive_type(field.data_type()),
    };
    schema.fields().iter().map(column).collect()
}

fn hive_type(of: &DataType) -> String {
    match of {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "int".into(),
        DataType::Int64 | DataType::UInt32 | DataType::Time64(_) => "bigint".into(),
        DataType::UInt64 => "decimal(20,0)".into(),
        DataType::Float16 | DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".into()
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("array<{}>", hive_type(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|field| format!("{}:{}", field.name(), hive_type(field.data_type()))).collect();
            format!("struct<{}>", fields.join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                format!("map<{},{}>", hive_type(entry[0].data_type()), hive_type(entry[1].data_type()))
            }
            _ => "string".into(),
        },
        DataType::Dictionary(_, value) => hive_type(value),
        _ => "string".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Fields};
    use std::sync::Arc;

    #[test]
    fn types_are_called_as_hive_calls_them() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Decimal128(10, 2), true)));
        let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", list, true)]);
        assert_eq!(hive_type(&DataType::Struct(fields)), "struct<a:int,b:array<decimal(10,2)>>");
        let entry = Fields::from(vec![Field::new("k", DataType::Utf8, false), Field::new("v", DataType::Date32, true)]);
        let entries = Field::new("entries", DataType::Struct(entry), false);
        assert_eq!(hive_type(&DataType::Map(Arc::new(entries), false)), "map<string,date>");
    }
}
