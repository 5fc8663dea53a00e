//! A version as a relation of DataFusion.

use crate::reading::{Batches, Reading};
use crate::slices::Slice;
use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt as _, TryStreamExt as _};
use rivermere_table::{Filter, TableError};
use std::fmt;
use std::sync::Arc;

/// The rows of one version.
pub(crate) struct Snapshot {
    pub(crate) reading: Arc<Reading>,
    pub(crate) schema: SchemaRef,
    pub(crate) slices: Vec<Slice>,
}

/// The place of a row: the number of its slice, and its own in that.
pub(crate) const FILE_COLUMN: &str = "__rivermere_file";
pub(crate) const ROW_COLUMN: &str = "__rivermere_row";

impl Snapshot {
    /// With the places of rows behind the columns.
    pub(crate) fn with_places(mut self) -> Self {
        let place = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        let fields = self.schema.fields().iter().cloned().chain([place(FILE_COLUMN), place(ROW_COLUMN)]);
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("reading", &self.reading)
            .field("slices", &self.slices.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Snapshot {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Row groups are left out whose bounds say that no row of theirs is asked for; rows are not looked at.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(wanted) => Arc::new(self.schema.project(wanted)?),
            None => self.schema.clone(),
        };
        // Where rows are counted, none is left out.
        let is_placed = schema.index_of(ROW_COLUMN).is_ok();
        let filter = Filter::new(session, &self.schema, filters)?.filter(|_| !is_placed);
        let mut parts: Vec<(u64, Vec<(i64, Slice)>)> = vec![(0, vec![]); session.config().target_partitions().max(1)];
        let mut slices: Vec<(i64, Slice)> = (0..).zip(self.slices.iter().cloned()).collect();
        slices.sort_by_key(|(_, slice)| std::cmp::Reverse(slice.bytes()));
        for (number, slice) in slices {
            if let Some((bytes, part)) = parts.iter_mut().min_by_key(|(bytes, _)| *bytes) {
                *bytes += slice.bytes().max(1);
                part.push((number, slice));
            }
        }
        parts.truncate(self.slices.len().max(1));
        let part = |(_, slices): (u64, Vec<(i64, Slice)>)| {
            let (reading, schema) = (self.reading.clone(), schema.clone());
            Arc::new(Part { reading, schema, slices, filter: filter.clone() }) as Arc<dyn PartitionStream>
        };
        let parts = parts.into_iter().map(part).collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema, parts, None, [], false, limit)?))
    }
}

/// Some of the slices, one after the other.
struct Part {
    reading: Arc<Reading>,
    schema: SchemaRef,
    /// With their numbers.
    slices: Vec<(i64, Slice)>,
    /// What may leave out some of their rows.
    filter: Option<Filter>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("slices", &self.slices.len()).finish_non_exhaustive()
    }
}

/// The rows of slices, one after the other.
pub(crate) fn rows(reading: &Arc<Reading>, slices: Vec<Slice>, wanted: &SchemaRef) -> Batches {
    numbered(reading, (0..).zip(slices).collect(), wanted, None)
}

fn numbered(reading: &Arc<Reading>, slices: Vec<(i64, Slice)>, wanted: &SchemaRef, filter: Option<Filter>) -> Batches {
    let (reading, wanted) = (reading.clone(), wanted.clone());
    let rows = futures::stream::iter(slices).then(move |(number, slice)| {
        let (reading, wanted, filter) = (reading.clone(), wanted.clone(), filter.clone());
        async move {
            let rows = reading.filtered(&slice, &wanted, filter.as_ref()).await?;
            Ok::<_, TableError>(placed(number, rows, wanted))
        }
    });
    rows.try_flatten().boxed()
}

/// With the places of rows in the columns that are for them.
fn placed(number: i64, rows: Batches, wanted: SchemaRef) -> Batches {
    let (file, row) = (wanted.index_of(FILE_COLUMN).ok(), wanted.index_of(ROW_COLUMN).ok());
    if file.is_none() && row.is_none() {
        return rows;
    }
    let mut next = 0_i64;
    let placed = move |batch: std::result::Result<RecordBatch, TableError>| {
        let batch = batch?;
        let rows = batch.num_rows();
        let first = next;
        next += i64::try_from(rows).unwrap_or(i64::MAX);
        let mut columns = batch.columns().to_vec();
        if let Some(column) = file.and_then(|at| columns.get_mut(at)) {
            *column = Arc::new(Int64Array::from_value(number, rows));
        }
        if let Some(column) = row.and_then(|at| columns.get_mut(at)) {
            *column = Arc::new(Int64Array::from_iter_values(first..next));
        }
        RecordBatch::try_new(wanted.clone(), columns)
            .map_err(|error| TableError::storage("numbering rows", String::new(), error))
    };
    rows.map(placed).boxed()
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let told = |error: TableError| DataFusionError::External(Box::new(error));
        let shown = move |batch: std::result::Result<RecordBatch, TableError>| {
            let batch = batch.map_err(told)?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
        };
        let rows = numbered(&self.reading, self.slices.clone(), &self.schema, self.filter.clone()).map(shown);
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}
