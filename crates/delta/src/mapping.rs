//! Column mapping: columns that are called otherwise in files and in statistics than in SQL, so that a column is renamed
//! or dropped without touching a file. PROTOCOL.md, "Column Mapping".

use crate::handle::Handle;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use buoyant_kernel::schema::{ArrayType, DataType, MapType, MetadataValue, PrimitiveType, StructField, StructType};
use buoyant_kernel::table_features::TableFeature;
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

/// Whether the table maps columns: it must say so, and its protocol must know the feature.
pub(crate) fn is_mapped(state: &DeltaTableState) -> bool {
    let asked = state.metadata().configuration().get(MODE).is_some_and(|mode| mode != "none");
    let protocol = state.protocol();
    let known = match protocol.min_reader_version() {
        2 => true,
        3.. => protocol.reader_features().is_some_and(|features| features.contains(&TableFeature::ColumnMapping)),
        _ => false,
    };
    asked && known
}

/// The columns as files have them.
pub(crate) struct Physical {
    /// What a column is called in files, by its name; empty without column mapping.
    names: HashMap<String, String>,
    pub(crate) schema: SchemaRef,
    pub(crate) partition_columns: Vec<String>,
}

impl Physical {
    /// `schema` has the columns of the table.
    pub(crate) fn of(handle: &Handle, state: &DeltaTableState, schema: &SchemaRef) -> Result<Self, TableError> {
        let partition_columns = state.metadata().partition_columns().to_vec();
        if !is_mapped(state) {
            return Ok(Self { names: HashMap::new(), schema: schema.clone(), partition_columns });
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
        let names = table.fields().map(|column| (column.name().clone(), physical_name(column).to_string())).collect();
        Ok(Self { names, schema: Arc::new(Schema::new(fields)), partition_columns })
    }

    /// What a column is called in files.
    pub(crate) fn name(&self, column: String) -> String {
        self.names.get(&column).cloned().unwrap_or(column)
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
    actions.extend(upgraded(state, &schema).map_err(|error| bad(&error))?);
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

/// The protocol that a mapped table with these columns needs, where it is another one: with lists of features, since
/// whoever sets a property later may make the lists, and of what an old version implied know nothing.
fn upgraded(state: &DeltaTableState, schema: &StructType) -> Result<Option<Action>, serde_json::Error> {
    let mut needed = vec![FEATURE];
    if schema.fields().any(|column| has_plain_timestamps(column.data_type())) {
        needed.push("timestampNtz");
    }
    let mut protocol = serde_json::to_value(state.protocol())?;
    let mut is_complete = true;
    for (version, features, listing, implied) in [
        ("minReaderVersion", "readerFeatures", 3, &[(2, FEATURE)][..]),
        ("minWriterVersion", "writerFeatures", 7, WRITER_FEATURES),
    ] {
        let known = protocol[version].as_i64().unwrap_or(1);
        let mut listed: Vec<Value> = match known < listing {
            true => implied.iter().filter(|(since, _)| *since <= known).map(|(_, name)| json!(name)).collect(),
            false => protocol[features].as_array().cloned().unwrap_or_default(),
        };
        for feature in &needed {
            if !listed.iter().any(|known| known == feature) {
                listed.push(json!(feature));
                is_complete = false;
            }
        }
        protocol[version] = json!(known.max(listing));
        protocol[features] = Value::Array(listed);
    }
    Ok(if is_complete { None } else { Some(Action::Protocol(serde_json::from_value(protocol)?)) })
}

/// What the versions of writers meant before features were listed (PROTOCOL.md, "Feature Names in Table Features").
const WRITER_FEATURES: &[(i64, &str)] = &[
    (2, "appendOnly"),
    (2, "invariants"),
    (3, "checkConstraints"),
    (4, "changeDataFeed"),
    (4, "generatedColumns"),
    (5, FEATURE),
    (6, "identityColumns"),
];

fn has_plain_timestamps(data_type: &DataType) -> bool {
    match data_type {
        DataType::Primitive(primitive) => *primitive == PrimitiveType::TimestampNtz,
        DataType::Struct(inner) => inner.fields().any(|field| has_plain_timestamps(field.data_type())),
        DataType::Array(array) => has_plain_timestamps(array.element_type()),
        DataType::Map(map) => has_plain_timestamps(map.key_type()) || has_plain_timestamps(map.value_type()),
        DataType::Variant(_) => false,
    }
}

/// Whether a table maps columns by the version of its protocol alone: what sets a property that needs lists of features
/// would forget that.
pub(crate) fn is_mapped_by_version(state: &DeltaTableState) -> bool {
    is_mapped(state) && state.protocol().min_reader_version() < 3
}

/// Whether two columns are called alike in files, all that is inside, too.
pub(crate) fn is_same_in_files(one: &StructField, other: &StructField) -> bool {
    physical_name(one) == physical_name(other) && is_same_inside(one.data_type(), other.data_type())
}

fn is_same_inside(one: &DataType, other: &DataType) -> bool {
    match (one, other) {
        (DataType::Struct(one), DataType::Struct(other)) => one.fields().all(|field| {
            // One that is only here is another matter, which the types tell.
            other.field(field.name()).is_none_or(|same| is_same_in_files(field, same))
        }),
        (DataType::Array(one), DataType::Array(other)) => is_same_inside(one.element_type(), other.element_type()),
        (DataType::Map(one), DataType::Map(other)) => {
            is_same_inside(one.key_type(), other.key_type()) && is_same_inside(one.value_type(), other.value_type())
        }
        _ => true,
    }
}
