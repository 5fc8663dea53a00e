//! Topics, read to the high watermark at the start of the scan: as a table says, or record by record.

use super::{Rows, Source, Taker, external, pick, table_schema};
use arrow::array::{ArrayRef, Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMillisecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::datasource::TableType;
use datafusion::error::Result;
use rivermere_base::{Offset, PartitionId, TopicName};
use rivermere_log::{Fetched, Log, records};
use rivermere_sql::{Connector, TableDefinition};
use rivermere_stream::{PartitionPosition, TopicReader, table_input_schema};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes read from the log at a time.
const READ_BYTES: usize = 1 << 20;

/// A table over a topic. Records that are no rows are left out, as in the stream.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    table: Arc<TableDefinition>,
    log: Log,
    schema: SchemaRef,
}

impl Topic {
    pub(crate) fn new(table: Arc<TableDefinition>, log: Log, with_lateness: bool) -> Self {
        Self { schema: table_schema(&table, with_lateness), table, log }
    }

    fn read(&self, wanted: &SchemaRef, send: Taker<'_>) -> Result<()> {
        let Connector::Topic { topic, .. } = &self.table.connector else { return Ok(()) };
        let Some(info) = self.log.topic(topic) else { return Ok(()) };
        let columns: BTreeSet<String> = wanted.fields().iter().map(|field| field.name().clone()).collect();
        let reads = table_input_schema(&self.table.schema, &columns);
        let mut until = vec![];
        for partition in 0..info.partitions {
            let range = self.log.offsets(topic, PartitionId(partition)).map_err(external)?;
            until.push(PartitionPosition { offset: range.high_watermark.0, newest_us: None });
        }
        let start = vec![PartitionPosition::default(); until.len()];
        let Some(mut reader) = TopicReader::new(self.table.clone(), reads, start).map_err(external)? else {
            return Ok(());
        };
        reader.check(&self.log).map_err(external)?;
        while reader.positions().iter().zip(&until).any(|(position, until)| position.offset < until.offset) {
            for changes in reader.poll(&self.log, READ_BYTES, Some(&until)).map_err(external)?.changes {
                if !send(pick(changes.batch(), wanted)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Source for Topic {
    const TYPE: TableType = TableType::Base;

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn open(&self, _: &dyn Session, wanted: &SchemaRef) -> Result<Rows> {
        let (topic, wanted) = (self.clone(), wanted.clone());
        Ok(Rows::Read(Arc::new(move |send| topic.read(&wanted, send))))
    }
}

/// A topic that no table describes: its records as they are.
#[derive(Clone, Debug)]
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

    fn read(&self, wanted: &SchemaRef, send: Taker<'_>) -> Result<()> {
        let Some(info) = self.log.topic(&self.topic) else { return Ok(()) };
        for partition in 0..info.partitions {
            let range = self.log.offsets(&self.topic, PartitionId(partition)).map_err(external)?;
            let mut next = range.start.0;
            while next < range.high_watermark.0 {
                let fetched =
                    self.log.read(&self.topic, PartitionId(partition), Offset(next), READ_BYTES).map_err(external)?;
                if fetched.batches.is_empty() {
                    break;
                }
                let (records, behind) = self.records(partition, next, &fetched)?;
                // Only transaction markers: step over the batches.
                next = behind.unwrap_or(range.high_watermark.0);
                if records.num_rows() > 0 && !send(pick(&records, wanted)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The records of some batches from an offset on, and the offset behind the batches.
    fn records(&self, partition: i32, from: i64, fetched: &Fetched) -> Result<(RecordBatch, Option<i64>)> {
        let (mut partitions, mut offsets, mut times) =
            (Int32Builder::new(), Int64Builder::new(), TimestampMillisecondBuilder::new());
        let (mut keys, mut values) = (StringBuilder::new(), StringBuilder::new());
        let mut last_record = None;
        records::decode(&fetched.batches, |record| {
            last_record = last_record.max(Some(record.offset.0));
            if record.offset.0 >= from {
                partitions.append_value(partition);
                offsets.append_value(record.offset.0);
                times.append_value(record.timestamp_ms);
                keys.append_option(record.key.map(String::from_utf8_lossy));
                values.append_option(record.value.map(String::from_utf8_lossy));
            }
        })
        .map_err(external)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(partitions.finish()),
            Arc::new(offsets.finish()),
            Arc::new(times.finish()),
            Arc::new(keys.finish()),
            Arc::new(values.finish()),
        ];
        let records = RecordBatch::try_new(self.schema.clone(), columns)?;
        let batches = records::Batches::new(&fetched.batches).filter_map(std::result::Result::ok);
        let last = if records.num_rows() > 0 { last_record } else { batches.map(|batch| batch.last_offset()).max() };
        Ok((records, last.map(|last| last + 1)))
    }
}

#[async_trait]
impl Source for RawTopic {
    const TYPE: TableType = TableType::Base;

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn open(&self, _: &dyn Session, wanted: &SchemaRef) -> Result<Rows> {
        let (topic, wanted) = (self.clone(), wanted.clone());
        Ok(Rows::Read(Arc::new(move |send| topic.read(&wanted, send))))
    }
}
