//! Rows that go from data files: their file is written anew without them, or they are marked in a file beside it.
//!
//! Iceberg spec, "Row-level Deletes": *deletion vectors* in tables of format version 3, *position deletes* in those of version 2.
//! Each data file has one at most, which says all that is gone from it, and takes the place of the one before.

use crate::edits::Edited;
use crate::files::{FILE_PATH, Planned};
use crate::manifests::partition_types;
use crate::place::{Found, Place};
use crate::reading::{POSITION, Reading, place_fields};
use crate::types::literal;
use crate::vector::Puffin;
use crate::writing::{Files, put_file};
use arrow::array::{AsArray as _, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use futures::TryStreamExt as _;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, NestedFieldRef, PrimitiveType,
    Struct,
};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use rivermere_table::TableError;
use roaring::RoaringTreemap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const WRITING: &str = "writing which rows are gone";

/// Deletes that a commit adds and takes away.
#[derive(Clone, Default)]
pub(crate) struct Deletes {
    /// With the number of the spec that their partitions are of.
    pub(crate) added: Vec<(i32, DataFile)>,
    /// By the names of their files, and where in these they begin.
    pub(crate) removed: HashSet<(String, u64)>,
}

impl Deletes {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Takes away what is about one data file alone.
    pub(crate) fn remove_of(&mut self, planned: &Planned) {
        let own = planned.own_deletes().map(|delete| delete.identity());
        self.removed.extend(own.map(|(name, offset)| (name.to_owned(), offset)));
    }
}

/// Takes rows out of the files of a snapshot.
pub(crate) struct Removal<'a> {
    place: &'a Place,
    found: &'a Found,
    reading: Arc<Reading>,
    marking: bool,
}

/// A file beside the data that is to be written.
struct Mark<'a> {
    planned: &'a Planned,
    gone: RoaringTreemap,
    partition: Struct,
}

impl<'a> Removal<'a> {
    /// `verb` is `delete`, `update` or `merge`: what the table's property `write.<verb>.mode` is asked for.
    pub(crate) fn new(place: &'a Place, found: &'a Found, reading: &Arc<Reading>, verb: &str) -> Self {
        let mode = found.metadata.table.properties().get(&format!("write.{verb}.mode"));
        let is_asked_for = mode.is_some_and(|mode| mode.eq_ignore_ascii_case("merge-on-read"));
        let marking = is_asked_for && found.metadata.table.format_version() != FormatVersion::V1;
        Self { place, found, reading: reading.clone(), marking }
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
        TableError::storage(WRITING, self.place.location.to_string(), error)
    }

    /// Takes rows out of files, by their places in them. `files` gets the rows that stay of a file that is written anew: where
    /// the table does not ask for marks, and where less than half of a file would be left.
    pub(crate) async fn take(
        &self,
        rows: Vec<(Planned, RoaringTreemap)>,
        files: &mut Files<'_>,
        edited: &mut Edited,
    ) -> Result<(), TableError> {
        let mut marks = vec![];
        for (planned, new) in &rows {
            let gone = self.reading.gone(planned).await? | new;
            if gone.len() >= planned.file.records {
                edited.remove(planned);
            } else if !self.marking || gone.len() * 2 > planned.file.records {
                self.write_anew(planned, &gone, files, edited).await?;
            } else {
                edited.deletes.remove_of(planned);
                marks.push(Mark { planned, gone, partition: self.partition(planned)? });
            }
        }
        match self.found.metadata.table.format_version() {
            _ if marks.is_empty() => Ok(()),
            FormatVersion::V3 => self.vectors(marks, &mut edited.deletes).await,
            _ => self.positions(marks, &mut edited.deletes).await,
        }
    }

    /// Whether rows are marked, where most of their file stays.
    pub(crate) fn marks(&self) -> bool {
        self.marking
    }

    /// Writes a file's rows anew, without those that are gone.
    pub(crate) async fn write_anew(
        &self,
        planned: &Planned,
        gone: &RoaringTreemap,
        files: &mut Files<'_>,
        edited: &mut Edited,
    ) -> Result<(), TableError> {
        edited.remove(planned);
        let fields = self.found.metadata.table.current_schema().as_struct().fields();
        let placed: Vec<NestedFieldRef> = fields.iter().cloned().chain(place_fields()).collect();
        let mut rows = self.reading.rows(planned, &placed).await?;
        while let Some(batch) = rows.try_next().await? {
            files.write(&kept(&batch, gone).map_err(|error| self.failed(error))?).await?;
        }
        Ok(())
    }

