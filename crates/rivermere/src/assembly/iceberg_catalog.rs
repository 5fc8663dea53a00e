//! The Iceberg tables of the platform, as its REST catalog has them: those that have a name, and those that views are stored in.

use super::commands;
use super::platform::Running;
use rivermere_iceberg::{CommitRefused, NewIcebergTable};
use rivermere_serve::{CatalogAsk, CatalogRefusal, ProblemKind, SqlProblem};
use rivermere_sql::LakeFormat;
use rivermere_table::TableError;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a table is.
struct Listed {
    location: String,
    /// Whether its rows are a view's, and nobody else's to change.
    is_view: bool,
}

pub(super) async fn answer(running: Arc<Running>, ask: CatalogAsk) -> Result<Value, CatalogRefusal> {
    let tables = tables(&running);
    let found = |name: &str| {
        tables.get(name).ok_or_else(|| CatalogRefusal::NoTable(format!("there is no Iceberg table '{name}' here")))
    };
    match ask {
        CatalogAsk::Tables => Ok(json!(tables.keys().collect::<Vec<_>>())),
        CatalogAsk::Load(name) => {
            let table = running.lake.iceberg(&found(&name)?.location).await.map_err(|error| read(&error))?;
            table.load().await.map_err(|error| read(&error))
        }
        CatalogAsk::Create(request) => {
            let new = NewIcebergTable::asked_for(&request).map_err(refused)?;
            let name = new.name.clone().unwrap_or_default();
            make(&running, &name, new).await
        }
        CatalogAsk::Drop(name) => {
            if found(&name)?.is_view {
                return Err(CatalogRefusal::Forbidden(format!("'{name}' is a view, which a statement drops")));
            }
            commands::run(&running, &format!("DROP TABLE {}", quoted(&name, '"'))).await.map_err(told)?;
            Ok(json!({}))
        }
        CatalogAsk::Commit(name, request) => {
            if let Some(new) = NewIcebergTable::committed(&request).map_err(refused)? {
                return make(&running, &name, new).await;
            }
            let listed = found(&name)?;
            if listed.is_view {
                return Err(CatalogRefusal::Forbidden(format!("'{name}' is a view: its rows come from its query")));
            }
            let table = running.lake.iceberg(&listed.location).await.map_err(|error| read(&error))?;
            let committed = table.commit_request(&request).await;
            running.lakes.look();
            committed.map_err(refused)
        }
    }
}

/// Makes a table and gives it its name; of one that is only staged, tells what it would be.
async fn make(running: &Arc<Running>, name: &str, new: NewIcebergTable) -> Result<Value, CatalogRefusal> {
    if name.is_empty() || name.chars().any(|char| char.is_control() || "/\\.".contains(char)) {
        return Err(CatalogRefusal::Invalid(format!("'{name}' is no name of a table: give it letters, digits and _")));
    }
    let is_taken = running.externals.read().contains_key(name) || running.planner.read().relations().contains_key(name);
    if is_taken {
        return Err(CatalogRefusal::Exists(format!("there is something named '{name}'")));
    }
    // Where CREATE EXTERNAL TABLE would put it by the same text; a URL as the client gives it.
    let place = new.location.clone().unwrap_or_else(|| running.lake.whole(&format!("lake/{name}")));
    let location = running.lake.location_of(&place).map_err(|error| CatalogRefusal::Invalid(error.to_string()))?;
    if new.is_staged {
        return new.staged(&location).map_err(refused);
    }
    new.make(location).await.map_err(|error| match error {
        CommitRefused::Failed(message) => CatalogRefusal::Exists(message),
        error => refused(error),
    })?;
    let named =
        format!("CREATE EXTERNAL TABLE {} STORED AS ICEBERG LOCATION {}", quoted(name, '"'), quoted(&place, '\''));
    commands::run(running, &named).await.map_err(|mut problem| {
        problem.message = format!("the table was made at '{place}', and not named: {}; {named}", problem.message);
        told(problem)
    })?;
    let table = running.lake.iceberg(&place).await.map_err(|error| read(&error))?;
    table.load().await.map_err(|error| read(&error))
}

fn quoted(text: &str, quote: char) -> String {
    format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")))
}

fn told(problem: SqlProblem) -> CatalogRefusal {
    match problem.kind {
        ProblemKind::AlreadyExists => CatalogRefusal::Exists(problem.message),
        ProblemKind::NotFound => CatalogRefusal::NoTable(problem.message),
        ProblemKind::Internal => CatalogRefusal::Failed(problem.message),
        _ => CatalogRefusal::Invalid(problem.message),
    }
}

fn refused(refused: CommitRefused) -> CatalogRefusal {
    match refused {
        CommitRefused::Invalid(message) => CatalogRefusal::Invalid(message),
        CommitRefused::Failed(message) => CatalogRefusal::Conflict(message),
        CommitRefused::Table(error) if error.is_retryable() => CatalogRefusal::Unknown(error.to_string()),
        CommitRefused::Table(error) => CatalogRefusal::Invalid(error.to_string()),
    }
}

fn read(error: &TableError) -> CatalogRefusal {
    match error {
        TableError::Missing { .. } => CatalogRefusal::NoTable(error.to_string()),
        _ => CatalogRefusal::Failed(error.to_string()),
    }
}

fn tables(running: &Running) -> BTreeMap<String, Listed> {
    let externals = running.externals.read();
    let named = externals
        .values()
        .filter(|external| external.place.format == LakeFormat::Iceberg)
        .map(|external| (external.name.clone(), Listed { location: external.place.location.clone(), is_view: false }));
    let views = running.views.all();
    let stored = views.iter().filter_map(|cell| {
        let stored = cell.view.stored_as.as_ref().filter(|stored| stored.format == LakeFormat::Iceberg);
        stored.map(|_| (cell.view.name.clone(), Listed { location: running.lake.shown(&cell.view), is_view: true }))
    });
    named.chain(stored).collect()
}
