//! Files that no version needs any more.
//!
//! Hudi technical specification, "Cleaning": the plan says which is the earliest instant whose version stays whole, and is on the
//! timeline before a file goes, so that no reader takes what is left of an older version for the whole of it.

use crate::place::{Found, Place};
use crate::produce::{is_there, put_new};
use crate::slices::{Log, Slice, grouped};
use crate::timeline::{Instant, time_after, version_of};
use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _};
use rivermere_table::{Clean, TableError};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How long files of older versions are kept, by Hudi's own name for it.
pub(crate) const RETAINED: &str = "hoodie.clean.hours.retained";
const RETAINED_HOURS: i64 = 7 * 24;
const CLEANING: &str = "removing files that no version needs";

pub(crate) fn own_retention_ms(found: &Found) -> i64 {
    let hours = found.properties.get(RETAINED).and_then(|text| text.parse::<i64>().ok()).unwrap_or(RETAINED_HOURS);
    hours.saturating_mul(3_600_000)
}

/// Removes the files that only versions need which are older than `age_ms` and than all that are needed otherwise; how many.
pub(crate) async fn clean(place: &Place, found: &Found, age_ms: i64, what: &Clean) -> Result<u64, TableError> {
    let now = chrono::Utc::now().timestamp_millis();
    let is_kept = |instant: &Instant| {
        let when = instant.completed_ms(&found.properties).unwrap_or(now);
        // The newest of those that are old enough is what was the newest when the time began.
        let is_saved = found.timeline.saved.contains(&version_of(&instant.time));
        now.saturating_sub(when) < age_ms || is_saved || what.needed.contains(&instant.version())
    };
    let instants = &found.timeline.instants;
    let Some(newest) = instants.len().checked_sub(1) else { return Ok(0) };
    let earliest = instants.iter().position(is_kept).unwrap_or(newest).min(newest);
    let since = instants.get(..=earliest).unwrap_or(instants);
    let gone = unneeded(place, found, since).await?;
    if what.dry_run || gone.is_empty() {
        return Ok(gone.len() as u64);
    }
    let Some(first) = since.last() else { return Ok(0) };
    publish(place, found, first, &gone).await?;
    Ok(gone.len() as u64)
}

/// Files that neither the version of these instants needs nor one after it, by partition.
async fn unneeded(place: &Place, found: &Found, since: &[Instant]) -> Result<Vec<(String, Path)>, TableError> {
    let (groups, replaced) = grouped(place, found, since).await?;
    let newest: HashSet<i64> = found.timeline.instants.iter().map(|instant| version_of(&instant.time)).collect();
    let then: HashSet<i64> = since.iter().map(|instant| version_of(&instant.time)).collect();
    // What began and is not completed, and what was completed since, is not this version's to judge.
    let is_old = |instant: i64| then.contains(&instant) || !newest.contains(&instant);
    let pending: HashSet<i64> = found.timeline.pending.iter().map(|time| version_of(time)).collect();
    let mut gone = vec![];
    let slices: BTreeMap<(String, String), Slice> = crate::slices::slices(place, found, since)
        .await?
        .into_iter()
        .map(|slice| ((slice.partition.clone(), slice.file_id.clone()), slice))
        .collect();
    for ((partition, file_id), (bases, logs)) in groups {
        let key = (partition.clone(), file_id);
        let slice = slices.get(&key);
        let base = slice.and_then(|slice| slice.base.as_ref());
        let is_replaced = replaced.contains(&key);
        let old_base = bases.iter().filter(|other| {
            let superseded = base.is_some_and(|base| other.instant < base.instant);
            (is_replaced || superseded) && is_old(other.instant) && !pending.contains(&other.instant)
        });
        gone.extend(old_base.map(|base| (partition.clone(), base.path.clone())));
        let is_kept = |log: &&Log| slice.is_some_and(|slice| slice.logs.contains(log));
        let old_logs = logs.iter().filter(|log| {
            let superseded = base.is_some_and(|base| log.instant < base.instant) && !is_kept(log);
            (is_replaced || superseded) && is_old(log.instant) && !pending.contains(&log.instant)
        });
        gone.extend(old_logs.map(|log| (partition.clone(), log.path.clone())));
    }
    Ok(gone)
}

