//! The Iceberg tables of the platform, as its REST catalog has them: those that have a name, and those that views are stored in.

use super::platform::Running;
use rivermere_iceberg::CommitRefused;
use rivermere_serve::{CatalogAsk, CatalogRefusal};
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
        CatalogAsk::Commit(name, request) => {
            let listed = found(&name)?;
            if listed.is_view {
                return Err(CatalogRefusal::Forbidden(format!("'{name}' is a view: its rows come from its query")));
            }
            let table = running.lake.iceberg(&listed.location).await.map_err(|error| read(&error))?;
            let committed = table.commit_request(&request).await;
            running.lakes.look();
            committed.map_err(|refused| match refused {
                CommitRefused::Invalid(message) => CatalogRefusal::Invalid(message),
                CommitRefused::Failed(message) => CatalogRefusal::Conflict(message),
                CommitRefused::Table(error) if error.is_retryable() => CatalogRefusal::Unknown(error.to_string()),
                CommitRefused::Table(error) => CatalogRefusal::Invalid(error.to_string()),
            })
        }
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
