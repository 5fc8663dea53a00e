//! Copy-on-write merge: files that hold a row of a changed key are replaced by files without it.
//!
//! 1. The key columns of the files that can hold a changed key, by their statistics, are scanned: which files do?
//! 2. Those files are streamed into new ones without the rows of changed keys.
//! 3. The rows that the changed keys have now are written behind them.
//!
//! The scans go through the library, so deletion vectors and partition values of other engines are honoured. Files far
//! below the target size are rewritten with the others as soon as there are several of them, which keeps the number of
//! files in proportion to the rows without separate maintenance.

use crate::files::{Files, TARGET_FILE_BYTES};
use crate::handle::Handle;
use crate::schema::Conform;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use deltalake_core::kernel::{Add, LogicalFileView, Remove};
use deltalake_core::table::state::DeltaTableState;
use futures::StreamExt as _;
use rivermere_table::{TableError, net};
use std::collections::{HashMap, HashSet};

/// Name of the scan's column that tells the file of a row; not stored.
const FILE_COLUMN: &str = "__rivermere_file";
/// Below this a file counts as small.
const SMALL_FILE_BYTES: i64 = TARGET_FILE_BYTES as i64 / 8;
/// Small files that are left alone.
const SMALL_FILES_KEPT: usize = 8;
/// Small files rewritten by one merge at most.
const SMALL_FILES_REWRITTEN: usize = 64;
/// How far a file's recorded range of a timestamp may be off: some writers record milliseconds.
const TIMESTAMP_SLACK_US: i64 = 1_000;

pub(crate) struct Rewrite {
    pub(crate) adds: Vec<Add>,
    pub(crate) removes: Vec<Remove>,
    pub(crate) rows_inserted: u64,
    pub(crate) rows_deleted: u64,
}

/// New files and the files they replace, so that the table holds the rows of `merge` for its keys.
pub(crate) async fn rewrite(
    handle: &Handle,
    state: &DeltaTableState,
    conform: &Conform,
    key: &[String],
    merge: &net::Merge,
) -> Result<Rewrite, TableError> {
    let keys = KeySet::new(&merge.keys).map_err(|error| conform.value_error("", error))?;
    let active = active_files(handle, state)?;
    let mut touched =
        if keys.is_empty() { HashSet::new() } else { touched_files(handle, state, key, &keys, merge).await? };
    touched.extend(small_files(&active));

    let mut removes = Vec::with_capacity(touched.len());
    for url in &touched {
        let Some(file) = active.get(url) else {
            return Err(TableError::UnsupportedFeature {
                location: handle.location.to_string(),
                feature: format!("the file name '{url}'"),
                hint: "rewrite the table with OPTIMIZE first",
            });
        };
        removes.push(file.remove_action(true));
    }

    let mut files = Files::new(handle, state, conform);
    match fill(handle, state, conform, key, &keys, touched, merge, &mut files).await {
        Ok(rows_deleted) => {
            let rows_inserted = merge.rows.iter().map(|rows| rows.num_rows() as u64).sum();
            Ok(Rewrite { adds: files.close().await?, removes, rows_inserted, rows_deleted })
        }
        Err(error) => {
            files.abort().await;
            Err(error)
        }
    }
}

/// Active files by the URL that scans report.
fn active_files(handle: &Handle, state: &DeltaTableState) -> Result<HashMap<String, LogicalFileView>, TableError> {
    let mut active = HashMap::new();
    for file in state.log_data().iter() {
        let [url, _] = handle.file_urls(&file)?;
        active.insert(url, file);
    }
    Ok(active)
}

fn small_files(active: &HashMap<String, LogicalFileView>) -> Vec<String> {
    let small = active.iter().filter(|(_, file)| file.size() < SMALL_FILE_BYTES);
    let small = small.map(|(url, _)| url.clone()).take(SMALL_FILES_REWRITTEN).collect::<Vec<_>>();
    if small.len() > SMALL_FILES_KEPT { small } else { Vec::new() }
}

async fn touched_files(
    handle: &Handle,
    state: &DeltaTableState,
    key: &[String],
    keys: &KeySet,
    merge: &net::Merge,
) -> Result<HashSet<String>, TableError> {
    let failed = |error| scan_error(handle, error);
    let provider = handle.scan(state).with_file_column(FILE_COLUMN).build().await.map_err(failed)?;
    let mut columns = key.to_vec();
    columns.push(FILE_COLUMN.to_string());
    let mut rows = stream(handle, &provider, &columns, &ranges(&merge.keys)).await.map_err(failed)?;
    let mut touched = HashSet::new();
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(failed)?;
        let hits = keys.hits(&batch, key).map_err(|error| failed(error.into()))?;
        if hits.true_count() == 0 {
            continue;
        }
        let hit = filter_record_batch(&batch, &hits).map_err(|error| failed(error.into()))?;
        let Some(files) = hit.column_by_name(FILE_COLUMN) else { continue };
        let files = cast(files, &DataType::Utf8).map_err(|error| failed(error.into()))?;
        for file in files.as_string::<i32>().iter().flatten() {
            if !touched.contains(file) {
                touched.insert(file.to_string());
            }
        }
    }
    Ok(touched)
}

