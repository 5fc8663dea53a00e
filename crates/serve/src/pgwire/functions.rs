//! Functions of `pg_catalog` that clients call and datafusion-pg-catalog has not.
//!
//! Most say the same of every object here: everything is visible, nothing has a comment, sizes are not known. They take
//! any arguments, because clients call them in several shapes.

use super::local;
use arrow::array::{Array, AsArray, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

/// Whether an object can be named without its schema: there is one schema.
const VISIBLE: [&str; 12] = [
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
    "pg_type_is_visible",
];

/// Texts about objects that do not exist here or have no text.
const UNTOLD: [&str; 17] = [
    "col_description",
    "obj_description",
    "pg_describe_object",
    "pg_get_function_arg_default",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_partition_constraintdef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef",
    "pg_get_triggerdef",
    "pg_tablespace_location",
    "shobj_description",
];

/// Sizes on disk: state and rows are no files of one relation.
const UNMEASURED: [&str; 4] = ["pg_database_size", "pg_indexes_size", "pg_table_size", "pg_tablespace_size"];

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    let same = |name: &'static str, value: ScalarValue| ScalarUDF::from(Same::new(name, value));
    let mut functions = vec![
        same("pg_char_to_encoding", ScalarValue::Int32(Some(UTF8))),
        same("getdatabaseencoding", ScalarValue::from("UTF8")),
        same("pg_is_in_recovery", ScalarValue::Boolean(Some(false))),
        same("pg_is_other_temp_schema", ScalarValue::Boolean(Some(false))),
        same("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        same("version", ScalarValue::from(format!("PostgreSQL {}", local::server_version()))),
        same("_pg_expandarray", expanded_array()),
        ScalarUDF::from(SizePretty { signature: Signature::exact(vec![DataType::Int64], Volatility::Immutable) }),
        ScalarUDF::from(CurrentSetting::default()),
        ScalarUDF::from(Format { signature: Signature::variadic_any(Volatility::Immutable) }),
    ];
    functions.extend(VISIBLE.map(|name| same(name, ScalarValue::Boolean(Some(true)))));
    functions.extend(UNTOLD.map(|name| same(name, ScalarValue::Utf8(None))));
    functions.extend(UNMEASURED.map(|name| same(name, ScalarValue::Int64(None))));
    functions
}

/// A row of `information_schema._pg_expandarray`: clients take keys of indexes apart with it, and there are none.
fn expanded_array() -> ScalarValue {
    let fields = Fields::from(vec![Field::new("x", DataType::Int16, true), Field::new("n", DataType::Int32, true)]);
    ScalarValue::Struct(Arc::new(StructArray::new_null(fields, 1)))
}

/// PostgreSQL's number of the encoding UTF8.
const UTF8: i32 = 6;

/// A function whose answer does not depend on its arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Same {
    fn new(name: &'static str, value: ScalarValue) -> Self {
        let any = TypeSignature::OneOf(vec![TypeSignature::VariadicAny, TypeSignature::Nullary]);
        Self { name, value, signature: Signature::new(any, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Same {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `pg_size_pretty(bytes)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SizePretty {
    signature: Signature,
}

impl ScalarUDFImpl for SizePretty {
    fn name(&self) -> &str {
        "pg_size_pretty"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [bytes] = args.args.as_slice() else { return wrong_arguments(self.name()) };
        let bytes = cast(&bytes.to_array(args.number_rows)?, &DataType::Int64)?;
        let texts = bytes.as_primitive::<Int64Type>().iter().map(|bytes| bytes.map(size_pretty));
        Ok(ColumnarValue::Array(Arc::new(texts.collect::<StringArray>())))
    }
}

/// In the largest unit that leaves at least ten of it, as PostgreSQL does.
fn size_pretty(bytes: i64) -> String {
    let mut size = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if size.abs() < 10 * 1024 {
            return format!("{size} {unit}");
        }
        // Halves are rounded away from zero.
        size = size.saturating_add(size.signum() * 512) / 1024;
    }
    format!("{size} TB")
}

/// `current_setting(name [, missing_ok])`: what a connection starts with.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

impl Default for CurrentSetting {
    fn default() -> Self {
        let shapes = vec![
            TypeSignature::Exact(vec![DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
        ];
        Self { signature: Signature::one_of(shapes, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let missing_ok = matches!(args.args.get(1), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
        let Some(names) = args.args.first() else { return wrong_arguments(self.name()) };
        let names = cast(&names.to_array(args.number_rows)?, &DataType::Utf8)?;
        let value = |name: Option<&str>| match name.map(|name| (name, local::start_value(&name.to_lowercase()))) {
            Some((name, None)) if !missing_ok => {
                Err(DataFusionError::Execution(format!("unrecognized configuration parameter \"{name}\"")))
            }
            found => Ok(found.and_then(|(_, value)| value)),
        };
        let texts = names.as_string::<i32>().iter().map(value).collect::<Result<StringArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(texts)))
    }
}

/// `format(text, …)`: `%s` is the next value as it is, `%I` as a name, `%L` as a literal, `%%` a percent sign.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Format {
    signature: Signature,
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = args.args.iter().map(|value| {
            let array = cast(&value.to_array(args.number_rows)?, &DataType::Utf8)?;
            Ok(array.as_string::<i32>().clone())
        });
        let texts = texts.collect::<Result<Vec<StringArray>>>()?;
        let Some((formats, values)) = texts.split_first() else { return wrong_arguments(self.name()) };
        let row = |(row, format): (usize, Option<&str>)| {
            let mut values = values.iter().map(|column| column.is_valid(row).then(|| column.value(row)));
            format.map(|format| formatted(format, &mut values)).transpose()
        };
        let texts = formats.iter().enumerate().map(row).collect::<Result<StringArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(texts)))
    }
}

fn formatted<'a>(format: &str, values: &mut impl Iterator<Item = Option<&'a str>>) -> Result<String> {
    let wrong = |what: &str| Err(DataFusionError::Execution(format!("format(): {what}")));
    let mut text = String::with_capacity(format.len());
    let mut parts = format.split('%');
    text.push_str(parts.next().unwrap_or_default());
    while let Some(part) = parts.next() {
        let mut rest = part.chars();
        match rest.next() {
            Some(kind @ ('s' | 'I' | 'L')) => {
                let Some(value) = values.next() else { return wrong("too few arguments") };
                match (kind, value) {
                    ('s', value) => text.push_str(value.unwrap_or_default()),
                    ('I', Some(value)) => text.push_str(&as_name(value)),
                    ('I', None) => return wrong("null values cannot be formatted as an SQL identifier"),
                    (_, Some(value)) => text.push_str(&format!("'{}'", value.replace('\'', "''"))),
                    (_, None) => text.push_str("NULL"),
                }
                text.push_str(rest.as_str());
            }
            // `%%` left an empty part between its two signs.
            None => {
                text.push('%');
                text.push_str(parts.next().unwrap_or_default());
            }
            Some(other) => return wrong(&format!("unrecognized conversion specifier \"{other}\"")),
        }
    }
    Ok(text)
}

/// In quotes where it needs them.
fn as_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn wrong_arguments<T>(function: &str) -> Result<T> {
    Err(DataFusionError::Plan(format!("{function} was called with other arguments")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_formatted_as_postgres_formats_them() {
        let check = |format: &str, values: &[Option<&str>]| {
            formatted(format, &mut values.iter().copied()).map_err(|error| error.to_string())
        };
        assert_eq!(
            check("%s.%I = %L, 5%%", &[Some("a"), Some("b C"), Some("it's")]).unwrap(),
            "a.\"b C\" = 'it''s', 5%"
        );
        assert_eq!(check("%I %s %L", &[Some("plain_1"), None, None]).unwrap(), "plain_1  NULL");
        assert!(check("%s", &[]).unwrap_err().contains("too few arguments"));
        assert!(check("%d", &[Some("1")]).unwrap_err().contains("\"d\""));
    }

    #[test]
    fn sizes_are_told_as_postgres_tells_them() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (-10_240, "-10 kB"),
            (1 << 30, "1024 MB"),
            (i64::MAX, "8388608 TB"),
        ] {
            assert_eq!(size_pretty(bytes), expected);
        }
    }
}
