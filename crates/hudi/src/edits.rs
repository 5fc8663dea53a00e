//! Rows that change: taken out of the slices that hold them, whose base files are written anew, and written behind.

use crate::place::Found;
use crate::produce::Change;
use crate::reading::{KEY, Reading, text_field};
use crate::scan::{FILE_COLUMN, ROW_COLUMN, Snapshot};
use crate::schema::schema_text;
use crate::slices::Slice;
use crate::table::HudiTable;
use crate::writing::Files;
use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlanBuilder};
use datafusion::prelude::{DataFrame, ident};
use futures::TryStreamExt as _;
use rivermere_table::merging::{Deed, MergeError, MergePlan, SEVERAL_MATCH, clauses, plan_merge};
use rivermere_table::{MergeVerb, TableError};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Slices below this are put together with others.
pub(crate) const SMALL_BYTES: u64 = 4 * 1024 * 1024;

/// Changes the rows of the newest version.
pub(crate) struct Editor<'a> {
    pub(crate) verb: &'static str,
    pub(crate) table: &'a HudiTable,
    pub(crate) session: &'a SessionState,
    pub(crate) reading: Arc<Reading>,
    pub(crate) schema: SchemaRef,
    /// The same in Avro.
    pub(crate) avro: String,
    pub(crate) slices: Vec<Slice>,
}

impl<'a> Editor<'a> {
    pub(crate) async fn new(
        verb: &'static str,
        table: &'a HudiTable,
        session: &'a SessionState,
        found: &Found,
    ) -> Result<Self, TableError> {
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
        Ok(Self { verb, table, session, reading, schema, avro, slices })
    }

    pub(crate) fn failed(&self, error: DataFusionError) -> TableError {
        refused(self.table, self.verb, error)
    }

    /// Rows of slices with their places.
    fn over(&self, slices: Vec<Slice>) -> Snapshot {
        let reading = self.reading.clone();
        Snapshot { reading, schema: self.schema.clone(), slices }.with_places()
    }

    /// Takes out the rows for which the condition holds, all without one, and puts in what `changed` makes of them, if anything;
    /// how many rows that were.
    async fn replace(
        &self,
        files: &mut Files<'_>,
        condition: Option<&str>,
        changed: impl Fn(&DFSchema) -> Result<Vec<Expr>, DataFusionError>,
    ) -> Result<u64, TableError> {
        let mut rows = 0;
        for slice in self.slices.clone() {
            let work = async {
                let plan = provider_as_source(Arc::new(self.over(vec![slice.clone()])));
                let plan = LogicalPlanBuilder::scan("target", plan, None)?.build()?;
                let whole = DataFrame::new(self.session.clone(), plan);
                let schema = whole.schema().clone();
                let condition = condition.map(|condition| self.session.create_logical_expr(condition, &schema));
                let meant = match condition.transpose()? {
                    Some(condition) => whole.filter(condition)?,
                    None => whole,
                };
                let mut shown = vec![ident(FILE_COLUMN), ident(ROW_COLUMN)];
                shown.extend(changed(&schema)?);
                meant.select(shown)?.execute_stream().await
            };
            let mut batches = work.await.map_err(|error| self.failed(error))?;
            let mut marks = BTreeMap::new();
            while let Some(batch) = batches.try_next().await.map_err(|error| self.failed(error))? {
                rows += mark(&mut marks, &batch);
                if batch.num_columns() > 2 {
                    let values: Vec<usize> = (2..batch.num_columns()).collect();
                    files.write(&batch.project(&values).map_err(|error| self.failed(error.into()))?).await?;
                }
            }
            for gone in marks.into_values() {
                self.take(files, &slice, &gone).await?;
            }
        }
        Ok(rows)
    }

    /// Takes the rows at some places out of a slice: by a log, where the table has such and most of the rows stay, else by writing
    /// it anew.
    pub(crate) async fn take(
        &self,
        files: &mut Files<'_>,
        slice: &Slice,
        gone: &RoaringTreemap,
    ) -> Result<(), TableError> {
        if files.logs()
            && let Some(keys) = self.keys_at(slice, gone).await?
        {
            return files.delete_keys(slice, &self.avro, &keys).await;
        }
        let mut rows = self.reading.rows(slice, files.whole()).await?;
        let mut first = 0_u64;
        files.begin_next(slice)?;
        while let Some(batch) = rows.try_next().await? {
            let end = first + batch.num_rows() as u64;
            let live: BooleanArray = (first..end).map(|row| Some(!gone.contains(row))).collect();
            first = end;
            files.write_next(&filter_record_batch(&batch, &live).map_err(|error| self.failed(error.into()))?)?;
        }
        files.finish_next(slice, gone.len()).await
    }

    /// The keys of the rows at some places; nothing where other rows have them, too, or less than half would be left.
    async fn keys_at(&self, slice: &Slice, gone: &RoaringTreemap) -> Result<Option<Vec<String>>, TableError> {
        let column: SchemaRef = Arc::new(Schema::new(vec![text_field(KEY)]));
        let mut rows = self.reading.rows(slice, &column).await?;
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
        Ok((is_most && keys.is_disjoint(&others)).then(|| keys.into_iter().collect()))
    }

