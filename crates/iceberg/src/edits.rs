//! Rows that change: the files that hold them are written anew.

use crate::IcebergTable;
use crate::files::Planned;
use crate::place::{Found, Place};
use crate::reading::{FILE_COLUMN, ROW_COLUMN, Reading, place_fields};
use crate::scan::Snapshot;
use crate::types::columns;
use crate::writing::Files;
use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlanBuilder, when};
use datafusion::prelude::{DataFrame, ident};
use futures::TryStreamExt as _;
use iceberg::spec::{DataFile, NestedFieldRef};
use rivermere_table::merging::{Deed, MergeError, MergePlan, SEVERAL_MATCH, clauses, plan_merge};
use rivermere_table::{MergeVerb, TableError};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Files below this are put together with others.
pub(crate) const SMALL_BYTES: u64 = 4 * 1024 * 1024;
const CHANGING: &str = "changing rows";

/// What takes the place of what.
#[derive(Default)]
pub(crate) struct Edited {
    pub(crate) added: Vec<DataFile>,
    pub(crate) removed: HashSet<String>,
    /// Rows that the statement was about.
    pub(crate) rows: u64,
}

struct Editor<'a> {
    verb: &'static str,
    table: &'a IcebergTable,
    found: &'a Arc<Found>,
    session: &'a SessionState,
    reading: Arc<Reading>,
}

impl<'a> Editor<'a> {
    fn new(table: &'a IcebergTable, found: &'a Arc<Found>, session: &'a SessionState) -> Self {
        let reading = Reading::new(table.place(), found);
        Self { verb: "MERGE", table, found, session, reading }
    }

    fn failed(&self, error: DataFusionError) -> TableError {
        refused(self.table.place(), self.verb, error)
    }

    fn over(&self, files: Vec<Planned>) -> Snapshot {
        let schema = self.found.metadata.table.current_schema();
        let fields = schema.as_struct().fields().to_vec();
        Snapshot { reading: self.reading.clone(), fields, schema: columns(schema), files }
    }

    /// Writes the files anew that have rows for which the condition holds, as `changed` makes them.
    async fn rewrite(
        &self,
        condition: Option<&str>,
        changed: impl Fn(DataFrame, Option<Expr>) -> Result<Option<DataFrame>, DataFusionError>,
    ) -> Result<Edited, TableError> {
        let mut files = Files::new(self.table.place(), self.found)?;
        let mut edited = Edited::default();
        for planned in self.table.planned(self.found).await? {
            let name = planned.file.name.clone();
            let frame = || {
                let plan = LogicalPlanBuilder::scan(
                    "target",
                    provider_as_source(Arc::new(self.over(vec![planned.clone()]))),
                    None,
                )?;
                Ok::<_, DataFusionError>(DataFrame::new(self.session.clone(), plan.build()?))
            };
            let work = async {
                let whole = frame()?;
                let condition = condition.map(|condition| self.session.create_logical_expr(condition, whole.schema()));
                let condition = condition.transpose()?;
                let meant = match &condition {
                    Some(condition) => whole.filter(condition.clone())?,
                    None => whole,
                };
                let meant = meant.count().await? as u64;
                Ok((meant, if meant == 0 { None } else { changed(frame()?, condition)? }))
            };
            let (meant, changed) = work.await.map_err(|error| self.failed(error))?;
            if meant == 0 {
                continue;
            }
            edited.rows += meant;
            edited.removed.insert(name);
            if let Some(changed) = changed {
                self.write(changed, &mut files).await?;
            }
        }
        edited.added = files.finish().await?;
        Ok(edited)
    }

    async fn write(&self, frame: DataFrame, files: &mut Files<'_>) -> Result<(), TableError> {
        let mut batches = frame.execute_stream().await.map_err(|error| self.failed(error))?;
        while let Some(batch) = batches.try_next().await.map_err(|error| self.failed(error))? {
            files.write(&batch).await?;
        }
        Ok(())
    }
}