/// The clean as an instant: planned, done, and completed.
async fn publish(place: &Place, found: &Found, first: &Instant, gone: &[(String, Path)]) -> Result<(), TableError> {
    let failed = |error: apache_avro::Error| place.failed(CLEANING, error);
    let folder = found.timeline_folder(place);
    let mut time = found.timeline.next_time(&found.properties);
    let mut by_partition: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (partition, path) in gone {
        let name = path.filename().unwrap_or_default().to_owned();
        by_partition.entry(partition).or_default().push(name);
    }
    let plan = plan(first, &by_partition).map_err(failed)?;
    while is_there(place, &folder.clone().join(format!("{time}.clean.requested"))).await? {
        time = time_after(&time);
    }
    put_new(place, &folder.clone().join(format!("{time}.clean.requested")), &plan).await?;
    put_new(place, &folder.clone().join(format!("{time}.clean.inflight")), &plan).await?;
    for (_, path) in gone {
        match place.location.store().delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(place.failed(CLEANING, error)),
        }
    }
    let done = done(&time, first, &by_partition).map_err(failed)?;
    let completed = place.newest().await?.timeline.next_time(&found.properties).max(time_after(&time));
    put_new(place, &folder.join(format!("{time}_{completed}.clean")), &done).await.map(|_| ())
}

const POLICY: &str = "KEEP_LATEST_COMMITS";

fn written(schema: &serde_json::Value, value: Value) -> Result<Vec<u8>, apache_avro::Error> {
    let schema = Schema::parse(schema)?;
    let mut writer = Writer::new(&schema, Vec::new());
    writer.append(value)?;
    writer.into_inner()
}

fn text_type() -> serde_json::Value {
    json!({ "type": "string", "avro.java.string": "String" })
}

fn map_type(values: serde_json::Value) -> serde_json::Value {
    json!({ "type": "map", "values": values, "avro.java.string": "String" })
}

/// `HoodieCleanerPlan`
fn plan(first: &Instant, gone: &BTreeMap<&str, Vec<String>>) -> Result<Vec<u8>, apache_avro::Error> {
    let text = text_type();
    let instant = json!({ "type": "record", "name": "HoodieActionInstant", "fields": [
        { "name": "timestamp", "type": text }, { "name": "action", "type": text }, { "name": "state", "type": text } ] });
    let file = json!({ "type": "record", "name": "HoodieCleanFileInfo", "fields": [
        { "name": "filePath", "type": ["null", text], "default": null },
        { "name": "isBootstrapBaseFile", "type": ["null", "boolean"], "default": null } ] });
    let files = map_type(json!({ "type": "array", "items": file }));
    let schema = json!({ "type": "record", "name": "HoodieCleanerPlan", "namespace": "org.apache.hudi.avro.model", "fields": [
        { "name": "earliestInstantToRetain", "type": ["null", instant], "default": null },
        { "name": "lastCompletedCommitTimestamp", "type": text },
        { "name": "policy", "type": text },
        { "name": "version", "type": ["int", "null"], "default": 1 },
        { "name": "filePathsToBeDeletedPerPartition", "type": ["null", files], "default": null } ] });
    let text = |text: &str| Value::String(text.to_owned());
    let some = |value: Value| Value::Union(1, Box::new(value));
    let info = |partition: &str, name: &String| {
        let inside = if partition.is_empty() { name.clone() } else { format!("{partition}/{name}") };
        Value::Record(vec![
            ("filePath".into(), some(Value::String(inside))),
            ("isBootstrapBaseFile".into(), some(Value::Boolean(false))),
        ])
    };
    let files: HashMap<String, Value> = gone
        .iter()
        .map(|(of, names)| ((*of).to_owned(), Value::Array(names.iter().map(|name| info(of, name)).collect())))
        .collect();
    let instant = Value::Record(vec![
        ("timestamp".into(), text(&first.time)),
        ("action".into(), text(first.action.name())),
        ("state".into(), text("COMPLETED")),
    ]);
    let value = Value::Record(vec![
        ("earliestInstantToRetain".into(), some(instant)),
        ("lastCompletedCommitTimestamp".into(), text(&first.time)),
        ("policy".into(), text(POLICY)),
        ("version".into(), Value::Union(0, Box::new(Value::Int(2)))),
        ("filePathsToBeDeletedPerPartition".into(), some(Value::Map(files))),
    ]);
    written(&schema, value)
}

