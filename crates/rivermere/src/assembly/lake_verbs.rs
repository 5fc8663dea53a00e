//! Statements about tables of the lake: which table is meant, whether it may be changed, and the answer.

use super::commands::{datafusion_problem, plan_query, problem};
use super::lake::Lake;
use super::platform::Running;
use crate::formats::table_schema;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, TableFactor};
use rivermere_base::Code;
use rivermere_serve::{ProblemKind, SqlOutput, SqlProblem};
use rivermere_sql::{
    Alteration, AsOf, CreateExternal, ExternalTable, Insert, LakePlace, LakeStatement, LakeVerb, Merge, MergeDo,
    MergeWhen, Parsed, PartitionBy, Script, SqlError, Statement, Target, ViewDefinition, expression_text, suggestion,
    timestamp_us,
};
use rivermere_table::{
    Clean, Done, EditableTable, MergeClause, MergeVerb, PartitionField, TableError, TableSpec, Transform, Verb,
};
use std::sync::Arc;

/// Versions that DESCRIBE HISTORY shows when it is not told how many.
const HISTORY: usize = 1_000;

/// Times that a statement is done from its beginning, when another writer was quicker.
const ATTEMPTS: u64 = 8;

/// A table that a statement is about.
struct Found {
    place: LakePlace,
    /// The view that it stores.
    view: Option<Arc<ViewDefinition>>,
    /// What expressions may call it by.
    name: String,
}

pub(super) async fn run(
    running: &Arc<Running>,
    statement: &LakeStatement,
    parsed: &Parsed,
) -> Result<SqlOutput, SqlProblem> {
    let found = find(running, &statement.target)?;
    let verb = match &statement.verb {
        LakeVerb::History { limit } => {
            let table = match running.lake.table(&found.place).await {
                // A view's table is made by its first commit, which the view does not wait for.
                Err(TableError::Missing { .. }) if found.view.is_some() => return history(Vec::new()),
                table => table.map_err(told)?,
            };
            return history(table.history(limit.unwrap_or(HISTORY)).await.map_err(told)?);
        }
        verb => verb,
    };
    let table = open(running, &found, !matches!(verb, LakeVerb::Optimize { .. } | LakeVerb::Vacuum { .. })).await?;
    applied(running, &found, table.as_ref(), &Work::Verb(verb), parsed).await
}

