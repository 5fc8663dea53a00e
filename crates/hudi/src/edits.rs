//! Rows that change: taken out of the slices that hold them, by logs or by writing base files anew, and written behind.

use crate::place::Found;
use crate::produce::{Begun, Change};
use crate::reading::{KEY, Reading, text_field};
use crate::schema::schema_text;
use crate::slices::Slice;
use crate::table::HudiTable;
use crate::writing::Files;
use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::SessionState;
use futures::TryStreamExt as _;
use rivermere_table::{Editing, TableError, Target};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Slices below this are put together with others.
pub(crate) const SMALL_BYTES: u64 = 4 * 1024 * 1024;

/// Where the rows of a statement, or of a sink, go.
pub(crate) struct Writing<'a> {
    pub(crate) files: Files<'a>,
    reading: Arc<Reading>,
    /// The table's columns, in Avro.
    pub(crate) avro: String,
}

#[async_trait]
impl Target<Slice> for Writing<'_> {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), TableError> {
        self.files.write(rows).await
    }

    async fn take(&mut self, slice: &Slice, gone: RoaringTreemap) -> Result<(), TableError> {
        self.take_out(slice, &gone).await
    }
}

/// A statement over the newest version, as an instant that has begun.
pub(crate) async fn statement<'a>(
    verb: &'static str,
    table: &'a HudiTable,
    session: &'a SessionState,
    found: &Found,
    begun: &'a Begun,
) -> Result<(Editing<'a, Reading>, Writing<'a>), TableError> {
    let instants = &found.timeline.instants;
    let (schema, slices) = table.plan(found, instants).await?;
    // `00000012-…`: the number of a bucket, which rows are found by.
    let is_bucket = |slice: &Slice| {
        let number = slice.file_id.split('-').next().unwrap_or_default();
        number.len() == 8 && slice.file_id.len() > 40 && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    if slices.iter().any(is_bucket) {
        let feature = "a bucket index, in a table that is written,".to_owned();
        let hint = "write it with the engine that made it";
        return Err(TableError::UnsupportedFeature { location: table.place().location.to_string(), feature, hint });
    }
    let reading = Reading::new(table.place(), found, instants, schema.clone());
    let avro = schema_text(table.place(), found, instants).await?;
    let files = Files::new(table.place(), found, begun, &schema);
    let writing = Writing { files, reading: reading.clone(), avro };
    let location = table.place().location.to_string();
    Ok((Editing { verb, location, session, reader: reading, schema, pieces: slices }, writing))
}

impl Writing<'_> {
    /// Takes the rows at some places out of a slice: by a log, where the table has such and most of the rows stay, else by writing
    /// it anew.
    pub(crate) async fn take_out(&mut self, slice: &Slice, gone: &RoaringTreemap) -> Result<(), TableError> {
        if self.files.logs()
            && let Some(keys) = keys_at(&self.reading, slice, gone).await?
        {
            return self.files.delete_keys(slice, &self.avro, &keys).await;
        }
        let mut rows = self.reading.filtered(slice, self.files.whole(), None).await?;
        let mut first = 0_u64;
        self.files.begin_next(slice)?;
        while let Some(batch) = rows.try_next().await? {
            let end = first + batch.num_rows() as u64;
            let live: BooleanArray = (first..end).map(|row| Some(!gone.contains(row))).collect();
            first = end;
            let kept =
                filter_record_batch(&batch, &live).map_err(|error| self.reading.failed(&slice.file_id, error))?;
            self.files.write_next(&kept)?;
        }
        self.files.finish_next(slice, gone.len()).await
    }

    /// The rows of some slices in new file groups, with what Hudi added to them: they are no new rows.
    pub(crate) async fn gather(&mut self, slices: &[Slice]) -> Result<(), TableError> {
        for slice in slices {
            let mut rows = self.reading.filtered(slice, self.files.whole(), None).await?;
            while let Some(batch) = rows.try_next().await? {
                self.files.keep(&slice.partition, &batch).await?;
            }
        }
        Ok(())
    }
}

/// The keys of the rows at some places; nothing where several rows have one of them, or less than half would be left.
async fn keys_at(
    reading: &Arc<Reading>,
    slice: &Slice,
    gone: &RoaringTreemap,
) -> Result<Option<Vec<String>>, TableError> {
    let column: SchemaRef = Arc::new(Schema::new(vec![text_field(KEY)]));
    let mut rows = reading.filtered(slice, &column, None).await?;
    let (mut first, mut keys, mut others) = (0_u64, HashSet::new(), HashSet::new());
    while let Some(batch) = rows.try_next().await? {
        for (row, key) in (first..).zip(batch.column(0).as_string::<i32>()) {
            let Some(key) = key else { return Ok(None) };
            if gone.contains(row) {
                keys.insert(key.to_owned())
            } else {
                others.insert(key.to_owned())
            };
        }
        first += batch.num_rows() as u64;
    }
    let is_most = gone.len() * 2 <= first;
    // A log takes one row of a key out, as Hudi's readers have it.
    let is_each = keys.len() as u64 == gone.len() && keys.is_disjoint(&others);
    Ok((is_most && is_each).then(|| keys.into_iter().collect()))
}

/// Slices whose rows are put together, at most so many: small ones, of partitions with several of them, and those with more than so
/// many logs.
pub(crate) fn small(slices: &[Slice], limit: usize, logs: usize) -> Vec<Slice> {
    let is_small = |slice: &&Slice| slice.bytes() < SMALL_BYTES || slice.logs.len() > logs;
    let all: Vec<&Slice> = slices.iter().filter(is_small).collect();
    let of = |partition: &str| all.iter().filter(|slice| slice.partition == partition).count();
    let several = |slice: &&&Slice| slice.logs.len() > logs || of(&slice.partition) > 1;
    all.iter().filter(several).take(limit).map(|slice| (*slice).clone()).collect()
}

/// The file groups of slices, by partition.
pub(crate) fn groups(slices: &[Slice]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for slice in slices {
        groups.entry(slice.partition.clone()).or_default().push(slice.file_id.clone());
    }
    groups
}

impl Change {
    /// Nothing yet, with the newest columns.
    pub(crate) fn of(operation: &'static str, schema: String) -> Self {
        Self { operation, schema, ..Self::default() }
    }
}
