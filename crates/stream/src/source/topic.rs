//! A table over a topic: records to rows, with their lateness.

use crate::error::{Result, StreamError};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rivermere_base::{Changes, Offset, PartitionId, TopicName};
use rivermere_format::{Decoder as _, JsonDecoder};
use rivermere_log::{Log, records};
use rivermere_sql::{Connector, LATENESS_COLUMN, TableDefinition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::operators::microseconds;

/// How far one partition has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// Next offset to read.
    pub offset: i64,
    /// Greatest event time of the rows before it, in microseconds.
    pub newest_us: Option<i64>,
}

/// A record that is no row: it goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub topic: String,
    /// Table or view that could not use it.
    pub object: String,
    /// Place of the record; none for a row that an expression failed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub reason: String,
}

/// What one read gave.
#[derive(Debug, Default)]
pub struct Polled {
    pub changes: Vec<Changes>,
    pub dead: Vec<DeadLetter>,
    /// Records read, good or bad.
    pub records: usize,
}

/// Longest text of a broken record that is kept.
const DEAD_VALUE_BYTES: usize = 64 * 1024;

/// Reads the records of one table's topic in offset order.
pub struct TopicReader {
    table: Arc<TableDefinition>,
    topic: TopicName,
    decoder: JsonDecoder,
    /// Output: needed columns, and the lateness.
    schema: SchemaRef,
    /// Decoded column of each output column; none is the lateness.
    projection: Vec<Option<usize>>,
    event_time: Option<usize>,
    delay_us: i64,
    positions: Vec<PartitionPosition>,
    records: records::Decoder,
}

