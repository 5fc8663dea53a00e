//! `POST /v1/sql`: one statement, as `{"sql": "…"}` or as plain text; its rows in the wanted format.
//!
//! `text/plain` is a type that a foreign page may send without asking; `safety` refuses it by its origin.

use super::App;
use super::answer::rows_response;
use super::negotiate;
use super::topics::{content_type, read_body};
use super::views::Parameters;
use crate::queries::{Rows, run_text};
use crate::{RowFormat, ServeError};
use arrow::array::RecordBatch;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    sql: String,
}

pub(super) async fn run(
    State(app): State<App>,
    Query(parameters): Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ServeError> {
    let format = wanted_format(&parameters, &headers)?;
    let is_json = match content_type(&headers).as_str() {
        "application/json" => true,
        "text/plain" | "application/sql" => false,
        other => {
            let found = other.chars().take(100).collect();
            return Err(ServeError::WrongContentType { found, wanted: "application/json" });
        }
    };
    let body = read_body(&app, body).await?;
    let text =
        if is_json { serde_json::from_slice::<Statement>(&body).map_err(wrong_json)?.sql } else { plain(&body)? };
    let limits = &app.shared.limits;
    let rows = run_text(&app.shared.pool, app.shared.platform.clone(), text, limits.statement_timeout).await?;
    let schema = rows.schema.clone();
    rows_response(&app, format, schema, bounded(rows, limits.sql_rows)).await
}

fn wanted_format(parameters: &[(String, String)], headers: &HeaderMap) -> Result<RowFormat, ServeError> {
    let mut format = None;
    for (name, value) in parameters {
        if name != "format" {
            let similar = crate::problem::similar(name, ["format"]);
            return Err(ServeError::NoSuchParameter { name: name.clone(), view: "/v1/sql".into(), similar });
        }
        format = Some(value.as_str());
    }
    negotiate::format(format, headers)
}

fn plain(body: &[u8]) -> Result<String, ServeError> {
    let reason = |_| ServeError::WrongBody { line: 1, column: 1, reason: "it is not UTF-8 text".into() };
    std::str::from_utf8(body).map(str::to_owned).map_err(reason)
}

pub(super) fn wrong_json(error: serde_json::Error) -> ServeError {
    let text = error.to_string();
    // The place is told apart from the reason.
    let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
    ServeError::WrongBody { line: error.line(), column: error.column(), reason }
}

/// The rows, or an error in their midst when there are too many.
fn bounded(rows: Rows, limit: usize) -> BoxStream<'static, Result<RecordBatch, ServeError>> {
    rows.into_stream()
        .scan(0_usize, move |seen, batch| {
            let batch = batch.and_then(|batch| {
                *seen = seen.saturating_add(batch.num_rows());
                if *seen > limit { Err(ServeError::TooManyRows { limit }) } else { Ok(batch) }
            });
            futures::future::ready(Some(batch))
        })
        .boxed()
}
