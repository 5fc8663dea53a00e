//! Relations as DataFusion tables: topics with and without a table, files, views, and plans.
//!
//! [`Scanned`] is the one `TableProvider`; what differs is where the rows come from, which a [`Source`] says.

mod held;
mod topics;
mod unfiltered;

pub(crate) use held::{File, Planned, View};
pub(crate) use topics::{RawTopic, Topic};
pub(crate) use unfiltered::{Relation, Unfiltered};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{MemTable, Session};
use datafusion::datasource::{TableProvider as _, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use rivermere_sql::TableDefinition;
use rivermere_stream::lateness_field;
use std::fmt;
use std::sync::Arc;

/// Batches that a reader is ahead of its statement.
const BATCHES_AHEAD: usize = 4;

/// Takes a batch; `false` when nobody wants more.
pub(crate) type Taker<'a> = &'a mut dyn FnMut(RecordBatch) -> bool;

/// Where a relation's rows come from.
#[async_trait]
pub(crate) trait Source: fmt::Debug + Send + Sync + 'static {
    /// What it is to clients.
    const TYPE: TableType;

    fn schema(&self) -> SchemaRef;

    /// The rows as they are now. `wanted` has the columns of the statement; rows that are held have all of them.
    async fn open(&self, session: &dyn Session, wanted: &SchemaRef) -> Result<Rows>;
}

/// The rows of one scan.
pub(crate) enum Rows {
    /// In memory already, with every column.
    Held(Vec<RecordBatch>),
    /// Read by a blocking function, with the wanted columns.
    Read(Arc<dyn Fn(Taker<'_>) -> Result<()> + Send + Sync>),
}

/// A source whose rows can be scanned.
#[derive(Debug)]
pub(crate) struct Scanned<S>(S);

/// A source as a relation.
pub(crate) fn relation<S: Source>(source: S) -> Relation<Scanned<S>> {
    Relation(Scanned(source))
}

#[async_trait]
impl<S: Source> Unfiltered for Scanned<S> {
    const TYPE: TableType = S::TYPE;

    fn columns(&self) -> SchemaRef {
        self.0.schema()
    }

    async fn read(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.0.schema();
        let wanted = match projection {
            Some(projection) => Arc::new(schema.project(projection)?),
            None => schema.clone(),
        };
        match self.0.open(session, &wanted).await? {
            Rows::Held(batches) => {
                MemTable::try_new(schema, vec![batches])?.scan(session, projection, &[], limit).await
            }
            Rows::Read(read) => {
                let part = Arc::new(Part { schema: wanted.clone(), read });
                StreamingTable::try_new(wanted, vec![part])?.scan(session, None, &[], limit).await
            }
        }
    }
}

/// A blocking reader as a stream.
struct Part {
    schema: SchemaRef,
    read: Arc<dyn Fn(Taker<'_>) -> Result<()> + Send + Sync>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), BATCHES_AHEAD);
        let (sender, read) = (builder.tx(), self.read.clone());
        builder.spawn_blocking(move || read(&mut |batch| sender.blocking_send(Ok(batch)).is_ok()));
        builder.build()
    }
}

/// An error of another room.
fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The table's columns, with the hidden lateness at the end where it is asked for.
fn table_schema(table: &TableDefinition, with_lateness: bool) -> SchemaRef {
    if !with_lateness {
        return table.schema.clone();
    }
    let mut fields: Vec<Arc<Field>> = table.schema.fields().iter().cloned().collect();
    fields.push(Arc::new(lateness_field()));
    Arc::new(Schema::new(fields))
}

/// A batch with the columns of `schema`, found by name.
fn pick(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |field: &Arc<Field>| {
        let column = batch.column_by_name(field.name()).cloned();
        column.ok_or_else(|| DataFusionError::Internal(format!("column '{}' was not read", field.name())))
    };
    rebuilt(schema, schema.fields().iter().map(column).collect::<Result<_>>()?, batch.num_rows())
}

/// Columns as a batch of `schema`, which may have none.
fn rebuilt(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
