//! The rows of one data file: by the ids of its columns, without those that deletes are about.
//!
//! Iceberg spec, "Column Projection", "Reading", "Row-level Deletes".

use crate::files::{FILE_PATH, Planned};
use crate::manifests::{Content, DataFile};
use crate::paths::Paths;
use crate::place::{Found, Place};
use crate::types::{arrow_type, from_literal, uuid_text};
use crate::vector;
use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Int64Array, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use futures::{StreamExt as _, TryStreamExt as _};
use iceberg::spec::{NestedField, NestedFieldRef, PrimitiveType, Transform, Type};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, RowSelection, RowSelector};
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use rivermere_table::{Batches, Filter, PIECE_COLUMN, ROW_COLUMN, StoredFile, TableError};
use roaring::RoaringTreemap;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

/// Rows in a batch.
const BATCH_ROWS: usize = 8192;
const READING: &str = "reading a data file";
/// The column of position deletes that says which row.
pub(crate) const POSITION: i32 = 2_147_483_545;

/// One snapshot as it is read: delete files are read once, for all data files that they are about.
pub(crate) struct Reading {
    store: Arc<dyn ObjectStore>,
    paths: Paths,
    location: String,
    found: Arc<Found>,
    names: Option<Vec<MappedName>>,
    positions: Mutex<HashMap<String, Arc<OnceCell<Arc<Positions>>>>>,
    keys: Mutex<HashMap<String, Arc<OnceCell<Arc<Keys>>>>>,
}

/// Positions to be deleted, by data file.
type Positions = HashMap<String, RoaringTreemap>;

/// Rows to be deleted, by the values of some columns.
struct Keys {
    fields: Vec<NestedFieldRef>,
    rows: HashSet<Box<[u8]>>,
}

/// "Name Mapping Serialization": columns of files that have no ids.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MappedName {
    #[serde(default)]
    names: Vec<String>,
    field_id: Option<i32>,
    #[serde(default)]
    fields: Vec<MappedName>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("location", &self.location).finish_non_exhaustive()
    }
}

impl Reading {
    pub(crate) fn new(place: &Place, found: &Arc<Found>) -> Arc<Self> {
        let mapping = found.metadata.table.properties().get("schema.name-mapping.default");
        Arc::new(Self {
            store: place.location.store().clone(),
            paths: found.paths(place),
            location: place.location.to_string(),
            found: found.clone(),
            names: mapping.and_then(|text| serde_json::from_str(text).ok()),
            positions: Mutex::default(),
            keys: Mutex::default(),
        })
    }

    pub(crate) fn failed(&self, file: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
        let error = error.into();
        TableError::storage(READING, format!("{}, file '{file}'", self.location), error)
    }

    fn unsupported(&self, feature: String) -> TableError {
        let hint = "read it with the engine that wrote it";
        TableError::UnsupportedFeature { location: self.location.clone(), feature, hint }
    }

