//! The rows of a slice: those of its base file, with what its logs say.
//!
//! Hudi technical specification, "Readers" and "Merging". Only what the logs hold is kept in memory.

use crate::blocks::{self, Content};
use crate::place::{Found, Place};
use crate::slices::{Committed, Slice};
use crate::timeline::{Instant, version_of};
use arrow::array::{
    Array, ArrayRef, AsArray as _, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, interleave_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use rivermere_table::{Batches, Filter, StoredFile, TableError};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Rows in a batch.
const BATCH_ROWS: usize = 8192;
const READING: &str = "reading a data file";
pub(crate) const KEY: &str = "_hoodie_record_key";
const IS_DELETED: &str = "_hoodie_is_deleted";

/// Which of two rows of a key stays.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Merging {
    /// The one that was written later.
    Later,
    /// The one whose columns to order by are greater; the later one of equal ones.
    Greater,
    /// Among logs the greater one, over the base file the log: what tables before version 8 do unless they are told otherwise.
    GreaterOfLogs,
    /// By a program of its own.
    Other(String),
}

/// A table as its slices are read.
pub(crate) struct Reading {
    place: Arc<Place>,
    schema: SchemaRef,
    merging: Merging,
    /// Columns that the record key is made of; where rows have it in a column of its own, that one.
    key: Vec<String>,
    /// Whether a key of one column names it.
    named_keys: bool,
    ordering: Vec<String>,
    partitioned_by: Vec<String>,
    committed: Committed,
    completed: HashMap<i64, i64>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("location", &self.place.location).finish_non_exhaustive()
    }
}

/// The last that logs say of a key.
struct Latest {
    ordering: Option<Box<[u8]>>,
    /// Of a row, in which batch and where; nothing when the row is gone.
    row: Option<(usize, usize)>,
}

impl Reading {
    /// `schema` has the columns of the version whose instants these are.
    pub(crate) fn new(place: &Arc<Place>, found: &Found, instants: &[Instant], schema: SchemaRef) -> Arc<Self> {
        let of = &found.properties;
        let ordering = match of.names("hoodie.table.ordering.fields") {
            names if names.is_empty() => of.names("hoodie.table.precombine.field"),
            names => names,
        };
        let class = of.get("hoodie.compaction.payload.class").or_else(|| of.get("hoodie.table.payload.class"));
        let class = class.map(|class| class.rsplit('.').next().unwrap_or(class));
        let mode = of.get("hoodie.record.merge.mode").map(str::to_uppercase);
        let merging = match (mode.as_deref(), class) {
            (Some("COMMIT_TIME_ORDERING"), _) => Merging::Later,
            (Some("EVENT_TIME_ORDERING"), _) => Merging::Greater,
            (Some(_), Some(class)) => Merging::Other(class.to_owned()),
            (Some(mode), None) => Merging::Other(mode.to_owned()),
            (None, Some("DefaultHoodieRecordPayload" | "EventTimeAvroPayload")) => Merging::Greater,
            (None, None | Some("OverwriteWithLatestAvroPayload")) => Merging::GreaterOfLogs,
            (None, Some(class)) => Merging::Other(class.to_owned()),
        };
        // Since version 9 what a payload did to rows may be said by properties beside the mode.
        let by_properties = of.get("hoodie.table.partial.update.mode").map(|mode| format!("partial updates ({mode})"));
        let by_properties = by_properties.or_else(|| of.beginning("hoodie.record.merge.property.").map(str::to_owned));
        let merging = by_properties.map_or(merging, Merging::Other);
        let merging =
            if ordering.is_empty() && !matches!(merging, Merging::Other(_)) { Merging::Later } else { merging };
        let has_key = of.get("hoodie.populate.meta.fields").is_none_or(|text| text.eq_ignore_ascii_case("true"));
        Arc::new(Self {
            place: place.clone(),
            schema,
            merging,
            key: if has_key { vec![KEY.to_owned()] } else { of.names("hoodie.table.recordkey.fields") },
            named_keys: found.has_named_keys(),
            ordering,
            partitioned_by: of.names("hoodie.table.partition.fields"),
            committed: Committed::new(found, instants),
            completed: instants.iter().map(|instant| (version_of(&instant.time), instant.version())).collect(),
        })
    }

