//! Questions to services that answer over HTTP, beside those that `object_store` asks.

use super::options::Limits;
use super::retry::Patience;
use bytes::Bytes;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequestBody, ReqwestConnector};
use rivermere_base::Rng;
use std::sync::Arc;

/// Longest answer: the metadata of one table.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// An answer, of whatever status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub(super) String);

impl From<HttpError> for NoAnswer {
    fn from(error: HttpError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        Self(text)
    }
}

/// A client, and how long it goes on asking.
pub(super) struct Asking {
    client: HttpClient,
    patience: Patience,
}

impl Asking {
    pub(super) fn new(limits: Limits, is_plain: bool, rng: Arc<dyn Rng>) -> Result<Self, object_store::Error> {
        let client = ReqwestConnector::default().connect(&limits.client().with_allow_http(is_plain))?;
        Ok(Self { client, patience: Patience::new(limits, rng) })
    }

    /// Asks once.
    pub(super) async fn once(&self, request: http::Request<HttpRequestBody>) -> Result<Answer, NoAnswer> {
        let too_long = format!("{} answers more than {MAX_ANSWER} bytes", request.uri());
        let response = self.client.execute(request).await?;
        let status = response.status().as_u16();
        let length =
            response.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > MAX_ANSWER) {
            return Err(NoAnswer(too_long));
        }
        let body = response.into_body().bytes().await?;
        if body.len() > MAX_ANSWER {
            return Err(NoAnswer(too_long));
        }
        Ok(Answer { status, body })
    }

    /// Asks until there is an answer that stands: not that of a service that is down, or has too much to do.
    pub(super) async fn repeated<F: Future<Output = Result<Answer, NoAnswer>>>(
        &self,
        may_pass: impl Fn(&Answer) -> bool,
        once: impl Fn() -> F,
    ) -> Result<Answer, NoAnswer> {
        let refused = |answer: &Answer| answer.status >= 500 || answer.status == 429 || may_pass(answer);
        let attempt = || async {
            match once().await {
                Ok(answer) if refused(&answer) => Err(Ok(answer)),
                Ok(answer) => Ok(answer),
                Err(error) => Err(Err(error)),
            }
        };
        match self.patience.repeat(|_| true, attempt).await {
            Ok(answer) | Err(Ok(answer)) => Ok(answer),
            Err(Err(error)) => Err(error),
        }
    }
}