    /// The live rows of a file with the columns `wanted`, in the order of the file.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        planned: &Planned,
        wanted: &[NestedFieldRef],
    ) -> Result<Batches, TableError> {
        self.filtered(planned, wanted, None).await
    }

    /// The same without some of the rows for which a filter does not hold.
    pub(crate) async fn filtered(
        self: &Arc<Self>,
        planned: &Planned,
        wanted: &[NestedFieldRef],
        filter: Option<&Filter>,
    ) -> Result<Batches, TableError> {
        let positions = self.gone(planned).await?;
        let mut keys = vec![];
        for delete in planned.deletes.iter().filter(|delete| delete.content == Content::EqualityDeletes) {
            keys.push(self.keys(delete).await?);
        }
        // Columns that equality deletes need and nobody asked for.
        let mut columns: Vec<NestedFieldRef> = wanted.to_vec();
        for field in keys.iter().flat_map(|keys| &keys.fields) {
            if !columns.iter().any(|column| column.id == field.id) {
                columns.push(field.clone());
            }
        }
        let rows = self.columns(&planned.file, &columns, &positions, filter).await?;
        if keys.is_empty() {
            return Ok(rows);
        }
        let reading = self.clone();
        let (name, width) = (planned.file.name.clone(), wanted.len());
        let live = move |batch: Result<RecordBatch, TableError>| {
            let batch = batch?;
            let live = keys.iter().try_fold(batch, |batch, keys| keys.without(&batch, &columns));
            let shown: Vec<usize> = (0..width).collect();
            live.and_then(|batch| batch.project(&shown)).map_err(|error| reading.failed(&name, error))
        };
        Ok(rows.map(live).boxed())
    }

    /// The places of rows that are deleted by them.
    pub(crate) async fn gone(self: &Arc<Self>, planned: &Planned) -> Result<RoaringTreemap, TableError> {
        let mut gone = RoaringTreemap::new();
        for delete in planned.deletes.iter().filter(|delete| delete.content == Content::PositionDeletes) {
            if delete.range.is_some() {
                gone |= self.vector(delete).await?;
            } else if let Some(more) = self.positions(delete).await?.get(&planned.file.name) {
                gone |= more;
            }
        }
        Ok(gone)
    }

    /// A file's columns, without some of its rows.
    async fn columns(
        self: &Arc<Self>,
        file: &Arc<DataFile>,
        wanted: &[NestedFieldRef],
        gone: &RoaringTreemap,
        filter: Option<&Filter>,
    ) -> Result<Batches, TableError> {
        if file.format != "PARQUET" {
            return Err(self.unsupported(format!("data files in {}", file.format)));
        }
        let path = self.paths.find(&file.name)?;
        let failed = |error: ParquetError| self.failed(&file.name, error);
        let builder = match self.open(&path, file.bytes).await {
            Ok(builder) => builder,
            // Some writers tell a size that is not the file's.
            Err(error) => {
                let found = self.store.head(&path).await.map_err(|error| self.failed(&file.name, error))?;
                if found.size == file.bytes {
                    return Err(failed(error));
                }
                self.open(&path, found.size).await.map_err(failed)?
            }
        };
        let schema = self.with_ids(builder.schema());
        let at = |id: i32| schema.fields().iter().position(|field| id_of(field) == Some(id));
        let sources: Vec<Option<usize>> = wanted.iter().map(|field| at(field.id)).collect();
        if let Some((lacking, _)) =
            wanted.iter().zip(&sources).find(|(_, source)| file.content != Content::Data && source.is_none())
        {
            return Err(TableError::Damaged {
                location: self.location.clone(),
                file: file.name.clone(),
                reason: format!("it says what is deleted, and lacks the column '{}'", lacking.name),
            });
        }
        let mut roots: Vec<usize> = sources.iter().flatten().copied().collect();
        roots.sort_unstable();
        roots.dedup();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let mut builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        let is_placed = wanted.iter().any(|field| field.id == ROW_NUMBER);
        if !gone.is_empty() {
            builder = builder.with_row_selection(without(gone, rows));
        } else if let Some(filter) = filter.filter(|_| !is_placed) {
            // Without row groups rows would be at other places.
            let name_of = |name: &str| {
                let id = wanted.iter().find(|field| field.name == name)?.id;
                Some(builder.schema().field(at(id)?).name().clone())
            };
            let kept = filter.row_groups(builder.metadata(), builder.schema(), name_of);
            builder = builder.with_row_groups(kept);
        }
        let stream = builder.build().map_err(failed)?;
        // From the place in a batch, in which only the columns that were asked for are.
        let found = |source: usize| {
            let at = roots.iter().position(|root| *root == source)?;
            Some((at, schema.fields().get(source)?.clone()))
        };
        let columns: Vec<Column> = wanted
            .iter()
            .zip(&sources)
            .map(|(field, source)| match source.and_then(found) {
                Some((at, have)) => Column::Read { at, have, want: field.clone() },
                None if field.id == ROW_NUMBER => Column::Place,
                None => Column::Constant(self.constant(file, field), arrow_type(&field.field_type, false)),
            })
            .collect();
        let fields = wanted.iter().map(|field| Field::new(&field.name, arrow_type(&field.field_type, false), true));
        let shown: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let (reading, name) = (self.clone(), file.name.clone());
        let gone = if is_placed { gone.clone() } else { RoaringTreemap::new() };
        let mut next = 0;
        let shape = move |batch: Result<RecordBatch, ParquetError>| {
            let shaped = batch.map_err(ArrowError::from).and_then(|batch| {
                let mut places = vec![];
                while is_placed && places.len() < batch.num_rows() {
                    if !gone.contains(next) {
                        places.push(next.cast_signed());
                    }
                    next += 1;
                }
                let arrays = columns.iter().map(|column| column.of(&batch, &places));
                let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                RecordBatch::try_new_with_options(shown.clone(), arrays, &options)
            });
            shaped.map_err(|error| reading.failed(&name, error))
        };
        Ok(stream.map(shape).boxed())
    }

    async fn open(&self, path: &Path, bytes: u64) -> Result<ParquetRecordBatchStreamBuilder<StoredFile>, ParquetError> {
        let reader = StoredFile { store: self.store.clone(), path: path.clone(), bytes };
        // Types are those of Parquet: what a writer's Arrow had them as differs from writer to writer.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await
    }

    /// A column that a file does not have: the value of its partition, its default, or null.
    fn constant(&self, file: &DataFile, field: &NestedField) -> ScalarValue {
        let table = &self.found.metadata.table;
        let spec = table.partition_spec_by_id(file.spec_id);
        let mut partition = spec.iter().flat_map(|spec| spec.fields()).zip(&file.partition);
        let is_own =
            |of: &iceberg::spec::PartitionField| of.source_id == field.id && of.transform == Transform::Identity;
        let value = partition.find(|(of, _)| is_own(of)).map(|(_, value)| value.clone());
        let default = || from_literal(field.initial_default.as_ref()?, &field.field_type);
        value.unwrap_or_else(default).unwrap_or(ScalarValue::Null)
    }

    /// The schema of a file with the ids of its columns, by their names where the file has none.
    fn with_ids(&self, schema: &SchemaRef) -> SchemaRef {
        if schema.fields().iter().any(|field| id_of(field).is_some()) {
            return schema.clone();
        }
        let fields = match &self.names {
            Some(names) => schema.fields().iter().map(|field| mapped(field, names)).collect::<Fields>(),
            None => {
                let own = self.found.metadata.table.current_schema();
                let named = |field: &FieldRef| match (own.field_by_name(field.name()), field.name().as_str()) {
                    (Some(own), _) => Arc::new(with_id(field, own.id)),
                    (None, "file_path") => Arc::new(with_id(field, FILE_PATH)),
                    (None, "pos") => Arc::new(with_id(field, POSITION)),
                    (None, _) => field.clone(),
                };
                schema.fields().iter().map(named).collect()
            }
        };
        Arc::new(Schema::new(fields))
    }

    async fn vector(&self, delete: &DataFile) -> Result<RoaringTreemap, TableError> {
        let Some((offset, length)) = delete.range else { return Ok(RoaringTreemap::new()) };
        let path = self.paths.find(&delete.name)?;
        let end = offset.saturating_add(length);
        let blob = self.store.get_range(&path, offset..end).await.map_err(|error| self.failed(&delete.name, error))?;
        vector::decode(&blob).map_err(|reason| TableError::Damaged {
            location: self.location.clone(),
            file: delete.name.clone(),
            reason,
        })
    }

    async fn positions(self: &Arc<Self>, delete: &Arc<DataFile>) -> Result<Arc<Positions>, TableError> {
        let cell = self.positions.lock().await.entry(delete.name.clone()).or_default().clone();
        let read = async {
            let fields = [
                NestedField::required(FILE_PATH, "file_path", Type::Primitive(PrimitiveType::String)).into(),
                NestedField::required(POSITION, "pos", Type::Primitive(PrimitiveType::Long)).into(),
            ];
            let mut batches = self.columns(delete, &fields, &RoaringTreemap::new(), None).await?;
            let mut positions = Positions::new();
            while let Some(batch) = batches.try_next().await? {
                let (files, rows) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
                for (file, row) in files.iter().zip(rows) {
                    let Some((file, row)) = file.zip(row.and_then(|row| u64::try_from(row).ok())) else {
                        return Err(TableError::Damaged {
                            location: self.location.clone(),
                            file: delete.name.clone(),
                            reason: "a row of it names no row of a data file".into(),
                        });
                    };
                    {
                        match positions.get_mut(file) {
                            Some(rows) => _ = rows.insert(row),
                            None => _ = positions.insert(file.to_owned(), RoaringTreemap::from_iter([row])),
                        }
                    }
                }
            }
            Ok::<_, TableError>(Arc::new(positions))
        };
        cell.get_or_try_init(|| read).await.cloned()
    }

    async fn keys(self: &Arc<Self>, delete: &Arc<DataFile>) -> Result<Arc<Keys>, TableError> {
        let cell = self.keys.lock().await.entry(delete.name.clone()).or_default().clone();
        let read = async {
            let table = &self.found.metadata.table;
            let known = |id: i32| {
                let schemas = std::iter::once(table.current_schema()).chain(table.schemas_iter());
                schemas.into_iter().find_map(|schema| schema.as_struct().field_by_id(id).cloned())
            };
            let fields = delete.equality_ids.iter().map(|id| known(*id)).collect::<Option<Vec<_>>>();
            let fields = fields.filter(|fields| !fields.is_empty());
            let fields = fields.ok_or_else(|| self.unsupported("equality deletes by columns inside others".into()))?;
            let mut batches = self.columns(delete, &fields, &RoaringTreemap::new(), None).await?;
            let failed = |error: ArrowError| self.failed(&delete.name, error);
            let converter = converter(&fields).map_err(failed)?;
            let mut rows = HashSet::new();
            while let Some(batch) = batches.try_next().await? {
                let encoded = converter.convert_columns(batch.columns()).map_err(failed)?;
                rows.extend(encoded.iter().map(|row| Box::from(row.as_ref())));
            }
            Ok::<_, TableError>(Arc::new(Keys { fields, rows }))
        };
        cell.get_or_try_init(|| read).await.cloned()
    }
}