    /// Takes out the rows for which the condition holds; all without one.
    pub(crate) async fn delete(&self, files: &mut Files<'_>, condition: Option<&str>) -> Result<u64, TableError> {
        self.replace(files, condition, |_| Ok(vec![])).await
    }

    /// Sets columns in the rows for which the condition holds; in all without one.
    pub(crate) async fn update(
        &self,
        files: &mut Files<'_>,
        assignments: &[(String, String)],
        condition: Option<&str>,
    ) -> Result<u64, TableError> {
        let (columns, session) = (self.schema.clone(), self.session);
        let set = |schema: &DFSchema| {
            let column = |field: &FieldRef| -> Result<Expr, DataFusionError> {
                let Some((_, value)) = assignments.iter().find(|(name, _)| name == field.name()) else {
                    return Ok(ident(field.name()));
                };
                let value = session.create_logical_expr(value, schema)?.cast_to(field.data_type(), schema)?;
                Ok(value.alias(field.name()))
            };
            columns.fields().iter().map(column).collect()
        };
        self.replace(files, condition, set).await
    }

    /// Does what a merge says; how many rows were deleted, updated and inserted.
    pub(crate) async fn merge(&self, files: &mut Files<'_>, merge: &MergeVerb) -> Result<[u64; 3], TableError> {
        let rows = provider_as_source(Arc::new(self.over(self.slices.clone())));
        let target = TableReference::bare(&*merge.target_alias);
        let scan = LogicalPlanBuilder::scan(target, rows, None).and_then(LogicalPlanBuilder::build);
        let scan = scan.map_err(|error| self.failed(error))?;
        let work = plan_merge(self.session, scan, &[FILE_COLUMN, ROW_COLUMN], &self.schema, merge);
        let MergePlan { plan, deeds, may_match_twice } = work.map_err(|error| match error {
            MergeError::Plan(error) => self.failed(error),
            MergeError::Refused(reason) => self.table.refused(self.verb, reason),
        })?;
        let mut marks: BTreeMap<i64, RoaringTreemap> = BTreeMap::new();
        let [mut deleted, mut updated, mut inserted] = [0; 3];
        let stream = DataFrame::new(self.session.clone(), plan).execute_stream().await;
        let mut batches = stream.map_err(|error| self.failed(error))?;
        while let Some(batch) = batches.try_next().await.map_err(|error| self.failed(error))? {
            let done = clauses(&batch).map_err(|error| self.failed(error))?.clone();
            for (number, deed) in (0_u8..).zip(&deeds) {
                let these = done.iter().map(|clause| Some(clause == Some(number))).collect();
                let these = filter_record_batch(&batch, &these).map_err(|error| self.failed(error.into()))?;
                let count = these.num_rows() as u64;
                let new = if *deed == Deed::Insert { count } else { mark(&mut marks, &these) };
                if new < count && !may_match_twice {
                    return Err(self.table.refused(self.verb, SEVERAL_MATCH));
                }
                match deed {
                    Deed::Delete => deleted += new,
                    Deed::Update => updated += new,
                    Deed::Insert => inserted += new,
                }
                if *deed != Deed::Delete && count > 0 {
                    let values: Vec<usize> = (3..these.num_columns()).collect();
                    let values = these.project(&values).map_err(|error| self.failed(error.into()))?;
                    files.write(&values).await?;
                }
            }
        }
        for (number, gone) in &marks {
            let slice = usize::try_from(*number).ok().and_then(|number| self.slices.get(number));
            if let Some(slice) = slice {
                self.take(files, slice, gone).await?;
            }
        }
        Ok([deleted, updated, inserted])
    }

    /// The rows of some slices in new file groups, with what Hudi added to them: they are no new rows.
    pub(crate) async fn gather(&self, files: &mut Files<'_>, slices: &[Slice]) -> Result<(), TableError> {
        for slice in slices {
            let mut rows = self.reading.rows(slice, files.whole()).await?;
            while let Some(batch) = rows.try_next().await? {
                files.keep(&slice.partition, &batch).await?;
            }
        }
        Ok(())
    }
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

/// Notes the places of rows, which are in the first two columns; how many were not noted before.
pub(crate) fn mark(marks: &mut BTreeMap<i64, RoaringTreemap>, rows: &RecordBatch) -> u64 {
    let (files, places) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_primitive::<Int64Type>());
    let new = files.values().iter().zip(places.values()).filter(|(file, place)| {
        u64::try_from(**place).is_ok_and(|place| marks.entry(**file).or_default().insert(place))
    });
    new.count() as u64
}

/// Why a plan failed: what is below it, the storage, or what the statement asks for.
pub(crate) fn refused(table: &HudiTable, verb: &'static str, error: DataFusionError) -> TableError {
    let location = table.place().location.to_string();
    match error.find_root() {
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) | DataFusionError::ResourcesExhausted(_) => {
            TableError::storage("changing rows", location, error)
        }
        // A table's own error, which the scan has passed on.
        DataFusionError::External(inner) if inner.is::<TableError>() => {
            TableError::storage("changing rows", location, error)
        }
        root => TableError::Verb { location, verb, reason: root.strip_backtrace() },
    }
}
