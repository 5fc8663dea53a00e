//! The one door for statements: what changes the catalog or a topic, and whatever DataFusion's own parser does not read.

use super::lake_verbs;
use super::platform::{Running, append, text_output};
use crate::formats::table_schema;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use rivermere_base::Code;
use rivermere_format::{Encoder, JsonEncoder};
use rivermere_serve::{ProblemKind, SqlOutput, SqlProblem};
use rivermere_sql::{
    Connector, Insert, ObjectKind, Parsed, RelationKind, Script, Show, SqlError, Statement, Target, explain_streaming,
    suggestion,
};
use rivermere_stream::runtime::NewObjects;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of one INSERT that are sent to a topic at once.
const INSERT_ROWS: usize = 10_000;

/// Runs the statements of a text, one after the other; the answer is that of the last.
pub(super) async fn run(running: &Arc<Running>, text: &str) -> Result<SqlOutput, SqlProblem> {
    let script = Script::parse("query", text).map_err(problem)?;
    let mut output = text_output("status", []);
    if script.statements().is_empty() {
        return Err(SqlProblem::new(Code(3001), "there is no statement").with_kind(ProblemKind::Syntax));
    }
    for parsed in script.statements() {
        output = statement(running, parsed).await?;
    }
    Ok(output)
}

async fn statement(running: &Arc<Running>, parsed: &Parsed) -> Result<SqlOutput, SqlProblem> {
    match &parsed.statement {
        Statement::CreateTable(create) => create_table(running, create, parsed).await,
        Statement::CreateView(create) => create_view(running, create, parsed).await,
        Statement::CreateExternal(create) => create_external(running, create, parsed).await,
        Statement::Lake(statement) => lake_verbs::run(running, statement, parsed).await,
        Statement::Insert(insert) => insert_rows(running, insert, parsed).await,
        Statement::Drop { kind, name, if_exists } => drop_object(running, *kind, &name.value, *if_exists).await,
        Statement::Query(query) => {
            // Unknown names and columns are told with their place before anything runs.
            select(running, query, parsed).await
        }
        Statement::Explain { streaming: true, query } => {
            let planner = running.planner.read();
            let plan = planner.plan_incremental(query, parsed).map_err(problem)?;
            let text = explain_streaming(&planner, &plan).map_err(problem)?;
            Ok(text_output("plan", text.lines().map(String::from)))
        }
        Statement::Explain { streaming: false, query } => {
            let session = running.new_session().map_err(datafusion_problem)?;
            let statement = DataFusionStatement::Statement(Box::new(SqlStatement::Query(query.clone())));
            let plan = session.state().statement_to_plan(statement).await;
            let plan = plan.map_err(|error| explained(running, parsed, &error))?;
            let optimised = session.state().optimize(&plan).map_err(datafusion_problem)?;
            let text = optimised.display_indent().to_string();
            Ok(text_output("plan", text.lines().map(String::from)))
        }
        Statement::Show(show) => Ok(show_names(running, *show)),
        Statement::Describe(name) => describe(running, &name.value).await,
    }
}

async fn create_table(
    running: &Arc<Running>,
    create: &rivermere_sql::CreateTable,
    parsed: &Parsed,
) -> Result<SqlOutput, SqlProblem> {
    let _one = running.catalog_changes.lock().await;
    let name = create.name.value.clone();
    if is_taken(running, &name, create.if_not_exists)? {
        return Ok(status("exists", &name));
    }
    let table = {
        let definition = create.define(parsed).map_err(problem)?;
        running.planner.write().add_table(definition).map_err(problem)?
    };
    let added = NewObjects { tables: vec![table.clone()], ad_hoc: true, ..NewObjects::default() };
    add(running, &name, added).await?;
    running.add_tables(&[table]);
    Ok(status("created", &name))
}

async fn create_view(
    running: &Arc<Running>,
    create: &rivermere_sql::CreateView,
    parsed: &Parsed,
) -> Result<SqlOutput, SqlProblem> {
    let _one = running.catalog_changes.lock().await;
    let name = create.name.value.clone();
    if is_taken(running, &name, create.if_not_exists)? {
        return Ok(status("exists", &name));
    }
    let view = {
        let mut planner = running.planner.write();
        let view = planner.plan_view(create, parsed).map_err(problem)?;
        if let Some(stored) = &view.stored_as {
            table_schema(stored.format, &view.plan.schema)
                .map_err(|error| SqlProblem::new(Code(3008), error.to_string()))?;
            running.lake.check(&view).map_err(|error| {
                let text = error.to_string();
                let message = text.split_once(": ").map_or(text.as_str(), |(_, message)| message);
                SqlProblem::new(error.code(), message)
            })?;
            if let Some(table) = running.lake.fed_by_itself(&view, &planner) {
                let message = format!("'{name}' would be stored in the table that it reads, '{table}'");
                return Err(SqlProblem::new(Code(7032), message).with_hint("give it a LOCATION of its own"));
            }
        }
        planner.add_view(view.clone()).map_err(problem)?;
        view
    };
    add(running, &name, NewObjects { views: vec![view], ad_hoc: true, ..NewObjects::default() }).await?;
    Ok(status("created", &name))
}