fn converter(fields: &[NestedFieldRef]) -> Result<RowConverter, ArrowError> {
    let fields = fields.iter().map(|field| SortField::new(arrow_type(&field.field_type, false)));
    RowConverter::new(fields.collect())
}

impl Keys {
    /// The rows of a batch, with the columns `fields`, that are none of these. Null is null.
    fn without(&self, batch: &RecordBatch, fields: &[NestedFieldRef]) -> Result<RecordBatch, ArrowError> {
        let at = |field: &NestedFieldRef| {
            let at = fields.iter().position(|own| own.id == field.id)?;
            // An older snapshot has a column as it was before it was made wider.
            Some(strict(batch.column(at), &arrow_type(&field.field_type, false)))
        };
        let columns = self.fields.iter().filter_map(at).collect::<Result<Vec<_>, _>>()?;
        let encoded = converter(&self.fields)?.convert_columns(&columns)?;
        let live: BooleanArray = encoded.iter().map(|row| Some(!self.rows.contains(row.as_ref()))).collect();
        filter_record_batch(batch, &live)
    }
}

/// The place of a row in its file, as a column that can be asked for; the number of the file is for whoever counts files.
pub(crate) fn place_fields() -> [NestedFieldRef; 2] {
    let long = || Type::Primitive(PrimitiveType::Long);
    [
        NestedField::required(FILE_NUMBER, PIECE_COLUMN, long()).into(),
        NestedField::required(ROW_NUMBER, ROW_COLUMN, long()).into(),
    ]
}

