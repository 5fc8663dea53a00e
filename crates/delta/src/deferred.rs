//! A store whose failed writes are told at the end.
//!
//! After a failed put the library's file writer aborts a buffer that is already closed; that panics, and although the
//! panic is caught, a trace is printed at every attempt on a full disk. So a data file's failed write is kept here and
//! the writer sees success; [`Deferred::outcome`] must be asked before a file is named in a commit.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

#[derive(Clone, Debug)]
pub(crate) struct Deferred {
    inner: Arc<dyn ObjectStore>,
    /// The first write that failed.
    failed: Arc<OnceLock<Arc<Error>>>,
}

impl Deferred {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, failed: Arc::default() }
    }

    /// The error of the first write that failed.
    pub(crate) fn outcome(&self) -> Result<(), Arc<Error>> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

fn keep(failed: &OnceLock<Arc<Error>>, error: Error) {
    // Only the first is of interest; later ones follow from it.
    let _ = failed.set(Arc::new(error));
}

const WRITTEN: PutResult = PutResult { e_tag: None, version: None };

impl fmt::Display for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Deferred {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.inner.put_opts(location, payload, options).await {
            Ok(result) => Ok(result),
            Err(error) => {
                keep(&self.failed, error);
                Ok(WRITTEN)
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(DeferredUpload { inner, failed: self.failed.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct DeferredUpload {
    inner: Box<dyn MultipartUpload>,
    failed: Arc<OnceLock<Arc<Error>>>,
}

#[async_trait]
impl MultipartUpload for DeferredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.put_part(data);
        let failed = self.failed.clone();
        Box::pin(async move {
            if let Err(error) = part.await {
                keep(&failed, error);
            }
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.failed.get().is_some() {
            // A file with a missing part must not appear; what is left of it is not worth a second error.
            let _ = self.inner.abort().await;
            return Ok(WRITTEN);
        }
        match self.inner.complete().await {
            Ok(result) => Ok(result),
            Err(error) => {
                keep(&self.failed, error);
                Ok(WRITTEN)
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
