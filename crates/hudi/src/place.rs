//! A table's folder.

use crate::properties::Properties;
use crate::slices::Slice;
use crate::timeline::{self, Action, Commit, Instant, Timeline};
use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _};
use parquet::arrow::async_reader::AsyncFileReader as _;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask, parquet_to_arrow_schema};
use parquet::file::metadata::ParquetMetaData;
use rivermere_table::{Location, StoredFile, TableError, row_group_bounds};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Where a table is, and what was read of it that never changes.
pub(crate) struct Place {
    pub(crate) location: Location,
    commits: Mutex<HashMap<Path, Arc<Commit>>>,
    /// What base files say of themselves at their ends.
    footers: Mutex<HashMap<Path, Arc<ParquetMetaData>>>,
}

/// Base files whose footers are remembered.
const FOOTERS: usize = 4_096;
/// Instants whose metadata is remembered.
const COMMITS: usize = 4_096;

/// The least and the greatest value of a column, where they are known.
pub(crate) type Bounds = (Option<ScalarValue>, Option<ScalarValue>);

/// A table as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) properties: Properties,
    pub(crate) timeline: Timeline,
}

impl Found {
    /// `hoodie.table.version`.
    pub(crate) fn table_version(&self) -> u32 {
        self.properties.get("hoodie.table.version").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn timeline_folder(&self, place: &Place) -> Path {
        place.timeline_folder(&self.properties)
    }

    /// Turns off the table's index of its files (its metadata table), which is not kept by us: readers that went by it would not
    /// see what is written. Spark makes it again when it writes next.
    pub(crate) async fn without_index(&self, place: &Place) -> Result<(), TableError> {
        const INDEXES: [&str; 2] = ["hoodie.table.metadata.partitions", "hoodie.table.metadata.partitions.inflight"];
        if INDEXES.iter().all(|name| self.properties.get(name).is_none()) {
            return Ok(());
        }
        let mut properties = self.properties.clone();
        INDEXES.iter().for_each(|name| properties.remove(name));
        place.put_properties(&properties).await?;
        let folder = place.meta().join("metadata");
        let failed = |error: Error| place.failed("removing the index of the table's files", error);
        let files = place.location.store().list(Some(&folder)).map_ok(|file| file.location).boxed();
        place.location.store().delete_stream(files).try_for_each(|_| async { Ok(()) }).await.map_err(failed)
    }

    fn key_generator(&self) -> &str {
        let of = |name: &str| self.properties.get(name);
        of("hoodie.table.keygenerator.type").or_else(|| of("hoodie.table.keygenerator.class")).unwrap_or_default()
    }

    /// Whether a record key of one column names it, as the generator for several does.
    pub(crate) fn has_named_keys(&self) -> bool {
        let generator = self.key_generator();
        generator == "COMPLEX" || generator.ends_with("ComplexKeyGenerator")
    }

    /// Whether rows have the columns that Hudi adds.
    pub(crate) fn has_meta(&self) -> bool {
        self.properties.get("hoodie.populate.meta.fields").is_none_or(|text| text.eq_ignore_ascii_case("true"))
    }

    /// What changes the rows of such a table.
    pub(crate) fn action(&self) -> Action {
        if self.is_merged_on_read() { Action::DeltaCommit } else { Action::Commit }
    }

    /// Why the table is not written here, if so.
    pub(crate) fn unwritable(&self) -> Option<String> {
        if self.table_version() < 8 {
            return Some(format!(
                "table version {}, which is read and not written (Hudi 1.0 writes 8),",
                self.table_version()
            ));
        }
        let generator = self.key_generator();
        let is_plain = ["", "SIMPLE", "COMPLEX", "NON_PARTITION"].contains(&generator)
            || ["SimpleKeyGenerator", "ComplexKeyGenerator", "NonpartitionedKeyGenerator"]
                .iter()
                .any(|name| generator.ends_with(name));
        if !is_plain {
            return Some(format!("the key generator {generator}, in a table that is written,"));
        }
        for name in ["hoodie.table.cdc.enabled", "hoodie.datasource.write.drop.partition.columns"] {
            if self.properties.is(name) {
                return Some(format!("{name}, in a table that is written,"));
            }
        }
        let planned = self.timeline.planned.iter().min();
        planned.map(|time| {
            format!("a compaction or a clustering that is planned and not done ({time}), in a table that is written,")
        })
    }

    /// Whether a log may say that keys are gone: rows have their keys, and what is written later is what counts.
    pub(crate) fn logs_deletes(&self) -> bool {
        let mode = self.properties.get("hoodie.record.merge.mode");
        let is_later = mode.is_some_and(|mode| mode.eq_ignore_ascii_case("COMMIT_TIME_ORDERING"));
        self.is_merged_on_read() && is_later && self.has_meta()
    }

    pub(crate) fn is_merged_on_read(&self) -> bool {
        self.properties.get("hoodie.table.type").is_some_and(|of| of.eq_ignore_ascii_case("MERGE_ON_READ"))
    }
}

impl Place {
    pub(crate) fn new(location: Location) -> Self {
        Self { location, commits: Mutex::default(), footers: Mutex::default() }
    }

