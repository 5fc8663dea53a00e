//! Column mapping: columns that are called otherwise in files and in statistics than in SQL, so that a column is renamed
//! or dropped without touching a file. PROTOCOL.md, "Column Mapping".

use crate::handle::Handle;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use buoyant_kernel::schema::{ArrayType, DataType, MapType, MetadataValue, StructField, StructType};
use deltalake_core::kernel::{Action, MetadataExt as _};
use deltalake_core::table::state::DeltaTableState;
use rivermere_table::TableError;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

const MODE: &str = "delta.columnMapping.mode";
const MAX_ID: &str = "delta.columnMapping.maxColumnId";
const ID: &str = "delta.columnMapping.id";
const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";
/// Where Parquet has the id of a column.
const PARQUET_ID: &str = "PARQUET:field_id";
/// The table feature.
const FEATURE: &str = "columnMapping";

/// Whether the table maps columns.
pub(crate) fn is_mapped(state: &DeltaTableState) -> bool {
    state.metadata().configuration().get(MODE).is_some_and(|mode| mode != "none")
}

/// The columns as files have them.
pub(crate) struct Physical {
    pub(crate) schema: SchemaRef,
    pub(crate) partition_columns: Vec<String>,
}

impl Physical {
    /// `schema` has the columns of the table.
    pub(crate) fn of(handle: &Handle, state: &DeltaTableState, schema: &SchemaRef) -> Result<Self, TableError> {
        let partition_columns = state.metadata().partition_columns().to_vec();
        if !is_mapped(state) {
            return Ok(Self { schema: schema.clone(), partition_columns });
        }
        let table = state.snapshot().schema();
        let fields = schema.fields().iter().map(|field| {
            let Some(column) = table.field(field.name()) else { return Ok(field.clone()) };
            if !is_plain(column.data_type()) {
                return Err(TableError::UnsupportedFeature {
                    location: handle.location.to_string(),
                    feature: format!("column mapping inside the struct '{}'", field.name()),
                    hint: "let the engine that made it do this",
                });
            }
            let metadata = id_of(column).map(|id| (PARQUET_ID.to_string(), id.to_string()));
            let physical = Field::new(physical_name(column), field.data_type().clone(), field.is_nullable());
            Ok(Arc::new(physical.with_metadata(metadata.into_iter().collect())))
        });
        let fields = fields.collect::<Result<Vec<FieldRef>, TableError>>()?;
        let physical = |name: String| table.field(&name).map_or(name, |column| physical_name(column).to_string());
        let partition_columns = partition_columns.into_iter().map(physical).collect();
        Ok(Self { schema: Arc::new(Schema::new(fields)), partition_columns })
    }
}

/// The name of a column in files: its own, where columns are not mapped.
pub(crate) fn physical_name(column: &StructField) -> &str {
    match column.metadata().get(PHYSICAL_NAME) {
        Some(MetadataValue::String(name)) => name,
        _ => column.name(),
    }
}

fn id_of(column: &StructField) -> Option<i64> {
    match column.metadata().get(ID) {
        Some(MetadataValue::Number(id)) => Some(*id),
        _ => None,
    }
}

/// Whether no struct inside has other names in files, or ids that readers may go by.
fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::Primitive(_) => true,
        DataType::Array(array) => is_plain(array.element_type()),
        DataType::Map(map) => is_plain(map.key_type()) && is_plain(map.value_type()),
        _ => false,
    }
}

/// A change of the columns.
pub(crate) enum Change<'a> {
    Add(Vec<StructField>),
    Rename { from: &'a str, to: &'a str },
    Drop(&'a str),
}

