//! An upload in parts.

use super::super::percent::encoded;
use super::requests::{Failure, Request, Requests, generic};
use super::store::{Bucket, tag_of};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{Method, StatusCode};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use parking_lot::Mutex;
use serde::Deserialize;
use std::sync::Arc;

/// The service wants each part but the last to have at least this many bytes; what is put in smaller pieces is collected.
const LEAST_PART: usize = 10 << 20;

/// Most parts of one object.
const MAX_PARTS: usize = 10_000;

pub(super) struct Upload {
    requests: Requests,
    bucket: Arc<Bucket>,
    location: Path,
    id: String,
    /// Refused at the end if the object is there by then.
    create_only: bool,
    /// Not enough for a part yet.
    collected: BytesMut,
    /// Number of the next part, from 1.
    next: usize,
    /// Numbers and tags of what arrived.
    parts: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Upload {
    pub(super) async fn start(
        requests: Requests,
        bucket: Arc<Bucket>,
        location: &Path,
        create_only: bool,
    ) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Started {
            upload_id: String,
        }
        let told = |failure: Failure| failure.about(location.as_ref());
        let url = requests.url(&bucket.path("u")).await?;
        let request = Request::new(Method::POST, url).json(&serde_json::json!({ "object": location.as_ref() }));
        let (_, body) = requests.bytes(request).await.map_err(told)?;
        let Started { upload_id: id } = serde_json::from_slice(&body).map_err(generic)?;
        Ok(Self {
            requests,
            bucket,
            location: location.clone(),
            id,
            create_only,
            collected: BytesMut::new(),
            next: 1,
            parts: Arc::default(),
        })
    }

    async fn url(&self, query: &str) -> Result<String> {
        let path = format!("u/{}?uploadId={}{query}", encoded(self.location.as_ref()), encoded(&self.id));
        self.requests.url(&self.bucket.path(&path)).await
    }

    fn send_part(&mut self, bytes: Bytes) -> UploadPart {
        let number = self.next;
        self.next += 1;
        let (requests, bucket, location) = (self.requests.clone(), self.bucket.clone(), self.location.clone());
        let (id, parts) = (self.id.clone(), self.parts.clone());
        async move {
            if number > MAX_PARTS {
                return Err(generic(format!("'{location}' has more than {MAX_PARTS} parts: put it in larger ones")));
            }
            let query = format!("uploadId={}&uploadPartNum={number}", encoded(&id));
            let path = format!("u/{}?{query}", encoded(location.as_ref()));
            let url = requests.url(&bucket.path(&path)).await?;
            let request = Request::new(Method::PUT, url).body(PutPayload::from_bytes(bytes));
            let (headers, _) = requests.bytes(request).await.map_err(|failure| failure.about(location.as_ref()))?;
            let tag = tag_of(&headers).ok_or_else(|| generic("the service gave a part no tag"))?;
            parts.lock().push((number, tag));
            Ok(())
        }
        .boxed()
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload({})", self.location)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        for bytes in payload {
            self.collected.extend_from_slice(&bytes);
        }
        if self.collected.len() < LEAST_PART {
            return std::future::ready(Ok(())).boxed();
        }
        let bytes = self.collected.split().freeze();
        self.send_part(bytes)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if !self.collected.is_empty() || self.next == 1 {
            let bytes = self.collected.split().freeze();
            self.send_part(bytes).await?;
        }
        let mut parts = self.parts.lock().clone();
        parts.sort();
        if parts.len() + 1 != self.next {
            return Err(generic(format!("'{}' lacks parts: {} of {}", self.location, parts.len(), self.next - 1)));
        }
        let parts: Vec<_> =
            parts.iter().map(|(number, tag)| serde_json::json!({ "partNum": number, "etag": tag })).collect();
        let mut request = Request::new(Method::POST, self.url("").await?)
            .json(&serde_json::json!({ "partsToCommit": parts, "partsToExclude": [] }));
        if self.create_only {
            request = request.condition("if-none-match", "*");
        }
        let path = self.location.as_ref();
        let (headers, _) = self.requests.bytes(request).await.map_err(|failure| match failure.status() {
            Some(StatusCode::PRECONDITION_FAILED) => {
                Error::AlreadyExists { path: path.to_owned(), source: failure.into() }
            }
            _ => failure.about(path),
        })?;
        Ok(PutResult { e_tag: tag_of(&headers), version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let request = Request::new(Method::DELETE, self.url("").await?);
        self.requests.bytes(request).await.map_err(|failure| failure.about(self.location.as_ref()))?;
        Ok(())
    }
}
