//! Merge by key: the rows of changed keys go from their files, and what these keys have now is written behind them.
//!
//! 1. The key columns of the files that can hold a changed key, by their statistics, are scanned: which files do?
//! 2. Of a table with deletion vectors, their rows are marked (merge-on-read). Else, and where little would be left of a
//!    file, it is streamed into a new one without them (copy-on-write).
//! 3. The rows that the changed keys have now are written.
//!
//! The scans go through the library, so deletion vectors and partition values of other engines are honoured. Files far
//! below the target size are rewritten with the others as soon as there are several of them, which keeps the number of
//! files in proportion to the rows without separate maintenance.

use crate::active::ActiveFiles;
use crate::files::{Files, SMALL_FILE_BYTES, TARGET_FILE_BYTES};
use crate::handle::Handle;
use crate::rows::{FILE_COLUMN, PlacedRows};
use crate::schema::{Conform, with_schema};
use crate::vectors::{self, Marked, Marks};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use deltalake_core::kernel::{Add, Remove};
use deltalake_core::table::state::DeltaTableState;
use foldhash::fast::RandomState;
use futures::StreamExt as _;
use rivermere_table::{TableError, net};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Small files that are left alone.
const SMALL_FILES_KEPT: usize = 8;
/// Small files rewritten by one merge at most.
const SMALL_FILES_REWRITTEN: usize = 64;
/// A file is written anew instead of marked when fewer than one in this many of its rows would be left.
const MIN_LIVE_SHARE: u64 = 2;
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
    let active = Arc::new(ActiveFiles::of(handle, state)?);
    let touched = if keys.is_empty() {
        BTreeSet::new()
    } else {
        touched_files(handle, state, &active, key, &keys, merge).await?
    };
    let mut rewritten = small_files(&active);
    let marked = if vectors::enabled(state) {
        let touched = touched.difference(&rewritten).copied().collect();
        mark(handle, state, &active, key, &keys, touched, &mut rewritten).await?
    } else {
        rewritten.extend(touched);
        (Marked::default(), 0)
    };
    let (Marked { mut adds, mut removes }, rows_marked) = marked;
    let rewritten: Vec<u32> = rewritten.into_iter().collect();
    for file in rewritten.iter().filter_map(|number| active.get(*number)) {
        removes.push(handle.remove(file, true)?);
    }

    let mut files = Files::new(handle, state, conform.table(), TARGET_FILE_BYTES)?;
    match fill(handle, state, conform, key, &keys, &active, &rewritten, merge, &mut files).await {
        Ok(rows_deleted) => {
            let rows_inserted = merge.rows.iter().map(|rows| rows.num_rows() as u64).sum();
            adds.extend(files.close().await?);
            Ok(Rewrite { adds, removes, rows_inserted, rows_deleted: rows_deleted + rows_marked })
        }
        Err(error) => {
            files.abort().await;
            Err(error)
        }
    }
}

fn small_files(active: &ActiveFiles) -> BTreeSet<u32> {
    let small = active.iter().filter(|(_, file)| file.size() < SMALL_FILE_BYTES);
    let small = small.map(|(number, _)| number).take(SMALL_FILES_REWRITTEN).collect::<BTreeSet<_>>();
    if small.len() > SMALL_FILES_KEPT { small } else { BTreeSet::new() }
}

/// Marks the rows of changed keys in `touched`, and says how many. Files of which little would be left are put with those
/// to be rewritten instead.
async fn mark(
    handle: &Handle,
    state: &DeltaTableState,
    active: &Arc<ActiveFiles>,
    key: &[String],
    keys: &KeySet,
    touched: Vec<u32>,
    rewritten: &mut BTreeSet<u32>,
) -> Result<(Marked, u64), TableError> {
    let failed = |error| scan_error(handle, error);
    if touched.is_empty() {
        return Ok((Marked::default(), 0));
    }
    let rows = PlacedRows::new(handle, state, active.clone(), touched, key).await.map_err(failed)?;
    let mut marks = Marks::default();
    let mut stream = rows.stream().map_err(failed)?;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        let hits = keys.hits(&batch, key).map_err(|error| failed(error.into()))?;
        let hit = filter_record_batch(&batch, &hits).map_err(|error| failed(error.into()))?;
        marks.add_all(&hit).map_err(failed)?;
    }
    let seen = rows.seen().map_err(failed)?;
    let dead = |(file, gone): &(u32, u64)| {
        let live = seen.get(file).copied().unwrap_or_default();
        let all = active.get(*file).map_or(live, |file| live + vectors::cardinality(file));
        *gone < live && (live - gone) * MIN_LIVE_SHARE < all
    };
    let dead: Vec<u32> = marks.files().filter(dead).map(|(file, _)| file).collect();
    for file in dead {
        marks.take(file);
        rewritten.insert(file);
    }
    let marked = vectors::write(handle, state, active, &marks, &seen).await?;
    Ok((marked, marks.len()))
}

