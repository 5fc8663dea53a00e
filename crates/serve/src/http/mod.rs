//! HTTP/1.1: the `/v1/…` resources, metrics, health and the embedded pages on one listener.
//!
//! | resource | file |
//! |---|---|
//! | `GET /v1/views`, `GET /v1/views/NAME` | [`views`] |
//! | `GET /v1/views/NAME/changes`, `GET /v1/status/stream`, `GET /v1/dashboards/stream` | [`streams`], `push/` |
//! | `POST /v1/topics/NAME/records` | [`topics`] |
//! | `POST /v1/sql` | [`sql`] |
//! | `/iceberg/v1/…`, a REST catalog | [`iceberg`] |
//! | `GET /v1/status`, `GET /v1/dashboards`, `/metrics`, `/healthz`, `/readyz` | [`status`] |
//! | everything else | `pages` |
//!
//! Errors are `{"error": {"code": …, "message": …, "hint": …}}` with a fitting status. Who may ask at all is decided in
//! [`safety`], before any handler.

mod answer;
mod connections;
mod iceberg;
mod negotiate;
mod safety;
mod sql;
mod status;
mod streams;
mod topics;
mod views;

use crate::endpoint::{Shared, require_loopback};
use crate::{ServeError, Shutdown, pages};
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use connections::LimitedListener;
use std::sync::Arc;
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;

/// What every handler gets.
#[derive(Clone)]
pub(crate) struct App {
    pub shared: Arc<Shared>,
    pub shutdown: Shutdown,
}

pub(crate) fn router(shared: Arc<Shared>, shutdown: Shutdown) -> Router {
    let app = App { shared, shutdown };
    let pages = Router::new().fallback(page).layer(CompressionLayer::new().gzip(true));
    Router::new()
        .route("/v1/views", get(views::list))
        .route("/v1/views/{name}", get(views::read))
        .route("/v1/views/{name}/changes", get(streams::changes))
        .route("/v1/topics/{name}/records", post(topics::append))
        .route("/v1/sql", post(sql::run))
        .route("/v1/status", get(status::status))
        .route("/v1/status/stream", get(streams::status))
        .route("/v1/dashboards", get(status::dashboards))
        .route("/v1/dashboards/stream", get(streams::dashboards))
        .route("/iceberg/v1/config", get(iceberg::config))
        .route("/iceberg/v1/namespaces", get(iceberg::namespaces).post(iceberg::make_namespace))
        .route("/iceberg/v1/namespaces/{namespace}", get(iceberg::namespace))
        .route("/iceberg/v1/namespaces/{namespace}/tables", get(iceberg::tables).post(iceberg::create))
        .route(
            "/iceberg/v1/namespaces/{namespace}/tables/{table}",
            get(iceberg::load).head(iceberg::exists).post(iceberg::commit).delete(iceberg::drop_table),
        )
        .route("/iceberg/v1/namespaces/{namespace}/tables/{table}/metrics", post(iceberg::metrics))
        .route("/metrics", get(status::metrics))
        .route("/healthz", get(status::healthy))
        .route("/readyz", get(status::ready))
        .method_not_allowed_fallback(wrong_method)
        .fallback_service(pages)
        .layer(from_fn(safety::check))
        .layer(from_fn_with_state(app.clone(), count))
        .with_state(app)
}

/// Answers until the end is asked for; requests that are open then get the grace of the limits.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, shutdown: Shutdown) -> Result<(), ServeError> {
    require_loopback(&listener)?;
    let grace = shared.limits.shutdown_grace;
    let listener = LimitedListener::new(listener, shared.limits.http_connections);
    let asked = shutdown.clone();
    let server = axum::serve(listener, router(shared, shutdown.clone()))
        .with_graceful_shutdown(async move { asked.asked().await });
    let overdue = async move {
        shutdown.asked().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = server => served.map_err(ServeError::Listener),
        () = overdue => Ok(()),
    }
}

async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let path = uri.path().to_owned();
        return match pages::page(&path, &HeaderMap::new()) {
            Some(_) => ServeError::WrongMethod { method: method.to_string(), path }.into_response(),
            None => ServeError::NoSuchPath { path }.into_response(),
        };
    }
    let Some(page) = pages::page(uri.path(), &headers) else {
        return ServeError::NoSuchPath { path: uri.path().chars().take(200).collect() }.into_response();
    };
    if method == Method::HEAD { page.map(|_| Body::empty()) } else { page }
}

async fn wrong_method(method: Method, uri: Uri) -> ServeError {
    ServeError::WrongMethod { method: method.to_string(), path: uri.path().to_owned() }
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("page", MatchedPath::as_str);
    app.shared.counters.answered(route, response.status().as_u16());
    response
}
