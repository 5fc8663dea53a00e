//! Rows that change: taken out of the files that hold them, and written behind.

use crate::IcebergTable;
use crate::files::Planned;
use crate::place::{Found, Place};
use crate::reading::{FILE_COLUMN, ROW_COLUMN, Reading};
use crate::removal::{Deletes, Removal};
use crate::scan::Snapshot;
use crate::types::columns;
use crate::writing::Files;
use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use datafusion::common::{DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlanBuilder};
use datafusion::prelude::{DataFrame, ident};
use futures::TryStreamExt as _;
use iceberg::spec::DataFile;
use rivermere_table::merging::{Deed, MergeError, MergePlan, SEVERAL_MATCH, clauses, plan_merge};
use rivermere_table::{MergeVerb, TableError};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Files below this are put together with others.
pub(crate) const SMALL_BYTES: u64 = 4 * 1024 * 1024;
const CHANGING: &str = "changing rows";

/// What takes the place of what.
#[derive(Clone, Default)]
pub(crate) struct Edited {
    pub(crate) added: Vec<DataFile>,
    pub(crate) removed: HashSet<String>,
    pub(crate) deletes: Deletes,
    /// Rows that the statement was about.
    pub(crate) rows: u64,
}

impl Edited {
    /// Takes a file away, and the deletes that are about it alone.
    pub(crate) fn remove(&mut self, planned: &Planned) {
        self.removed.insert(planned.file.name.clone());
        self.deletes.remove_of(planned);
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.deletes.is_empty()
    }
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

    /// Takes out the rows for which the condition holds, all without one, and puts in what `changed` makes of them, if anything.
    async fn replace(
        &self,
        mode: &str,
        condition: Option<&str>,
        changed: impl Fn(&DFSchema) -> Result<Vec<Expr>, DataFusionError>,
    ) -> Result<Edited, TableError> {
        let mut files = Files::new(self.table.place(), self.found)?;
        let mut edited = Edited::default();
        let removal = Removal::new(self.table.place(), self.found, &self.reading, mode);
        for planned in self.table.planned(self.found).await? {
            let work = async {
                let rows = Arc::new(self.over(vec![planned.clone()]).with_places());
                let plan = LogicalPlanBuilder::scan("target", provider_as_source(rows), None)?.build()?;
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
                edited.rows += mark(&mut marks, &batch);
                if batch.num_columns() > 2 {
                    let values: Vec<usize> = (2..batch.num_columns()).collect();
                    files.write(&batch.project(&values).map_err(|error| self.failed(error.into()))?).await?;
                }
            }
            let gone = marks.into_values().map(|gone| (&planned, gone));
            removal.take(gone, &mut files, &mut edited).await?;
        }
        edited.added = files.finish().await?;
        Ok(edited)
    }
}

/// Takes out the rows for which the condition holds; all without one.
pub(crate) async fn delete(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    condition: Option<&str>,
) -> Result<Edited, TableError> {
    let editor = Editor { verb: "DELETE", ..Editor::new(table, found, session) };
    editor.replace("delete", condition, |_| Ok(vec![])).await
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
    let columns = columns(found.metadata.table.current_schema());
    let set = |schema: &DFSchema| {
        let column = |field: &arrow::datatypes::FieldRef| -> Result<Expr, DataFusionError> {
            let Some((_, value)) = assignments.iter().find(|(name, _)| name == field.name()) else {
                return Ok(ident(field.name()));
            };
            let value = session.create_logical_expr(value, schema)?.cast_to(field.data_type(), schema)?;
            Ok(value.alias(field.name()))
        };
        columns.fields().iter().map(column).collect()
    };
    editor.replace("update", condition, set).await
}

/// Does what a merge says: rows that are changed or deleted are taken out of their files, and what is changed or new is written.
pub(crate) async fn merge(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    merge: &MergeVerb,
) -> Result<(Edited, [u64; 3]), TableError> {
    let editor = Editor::new(table, found, session);
    let planned = table.planned(found).await?;
    let rows = editor.over(planned.clone());
    let schema = rows.schema.clone();
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
    let gone = marks.into_iter().filter_map(|(number, gone)| Some((planned.get(usize::try_from(number).ok()?)?, gone)));
    let removal = Removal::new(table.place(), found, &editor.reading, "merge");
    removal.take(gone, &mut files, &mut edited).await?;
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
        edited.remove(planned);
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