impl TopicReader {
    /// `schema` is the shape that the dataflow wants: some of the table's columns, and the lateness.
    ///
    /// # Errors
    /// When a column's type has no JSON form.
    pub fn new(
        table: Arc<TableDefinition>,
        schema: SchemaRef,
        positions: Vec<PartitionPosition>,
    ) -> Result<Option<Self>> {
        let Connector::Topic { topic, .. } = &table.connector else { return Ok(None) };
        let failed = |message: String| StreamError::Records { topic: topic.to_string(), message };
        // A record is judged by the columns that are used, those that may not be null, and its event time.
        let wanted: BTreeSet<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let watermark = table.watermark.as_ref();
        let fields: Vec<Arc<Field>> = table
            .schema
            .fields()
            .iter()
            .filter(|field| {
                wanted.contains(field.name().as_str())
                    || !field.is_nullable()
                    || watermark.is_some_and(|watermark| watermark.column == *field.name())
            })
            .cloned()
            .collect();
        let decoded = Schema::new(fields);
        let event_time = watermark.and_then(|watermark| decoded.index_of(&watermark.column).ok());
        let projection = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                LATENESS_COLUMN => Ok(None),
                name => decoded.index_of(name).map(Some),
            })
            .collect::<Result<_, _>>()?;
        let decoder = JsonDecoder::new(Arc::new(decoded)).map_err(|error| failed(error.to_string()))?;
        Ok(Some(Self {
            topic: topic.clone(),
            delay_us: watermark.map_or(0, |watermark| watermark.delay_us),
            table,
            decoder,
            schema,
            projection,
            event_time,
            positions,
            records: records::Decoder::new(256 << 20),
        }))
    }

    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub fn positions(&self) -> &[PartitionPosition] {
        &self.positions
    }

    /// The watermark of the table: the least of its partitions', none while one has no row.
    pub fn watermark_us(&self) -> Option<i64> {
        self.event_time?;
        let newest: Option<Vec<i64>> = self.positions.iter().map(|position| position.newest_us).collect();
        Some(newest?.into_iter().min()?.saturating_sub(self.delay_us))
    }

    /// Records that wait: high watermarks minus positions.
    ///
    /// # Errors
    /// When the topic is gone.
    pub fn lag(&self, log: &Log) -> Result<i64> {
        let mut lag = 0;
        for (partition, position) in self.positions.iter().enumerate() {
            lag += (log.offsets(&self.topic, PartitionId(partition as i32))?.high_watermark.0 - position.offset).max(0);
        }
        Ok(lag)
    }

    /// Makes sure that positions fit the log: more partitions may have come; an end before a position means lost data.
    ///
    /// # Errors
    /// When the topic is gone or ends before a position.
    pub fn check(&mut self, log: &Log) -> Result<()> {
        if let Some(info) = log.topic(&self.topic) {
            let partitions = usize::try_from(info.partitions).unwrap_or(0);
            if partitions > self.positions.len() {
                self.positions.resize(partitions, PartitionPosition::default());
            }
        }
        for (partition, position) in self.positions.iter_mut().enumerate() {
            let range = log.offsets(&self.topic, PartitionId(partition as i32))?;
            if range.high_watermark.0 < position.offset {
                return Err(StreamError::LogBehind {
                    topic: self.topic.to_string(),
                    partition: partition as i32,
                    end: range.high_watermark.0,
                    position: position.offset,
                });
            }
            position.offset = position.offset.max(range.start.0);
        }
        Ok(())
    }

    /// Reads up to about `max_bytes` from each partition, not past `until` where it is given.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn poll(&mut self, log: &Log, max_bytes: usize, until: Option<&[PartitionPosition]>) -> Result<Polled> {
        let mut polled = Polled::default();
        for partition in 0..self.positions.len() {
            let end = match until {
                Some(until) => until.get(partition).map_or(0, |position| position.offset),
                None => i64::MAX,
            };
            let from = self.positions[partition].offset;
            if from >= end {
                continue;
            }
            let fetched = log.read(&self.topic, PartitionId(partition as i32), Offset(from), max_bytes)?;
            if fetched.batches.is_empty() {
                continue;
            }
            self.decode(partition, &fetched.batches, end, &mut polled)?;
        }
        Ok(polled)
    }

    fn decode(&mut self, partition: usize, batches: &bytes::Bytes, end: i64, polled: &mut Polled) -> Result<()> {
        let from = self.positions[partition].offset;
        let mut next = from;
        let mut taken: Vec<(i64, i64)> = vec![];
        let mut failure = None;
        let decoder = &mut self.decoder;
        let visited = self.records.decode(batches, |record| {
            let offset = record.offset.0;
            if offset < from || offset >= end || failure.is_some() {
                return;
            }
            match decoder.push(record.value) {
                Ok(()) => {
                    taken.push((offset, record.timestamp_ms));
                    next = offset + 1;
                }
                Err(error) => failure = Some(error),
            }
        });
        let failed = |message: String| StreamError::Records { topic: self.topic.to_string(), message };
        if let Err(error) = visited {
            return Err(failed(error.to_string()));
        }
        if let (Some(error), true) = (&failure, taken.is_empty()) {
            return Err(failed(error.to_string()));
        }
        if taken.is_empty() {
            // Only transaction markers or records below the position: step over them.
            let last = records::Batches::new(batches)
                .filter_map(std::result::Result::ok)
                .map(|batch| batch.last_offset())
                .max();
            self.positions[partition].offset = last.map_or(from, |last| last + 1).min(end).max(from);
            return Ok(());
        }
        let decoded = self.decoder.finish().map_err(|error| failed(error.to_string()))?;
        for rejected in &decoded.rejected {
            let (offset, timestamp_ms) = taken[rejected.index];
            polled.dead.push(DeadLetter {
                topic: self.topic.to_string(),
                object: self.table.name.clone(),
                partition: Some(partition as i32),
                offset: Some(offset),
                timestamp_ms: Some(timestamp_ms),
                key: None,
                value: None,
                reason: rejected.reason.clone(),
            });
        }
        if !decoded.rejected.is_empty() {
            let places: std::collections::BTreeMap<i64, usize> = polled
                .dead
                .iter()
                .enumerate()
                .filter(|(_, letter)| letter.partition == Some(partition as i32) && letter.value.is_none())
                .filter_map(|(index, letter)| Some((letter.offset?, index)))
                .collect();
            let text = |bytes: Option<&[u8]>| {
                bytes.map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(DEAD_VALUE_BYTES)]).into_owned())
            };
            self.records
                .decode(batches, |record| {
                    if let Some(index) = places.get(&record.offset.0) {
                        polled.dead[*index].key = text(record.key);
                        polled.dead[*index].value = text(record.value);
                    }
                })
                .map_err(|error| StreamError::Records { topic: self.topic.to_string(), message: error.to_string() })?;
        }
        polled.records += taken.len();
        self.positions[partition].offset = next;
        if decoded.batch.num_rows() > 0 {
            let lateness: ArrayRef = Arc::new(self.lateness(partition, &decoded.batch)?);
            let column =
                |column: &Option<usize>| column.map_or(&lateness, |column| decoded.batch.column(column)).clone();
            let columns: Vec<ArrayRef> = self.projection.iter().map(column).collect();
            polled.changes.push(Changes::inserts(RecordBatch::try_new(self.schema.clone(), columns)?));
        }
        Ok(())
    }

    /// The partition's watermark before each row, minus the row's event time. Rows without either are on time.
    fn lateness(&mut self, partition: usize, batch: &RecordBatch) -> Result<Int64Array> {
        let Some(column) = self.event_time else {
            return Ok(Int64Array::from_value(i64::MIN, batch.num_rows()));
        };
        let times = microseconds(batch.column(column))?;
        let newest = &mut self.positions[partition].newest_us;
        let delay = self.delay_us;
        let lateness = (0..times.len()).map(|row| {
            if times.is_null(row) {
                return i64::MIN;
            }
            let time = times.value(row);
            let before = newest.map_or(i64::MIN, |newest| newest.saturating_sub(delay).saturating_sub(time));
            *newest = Some(newest.map_or(time, |newest| newest.max(time)));
            before
        });
        Ok(Int64Array::from_iter_values(lateness.collect::<Vec<_>>()))
    }
}

/// The shape of a scan that also asks for the lateness.
pub fn lateness_field() -> Field {
    Field::new(LATENESS_COLUMN, DataType::Int64, false)
}
