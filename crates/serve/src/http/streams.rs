//! The event streams: `GET /v1/views/NAME/changes`, `/v1/status/stream` and `/v1/dashboards/stream`.
//!
//! What they send is made in `push/`; here they get their headers, their place among the open streams, and their end.

use super::App;
use super::views::{Parameters, no_such_view};
use crate::metrics::Open;
use crate::push::{ChangeStream, EventSource, Repeated};
use crate::{ChangeId, ServeError};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use tokio::sync::OwnedSemaphorePermit;

/// Where a browser says what it saw last when it connects again.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) async fn changes(
    State(app): State<App>,
    Path(view): Path<String>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Result<Response, ServeError> {
    let mut after: Option<ChangeId> = None;
    for (name, value) in parameters {
        match name.as_str() {
            "after" => after = Some(value.parse()?),
            _ => {
                let similar = crate::problem::similar(&name, ["after"]);
                return Err(ServeError::NoSuchParameter { name, view: "changes".into(), similar });
            }
        }
    }
    // The header is newer than the address, which stays the same when a browser connects again. A browser cannot drop
    // an id that is no id of ours, so such a one means the whole view.
    if let Some(header) = headers.get(LAST_EVENT_ID) {
        after = header.to_str().ok().and_then(|id| id.parse().ok());
    }
    let place = place(&app)?;
    let stream = ChangeStream::open(app.shared.clone(), &view, after)?
        .ok_or_else(|| no_such_view(&*app.shared.platform, &view))?;
    Ok(respond(app, place, stream))
}

pub(super) async fn status(State(app): State<App>) -> Result<Response, ServeError> {
    let place = place(&app)?;
    let stream = Repeated::status(app.shared.clone());
    Ok(respond(app, place, stream))
}

pub(super) async fn dashboards(State(app): State<App>) -> Result<Response, ServeError> {
    let place = place(&app)?;
    let stream = Repeated::dashboards(app.shared.clone());
    Ok(respond(app, place, stream))
}

fn place(app: &App) -> Result<OwnedSemaphorePermit, ServeError> {
    let limit = app.shared.limits.event_streams;
    app.shared.event_streams.clone().try_acquire_owned().map_err(|_| ServeError::Busy { what: "event streams", limit })
}

/// The events until the client goes away, the source ends or the process does.
fn respond(app: App, place: OwnedSemaphorePermit, source: impl EventSource) -> Response {
    let open = Open::new(app.shared.clone(), |counters| &counters.streams_open);
    let state = (app.shutdown, source, place, open);
    let events = futures::stream::unfold(state, |mut state| async move {
        let event = tokio::select! {
            biased;
            () = state.0.asked() => None,
            event = state.1.next() => event,
        };
        event.map(|event| (Ok::<_, Infallible>(event), state))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Asks a proxy between us and the browser not to wait for more.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
}
