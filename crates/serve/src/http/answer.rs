//! Answers: JSON values, errors, and rows that stream.

use super::App;
use crate::rows::{ROWS_PER_CHUNK, RowWriter};
use crate::{ProblemKind, RowFormat, ServeError};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes of rows that are made before the status is sent, so that most errors still get a status of their own.
const HELD_BACK_BYTES: usize = 64 * 1024;

impl ServeError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchFormat { .. } => StatusCode::NOT_ACCEPTABLE,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongContentType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ForeignHost { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::ForeignOrigin { .. } => StatusCode::FORBIDDEN,
            Self::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRows { .. } | Self::ViewTooLarge { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            other => match other.kind() {
                ProblemKind::Syntax | ProblemKind::Invalid | ProblemKind::Data => StatusCode::BAD_REQUEST,
                ProblemKind::NotFound => StatusCode::NOT_FOUND,
                ProblemKind::AlreadyExists => StatusCode::CONFLICT,
                ProblemKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
                ProblemKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                ProblemKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// `{"error": {"code": …, "message": …, "hint": …}}`; without a hint there is no such key.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut error = json!({"code": self.code(), "message": self.message()});
        if let (Some(hint), Some(object)) = (self.hint(), error.as_object_mut()) {
            object.insert("hint".into(), hint.into());
        }
        json!({ "error": error })
    }
}

impl IntoResponse for ServeError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), "{self}");
        }
        let mut response = json_response(&self.to_json());
        *response.status_mut() = status;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A value as JSON, never cached: it is already old.
pub(super) fn json_response<T: Serialize>(value: &T) -> Response {
    let text = match serde_json::to_vec(value) {
        Ok(text) => text,
        // Only a map with keys that are no strings fails, and no type of ours has one.
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, text).into_response()
}

/// Rows in a format, as a whole when they are few, else streamed. An error after the status was sent breaks the body
/// off, so that no client takes a part for the whole.
pub(super) async fn rows_response(
    app: &App,
    format: RowFormat,
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, ServeError>>,
) -> Result<Response, ServeError> {
    let mut writer = RowWriter::new(format, schema)?;
    let counters = app.shared.clone();
    let mut pieces = batches
        .flat_map(|batch| futures::stream::iter(cut(batch)))
        .map(Some)
        .chain(futures::stream::once(async { None }))
        .map(move |batch| match batch {
            Some(batch) => {
                let batch = batch?;
                counters.counters.rows_sent.fetch_add(batch.num_rows() as u64, Relaxed);
                writer.write(&batch)
            }
            None => writer.finish(),
        })
        .boxed();
    let mut held = BytesMut::new();
    let mut whole = true;
    while let Some(piece) = pieces.next().await {
        held.extend_from_slice(&piece?);
        if held.len() >= HELD_BACK_BYTES {
            whole = false;
            break;
        }
    }
    let held = held.freeze();
    let body = if whole {
        Body::from(held)
    } else {
        let rest = pieces.map(|piece| {
            piece.inspect_err(|error| tracing::warn!("an answer broke off: {error}")).map_err(std::io::Error::other)
        });
        Body::from_stream(futures::stream::once(async { Ok::<Bytes, std::io::Error>(held) }).chain(rest))
    };
    let headers =
        [(header::CONTENT_TYPE, format.content_type()), (header::CACHE_CONTROL, "no-store"), (header::VARY, "accept")];
    Ok((headers, body).into_response())
}

fn cut(batch: Result<RecordBatch, ServeError>) -> Vec<Result<RecordBatch, ServeError>> {
    match batch {
        Ok(batch) if batch.num_rows() > ROWS_PER_CHUNK => (0..batch.num_rows())
            .step_by(ROWS_PER_CHUNK)
            .map(|start| Ok(batch.slice(start, ROWS_PER_CHUNK.min(batch.num_rows() - start))))
            .collect(),
        other => vec![other],
    }
}
