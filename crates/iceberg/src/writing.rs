//! Data files: Parquet with the ids of columns, one or more for each partition, with the figures that readers prune by.

use crate::place::{Found, Place};
use crate::types::{arrow_field, datum};
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take_record_batch};
use arrow::datatypes::{FieldRef, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, PartitionKey, PrimitiveType, Schema,
    Struct, Type,
};
use iceberg::transform::create_transform_function;
use object_store::path::Path;
use object_store::{PutMode, PutOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::Statistics;
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
/// Letters of a bound.
const BOUND_LETTERS: usize = 16;
const WRITING: &str = "writing a data file";

/// Writes rows into files that no snapshot names yet.
pub(crate) struct Files<'a> {
    place: &'a Place,
    found: &'a Found,
    schema: SchemaRef,
    open: HashMap<Vec<u8>, Open>,
    done: Vec<DataFile>,
    pub(crate) rows: u64,
}

/// The file of a partition that is being written.
struct Open {
    partition: Struct,
    writer: ArrowWriter<Vec<u8>>,
}

impl<'a> Files<'a> {
    /// # Errors
    /// For a table with columns that are not written here.
    pub(crate) fn new(place: &'a Place, found: &'a Found) -> Result<Self, TableError> {
        let schema = found.metadata.table.current_schema();
        for field in schema.as_struct().fields() {
            if let Some(kind) = unwritten(&field.field_type) {
                return Err(TableError::UnsupportedFeature {
                    location: place.location.to_string(),
                    feature: format!("the type {kind} of column '{}', in a table that is written,", field.name),
                    hint: "write it with the engine that made it",
                });
            }
        }
        let fields = schema.as_struct().fields().iter().map(|field| arrow_field(field, true));
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        Ok(Self { place, found, schema, open: HashMap::new(), done: vec![], rows: 0 })
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
        TableError::storage(WRITING, self.place.location.to_string(), error)
    }

    fn value(&self, column: &str, source: ArrowError) -> TableError {
        let what = if column.is_empty() { "a row".to_owned() } else { format!("a value of column '{column}'") };
        TableError::Value { what, location: self.place.location.to_string(), source }
    }

