//! `GET /v1/status`, `/v1/dashboards`, `/metrics`, `/healthz` and `/readyz`.

use super::App;
use super::answer::json_response;
use crate::{RunState, metrics as prometheus};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

pub(super) async fn status(State(app): State<App>) -> Response {
    json_response(&app.shared.platform.status())
}

pub(super) async fn dashboards(State(app): State<App>) -> Response {
    json_response(&app.shared.platform.dashboards())
}

pub(super) async fn metrics(State(app): State<App>) -> Response {
    let shared = &app.shared;
    let page = prometheus::page(&shared.platform.status(), &shared.counters, shared.pool.running());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

/// The process answers.
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// The pipeline answers for all views.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let status = app.shared.platform.status();
    if status.state == RunState::Running {
        return "ready\n".into_response();
    }
    let state = match status.state {
        RunState::Starting => "starting",
        RunState::Stopping => "stopping",
        RunState::Failed | RunState::Running => "failed",
    };
    let text = status.message.map_or(format!("{state}\n"), |message| format!("{state}: {message}\n"));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
