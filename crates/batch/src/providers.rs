//! Relations as DataFusion tables.

use crate::Catalog;
use arrow::array::{ArrayRef, Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::{MemTable, TableProvider, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use rivermere_base::{Disk, Offset, PartitionId, TopicName};
use rivermere_log::{Log, records};
use rivermere_sql::{Connector, TableDefinition, ViewDefinition};
use rivermere_stream::{PartitionPosition, StreamError, TopicReader, lateness_field, read_file, table_input_schema};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes read from the log at a time.
const READ_BYTES: usize = 1 << 20;

fn external(error: StreamError) -> DataFusionError {
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

/// The columns `projection` names, of a schema.
fn projected(schema: &SchemaRef, projection: Option<&Vec<usize>>) -> Result<SchemaRef> {
    Ok(match projection {
        Some(projection) => Arc::new(schema.project(projection)?),
        None => schema.clone(),
    })
}

/// A batch with the columns of `schema`, found by name.
fn pick(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch.column_by_name(field.name()).cloned();
            column.ok_or_else(|| DataFusionError::Internal(format!("column '{}' was not read", field.name())))
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// A table over a topic, read to the high watermark at the start of the scan. Records that are no rows are left out, as
/// in the stream.
#[derive(Debug)]
pub(crate) struct TopicProvider {
    table: Arc<TableDefinition>,
    log: Log,
    schema: SchemaRef,
}

impl TopicProvider {
    pub(crate) fn new(table: Arc<TableDefinition>, log: Log, with_lateness: bool) -> Self {
        Self { schema: table_schema(&table, with_lateness), table, log }
    }
}

#[async_trait]
impl TableProvider for TopicProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = projected(&self.schema, projection)?;
        let scan = TopicScan { table: self.table.clone(), log: self.log.clone(), schema: schema.clone() };
        StreamingTable::try_new(schema, vec![Arc::new(scan)])?.scan(state, None, filters, limit).await
    }
}

#[derive(Debug)]
struct TopicScan {
    table: Arc<TableDefinition>,
    log: Log,
    schema: SchemaRef,
}

impl TopicScan {
    fn read(&self, mut send: impl FnMut(RecordBatch) -> bool) -> Result<()> {
        let Connector::Topic { topic, .. } = &self.table.connector else { return Ok(()) };
        let Some(info) = self.log.topic(topic) else { return Ok(()) };
        let columns: BTreeSet<String> = self.schema.fields().iter().map(|field| field.name().clone()).collect();
        let reads = table_input_schema(&self.table.schema, &columns);
        let partitions = usize::try_from(info.partitions).unwrap_or(0);
        let mut until = vec![];
        for partition in 0..partitions {
            let range =
                self.log.offsets(topic, PartitionId(partition as i32)).map_err(|error| external(error.into()))?;
            until.push(PartitionPosition { offset: range.high_watermark.0, newest_us: None });
        }
        let start = vec![PartitionPosition::default(); partitions];
        let Some(mut reader) = TopicReader::new(self.table.clone(), reads, start).map_err(external)? else {
            return Ok(());
        };
        reader.check(&self.log).map_err(external)?;
        while reader.positions().iter().zip(&until).any(|(position, until)| position.offset < until.offset) {
            for changes in reader.poll(&self.log, READ_BYTES, Some(&until)).map_err(external)?.changes {
                if !send(pick(changes.batch(), &self.schema)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl PartitionStream for TopicScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let scan = Self { table: self.table.clone(), log: self.log.clone(), schema: self.schema.clone() };
        stream(self.schema.clone(), move |send| scan.read(send))
    }
}

/// Batches of a blocking reader as a stream.
fn stream(
    schema: SchemaRef,
    read: impl FnOnce(&mut dyn FnMut(RecordBatch) -> bool) -> Result<()> + Send + 'static,
) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStreamBuilder::new(schema, 4);
    let sender = builder.tx();
    builder.spawn_blocking(move || read(&mut |batch| sender.blocking_send(Ok(batch)).is_ok()));
    builder.build()
}

/// A topic that no table describes: its records as they are.
#[derive(Debug)]
pub(crate) struct RawTopic {
    log: Log,
    topic: TopicName,
    schema: SchemaRef,
}

impl RawTopic {
    pub(crate) fn new(log: Log, topic: TopicName) -> Self {
        let schema = Arc::new(Schema::new(vec![
            Field::new("_partition", DataType::Int32, false),
            Field::new("_offset", DataType::Int64, false),
            Field::new("_timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("key", DataType::Utf8, true),
            Field::new("value", DataType::Utf8, true),
        ]));
        Self { log, topic, schema }
    }

    fn read(&self, send: &mut dyn FnMut(RecordBatch) -> bool) -> Result<()> {
        let Some(info) = self.log.topic(&self.topic) else { return Ok(()) };
        let failed = |error: rivermere_log::LogError| DataFusionError::External(Box::new(error));
        for partition in 0..info.partitions {
            let range = self.log.offsets(&self.topic, PartitionId(partition)).map_err(failed)?;
            let mut next = range.start.0;
            while next < range.high_watermark.0 {
                let fetched =
                    self.log.read(&self.topic, PartitionId(partition), Offset(next), READ_BYTES).map_err(failed)?;
                if fetched.batches.is_empty() {
                    break;
                }
                let from = next;
                let (mut partitions, mut offsets, mut times) =
                    (Int32Builder::new(), Int64Builder::new(), TimestampMillisecondBuilder::new());
                let (mut keys, mut values) = (StringBuilder::new(), StringBuilder::new());
                records::decode(&fetched.batches, |record| {
                    next = next.max(record.offset.0 + 1);
                    if record.offset.0 >= from {
                        partitions.append_value(partition);
                        offsets.append_value(record.offset.0);
                        times.append_value(record.timestamp_ms);
                        keys.append_option(record.key.map(String::from_utf8_lossy));
                        values.append_option(record.value.map(String::from_utf8_lossy));
                    }
                })
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
                let offsets = offsets.finish();
                if offsets.is_empty() {
                    // Only transaction markers: step over the batches.
                    let last = records::Batches::new(&fetched.batches)
                        .filter_map(std::result::Result::ok)
                        .map(|batch| batch.last_offset());
                    next = last.max().map_or(range.high_watermark.0, |last| last + 1);
                    continue;
                }
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(partitions.finish()),
                    Arc::new(offsets),
                    Arc::new(times.finish()),
                    Arc::new(keys.finish()),
                    Arc::new(values.finish()),
                ];
                if !send(RecordBatch::try_new(self.schema.clone(), columns)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl TableProvider for RawTopic {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = Arc::new(RawScan(Self::new(self.log.clone(), self.topic.clone())));
        StreamingTable::try_new(self.schema.clone(), vec![scan])?.scan(state, projection, filters, limit).await
    }
}

#[derive(Debug)]
struct RawScan(RawTopic);

impl PartitionStream for RawScan {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let topic = RawTopic::new(self.0.log.clone(), self.0.topic.clone());
        stream(self.0.schema.clone(), move |send| topic.read(send))
    }
}

/// A table over a file.
#[derive(Debug)]
pub(crate) struct FileProvider {
    table: Arc<TableDefinition>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    schema: SchemaRef,
}

impl FileProvider {
    pub(crate) fn new(table: Arc<TableDefinition>, disk: Arc<dyn Disk>, path: PathBuf, with_lateness: bool) -> Self {
        Self { schema: table_schema(&table, with_lateness), table, disk, path }
    }
}

#[async_trait]
impl TableProvider for FileProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (disk, path, table, schema) =
            (self.disk.clone(), self.path.clone(), self.table.clone(), self.schema.clone());
        let read = tokio::task::spawn_blocking(move || read_file(disk.as_ref(), &path, &table, &schema)).await;
        let changes = read.map_err(|error| DataFusionError::External(Box::new(error)))?.map_err(external)?;
        let batches = changes.into_iter().map(|changes| changes.into_parts().0).collect();
        MemTable::try_new(self.schema.clone(), vec![batches])?.scan(state, projection, filters, limit).await
    }
}

/// A view at its last finished step.
pub(crate) struct ViewProvider {
    view: Arc<ViewDefinition>,
    catalog: Arc<dyn Catalog>,
}

impl ViewProvider {
    pub(crate) fn new(view: Arc<ViewDefinition>, catalog: Arc<dyn Catalog>) -> Self {
        Self { view, catalog }
    }
}

impl fmt::Debug for ViewProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {}", self.view.name)
    }
}

#[async_trait]
impl TableProvider for ViewProvider {
    fn schema(&self) -> SchemaRef {
        self.view.plan.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batches = match self.catalog.snapshot(&self.view.name) {
            Some(snapshot) => snapshot.batches().map_err(external)?,
            None => vec![],
        };
        MemTable::try_new(self.schema(), vec![batches])?.scan(state, projection, filters, limit).await
    }
}

/// The result of a plan whose relations are in place.
#[derive(Debug)]
pub(crate) struct PlanProvider {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl PlanProvider {
    pub(crate) fn new(schema: SchemaRef, plan: LogicalPlan) -> Self {
        Self { schema, plan }
    }
}

#[async_trait]
impl TableProvider for PlanProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // The plan is run as it is, so that the batch answer does not hang on a second optimisation.
        let context = datafusion::prelude::SessionContext::new_with_state(
            datafusion::execution::SessionStateBuilder::new()
                .with_default_features()
                .with_config(state.config().clone())
                .build(),
        );
        let session = context.state();
        let physical = session.query_planner().create_physical_plan(&self.plan, &session).await?;
        let mut batches = vec![];
        for batch in datafusion::physical_plan::collect(physical, context.task_ctx()).await? {
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            batches.push(RecordBatch::try_new_with_options(self.schema.clone(), batch.columns().to_vec(), &options)?);
        }
        MemTable::try_new(self.schema.clone(), vec![batches])?.scan(state, projection, filters, limit).await
    }
}
