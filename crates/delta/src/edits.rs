//! DELETE, UPDATE and MERGE that mark rows, for tables with deletion vectors: files stay, and rows that are new or have new
//! values are written beside them.
//!
//! Each is one plan over the rows with their places, whose rows say what is done where. What would be for others to check
//! (constraints, generated columns) or to write (a change data feed), and files that are gone as a whole, the library does.

use crate::active::ActiveFiles;
use crate::files::{Files, TARGET_FILE_BYTES};
use crate::fit::check_features;
use crate::handle::Handle;
use crate::rows::{FILE_COLUMN, FILE_NUMBER, PlacedRows, ROW_NUMBER};
use crate::schema::Conform;
use crate::vectors::{self, Marks};
use arrow::array::AsArray as _;
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::DataFrame;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::Action;
use deltalake_core::protocol::{DeltaOperation, MergePredicate};
use deltalake_core::table::state::DeltaTableState;
use futures::StreamExt as _;
use rivermere_table::merging::{CLAUSE, Deed, MergeError, MergePlan, SEVERAL_MATCH, clauses, plan_merge};
use rivermere_table::{MergeClause, MergeVerb, TableError, Verb};
use std::collections::BTreeSet;
use std::sync::Arc;

const CHANGING: &str = "changing the table";
/// The property by which a table wants to be told what changed.
const CHANGE_DATA: &str = "delta.enableChangeDataFeed";

/// Log entries that are written and wait for their commit.
pub(crate) struct Edit {
    pub(crate) actions: Vec<Action>,
    pub(crate) operation: DeltaOperation,
    pub(crate) inserted: u64,
    pub(crate) updated: u64,
    pub(crate) deleted: u64,
    pub(crate) files_added: u64,
    pub(crate) files_removed: u64,
    pub(crate) files_marked: u64,
}

pub(crate) enum EditError {
    Table(TableError),
    Plan(DataFusionError),
    Library(DeltaTableError),
    /// What the statement asks for cannot be.
    Refused(String),
}

impl EditError {
    pub(crate) fn told(self, handle: &Handle) -> TableError {
        match self {
            Self::Table(error) => error,
            Self::Plan(error) => TableError::storage(CHANGING, handle.location.to_string(), error),
            Self::Library(error) => handle.error(CHANGING, error),
            Self::Refused(reason) => TableError::InvalidSpec { reason },
        }
    }
}

impl From<TableError> for EditError {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

impl From<MergeError> for EditError {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::Plan(error) => Self::Plan(error),
            MergeError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl From<DataFusionError> for EditError {
    fn from(error: DataFusionError) -> Self {
        Self::Plan(error)
    }
}

/// Does what `verb` says, up to the commit; `None` when it is for the library.
pub(crate) async fn edit(
    handle: &Handle,
    state: &DeltaTableState,
    session: &SessionState,
    verb: &Verb,
) -> Result<Option<Edit>, EditError> {
    let configuration = state.metadata().configuration();
    let told = configuration.get(CHANGE_DATA).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if !vectors::enabled(state) || told {
        return Ok(None);
    }
    let writes = !matches!(verb, Verb::Delete { .. });
    if writes && check_features(handle, state).is_err() {
        return Ok(None);
    }
    let table = Target { handle, state, session, schema: state.snapshot().arrow_schema() };
    let (work, operation) = match verb {
        Verb::Delete { condition: Some(condition) } => {
            let operation = DeltaOperation::Delete { predicate: Some(condition.clone()) };
            (table.delete(condition).await?, operation)
        }
        Verb::Update { assignments, condition } => {
            let operation = DeltaOperation::Update { predicate: condition.clone() };
            (table.update(assignments, condition.as_deref()).await?, operation)
        }
        Verb::Merge(merge) => (table.merge(merge).await?, merged(merge)),
        _ => return Ok(None),
    };
    match work {
        Some(work) => Ok(Some(table.run(work, operation).await?)),
        None => Ok(Some(Edit::nothing(operation))),
    }
}

impl Edit {
    fn nothing(operation: DeltaOperation) -> Self {
        Self {
            actions: vec![],
            operation,
            inserted: 0,
            updated: 0,
            deleted: 0,
            files_added: 0,
            files_removed: 0,
            files_marked: 0,
        }
    }
}

struct Target<'a> {
    handle: &'a Handle,
    state: &'a DeltaTableState,
    session: &'a SessionState,
    schema: SchemaRef,
}

/// A plan whose rows have a place (none, when they are new), the number of a clause, and the values that are to be there.
struct Work {
    rows: PlacedRows,
    active: Arc<ActiveFiles>,
    plan: LogicalPlan,
    deeds: Vec<Deed>,
    /// Whether it is no matter how often a row of the table is matched: it is deleted, whatever matches.
    may_match_twice: bool,
}

impl Target<'_> {
    async fn delete(&self, condition: &str) -> Result<Option<Work>, EditError> {
        let schema = DFSchema::try_from(self.schema.as_ref().clone())?;
        let parsed = self.session.create_logical_expr(condition, &schema)?;
        let columns: BTreeSet<String> = parsed.column_refs().iter().map(|column| column.name.clone()).collect();
        let columns: Vec<String> = columns.into_iter().collect();
        let Some((rows, active)) = self.touched(Some(condition), &columns).await? else { return Ok(None) };
        let scan = scan(&rows, None)?;
        let condition = self.session.create_logical_expr(condition, scan.schema())?;
        let plan = LogicalPlanBuilder::from(scan).filter(condition)?.project(places(None, lit(0_u8)))?.build()?;
        Ok(Some(Work { rows, active, plan, deeds: vec![Deed::Delete], may_match_twice: false }))
    }

