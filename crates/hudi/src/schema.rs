//! A table's columns: those of the Avro schema that its commits carry.

use crate::blocks::avro_file;
use crate::place::{Found, Place};
use crate::timeline::Instant;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow_avro::reader::ReaderBuilder;
use rivermere_table::TableError;
use std::io::Cursor;
use std::sync::Arc;

/// Where a commit has it.
pub(crate) const SCHEMA: &str = "schema";
/// Where a commit has the columns with their ids and their former names.
const RENAMES: &str = "latest_schema";
/// Operations that put files together, and leave columns as they are.
const SERVICES: [&str; 4] = ["CLUSTER", "COMPACT", "LOG_COMPACT", "INDEX"];
/// Columns that Hudi adds to each row.
const META: [&str; 6] = [
    "_hoodie_commit_time",
    "_hoodie_commit_seqno",
    "_hoodie_record_key",
    "_hoodie_partition_path",
    "_hoodie_file_name",
    "_hoodie_operation",
];

/// The columns of the version whose instants these are.
pub(crate) async fn schema(place: &Place, found: &Found, instants: &[Instant]) -> Result<SchemaRef, TableError> {
    let text = schema_text(place, found, instants).await?;
    columns(&text).map_err(|reason| place.failed("reading the table's schema", reason))
}

/// The same in Avro, as the newest commit that says it.
pub(crate) async fn schema_text(place: &Place, found: &Found, instants: &[Instant]) -> Result<String, TableError> {
    let mut newest = None;
    for instant in instants.iter().rev() {
        let commit = place.commit(instant).await?;
        if commit.extra.get(RENAMES).is_some_and(|text| !text.is_empty()) {
            return Err(place.unsupported("columns known by their ids (hoodie.schema.on.read.enable),".to_owned()));
        }
        // What was planned before the columns changed has the old ones.
        if commit.operation.as_deref().is_some_and(|operation| SERVICES.contains(&operation.to_uppercase().as_str())) {
            continue;
        }
        newest = commit.extra.get(SCHEMA).filter(|text| !text.is_empty()).cloned();
        if newest.is_some() {
            break;
        }
    }
    let Some(text) = newest.as_deref().or_else(|| found.properties.get("hoodie.table.create.schema")) else {
        return Err(place.unsupported("no schema in its commits, as before Hudi 0.5,".to_owned()));
    };
    Ok(text.to_owned())
}

/// The columns of an Avro schema, but for those that Hudi adds.
pub(crate) fn columns(text: &str) -> Result<SchemaRef, String> {
    let reader = ReaderBuilder::new().build(Cursor::new(avro_file(text, 0, &[]))).map_err(|error| error.to_string())?;
    let schema = reader.schema();
    let own = schema.fields().iter().filter(|field| !META.contains(&field.name().as_str()));
    // A file may lack a column that is required since, so nothing is promised about nulls.
    let nullable = own.map(|field| Arc::new(plain(field).as_ref().clone().with_nullable(true)));
    Ok(Arc::new(Schema::new(nullable.collect::<Fields>())))
}

/// Without what Avro says of it, and with the types of the house.
fn plain(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("UTC".into())),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        DataType::List(element) => {
            DataType::List(Arc::new(Field::new("item", plain_type(element.data_type()), element.is_nullable())))
        }
        DataType::Map(entries, sorted) => DataType::Map(plain(entries), *sorted),
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        other => other.clone(),
    }
}