/// The ids that the spec reserves for the metadata columns `_file` and `_pos`.
const FILE_NUMBER: i32 = 2_147_483_646;
const ROW_NUMBER: i32 = 2_147_483_645;

/// A column of the answer.
enum Column {
    Read {
        at: usize,
        have: FieldRef,
        want: NestedFieldRef,
    },
    Constant(ScalarValue, DataType),
    /// Where the rows are in their file.
    Place,
}

impl Column {
    fn of(&self, batch: &RecordBatch, places: &[i64]) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Place => Ok(Arc::new(Int64Array::from(places.to_vec()))),
            Self::Read { at, have, want } => conform(batch.column(*at), have, &want.field_type),
            Self::Constant(value, data_type) => constants(value, data_type, batch.num_rows()),
        }
    }
}

fn constants(value: &ScalarValue, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    if value.is_null() {
        return Ok(new_null_array(data_type, rows));
    }
    strict(&value.to_array_of_size(rows).map_err(ArrowError::from)?, data_type)
}

/// What does not fit is an error, and not null.
fn strict(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, data_type, &CastOptions { safe: false, ..CastOptions::default() })
}

/// What is read, as the table has it: wider, with columns inside it by their ids.
fn conform(array: &ArrayRef, have: &Field, want: &Type) -> Result<ArrayRef, ArrowError> {
    let odd = || ArrowError::SchemaError(format!("column '{}' is {} in the file", have.name(), have.data_type()));
    match (want, have.data_type()) {
        (Type::Primitive(PrimitiveType::Uuid), DataType::FixedSizeBinary(16)) => {
            Ok(uuid_text(array.as_fixed_size_binary()))
        }
        (Type::Primitive(_), _) => strict(array, &arrow_type(want, false)),
        (Type::Struct(inside), DataType::Struct(fields)) => {
            let parts = array.as_struct();
            let child = |field: &NestedFieldRef| match fields.iter().position(|part| id_of(part) == Some(field.id)) {
                Some(at) => conform(parts.column(at), fields.get(at).ok_or_else(odd)?, &field.field_type),
                None => {
                    let default =
                        field.initial_default.as_ref().and_then(|value| from_literal(value, &field.field_type));
                    constants(&default.unwrap_or(ScalarValue::Null), &arrow_type(&field.field_type, false), array.len())
                }
            };
            let columns = inside.fields().iter().map(child).collect::<Result<Vec<_>, _>>()?;
            let DataType::Struct(shown) = arrow_type(want, false) else { return Err(odd()) };
            Ok(Arc::new(StructArray::try_new(shown, columns, parts.nulls().cloned())?))
        }
        (Type::List(list), DataType::List(element)) => {
            let parts = array.as_list::<i32>();
            let values = conform(parts.values(), element, &list.element_field.field_type)?;
            let DataType::List(element) = arrow_type(want, false) else { return Err(odd()) };
            Ok(Arc::new(ListArray::try_new(element, parts.offsets().clone(), values, parts.nulls().cloned())?))
        }
        (Type::Map(map), DataType::Map(entries, _)) => {
            let parts = array.as_map();
            let DataType::Struct(pair) = entries.data_type() else { return Err(odd()) };
            let [key, value] = pair.as_ref() else { return Err(odd()) };
            let keys = conform(parts.keys(), key, &map.key_field.field_type)?;
            let values = conform(parts.values(), value, &map.value_field.field_type)?;
            let DataType::Map(shown, sorted) = arrow_type(want, false) else { return Err(odd()) };
            let DataType::Struct(fields) = shown.data_type() else { return Err(odd()) };
            let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            Ok(Arc::new(MapArray::try_new(shown, parts.offsets().clone(), pairs, parts.nulls().cloned(), sorted)?))
        }
        _ => Err(odd()),
    }
}

