//! The objects of a bucket.

use super::super::guarded::LARGE_BYTES;
use super::super::percent::encoded;
use super::requests::{Failure, Request, Requests, generic};
use super::upload::Upload;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, Method, StatusCode};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result,
};
use serde::Deserialize;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Objects on a page of a listing; the service's own limit.
const PAGE: usize = 1_000;

/// A bucket of a namespace.
pub(super) struct Bucket {
    path: String,
}

impl Bucket {
    /// The path of something in the bucket, with its query.
    pub(super) fn path(&self, inner: &str) -> String {
        format!("{}/{inner}", self.path)
    }

    fn object(&self, location: &Path) -> String {
        self.path(&format!("o/{}", encoded(location.as_ref())))
    }
}

#[derive(Clone)]
pub(super) struct OciStore {
    requests: Requests,
    bucket: Arc<Bucket>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    objects: Vec<Found>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_start_with: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    name: String,
    size: Option<u64>,
    etag: Option<String>,
    time_modified: Option<DateTime<Utc>>,
}

impl Found {
    fn meta(self) -> Result<ObjectMeta> {
        Ok(ObjectMeta {
            location: Path::parse(&self.name)?,
            last_modified: self.time_modified.unwrap_or_default(),
            size: self.size.unwrap_or_default(),
            e_tag: self.etag,
            version: None,
        })
    }
}

impl OciStore {
    pub(super) fn new(requests: Requests, namespace: &str, bucket: &str) -> Self {
        let path = format!("/n/{}/b/{}", encoded(namespace), encoded(bucket));
        Self { requests, bucket: Arc::new(Bucket { path }) }
    }

    async fn object(&self, method: Method, location: &Path) -> Result<Request> {
        Ok(Request::new(method, self.requests.url(&self.bucket.object(location)).await?))
    }

    /// One page of what is below a prefix, from a name on.
    async fn page(&self, prefix: &Path, start: Option<&str>, one_level: bool) -> Result<Page> {
        let mut query = format!("o?fields=name,size,etag,timeModified&limit={PAGE}");
        if !prefix.is_root() {
            query.push_str(&format!("&prefix={}", encoded(&format!("{prefix}/"))));
        }
        if let Some(start) = start {
            query.push_str(&format!("&start={}", encoded(start)));
        }
        if one_level {
            query.push_str("&delimiter=%2F");
        }
        let request = Request::new(Method::GET, self.requests.url(&self.bucket.path(&query)).await?);
        let (_, body) = self.requests.bytes(request).await.map_err(|failure| failure.about(prefix.as_ref()))?;
        serde_json::from_slice(&body).map_err(generic)
    }

    fn list_from(&self, prefix: Path, start: Option<String>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let first = VecDeque::from([start]);
        stream::try_unfold((store, prefix, first), |(store, prefix, mut waiting)| async move {
            let Some(start) = waiting.pop_front() else { return Ok(None) };
            let page = store.page(&prefix, start.as_deref(), false).await?;
            waiting.extend(page.next_start_with.map(Some));
            let objects = page.objects.into_iter().map(Found::meta);
            Ok::<_, Error>(Some((stream::iter(objects), (store, prefix, waiting))))
        })
        .try_flatten()
        .boxed()
    }

    async fn remove(&self, location: Path) -> Result<Path> {
        let request = self.object(Method::DELETE, &location).await?;
        self.requests.bytes(request).await.map_err(|failure| failure.about(location.as_ref()))?;
        Ok(location)
    }
}

/// The tag of a version of an object or a part.
pub(super) fn tag_of(headers: &HeaderMap) -> Option<String> {
    headers.get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Start, end and length of `bytes 2-4/10`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?, total.parse().ok()?))
}

impl fmt::Display for OciStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OCI{}", self.bucket.path)
    }
}

impl fmt::Debug for OciStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OciStore({})", self.bucket.path)
    }
}