/// What is done to a table.
enum Work<'a> {
    Verb(&'a LakeVerb),
    Insert(&'a Insert),
}

/// Does it over the newest version, and again when another writer was quicker: what it reads is planned anew each time.
async fn applied(
    running: &Arc<Running>,
    found: &Found,
    table: &dyn EditableTable,
    work: &Work<'_>,
    parsed: &Parsed,
) -> Result<SqlOutput, SqlProblem> {
    let statement = running.doors.rng.uuid().to_string();
    let mut attempts = 1;
    loop {
        let base = table.version().await.map_err(told)?;
        let session = running.new_session().map_err(datafusion_problem)?;
        let verb = match work {
            Work::Verb(verb) => planned(running, found, table, verb, parsed).await?,
            Work::Insert(insert) => {
                // The table's columns of now: another writer may have changed them since the last attempt.
                let schema = table.schema().await.map_err(told)?;
                let names = inserted(insert, &schema, found)?;
                let plan = plan_query(running, &session, &insert.query, parsed).await?;
                let width = plan.schema().fields().len();
                if width != names.len() {
                    let message = format!("{width} values for the {} columns of '{}'", names.len(), found.name);
                    return Err(problem(SqlError::new(Code(7027), message).at(parsed.location.clone())));
                }
                let rows = in_table_order(plan, &names, &schema)?;
                if insert.overwrite { Verb::Overwrite(rows) } else { Verb::Append(rows) }
            }
        };
        match table.apply(&session.state(), base, &statement, verb).await {
            Err(TableError::Conflict { location, .. }) if attempts == ATTEMPTS => {
                return Err(told(TableError::Conflict { location, attempts }));
            }
            Err(TableError::Conflict { .. }) => attempts += 1,
            applied => {
                running.lakes.look();
                return done(applied.map_err(told)?);
            }
        }
    }
}

/// The verb of a statement, its sources planned over what is there now.
async fn planned(
    running: &Arc<Running>,
    found: &Found,
    table: &dyn EditableTable,
    verb: &LakeVerb,
    parsed: &Parsed,
) -> Result<Verb, SqlProblem> {
    let columns = table.schema().await.map_err(told)?;
    let check = |assignments: &[(Ident, SqlExpr)]| {
        once_each(assignments.iter().map(|(column, _)| column.value.as_str()))?;
        assignments.iter().try_for_each(|(column, _)| known(&columns, &column.value, &found.name).map(drop))
    };
    Ok(match verb {
        LakeVerb::Delete { condition } => Verb::Delete { condition: condition.as_ref().map(text).transpose()? },
        LakeVerb::Update { assignments, condition } => {
            check(assignments)?;
            let condition = condition.as_ref().map(text).transpose()?;
            Verb::Update { assignments: texts(assignments)?, condition }
        }
        LakeVerb::Merge(merge) => Verb::Merge(Box::new(merged(running, merge, &columns, found, parsed).await?)),
        LakeVerb::Alter(alteration) => altered(alteration, &columns, found, parsed)?,
        LakeVerb::Optimize { z_order, condition } => {
            let columns = z_order.iter().map(|column| known(&columns, &column.value, &found.name));
            Verb::Compact {
                z_order: columns.map(|field| Ok(field?.name().clone())).collect::<Result<_, SqlProblem>>()?,
                condition: condition.as_ref().map(text).transpose()?,
            }
        }
        LakeVerb::Vacuum { full, retain_hours, dry_run } => {
            let needed = running.lakes.needed(|place| running.lake.may_be_same(place, &found.place.location));
            Verb::Clean(Clean { everything: *full, retain_hours: *retain_hours, dry_run: *dry_run, needed })
        }
        LakeVerb::Restore { to } => Verb::Restore { version: version(table, to).await? },
        LakeVerb::History { .. } => return Err(SqlProblem::new(Code(7030), "a history changes nothing")),
    })
}

/// `INSERT INTO` or `INSERT OVERWRITE` a table of the lake.
pub(super) async fn insert(running: &Arc<Running>, insert: &Insert, parsed: &Parsed) -> Result<SqlOutput, SqlProblem> {
    let found = find(running, &insert.table)?;
    let table = open(running, &found, true).await?;
    applied(running, &found, table.as_ref(), &Work::Insert(insert), parsed).await
}

/// The columns that the rows of an insert have, in their order.
fn inserted(insert: &Insert, schema: &SchemaRef, found: &Found) -> Result<Vec<String>, SqlProblem> {
    let names: Vec<String> = match insert.columns.as_slice() {
        [] => schema.fields().iter().map(|field| field.name().clone()).collect(),
        given => {
            let field = |column: &Ident| {
                let column = rivermere_sql::normalised(column);
                known(schema, &column.value, &found.name).map(|field| field.name().clone())
            };
            given.iter().map(field).collect::<Result<_, _>>()?
        }
    };
    once_each(names.iter().map(String::as_str))?;
    Ok(names)
}

/// Refuses a column that is named twice.
fn once_each<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), SqlProblem> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(SqlProblem::new(Code(3006), format!("column '{name}' is named twice")));
        }
    }
    Ok(())
}

/// [`ensure`] when the platform starts, where the table could not be opened: one that is not there is made, and one that
/// cannot be reached is told of again when a statement names it.
pub(super) async fn ensure_at_start(
    lake: &Lake,
    create: &CreateExternal,
    parsed: &Parsed,
    error: &TableError,
) -> Result<(), SqlProblem> {
    match error {
        TableError::Missing { .. } if !create.columns.is_empty() => ensure(lake, create, parsed).await.map(drop),
        error => {
            tracing::warn!(table = create.name.value, %error, "an external table cannot be opened now");
            Ok(())
        }
    }
}