/// Leaves out the rows for which the condition holds; all without one.
pub(crate) async fn delete(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    condition: Option<&str>,
) -> Result<Edited, TableError> {
    let editor = Editor { verb: "DELETE", ..Editor::new(table, found, session) };
    let others = |rows: DataFrame, condition: Option<Expr>| {
        condition.map(|condition| rows.filter(condition.is_not_true())).transpose()
    };
    editor.rewrite(condition, others).await
}

/// Sets columns in the rows for which the condition holds; in all without one.
pub(crate) async fn update(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    assignments: &[(String, String)],
    condition: Option<&str>,
) -> Result<Edited, TableError> {
    let editor = Editor { verb: "UPDATE", ..Editor::new(table, found, session) };
    let set = |rows: DataFrame, condition: Option<Expr>| {
        let schema = rows.schema().clone();
        let column = |field: &arrow::datatypes::FieldRef| -> Result<Expr, DataFusionError> {
            let own = ident(field.name());
            let Some((_, value)) = assignments.iter().find(|(name, _)| name == field.name()) else { return Ok(own) };
            let value = session.create_logical_expr(value, &schema)?.cast_to(field.data_type(), &schema)?;
            let value = match &condition {
                Some(condition) => when(condition.clone().is_true(), value).otherwise(own)?,
                None => value,
            };
            Ok(value.alias(field.name()))
        };
        rows.select(schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?).map(Some)
    };
    editor.rewrite(condition, set).await
}

/// Does what a merge says: files with rows that are changed or deleted are written anew without these, and what is changed or new
/// is written behind them.
pub(crate) async fn merge(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    merge: &MergeVerb,
) -> Result<(Edited, [u64; 3]), TableError> {
    let editor = Editor::new(table, found, session);
    let planned = table.planned(found).await?;
    let rows = editor.over(planned.clone());
    let (schema, fields) = (rows.schema.clone(), rows.fields.clone());
    let target = TableReference::bare(&*merge.target_alias);
    let scan = LogicalPlanBuilder::scan(target, provider_as_source(Arc::new(rows.with_places())), None);
    let scan = scan.and_then(LogicalPlanBuilder::build).map_err(|error| editor.failed(error))?;
    let work = plan_merge(session, scan, &[FILE_COLUMN, ROW_COLUMN], &schema, merge);
    let MergePlan { plan, deeds, may_match_twice } = work.map_err(|error| match error {
        MergeError::Plan(error) => editor.failed(error),
        MergeError::Refused(reason) => table.refused(editor.verb, reason),
    })?;
    let mut files = Files::new(table.place(), found)?;
    let mut marks: BTreeMap<i64, RoaringTreemap> = BTreeMap::new();
    let [mut deleted, mut updated, mut inserted] = [0; 3];
    let stream = DataFrame::new(session.clone(), plan).execute_stream().await;
    let mut batches = stream.map_err(|error| editor.failed(error))?;
    while let Some(batch) = batches.try_next().await.map_err(|error| editor.failed(error))? {
        let done = clauses(&batch).map_err(|error| editor.failed(error))?.clone();
        for (number, deed) in (0_u8..).zip(&deeds) {
            let these = done.iter().map(|clause| Some(clause == Some(number))).collect();
            let these = filter_record_batch(&batch, &these).map_err(|error| editor.failed(error.into()))?;
            let count = these.num_rows() as u64;
            let new = if *deed == Deed::Insert { count } else { mark(&mut marks, &these) };
            if new < count && !may_match_twice {
                return Err(table.refused(editor.verb, SEVERAL_MATCH));
            }
            match deed {
                Deed::Delete => deleted += new,
                Deed::Update => updated += new,
                Deed::Insert => inserted += new,
            }
            if *deed != Deed::Delete && count > 0 {
                let values: Vec<usize> = (3..these.num_columns()).collect();
                let values = these.project(&values).map_err(|error| editor.failed(error.into()))?;
                files.write(&values).await?;
            }
        }
    }
    let mut edited = Edited { rows: deleted + updated + inserted, ..Edited::default() };
    let placed: Vec<NestedFieldRef> = fields.iter().cloned().chain(place_fields()).collect();
    for (number, gone) in &marks {
        let Some(planned) = usize::try_from(*number).ok().and_then(|number| planned.get(number)) else { continue };
        edited.removed.insert(planned.file.name.clone());
        let mut rows = editor.reading.rows(planned, &placed).await?;
        while let Some(batch) = rows.try_next().await? {
            let kept = kept(&batch, gone).map_err(|error| editor.failed(error.into()))?;
            files.write(&kept).await?;
        }
    }
    edited.added = files.finish().await?;
    Ok((edited, [deleted, updated, inserted]))
}