    pub(crate) fn meta(&self) -> Path {
        self.location.path().clone().join(".hoodie")
    }

    /// Where writers of ours keep what they know of each other.
    pub(crate) fn ours(&self) -> Path {
        self.meta().join("rivermere")
    }

    pub(crate) fn timeline_folder(&self, properties: &Properties) -> Path {
        match properties.get("hoodie.timeline.layout.version") {
            Some("2") => self.meta().join(properties.get("hoodie.timeline.path").unwrap_or("timeline")),
            _ => self.meta(),
        }
    }

    pub(crate) fn failed(
        &self,
        action: &'static str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> TableError {
        TableError::storage(action, self.location.to_string(), error.into())
    }

    pub(crate) fn damaged(&self, file: &Path, reason: String) -> TableError {
        let file = file.prefix_match(self.location.path()).map_or_else(
            || file.to_string(),
            |parts| parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"),
        );
        TableError::Damaged { location: self.location.to_string(), file, reason }
    }

    pub(crate) fn unsupported(&self, feature: String) -> TableError {
        let hint = "read it with the engine that wrote it";
        TableError::UnsupportedFeature { location: self.location.to_string(), feature, hint }
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// [`TableError::Missing`] when there is none, [`TableError::UnsupportedFeature`] for one that is not known here.
    pub(crate) async fn newest(&self) -> Result<Found, TableError> {
        let file = self.meta().join("hoodie.properties");
        let read = async { self.location.store().get(&file).await?.bytes().await };
        let bytes = read.await.map_err(|error| match error {
            Error::NotFound { .. } => TableError::Missing { location: self.location.to_string() },
            error => self.failed("reading hoodie.properties", error),
        })?;
        let properties = Properties::parse(&String::from_utf8_lossy(&bytes));
        let timeline = Timeline::read(self, &properties).await?;
        let found = Found { properties, timeline };
        if found.properties.get("hoodie.bootstrap.base.path").is_some() {
            return Err(self.unsupported("rows of another table (bootstrap)".to_owned()));
        }
        if !(5..=9).contains(&found.table_version()) {
            let version = found.properties.get("hoodie.table.version").unwrap_or("0");
            return Err(self.unsupported(format!("the table version {version}, and not 5 to 9,")));
        }
        Ok(found)
    }

    pub(crate) async fn put_properties(&self, properties: &Properties) -> Result<(), TableError> {
        let file = self.meta().join("hoodie.properties");
        // On a disk Hadoop keeps the sum of a file beside it, and refuses one that has another.
        let sum = self.meta().join(".hoodie.properties.crc");
        match self.location.store().delete(&sum).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed("writing hoodie.properties", error)),
        }
        let put = self.location.store().put(&file, properties.text().into_bytes().into()).await;
        put.map(|_| ()).map_err(|error| self.failed("writing hoodie.properties", error))
    }

    /// Where instants are that the timeline does not show any more.
    fn archive(&self, properties: &Properties) -> Path {
        match properties.get("hoodie.timeline.layout.version") {
            Some("2") => {
                let folder = self.timeline_folder(properties);
                folder.join(properties.get("hoodie.timeline.history.path").unwrap_or("history"))
            }
            _ => self.meta().join(properties.get("hoodie.archivelog.folder").unwrap_or("archived")),
        }
    }

    /// Whether instants were archived.
    pub(crate) async fn has_archive(&self, properties: &Properties) -> Result<bool, TableError> {
        let mut files = self.location.store().list(Some(&self.archive(properties)));
        let first = files.try_next().await;
        Ok(first.map_err(|error| self.failed("reading the archived timeline", error))?.is_some())
    }