/// Makes the table, if columns are given and there is none; else it must be there.
pub(super) async fn ensure(lake: &Lake, create: &CreateExternal, parsed: &Parsed) -> Result<ExternalTable, SqlProblem> {
    let found = lake.table(&create.place).await;
    let table = match found {
        Err(TableError::Missing { .. }) if !create.columns.is_empty() => {
            let schema = create.schema(parsed).map_err(problem)?;
            let pair = |(name, value, _): &(String, String, _)| (name.clone(), value.clone());
            let spec = TableSpec {
                schema,
                partitioned_by: create.partitioned_by.iter().map(partition_field).collect::<Result<_, _>>()?,
                properties: create.properties.iter().map(pair).collect(),
            };
            lake.create(&create.place, &spec).await.map_err(told)?
        }
        Err(error @ TableError::Missing { .. }) => {
            return Err(told(error).with_hint("give its columns, and it is made"));
        }
        found => found.map_err(told)?,
    };
    if !create.columns.is_empty() {
        let (have, given) = (table.schema().await.map_err(told)?, create.schema(parsed).map_err(problem)?);
        let given = table_schema(create.place.format, &given).map_err(told)?;
        let alike =
            |field: &FieldRef, other: &FieldRef| field.name() == other.name() && field.data_type() == other.data_type();
        let same = have.fields().len() == given.fields().len();
        if !same || !have.fields().iter().zip(given.fields()).all(|(field, other)| alike(field, other)) {
            let shown: Vec<String> =
                have.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
            let message =
                format!("the table at '{}' is there with other columns: {}", create.place.location, shown.join(", "));
            return Err(SqlProblem::new(Code(7028), message).with_hint("leave the columns out to take it as it is"));
        }
    }
    Ok(create.define(parsed, Some(table.schema().await.map_err(told)?)))
}

/// What a statement says a table is partitioned by.
fn partition_field(by: &PartitionBy) -> Result<PartitionField, SqlProblem> {
    let column = by.column.value.clone();
    let Some((name, number)) = &by.transform else { return Ok(PartitionField::from(column.as_str())) };
    let transform = match (name.value.to_lowercase().trim_end_matches('s'), number) {
        ("bucket", Some(count)) if *count > 0 => Transform::Bucket(*count),
        ("truncate", Some(width)) if *width > 0 => Transform::Truncate(*width),
        ("year", None) => Transform::Year,
        ("month", None) => Transform::Month,
        ("day", None) => Transform::Day,
        ("hour", None) => Transform::Hour,
        _ => {
            let hint =
                "bucket(n, column), truncate(n, column), years(column), months(column), days(column), hours(column)";
            let message = format!("nothing is partitioned by {}(…{column})", name.value);
            return Err(SqlProblem::new(Code(3002), message).with_hint(hint));
        }
    };
    Ok(PartitionField { column, transform })
}

fn find(running: &Running, target: &Target) -> Result<Found, SqlProblem> {
    let name = match target {
        Target::Place { place, .. } => {
            return Ok(Found { place: place.clone(), view: None, name: "target".into() });
        }
        Target::Name(name) => &name.value,
    };
    if let Some(external) = running.externals.read().get(name) {
        return Ok(Found { place: external.place.clone(), view: None, name: name.clone() });
    }
    let view = running.views.get(name).map(|cell| cell.view.clone());
    match view {
        Some(view) => {
            if let Some(stored) = &view.stored_as {
                let place = LakePlace::new(stored.format, running.lake.shown(&view));
                return Ok(Found { place, view: Some(view), name: name.clone() });
            }
            let hint = "STORED AS DELTA keeps a view as a table, too";
            Err(SqlProblem::new(Code(7029), format!("'{name}' is a view that is not kept in the lake")).with_hint(hint))
        }
        None if running.tables.read().contains_key(name) => {
            let message = format!("'{name}' is a table over a topic or a file, which is only added to or read");
            Err(SqlProblem::new(Code(7029), message)
                .with_hint("a table of the lake: CREATE EXTERNAL TABLE, or delta('place')"))
        }
        None => {
            let externals = running.externals.read();
            let mut problem =
                SqlProblem::new(Code(3002), format!("table '{name}' does not exist")).with_kind(ProblemKind::NotFound);
            problem.hint = suggestion(name, externals.keys().map(String::as_str));
            Err(problem)
        }
    }
}

