//! Rows that change: the files that hold them are written anew.

use crate::IcebergTable;
use crate::files::Planned;
use crate::place::Found;
use crate::reading::{FILE_COLUMN, ROW_COLUMN, Reading, place_fields};
use crate::scan::Snapshot;
use crate::types::columns;
use crate::writing::Files;
use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::count::count_all;
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
const SMALL_BYTES: u64 = 4 * 1024 * 1024;
const CHANGING: &str = "changing rows";

/// What takes the place of what.
#[derive(Default)]
pub(crate) struct Edited {
    pub(crate) added: Vec<DataFile>,
    pub(crate) removed: HashSet<String>,
    /// Rows that the statement was about.
    pub(crate) rows: u64,
}

/// One file of a table as a relation, with the expressions of a statement over it.
struct OneFile {
    frame: DataFrame,
    condition: Option<Expr>,
}

struct Editor<'a> {
    table: &'a IcebergTable,
    found: &'a Arc<Found>,
    session: &'a SessionState,
    reading: Arc<Reading>,
}

impl<'a> Editor<'a> {
    fn new(table: &'a IcebergTable, found: &'a Arc<Found>, session: &'a SessionState) -> Self {
        let reading = Reading::new(table.place(), found);
        Self { table, found, session, reading }
    }

    fn failed(&self, error: DataFusionError) -> TableError {
        TableError::storage(CHANGING, self.table.place().location.to_string(), error)
    }

    fn over(&self, files: Vec<Planned>) -> Arc<dyn TableProvider> {
        let schema = self.found.metadata.table.current_schema();
        let fields = schema.as_struct().fields().to_vec();
        Arc::new(Snapshot { reading: self.reading.clone(), fields, schema: columns(schema), files })
    }

    fn one(&self, planned: Planned, condition: Option<&str>) -> Result<OneFile, TableError> {
        let plan = LogicalPlanBuilder::scan("target", provider_as_source(self.over(vec![planned])), None);
        let plan = plan.and_then(LogicalPlanBuilder::build).map_err(|error| self.failed(error))?;
        let frame = DataFrame::new(self.session.clone(), plan);
        let condition = condition.map(|condition| self.session.create_logical_expr(condition, frame.schema()));
        let condition = condition.transpose().map_err(|error| self.failed(error))?;
        Ok(OneFile { frame, condition })
    }

    /// How many rows of a file are meant.
    async fn meant(&self, planned: &Planned, condition: Option<&str>) -> Result<u64, TableError> {
        let one = self.one(planned.clone(), condition)?;
        let count = async {
            let frame = match one.condition {
                Some(condition) => one.frame.filter(condition)?,
                None => one.frame,
            };
            let counted = frame.aggregate(vec![], vec![count_all().alias("rows")])?.collect().await?;
            let rows = counted.first().map(|batch| datafusion::common::ScalarValue::try_from_array(batch.column(0), 0));
            match rows.transpose()? {
                Some(datafusion::common::ScalarValue::Int64(Some(rows))) => Ok(u64::try_from(rows).unwrap_or_default()),
                _ => Ok(0),
            }
        };
        count.await.map_err(|error| self.failed(error))
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
    let editor = Editor::new(table, found, session);
    let mut files = Files::new(table.place(), found)?;
    let mut edited = Edited::default();
    for planned in table.planned(found).await? {
        let meant = editor.meant(&planned, condition).await?;
        if meant == 0 {
            continue;
        }
        edited.rows += meant;
        edited.removed.insert(planned.file.name.clone());
        let one = editor.one(planned, condition)?;
        if let Some(condition) = one.condition {
            let kept = one.frame.filter(condition.is_not_true()).map_err(|error| editor.failed(error))?;
            editor.write(kept, &mut files).await?;
        }
    }
    edited.added = files.finish().await?;
    Ok(edited)
}

/// Sets columns in the rows for which the condition holds; in all without one.
pub(crate) async fn update(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    assignments: &[(String, String)],
    condition: Option<&str>,
) -> Result<Edited, TableError> {
    let editor = Editor::new(table, found, session);
    let mut files = Files::new(table.place(), found)?;
    let mut edited = Edited::default();
    for planned in table.planned(found).await? {
        let meant = editor.meant(&planned, condition).await?;
        if meant == 0 {
            continue;
        }
        edited.rows += meant;
        edited.removed.insert(planned.file.name.clone());
        let one = editor.one(planned, condition)?;
        let schema = one.frame.schema().clone();
        let column = |field: &arrow::datatypes::FieldRef| -> Result<Expr, DataFusionError> {
            let own = ident(field.name());
            let Some((_, value)) = assignments.iter().find(|(name, _)| name == field.name()) else { return Ok(own) };
            let value = session.create_logical_expr(value, &schema)?.cast_to(field.data_type(), &schema)?;
            let value = match &one.condition {
                Some(condition) => when(condition.clone().is_true(), value).otherwise(own)?,
                None => value,
            };
            Ok(value.alias(field.name()))
        };
        let set = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>();
        let set = set.and_then(|set| one.frame.select(set)).map_err(|error| editor.failed(error))?;
        editor.write(set, &mut files).await?;
    }
    edited.added = files.finish().await?;
    Ok(edited)
}

/// Does what a merge says: files with rows that are changed or deleted are written anew without these, and what is changed or new
/// is written behind them.
pub(crate) async fn merge(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    merge: &MergeVerb,
) -> Result<(Edited, [u64; 3]), MergeFailed> {
    let editor = Editor::new(table, found, session);
    let planned = table.planned(found).await?;
    let schema = columns(found.metadata.table.current_schema());
    let fields = found.metadata.table.current_schema().as_struct().fields().to_vec();
    let reading = editor.reading.clone();
    let rows = Snapshot { reading, fields: fields.clone(), schema: schema.clone(), files: planned.clone() };
    let target = TableReference::bare(&*merge.target_alias);
    let scan = LogicalPlanBuilder::scan(target, provider_as_source(Arc::new(rows.with_places())), None);
    let scan = scan.and_then(LogicalPlanBuilder::build).map_err(|error| editor.failed(error))?;
    let work = plan_merge(session, scan, &[FILE_COLUMN, ROW_COLUMN], &schema, merge);
    let MergePlan { plan, deeds, may_match_twice } = work.map_err(|error| match error {
        MergeError::Plan(error) => MergeFailed::Table(editor.failed(error)),
        MergeError::Refused(reason) => MergeFailed::Refused(reason),
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
                return Err(MergeFailed::Refused(SEVERAL_MATCH.into()));
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

/// Why a merge was not done.
pub(crate) enum MergeFailed {
    Table(TableError),
    Refused(String),
}

impl From<TableError> for MergeFailed {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
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
    let reading = Reading::new(table.place(), found);
    let fields = found.metadata.table.current_schema().as_struct().fields().to_vec();
    let mut files = Files::new(table.place(), found)?;
    let mut edited = Edited::default();
    for planned in crumbs {
        edited.removed.insert(planned.file.name.clone());
        let mut rows = reading.rows(&planned, &fields).await?;
        while let Some(batch) = rows.try_next().await? {
            files.write(&batch).await?;
        }
    }
    edited.added = files.finish().await?;
    Ok(edited)
}
