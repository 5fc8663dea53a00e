//! `/iceberg/v1/…`: the Iceberg tables of the platform as a REST catalog.
//!
//! Specification: Apache Iceberg's `rest-catalog-open-api.yaml`. There is one namespace, `public`. Tables are listed, loaded, made,
//! committed to, and dropped, after which their files are there still. Errors are `{"error": {"message": …, "type": …, "code": …}}`.

use super::App;
use super::topics::read_body;
use crate::platform::{CatalogAsk, CatalogRefusal};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

/// The namespace that all tables are in.
const NAMESPACE: &str = "public";

/// What a client may ask for.
const ENDPOINTS: [&str; 10] = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
];

pub(super) async fn config() -> Json<Value> {
    Json(json!({ "defaults": {}, "overrides": {}, "endpoints": ENDPOINTS }))
}

pub(super) async fn namespaces() -> Json<Value> {
    Json(json!({ "namespaces": [[NAMESPACE]] }))
}

pub(super) async fn namespace(Path(name): Path<String>) -> Response {
    match known(&name) {
        Ok(()) => Json(json!({ "namespace": [NAMESPACE], "properties": {} })).into_response(),
        Err(error) => error.into_response(),
    }
}

pub(super) async fn tables(State(app): State<App>, Path(name): Path<String>) -> Response {
    let listed = async {
        known(&name)?;
        app.shared.platform.iceberg(CatalogAsk::Tables).await
    };
    match listed.await {
        Ok(Value::Array(names)) => {
            let identifier = |name: Value| json!({ "namespace": [NAMESPACE], "name": name });
            Json(json!({ "identifiers": names.into_iter().map(identifier).collect::<Vec<_>>() })).into_response()
        }
        Ok(other) => Json(other).into_response(),
        Err(error) => error.into_response(),
    }
}

pub(super) async fn load(State(app): State<App>, Path((namespace, table)): Path<(String, String)>) -> Response {
    answer(&app, &namespace, CatalogAsk::Load(table)).await
}

pub(super) async fn exists(State(app): State<App>, Path((namespace, table)): Path<(String, String)>) -> Response {
    let found = answer(&app, &namespace, CatalogAsk::Load(table)).await;
    match found.status() {
        StatusCode::OK => StatusCode::NO_CONTENT.into_response(),
        status => status.into_response(),
    }
}

pub(super) async fn commit(
    State(app): State<App>,
    Path((namespace, table)): Path<(String, String)>,
    body: Body,
) -> Response {
    match read_body(&app, body).await {
        Ok(body) => answer(&app, &namespace, CatalogAsk::Commit(table, body)).await,
        Err(error) => error.into_response(),
    }
}

pub(super) async fn create(State(app): State<App>, Path(namespace): Path<String>, body: Body) -> Response {
    match read_body(&app, body).await {
        Ok(body) => answer(&app, &namespace, CatalogAsk::Create(body)).await,
        Err(error) => error.into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct Dropping {
    /// `true` or `false`; Python writes it with a capital.
    #[serde(rename = "purgeRequested", default)]
    purge: String,
}

pub(super) async fn drop_table(
    State(app): State<App>,
    Path((namespace, table)): Path<(String, String)>,
    Query(Dropping { purge }): Query<Dropping>,
) -> Response {
    if purge.eq_ignore_ascii_case("true") {
        let message =
            format!("the files of a dropped table stay here: drop '{table}' without PURGE, and remove its folder");
        return CatalogRefusal::Invalid(message).into_response();
    }
    let dropped = answer(&app, &namespace, CatalogAsk::Drop(table)).await;
    match dropped.status() {
        StatusCode::OK => StatusCode::NO_CONTENT.into_response(),
        _ => dropped,
    }
}

/// Clients make the namespace of a table, whether or not it is there.
pub(super) async fn make_namespace(body: Json<Value>) -> Response {
    match body["namespace"] == json!([NAMESPACE]) {
        true => {
            let message = format!("the namespace '{NAMESPACE}' is there");
            let error = json!({ "error": { "message": message, "type": "AlreadyExistsException", "code": 409 } });
            (StatusCode::CONFLICT, Json(error)).into_response()
        }
        false => CatalogRefusal::Invalid(format!("there is one namespace, '{NAMESPACE}'")).into_response(),
    }
}

/// Clients report what they have scanned and written; nobody here asks.
pub(super) async fn metrics() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn answer(app: &App, namespace: &str, ask: CatalogAsk) -> Response {
    let answered = async {
        known(namespace)?;
        // Once begun, a commit is not cut off by a client that goes away.
        let asked = tokio::spawn(app.shared.platform.iceberg(ask));
        asked.await.unwrap_or_else(|_| Err(CatalogRefusal::Failed("the platform is ending".into())))
    };
    match answered.await {
        Ok(value) => Json(value).into_response(),
        Err(error) => error.into_response(),
    }
}

fn known(namespace: &str) -> Result<(), CatalogRefusal> {
    match namespace == NAMESPACE {
        true => Ok(()),
        false => {
            Err(CatalogRefusal::NoNamespace(format!("there is one namespace, '{NAMESPACE}', and not '{namespace}'")))
        }
    }
}

impl IntoResponse for CatalogRefusal {
    fn into_response(self) -> Response {
        let (status, kind, message) = match self {
            Self::NoNamespace(message) => (StatusCode::NOT_FOUND, "NoSuchNamespaceException", message),
            Self::NoTable(message) => (StatusCode::NOT_FOUND, "NoSuchTableException", message),
            Self::Exists(message) => (StatusCode::CONFLICT, "AlreadyExistsException", message),
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, "BadRequestException", message),
            Self::Forbidden(message) => (StatusCode::FORBIDDEN, "ForbiddenException", message),
            Self::Conflict(message) => (StatusCode::CONFLICT, "CommitFailedException", message),
            Self::Unknown(message) => (StatusCode::INTERNAL_SERVER_ERROR, "CommitStateUnknownException", message),
            Self::Failed(message) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException", message),
        };
        let error = json!({ "error": { "message": message, "type": kind, "code": status.as_u16() } });
        (status, Json(error)).into_response()
    }
}