/// The table; with `changes`, one whose rows are nobody else's.
async fn open(running: &Running, found: &Found, changes: bool) -> Result<Arc<dyn EditableTable>, SqlProblem> {
    let theirs = |view: &str| {
        SqlProblem::new(Code(7026), format!("'{view}' is a view: its rows come from its query"))
            .with_hint("OPTIMIZE, VACUUM and DESCRIBE HISTORY work on its table")
    };
    if let Some(view) = found.view.as_ref().filter(|_| changes) {
        return Err(theirs(&view.name));
    }
    let table = running.lake.table(&found.place).await.map_err(told)?;
    let owner = if changes { table.owner().await.map_err(told)?.filter(|owner| !owner.is_empty()) } else { None };
    if let Some(owner) = owner {
        let ours = running.incarnation().map(|incarnation| format!("rivermere/{incarnation}/"));
        match ours.and_then(|ours| owner.strip_prefix(&ours).map(str::to_owned)) {
            Some(view) if running.views.get(&view).is_some_and(|cell| cell.view.stored_as.is_some()) => {
                return Err(theirs(&view));
            }
            // Its view is gone.
            Some(_) => {}
            None => {
                return Err(SqlProblem::new(Code(7031), format!("the table is written by another pipeline: {owner}"))
                    .with_hint("if that is gone, take the property rivermere.sink off the table"));
            }
        }
    }
    Ok(table)
}

fn known<'a>(columns: &'a SchemaRef, name: &str, table: &str) -> Result<&'a FieldRef, SqlProblem> {
    columns.fields().iter().find(|field| field.name() == name).ok_or_else(|| {
        let mut problem = SqlProblem::new(Code(3002), format!("column '{name}' does not exist in '{table}'"));
        problem.hint = suggestion(name, columns.fields().iter().map(|field| field.name().as_str()));
        problem
    })
}

fn text(expr: &SqlExpr) -> Result<String, SqlProblem> {
    expression_text(expr).map_err(problem)
}

fn texts(assignments: &[(Ident, SqlExpr)]) -> Result<Vec<(String, String)>, SqlProblem> {
    assignments.iter().map(|(column, value)| Ok((column.value.clone(), text(value)?))).collect()
}

fn altered(alteration: &Alteration, columns: &SchemaRef, found: &Found, parsed: &Parsed) -> Result<Verb, SqlProblem> {
    let known = |column: &Ident| known(columns, &column.value, &found.name).map(|field| field.name().clone());
    Ok(match alteration {
        Alteration::AddColumns(added) => {
            let schema = rivermere_sql::columns_of(added, parsed).map_err(problem)?;
            if let Some(field) = schema.fields().iter().find(|field| columns.index_of(field.name()).is_ok()) {
                return Err(SqlProblem::new(Code(3006), format!("column '{}' is there already", field.name())));
            }
            if let Some(field) = schema.fields().iter().find(|field| !field.is_nullable()) {
                let message =
                    format!("column '{}' cannot be NOT NULL: rows that are there have no value", field.name());
                return Err(SqlProblem::new(Code(7027), message));
            }
            Verb::AddColumns(table_schema(found.place.format, &schema).map_err(told)?)
        }
        Alteration::RenameColumn { from, to } => Verb::RenameColumn { from: known(from)?, to: to.value.clone() },
        Alteration::DropColumn(column) => Verb::DropColumn(known(column)?),
        Alteration::WidenColumn { column, to } => {
            Verb::WidenColumn { column: known(column)?, to: rivermere_sql::data_type_of(to, parsed).map_err(problem)? }
        }
        Alteration::DropNotNull(column) => Verb::DropNotNull(known(column)?),
        Alteration::AddConstraint { name, check } => {
            Verb::AddConstraint { name: name.value.clone(), check: text(check)? }
        }
        Alteration::DropConstraint { name, if_exists } => {
            Verb::DropConstraint { name: name.value.clone(), if_exists: *if_exists }
        }
        Alteration::SetProperties(properties) => {
            Verb::SetProperties(properties.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect())
        }
    })
}

