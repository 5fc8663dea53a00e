//! Statements as Delta commits.
//!
//! The library does the work, but for rows that are marked ([`edits`]), compaction ([`compact`]) and columns that are changed
//! ([`alter`]); ours are the words, the check of what it would do wrongly, and the figures.

use crate::active::ActiveFiles;
use crate::alter;
use crate::clean::clean;
use crate::compact;
use crate::edits::{self, Edit, EditError};
use crate::handle::{Handle, is_conflict, is_same_in_a_log};
use crate::mapping::{self, Change};
use crate::ownership::OWNER;
use crate::schema::{delta_columns, table_schema};
use crate::vectors;
use crate::{DeltaTable, Location};
use async_trait::async_trait;
use datafusion::common::{Column, DFSchema};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::DataFrame;
use deltalake_core::DeltaTableError;
use deltalake_core::delta_datafusion::planner::DeltaPlanner;
use deltalake_core::kernel::LogicalFileView;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::operations::optimize::OptimizeType;
use deltalake_core::operations::write::SchemaMode;
use deltalake_core::protocol::SaveMode;
use deltalake_core::table::config::TablePropertiesExt as _;
use deltalake_core::table::state::DeltaTableState;
use rivermere_table::{
    Done, EditableTable, MergeClause, MergeVerb, PartitionField, TableError, TableSpec, Transform, Verb,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// Where a commit names its statement.
const STATEMENT: &str = "rivermere.statement";
/// Attempts of the library to commit what it has written, where other writers touched other rows.
const COMMIT_ATTEMPTS: usize = 15;

impl DeltaTable {
    /// Makes a table without rows.
    ///
    /// # Errors
    /// When there is one, or its columns cannot be those of a Delta table.
    pub async fn create(location: Location, spec: &TableSpec) -> Result<Self, TableError> {
        let handle = Handle::new(location.clone())?;
        let columns = table_schema(&spec.schema)?;
        let mut partition_columns = vec![];
        for PartitionField { column, transform } in &spec.partitioned_by {
            if columns.index_of(column).is_err() {
                return Err(TableError::InvalidSpec {
                    reason: format!("there is no column '{column}' to partition by"),
                });
            }
            if *transform != Transform::Identity {
                let reason = format!(
                    "Delta tables are partitioned by columns, not by what is made of '{column}': add a column for it, or use \
                     Iceberg"
                );
                return Err(TableError::InvalidSpec { reason });
            }
            partition_columns.push(column.clone());
        }
        let created = CreateBuilder::new()
            .with_log_store(handle.log_store.clone())
            .with_columns(delta_columns(&columns)?)
            .with_partition_columns(partition_columns)
            .with_configuration(spec.properties.iter().map(|(name, value)| (name.clone(), Some(value.clone()))))
            .with_save_mode(SaveMode::ErrorIfExists)
            .await;
        match created {
            Ok(_) => Self::open(location).await,
            Err(error) => Err(verb_error(&handle, "CREATE EXTERNAL TABLE", error)),
        }
    }
}

#[async_trait]
impl EditableTable for DeltaTable {
    async fn owner(&self) -> Result<Option<String>, TableError> {
        let state = self.newest().await?;
        Ok(state.metadata().configuration().get(OWNER).cloned())
    }

    async fn apply(&self, session: &SessionState, base: i64, statement: &str, verb: Verb) -> Result<Done, TableError> {
        // Nodes of the library's plans are made real by its own planner.
        let builder = SessionStateBuilder::new_from_existing(session.clone());
        let session = Arc::new(builder.with_query_planner(DeltaPlanner::new()).build());
        let name = verb.name();
        let mut table = deltalake_core::DeltaTable::new(self.handle().log_store.clone());
        let version = u64::try_from(base).unwrap_or_default();
        table.load_version(version).await.map_err(|error| self.handle().error("reading the log", error))?;
        let rules = rules(&table);
        let run = Run { table, session, commit: commit(statement) };
        let done = run.run(self.handle(), statement, verb).await.map_err(|error| match error {
            Failed::Told(error) => error,
            Failed::Library(error) => match verb_error(self.handle(), name, error) {
                TableError::Verb { location, verb, reason } if reason.contains(BROKEN) => {
                    let reason = reason.split_once(INVALID).map_or(reason.as_str(), |(_, reason)| reason);
                    TableError::Verb { location, verb, reason: format!("{}\n{rules}", reason.trim_end()) }
                }
                error => error,
            },
            Failed::Ours(reason) => {
                TableError::Verb { location: self.handle().location.to_string(), verb: name, reason }
            }
        });
        let (table, done) = match done {
            Err(conflict @ TableError::Conflict { .. }) => {
                // The other writer may have been this very commit, whose answer was lost.
                return match self.committed(version, statement).await? {
                    Some(version) => Ok(Done { version, ..Done::default() }),
                    None => Err(conflict),
                };
            }
            done => done?,
        };
        let version = i64::try_from(table.version().unwrap_or_default()).unwrap_or(i64::MAX);
        Ok(Done { version, ..done })
    }
}

impl DeltaTable {
    /// The version after `base` that holds the commit of a statement.
    async fn committed(&self, base: u64, statement: &str) -> Result<Option<i64>, TableError> {
        let newest = self.newest().await?.version();
        for version in base + 1..=newest {
            let entry = self.handle().log_store.read_commit_entry(version).await;
            let entry = entry.map_err(|error| self.handle().error("reading the log", error))?;
            if entry.is_some_and(|entry| String::from_utf8_lossy(&entry).contains(statement)) {
                return Ok(i64::try_from(version).ok());
            }
        }
        Ok(None)
    }
}

/// What the library says of rows that break a rule, without saying which.
const BROKEN: &str = "failed validation check";
const INVALID: &str = "Invalid data found: ";

/// The constraints of a table in words.
fn rules(table: &deltalake_core::DeltaTable) -> String {
    let Ok(snapshot) = table.snapshot() else { return String::new() };
    let configuration = snapshot.metadata().configuration();
    let rule =
        |(key, check): (&String, &String)| Some(format!("{} CHECK ({check})", key.strip_prefix("delta.constraints.")?));
    let rules: Vec<String> = configuration.iter().filter_map(rule).collect();
    format!("its constraints are: {}", rules.join(", "))
}

enum Failed {
    Library(DeltaTableError),
    Ours(String),
    Told(TableError),
}

impl From<EditError> for Failed {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Table(error) => Self::Told(error),
            EditError::Plan(error) => Self::Library(error.into()),
            EditError::Library(error) => Self::Library(error),
            EditError::Refused(reason) => Self::Ours(reason),
        }
    }
}

