//! What an instant says of itself when it is completed: `HoodieCommitMetadata` and `HoodieReplaceCommitMetadata`, as Avro files.
//!
//! Written with the fields that readers look at; the others have defaults.

use crate::produce::Change;
use crate::timeline::Action;
use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

fn optional(of: serde_json::Value) -> serde_json::Value {
    json!(["null", of])
}

/// Avro knows types by their names: those of Hudi's own classes.
fn schema_of(action: Action) -> serde_json::Value {
    let text = json!({ "type": "string", "avro.java.string": "String" });
    let texts = ["fileId", "path", "prevCommit", "partitionPath"];
    let numbers = [
        "numWrites",
        "numDeletes",
        "numUpdateWrites",
        "numInserts",
        "totalWriteBytes",
        "totalWriteErrors",
        "fileSizeInBytes",
    ];
    let stats: Vec<_> = texts
        .iter()
        .map(|name| json!({ "name": name, "type": optional(text.clone()), "default": null }))
        .chain(numbers.iter().map(|name| json!({ "name": name, "type": ["null", "long"], "default": null })))
        .chain([
            json!({ "name": "logVersion", "type": ["null", "int"], "default": null }),
            json!({ "name": "logOffset", "type": ["null", "long"], "default": null }),
            json!({ "name": "baseFile", "type": optional(text.clone()), "default": null }),
            json!({ "name": "logFiles", "type": optional(json!({ "type": "array", "items": text })), "default": null }),
        ])
        .collect();
    let stat = json!({ "type": "record", "name": "HoodieWriteStat", "fields": stats });
    let by_text = |values: serde_json::Value| json!({ "type": "map", "values": values, "avro.java.string": "String" });
    let mut fields = vec![
        json!({ "name": "partitionToWriteStats", "default": null,
                "type": optional(by_text(json!({ "type": "array", "items": stat }))) }),
        json!({ "name": "compacted", "type": ["null", "boolean"], "default": null }),
        json!({ "name": "extraMetadata", "type": optional(by_text(text.clone())), "default": null }),
        json!({ "name": "version", "type": ["int", "null"], "default": 1 }),
        json!({ "name": "operationType", "type": optional(text.clone()), "default": null }),
    ];
    let replaces = action == Action::ReplaceCommit;
    if replaces {
        let ids = by_text(json!({ "type": "array", "items": text }));
        fields.push(json!({ "name": "partitionToReplaceFileIds", "type": optional(ids), "default": null }));
    }
    let name = if replaces { "HoodieReplaceCommitMetadata" } else { "HoodieCommitMetadata" };
    json!({ "type": "record", "name": name, "namespace": "org.apache.hudi.avro.model", "fields": fields })
}

/// # Errors
/// With what Avro says.
pub(crate) fn bytes(action: Action, change: &Change) -> Result<Vec<u8>, apache_avro::Error> {
    let schema = Schema::parse(&schema_of(action))?;
    let some = |value: Value| Value::Union(1, Box::new(value));
    let text = |text: &str| Value::String(text.to_owned());
    let number = |number: u64| some(Value::Long(i64::try_from(number).unwrap_or(i64::MAX)));
    let mut by_partition: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for file in &change.added {
        let is_new = file.before.is_none();
        let inserted = if is_new { file.rows } else { 0 };
        let of_log = |value: Value| match file.base {
            Some(_) => some(value),
            None => Value::Union(0, Box::new(Value::Null)),
        };
        by_partition.entry(&file.partition).or_default().push(Value::Record(vec![
            ("fileId".into(), some(text(&file.file_id))),
            ("path".into(), some(text(&file.inside))),
            ("prevCommit".into(), some(text(file.before.as_deref().unwrap_or("null")))),
            ("partitionPath".into(), some(text(&file.partition))),
            ("numWrites".into(), number(file.rows)),
            ("numDeletes".into(), number(file.deleted)),
            ("numUpdateWrites".into(), number(0)),
            ("numInserts".into(), number(inserted)),
            ("totalWriteBytes".into(), number(file.bytes)),
            ("totalWriteErrors".into(), number(0)),
            ("fileSizeInBytes".into(), number(file.bytes)),
            ("logVersion".into(), of_log(Value::Int(1))),
            ("logOffset".into(), of_log(Value::Long(0))),
            ("baseFile".into(), of_log(text(file.base.as_deref().unwrap_or_default()))),
            ("logFiles".into(), of_log(Value::Array(vec![text(file.inside.rsplit('/').next().unwrap_or_default())]))),
        ]));
    }
    let map = |pairs: HashMap<String, Value>| some(Value::Map(pairs));
    let stats = by_partition.into_iter().map(|(partition, stats)| (partition.to_owned(), Value::Array(stats)));
    let mut extra: HashMap<String, Value> =
        change.extra.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    extra.insert(crate::schema::SCHEMA.to_owned(), text(&change.schema));
    let mut fields = vec![
        ("partitionToWriteStats".to_owned(), map(stats.collect())),
        ("compacted".to_owned(), some(Value::Boolean(false))),
        ("extraMetadata".to_owned(), map(extra)),
        ("version".to_owned(), Value::Union(0, Box::new(Value::Int(1)))),
        ("operationType".to_owned(), some(text(change.operation))),
    ];
    if action == Action::ReplaceCommit {
        let ids = |ids: &Vec<String>| Value::Array(ids.iter().map(|id| text(id)).collect());
        let replaced = change.replaced.iter().map(|(partition, of)| (partition.clone(), ids(of)));
        fields.push(("partitionToReplaceFileIds".to_owned(), map(replaced.collect())));
    }
    let mut writer = Writer::new(&schema, Vec::new());
    writer.append(Value::Record(fields))?;
    writer.into_inner()
}