async fn merged(
    running: &Arc<Running>,
    merge: &Merge,
    columns: &SchemaRef,
    found: &Found,
    parsed: &Parsed,
) -> Result<MergeVerb, SqlProblem> {
    let source_alias = alias(&merge.source).ok_or_else(|| {
        SqlProblem::new(Code(3001), "the source of a MERGE needs a name").with_hint("USING (SELECT …) AS s")
    })?;
    let query = format!("SELECT * FROM {}", merge.source);
    let script = Script::parse("MERGE", &query).map_err(problem)?;
    let session = running.new_session().map_err(datafusion_problem)?;
    let source = match script.statements().first().map(|parsed| &parsed.statement) {
        Some(Statement::Query(query)) => plan_query(running, &session, query, parsed).await?,
        _ => return Err(SqlProblem::new(Code(3001), "the source of a MERGE is a table or a query")),
    };
    let all = || {
        columns.fields().iter().map(|field| {
            let name = field.name();
            if source.schema().index_of_column_by_name(None, name).is_none() {
                let message = format!("the source '{source_alias}' has no column '{name}', which * would take");
                return Err(SqlProblem::new(Code(3002), message));
            }
            Ok((name.clone(), format!("{}.{}", quoted(&source_alias), quoted(name))))
        })
    };
    let given = |pairs: &[(Ident, SqlExpr)]| -> Result<Vec<(String, String)>, SqlProblem> {
        if pairs.is_empty() {
            return all().collect();
        }
        once_each(pairs.iter().map(|(column, _)| column.value.as_str()))?;
        pairs.iter().try_for_each(|(column, _)| known(columns, &column.value, &found.name).map(drop))?;
        texts(pairs)
    };
    let mut clauses = vec![];
    for clause in &merge.clauses {
        let condition = clause.condition.as_ref().map(text).transpose()?;
        clauses.push(match (clause.when, &clause.action) {
            (MergeWhen::Matched, MergeDo::Update(pairs)) => {
                MergeClause::UpdateMatched { condition, assignments: given(pairs)? }
            }
            (MergeWhen::NotMatchedBySource, MergeDo::Update(pairs)) => {
                MergeClause::UpdateUnmatched { condition, assignments: given(pairs)? }
            }
            (MergeWhen::Matched, _) => MergeClause::DeleteMatched { condition },
            (MergeWhen::NotMatchedBySource, _) => MergeClause::DeleteUnmatched { condition },
            (MergeWhen::NotMatched, MergeDo::Insert(pairs)) => MergeClause::Insert { condition, values: given(pairs)? },
            (MergeWhen::NotMatched, _) => return Err(SqlProblem::new(Code(3001), "a row without a match is inserted")),
        });
    }
    let target_alias = merge.target_alias.as_ref().map_or(found.name.clone(), |alias| alias.value.clone());
    Ok(MergeVerb { source, target_alias, source_alias, on: text(&merge.on)?, clauses })
}