impl From<DeltaTableError> for Failed {
    fn from(error: DeltaTableError) -> Self {
        Self::Library(error)
    }
}

type Outcome = Result<(deltalake_core::DeltaTable, Done), Failed>;

struct Run {
    table: deltalake_core::DeltaTable,
    session: Arc<SessionState>,
    commit: CommitProperties,
}

impl Run {
    /// What is ours to do is done here, all else by the library.
    async fn run(mut self, handle: &Handle, statement: &str, verb: Verb) -> Outcome {
        let state = self.table.snapshot()?.clone();
        stands(handle, &state, &verb).await?;
        let done = match &verb {
            Verb::Clean(what) => {
                let cleaned = clean(handle, &state, what, || commit(statement)).await?;
                let figures = vec![("files_removed", cleaned.files_removed)];
                Some((Some(cleaned.state), Done { figures, ..Done::default() }))
            }
            Verb::Delete { .. } | Verb::Update { .. } | Verb::Merge(_) => {
                match edits::edit(handle, &state, &self.session, &verb).await? {
                    Some(edit) => Some(marked(handle, &state, statement, &verb, edit).await?),
                    None => None,
                }
            }
            Verb::Compact { z_order, condition } if z_order.is_empty() => {
                Some(compacted(handle, &state, &self.session, statement, condition.as_deref()).await?)
            }
            Verb::Compact { condition: Some(_), .. } => {
                return Err(Failed::Ours("ZORDER BY sorts the whole table, so it goes without WHERE".into()));
            }
            Verb::RenameColumn { from, to } => {
                let change = Change::Rename { from, to };
                let state = alter::change(handle, &state, &self.session, change, commit(statement)).await?;
                Some((Some(state), Done::default()))
            }
            Verb::DropColumn(name) => {
                let change = Change::Drop(name);
                let state = alter::change(handle, &state, &self.session, change, commit(statement)).await?;
                Some((Some(state), Done::default()))
            }
            Verb::AddColumns(columns) if mapping::is_mapped(&state) => {
                let fields = delta_columns(columns).map_err(|error| Failed::Ours(error.to_string()))?;
                let change = Change::Add(fields);
                let state = alter::change(handle, &state, &self.session, change, commit(statement)).await?;
                Some((Some(state), Done::default()))
            }
            Verb::WidenColumn { column, to } => {
                let rows = alter::widened(handle, &state, column, to).await?;
                let write = self.table.write([]).with_input_plan(rows).with_save_mode(SaveMode::Overwrite);
                let write = write.with_schema_mode(SchemaMode::Overwrite).with_session_state(self.session);
                // Rows that others have added since would be lost on the way.
                let commit = self.commit.with_max_retries(0);
                return Ok((write.with_commit_properties(commit).await?, Done::default()));
            }
            _ => None,
        };
        match done {
            None => self.verb(verb).await,
            Some((newest, done)) => {
                self.table.state = Some(newest.unwrap_or(state));
                Ok((self.table, done))
            }
        }
    }