async fn create_external(
    running: &Arc<Running>,
    create: &rivermere_sql::CreateExternal,
    parsed: &Parsed,
) -> Result<SqlOutput, SqlProblem> {
    let _one = running.catalog_changes.lock().await;
    let name = create.name.value.clone();
    if is_taken(running, &name, create.if_not_exists)? {
        return Ok(status("exists", &name));
    }
    let external = Arc::new(lake_verbs::ensure(&running.lake, create, parsed).await?);
    running.planner.write().add_external(&external).map_err(problem)?;
    let objects = NewObjects { externals: vec![external.clone()], ad_hoc: true, ..NewObjects::default() };
    add(running, &name, objects).await?;
    running.add_externals(&[external]);
    Ok(status("created", &name))
}

/// Whether there is a table or view of this name already, which is an error where it is not `allowed`.
fn is_taken(running: &Running, name: &str, allowed: bool) -> Result<bool, SqlProblem> {
    let external = running.externals.read().contains_key(name);
    let taken = external || running.planner.read().relations().contains_key(name);
    match taken {
        true if !allowed => Err(SqlProblem::new(Code(3006), format!("'{name}' is defined twice"))
            .with_kind(ProblemKind::AlreadyExists)
            .with_hint("give one of them another name")),
        taken => Ok(taken),
    }
}

/// Hands what the planner knows already to the engine; when the engine refuses, the planner forgets it again.
async fn add(running: &Arc<Running>, name: &str, objects: NewObjects) -> Result<(), SqlProblem> {
    let added = match running.engine() {
        Ok(engine) => engine.add(objects).await.map_err(|error| SqlProblem::new(Code(7023), error.to_string())),
        Err(problem) => Err(problem),
    };
    if added.is_err() {
        running.planner.write().remove(name);
    }
    added
}

async fn drop_object(
    running: &Arc<Running>,
    kind: ObjectKind,
    name: &str,
    if_exists: bool,
) -> Result<SqlOutput, SqlProblem> {
    let _one = running.catalog_changes.lock().await;
    {
        let is_external = kind == ObjectKind::Table && running.externals.read().contains_key(name);
        let planner = running.planner.read();
        let relations = planner.relations();
        let fits = |relation: &rivermere_sql::Relation| {
            matches!(
                (&relation.kind, kind),
                (RelationKind::Table(_), ObjectKind::Table) | (RelationKind::View(_), ObjectKind::View)
            )
        };
        if !is_external && !relations.get(name).is_some_and(fits) {
            if if_exists {
                return Ok(status("absent", name));
            }
            let what = if kind == ObjectKind::Table { "table" } else { "view" };
            let names = relations.values().filter(|relation| fits(relation)).map(|relation| relation.name.as_str());
            let mut problem =
                SqlProblem::new(Code(3002), format!("{what} '{name}' does not exist")).with_kind(ProblemKind::NotFound);
            problem.hint = suggestion(name, names);
            return Err(problem);
        }
        let readers: Vec<&str> = relations
            .values()
            .filter(|relation| matches!(&relation.kind, RelationKind::View(view) if view.plan.inputs.contains(name)))
            .map(|relation| relation.name.as_str())
            .collect();
        if !readers.is_empty() {
            return Err(SqlProblem::new(Code(7024), format!("'{name}' is read by {}", readers.join(", ")))
                .with_hint("drop these first"));
        }
    }
    refuse_of_the_project(running, name)?;
    running.engine()?.remove(name.to_string()).await.map_err(|error| SqlProblem::new(Code(7023), error.to_string()))?;
    running.planner.write().remove(name);
    running.tables.write().remove(name);
    running.externals.write().remove(name);
    running.views.remove(name);
    Ok(status("dropped", name))
}

fn refuse_of_the_project(running: &Running, name: &str) -> Result<(), SqlProblem> {
    match running.project.defines(name) {
        true => Err(SqlProblem::new(Code(7025), format!("'{name}' is defined by the project's files"))
            .with_hint("it would be back at the next start: take it out of its file first")),
        false => Ok(()),
    }
}

/// The plan of a query over everything that can be read.
pub(super) async fn plan_query(
    running: &Running,
    session: &SessionContext,
    query: &Query,
    parsed: &Parsed,
) -> Result<LogicalPlan, SqlProblem> {
    let statement = DataFusionStatement::Statement(Box::new(SqlStatement::Query(Box::new(query.clone()))));
    session.state().statement_to_plan(statement).await.map_err(|error| explained(running, parsed, &error))
}

