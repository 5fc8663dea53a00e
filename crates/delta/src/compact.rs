//! OPTIMIZE: small files of a partition are put together, and rows that are marked are left out for good.
//!
//! Rows stay the same, so that others who add or change rows meanwhile are no conflict as long as the files that are
//! replaced are still there, with the same deletion vectors: the commit is tried again over what these left. That is
//! looked at here, by names: were they replaced by another compaction, rows would be there twice.

use crate::active::ActiveFiles;
use crate::edits::EditError;
use crate::files::Files;
use crate::handle::{Handle, is_conflict};
use crate::rows::PlacedRows;
use crate::schema::with_schema;
use crate::vectors;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, LogicalFileView};
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::table::state::DeltaTableState;
use futures::StreamExt as _;
use rivermere_table::TableError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;

/// A file counts as small below this part of the target size: one that was closed at about that is left alone.
const SMALL: (u64, u64) = (3, 4);
/// Of a file with more rows gone than one in this many, those are left out for good.
const MARKED_SHARE: u64 = 20;
/// Attempts to commit what was written, while others commit.
const ATTEMPTS: usize = 16;

pub(crate) struct Compacted {
    /// The version that holds it; none when there was nothing to do.
    pub(crate) state: Option<DeltaTableState>,
    pub(crate) files_added: u64,
    pub(crate) files_removed: u64,
}

/// Puts files of `state` together into files of about `target` bytes, those in `only` if it is given.
pub(crate) async fn compact(
    handle: &Handle,
    state: &DeltaTableState,
    only: Option<&BTreeSet<u32>>,
    target: NonZeroU64,
    predicate: Option<String>,
    properties: impl Fn(u64, u64) -> CommitProperties,
) -> Result<Compacted, EditError> {
    let active = Arc::new(ActiveFiles::of(handle, state)?);
    let groups = groups(&active, target.get(), only);
    let (mut actions, mut replaced) = (vec![], vec![]);
    let mut files_added = 0;
    for group in groups {
        let added = rewrite(handle, state, &active, group.clone(), target).await?;
        files_added += added.len() as u64;
        for file in group.iter().filter_map(|number| active.get(*number)) {
            actions.push(Action::Remove(handle.remove(file, false)?));
            replaced.push((file.path().into_owned(), vectors::identity(file)));
        }
        actions.extend(added.into_iter().map(Action::Add));
    }
    let files_removed = replaced.len() as u64;
    if actions.is_empty() {
        return Ok(Compacted { state: None, files_added, files_removed });
    }
    let operation =
        DeltaOperation::Optimize { predicate, target_size: i64::try_from(target.get()).unwrap_or(i64::MAX) };
    let mut over = state.clone();
    for _ in 0..ATTEMPTS {
        let committed = CommitBuilder::from(properties(files_added, files_removed).with_max_retries(0))
            .with_actions(actions.clone())
            .build(Some(&over), handle.log_store.clone(), operation.clone())
            .await;
        let error = match committed {
            Ok(committed) => {
                let state = Some(committed.snapshot());
                return Ok(Compacted { state, files_added, files_removed });
            }
            Err(error) => error,
        };
        if !is_conflict(&error) {
            return Err(EditError::Library(error));
        }
        handle.refresh(&mut over).await?;
        if !still_there(&over, &replaced) || over.metadata() != state.metadata() {
            break;
        }
    }
    Err(EditError::Table(TableError::Conflict { location: handle.location.to_string(), attempts: 1 }))
}

/// Files to be put together, by partition.
fn groups(active: &ActiveFiles, target: u64, only: Option<&BTreeSet<u32>>) -> Vec<Vec<u32>> {
    let mut groups = BTreeMap::<Vec<(String, Option<String>)>, (Vec<u32>, bool)>::new();
    for (number, file) in active.iter().filter(|(number, _)| only.is_none_or(|only| only.contains(number))) {
        let gone = vectors::cardinality(file);
        let marked = gone > 0 && file.num_records().is_none_or(|rows| gone * MARKED_SHARE >= rows as u64);
        let size = u64::try_from(file.size()).unwrap_or_default();
        if marked || u128::from(size) * u128::from(SMALL.1) < u128::from(target) * u128::from(SMALL.0) {
            let mut partition: Vec<_> = file.partition_values_map().into_iter().collect();
            partition.sort_unstable();
            let group = groups.entry(partition).or_default();
            group.0.push(number);
            group.1 |= marked;
        }
    }
    groups.into_values().filter(|(files, marked)| files.len() > 1 || *marked).map(|(files, _)| files).collect()
}

async fn rewrite(
    handle: &Handle,
    state: &DeltaTableState,
    active: &Arc<ActiveFiles>,
    group: Vec<u32>,
    target: NonZeroU64,
) -> Result<Vec<deltalake_core::kernel::Add>, EditError> {
    let schema = state.snapshot().arrow_schema();
    let mut files = Files::new(handle, state, &schema, target)?;
    match copy(handle, state, active, group, &schema, &mut files).await {
        Ok(()) => {
            let added = files.close().await?;
            Ok(added.into_iter().map(|add| deltalake_core::kernel::Add { data_change: false, ..add }).collect())
        }
        Err(error) => {
            files.abort().await;
            Err(error)
        }
    }
}

async fn copy(
    handle: &Handle,
    state: &DeltaTableState,
    active: &Arc<ActiveFiles>,
    group: Vec<u32>,
    schema: &SchemaRef,
    files: &mut Files<'_>,
) -> Result<(), EditError> {
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let rows = PlacedRows::new(handle, state, active.clone(), group, &columns).await?;
    let mut stream = rows.stream()?;
    while let Some(batch) = stream.next().await {
        let batch = with_schema(&batch?, schema).map_err(DataFusionError::from)?;
        files.write(&batch).await?;
    }
    rows.seen()?;
    Ok(())
}

/// Whether a version names all of these files, with these deletion vectors.
fn still_there(state: &DeltaTableState, files: &[(String, Option<vectors::Identity>)]) -> bool {
    let log = state.log_data();
    let one = |file: LogicalFileView| (file.path().into_owned(), vectors::identity(&file));
    let active: HashMap<_, _> = log.iter().map(one).collect();
    files.iter().all(|(path, vector)| active.get(path) == Some(vector))
}