    async fn verb(self, verb: Verb) -> Outcome {
        match verb {
            Verb::Append(rows) => self.write(rows, SaveMode::Append).await,
            Verb::Overwrite(rows) => self.write(rows, SaveMode::Overwrite).await,
            Verb::Delete { condition } => {
                let mut delete =
                    self.table.delete().with_session_state(self.session).with_commit_properties(self.commit);
                if let Some(condition) = condition {
                    delete = delete.with_predicate(condition);
                }
                let (table, metrics) = delete.await?;
                let figures = files(metrics.num_added_files, metrics.num_removed_files);
                Ok((table, Done { rows: metrics.num_deleted_rows.map(|rows| rows as u64), figures, version: 0 }))
            }
            Verb::Update { assignments, condition } => {
                let mut update =
                    self.table.update().with_session_state(self.session).with_commit_properties(self.commit);
                for (column, value) in assignments {
                    update = update.with_update(Column::from_name(column), value);
                }
                if let Some(condition) = condition {
                    update = update.with_predicate(condition);
                }
                let (table, metrics) = update.await?;
                let figures = files(metrics.num_added_files, metrics.num_removed_files);
                Ok((table, Done { rows: Some(metrics.num_updated_rows as u64), figures, version: 0 }))
            }
            Verb::Merge(merge) => self.merge(*merge).await,
            Verb::AddColumns(columns) => {
                let fields = delta_columns(&columns).map_err(|error| Failed::Ours(error.to_string()))?;
                let table = self.table.add_columns().with_fields(fields).with_commit_properties(self.commit).await?;
                Ok((table, Done::default()))
            }
            Verb::RenameColumn { .. } | Verb::DropColumn(_) | Verb::WidenColumn { .. } | Verb::Clean(_) => {
                Err(Failed::Ours("this is not the library's".into()))
            }
            Verb::DropNotNull(column) => {
                let altered = self.table.drop_column_not_null().with_column(column).with_commit_properties(self.commit);
                Ok((altered.await?, Done::default()))
            }
            Verb::AddConstraint { name, check } => {
                let altered = self.table.add_constraint().with_constraint(name, check);
                let altered = altered.with_session_state(self.session).with_commit_properties(self.commit);
                Ok((altered.await?, Done::default()))
            }
            Verb::DropConstraint { name, if_exists } => {
                let altered = self.table.drop_constraints().with_constraint(name).with_raise_if_not_exists(!if_exists);
                Ok((altered.with_commit_properties(self.commit).await?, Done::default()))
            }
            Verb::SetProperties(properties) => {
                let properties: HashMap<String, String> = properties.into_iter().collect();
                let altered = self.table.set_tbl_properties().with_properties(properties);
                Ok((altered.with_commit_properties(self.commit).await?, Done::default()))
            }
            Verb::Compact { z_order, .. } => {
                let optimize = self.table.optimize().with_type(OptimizeType::ZOrder(z_order));
                let optimize = optimize.with_commit_properties(self.commit);
                let (table, metrics) = optimize.await?;
                let figures = files(metrics.num_files_added as usize, metrics.num_files_removed as usize);
                Ok((table, Done { figures, ..Done::default() }))
            }
            Verb::Restore { version } => {
                let version = u64::try_from(version).map_err(|_| Failed::Ours("versions count from 0".into()))?;
                let restore = self.table.restore().with_version_to_restore(version).with_commit_properties(self.commit);
                let (table, metrics) = restore.await?;
                let figures = vec![
                    ("files_removed", metrics.num_removed_file as u64),
                    ("files_restored", metrics.num_restored_file as u64),
                ];
                Ok((table, Done { figures, ..Done::default() }))
            }
        }
    }

    async fn write(self, rows: LogicalPlan, mode: SaveMode) -> Outcome {
        let log_store = self.table.log_store();
        // Rows that another writer has added since are no conflict to the library, and would outlive an overwrite.
        let overwrites = mode == SaveMode::Overwrite;
        let commit = if overwrites { self.commit.with_max_retries(0) } else { self.commit };
        let write = self.table.write([]).with_input_plan(rows).with_save_mode(mode);
        let table = write.with_session_state(self.session).with_commit_properties(commit).await?;
        // The library counts, but tells the log alone.
        let entry = match table.version() {
            Some(version) => log_store.read_commit_entry(version).await?,
            None => None,
        };
        let rows = entry.and_then(|entry| rows_written(&entry));
        Ok((table, Done { rows, ..Done::default() }))
    }

