//! Deletion vectors: rows that are gone from a file which stays as it is.
//!
//! PROTOCOL.md, "Deletion Vectors" and "Deletion Vector Format". The vectors of one commit are one file beside the data.

use crate::active::ActiveFiles;
use crate::handle::Handle;
use crate::rows::places_of;
use arrow::array::RecordBatch;
use buoyant_kernel::actions::deletion_vector_writer::{KernelDeletionVector, StreamingDeletionVectorWriter};
use datafusion::error::DataFusionError;
use deltalake_core::kernel::{Add, DeletionVectorDescriptor, LogicalFileView, Remove, StorageType};
use deltalake_core::table::state::DeltaTableState;
use object_store::path::Path;
use object_store::{PutMode, PutOptions};
use rivermere_table::TableError;
use roaring::RoaringTreemap;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// The property by which a table asks for them.
const ENABLED: &str = "delta.enableDeletionVectors";
const WRITING: &str = "writing a deletion vector";
const READING: &str = "reading the deletion vectors";

/// Whether rows of the table are to be marked, rather than their files written anew.
pub(crate) fn enabled(state: &DeltaTableState) -> bool {
    state.metadata().configuration().get(ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// What tells one vector from another.
pub(crate) type Identity = (String, Option<i32>, i64);

pub(crate) fn identity(file: &LogicalFileView) -> Option<Identity> {
    let vector = file.deletion_vector_descriptor()?;
    Some((vector.path_or_inline_dv, vector.offset, vector.cardinality))
}

/// How many rows are gone from a file.
pub(crate) fn cardinality(file: &LogicalFileView) -> u64 {
    file.deletion_vector_descriptor().map_or(0, |vector| u64::try_from(vector.cardinality).unwrap_or_default())
}

/// Live rows by the numbers that [`rows`](crate::rows) gives them.
#[derive(Default)]
pub(crate) struct Marks(BTreeMap<u32, RoaringTreemap>);

impl Marks {
    /// All rows of a batch that has their places; how many of them were not marked before.
    pub(crate) fn add_all(&mut self, batch: &RecordBatch) -> Result<u64, DataFusionError> {
        let (files, rows) = places_of(batch)?;
        let mut new = 0;
        for (file, row) in files.iter().zip(rows) {
            new += u64::from(self.0.entry(*file).or_default().insert(*row));
        }
        Ok(new)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().map(|(file, rows)| (*file, rows.len()))
    }

    /// The marks of a file, which are not its any more.
    pub(crate) fn take(&mut self, file: u32) {
        self.0.remove(&file);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.values().map(RoaringTreemap::len).sum()
    }
}

/// Log entries that take marked rows away.
#[derive(Default)]
pub(crate) struct Marked {
    pub(crate) adds: Vec<Add>,
    pub(crate) removes: Vec<Remove>,
}

/// Writes the vectors of the files that have marks; `seen` is how many live rows each of them has. A file without any row
/// left is removed.
pub(crate) async fn write(
    handle: &Handle,
    state: &DeltaTableState,
    active: &ActiveFiles,
    marks: &Marks,
    seen: &HashMap<u32, u64>,
) -> Result<Marked, TableError> {
    let mut marked = Marked::default();
    if marks.is_empty() {
        return Ok(marked);
    }
    let has_vector = |file: &LogicalFileView| file.deletion_vector_descriptor().is_some();
    let files: Vec<u32> =
        marks.0.keys().copied().filter(|number| active.get(*number).is_some_and(has_vector)).collect();
    let mut gone = gone(handle, state, active, &files).await?;
    let failed = |error: String| TableError::storage(WRITING, handle.location.to_string(), error);
    let mut bytes = Vec::new();
    let mut writer = StreamingDeletionVectorWriter::new(&mut bytes);
    let id = handle.location.new_id();
    let name = z85::encode(id.as_bytes());
    for (number, live) in &marks.0 {
        let file = active.get(*number).ok_or_else(|| failed(format!("there is no file {number}")))?;
        let before = gone.remove(number).unwrap_or_default();
        let rows = seen.get(number).copied().unwrap_or_default() + before.len();
        let after = &before | &places(live, &before);
        marked.removes.push(handle.remove(file, true)?);
        if after.len() >= rows {
            continue;
        }
        let mut vector = KernelDeletionVector::new();
        vector.add_deleted_row_indexes(after.iter());
        let written = writer.write_deletion_vector(vector).map_err(|error| failed(error.to_string()))?;
        let vector = DeletionVectorDescriptor {
            storage_type: StorageType::UuidRelativePath,
            path_or_inline_dv: name.clone(),
            offset: Some(written.offset),
            size_in_bytes: written.size_in_bytes,
            cardinality: written.cardinality,
        };
        marked.adds.push(with_vector(file, vector, rows));
    }
    writer.finalize().map_err(|error| failed(error.to_string()))?;
    if !bytes.is_empty() {
        // Its name is made by nobody else: it is complete before the log names it, and stays as it is.
        let store = handle.log_store.object_store(None);
        let path = Path::from(format!("deletion_vector_{id}.bin"));
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = store.put_opts(&path, bytes.into(), options).await;
        put.map_err(|error| TableError::storage(WRITING, handle.location.to_string(), error))?;
    }
    Ok(marked)
}

/// The file with another vector. Its statistics are those of all rows that it ever had, which is said in them.
fn with_vector(file: &LogicalFileView, vector: DeletionVectorDescriptor, rows: u64) -> Add {
    #[expect(deprecated, reason = "nothing else gives the whole entry")]
    let mut add = file.add_action();
    add.stats = Some(statistics(add.stats.as_deref(), rows));
    add.deletion_vector = Some(vector);
    add.data_change = true;
    add
}

/// All that is told of a file but these two, as it was: a number that was read and written again may be another one.
fn statistics(told: Option<&str>, rows: u64) -> String {
    let told: BTreeMap<String, Box<RawValue>> =
        told.and_then(|told| serde_json::from_str(told).ok()).unwrap_or_default();
    let mut stats = format!("{{\"numRecords\":{rows},\"tightBounds\":false");
    for (name, value) in told.iter().filter(|(name, _)| !["numRecords", "tightBounds"].contains(&name.as_str())) {
        stats.push_str(&format!(",{}:{value}", Value::from(name.as_str())));
    }
    stats + "}"
}

/// The rows that are gone from some files of a version, all of which have a vector.
pub(crate) async fn gone(
    handle: &Handle,
    state: &DeltaTableState,
    active: &ActiveFiles,
    files: &[u32],
) -> Result<HashMap<u32, RoaringTreemap>, TableError> {
    if files.is_empty() {
        return Ok(HashMap::new());
    }
    let failed = |error: DataFusionError| TableError::storage(READING, handle.location.to_string(), error);
    let selection = active.selection(handle, files)?;
    let provider = handle.scan(state).with_file_selection(selection).build().await.map_err(failed)?;
    let vectors = provider.deletion_vectors(handle.session.as_ref()).await.map_err(failed)?;
    let mut gone = HashMap::with_capacity(vectors.len());
    for vector in vectors {
        let rows = (0_u64..).zip(&vector.keep_mask).filter(|(_, keep)| !**keep).map(|(row, _)| row);
        if let Some(number) = active.number(&vector.filepath) {
            gone.insert(number, rows.collect());
        }
    }
    match files.iter().find(|number| !gone.contains_key(number)).and_then(|number| active.get(*number)) {
        None => Ok(gone),
        Some(file) => Err(failed(DataFusionError::Execution(format!("that of '{}' was not found", file.path())))),
    }
}

/// Where live rows are in their file, from how many live ones come before each.
fn places(live: &RoaringTreemap, gone: &RoaringTreemap) -> RoaringTreemap {
    let mut gone = gone.iter().peekable();
    let mut before = 0;
    let place = live.iter().map(|row| {
        while gone.next_if(|gone| *gone <= row + before).is_some() {
            before += 1;
        }
        row + before
    });
    place.collect()
}

/// The numbers among the live rows of those at `places`, none of which is gone: the other way round.
pub(crate) fn live_numbers(places: &RoaringTreemap, gone: &RoaringTreemap) -> RoaringTreemap {
    let mut gone = gone.iter().peekable();
    let mut before = 0;
    let number = places.iter().map(|place| {
        while gone.next_if(|gone| *gone < place).is_some() {
            before += 1;
        }
        place - before
    });
    number.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_stay_as_they_were_told() {
        let told = r#"{"numRecords":9,"minValues":{"a":123456789012345678.91,"b":"x"},"nullCount":{"a":0}}"#;
        let stats = statistics(Some(told), 8);
        assert!(stats.contains(r#""minValues":{"a":123456789012345678.91,"b":"x"}"#), "{stats}");
        let read: Value = serde_json::from_str(&stats).unwrap();
        assert_eq!((read["numRecords"].as_u64(), read["tightBounds"].as_bool()), (Some(8), Some(false)));
        assert_eq!(read["nullCount"]["a"], 0);
        assert_eq!(statistics(None, 3), r#"{"numRecords":3,"tightBounds":false}"#);
    }

    #[test]
    fn live_rows_and_places_lead_to_each_other() {
        let map = |rows: &[u64]| rows.iter().copied().collect::<RoaringTreemap>();
        for (live, gone, there) in [
            (&[0, 1, 2][..], &[][..], &[0, 1, 2][..]),
            (&[0, 1, 2], &[0, 1], &[2, 3, 4]),
            (&[0, 2, 3], &[1, 4], &[0, 3, 5]),
            (&[4], &[0, 2, 4, 6, 8], &[9]),
            (&[], &[3], &[]),
        ] {
            assert_eq!(places(&map(live), &map(gone)), map(there), "{live:?} without {gone:?}");
            assert_eq!(live_numbers(&map(there), &map(gone)), map(live), "{there:?} without {gone:?}");
        }
    }
}
