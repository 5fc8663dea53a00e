//! Requests to the service: signed, repeated when that may help, and their failures as errors of a store.

use super::super::retry::Patience;
use super::identity::Identity;
use super::key::SigningKey;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderMap, Method, StatusCode};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, ReqwestConnector,
};
use object_store::{ClientOptions, Error, PutPayload, Result};
use rivermere_base::Clock;
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The name of this store in errors.
const STORE: &str = "OCI Object Storage";

/// Longest text of the service that is told.
const MAX_MESSAGE: usize = 500;

pub(super) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

/// A request that can be made more than once.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: PutPayload,
    /// A body of JSON is signed, one of an object is not.
    is_json: bool,
    /// Made twice it has the effect of once.
    repeatable: bool,
}

impl Request {
    /// A GET, HEAD, PUT or DELETE may be repeated whatever happened, a POST only if it did not arrive.
    pub(super) fn new(method: Method, url: String) -> Self {
        let repeatable = method != Method::POST;
        Self { method, url, headers: Vec::new(), body: PutPayload::default(), is_json: false, repeatable }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a condition: made twice, the second would be told that the first has changed what it asked for.
    pub(super) fn condition(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.repeatable = false;
        self.header(name, value)
    }

    pub(super) fn body(mut self, body: PutPayload) -> Self {
        self.body = body;
        self
    }

    pub(super) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self.is_json = true;
        self
    }
}

/// What went wrong with one attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{status} {code}: {message}")]
    Status { status: StatusCode, code: String, message: String },
    #[error(transparent)]
    Http(HttpError),
    #[error(transparent)]
    Before(Error),
}

impl Failure {
    fn may_pass(&self, repeatable: bool) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
                    || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT)
            }
            Self::Http(error) => match error.kind() {
                HttpErrorKind::Connect => true,
                HttpErrorKind::Request | HttpErrorKind::Timeout | HttpErrorKind::Interrupted => repeatable,
                _ => false,
            },
            Self::Before(_) => false,
        }
    }

    /// As an error about an object.
    pub(super) fn about(self, path: &str) -> Error {
        let path = path.to_owned();
        let Self::Status { status, .. } = &self else {
            return match self {
                Self::Before(error) => error,
                failure => generic(failure),
            };
        };
        match *status {
            StatusCode::NOT_FOUND => Error::NotFound { path, source: self.into() },
            StatusCode::NOT_MODIFIED => Error::NotModified { path, source: self.into() },
            StatusCode::PRECONDITION_FAILED => Error::Precondition { path, source: self.into() },
            StatusCode::UNAUTHORIZED => Error::Unauthenticated { path, source: self.into() },
            StatusCode::FORBIDDEN => Error::PermissionDenied { path, source: self.into() },
            _ => generic(self),
        }
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A client with its patience.
#[derive(Clone)]
pub(super) struct Http {
    client: HttpClient,
    patience: Patience,
}

impl Http {
    pub(super) fn new(options: ClientOptions, patience: Patience) -> Result<Self> {
        Ok(Self { client: ReqwestConnector::default().connect(&options)?, patience })
    }

    /// The answer to a request that is not signed, as text.
    pub(super) async fn text(&self, request: Request) -> Result<String> {
        let repeatable = request.repeatable;
        let attempt = || async {
            let response = self.once(&request, None, "").await?;
            response.into_body().bytes().await.map_err(Failure::Http)
        };
        let bytes = self.patience.repeat(|failure: &Failure| failure.may_pass(repeatable), attempt).await;
        let bytes = bytes.map_err(|failure| failure.about(&request.url))?;
        String::from_utf8(bytes.into()).map_err(generic)
    }

    /// One attempt; a status that is no success is a failure.
    async fn once(&self, request: &Request, key: Option<&SigningKey>, date: &str) -> Result<HttpResponse, Failure> {
        let built = build(request, key, date).map_err(|problem| Failure::Before(generic(problem)))?;
        let response = self.client.execute(built).await.map_err(Failure::Http)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        #[derive(Deserialize)]
        struct Told {
            code: String,
            message: String,
        }
        let body = response.into_body().bytes().await.unwrap_or_default();
        let (code, mut message) = match serde_json::from_slice::<Told>(&body) {
            Ok(Told { code, message }) => (code, message),
            Err(_) => (String::new(), String::from_utf8_lossy(&body).into_owned()),
        };
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(end);
        }
        Err(Failure::Status { status, code, message })
    }
}