    async fn merge(self, merge: MergeVerb) -> Outcome {
        let source = DataFrame::new(self.session.as_ref().clone(), merge.source);
        let mut builder = self
            .table
            .merge(source, merge.on)
            .with_target_alias(merge.target_alias)
            .with_source_alias(merge.source_alias)
            // The source may be a topic or a view, which has other rows when it is read a second time.
            .with_streaming(true)
            .with_session_state(self.session)
            .with_commit_properties(self.commit);
        for clause in merge.clauses {
            builder = match clause {
                MergeClause::UpdateMatched { condition, assignments } => {
                    builder.when_matched_update(|mut update| {
                        for (column, value) in assignments {
                            update = update.update(Column::from_name(column), value);
                        }
                        condition.into_iter().fold(update, |update, condition| update.predicate(condition))
                    })?
                }
                MergeClause::DeleteMatched { condition } => builder.when_matched_delete(|delete| {
                    condition.into_iter().fold(delete, |delete, condition| delete.predicate(condition))
                })?,
                MergeClause::Insert { condition, values } => builder.when_not_matched_insert(|mut insert| {
                    for (column, value) in values {
                        insert = insert.set(Column::from_name(column), value);
                    }
                    condition.into_iter().fold(insert, |insert, condition| insert.predicate(condition))
                })?,
                MergeClause::UpdateUnmatched { condition, assignments } => {
                    builder.when_not_matched_by_source_update(|mut update| {
                        for (column, value) in assignments {
                            update = update.update(Column::from_name(column), value);
                        }
                        condition.into_iter().fold(update, |update, condition| update.predicate(condition))
                    })?
                }
                MergeClause::DeleteUnmatched { condition } => builder.when_not_matched_by_source_delete(|delete| {
                    condition.into_iter().fold(delete, |delete, condition| delete.predicate(condition))
                })?,
            };
        }
        let (table, metrics) = builder.await?;
        let counts = [
            ("rows_inserted", metrics.num_target_rows_inserted as u64),
            ("rows_updated", metrics.num_target_rows_updated as u64),
            ("rows_deleted", metrics.num_target_rows_deleted as u64),
        ];
        let rows = Some(counts.iter().map(|(_, count)| count).sum());
        let mut figures = counts.to_vec();
        figures.extend(files(metrics.num_target_files_added, metrics.num_target_files_removed));
        Ok((table, Done { rows, figures, version: 0 }))
    }
}

/// Refuses what the library would do wrongly.
async fn stands(handle: &Handle, state: &DeltaTableState, verb: &Verb) -> Result<(), Failed> {
    match verb {
        Verb::Delete { .. }
        | Verb::Update { .. }
        | Verb::Merge(_)
        | Verb::Overwrite(_)
        | Verb::Compact { .. }
        | Verb::WidenColumn { .. }
        | Verb::Restore { .. } => {
            for file in state.log_data().iter().filter(|file| !is_same_in_a_log(&file.path())) {
                handle.remove(&file, true).map_err(Failed::Told)?;
            }
        }
        Verb::SetProperties(_) if mapping::is_mapped_by_version(state) => {
            let reason = "its column mapping is that of an old protocol, which a property can undo: let the engine that \
                          made it set the property";
            return Err(Failed::Ours(reason.into()));
        }
        _ => {}
    }
    if let Verb::Restore { version } = verb
        && let Ok(version) = u64::try_from(*version)
        && version < state.version()
    {
        // Data files are looked for by the library, deletion vectors are not.
        let then = handle.load(Some(version)).await.map_err(Failed::Told)?;
        let active = ActiveFiles::of(handle, &then).map_err(Failed::Told)?;
        let marked = |(number, file): (u32, &LogicalFileView)| (vectors::cardinality(file) > 0).then_some(number);
        let marked: Vec<u32> = active.iter().filter_map(marked).collect();
        vectors::gone(handle, &then, &active, &marked).await.map_err(Failed::Told)?;
    }
    Ok(())
}

