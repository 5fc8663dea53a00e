//! Lists of manifests, and manifests: which files a snapshot has.
//!
//! Iceberg spec, "Manifest Lists" and "Manifests". Read field by field from the Avro that is there: writers leave out what
//! another reader insists on.

use crate::types::{big_endian, decimal, from_bytes};
use apache_avro::types::Value;
use datafusion::common::ScalarValue;
use iceberg::spec::{PartitionSpec, PrimitiveType, Schema, TableMetadata, Transform, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    Data,
    PositionDeletes,
    EqualityDeletes,
}

/// A manifest, as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) path: String,
    pub(crate) spec_id: i32,
    pub(crate) sequence: i64,
    pub(crate) snapshot: i64,
}

/// A file of a snapshot.
#[derive(Debug)]
pub(crate) struct DataFile {
    /// As the metadata calls it.
    pub(crate) name: String,
    pub(crate) format: String,
    pub(crate) content: Content,
    pub(crate) spec_id: i32,
    /// One value for each field of the spec; null is none.
    pub(crate) partition: Vec<Option<ScalarValue>>,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) nulls: HashMap<i32, i64>,
    pub(crate) lower: HashMap<i32, Vec<u8>>,
    pub(crate) upper: HashMap<i32, Vec<u8>>,
    /// Columns that rows to be deleted are known by.
    pub(crate) equality_ids: Vec<i32>,
    /// The data sequence number.
    pub(crate) sequence: i64,
    /// The one data file that position deletes are about.
    pub(crate) referenced: Option<String>,
    /// Where in a Puffin file a deletion vector is.
    pub(crate) range: Option<(u64, u64)>,
}

impl DataFile {
    /// The deletion vector or file that a reader applies, as what tells it from others.
    pub(crate) fn identity(&self) -> (&str, u64) {
        (&self.name, self.range.map_or(0, |(offset, _)| offset))
    }
}

type Read<T> = Result<T, String>;

/// The values of an Avro file.
fn values(bytes: &[u8]) -> Read<impl Iterator<Item = Read<Value>>> {
    let reader = apache_avro::Reader::new(bytes).map_err(|error| error.to_string())?;
    Ok(reader.map(|value| value.map_err(|error| error.to_string())))
}

pub(crate) fn read_list(bytes: &[u8]) -> Read<Vec<Manifest>> {
    let manifest = |value: Read<Value>| {
        let value = value?;
        let record = Record::of(&value)?;
        Ok(Manifest {
            path: record.text("manifest_path").ok_or("a manifest without manifest_path")?,
            spec_id: record.number("partition_spec_id").and_then(|id| i32::try_from(id).ok()).unwrap_or_default(),
            sequence: record.number("sequence_number").unwrap_or_default(),
            snapshot: record.number("added_snapshot_id").unwrap_or_default(),
        })
    };
    values(bytes)?.map(manifest).collect()
}

/// The files of a manifest that are there still.
pub(crate) fn read_manifest(bytes: &[u8], manifest: &Manifest, metadata: &TableMetadata) -> Read<Vec<DataFile>> {
    let spec =
        metadata.partition_spec_by_id(manifest.spec_id).ok_or("a partition spec that the table does not have")?;
    let types = partition_types(spec, metadata);
    let mut files = vec![];
    for value in values(bytes)? {
        let value = value?;
        let entry = Record::of(&value)?;
        const DELETED: i64 = 2;
        if entry.number("status") == Some(DELETED) {
            continue;
        }
        let file = Record::of(entry.get("data_file").ok_or("an entry without data_file")?)?;
        let partition = match file.get("partition").map(Record::of).transpose()? {
            Some(record) => record.0.iter().zip(&types).map(|((_, value), of)| scalar(value, of)).collect(),
            None => vec![],
        };
        let bounds = |name: &str| file.map(name, |value| bytes_of(value).map(<[u8]>::to_vec));
        let counts = |name: &str| file.map(name, number_of);
        let start = file.number("content_offset").and_then(|offset| u64::try_from(offset).ok());
        let length = file.number("content_size_in_bytes").and_then(|length| u64::try_from(length).ok());
        files.push(DataFile {
            name: file.text("file_path").ok_or("a file without file_path")?,
            format: file.text("file_format").unwrap_or_else(|| "PARQUET".into()).to_uppercase(),
            content: match file.number("content").unwrap_or_default() {
                0 => Content::Data,
                1 => Content::PositionDeletes,
                2 => Content::EqualityDeletes,
                other => return Err(format!("content {other} of a file, which is not known")),
            },
            spec_id: manifest.spec_id,
            partition,
            records: file.number("record_count").and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
            bytes: file.number("file_size_in_bytes").and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
            nulls: counts("null_value_counts"),
            lower: bounds("lower_bounds"),
            upper: bounds("upper_bounds"),
            equality_ids: match file.get("equality_ids") {
                Some(Value::Array(ids)) => ids.iter().filter_map(|id| i32::try_from(number_of(id)?).ok()).collect(),
                _ => vec![],
            },
            // "Sequence Number Inheritance": a new entry has that of its manifest.
            sequence: entry.number("sequence_number").unwrap_or(manifest.sequence),
            referenced: file.text("referenced_data_file"),
            range: start.zip(length),
        });
    }
    Ok(files)
}