/// Copies what stays and adds what is new; returns the number of rows that did not stay.
#[allow(clippy::too_many_arguments)]
async fn fill(
    handle: &Handle,
    state: &DeltaTableState,
    conform: &Conform,
    key: &[String],
    keys: &KeySet,
    touched: HashSet<String>,
    merge: &net::Merge,
    files: &mut Files<'_>,
) -> Result<u64, TableError> {
    let mut rows_deleted = 0;
    if !touched.is_empty() {
        let failed = |error| scan_error(handle, error);
        let provider = handle.scan(state).with_file_paths(touched).build().await.map_err(failed)?;
        let columns = conform.table().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let mut rows = stream(handle, &provider, &columns, &[]).await.map_err(failed)?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(failed)?;
            let hits = keys.hits(&batch, key).map_err(|error| failed(error.into()))?;
            rows_deleted += hits.true_count() as u64;
            let stay = not(&hits).and_then(|stay| filter_record_batch(&batch, &stay));
            let stay =
                stay.and_then(|stay| with_schema(&stay, conform.table())).map_err(|error| failed(error.into()))?;
            files.write(&stay).await?;
        }
    }
    for rows in &merge.rows {
        files.write(rows).await?;
    }
    Ok(rows_deleted)
}

async fn stream(
    handle: &Handle,
    provider: &dyn TableProvider,
    columns: &[String],
    filters: &[Expr],
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let schema = provider.schema();
    let projection = columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let plan = provider.scan(handle.session.as_ref(), Some(&projection), filters, None).await?;
    execute_stream(plan, handle.session.task_ctx())
}

fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<Vec<_>, _>>()?)
}

fn scan_error(handle: &Handle, error: DataFusionError) -> TableError {
    TableError::storage("reading the rows to merge with", handle.location.to_string(), error)
}

/// Conditions that every changed key meets, for leaving out files by their statistics.
///
/// Only types whose recorded ranges are exact or rounded outwards: none for floats (NaN is in no range) and decimals
/// (recorded as floats). A null key may be anywhere.
fn ranges(keys: &RecordBatch) -> Vec<Expr> {
    let mut filters = Vec::new();
    for (field, column) in keys.schema().fields().iter().zip(keys.columns()) {
        let ordered = matches!(
            field.data_type(),
            DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Date32
                | DataType::Utf8
                | DataType::Timestamp(TimeUnit::Microsecond, _)
        );
        if !ordered || column.null_count() > 0 {
            continue;
        }
        if let Some((low, high)) = bounds(column) {
            let column = Expr::Column(Column::from_name(field.name()));
            filters.push(column.clone().gt_eq(lit(widen(low, -TIMESTAMP_SLACK_US))));
            filters.push(column.lt_eq(lit(widen(high, TIMESTAMP_SLACK_US))));
        }
    }
    filters
}

fn bounds(column: &ArrayRef) -> Option<(ScalarValue, ScalarValue)> {
    let mut bounds: Option<(ScalarValue, ScalarValue)> = None;
    for row in 0..column.len() {
        let value = ScalarValue::try_from_array(column, row).ok()?;
        bounds = Some(match bounds {
            None => (value.clone(), value),
            Some((low, high)) if value < low => (value, high),
            Some((low, high)) if value > high => (low, value),
            Some(same) => same,
        });
    }
    bounds
}

fn widen(value: ScalarValue, by: i64) -> ScalarValue {
    match value {
        ScalarValue::TimestampMicrosecond(Some(value), zone) => {
            ScalarValue::TimestampMicrosecond(Some(value.saturating_add(by)), zone)
        }
        value => value,
    }
}

/// The changed keys, for asking whether a row has one of them. Null equals null.
struct KeySet {
    converter: RowConverter,
    types: Vec<DataType>,
    keys: HashSet<Box<[u8]>>,
}

impl KeySet {
    fn new(keys: &RecordBatch) -> Result<Self, ArrowError> {
        let types = keys.schema().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let rows = converter.convert_columns(keys.columns())?;
        let keys = rows.iter().map(|row| row.as_ref().into()).collect();
        Ok(Self { converter, types, keys })
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn hits(&self, batch: &RecordBatch, key: &[String]) -> Result<BooleanArray, ArrowError> {
        let mut columns = Vec::with_capacity(key.len());
        for (name, data_type) in key.iter().zip(&self.types) {
            let column = batch.column(batch.schema().index_of(name)?);
            columns.push(if column.data_type() == data_type { column.clone() } else { cast(column, data_type)? });
        }
        let rows = self.converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| Some(self.keys.contains(row.as_ref()))).collect())
    }
}