    /// Rows whose columns are the table's, in their order.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let is_same = |(given, own): (&FieldRef, &FieldRef)| given.name() == own.name();
        let given = batch.schema();
        if given.fields().len() != self.schema.fields().len()
            || !given.fields().iter().zip(self.schema.fields()).all(is_same)
        {
            // They were planned over columns that the table has no more: whoever planned them does it anew.
            return Err(TableError::Conflict { location: self.place.location.to_string(), attempts: 1 });
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            cast_with_options(column, field.data_type(), &options).map_err(|error| self.value(field.name(), error))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| self.value("", error))?;
        for (key, partition, part) in self.split(rows)? {
            self.rows += part.num_rows() as u64;
            if !self.open.contains_key(&key) {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(GROUP_ROWS))
                    .set_created_by(concat!("rivermere version ", env!("CARGO_PKG_VERSION")).to_string())
                    .build();
                let writer = ArrowWriter::try_new(vec![], self.schema.clone(), Some(properties));
                let writer = writer.map_err(|error| self.failed(error))?;
                self.open.insert(key.clone(), Open { partition, writer });
            }
            let Some(open) = self.open.get_mut(&key) else { continue };
            let written = open.writer.write(&part);
            let full = open.writer.bytes_written() + open.writer.in_progress_size() >= TARGET_BYTES;
            written.map_err(|error| self.failed(error))?;
            if full {
                self.close(&key).await?;
            }
        }
        while self.open.len() > OPEN_FILES || self.held() > HELD_BYTES {
            let largest =
                self.open.iter().max_by_key(|(_, open)| open.writer.bytes_written() + open.writer.in_progress_size());
            let Some(key) = largest.map(|(key, _)| key.clone()) else { break };
            self.close(&key).await?;
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.open.values().map(|open| open.writer.bytes_written() + open.writer.in_progress_size()).sum()
    }

    /// All files, which are durable; not until they are in a snapshot is there anything to be seen of them.
    pub(crate) async fn finish(mut self) -> Result<Vec<DataFile>, TableError> {
        let keys: Vec<_> = self.open.keys().cloned().collect();
        for key in keys {
            self.close(&key).await?;
        }
        Ok(self.done)
    }

    async fn close(&mut self, key: &[u8]) -> Result<(), TableError> {
        let Some(mut open) = self.open.remove(key) else { return Ok(()) };
        let finished = (|| {
            let metadata = open.writer.finish()?;
            Ok::<_, ParquetError>((std::mem::take(open.writer.inner_mut()), metadata))
        })();
        let (bytes, metadata) = finished.map_err(|error| self.failed(error))?;
        let table = &self.found.metadata.table;
        let spec = table.default_partition_spec();
        let folder = match spec.is_unpartitioned() {
            true => "data".to_owned(),
            false => {
                let key =
                    PartitionKey::new(spec.as_ref().clone(), table.current_schema().clone(), open.partition.clone());
                format!("data/{}", folder_of(&key.to_path()))
            }
        };
        let mut file = figures(&metadata, table.current_schema());
        file.content(DataContentType::Data)
            .file_format(DataFileFormat::Parquet)
            .file_size_in_bytes(bytes.len() as u64)
            .partition(open.partition)
            .partition_spec_id(spec.spec_id())
            .file_path(put_file(self.place, self.found, &folder, "parquet", bytes).await?);
        self.done.push(file.build().map_err(|error| self.failed(error))?);
        Ok(())
    }

    /// The rows of each partition, with what it is known by.
    fn split(&self, rows: RecordBatch) -> Result<Vec<(Vec<u8>, Struct, RecordBatch)>, TableError> {
        let table = &self.found.metadata.table;
        let spec = table.default_partition_spec();
        if spec.is_unpartitioned() {
            return Ok(vec![(vec![], Struct::empty(), rows)]);
        }
        let schema = table.current_schema();
        let sources = spec.fields().iter().map(|field| {
            let own = schema.as_struct().fields().iter().position(|own| own.id == field.source_id);
            own.ok_or_else(|| self.failed(format!("partition field '{}' is of a column inside another", field.name)))
        });
        let sources = sources.collect::<Result<Vec<usize>, _>>()?;
        let columns: Vec<ArrayRef> = sources.iter().map(|source| rows.column(*source).clone()).collect();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
        let encoded = RowConverter::new(fields.collect()).and_then(|converter| converter.convert_columns(&columns));
        let encoded = encoded.map_err(|error| self.value("", error))?;
        let mut groups: HashMap<&[u8], Vec<u32>> = HashMap::new();
        let keys: Vec<_> = encoded.iter().collect();
        for (row, key) in (0_u32..).zip(&keys) {
            groups.entry(key.as_ref()).or_default().push(row);
        }
        // Values that a transform makes one meet in one partition.
        let mut partitions: HashMap<Vec<u8>, (Struct, Vec<u32>)> = HashMap::new();
        for group in groups.into_values() {
            let row = group.first().map_or(0, |row| *row as usize);
            let values = spec.fields().iter().zip(&sources).zip(&columns).map(|((field, source), column)| {
                let value = ScalarValue::try_from_array(column, row).map_err(|error| self.failed(error))?;
                let own = &schema.as_struct().fields()[*source];
                let Type::Primitive(primitive) = own.field_type.as_ref() else {
                    return Err(self.failed(format!("column '{}' cannot be partitioned by", own.name)));
                };
                let datum = datum(&value, primitive).map_err(|error| self.failed(error))?;
                let Some(datum) = datum else { return Ok(None) };
                let transform = create_transform_function(&field.transform).map_err(|error| self.failed(error))?;
                let datum = transform.transform_literal(&datum).map_err(|error| self.failed(error))?;
                Ok(datum)
            });
            let values = values.collect::<Result<Vec<Option<Datum>>, TableError>>()?;
            let mut key = vec![];
            for value in &values {
                let bytes = value.as_ref().map(Datum::to_bytes).transpose().map_err(|error| self.failed(error))?;
                key.extend(u32::try_from(bytes.as_ref().map_or(0, |bytes| bytes.len() + 1)).unwrap_or(0).to_be_bytes());
                key.extend(bytes.iter().flat_map(|bytes| bytes.iter()));
            }
            let partition: Struct = values.into_iter().map(|value| value.map(Literal::from)).collect();
            partitions.entry(key).or_insert_with(|| (partition, vec![])).1.extend(group);
        }
        let mut parts = vec![];
        for (key, (partition, mut indices)) in partitions {
            indices.sort_unstable();
            let part = take_record_batch(&rows, &UInt32Array::from(indices)).map_err(|error| self.value("", error))?;
            parts.push((key, partition, part));
        }
        Ok(parts)
    }
}