    async fn update(
        &self,
        assignments: &[(String, String)],
        condition: Option<&str>,
    ) -> Result<Option<Work>, EditError> {
        let Some((rows, active)) = self.touched(condition, &self.columns()).await? else { return Ok(None) };
        let scan = scan(&rows, None)?;
        let schema = scan.schema().clone();
        let mut all = places(None, lit(0_u8));
        for field in self.schema.fields() {
            let assigned = assignments.iter().find(|(column, _)| column == field.name());
            let value = match assigned {
                Some((_, value)) => self.session.create_logical_expr(value, &schema)?,
                None => Expr::Column(Column::from_name(field.name())),
            };
            all.push(value.cast_to(field.data_type(), &schema)?.alias(field.name()));
        }
        let mut plan = LogicalPlanBuilder::from(scan);
        if let Some(condition) = condition {
            plan = plan.filter(self.session.create_logical_expr(condition, &schema)?)?;
        }
        let plan = plan.project(all)?.build()?;
        Ok(Some(Work { rows, active, plan, deeds: vec![Deed::Update], may_match_twice: false }))
    }

    async fn merge(&self, merge: &MergeVerb) -> Result<Option<Work>, EditError> {
        let active = Arc::new(ActiveFiles::of(self.handle, self.state)?);
        let all = active.iter().map(|(number, _)| number).collect();
        let rows = PlacedRows::new(self.handle, self.state, active.clone(), all, &self.columns()).await?;
        let scan = scan(&rows, Some(TableReference::bare(&*merge.target_alias)))?;
        let places = [FILE_NUMBER, ROW_NUMBER];
        let MergePlan { plan, deeds, may_match_twice } = plan_merge(self.session, scan, &places, &self.schema, merge)?;
        Ok(Some(Work { rows, active, plan, deeds, may_match_twice }))
    }

    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The rows of the files that hold a row for which the condition is true.
    async fn touched(
        &self,
        condition: Option<&str>,
        columns: &[String],
    ) -> Result<Option<(PlacedRows, Arc<ActiveFiles>)>, EditError> {
        let active = Arc::new(ActiveFiles::of(self.handle, self.state)?);
        let touched = match condition {
            Some(condition) => holding(self.handle, self.state, self.session, &active, condition).await?,
            None => active.iter().map(|(number, _)| number).collect(),
        };
        if touched.is_empty() {
            return Ok(None);
        }
        let touched = touched.into_iter().collect();
        let rows = PlacedRows::new(self.handle, self.state, active.clone(), touched, columns).await?;
        Ok(Some((rows, active)))
    }

    async fn run(&self, work: Work, operation: DeltaOperation) -> Result<Edit, EditError> {
        let mut edit = Edit::nothing(operation);
        let marks = if work.deeds.iter().all(|deed| *deed == Deed::Delete) {
            // No file is written, so whatever its columns are is no matter.
            self.fill(&work, &mut edit, None).await?
        } else {
            let conform = Conform::new(&self.schema, self.schema.clone(), &self.handle.location.to_string())?;
            let mut files = Files::new(self.handle, self.state, conform.table(), TARGET_FILE_BYTES)?;
            match self.fill(&work, &mut edit, Some((&conform, &mut files))).await {
                Ok(marks) => {
                    let added = files.close().await?;
                    edit.files_added = added.len() as u64;
                    edit.actions.extend(added.into_iter().map(Action::Add));
                    marks
                }
                Err(error) => {
                    files.abort().await;
                    return Err(error);
                }
            }
        };
        let marked = vectors::write(self.handle, self.state, &work.active, &marks, &work.rows.seen()?).await?;
        edit.files_marked = marked.adds.len() as u64;
        edit.files_removed = (marked.removes.len() - marked.adds.len()) as u64;
        edit.actions.extend(marked.removes.into_iter().map(Action::Remove));
        edit.actions.extend(marked.adds.into_iter().map(Action::Add));
        Ok(edit)
    }