#[async_trait]
impl ObjectStore for OciStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut request = self.object(Method::PUT, location).await?.body(payload);
        let path = || location.to_string();
        match &options.mode {
            PutMode::Overwrite => {}
            PutMode::Create => request = request.condition("if-none-match", "*"),
            PutMode::Update(version) => {
                let tag = version.e_tag.as_deref();
                let tag = tag.ok_or_else(|| generic("an update needs the tag of what it replaces"))?;
                request = request.condition("if-match", tag);
            }
        }
        let (headers, _) = self.requests.bytes(request).await.map_err(|failure| {
            match (&options.mode, failure.status()) {
                (PutMode::Create, Some(StatusCode::PRECONDITION_FAILED)) => {
                    Error::AlreadyExists { path: path(), source: failure.into() }
                }
                // What is gone is not the version that was meant.
                (PutMode::Update(_), Some(StatusCode::NOT_FOUND)) => {
                    Error::Precondition { path: path(), source: failure.into() }
                }
                _ => failure.about(location.as_ref()),
            }
        })?;
        Ok(PutResult { e_tag: tag_of(&headers), version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::start(self.requests.clone(), self.bucket.clone(), location, false).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let method = if options.head { Method::HEAD } else { Method::GET };
        let mut request = self.object(method, location).await?;
        if let Some(tag) = &options.if_match {
            request = request.header("if-match", tag);
        }
        if let Some(tag) = &options.if_none_match {
            request = request.header("if-none-match", tag);
        }
        if let Some(range) = options.range.as_ref().filter(|_| !options.head) {
            request = request.header("range", range.to_string());
        }
        let response = self.requests.send(request).await.map_err(|failure| failure.about(location.as_ref()))?;
        let (parts, body) = response.into_parts();
        let length = text(&parts.headers, "content-length").and_then(|length| length.parse().ok());
        let (start, end, total) = match text(&parts.headers, "content-range").and_then(content_range) {
            Some(range) => range,
            None => {
                let length = length.ok_or_else(|| generic("the service does not say how long the object is"))?;
                (0, length, length)
            }
        };
        let modified = text(&parts.headers, "last-modified").and_then(|text| DateTime::parse_from_rfc2822(text).ok());
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: modified.map(DateTime::<Utc>::from).unwrap_or_default(),
            size: total,
            e_tag: tag_of(&parts.headers),
            version: None,
        };
        options.check_preconditions(&meta)?;
        let payload = if options.head {
            stream::empty().boxed()
        } else {
            body.bytes_stream().map_err(|error| generic(Failure::Http(error))).boxed()
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(payload),
            meta,
            range: start..end,
            attributes: Attributes::default(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        crate::removal::each(self, locations, |store, location| async move { store.remove(location).await })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix.cloned().unwrap_or_default(), None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let after = offset.clone();
        self.list_from(prefix.cloned().unwrap_or_default(), Some(offset.to_string()))
            // The service begins with the name itself.
            .try_filter(move |found| std::future::ready(found.location > after))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let mut start = None;
        loop {
            let page = self.page(&prefix, start.as_deref(), true).await?;
            for found in page.prefixes {
                result.common_prefixes.push(Path::parse(found.trim_end_matches('/'))?);
            }
            for found in page.objects {
                result.objects.push(found.meta()?);
            }
            match page.next_start_with {
                Some(next) => start = Some(next),
                None => return Ok(result),
            }
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create_only = options.mode == CopyMode::Create;
        let found = self.get_opts(from, GetOptions::default()).await?;
        if found.meta.size <= LARGE_BYTES as u64 {
            let mode = if create_only { PutMode::Create } else { PutMode::Overwrite };
            let payload = PutPayload::from_bytes(found.bytes().await?);
            return self.put_opts(to, payload, mode.into()).await.map(drop);
        }
        let mut upload = Upload::start(self.requests.clone(), self.bucket.clone(), to, create_only).await?;
        let mut bytes = found.into_stream();
        let copied = async {
            while let Some(piece) = bytes.try_next().await? {
                upload.put_part(piece.into()).await?;
            }
            upload.complete().await
        };
        if let Err(error) = copied.await {
            // The reason is told; what stays behind is the bucket's to expire.
            let _ = upload.abort().await;
            return Err(error);
        }
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let create_only = options.target_mode == RenameTargetMode::Create;
        let mut body = serde_json::json!({ "sourceName": from.as_ref(), "newName": to.as_ref() });
        if create_only {
            body["newObjIfNoneMatchETag"] = "*".into();
        }
        let url = self.requests.url(&self.bucket.path("actions/renameObject")).await?;
        let request = Request::new(Method::POST, url).json(&body);
        let renamed = self.requests.bytes(request).await;
        renamed.map(drop).map_err(|failure| match failure.status() {
            Some(StatusCode::PRECONDITION_FAILED) if create_only => {
                Error::AlreadyExists { path: to.to_string(), source: failure.into() }
            }
            _ => failure.about(from.as_ref()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers_are_read() {
        assert_eq!(content_range("bytes 2-4/10"), Some((2, 5, 10)));
        for wrong in ["bytes */10", "2-4/10", "bytes 4-x/10", "bytes 1-18446744073709551615/1"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_one_segment() {
        assert_eq!(encoded("a b/ü%~_-."), "a%20b%2F%C3%BC%25~_-.");
    }
}