    pub(crate) fn failed(&self, file: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
        TableError::storage(READING, format!("{}, file '{file}'", self.place.location), error.into())
    }

    /// The rows of a slice with some of the table's columns, without some of those for which a filter does not hold.
    pub(crate) async fn filtered(
        self: &Arc<Self>,
        slice: &Slice,
        wanted: &SchemaRef,
        filter: Option<&Filter>,
    ) -> Result<Batches, TableError> {
        if slice.logs.is_empty() {
            return self.base(slice, wanted, filter).await;
        }
        if let Merging::Other(how) = &self.merging {
            return Err(self.place.unsupported(format!("rows that are merged by {how},")));
        }
        let columns = self.with_merged(wanted);
        let logs = self.logs(slice, &columns).await?;
        let width = wanted.fields().len();
        let base = match &slice.base {
            Some(_) => self.base(slice, &columns, None).await?,
            None => futures::stream::empty().boxed(),
        };
        let (reading, name) = (self.clone(), slice.file_id.clone());
        let Logs { batches, mut latest } = logs;
        let shown: Vec<usize> = (0..width).collect();
        let rows = merged(base, batches, move |batch: Option<&RecordBatch>, others: usize| {
            let picked = match batch {
                Some(batch) => reading.pick(batch, &mut latest, others)?,
                None => {
                    let left = std::mem::take(&mut latest).into_values().filter_map(|latest| latest.row);
                    let mut left: Vec<(usize, usize)> = left.collect();
                    // Rows are known by their place: it must be the same whenever they are read.
                    left.sort_unstable();
                    left
                }
            };
            Ok(picked)
        });
        let reading = self.clone();
        let told = move |batch: Result<RecordBatch, Merge>| match batch {
            Ok(batch) => batch.project(&shown).map_err(|error| reading.failed(&name, error)),
            Err(Merge::Table(error)) => Err(error),
            Err(Merge::Arrow(error)) => Err(reading.failed(&name, error)),
        };
        Ok(rows.map(told).boxed())
    }

    /// What is asked for, and what rows are merged by.
    fn with_merged(&self, wanted: &SchemaRef) -> SchemaRef {
        let mut fields: Vec<FieldRef> = wanted.fields().to_vec();
        let merged_by = self.key.iter().chain(&self.ordering).map(String::as_str).chain([IS_DELETED]);
        for name in merged_by {
            if fields.iter().any(|field| field.name() == name) {
                continue;
            }
            let field = match name {
                KEY => Some(text_field(KEY)),
                name => self.schema.field_with_name(name).ok().map(|field| Arc::new(field.clone())),
            };
            fields.extend(field);
        }
        Arc::new(Schema::new(fields))
    }