    /// Reads the plan's rows: which are to be marked is answered, what is to be there goes into `files`.
    async fn fill(
        &self,
        work: &Work,
        edit: &mut Edit,
        mut files: Option<(&Conform, &mut Files<'_>)>,
    ) -> Result<Marks, EditError> {
        let mut marks = Marks::default();
        let mut rows = DataFrame::new(self.session.clone(), work.plan.clone()).execute_stream().await?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let clauses = clauses(&batch)?;
            for (number, deed) in (0_u8..).zip(&work.deeds) {
                let these = clauses.iter().map(|clause| Some(clause == Some(number))).collect();
                let these = filter_record_batch(&batch, &these).map_err(DataFusionError::from)?;
                let count = these.num_rows() as u64;
                if count == 0 {
                    continue;
                }
                let new = if *deed == Deed::Insert { count } else { marks.add_all(&these)? };
                if new < count && !work.may_match_twice {
                    return Err(EditError::Refused(SEVERAL_MATCH.into()));
                }
                match deed {
                    Deed::Delete => edit.deleted += new,
                    Deed::Update => edit.updated += new,
                    Deed::Insert => edit.inserted += new,
                }
                if let Some((conform, files)) = files.as_mut().filter(|_| *deed != Deed::Delete) {
                    let columns: Vec<usize> = (3..these.num_columns()).collect();
                    let values = these.project(&columns).map_err(DataFusionError::from)?;
                    files.write(&conform.rows(&values)?).await?;
                }
            }
        }
        Ok(marks)
    }
}

/// The files that hold a row for which the condition is true.
pub(crate) async fn holding(
    handle: &Handle,
    state: &DeltaTableState,
    session: &SessionState,
    active: &ActiveFiles,
    condition: &str,
) -> Result<BTreeSet<u32>, EditError> {
    let provider = handle.scan(state).with_file_column(FILE_COLUMN).build().await?;
    let scan = LogicalPlanBuilder::scan("t", provider_as_source(Arc::new(provider)), None)?.build()?;
    let condition = session.create_logical_expr(condition, scan.schema())?;
    let file = Expr::Column(Column::from_name(FILE_COLUMN));
    let plan = LogicalPlanBuilder::from(scan).filter(condition)?.project([file])?.distinct()?.build()?;
    let mut holding = BTreeSet::new();
    for batch in DataFrame::new(session.clone(), plan).collect().await? {
        let urls = cast(batch.column(0), &DataType::Utf8).map_err(DataFusionError::from)?;
        for url in urls.as_string::<i32>().iter().flatten() {
            let unknown = || EditError::Refused(format!("there is a file of the unknown name '{url}'"));
            holding.insert(active.number(url).ok_or_else(unknown)?);
        }
    }
    Ok(holding)
}

fn scan(rows: &PlacedRows, alias: Option<TableReference>) -> Result<LogicalPlan, DataFusionError> {
    let name = alias.unwrap_or_else(|| TableReference::bare("t"));
    LogicalPlanBuilder::scan(name, provider_as_source(rows.relation()?), None)?.build()
}

/// The first three columns of every plan.
fn places(of: Option<&TableReference>, clause: Expr) -> Vec<Expr> {
    let column = |name: &str| Expr::Column(Column::new(of.cloned(), name)).alias(name);
    vec![column(FILE_NUMBER), column(ROW_NUMBER), clause.alias(CLAUSE)]
}

fn merged(merge: &MergeVerb) -> DeltaOperation {
    let told = |wanted: &str| -> Vec<MergePredicate> {
        let clause = |clause: &MergeClause| {
            let (side, action, condition) = match clause {
                MergeClause::UpdateMatched { condition, .. } => ("matched", "update", condition),
                MergeClause::DeleteMatched { condition } => ("matched", "delete", condition),
                MergeClause::Insert { condition, .. } => ("source", "insert", condition),
                MergeClause::UpdateUnmatched { condition, .. } => ("target", "update", condition),
                MergeClause::DeleteUnmatched { condition } => ("target", "delete", condition),
            };
            let told = MergePredicate { action_type: action.into(), predicate: condition.clone() };
            (wanted == side).then_some(told)
        };
        merge.clauses.iter().filter_map(clause).collect()
    };
    DeltaOperation::Merge {
        predicate: None,
        merge_predicate: Some(merge.on.clone()),
        matched_predicates: told("matched"),
        not_matched_predicates: told("source"),
        not_matched_by_source_predicates: told("target"),
    }
}
