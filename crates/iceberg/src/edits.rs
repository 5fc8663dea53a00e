//! Rows that change: taken out of the files that hold them, and written behind.

use crate::IcebergTable;
use crate::files::Planned;
use crate::place::Found;
use crate::reading::Reading;
use crate::removal::{Deletes, Removal};
use crate::scan::{Bounds, DataFiles};
use crate::types::columns;
use crate::writing::Files;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt as _;
use iceberg::spec::DataFile;
use rivermere_table::{Editing, Filter, MergeVerb, TableError, Target};
use roaring::RoaringTreemap;
use std::collections::HashSet;
use std::sync::Arc;

/// Files below this are put together with others.
pub(crate) const SMALL_BYTES: u64 = 4 * 1024 * 1024;

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

/// Where the rows of a statement go.
struct Writing<'a> {
    files: Files<'a>,
    removal: Removal<'a>,
    /// Rows that go, by their places in files.
    taken: Vec<(Planned, RoaringTreemap)>,
}

#[async_trait]
impl Target<Planned> for Writing<'_> {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), TableError> {
        self.files.write(rows).await
    }

    async fn take(&mut self, planned: &Planned, gone: RoaringTreemap) -> Result<(), TableError> {
        self.taken.push((planned.clone(), gone));
        Ok(())
    }
}

impl Writing<'_> {
    /// What became of it; `rows` is how many the statement was about.
    async fn done(mut self, rows: u64) -> Result<Edited, TableError> {
        let mut edited = Edited { rows, ..Edited::default() };
        self.removal.take(self.taken, &mut self.files, &mut edited).await?;
        edited.added = self.files.finish().await?;
        Ok(edited)
    }
}

/// A statement over the newest snapshot. `mode` is what the table's property `write.<mode>.mode` is asked for.
async fn statement<'a>(
    table: &'a IcebergTable,
    found: &'a Arc<Found>,
    session: &'a SessionState,
    verb: &'static str,
    mode: &str,
) -> Result<(Editing<'a, DataFiles>, Writing<'a>), TableError> {
    let reading = Reading::new(table.place(), found);
    let files = Files::new(table.place(), found)?;
    let removal = Removal::new(table.place(), found, &reading, mode);
    let schema = found.metadata.table.current_schema();
    let fields = schema.as_struct().fields().to_vec();
    let editing = Editing {
        verb,
        location: table.place().location.to_string(),
        session,
        reader: Arc::new(DataFiles { reading, fields }),
        schema: columns(schema),
        pieces: table.planned(found).await?,
    };
    Ok((editing, Writing { files, removal, taken: vec![] }))
}

/// Adds the rows of a plan.
pub(crate) async fn append(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    verb: &'static str,
    rows: &LogicalPlan,
) -> Result<Edited, TableError> {
    let (editing, mut target) = statement(table, found, session, verb, "merge").await?;
    editing.append(&mut target, rows).await?;
    let rows = target.files.rows;
    target.done(rows).await
}

/// Takes out the rows for which the condition holds; all without one.
pub(crate) async fn delete(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    condition: Option<&str>,
) -> Result<Edited, TableError> {
    let (editing, mut target) = statement(table, found, session, "DELETE", "delete").await?;
    let rows = editing.delete(&mut target, condition).await?;
    target.done(rows).await
}

/// Sets columns in the rows for which the condition holds; in all without one.
pub(crate) async fn update(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    assignments: &[(String, String)],
    condition: Option<&str>,
) -> Result<Edited, TableError> {
    let (editing, mut target) = statement(table, found, session, "UPDATE", "update").await?;
    let rows = editing.update(&mut target, assignments, condition).await?;
    target.done(rows).await
}

/// Does what a merge says; also how many rows were deleted, updated and inserted.
pub(crate) async fn merge(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    merge: &MergeVerb,
) -> Result<(Edited, [u64; 3]), TableError> {
    let (editing, mut target) = statement(table, found, session, "MERGE", "merge").await?;
    let done = editing.merge(&mut target, merge).await?;
    Ok((target.done(done.iter().sum()).await?, done))
}

/// Puts small files together, and files without the rows that deletes are about; with a condition, of the files that may hold rows for
/// which it is true. Rows stay the same.
pub(crate) async fn compact(
    table: &IcebergTable,
    found: &Arc<Found>,
    session: &SessionState,
    condition: Option<&str>,
) -> Result<Edited, TableError> {
    let mut planned = table.planned(found).await?;
    if let Some(condition) = condition {
        let refused = |error: DataFusionError| table.refused("OPTIMIZE", error.strip_backtrace());
        let kept = may_hold(found, session, condition, &planned).map_err(refused)?;
        planned = planned.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(planned, _)| planned).collect();
    }
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

/// Which files may hold rows for which a condition is true, by their bounds.
fn may_hold(
    found: &Arc<Found>,
    session: &SessionState,
    condition: &str,
    planned: &[Planned],
) -> Result<Vec<bool>, DataFusionError> {
    let schema = found.metadata.table.current_schema();
    let columns = columns(schema);
    let condition = session.create_logical_expr(condition, &DFSchema::try_from(columns.as_ref().clone())?)?;
    let Some(filter) = Filter::new(session, &columns, &[condition])? else { return Ok(vec![true; planned.len()]) };
    filter.kept(&Bounds { fields: schema.as_struct().fields(), files: planned })
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
