//! Tables of the acceptance data, and what they are expected to hold, as the catalogues write it. Other formats' tests use it, too.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The folder of one format's data, if there is any here.
pub fn data(format: &str) -> Option<PathBuf> {
    let data = std::env::var_os("RIVERMERE_ACCEPTANCE").filter(|data| !data.is_empty());
    if data.is_none() {
        println!("skipped: RIVERMERE_ACCEPTANCE is not set");
    }
    data.map(|data| PathBuf::from(data).join(format))
}

/// An archive of the data: a compressed tar, or a zip.
pub fn unpack(archive: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let done = if archive.extension().is_some_and(|extension| extension == "zip") {
        let mut python = Command::new("python3");
        python.args(["-m", "zipfile", "-e"]).arg(archive).arg(folder.path()).output().unwrap()
    } else {
        let tar = folder.path().join("archive.tar");
        zstd::stream::copy_decode(std::fs::File::open(archive).unwrap(), std::fs::File::create(&tar).unwrap()).unwrap();
        Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(folder.path()).output().unwrap()
    };
    assert!(done.status.success(), "{}: {}", archive.display(), String::from_utf8_lossy(&done.stderr));
    folder
}

pub fn same(found: &[String], expected: &[String]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let at = at.unwrap_or(found.len().min(expected.len()));
    let (found_row, expected_row) = (found.get(at), expected.get(at));
    Err(format!("{} rows, {} expected; row {at}: {found_row:?}, not {expected_row:?}", found.len(), expected.len()))
}

/// A value as the expectations write it: decimals, dates and times as text, `Z` behind an instant, binary as `0x…`.
pub fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) || column.data_type() == &DataType::Null {
        return Value::Null;
    }
    let shown = || {
        let options = FormatOptions::default();
        ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
    };
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            shown().parse::<i64>().map_or(Value::Null, Value::from)
        }
        DataType::Float32 => json!(f64::from(column.as_primitive::<arrow::datatypes::Float32Type>().value(row))),
        DataType::Float64 => json!(column.as_primitive::<arrow::datatypes::Float64Type>().value(row)),
        DataType::Timestamp(_, zone) => {
            let micros = cast(column, &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None)).unwrap();
            let micros = micros.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row);
            let time = chrono::DateTime::from_timestamp_micros(micros).unwrap().naive_utc();
            let zone = if zone.is_some() { "Z" } else { "" };
            format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.6f")).into()
        }
        DataType::Binary => format!("0x{}", shown()).into(),
        DataType::Dictionary(_, values) => value(&cast(column, values).unwrap(), row),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            Value::Array((0..items.len()).map(|item| value(&items, item)).collect())
        }
        DataType::Struct(fields) => {
            let parts = column.as_struct();
            let part = |(index, field): (usize, &Arc<arrow::datatypes::Field>)| {
                (field.name().clone(), value(parts.column(index), row))
            };
            Value::Object(fields.iter().enumerate().map(part).collect::<Map<_, _>>())
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(row);
            let pair = |entry| json!([value(entries.column(0), entry), value(entries.column(1), entry)]);
            json!({"map": (0..entries.len()).map(pair).collect::<Vec<_>>()})
        }
        _ => shown().into(),
    }
}