async fn select(running: &Arc<Running>, query: &Query, parsed: &Parsed) -> Result<SqlOutput, SqlProblem> {
    let session = running.new_session().map_err(datafusion_problem)?;
    let told = |error: DataFusionError| explained(running, parsed, &error);
    let plan = plan_query(running, &session, query, parsed).await?;
    let frame = session.execute_logical_plan(plan).await.map_err(told)?;
    let schema = frame.schema().inner().clone();
    let context = Arc::new(frame.task_ctx());
    // Some mistakes, such as types that cannot be compared, are found when the plan is made ready.
    let plan = frame.create_physical_plan().await.map_err(told)?;
    let batches = collect(plan, context).await.map_err(datafusion_problem)?;
    Ok(SqlOutput { schema, batches })
}

/// Rows of a query become records of the table's topic; the answer comes after they are durable.
async fn insert_rows(running: &Arc<Running>, insert: &Insert, parsed: &Parsed) -> Result<SqlOutput, SqlProblem> {
    let name = match &insert.table {
        Target::Name(name) if !running.externals.read().contains_key(&name.value) => &name.value,
        _ => return lake_verbs::insert(running, insert, parsed).await,
    };
    if insert.overwrite {
        return Err(SqlProblem::new(
            Code(7026),
            format!("'{name}' is only added to: INSERT OVERWRITE is for tables of the lake"),
        ));
    }
    let table = running.tables.read().get(name).cloned();
    let Some(table) = table else {
        let tables = running.tables.read();
        let mut problem =
            SqlProblem::new(Code(3002), format!("table '{name}' does not exist")).with_kind(ProblemKind::NotFound);
        problem.hint = suggestion(name, tables.keys().map(String::as_str));
        if running.views.get(name).is_some() {
            problem = SqlProblem::new(Code(7026), format!("'{name}' is a view: its rows come from its query"));
        }
        return Err(problem);
    };
    let Connector::Topic { topic, .. } = &table.connector else {
        return Err(SqlProblem::new(Code(7026), format!("'{name}' is a file, which is only read")));
    };
    let columns: Vec<&Arc<Field>> = if insert.columns.is_empty() {
        table.schema.fields().iter().collect()
    } else {
        insert
            .columns
            .iter()
            .map(|column| {
                let wanted = column.value.to_lowercase();
                table.schema.fields().iter().find(|field| *field.name() == wanted).ok_or_else(|| {
                    let mut problem =
                        SqlProblem::new(Code(3002), format!("column '{wanted}' does not exist in '{name}'"));
                    problem.hint = suggestion(&wanted, table.schema.fields().iter().map(|field| field.name().as_str()));
                    problem
                })
            })
            .collect::<Result<_, _>>()?
    };
    let missing = table
        .schema
        .fields()
        .iter()
        .find(|field| !field.is_nullable() && !columns.iter().any(|column| column.name() == field.name()));
    if let Some(missing) = missing {
        return Err(SqlProblem::new(Code(7027), format!("column '{}' may not be null", missing.name())));
    }
    let output = select(running, &insert.query, parsed).await?;
    if output.schema.fields().len() != columns.len() {
        let message = format!("{} values for the {} columns of '{name}'", output.schema.fields().len(), columns.len());
        return Err(problem(SqlError::new(Code(7027), message).at(parsed.location.clone())));
    }
    let schema = Arc::new(Schema::new(columns.iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>()));
    let mut encoder = JsonEncoder::new(schema.clone());
    let mut count = 0;
    for batch in output.batches {
        let arrays = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| cast(column, field.data_type()))
            .collect::<Result<Vec<ArrayRef>, _>>()
            .and_then(|arrays| RecordBatch::try_new(schema.clone(), arrays));
        let rows = arrays.map_err(|error| {
            SqlProblem::new(Code(7027), format!("the values do not fit '{name}': {error}")).with_kind(ProblemKind::Data)
        })?;
        for start in (0..rows.num_rows()).step_by(INSERT_ROWS) {
            let part = rows.slice(start, INSERT_ROWS.min(rows.num_rows() - start));
            let values = encoder.encode(&part).map_err(|error| SqlProblem::new(Code(7027), error.to_string()))?;
            count += values.len() as i64;
            append(&running.log, topic.as_str(), values, running.doors.clock.now_ms()).await?;
        }
    }
    let schema = Arc::new(Schema::new(vec![Field::new("rows", DataType::Int64, false)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![count]))]);
    Ok(SqlOutput { schema, batches: batch.into_iter().collect() })
}