async fn touched_files(
    handle: &Handle,
    state: &DeltaTableState,
    active: &ActiveFiles,
    key: &[String],
    keys: &KeySet,
    merge: &net::Merge,
) -> Result<BTreeSet<u32>, TableError> {
    let failed = |error| scan_error(handle, error);
    let provider = handle.scan(state).with_file_column(FILE_COLUMN).build().await.map_err(failed)?;
    let mut columns = key.to_vec();
    columns.push(FILE_COLUMN.to_string());
    let mut rows = stream(handle, &provider, &columns, &ranges(&merge.keys)).await.map_err(failed)?;
    let mut touched = BTreeSet::new();
    let mut last: Option<(String, u32)> = None;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(failed)?;
        let hits = keys.hits(&batch, key).map_err(|error| failed(error.into()))?;
        if hits.true_count() == 0 {
            continue;
        }
        let hit = filter_record_batch(&batch, &hits).map_err(|error| failed(error.into()))?;
        let Some(files) = hit.column_by_name(FILE_COLUMN) else { continue };
        let files = cast(files, &DataType::Utf8).map_err(|error| failed(error.into()))?;
        for url in files.as_string::<i32>().iter().flatten() {
            if last.as_ref().is_some_and(|(known, _)| known == url) {
                continue;
            }
            let number = active.number(url).ok_or_else(|| TableError::UnsupportedFeature {
                location: handle.location.to_string(),
                feature: format!("the file name '{url}'"),
                hint: "rewrite the table with OPTIMIZE first",
            })?;
            touched.insert(number);
            last = Some((url.to_string(), number));
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
    active: &Arc<ActiveFiles>,
    rewritten: &[u32],
    merge: &net::Merge,
    files: &mut Files<'_>,
) -> Result<u64, TableError> {
    let mut rows_deleted = 0;
    if !rewritten.is_empty() {
        let failed = |error| scan_error(handle, error);
        let columns = conform.table().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let rows =
            PlacedRows::new(handle, state, active.clone(), rewritten.to_vec(), &columns).await.map_err(failed)?;
        let mut stream = rows.stream().map_err(failed)?;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(failed)?;
            let hits = keys.hits(&batch, key).map_err(|error| failed(error.into()))?;
            rows_deleted += hits.true_count() as u64;
            let stay = not(&hits).and_then(|stay| filter_record_batch(&batch, &stay));
            let stay =
                stay.and_then(|stay| with_schema(&stay, conform.table())).map_err(|error| failed(error.into()))?;
            files.write(&stay).await?;
        }
        rows.seen().map_err(failed)?;
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
enum KeySet {
    /// One column of whole numbers, the usual key: compared as they are.
    Numbers {
        keys: HashSet<i64, RandomState>,
        null: bool,
    },
    Rows {
        converter: RowConverter,
        types: Vec<DataType>,
        keys: HashSet<Box<[u8]>, RandomState>,
    },
}

impl KeySet {
    fn new(keys: &RecordBatch) -> Result<Self, ArrowError> {
        if let [column] = keys.columns()
            && column.data_type().is_signed_integer()
        {
            let column = cast(column, &DataType::Int64)?;
            let numbers = column.as_primitive::<Int64Type>();
            return Ok(Self::Numbers { keys: numbers.iter().flatten().collect(), null: numbers.null_count() > 0 });
        }
        let types = keys.schema().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let rows = converter.convert_columns(keys.columns())?;
        let keys = rows.iter().map(|row| row.as_ref().into()).collect();
        Ok(Self::Rows { converter, types, keys })
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Numbers { keys, null } => keys.is_empty() && !null,
            Self::Rows { keys, .. } => keys.is_empty(),
        }
    }

    fn hits(&self, batch: &RecordBatch, key: &[String]) -> Result<BooleanArray, ArrowError> {
        let schema = batch.schema();
        let mut columns = key.iter().map(|name| Ok::<_, ArrowError>(batch.column(schema.index_of(name)?)));
        match self {
            Self::Numbers { keys, null } => {
                let column = columns.next().ok_or_else(|| ArrowError::InvalidArgumentError("no key".into()))??;
                let column = cast(column, &DataType::Int64)?;
                let hit = |number: Option<i64>| number.map_or(*null, |number| keys.contains(&number));
                Ok(column.as_primitive::<Int64Type>().iter().map(|number| Some(hit(number))).collect())
            }
            Self::Rows { converter, types, keys } => {
                let typed = columns.zip(types).map(|(column, data_type)| cast(column?, data_type));
                let rows = converter.convert_columns(&typed.collect::<Result<Vec<_>, _>>()?)?;
                Ok(rows.iter().map(|row| Some(keys.contains(row.as_ref()))).collect())
            }
        }
    }
}