    /// The base rows of a batch that stay, and the rows of logs that take the place of others, by batch and row; `others` is the
    /// number of this batch.
    fn pick(
        &self,
        batch: &RecordBatch,
        latest: &mut HashMap<Box<str>, Latest>,
        number: usize,
    ) -> Result<Vec<(usize, usize)>, ArrowError> {
        let keys = self.keys(batch)?;
        let orderings = match self.merging {
            Merging::Greater => self.orderings(batch)?,
            _ => None,
        };
        let mut picked = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let Some(newer) = latest.remove(keys.value(row)) else {
                picked.push((number, row));
                continue;
            };
            let own = orderings.as_ref().map(|rows| rows.row(row));
            let is_greater = match (&own, &newer.ordering) {
                (Some(own), Some(newer)) => own.as_ref() > newer.as_ref(),
                _ => false,
            };
            match newer.row {
                _ if is_greater => picked.push((number, row)),
                Some(place) => picked.push(place),
                None => {}
            }
        }
        Ok(picked)
    }

    fn keys(&self, batch: &RecordBatch) -> Result<StringArray, ArrowError> {
        match (self.key.as_slice(), batch.column_by_name(KEY)) {
            ([name], Some(column)) if name == KEY => Ok(column.as_string::<i32>().clone()),
            _ => record_keys(&self.key, self.named_keys, batch),
        }
    }

    fn ordering_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.ordering.iter().filter_map(|name| batch.column_by_name(name).cloned()).collect()
    }

    fn converter(&self) -> Result<RowConverter, ArrowError> {
        let fields = self.ordering.iter().filter_map(|name| self.schema.field_with_name(name).ok());
        RowConverter::new(fields.map(|field| SortField::new(field.data_type().clone())).collect())
    }

    fn orderings(&self, batch: &RecordBatch) -> Result<Option<arrow::row::Rows>, ArrowError> {
        if self.merging == Merging::Later {
            return Ok(None);
        }
        let columns = self.ordering_columns(batch);
        if columns.len() != self.ordering.len() {
            return Ok(None);
        }
        self.converter()?.convert_columns(&columns).map(Some)
    }

    /// What a key that is deleted is ordered by.
    fn ordering_of(&self, value: Option<&ScalarValue>) -> Result<Option<Box<[u8]>>, ArrowError> {
        let (Some(value), [name]) = (value, self.ordering.as_slice()) else { return Ok(None) };
        if self.merging == Merging::Later {
            return Ok(None);
        }
        let Ok(field) = self.schema.field_with_name(name) else { return Ok(None) };
        let value = strict(&value.to_array().map_err(ArrowError::from)?, field.data_type())?;
        let rows = self.converter()?.convert_columns(&[value])?;
        Ok(rows.iter().next().map(|row| Box::from(row.as_ref())))
    }

    async fn logs(&self, slice: &Slice, columns: &SchemaRef) -> Result<Logs, TableError> {
        let mut blocks: Vec<(i64, Arc<str>, Content)> = vec![];
        for log in &slice.logs {
            let name: Arc<str> = log.path.filename().unwrap_or_default().into();
            let read = async { self.place.location.store().get(&log.path).await?.bytes().await };
            let bytes = read.await.map_err(|error| self.failed(&name, error))?;
            let damaged = |reason: String| self.place.damaged(&log.path, reason);
            for block in blocks::blocks(bytes).map_err(damaged)? {
                let instant = block.instant().map_or(log.instant, version_of);
                // A rollback is no instant that has rows, and counts whatever the timeline remembers of it.
                if let Some(undone) = block.undoes() {
                    blocks.retain(|(instant, ..)| *instant != undone);
                    continue;
                }
                if !self.committed.has(instant) {
                    continue;
                }
                match block.content().map_err(damaged)? {
                    Some(content) => blocks.push((instant, name.clone(), content)),
                    None => {}
                }
            }
        }
        // In the order in which their instants were completed; those of one instant stay as they are.
        blocks.sort_by_key(|(instant, ..)| self.completed.get(instant).copied().unwrap_or(*instant));
        let mut logs = Logs::default();
        for (_, name, content) in blocks {
            self.add(&mut logs, content, columns).map_err(|error| self.failed(&name, error))?;
        }
        Ok(logs)
    }

    fn add(&self, logs: &mut Logs, content: Content, columns: &SchemaRef) -> Result<(), ArrowError> {
        match content {
            Content::Deletes(deletes) => {
                for delete in deletes {
                    let ordering = self.ordering_of(delete.ordering.as_ref())?;
                    logs.note(delete.key.into(), Latest { ordering, row: None });
                }
            }
            Content::Rows(batches) => {
                for batch in batches {
                    let batch = self.conform(&batch, columns, "")?;
                    let (keys, orderings) = (self.keys(&batch)?, self.orderings(&batch)?);
                    let gone = batch.column_by_name(IS_DELETED).and_then(|column| column.as_boolean_opt().cloned());
                    for row in 0..batch.num_rows() {
                        let ordering = orderings.as_ref().map(|rows| Box::from(rows.row(row).as_ref()));
                        let is_gone = gone.as_ref().is_some_and(|gone| gone.is_valid(row) && gone.value(row));
                        let place = (!is_gone).then_some((logs.batches.len(), row));
                        logs.note(keys.value(row).into(), Latest { ordering, row: place });
                    }
                    logs.batches.push(batch);
                }
            }
        }
        Ok(())
    }

    /// A batch of a file with the columns that are asked for: by their names, wider, null where there is none.
    fn conform(&self, batch: &RecordBatch, columns: &SchemaRef, partition: &str) -> Result<RecordBatch, ArrowError> {
        let arrays = columns.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(column) => conform(column, field.data_type()),
            None => self.constant(field, partition, batch.num_rows()),
        });
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let nullable = columns.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(nullable.collect::<Vec<_>>())), arrays, &options)
    }

    /// A column that files do not have: of the partition, or null.
    fn constant(&self, field: &FieldRef, partition: &str, rows: usize) -> Result<ArrayRef, ArrowError> {
        let value = || {
            let at = self.partitioned_by.iter().position(|name| name == field.name())?;
            let part =
                partition.split('/').nth(at).filter(|_| partition.split('/').count() == self.partitioned_by.len())?;
            let part = part.strip_prefix(field.name().as_str()).and_then(|rest| rest.strip_prefix('=')).unwrap_or(part);
            let plain = percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
            (plain != "__HIVE_DEFAULT_PARTITION__").then_some(plain)
        };
        match value() {
            None => Ok(new_null_array(field.data_type(), rows)),
            Some(value) => {
                let values: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)));
                strict(&values, field.data_type())
            }
        }
    }

    async fn base(
        self: &Arc<Self>,
        slice: &Slice,
        wanted: &SchemaRef,
        filter: Option<&Filter>,
    ) -> Result<Batches, TableError> {
        let Some(base) = &slice.base else { return Ok(futures::stream::empty().boxed()) };
        let name = base.path.filename().unwrap_or_default().to_owned();
        let failed = |error: ParquetError| self.failed(&name, error);
        let file =
            StoredFile { store: self.place.location.store().clone(), path: base.path.clone(), bytes: base.bytes };
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchStreamBuilder::new_with_options(file, options).await.map_err(failed)?;
        let roots = wanted.fields().iter().filter_map(|field| builder.schema().index_of(field.name()).ok());
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.collect::<Vec<_>>());
        let mut builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        if let Some(filter) = filter {
            let kept = filter.row_groups(builder.metadata(), builder.schema(), |name| Some(name.to_owned()));
            builder = builder.with_row_groups(kept);
        }
        let stream = builder.build().map_err(failed)?;
        let (reading, wanted, partition) = (self.clone(), wanted.clone(), slice.partition.clone());
        let shape = move |batch: Result<RecordBatch, ParquetError>| {
            let batch = batch.map_err(ArrowError::from);
            let shaped = batch.and_then(|batch| reading.conform(&batch, &wanted, &partition));
            shaped.map_err(|error| reading.failed(&name, error))
        };
        Ok(stream.map(shape).boxed())
    }
}