/// Commits rows that are marked. The state afterwards, none when there was nothing to do.
async fn marked(
    handle: &Handle,
    state: &DeltaTableState,
    statement: &str,
    verb: &Verb,
    edit: Edit,
) -> Result<(Option<DeltaTableState>, Done), Failed> {
    let mut figures = match verb {
        Verb::Merge(_) => {
            vec![("rows_inserted", edit.inserted), ("rows_updated", edit.updated), ("rows_deleted", edit.deleted)]
        }
        _ => vec![],
    };
    figures.extend(files(edit.files_added as usize, edit.files_removed as usize));
    figures.push(("files_marked", edit.files_marked));
    let done = Done { rows: Some(edit.inserted + edit.updated + edit.deleted), figures, version: 0 };
    if edit.actions.is_empty() {
        return Ok((None, done));
    }
    let told = json!({
        "numDeletedRows": edit.deleted.to_string(),
        "numUpdatedRows": edit.updated.to_string(),
        "numInsertedRows": edit.inserted.to_string(),
        "numAddedFiles": edit.files_added.to_string(),
        "numRemovedFiles": edit.files_removed.to_string(),
        "numDeletionVectorsAdded": edit.files_marked.to_string(),
    });
    let committed = CommitBuilder::from(commit_with(statement, told))
        .with_actions(edit.actions)
        .build(Some(state), handle.log_store.clone(), edit.operation)
        .await?;
    Ok((Some(committed.snapshot()), done))
}

async fn compacted(
    handle: &Handle,
    state: &DeltaTableState,
    session: &SessionState,
    statement: &str,
    condition: Option<&str>,
) -> Result<(Option<DeltaTableState>, Done), Failed> {
    let only = match condition {
        None => None,
        Some(condition) => {
            let schema =
                DFSchema::try_from(state.snapshot().arrow_schema().as_ref().clone()).map_err(EditError::Plan)?;
            let parsed = session.create_logical_expr(condition, &schema).map_err(EditError::Plan)?;
            let partitions = state.metadata().partition_columns();
            if let Some(other) = parsed.column_refs().iter().find(|column| !partitions.contains(&column.name)) {
                let reason =
                    format!("the table is not partitioned by '{}', and whole files are put together", other.name);
                return Err(Failed::Ours(reason));
            }
            let active = ActiveFiles::of(handle, state).map_err(EditError::Table)?;
            Some(edits::holding(handle, state, session, &active, condition).await?)
        }
    };
    let target = state.table_config().target_file_size();
    let properties = |added: u64, removed: u64| {
        let told = json!({ "numAddedFiles": added.to_string(), "numRemovedFiles": removed.to_string() });
        commit_with(statement, told)
    };
    let done = compact::compact(handle, state, only.as_ref(), target, condition.map(str::to_owned), properties).await?;
    let figures = files(done.files_added as usize, done.files_removed as usize);
    Ok((done.state, Done { figures, ..Done::default() }))
}

fn commit(statement: &str) -> CommitProperties {
    let statement = [(STATEMENT.to_string(), json!(statement))];
    CommitProperties::default().with_max_retries(COMMIT_ATTEMPTS).with_metadata(statement)
}

/// For what is ours, with the figures that a history shows: not tried again where another writer was quicker, whose rows
/// may be in the same files or be some that the condition is true for.
fn commit_with(statement: &str, told: serde_json::Value) -> CommitProperties {
    let metadata = [(STATEMENT, json!(statement)), ("operationMetrics", told)];
    CommitProperties::default()
        .with_max_retries(0)
        .with_metadata(metadata.map(|(name, value)| (name.to_string(), value)))
}

fn files(added: usize, removed: usize) -> Vec<(&'static str, u64)> {
    vec![("files_added", added as u64), ("files_removed", removed as u64)]
}

/// `operationMetrics.num_added_rows` of a log entry.
fn rows_written(entry: &[u8]) -> Option<u64> {
    let info = entry.split(|byte| *byte == b'\n').find_map(|line| {
        let action: serde_json::Value = serde_json::from_slice(line).ok()?;
        action.get("commitInfo").cloned()
    })?;
    let rows = info.get("operationMetrics")?.get("num_added_rows")?;
    rows.as_u64().or_else(|| rows.as_str()?.parse().ok())
}

/// What the library says, told apart: lost against another writer, not for this table, or the storage.
fn verb_error(handle: &Handle, verb: &'static str, error: DeltaTableError) -> TableError {
    let location = handle.location.to_string();
    if is_conflict(&error) {
        return TableError::Conflict { location, attempts: 1 };
    }
    match handle.error("changing the table", error) {
        TableError::Storage { source, .. } if !is_of_storage(source.as_ref()) => {
            TableError::Verb { location, verb, reason: source.to_string() }
        }
        error => error,
    }
}

/// Whether the storage below failed, and not what was asked for.
fn is_of_storage(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<object_store::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        next = error.source();
    }
    false
}