fn show_names(running: &Running, show: Show) -> SqlOutput {
    match show {
        Show::Tables => relations(running),
        Show::Views => text_output("view", running.views.all().iter().map(|cell| cell.view.name.clone())),
        Show::Topics => text_output("topic", running.log.topics().iter().map(|topic| topic.name.to_string())),
        Show::Watermarks => {
            use rivermere_serve::Platform;
            let lines = running.status().watermarks.into_iter().map(|watermark| {
                format!(
                    "{}.{} {}",
                    watermark.table,
                    watermark.column,
                    watermark.watermark.unwrap_or_else(|| "-".into())
                )
            });
            text_output("watermark", lines)
        }
    }
}

/// What a SELECT can name, with its kind: tables over topics and over files, tables of the lake, views, and topics that no
/// table describes.
fn relations(running: &Running) -> SqlOutput {
    let mut kinds = BTreeMap::new();
    for topic in running.log.topics() {
        kinds.insert(topic.name.to_string(), "topic");
    }
    for (name, relation) in running.planner.read().relations() {
        let kind = match &relation.kind {
            RelationKind::Table(table) if table.is_bounded() => "file",
            RelationKind::View(_) => "view",
            RelationKind::Lake(_) => "lake table",
            _ => "table",
        };
        kinds.insert(name.clone(), kind);
    }
    for name in running.externals.read().keys() {
        kinds.insert(name.clone(), "lake table");
    }
    two_texts(["name", "kind"], kinds.iter().map(|(name, kind)| [name.as_str(), *kind]))
}

async fn describe(running: &Running, name: &str) -> Result<SqlOutput, SqlProblem> {
    let external = running.externals.read().get(name).cloned();
    let described = match external {
        Some(external) => {
            let table = running.lake.table(&external.place).await.map_err(lake_verbs::told)?;
            table.schema().await.map_err(lake_verbs::told)?
        }
        None => {
            let planner = running.planner.read();
            let Some(relation) = planner.relations().get(name) else {
                let mut problem =
                    SqlProblem::new(Code(3002), format!("'{name}' does not exist")).with_kind(ProblemKind::NotFound);
                problem.hint = suggestion(name, planner.relations().keys().map(String::as_str));
                return Err(problem);
            };
            relation.schema.clone()
        }
    };
    let schema = Arc::new(Schema::new(vec![
        Field::new("column", DataType::Utf8, false),
        Field::new("type", DataType::Utf8, false),
        Field::new("nullable", DataType::Boolean, false),
    ]));
    let fields = described.fields();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(fields.iter().map(|field| field.name()))),
        Arc::new(StringArray::from_iter_values(fields.iter().map(|field| field.data_type().to_string()))),
        Arc::new(arrow::array::BooleanArray::from_iter(fields.iter().map(|field| Some(field.is_nullable())))),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns);
    Ok(SqlOutput { schema, batches: batch.into_iter().collect() })
}

fn status(what: &str, name: &str) -> SqlOutput {
    two_texts(["status", "name"], [[what, name]])
}

/// Two columns of text as a result.
fn two_texts<'a>(names: [&str; 2], rows: impl IntoIterator<Item = [&'a str; 2]>) -> SqlOutput {
    let (first, second): (Vec<&str>, Vec<&str>) = rows.into_iter().map(|[first, second]| (first, second)).unzip();
    let schema = Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Utf8, false)).to_vec()));
    let column = |texts: Vec<&str>| Arc::new(StringArray::from(texts)) as ArrayRef;
    let batch = RecordBatch::try_new(schema.clone(), vec![column(first), column(second)]);
    SqlOutput { schema, batches: batch.into_iter().collect() }
}

/// The same text that a file's error has, without the code, which the answer carries by itself.
pub(super) fn problem(error: SqlError) -> SqlProblem {
    let kind = match error.code.0 {
        3001 => ProblemKind::Syntax,
        3002 => ProblemKind::NotFound,
        3005 => ProblemKind::Unsupported,
        3006 => ProblemKind::AlreadyExists,
        _ => ProblemKind::Invalid,
    };
    let code = error.code;
    let hint = error.hint.clone();
    let text = SqlError { hint: None, ..error }.to_string();
    let message = text.strip_prefix(&format!("{code}: ")).unwrap_or(&text).to_string();
    SqlProblem { kind, code, message, hint }
}

/// What DataFusion says of a statement, with its place and a suggestion.
fn explained(running: &Running, parsed: &Parsed, error: &DataFusionError) -> SqlProblem {
    let planner = running.planner.read();
    let topics: Vec<String> = running.log.topics().iter().map(|topic| topic.name.to_string()).collect();
    let externals = running.externals.read();
    let names = planner.relations().keys().chain(externals.keys()).chain(&topics).map(String::as_str);
    problem(parsed.explained(error, names))
}

pub(super) fn datafusion_problem(error: DataFusionError) -> SqlProblem {
    let text = error.strip_backtrace();
    let text = text.strip_prefix("Error during planning: ").unwrap_or(&text).to_string();
    SqlProblem::new(Code(3007), text)
}
