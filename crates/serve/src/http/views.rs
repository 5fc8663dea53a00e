//! `GET /v1/views` and `GET /v1/views/NAME?limit=100&origin=JFK&order=-avg_delay&format=csv`.
//!
//! Every parameter that is not `limit`, `order` or `format` is a column that must equal its value; it may be given for
//! several columns. The answer's `rivermere-change-id` header names the moment of the snapshot: `GET
//! /v1/views/NAME/changes?after=ID` goes on from there.

use super::App;
use super::answer::{json_response, rows_response};
use super::negotiate;
use crate::columns::{Ordering, Selection, select};
use crate::problem::similar;
use crate::{Platform, ServeError};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use futures::StreamExt;

/// Parameters in their order; one that comes twice is there twice.
pub(super) type Parameters = Query<Vec<(String, String)>>;

pub(super) async fn list(State(app): State<App>) -> Response {
    json_response(&app.shared.platform.views())
}

pub(super) async fn read(
    State(app): State<App>,
    Path(view): Path<String>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Result<Response, ServeError> {
    let snapshot = app.shared.platform.snapshot(&view).ok_or_else(|| no_such_view(&*app.shared.platform, &view))?;
    let limits = &app.shared.limits;
    let mut selection = Selection { limit: limits.view_rows_default.min(limits.view_rows_max), ..Selection::default() };
    let mut format = None;
    for (name, value) in parameters {
        match name.as_str() {
            "limit" => selection.limit = limit(&value, limits.view_rows_max)?,
            "order" => selection.order.extend(Ordering::list(&value)),
            "format" => format = Some(value),
            _ => selection.equal.push((name, value)),
        }
    }
    let format = negotiate::format(format.as_deref(), &headers)?;
    let (schema, id) = (snapshot.schema.clone(), snapshot.id);
    // Filtering and sorting a large view takes a while, which a socket's thread does not have.
    let rows = tokio::task::spawn_blocking(move || select(&view, &snapshot, &selection))
        .await
        .map_err(|_| ServeError::Ending)??;
    let batches = futures::stream::iter(rows.into_iter().map(Ok)).boxed();
    let mut response = rows_response(&app, format, schema, batches).await?;
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("rivermere-change-id"), id);
    }
    Ok(response)
}

pub(super) fn no_such_view(platform: &dyn Platform, view: &str) -> ServeError {
    let views = platform.views();
    let similar = similar(view, views.iter().map(|view| view.name.as_str()));
    ServeError::NoSuchView { view: view.chars().take(200).collect(), similar }
}

fn limit(text: &str, most: usize) -> Result<usize, ServeError> {
    text.parse().ok().filter(|limit| *limit <= most).ok_or_else(|| ServeError::WrongValue {
        name: "limit".into(),
        value: text.chars().take(100).collect(),
        wanted: format!("whole number from 0 to {most}"),
    })
}