/// Notes the places of rows, which are in the first two columns; how many were not noted before.
fn mark(marks: &mut BTreeMap<i64, RoaringTreemap>, rows: &RecordBatch) -> u64 {
    let (files, places) = (rows.column(0).as_primitive::<Int64Type>(), rows.column(1).as_primitive::<Int64Type>());
    let new = files.values().iter().zip(places.values()).filter(|(file, place)| {
        u64::try_from(**place).is_ok_and(|place| marks.entry(**file).or_default().insert(place))
    });
    new.count() as u64
}

/// Rows without those at some places, and without their places, which are in the last two columns.
fn kept(batch: &RecordBatch, gone: &RoaringTreemap) -> Result<RecordBatch, ArrowError> {
    let width = batch.num_columns().saturating_sub(2);
    let places = batch.column(width + 1).as_primitive::<Int64Type>();
    let live = places.values().iter().map(|place| Some(!u64::try_from(*place).is_ok_and(|place| gone.contains(place))));
    filter_record_batch(&batch.project(&(0..width).collect::<Vec<_>>())?, &live.collect())
}

/// Puts small files together, and files without the rows that deletes are about. Rows stay the same.
pub(crate) async fn compact(table: &IcebergTable, found: &Arc<Found>) -> Result<Edited, TableError> {
    let planned = table.planned(found).await?;
    let of_default = found.metadata.table.default_partition_spec_id();
    let is_crumb = |planned: &&Planned| {
        planned.file.bytes < SMALL_BYTES || !planned.deletes.is_empty() || planned.file.spec_id != of_default
    };
    let crumbs: Vec<Planned> = planned.iter().filter(is_crumb).cloned().collect();
    let alone = crumbs.len() == 1
        && crumbs.iter().all(|planned| planned.deletes.is_empty() && planned.file.spec_id == of_default);
    if crumbs.is_empty() || alone {
        return Ok(Edited::default());
    }
    rewritten(table, found, &crumbs).await
}

/// The rows of some files in new ones.
pub(crate) async fn rewritten(
    table: &IcebergTable,
    found: &Arc<Found>,
    planned: &[Planned],
) -> Result<Edited, TableError> {
    let reading = Reading::new(table.place(), found);
    let fields = found.metadata.table.current_schema().as_struct().fields();
    let mut files = Files::new(table.place(), found)?;
    let mut edited = Edited::default();
    for planned in planned {
        edited.removed.insert(planned.file.name.clone());
        let mut rows = reading.rows(planned, fields).await?;
        while let Some(batch) = rows.try_next().await? {
            files.write(&batch).await?;
        }
    }
    edited.added = files.finish().await?;
    Ok(edited)
}

/// Why a plan failed: what is below it, the storage, or what the statement asks for.
pub(crate) fn refused(place: &Place, verb: &'static str, error: DataFusionError) -> TableError {
    let location = place.location.to_string();
    match error.find_root() {
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) | DataFusionError::ResourcesExhausted(_) => {
            TableError::storage(CHANGING, location, error)
        }
        // A table's own error, which the scan has passed on.
        DataFusionError::External(inner) if inner.is::<TableError>() => TableError::storage(CHANGING, location, error),
        root => TableError::Verb { location, verb, reason: root.strip_backtrace() },
    }
}
