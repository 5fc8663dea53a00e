//! Table metadata as its writers leave it, read by the library.
//!
//! Iceberg spec, "Table Metadata". The library insists on more than writers give; what it would stumble over is put right
//! before it sees it, and what it does not know is named.

use flate2::read::GzDecoder;
use iceberg::spec::{MAIN_BRANCH, SnapshotReference, SnapshotRetention, TableMetadata};
use rivermere_table::TableError;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::sync::Arc;

/// Metadata may be so large when it is unpacked: more is not read.
const MAX_BYTES: u64 = 1 << 30;

/// One version of a table's metadata.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) table: Arc<TableMetadata>,
    /// Manifests of snapshots that have no list of them (v1), by the snapshot.
    pub(crate) manifests: Arc<HashMap<i64, Vec<String>>>,
    /// Branches and tags, with the snapshots that they name.
    pub(crate) refs: Arc<BTreeMap<String, i64>>,
    /// How long snapshots of the main branch are kept.
    pub(crate) retention: SnapshotRetention,
}

/// Types that the library reads.
const TYPES: [&str; 16] = [
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "decimal",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timestamp_ns",
    "timestamptz_ns",
    "string",
    "uuid",
    "fixed",
    "binary",
];

/// # Errors
/// With the name of the file when it is damaged, or has what is not known here.
pub(crate) fn read(bytes: &[u8], location: &str, file: &str) -> Result<Metadata, TableError> {
    let damaged = |reason: String| TableError::Damaged { location: location.to_owned(), file: file.to_owned(), reason };
    let mut unpacked = vec![];
    let text = if bytes.starts_with(&[0x1f, 0x8b]) {
        let read = GzDecoder::new(bytes).take(MAX_BYTES).read_to_end(&mut unpacked);
        read.map_err(|error| damaged(error.to_string()))?;
        unpacked.as_slice()
    } else {
        bytes
    };
    let mut value: Value = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
    let Some(object) = value.as_object_mut() else { return Err(damaged("it is no JSON object".into())) };
    let unknown = |feature: String| TableError::UnsupportedFeature {
        location: location.to_owned(),
        feature,
        hint: "read it with the engine that wrote it",
    };
    match object.get("format-version").and_then(Value::as_i64) {
        Some(1..=3) => {}
        Some(version) => return Err(unknown(format!("format version {version}"))),
        None => return Err(damaged("it has no format-version".into())),
    }
    for schema in object.get("schemas").and_then(Value::as_array).into_iter().flatten().chain(object.get("schema")) {
        if let Some(name) = unknown_type(schema) {
            return Err(unknown(format!("the type {name}")));
        }
    }
    let manifests = completed(object);
    let refs = object.get("refs").and_then(Value::as_object).into_iter().flatten();
    let refs = refs.filter_map(|(name, to)| Some((name.clone(), to.get("snapshot-id")?.as_i64()?))).collect();
    let main = object.get("refs").and_then(|refs| refs.get(MAIN_BRANCH)).cloned();
    let main = main.and_then(|main| serde_json::from_value::<SnapshotReference>(main).ok());
    let retention = main.map_or(
        SnapshotRetention::Branch { min_snapshots_to_keep: None, max_snapshot_age_ms: None, max_ref_age_ms: None },
        |main| main.retention,
    );
    let table = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    Ok(Metadata { table: Arc::new(table), manifests: Arc::new(manifests), refs: Arc::new(refs), retention })
}

/// The first type in a schema that the library does not know.
fn unknown_type(of: &Value) -> Option<String> {
    match of {
        Value::Object(object) => {
            let plain = ["type", "element", "key", "value"].iter().filter_map(|key| object.get(*key)?.as_str());
            let word = |text: &str| text.split(['(', '[', ' ']).next().unwrap_or_default().to_owned();
            let nested = ["struct", "list", "map"];
            let mut plain = plain.map(word).filter(|text| !TYPES.contains(&&**text) && !nested.contains(&&**text));
            plain.next().or_else(|| object.values().find_map(unknown_type))
        }
        Value::Array(values) => values.iter().find_map(unknown_type),
        _ => None,
    }
}

/// Puts right what the library would refuse; manifests of snapshots without a list.
fn completed(object: &mut Map<String, Value>) -> HashMap<i64, Vec<String>> {
    object.values_mut().for_each(signed);
    if object.get("format-version") == Some(&json!(3)) && !object.contains_key("next-row-id") {
        object.insert("next-row-id".into(), json!(0));
    }
    let mut manifests = HashMap::new();
    for snapshot in object.get_mut("snapshots").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(snapshot) = snapshot.as_object_mut() else { continue };
        let id = snapshot.get("snapshot-id").and_then(Value::as_i64);
        if let (Some(id), false) = (id, snapshot.contains_key("manifest-list")) {
            let named = snapshot.remove("manifests").unwrap_or_default();
            let named = named.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned));
            manifests.insert(id, named.collect());
            snapshot.insert("manifest-list".into(), json!(""));
        }
    }
    manifests
}

/// Ids are longs; some writers give them as if these had no sign.
fn signed(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let (None, Some(unsigned)) = (number.as_i64(), number.as_u64()) {
                *value = json!(unsigned.cast_signed());
            }
        }
        Value::Array(values) => values.iter_mut().for_each(signed),
        Value::Object(values) => values.values_mut().for_each(signed),
        _ => {}
    }
}