/// What expressions call a relation by.
fn alias(factor: &TableFactor) -> Option<String> {
    let (name, alias) = match factor {
        TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => {
            (name.0.last().and_then(|part| part.as_ident()), alias)
        }
        TableFactor::Derived { alias, .. } | TableFactor::TableFunction { alias, .. } => (None, alias),
        _ => return None,
    };
    let ident = alias.as_ref().map(|alias| &alias.name).or(name)?;
    Some(rivermere_sql::normalised(ident).value)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn version(table: &dyn EditableTable, to: &AsOf) -> Result<i64, SqlProblem> {
    match to {
        AsOf::Version(version) => Ok(*version),
        AsOf::Named(name) => table.version_named(name).await.map_err(told),
        AsOf::Timestamp(text) => {
            table.version_at(timestamp_us(text).map_err(problem)?.div_euclid(1_000)).await.map_err(told)
        }
    }
}

/// The columns of a plan, named in order by `names`, as those of the table; a column that is not named is null.
fn in_table_order(plan: LogicalPlan, names: &[String], schema: &SchemaRef) -> Result<LogicalPlan, SqlProblem> {
    let mut columns = vec![];
    for field in schema.fields() {
        let value = match names.iter().position(|name| name == field.name()) {
            Some(at) => {
                let column = Expr::Column(Column::from(plan.schema().qualified_field(at)));
                column.cast_to(field.data_type(), plan.schema()).map_err(datafusion_problem)?
            }
            None if field.is_nullable() => lit(ScalarValue::try_from(field.data_type()).map_err(datafusion_problem)?),
            None => return Err(SqlProblem::new(Code(7027), format!("column '{}' may not be null", field.name()))),
        };
        columns.push(value.alias(field.name()));
    }
    LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(datafusion_problem)
}

fn done(done: Done) -> Result<SqlOutput, SqlProblem> {
    let rows = done.rows.map(|rows| ("rows", rows));
    let version = [("version", u64::try_from(done.version).unwrap_or_default())];
    let figures: Vec<(&str, u64)> = rows.into_iter().chain(done.figures).chain(version).collect();
    let fields: Vec<Field> = figures.iter().map(|(name, _)| Field::new(*name, DataType::Int64, false)).collect();
    let column = |(_, value): &(&str, u64)| {
        Arc::new(Int64Array::from(vec![i64::try_from(*value).unwrap_or(i64::MAX)])) as ArrayRef
    };
    output(fields, figures.iter().map(column).collect())
}

fn history(versions: Vec<rivermere_table::TableVersion>) -> Result<SqlOutput, SqlProblem> {
    let each = |text: fn(&rivermere_table::TableVersion) -> Option<&str>| {
        Arc::new(versions.iter().map(text).collect::<StringArray>()) as ArrayRef
    };
    let times = versions.iter().map(|version| version.committed_ms.and_then(|ms| ms.checked_mul(1_000)));
    let fields = vec![
        Field::new("version", DataType::Int64, false),
        Field::new("committed_at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("operation", DataType::Utf8, true),
        Field::new("parameters", DataType::Utf8, true),
        Field::new("engine", DataType::Utf8, true),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(versions.iter().map(|version| version.version).collect::<Int64Array>()),
        Arc::new(times.collect::<TimestampMicrosecondArray>()),
        each(|version| version.operation.as_deref()),
        each(|version| version.parameters.as_deref()),
        each(|version| version.engine.as_deref()),
    ];
    output(fields, columns)
}

fn output(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<SqlOutput, SqlProblem> {
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns)
        .map_err(|error| SqlProblem::new(Code(7030), error.to_string()).with_kind(ProblemKind::Internal))?;
    Ok(SqlOutput { schema, batches: vec![batch] })
}

/// An error of a table with its code taken apart from its text.
pub(super) fn told(error: TableError) -> SqlProblem {
    let kind = match &error {
        TableError::Missing { .. } | TableError::MissingVersion { .. } => ProblemKind::NotFound,
        TableError::Storage { .. } | TableError::Full { .. } => ProblemKind::Internal,
        _ => ProblemKind::Invalid,
    };
    let text = error.to_string();
    let apart = text
        .split_once(": ")
        .and_then(|(code, message)| Some((code.strip_prefix("RM-")?.parse().ok()?, message.to_string())));
    let (code, message) = apart.unwrap_or((5010, text));
    SqlProblem::new(Code(code), message).with_kind(kind)
}