/// Record keys, as Hudi writes them.
pub(crate) fn record_keys(names: &[String], named: bool, batch: &RecordBatch) -> Result<StringArray, ArrowError> {
    let column = |name: &String| {
        let missing = || ArrowError::SchemaError(format!("there is no column '{name}' of the record key"));
        batch.column_by_name(name).ok_or_else(missing)
    };
    // Hudi makes its keys of what Avro has: a time is a number there.
    let plain = |name: &String| {
        let column = column(name)?;
        match column.data_type() {
            DataType::Timestamp(..) => strict(column, &DataType::Int64),
            _ => Ok(column.clone()),
        }
    };
    let columns = names.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
    let options = FormatOptions::default();
    let shown = columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let shown = shown.collect::<Result<Vec<_>, _>>()?;
    let key = |row: usize| {
        let parts = names.iter().zip(&columns).zip(&shown).map(|((name, column), shown)| {
            let value = match column.is_null(row) {
                true => "__null__".to_owned(),
                false => shown.value(row).to_string(),
            };
            let value = if value.is_empty() { "__empty__".to_owned() } else { value };
            match names.len() {
                1 if !named => value,
                _ => format!("{name}:{value}"),
            }
        });
        parts.collect::<Vec<_>>().join(",")
    };
    Ok((0..batch.num_rows()).map(|row| Some(key(row))).collect())
}