    /// What the newest archived instant that says it says under `name`.
    pub(crate) async fn archived(&self, properties: &Properties, name: &str) -> Result<Option<String>, TableError> {
        const READING: &str = "reading the archived timeline";
        let folder = self.archive(properties);
        let mut files = self.location.store().list(Some(&folder));
        let mut newest: Option<(String, String)> = None;
        while let Some(file) = files.try_next().await.map_err(|error| self.failed(READING, error))? {
            if file.location.extension() != Some("parquet") {
                continue;
            }
            let (store, path) = (self.location.store().clone(), file.location.clone());
            let stored = StoredFile { store, path, bytes: file.size };
            let builder = ParquetRecordBatchStreamBuilder::new(stored).await;
            let rows = builder.and_then(|builder| {
                let at = |name: &str| builder.schema().index_of(name).ok();
                let roots: Vec<usize> = [at("completionTime"), at("metadata")].into_iter().flatten().collect();
                let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
                builder.with_projection(mask).build()
            });
            let mut rows = rows.map_err(|error| self.failed(READING, error))?;
            while let Some(batch) = rows.try_next().await.map_err(|error| self.failed(READING, error))? {
                let (Some(times), Some(said)) =
                    (batch.column_by_name("completionTime"), batch.column_by_name("metadata"))
                else {
                    continue;
                };
                let (Some(times), Some(said)) = (times.as_string_opt::<i32>(), said.as_binary_opt::<i32>()) else {
                    continue;
                };
                for (time, said) in times.iter().zip(said) {
                    let commit = said.and_then(|said| timeline::parse(said).ok());
                    let text = commit.and_then(|commit| commit.extra.get(name).cloned());
                    let told = time.map(str::to_owned).zip(text);
                    newest = newest.max(told);
                }
            }
        }
        Ok(newest.map(|(_, text)| text))
    }

    /// The bounds of columns in a slice, none where logs may have others.
    pub(crate) async fn bounds(&self, slice: &Slice, columns: &SchemaRef) -> Result<Vec<Bounds>, TableError> {
        let Some(base) = slice.base.as_ref().filter(|_| slice.logs.is_empty()) else { return Ok(vec![]) };
        let known = self.footers.lock().await.get(&base.path).cloned();
        let footer = match known {
            Some(footer) => footer,
            None => {
                let (store, path) = (self.location.store().clone(), base.path.clone());
                let mut file = StoredFile { store, path, bytes: base.bytes };
                let footer = file.get_metadata(None).await;
                let footer = footer.map_err(|error| self.failed("reading a data file", error))?;
                let mut footers = self.footers.lock().await;
                if footers.len() >= FOOTERS {
                    footers.clear();
                }
                footers.insert(base.path.clone(), footer.clone());
                footer
            }
        };
        let schema = parquet_to_arrow_schema(footer.file_metadata().schema_descr(), None);
        let schema = schema.map_err(|error| self.failed("reading a data file", error))?;
        let bounds = |field: &FieldRef| -> Option<Bounds> {
            let (mins, maxes) = row_group_bounds(&footer, &schema, field.name(), field.data_type())?;
            let values = |array: ArrayRef| {
                let values = (0..array.len()).map(|row| ScalarValue::try_from_array(&array, row).ok());
                // One that is not known may be any.
                values.collect::<Option<Vec<_>>>().filter(|values| values.iter().all(|value| !value.is_null()))
            };
            let by = |one: &ScalarValue, other: &ScalarValue| one.partial_cmp(other).unwrap_or(Ordering::Equal);
            let least = values(mins).and_then(|values| values.into_iter().min_by(by));
            Some((least, values(maxes).and_then(|values| values.into_iter().max_by(by))))
        };
        Ok(columns.fields().iter().map(|field| bounds(field).unwrap_or_default()).collect())
    }

    /// What an instant says of itself.
    pub(crate) async fn commit(&self, instant: &Instant) -> Result<Arc<Commit>, TableError> {
        if let Some(known) = self.commits.lock().await.get(&instant.file) {
            return Ok(known.clone());
        }
        let read = async { self.location.store().get(&instant.file).await?.bytes().await };
        let bytes = read.await.map_err(|error| self.failed("reading the timeline", error))?;
        let commit = timeline::parse(&bytes).map_err(|reason| self.damaged(&instant.file, reason))?;
        let commit = Arc::new(commit);
        let mut commits = self.commits.lock().await;
        if commits.len() >= COMMITS {
            commits.clear();
        }
        commits.insert(instant.file.clone(), commit.clone());
        Ok(commit)
    }
}