/// Puts a file under a name that nobody else has; how metadata calls it.
pub(crate) async fn put_file(
    place: &Place,
    found: &Found,
    folder: &str,
    ending: &str,
    bytes: Vec<u8>,
) -> Result<String, TableError> {
    let failed = |error: object_store::Error| TableError::storage(WRITING, place.location.to_string(), error);
    let inside = format!("{folder}/{}.{ending}", place.location.new_id());
    let path = Path::parse(format!("{}/{inside}", place.folder)).map_err(|error| failed(error.into()))?;
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match place.location.store().put_opts(&path, bytes.into(), options).await {
        // It is there since an attempt whose answer was lost.
        Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(format!("{}/{inside}", found.metadata.table.location().trim_end_matches('/')))
}

/// What is not written yet.
fn unwritten(of: &Type) -> Option<&'static str> {
    match of {
        Type::Primitive(PrimitiveType::Uuid) => Some("uuid"),
        Type::Primitive(PrimitiveType::Fixed(_)) => Some("fixed"),
        Type::Primitive(_) => None,
        Type::Struct(fields) => fields.fields().iter().find_map(|field| unwritten(&field.field_type)),
        Type::List(list) => unwritten(&list.element_field.field_type),
        Type::Map(map) => unwritten(&map.key_field.field_type).or_else(|| unwritten(&map.value_field.field_type)),
    }
}

/// The library leaves values as they are; what a path or a URL would take apart is not let into one.
fn folder_of(path: &str) -> String {
    let parts = path.split('/').map(|part| {
        let part: String = part
            .chars()
            .map(|char| if char.is_ascii_alphanumeric() || "-_=.".contains(char) { char } else { '_' })
            .take(100)
            .collect();
        if part.trim_matches('.').is_empty() { "_".to_owned() } else { part }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Counts and bounds of the columns that are not inside others, and sizes of all.
fn figures(metadata: &ParquetMetaData, schema: &Schema) -> DataFileBuilder {
    let (mut sizes, mut values, mut nulls) = (HashMap::new(), HashMap::new(), HashMap::new());
    let (mut lower, mut upper) = (HashMap::<i32, Datum>::new(), HashMap::<i32, Datum>::new());
    let (mut unbounded, mut unknown) = (vec![], vec![]);
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let info = column.column_descr().self_type().get_basic_info();
        if !info.has_id() {
            continue;
        }
        let id = info.id();
        *sizes.entry(id).or_insert(0) += u64::try_from(column.compressed_size()).unwrap_or_default();
        let Some(field) = schema.as_struct().field_by_id(id) else { continue };
        *values.entry(id).or_insert(0) += u64::try_from(column.num_values()).unwrap_or_default();
        let Some(statistics) = column.statistics() else {
            unknown.push(id);
            continue;
        };
        *nulls.entry(id).or_insert(0) += statistics.null_count_opt().unwrap_or(0);
        let all_null = statistics.null_count_opt() == u64::try_from(column.num_values()).ok();
        match bounds(statistics, &field.field_type) {
            Some((min, max)) => {
                if lower.get(&id).is_none_or(|known| min < *known) {
                    lower.insert(id, min);
                }
                match max {
                    Some(max) if upper.get(&id).is_none_or(|known| max > *known) => _ = upper.insert(id, max),
                    Some(_) => {}
                    None => unbounded.push(id),
                }
            }
            None if all_null => {}
            None => unknown.push(id),
        }
    }
    unbounded.iter().chain(&unknown).for_each(|id| _ = upper.remove(id));
    unknown.iter().for_each(|id| _ = lower.remove(id));
    unknown.iter().for_each(|id| _ = nulls.remove(id));
    let mut file = DataFileBuilder::default();
    file.record_count(u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default())
        .column_sizes(sizes)
        .value_counts(values)
        .null_value_counts(nulls)
        .lower_bounds(lower)
        .upper_bounds(upper);
    file
}

/// The least value, and the greatest where that can be said in few letters. None for floats, whose NaN is in no bound.
fn bounds(statistics: &Statistics, of: &Type) -> Option<(Datum, Option<Datum>)> {
    let Type::Primitive(primitive) = of else { return None };
    let datum = |bytes: &[u8]| Datum::try_from_bytes(bytes, primitive.clone()).ok();
    match (statistics, primitive) {
        (Statistics::Boolean(of), PrimitiveType::Boolean) => {
            Some((Datum::bool(*of.min_opt()?), Some(Datum::bool(*of.max_opt()?))))
        }
        (Statistics::Int32(of), PrimitiveType::Int | PrimitiveType::Date) => {
            Some((datum(&of.min_opt()?.to_le_bytes())?, datum(&of.max_opt()?.to_le_bytes())))
        }
        (
            Statistics::Int64(of),
            PrimitiveType::Long
            | PrimitiveType::Time
            | PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs,
        ) => Some((datum(&of.min_opt()?.to_le_bytes())?, datum(&of.max_opt()?.to_le_bytes()))),
        (Statistics::ByteArray(of), PrimitiveType::String) => {
            let (min, max) = (of.min_opt()?.as_utf8().ok()?, of.max_opt()?.as_utf8().ok()?);
            let short: String = min.chars().take(BOUND_LETTERS).collect();
            let fits = max.chars().count() <= BOUND_LETTERS && of.max_is_exact();
            Some((Datum::string(short), fits.then(|| Datum::string(max))))
        }
        _ => None,
    }
}