/// The log entries for it; a table that does not map columns yet does from there on, with its files as they are.
///
/// # Errors
/// Why it cannot be done.
pub(crate) fn changed(
    state: &DeltaTableState,
    change: Change<'_>,
    new_id: impl Fn() -> Uuid,
) -> Result<Vec<Action>, String> {
    let bad = |error: &dyn std::fmt::Display| format!("the table's description cannot be written: {error}");
    let mut metadata = state.metadata().clone();
    let mut partition_columns = metadata.partition_columns().to_vec();
    let mut actions = vec![];
    let table = state.snapshot().schema();
    let mut columns: Vec<StructField> = table.fields().cloned().collect();
    let mut max_id = metadata.configuration().get(MAX_ID).and_then(|id| id.parse().ok()).unwrap_or(0);
    if !is_mapped(state) {
        // Files that are there have the columns under the names that these have now.
        let own = columns.into_iter().map(|column| mapped(column, &mut max_id, &str::to_string));
        columns = own.collect::<Result<_, _>>().map_err(|error| bad(&error))?;
        metadata = metadata.add_config_key(MODE.into(), "name".into()).map_err(|error| bad(&error))?;
        actions.extend(upgraded(state).map_err(|error| bad(&error))?);
    }
    match change {
        Change::Add(added) => {
            for column in added {
                let new = mapped(column, &mut max_id, &|_| format!("col-{}", new_id()));
                columns.push(new.map_err(|error| bad(&error))?);
            }
        }
        Change::Rename { from, to } => {
            if let Some(taken) = columns.iter().find(|column| column.name().eq_ignore_ascii_case(to))
                && taken.name() != from
            {
                return Err(format!("column '{}' is there already", taken.name()));
            }
            for column in columns.iter_mut().filter(|column| column.name() == from) {
                column.name = to.to_string();
            }
            for column in partition_columns.iter_mut().filter(|column| *column == from) {
                *column = to.to_string();
            }
        }
        Change::Drop(name) => {
            if partition_columns.iter().any(|column| column == name) {
                return Err(format!("the table is partitioned by '{name}'"));
            }
            columns.retain(|column| column.name() != name);
            if columns.len() == partition_columns.len() {
                return Err("a table has at least one column that it is not partitioned by".into());
            }
        }
    }
    let schema = StructType::try_new(columns).map_err(|error| bad(&error))?;
    metadata = metadata.with_schema(&schema).map_err(|error| bad(&error))?;
    metadata = metadata.add_config_key(MAX_ID.into(), max_id.to_string()).map_err(|error| bad(&error))?;
    let mut json = serde_json::to_value(&metadata).map_err(|error| bad(&error))?;
    json["partitionColumns"] = json!(partition_columns);
    actions.push(Action::Metadata(serde_json::from_value(json).map_err(|error| bad(&error))?));
    Ok(actions)
}

/// The column with the next ids, for it and what is inside, called in files what `name` says.
fn mapped(
    column: StructField,
    max_id: &mut i64,
    name: &dyn Fn(&str) -> String,
) -> Result<StructField, buoyant_kernel::Error> {
    *max_id += 1;
    let id = *max_id;
    let physical = name(column.name());
    let inner = inside(column.data_type(), max_id, name)?;
    let mut metadata: HashMap<String, MetadataValue> = column.metadata().clone();
    metadata.insert(ID.into(), MetadataValue::Number(id));
    metadata.insert(PHYSICAL_NAME.into(), MetadataValue::String(physical));
    Ok(StructField::new(column.name().clone(), inner, column.is_nullable()).with_metadata(metadata))
}

fn inside(
    data_type: &DataType,
    max_id: &mut i64,
    name: &dyn Fn(&str) -> String,
) -> Result<DataType, buoyant_kernel::Error> {
    Ok(match data_type {
        DataType::Struct(inner) => {
            let fields = inner.fields().map(|field| mapped(field.clone(), max_id, name));
            let fields = fields.collect::<Result<Vec<_>, _>>()?;
            DataType::Struct(Box::new(StructType::try_new(fields)?))
        }
        DataType::Array(array) => {
            let element = inside(array.element_type(), max_id, name)?;
            DataType::Array(Box::new(ArrayType::new(element, array.contains_null())))
        }
        DataType::Map(map) => {
            let (key, value) = (inside(map.key_type(), max_id, name)?, inside(map.value_type(), max_id, name)?);
            DataType::Map(Box::new(MapType::new(key, value, map.value_contains_null())))
        }
        other => other.clone(),
    })
}

/// The protocol with the feature, where it is not there yet.
fn upgraded(state: &DeltaTableState) -> Result<Option<Action>, serde_json::Error> {
    let before = serde_json::to_value(state.protocol())?;
    let mut after = before.clone();
    for (version, features, least, with_features) in
        [("minReaderVersion", "readerFeatures", 2, 3), ("minWriterVersion", "writerFeatures", 5, 7)]
    {
        let known = after[version].as_i64().unwrap_or(1);
        if known < with_features {
            after[version] = json!(known.max(least));
            continue;
        }
        let mut listed: Vec<Value> = after[features].as_array().cloned().unwrap_or_default();
        if !listed.iter().any(|feature| feature == FEATURE) {
            listed.push(json!(FEATURE));
        }
        after[features] = Value::Array(listed);
    }
    Ok(if after == before { None } else { Some(Action::Protocol(serde_json::from_value(after)?)) })
}
