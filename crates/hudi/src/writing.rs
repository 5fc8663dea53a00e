//! Base files: Parquet with the columns that Hudi adds to each row, one or more for each partition.

use crate::blocks;
use crate::place::{Found, Place};
use crate::produce::{self, Begun, Written};
use crate::reading::{KEY, record_keys, strict, text_field};
use crate::slices::Slice;
use arrow::array::{Array as _, ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use object_store::path::Path;
use object_store::{Error, PutMode, PutOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use rivermere_table::TableError;
use std::collections::HashMap;
use std::sync::Arc;

/// A file is closed at about this size; it is held in memory until then.
const TARGET_BYTES: usize = 32 * 1024 * 1024;
/// Partitions that are written at the same time; with more, the largest are closed.
const OPEN_FILES: usize = 64;
/// Bytes of all files that are being written.
const HELD_BYTES: usize = 256 * 1024 * 1024;
/// Rows of a row group at most.
const GROUP_ROWS: usize = 256 * 1024;
const WRITING: &str = "writing a data file";
/// What Hudi adds to each row, in this order.
pub(crate) const META: [&str; 5] =
    ["_hoodie_commit_time", "_hoodie_commit_seqno", KEY, "_hoodie_partition_path", "_hoodie_file_name"];
/// A partition of null, or of an empty text.
const NOTHING: &str = "__HIVE_DEFAULT_PARTITION__";

/// Writes rows into files of an instant.
pub(crate) struct Files<'a> {
    place: &'a Place,
    begun: &'a Begun,
    /// The table's columns.
    columns: SchemaRef,
    /// Those of files: with the ones that Hudi adds, where the table has them.
    schema: SchemaRef,
    has_meta: bool,
    logs: bool,
    key: Vec<String>,
    named_keys: bool,
    partitioned_by: Vec<String>,
    hive_style: bool,
    encoded: bool,
    open: HashMap<String, Open>,
    /// The next base file of a slice, while it is written.
    next: Option<Open>,
    numbered: u64,
    done: Vec<Written>,
    pub(crate) rows: u64,
}

struct Open {
    file_id: String,
    name: String,
    rows: u64,
    writer: ArrowWriter<Vec<u8>>,
}

impl Open {
    /// Bytes that are held for it.
    fn size(&self) -> usize {
        self.writer.in_progress_size() + self.writer.bytes_written()
    }
}

impl<'a> Files<'a> {
    /// `columns` are the table's.
    pub(crate) fn new(place: &'a Place, found: &Found, begun: &'a Begun, columns: &SchemaRef) -> Self {
        let of = &found.properties;
        let has_meta = found.has_meta();
        let meta = META.iter().filter(|_| has_meta).map(|name| text_field(name));
        let schema = meta.chain(columns.fields().iter().cloned()).collect::<Vec<_>>();
        Self {
            place,
            begun,
            columns: columns.clone(),
            schema: Arc::new(Schema::new(schema)),
            has_meta,
            logs: found.logs_deletes(),
            key: of.names("hoodie.table.recordkey.fields"),
            named_keys: found.has_named_keys(),
            partitioned_by: of.names("hoodie.table.partition.fields"),
            hive_style: of.is("hoodie.datasource.write.hive_style_partitioning"),
            encoded: of.is("hoodie.datasource.write.partitionpath.urlencode"),
            open: HashMap::new(),
            next: None,
            numbered: 0,
            done: vec![],
            rows: 0,
        }
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
        self.place.failed(WRITING, error)
    }

    fn value(&self, column: &str, source: ArrowError) -> TableError {
        let what = if column.is_empty() { "a row".to_owned() } else { format!("a value of column '{column}'") };
        TableError::Value { what, location: self.place.location.to_string(), source }
    }

    /// Rows that are new, whose columns are the table's, in their order: into file groups of their own.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let given = batch.schema();
        let is_same = |(given, own): (&FieldRef, &FieldRef)| given.name() == own.name();
        if given.fields().len() != self.columns.fields().len()
            || !given.fields().iter().zip(self.columns.fields()).all(is_same)
        {
            // They were planned over columns that the table has no more: whoever planned them does it anew.
            return Err(TableError::Conflict { location: self.place.location.to_string(), attempts: 1 });
        }
        let columns =
            batch.columns().iter().zip(self.columns.fields()).map(|(column, field)| {
                strict(column, field.data_type()).map_err(|error| self.value(field.name(), error))
            });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(self.columns.clone(), columns).map_err(|error| self.value("", error))?;
        for (partition, part) in self.split(&rows)? {
            self.open_in(&partition)?;
            let name = self.open.get(&partition).map(|open| open.name.clone()).unwrap_or_default();
            let whole = self.with_meta(&part, &partition, &name).map_err(|error| self.value("", error))?;
            self.write_in(&partition, &whole).await?;
        }
        Ok(())
    }

    /// Begins the next base file of a slice.
    pub(crate) fn begin_next(&mut self, slice: &Slice) -> Result<(), TableError> {
        self.next = Some(self.opened(slice.file_id.clone())?);
        Ok(())
    }

    /// Rows with what Hudi added to them.
    pub(crate) fn write_next(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        let Some(mut open) = self.next.take() else { return Ok(()) };
        let whole = self.renamed(batch, &open.name).map_err(|error| self.value("", error))?;
        open.rows += whole.num_rows() as u64;
        open.writer.write(&whole).map_err(|error| self.failed(error))?;
        self.next = Some(open);
        Ok(())
    }

    /// Puts the next base file of a slice, whether there are rows in it or not; `deleted` is how many the slice had before and has not
    /// now.
    pub(crate) async fn finish_next(&mut self, slice: &Slice, deleted: u64) -> Result<(), TableError> {
        let Some(open) = self.next.take() else { return Ok(()) };
        self.put(&slice.partition, open, deleted, slice.base.as_ref().map(|base| format!("{:017}", base.instant))).await
    }

    /// Rows that are there already, with what Hudi added to them, into new file groups of their partition.
    pub(crate) async fn keep(&mut self, partition: &str, batch: &RecordBatch) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.open_in(partition)?;
        let name = self.open.get(partition).map(|open| open.name.clone()).unwrap_or_default();
        let whole = self.renamed(batch, &name).map_err(|error| self.value("", error))?;
        self.write_in(partition, &whole).await
    }

    fn open_in(&mut self, partition: &str) -> Result<(), TableError> {
        if !self.open.contains_key(partition) {
            let open = self.opened(format!("{}-0", self.place.location.new_id()))?;
            self.open.insert(partition.to_owned(), open);
        }
        Ok(())
    }

    async fn write_in(&mut self, partition: &str, whole: &RecordBatch) -> Result<(), TableError> {
        self.rows += whole.num_rows() as u64;
        let Some(open) = self.open.get_mut(partition) else { return Ok(()) };
        open.rows += whole.num_rows() as u64;
        let written = open.writer.write(whole).map(|()| open.size());
        if written.map_err(|error| self.failed(error))? >= TARGET_BYTES {
            self.close(partition).await?;
        }
        while self.open.len() > OPEN_FILES || self.open.values().map(Open::size).sum::<usize>() > HELD_BYTES {
            let largest = self.open.iter().max_by_key(|(_, open)| open.size()).map(|(name, _)| name.clone());
            let Some(largest) = largest else { break };
            self.close(&largest).await?;
        }
        Ok(())
    }

    /// Whether rows are taken out of a slice by a log beside it, rather than by writing it anew.
    pub(crate) fn logs(&self) -> bool {
        self.logs
    }

    /// Takes the rows of some keys out of a slice, by a log.
    pub(crate) async fn delete_keys(&mut self, slice: &Slice, schema: &str, keys: &[String]) -> Result<(), TableError> {
        let log = blocks::deletes_log(&self.begun.time, schema, &slice.partition, keys);
        let log = log.map_err(|error| self.failed(error))?;
        let name = format!(".{}_{}.log.1_0-0-0", slice.file_id, self.begun.time);
        let inside = if slice.partition.is_empty() { name } else { format!("{}/{name}", slice.partition) };
        produce::mark(self.place, self.begun, &inside, true).await?;
        let bytes = log.len() as u64;
        put_file(self.place, &inside, log).await?;
        let base =
            slice.base.as_ref().map(|base| (format!("{:017}", base.instant), base.path.filename().unwrap_or_default()));
        self.done.push(Written {
            partition: slice.partition.clone(),
            file_id: slice.file_id.clone(),
            inside,
            bytes,
            rows: 0,
            deleted: keys.len() as u64,
            before: base.as_ref().map(|(instant, _)| instant.clone()),
            base: Some(base.map_or_else(String::new, |(_, name)| name.to_owned())),
        });
        Ok(())
    }

    /// The columns of files, with those that Hudi adds.
    pub(crate) fn whole(&self) -> &SchemaRef {
        &self.schema
    }

    /// The files that were written.
    pub(crate) async fn finish(mut self) -> Result<Vec<Written>, TableError> {
        let open: Vec<String> = self.open.keys().cloned().collect();
        for partition in open {
            self.close(&partition).await?;
        }
        Ok(self.done)
    }

    fn opened(&self, file_id: String) -> Result<Open, TableError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by(concat!("rivermere version ", env!("CARGO_PKG_VERSION")).to_string())
            .build();
        let writer = ArrowWriter::try_new(vec![], self.schema.clone(), Some(properties));
        let name = format!("{file_id}_0-0-0_{}.parquet", self.begun.time);
        Ok(Open { file_id, name, rows: 0, writer: writer.map_err(|error| self.failed(error))? })
    }

    async fn close(&mut self, partition: &str) -> Result<(), TableError> {
        let Some(open) = self.open.remove(partition) else { return Ok(()) };
        self.put(partition, open, 0, None).await
    }

    async fn put(
        &mut self,
        partition: &str,
        mut open: Open,
        deleted: u64,
        before: Option<String>,
    ) -> Result<(), TableError> {
        let finished = (|| {
            open.writer.finish()?;
            Ok::<_, ParquetError>(std::mem::take(open.writer.inner_mut()))
        })();
        let bytes = finished.map_err(|error| self.failed(error))?;
        let inside = match partition {
            "" => open.name.clone(),
            partition => format!("{partition}/{}", open.name),
        };
        produce::mark(self.place, self.begun, &inside, before.is_none()).await?;
        // By this file Hudi knows a folder for a partition, also that of a table without partitions.
        let (folder, depth) = match partition {
            "" => (String::new(), 0),
            partition => (format!("{partition}/"), partition.split('/').count()),
        };
        let text = format!("commitTime={}\npartitionDepth={depth}\n", self.begun.time);
        put_file(self.place, &format!("{folder}.hoodie_partition_metadata"), text.into_bytes()).await?;
        let size = bytes.len() as u64;
        put_file(self.place, &inside, bytes).await?;
        let (partition, file_id) = (partition.to_owned(), open.file_id);
        let (rows, base) = (open.rows, None);
        self.done.push(Written { partition, file_id, inside, bytes: size, rows, deleted, before, base });
        Ok(())
    }

    fn with_meta(&mut self, part: &RecordBatch, partition: &str, file: &str) -> Result<RecordBatch, ArrowError> {
        if !self.has_meta {
            return Ok(part.clone());
        }
        let (rows, first) = (part.num_rows(), self.numbered);
        self.numbered += rows as u64;
        let time = &self.begun.time;
        let number = |row: usize| format!("{time}_0_{}", first + row as u64);
        let key = match self.key.as_slice() {
            // A table without a key: each row is known by when it came, and as which one.
            [] => (0..rows).map(|row| Some(number(row))).collect(),
            names => record_keys(names, self.named_keys, part)?,
        };
        let same =
            |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows))) };
        let numbers: ArrayRef = Arc::new((0..rows).map(|row| Some(number(row))).collect::<StringArray>());
        let mut columns = vec![same(time), numbers, Arc::new(key), same(partition), same(file)];
        columns.extend(part.columns().iter().cloned());
        RecordBatch::try_new(self.schema.clone(), columns)
    }

    fn renamed(&self, batch: &RecordBatch, file: &str) -> Result<RecordBatch, ArrowError> {
        let mut columns = batch.columns().to_vec();
        if let Some(name) = columns.get_mut(META.len() - 1).filter(|_| self.has_meta) {
            *name = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(file, batch.num_rows())));
        }
        RecordBatch::try_new(self.schema.clone(), columns)
    }

    /// The rows of each partition, by its path.
    fn split(&self, rows: &RecordBatch) -> Result<Vec<(String, RecordBatch)>, TableError> {
        if self.partitioned_by.is_empty() {
            return Ok(vec![(String::new(), rows.clone())]);
        }
        let columns = self.partitioned_by.iter().map(|name| {
            let column = rows.column_by_name(name).cloned();
            column.ok_or_else(|| self.failed(format!("there is no column '{name}', by which it is partitioned")))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let work = || {
            let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
            let encoded = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
            let mut groups: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
            for (row, key) in (0_u32..).zip(encoded.iter()) {
                groups.entry(Box::from(key.as_ref())).or_default().push(row);
            }
            let options = FormatOptions::default();
            let shown = columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
            let shown = shown.collect::<Result<Vec<_>, _>>()?;
            let mut parts: HashMap<String, Vec<u32>> = HashMap::new();
            for group in groups.into_values() {
                let row = group.first().map_or(0, |row| *row as usize);
                let values = self.partitioned_by.iter().zip(&columns).zip(&shown).map(|((name, column), shown)| {
                    let text = if column.is_null(row) { String::new() } else { shown.value(row).to_string() };
                    self.segment(name, &text)
                });
                parts.entry(values.collect::<Vec<_>>().join("/")).or_default().extend(group);
            }
            let part = |(path, mut indices): (String, Vec<u32>)| {
                indices.sort_unstable();
                Ok((path, take_record_batch(rows, &UInt32Array::from(indices))?))
            };
            parts.into_iter().map(part).collect::<Result<Vec<_>, ArrowError>>()
        };
        work().map_err(|error| self.value("", error))
    }

    fn segment(&self, name: &str, value: &str) -> String {
        let value = match value {
            "" => NOTHING.to_owned(),
            value if self.encoded => escaped(value),
            value => value.to_owned(),
        };
        if self.hive_style { format!("{name}={value}") } else { value }
    }
}

async fn put_file(place: &Place, inside: &str, bytes: Vec<u8>) -> Result<(), TableError> {
    let path = Path::parse(format!("{}/{inside}", place.location.path()));
    let path = path.map_err(|error| place.failed(WRITING, error))?;
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match place.location.store().put_opts(&path, bytes.into(), options).await {
        // The name is nobody else's: it is there since an attempt whose answer was lost.
        Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
        Err(error) => Err(place.failed(WRITING, error)),
    }
}

/// As Hive writes what a path would take apart.
fn escaped(value: &str) -> String {
    let special = |char: char| char.is_ascii_control() || "\"#%'*/:=?\\{}[]^".contains(char);
    let mut escaped = String::with_capacity(value.len());
    for char in value.chars() {
        match special(char) || (char == '.' && value.trim_matches('.').is_empty()) {
            true => escaped.push_str(&format!("%{:02X}", u32::from(char))),
            false => escaped.push(char),
        }
    }
    escaped
}

/// Whether values of a type name a partition as Hudi's own key generators do.
pub(crate) fn can_partition(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Boolean | DataType::Date32) || data_type.is_integer()
}