#[derive(Default)]
struct Logs {
    batches: Vec<RecordBatch>,
    latest: HashMap<Box<str>, Latest>,
}

impl Logs {
    fn note(&mut self, key: Box<str>, newer: Latest) {
        let is_greater = |held: &Latest| match (&held.ordering, &newer.ordering) {
            (Some(held), Some(newer)) => held > newer,
            _ => false,
        };
        if !self.latest.get(&key).is_some_and(is_greater) {
            self.latest.insert(key, newer);
        }
    }
}

enum Merge {
    Table(TableError),
    Arrow(ArrowError),
}

/// The batches that picking makes of each batch of the base file, and, behind the last one, of what is left in the logs.
fn merged(
    base: Batches,
    logs: Vec<RecordBatch>,
    mut pick: impl FnMut(Option<&RecordBatch>, usize) -> Result<Vec<(usize, usize)>, ArrowError> + Send + 'static,
) -> BoxStream<'static, Result<RecordBatch, Merge>> {
    let all = base.map_ok(Some).chain(futures::stream::once(async { Ok(None) }));
    let merged = all.map(move |batch: Result<Option<RecordBatch>, TableError>| {
        let batch = batch.map_err(Merge::Table)?;
        let picked = pick(batch.as_ref(), logs.len()).map_err(Merge::Arrow)?;
        let sources: Vec<&RecordBatch> = logs.iter().chain(&batch).collect();
        match (sources.is_empty(), &batch) {
            (true, _) => Ok(None),
            (false, Some(batch)) if picked.is_empty() => Ok(Some(batch.slice(0, 0))),
            _ => interleave_record_batch(&sources, &picked).map(Some).map_err(Merge::Arrow),
        }
    });
    merged.filter_map(|batch| async { batch.transpose() }).boxed()
}

/// A column that Hudi adds.
pub(crate) fn text_field(name: &str) -> FieldRef {
    Arc::new(Field::new(name, DataType::Utf8, true))
}

/// What is read, as the table has it: columns inside others by their names, null where there is none.
fn conform(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match (data_type, array.data_type()) {
        (wanted, own) if wanted == own => Ok(array.clone()),
        (DataType::Struct(fields), DataType::Struct(_)) => {
            let parts = array.as_struct();
            let child = |field: &FieldRef| match parts.column_by_name(field.name()) {
                Some(part) => conform(part, field.data_type()),
                None => Ok(new_null_array(field.data_type(), array.len())),
            };
            let columns = fields.iter().map(child).collect::<Result<Vec<_>, _>>()?;
            let fields = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
            let whole = StructArray::try_new(fields, columns, parts.nulls().cloned())?;
            strict(&(Arc::new(whole) as ArrayRef), data_type)
        }
        (DataType::List(element), DataType::List(_)) => {
            let parts = array.as_list::<i32>();
            let values = conform(parts.values(), element.data_type())?;
            let element = Arc::new(element.as_ref().clone().with_nullable(true));
            let whole = ListArray::try_new(element, parts.offsets().clone(), values, parts.nulls().cloned())?;
            strict(&(Arc::new(whole) as ArrayRef), data_type)
        }
        _ => strict(array, data_type),
    }
}

/// What does not fit is an error, and not null.
pub(crate) fn strict(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, data_type, &CastOptions { safe: false, ..CastOptions::default() })
}