    /// A delete is of the partition of its data file.
    fn partition(&self, planned: &Planned) -> Result<Struct, TableError> {
        let table = &self.found.metadata.table;
        let spec = table.partition_spec_by_id(planned.file.spec_id);
        let types = spec.map(|spec| partition_types(spec, table)).unwrap_or_default();
        let value = |(value, of): (&Option<ScalarValue>, &Option<PrimitiveType>)| match (value, of) {
            (Some(value), Some(of)) => literal(value, of).map_err(|error| self.failed(error)),
            (None, _) => Ok(None),
            (_, None) => Err(self.failed(format!("the partition of '{}' is not understood", planned.file.name))),
        };
        planned.file.partition.iter().zip(&types).map(value).collect()
    }

    /// Puffin spec, "`deletion-vector-v1` blob type": the vectors of a commit are one file.
    async fn vectors(&self, marks: Vec<Mark<'_>>, deletes: &mut Deletes) -> Result<(), TableError> {
        let mut puffin = Puffin::default();
        let mut ranges = vec![];
        for mark in &marks {
            let vector = puffin.add(&mark.planned.file.name, &mark.gone);
            ranges.push(vector.map_err(|error| self.failed(error))?);
        }
        let bytes = puffin.finish();
        let size = bytes.len() as u64;
        let name = put_file(self.place, self.found, "data", "puffin", bytes).await?;
        for (mark, (offset, length)) in marks.into_iter().zip(ranges) {
            let mut file = DataFileBuilder::default();
            file.file_path(name.clone()).file_format(DataFileFormat::Puffin).file_size_in_bytes(size);
            file.content_offset(Some(offset)).content_size_in_bytes(Some(length));
            self.add(mark, file, deletes)?;
        }
        Ok(())
    }

    /// "Position Delete Files": sorted by their rows' places, one file for each data file, so that none is read for another.
    async fn positions(&self, marks: Vec<Mark<'_>>, deletes: &mut Deletes) -> Result<(), TableError> {
        let field = |name: &str, data_type: DataType, id: i32| {
            let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
            Field::new(name, data_type, false).with_metadata(id)
        };
        let schema = Arc::new(Schema::new(vec![
            field("file_path", DataType::Utf8, FILE_PATH),
            field("pos", DataType::Int64, POSITION),
        ]));
        for mark in marks {
            let data = &mark.planned.file.name;
            let written = (|| {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
                let mut writer = ArrowWriter::try_new(vec![], schema.clone(), Some(properties.build()))?;
                let places: Int64Array = mark.gone.iter().map(u64::cast_signed).collect();
                let names: StringArray = std::iter::repeat_n(Some(data), places.len()).collect();
                writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(names), Arc::new(places)])?)?;
                writer.into_inner()
            })();
            let bytes = written.map_err(|error: ParquetError| self.failed(error))?;
            let mut file = DataFileBuilder::default();
            file.file_size_in_bytes(bytes.len() as u64).file_format(DataFileFormat::Parquet);
            file.file_path(put_file(self.place, self.found, "data", "deletes.parquet", bytes).await?);
            // Older readers know by these that it is about one data file.
            let bound = HashMap::from([(FILE_PATH, Datum::string(data))]);
            file.lower_bounds(bound.clone()).upper_bounds(bound);
            self.add(mark, file, deletes)?;
        }
        Ok(())
    }

    fn add(&self, mark: Mark<'_>, mut file: DataFileBuilder, deletes: &mut Deletes) -> Result<(), TableError> {
        let data = &mark.planned.file;
        file.content(DataContentType::PositionDeletes)
            .record_count(mark.gone.len())
            .partition(mark.partition)
            .partition_spec_id(data.spec_id)
            .referenced_data_file(Some(data.name.clone()));
        deletes.added.push((data.spec_id, file.build().map_err(|error| self.failed(error))?));
        Ok(())
    }
}

/// Rows without those at some places, and without their places, which are in the last two columns.
fn kept(batch: &RecordBatch, gone: &RoaringTreemap) -> Result<RecordBatch, ArrowError> {
    let width = batch.num_columns().saturating_sub(2);
    let places = batch.column(width + 1).as_primitive::<Int64Type>();
    let stays = |place: &i64| !u64::try_from(*place).is_ok_and(|place| gone.contains(place));
    let live: BooleanArray = places.values().iter().map(|place| Some(stays(place))).collect();
    filter_record_batch(&batch.project(&(0..width).collect::<Vec<_>>())?, &live)
}
