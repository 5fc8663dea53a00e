//! How the rows of one version became those of another: the rows of the files that only one of the two names.
//!
//! Data files never change (PROTOCOL.md, "Data Files"), so a file that both versions name with the same deletion vector
//! has the same rows in both. This needs nothing but the two versions' file lists, which every writer keeps, and so works
//! for tables without a change data feed.

use crate::handle::Handle;
use crate::schema::cast;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider as _;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use deltalake_core::kernel::{DeletionVectorDescriptor, LogicalFileView};
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt as _, stream};
use rivermere_base::Changes;
use rivermere_table::{RowChanges, TableError};
use std::collections::HashMap;

/// PROTOCOL.md, "Column Mapping".
const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";
const READING: &str = "reading the rows that came and went";

/// See [`rivermere_table::Table::changes`].
pub(crate) async fn changes(
    handle: &Handle,
    from: Option<&DeltaTableState>,
    to: &DeltaTableState,
    columns: &SchemaRef,
) -> Result<RowChanges, TableError> {
    fits(handle, to, columns)?;
    if let Some(from) = from {
        same_columns(handle, from, to, columns)?;
    }
    let before = from.map_or_else(|| Ok(HashMap::new()), |from| files(handle, from))?;
    let after = files(handle, to)?;
    let only = |these: &Files, others: &Files| -> Vec<[String; 2]> {
        let differs = |(name, file): &(&String, &File)| others.get(*name).map(|other| &other.rows) != Some(&file.rows);
        these.iter().filter(differs).map(|(_, file)| file.urls.clone()).collect()
    };
    let mut parts = vec![];
    for (state, urls, weight) in [(from, only(&before, &after), -1), (Some(to), only(&after, &before), 1)] {
        if let Some(state) = state.filter(|_| !urls.is_empty()) {
            parts.push(rows(handle, state, urls, columns, weight).await?);
        }
    }
    Ok(stream::iter(parts).flatten().boxed())
}

/// By their names.
type Files = HashMap<String, File>;

struct File {
    /// See [`Handle::file_urls`].
    urls: [String; 2],
    /// What of it is there: all rows but those of the deletion vector.
    rows: Option<(String, Option<i32>, i64)>,
}

fn files(handle: &Handle, state: &DeltaTableState) -> Result<Files, TableError> {
    let rows = |vector: DeletionVectorDescriptor| (vector.path_or_inline_dv, vector.offset, vector.cardinality);
    let views = state.log_data();
    let file = |file: LogicalFileView| {
        let rows = file.deletion_vector_descriptor().map(rows);
        Ok((file.path().into_owned(), File { urls: handle.file_urls(&file)?, rows }))
    };
    views.iter().map(file).collect()
}

/// Whether the newer version still has the columns.
fn fits(handle: &Handle, state: &DeltaTableState, columns: &SchemaRef) -> Result<(), TableError> {
    let schema = state.snapshot().arrow_schema();
    for column in columns.fields() {
        let mismatch = |reason| TableError::SchemaMismatch { location: handle.location.to_string(), reason };
        let Ok(field) = schema.field_with_name(column.name()) else {
            return Err(mismatch(format!("column '{}' is gone since the view was made", column.name())));
        };
        if field.data_type() != column.data_type() {
            let (now, then) = (field.data_type(), column.data_type());
            return Err(mismatch(format!("column '{}' is {now} now, and was {then}", column.name())));
        }
    }
    Ok(())
}

/// Whether the columns are the same ones, and not others that took their names: with column mapping, files that did not
/// change would have other values in them.
fn same_columns(
    handle: &Handle,
    from: &DeltaTableState,
    to: &DeltaTableState,
    columns: &SchemaRef,
) -> Result<(), TableError> {
    let (before, after) = (from.snapshot().schema(), to.snapshot().schema());
    for column in columns.fields() {
        let (Some(before), Some(after)) = (before.field(column.name()), after.field(column.name())) else { continue };
        if before.metadata.get(PHYSICAL_NAME) != after.metadata.get(PHYSICAL_NAME) {
            let reason = format!("column '{}' is another one now, of the same name", column.name());
            return Err(TableError::SchemaMismatch { location: handle.location.to_string(), reason });
        }
    }
    Ok(())
}

/// The rows of some files of a version, each with the weight.
async fn rows(
    handle: &Handle,
    state: &DeltaTableState,
    urls: Vec<[String; 2]>,
    columns: &SchemaRef,
    weight: i64,
) -> Result<RowChanges, TableError> {
    let location = handle.location.to_string();
    let failed = {
        let location = location.clone();
        move |error: DataFusionError| TableError::storage(READING, location.clone(), error)
    };
    let (as_spark, as_library): (Vec<String>, Vec<String>) = urls.into_iter().map(|[one, other]| (one, other)).unzip();
    let opened = match scan(handle, state, as_spark, columns).await {
        Ok(opened) => opened,
        Err(error) => match scan(handle, state, as_library, columns).await {
            Ok(opened) => opened,
            Err(_) => return Err(failed(error)),
        },
    };
    let columns = columns.clone();
    let changes = opened.map(move |batch| {
        let batch = batch.map_err(&failed)?;
        let count = batch.num_rows();
        let value = |source| TableError::Value { what: "a row".into(), location: location.clone(), source };
        let rows = picked(&batch, &columns).map_err(value)?;
        match weight {
            1 => Ok(Changes::inserts(rows)),
            weight => Changes::with_weights(rows, Int64Array::from_value(weight, count)).map_err(value),
        }
    });
    Ok(changes.boxed())
}

async fn scan(
    handle: &Handle,
    state: &DeltaTableState,
    paths: Vec<String>,
    columns: &SchemaRef,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let provider = handle.scan(state).with_file_paths(paths).build().await?;
    let schema = provider.schema();
    // A column that is not there yet is null, as every reader of the newer version sees it.
    let projection: Vec<usize> =
        columns.fields().iter().filter_map(|field| schema.index_of(field.name()).ok()).collect();
    let plan = provider.scan(handle.session.as_ref(), Some(&projection), &[], None).await?;
    execute_stream(plan, handle.session.task_ctx())
}

fn picked(batch: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &FieldRef| -> Result<ArrayRef, ArrowError> {
        match batch.column_by_name(field.name()) {
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    };
    let picked = columns.fields().iter().map(column).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(columns.clone(), picked, &options)
}