/// Signs and sends a request outside the object service, and answers the body.
pub(super) async fn send_signed(
    http: &Http,
    key: &SigningKey,
    clock: &dyn Clock,
    request: Request,
    repeatable: bool,
) -> Result<Bytes> {
    let attempt = || async {
        let response = http.once(&request, Some(key), &http_date(clock)).await?;
        response.into_body().bytes().await.map_err(Failure::Http)
    };
    let bytes = http.patience.repeat(|failure: &Failure| failure.may_pass(repeatable), attempt).await;
    bytes.map_err(|failure| failure.about(&request.url))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn http_date(clock: &dyn Clock) -> String {
    let now = DateTime::from_timestamp_millis(clock.now_ms()).unwrap_or_default();
    now.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn build(request: &Request, key: Option<&SigningKey>, date: &str) -> Result<HttpRequest, String> {
    let wrong = |error: http::Error| error.to_string();
    let mut builder = http::Request::builder().method(request.method.clone()).uri(&request.url);
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    if let Some(key) = key {
        let uri: http::Uri = request.url.parse().map_err(|_| "the URL cannot be used".to_owned())?;
        let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut signed = vec![
            ("date", date.to_owned()),
            ("(request-target)", format!("{} {target}", request.method.as_str().to_ascii_lowercase())),
            ("host", authority),
        ];
        if request.is_json {
            let body: Vec<u8> = request.body.iter().flatten().copied().collect();
            signed.push(("content-length", body.len().to_string()));
            signed.push(("content-type", "application/json".to_owned()));
            signed.push(("x-content-sha256", BASE64_STANDARD.encode(digest(&SHA256, &body))));
        }
        builder = builder.header("authorization", key.authorization(&signed)?);
        // The client writes host and length itself.
        for (name, value) in signed.into_iter().filter(|(name, _)| !matches!(*name, "(request-target)" | "host")) {
            builder = builder.header(name, value);
        }
    }
    if matches!(request.method, Method::PUT) && !request.is_json {
        builder = builder.header("content-length", request.body.content_length().to_string());
        builder = builder.header("content-type", "application/octet-stream");
    }
    // An empty payload would be sent in chunks, of which the service takes none.
    let is_empty = request.body.content_length() == 0;
    let body = if is_empty { HttpRequestBody::empty() } else { HttpRequestBody::from(request.body.clone()) };
    builder.body(body).map_err(wrong)
}

/// Where the service is.
pub(super) enum Place {
    Endpoint(String),
    /// In the region of the instance, once that is known.
    OfInstance,
}

/// The object service, asked by somebody.
#[derive(Clone)]
pub(super) struct Requests(Arc<Inner>);

struct Inner {
    http: Http,
    identity: Identity,
    clock: Arc<dyn Clock>,
    endpoint: OnceCell<String>,
}

impl Requests {
    pub(super) fn new(http: Http, place: Place, identity: Identity, clock: Arc<dyn Clock>) -> Self {
        let endpoint = match place {
            Place::Endpoint(endpoint) => OnceCell::new_with(Some(endpoint)),
            Place::OfInstance => OnceCell::new(),
        };
        Self(Arc::new(Inner { http, identity, clock, endpoint }))
    }

    /// The URL of a path of the service, which begins with a slash.
    pub(super) async fn url(&self, path: &str) -> Result<String> {
        let endpoint = self.0.endpoint.get_or_try_init(|| self.0.identity.endpoint()).await?;
        Ok(format!("{endpoint}{path}"))
    }

    /// Sends a request until it succeeds, fails for good, or patience ends. The body of the answer is still to be read.
    pub(super) async fn send(&self, request: Request) -> Result<HttpResponse, Failure> {
        let Inner { http, identity, clock, .. } = self.0.as_ref();
        let repeatable = request.repeatable;
        let attempt = || async {
            let key = identity.key().await.map_err(Failure::Before)?;
            let outcome = http.once(&request, Some(&key), &http_date(clock.as_ref())).await;
            match outcome {
                // A token may have been withdrawn before its time.
                Err(Failure::Status { status: StatusCode::UNAUTHORIZED, .. }) if identity.forget().await => {
                    let key = identity.key().await.map_err(Failure::Before)?;
                    http.once(&request, Some(&key), &http_date(clock.as_ref())).await
                }
                outcome => outcome,
            }
        };
        http.patience.repeat(|failure: &Failure| failure.may_pass(repeatable), attempt).await
    }

    /// Sends a request and reads the answer.
    pub(super) async fn bytes(&self, request: Request) -> Result<(HeaderMap, Bytes), Failure> {
        let (parts, body) = self.send(request).await?.into_parts();
        Ok((parts.headers, body.bytes().await.map_err(Failure::Http)?))
    }
}