fn id_of(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

fn with_id(field: &Field, id: i32) -> Field {
    field.clone().with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
}

/// A column of a file and those inside it, with the ids that names are mapped to.
fn mapped(field: &FieldRef, names: &[MappedName]) -> FieldRef {
    let Some(found) = names.iter().find(|mapped| mapped.names.contains(field.name())) else { return field.clone() };
    let inside = |fields: &Fields| fields.iter().map(|field| mapped(field, &found.fields)).collect::<Fields>();
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(inside(fields)),
        DataType::List(element) => {
            let element = element.as_ref().clone().with_name("element");
            DataType::List(mapped(&Arc::new(element), &found.fields))
        }
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) => {
                let pair = inside(pair);
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(DataType::Struct(pair))), *sorted)
            }
            _ => field.data_type().clone(),
        },
        other => other.clone(),
    };
    let field = field.as_ref().clone().with_data_type(data_type);
    Arc::new(found.field_id.map_or_else(|| field.clone(), |id| with_id(&field, id)))
}

/// All rows of a file but some.
fn without(gone: &RoaringTreemap, rows: u64) -> RowSelection {
    let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let mut selectors = vec![];
    let mut next = 0;
    for row in gone.iter().take_while(|row| *row < rows) {
        if row > next {
            selectors.push(RowSelector::select(count(row - next)));
        }
        selectors.push(RowSelector::skip(1));
        next = row + 1;
    }
    if rows > next {
        selectors.push(RowSelector::select(count(rows - next)));
    }
    selectors.into()
}
