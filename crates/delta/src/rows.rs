//! Rows with their places: the file that holds a row, and how many live rows of that file come before it.
//!
//! A scan of the library gives the rows of a file in their order and leaves out those of its deletion vector, so live rows
//! are counted here; [`vectors`](crate::vectors) turns the counts into places in the file. Nothing may be filtered inside
//! such a scan: it is never given a condition, and is executed as it is planned, each file whole in one partition.

use crate::active::ActiveFiles;
use crate::handle::Handle;
use crate::vectors;
use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt16Type, UInt32Type, UInt64Type};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use deltalake_core::kernel::LogicalFileView;
use deltalake_core::table::state::DeltaTableState;
use futures::StreamExt as _;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The column with a file's URL in scans of the library; never stored.
pub(crate) const FILE_COLUMN: &str = "__rivermere_file";
/// The columns that are added: a file's number (UInt32), and how many live rows of it come before (UInt64).
pub(crate) const FILE_NUMBER: &str = "__rivermere_number";
pub(crate) const ROW_NUMBER: &str = "__rivermere_row";

/// Live rows of some files of one version.
#[derive(Clone)]
pub(crate) struct PlacedRows {
    plan: Arc<dyn ExecutionPlan>,
    session: Arc<SessionState>,
    schema: SchemaRef,
    active: Arc<ActiveFiles>,
    files: Vec<u32>,
    seen: Arc<Mutex<HashMap<u32, u64>>>,
    started: Arc<AtomicBool>,
}

impl PlacedRows {
    /// The rows of `files` with `columns`, and two more for their places.
    pub(crate) async fn new(
        handle: &Handle,
        state: &DeltaTableState,
        active: Arc<ActiveFiles>,
        files: Vec<u32>,
        columns: &[String],
    ) -> Result<Self> {
        let selection = active.selection(handle, &files).map_err(|error| DataFusionError::External(error.into()))?;
        let scan = handle.scan(state).with_file_column(FILE_COLUMN).with_file_selection(selection);
        let provider = scan.build().await?;
        let scanned = provider.schema();
        let mut projection = columns.iter().map(|name| scanned.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let mut fields: Vec<Field> = projection.iter().map(|index| scanned.field(*index).clone()).collect();
        projection.push(scanned.index_of(FILE_COLUMN)?);
        fields.push(Field::new(FILE_NUMBER, DataType::UInt32, false));
        fields.push(Field::new(ROW_NUMBER, DataType::UInt64, false));
        let plan = provider.scan(handle.session.as_ref(), Some(&projection), &[], None).await?;
        let (session, schema) = (handle.session.clone(), Arc::new(Schema::new(fields)));
        Ok(Self { plan, session, schema, active, files, seen: Arc::default(), started: Arc::default() })
    }

    /// All of them; those of one file in its order.
    ///
    /// # Errors
    /// The second time: rows would be counted on.
    pub(crate) fn stream(&self) -> Result<SendableRecordBatchStream> {
        if self.started.swap(true, Ordering::Relaxed) {
            return Err(internal("a plan that reads them twice"));
        }
        let rows = self.clone();
        let scanned = execute_stream(self.plan.clone(), self.session.task_ctx())?;
        let placed = scanned.map(move |batch| rows.place(&batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), placed)))
    }

    /// The same as a relation for one plan.
    pub(crate) fn relation(&self) -> Result<Arc<dyn TableProvider>> {
        let part = Arc::new(Part(self.clone()));
        Ok(Arc::new(StreamingTable::try_new(self.schema.clone(), vec![part])?))
    }

    /// How many live rows each file had, when all streams have ended.
    ///
    /// # Errors
    /// When there were none of a file of two names that should have some: it was not found then.
    pub(crate) fn seen(&self) -> Result<HashMap<u32, u64>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let has_rows =
            |file: &&LogicalFileView| file.num_records().is_none_or(|rows| rows as u64 > vectors::cardinality(file));
        let unseen = self.files.iter().filter(|file| self.active.is_ambiguous(**file) && !seen.contains_key(file));
        match unseen.filter_map(|file| self.active.get(*file)).find(has_rows) {
            None => Ok(seen),
            Some(file) => Err(internal(&format!("the file '{}', which was not found,", file.path()))),
        }
    }

    fn place(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (urls, columns) = batch.columns().split_last().ok_or_else(|| internal("a scan without a file column"))?;
        let wanted = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
        let urls = if urls.data_type() == &wanted { urls.clone() } else { cast(urls, &wanted)? };
        let urls = urls.as_dictionary::<UInt16Type>();
        let names = urls.values().as_string::<i32>();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut files, mut numbers) = (Vec::with_capacity(batch.num_rows()), Vec::with_capacity(batch.num_rows()));
        let mut row = 0;
        while row < batch.num_rows() {
            let key = urls.keys().value(row);
            let start = row;
            while row < batch.num_rows() && urls.keys().value(row) == key {
                row += 1;
            }
            let name = names.value(usize::from(key));
            let file = self.active.number(name).ok_or_else(|| internal(&format!("the unknown file '{name}'")))?;
            let next = seen.entry(file).or_default();
            let run = (row - start) as u64;
            files.extend(std::iter::repeat_n(file, row - start));
            numbers.extend(*next..*next + run);
            *next += run;
        }
        let mut columns: Vec<ArrayRef> = columns.to_vec();
        columns.push(Arc::new(UInt32Array::from(files)));
        columns.push(Arc::new(UInt64Array::from(numbers)));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// The two columns of places: files and rows.
pub(crate) fn places_of(batch: &RecordBatch) -> Result<(&[u32], &[u64])> {
    let column = |name| batch.column_by_name(name).ok_or_else(|| internal("a plan without places"));
    let files = column(FILE_NUMBER)?.as_primitive_opt::<UInt32Type>();
    let rows = column(ROW_NUMBER)?.as_primitive_opt::<UInt64Type>();
    match (files, rows) {
        (Some(files), Some(rows)) => Ok((files.values(), rows.values())),
        _ => Err(internal("a plan with other places")),
    }
}

fn internal(what: &str) -> DataFusionError {
    DataFusionError::Execution(format!("the rows of {what} cannot be counted"))
}

/// The one partition of a relation.
struct Part(PlacedRows);

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlacedRows")
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        match self.0.stream() {
            Ok(stream) => stream,
            Err(error) => {
                let failed = futures::stream::once(std::future::ready(Err(error)));
                Box::pin(RecordBatchStreamAdapter::new(self.0.schema.clone(), failed))
            }
        }
    }
}