/// What the values of partitions are: of the type that a transform makes of its column.
pub(crate) fn partition_types(spec: &PartitionSpec, metadata: &TableMetadata) -> Vec<Option<PrimitiveType>> {
    let source = |id: i32| {
        let known = std::iter::once(metadata.current_schema()).chain(metadata.schemas_iter());
        known.into_iter().find_map(|schema: &Arc<Schema>| schema.field_by_id(id).map(|field| field.field_type.clone()))
    };
    let result = |source: &Type, transform: &Transform| match transform.result_type(source).ok()? {
        Type::Primitive(primitive) => Some(primitive),
        _ => None,
    };
    spec.fields().iter().map(|field| result(source(field.source_id)?.as_ref(), &field.transform)).collect()
}

/// A record, by the names of its fields.
struct Record<'a>(&'a [(String, Value)]);

impl<'a> Record<'a> {
    fn of(value: &'a Value) -> Read<Self> {
        match plain(value) {
            Some(Value::Record(fields)) => Ok(Self(fields)),
            _ => Err("something that is no record".into()),
        }
    }

    /// A field that is there and is not null.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.iter().find(|(field, _)| field == name).and_then(|(_, value)| plain(value))
    }

    fn number(&self, name: &str) -> Option<i64> {
        number_of(self.get(name)?)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) | Value::Enum(_, text) => Some(text.clone()),
            _ => None,
        }
    }

    /// A map by column ids, which Avro has as an array of pairs.
    fn map<T>(&self, name: &str, of: impl Fn(&Value) -> Option<T>) -> HashMap<i32, T> {
        let Some(Value::Array(pairs)) = self.get(name) else { return HashMap::new() };
        let pair = |pair: &Value| {
            let pair = Record::of(pair).ok()?;
            Some((i32::try_from(pair.number("key")?).ok()?, of(pair.get("value")?)?))
        };
        pairs.iter().filter_map(pair).collect()
    }
}

/// The value inside unions; nothing for null.
fn plain(value: &Value) -> Option<&Value> {
    match value {
        Value::Null => None,
        Value::Union(_, value) => plain(value),
        value => Some(value),
    }
}

fn number_of(value: &Value) -> Option<i64> {
    match plain(value)? {
        Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => Some(i64::from(*number)),
        Value::Long(number)
        | Value::TimeMicros(number)
        | Value::TimestampMillis(number)
        | Value::TimestampMicros(number)
        | Value::TimestampNanos(number)
        | Value::LocalTimestampMillis(number)
        | Value::LocalTimestampMicros(number)
        | Value::LocalTimestampNanos(number) => Some(*number),
        _ => None,
    }
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match plain(value)? {
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Some(bytes),
        _ => None,
    }
}

/// A value of a partition.
fn scalar(value: &Value, of: &Option<PrimitiveType>) -> Option<ScalarValue> {
    let (value, of) = (plain(value)?, of.as_ref()?);
    Some(match (value, of) {
        (Value::Boolean(value), _) => ScalarValue::Boolean(Some(*value)),
        (Value::Float(value), PrimitiveType::Double) => ScalarValue::Float64(Some(f64::from(*value))),
        (Value::Float(value), _) => ScalarValue::Float32(Some(*value)),
        (Value::Double(value), _) => ScalarValue::Float64(Some(*value)),
        (Value::String(value), _) => ScalarValue::Utf8(Some(value.clone())),
        (Value::Uuid(value), _) => ScalarValue::Utf8(Some(value.hyphenated().to_string())),
        (Value::Decimal(value), PrimitiveType::Decimal { precision, scale }) => {
            let bytes: Vec<u8> = value.clone().try_into().ok()?;
            decimal(big_endian(&bytes)?, *precision, *scale)
        }
        (Value::Bytes(bytes) | Value::Fixed(_, bytes), of) => from_bytes(bytes, of)?,
        (value, PrimitiveType::Int | PrimitiveType::Date) => {
            from_bytes(&i32::try_from(number_of(value)?).ok()?.to_le_bytes(), of)?
        }
        (value, of) => from_bytes(&number_of(value)?.to_le_bytes(), of)?,
    })
}
