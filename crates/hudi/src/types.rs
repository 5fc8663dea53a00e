//! A table's columns as the Avro schema that its commits carry.

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use rivermere_table::TableError;
use serde_json::{Value, json};
use std::sync::Arc;

/// The Avro schema of columns. Records inside are named by the columns that they are in, so that no two are the same.
///
/// # Errors
/// For a type that has no equal.
pub(crate) fn avro_schema(table: &str, columns: &Schema) -> Result<String, TableError> {
    let name: String = table.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect();
    let fields = avro_fields(columns.fields(), &format!("hoodie.{name}"))?;
    let of = json!({ "type": "record", "name": format!("{name}_record"), "namespace": "hoodie", "fields": fields });
    Ok(of.to_string())
}

fn avro_fields(fields: &Fields, path: &str) -> Result<Vec<Value>, TableError> {
    let field = |field: &Arc<Field>| {
        let own = avro_type(field, &format!("{path}.{}", clean(field.name())))?;
        let name = field.name();
        let is_name = name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
            && name.chars().next().is_some_and(|char| !char.is_ascii_digit());
        if !is_name {
            return Err(TableError::UnsupportedName {
                column: name.clone(),
                format: "Hudi",
                reason: "names are letters, digits and underscores".to_owned(),
            });
        }
        // "Unions": a default is of the first kind.
        Ok(match field.is_nullable() {
            true => json!({ "name": name, "type": ["null", own], "default": null }),
            false => json!({ "name": name, "type": own }),
        })
    };
    fields.iter().map(field).collect()
}

fn clean(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect()
}

fn avro_type(field: &Field, path: &str) -> Result<Value, TableError> {
    let (namespace, name) = path.rsplit_once('.').unwrap_or(("hoodie", path));
    Ok(match field.data_type() {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
        DataType::Int64 | DataType::UInt32 => json!("long"),
        DataType::UInt64 => decimal(20, 0, namespace, name),
        DataType::Float16 | DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("bytes"),
        DataType::Date32 | DataType::Date64 => json!({ "type": "int", "logicalType": "date" }),
        DataType::Timestamp(_, None) => json!({ "type": "long", "logicalType": "local-timestamp-micros" }),
        DataType::Timestamp(_, Some(_)) => json!({ "type": "long", "logicalType": "timestamp-micros" }),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            decimal(*precision, *scale, namespace, name)
        }
        DataType::List(element) | DataType::LargeList(element) | DataType::ListView(element) => {
            let items = avro_type(element, &format!("{path}.element"))?;
            json!({ "type": "array", "items": ["null", items] })
        }
        DataType::Struct(fields) => {
            json!({ "type": "record", "name": name, "namespace": namespace, "fields": avro_fields(fields, path)? })
        }
        other => {
            return Err(TableError::UnsupportedType {
                column: field.name().clone(),
                data_type: other.to_string(),
                format: "Hudi",
                hint: "cast it to a type that Hudi has",
            });
        }
    })
}

fn decimal(precision: u8, scale: i8, namespace: &str, name: &str) -> Value {
    // The fewest bytes that have all numbers of so many digits.
    let bits = f64::from(precision) * std::f64::consts::LOG2_10 + 1.0;
    let size = (bits / 8.0).ceil();
    json!({
        "type": "fixed", "name": format!("{name}_fixed"), "namespace": namespace, "size": size as u64,
        "logicalType": "decimal", "precision": precision, "scale": scale,
    })
}

/// The table's columns for a view's columns, as they are read back.
///
/// # Errors
/// When a type or a name has no equal in Hudi.
pub fn table_schema(view: &Schema) -> Result<SchemaRef, TableError> {
    let refused = |reason: String| TableError::InvalidSpec { reason };
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = view.fields().iter().find(|field| !seen.insert(field.name().to_lowercase())) {
        return Err(refused(format!("there are two columns '{}'", twice.name())));
    }
    crate::schema::columns(&avro_schema("t", view)?).map_err(refused)
}

/// Whether a type holds every value of another, as Avro reads the one as the other.
pub(crate) fn is_wider(from: &DataType, to: &DataType) -> bool {
    matches!(
        (from, to),
        (DataType::Int32, DataType::Int64 | DataType::Float64)
            | (DataType::Int64, DataType::Float64)
            | (DataType::Float32, DataType::Float64)
    ) && !(matches!(from, DataType::Int64) && matches!(to, DataType::Float64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn columns_are_read_back_as_they_were_made() {
        let of = |name: &str, of: DataType| Field::new(name, of, true);
        let pair = DataType::Struct(Fields::from(vec![of("x", DataType::Int32), of("y", DataType::Decimal128(9, 2))]));
        let made = Schema::new(vec![
            of("a", DataType::Int32),
            of("b", DataType::Decimal128(38, 10)),
            of("c", DataType::Timestamp(TimeUnit::Microsecond, None)),
            of("d", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            of("e", DataType::List(Arc::new(Field::new("item", pair.clone(), true)))),
            of("f", pair),
            of("g", DataType::Date32),
            of("h", DataType::Binary),
        ]);
        assert_eq!(table_schema(&made).unwrap().as_ref(), &made);
        let error = |name: &str, of: DataType| {
            table_schema(&Schema::new(vec![Field::new(name, of, true)])).unwrap_err().to_string()
        };
        assert!(error("a b", DataType::Int32).starts_with("RM-5005"));
        assert!(error("t", DataType::Time64(TimeUnit::Microsecond)).starts_with("RM-5004"));
    }
}