/// `HoodieCleanMetadata`
fn done(time: &str, first: &Instant, gone: &BTreeMap<&str, Vec<String>>) -> Result<Vec<u8>, apache_avro::Error> {
    let text = text_type();
    let names = json!({ "type": "array", "items": text });
    let partition = json!({ "type": "record", "name": "HoodieCleanPartitionMetadata", "fields": [
        { "name": "partitionPath", "type": text }, { "name": "policy", "type": text },
        { "name": "deletePathPatterns", "type": names }, { "name": "successDeleteFiles", "type": names },
        { "name": "failedDeleteFiles", "type": names },
        { "name": "isPartitionDeleted", "type": ["null", "boolean"], "default": null } ] });
    let schema = json!({ "type": "record", "name": "HoodieCleanMetadata", "namespace": "org.apache.hudi.avro.model", "fields": [
        { "name": "startCleanTime", "type": text },
        { "name": "timeTakenInMillis", "type": "long" },
        { "name": "totalFilesDeleted", "type": "int" },
        { "name": "earliestCommitToRetain", "type": text },
        { "name": "lastCompletedCommitTimestamp", "type": text },
        { "name": "partitionMetadata", "type": map_type(partition) },
        { "name": "version", "type": ["int", "null"], "default": 1 } ] });
    let text = |text: &str| Value::String(text.to_owned());
    let count: usize = gone.values().map(Vec::len).sum();
    let partitions: HashMap<String, Value> = gone
        .iter()
        .map(|(partition, names)| {
            let names = || Value::Array(names.iter().map(|name| text(name)).collect());
            let value = Value::Record(vec![
                ("partitionPath".into(), text(partition)),
                ("policy".into(), text(POLICY)),
                ("deletePathPatterns".into(), names()),
                ("successDeleteFiles".into(), names()),
                ("failedDeleteFiles".into(), Value::Array(vec![])),
                ("isPartitionDeleted".into(), Value::Union(1, Box::new(Value::Boolean(false)))),
            ]);
            ((*partition).to_owned(), value)
        })
        .collect();
    let value = Value::Record(vec![
        ("startCleanTime".into(), text(time)),
        ("timeTakenInMillis".into(), Value::Long(0)),
        ("totalFilesDeleted".into(), Value::Int(i32::try_from(count).unwrap_or(i32::MAX))),
        ("earliestCommitToRetain".into(), text(&first.time)),
        ("lastCompletedCommitTimestamp".into(), text(&first.time)),
        ("partitionMetadata".into(), Value::Map(partitions)),
        ("version".into(), Value::Union(0, Box::new(Value::Int(2)))),
    ]);
    written(&schema, value)
}

/// The instant that a clean, or the plan of one, says is the earliest whose version stays whole.
///
/// # Errors
/// With what is wrong with the file.
pub(crate) fn earliest(bytes: &[u8]) -> Result<Option<i64>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut reader = apache_avro::Reader::new(bytes).map_err(|error| error.to_string())?;
    let value = reader.next().ok_or("it is empty")?.map_err(|error| error.to_string())?;
    let text = |value: Option<&Value>| match value.map(plain) {
        Some(Value::String(text)) if !text.is_empty() => Some(version_of(text)),
        _ => None,
    };
    let planned = field(&value, "earliestInstantToRetain").and_then(|instant| field(instant, "timestamp"));
    let done = text(field(&value, "earliestCommitToRetain")).or_else(|| text(planned));
    // A policy that counts files says no instant: what was the newest is whole.
    Ok(done.or_else(|| text(field(&value, "lastCompletedCommitTimestamp"))))
}

fn plain(value: &Value) -> &Value {
    match value {
        Value::Union(_, value) => plain(value),
        value => value,
    }
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match plain(value) {
        Value::Record(fields) => fields.iter().find(|(own, _)| own == name).map(|(_, value)| plain(value)),
        _ => None,
    }
}
