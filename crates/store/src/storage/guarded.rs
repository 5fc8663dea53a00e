//! What all storages over a network have in common: a limit of connections, parts for large objects, and no word about
//! credentials.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::limit::LimitStore;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    WriteMultipart,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A put of more than this is sent in parts.
pub(super) const LARGE_BYTES: usize = 32 << 20;

/// One part: S3 wants at least 5 MiB, OCI 10 MiB, and both at most 10,000 of them.
const PART_BYTES: usize = 10 << 20;

/// Parts of one object that are sent at a time.
const PARALLEL_PARTS: usize = 4;

/// A store over a network.
pub(super) struct Guarded {
    inner: LimitStore<Arc<dyn ObjectStore>>,
    shown: Arc<str>,
}

impl Guarded {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, connections: usize, shown: Arc<str>) -> Self {
        Self { inner: LimitStore::new(inner, connections), shown }
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.shown)
    }
}

#[async_trait]
impl ObjectStore for Guarded {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        // A condition is one request's: an upload in parts has none in this contract.
        if payload.content_length() <= LARGE_BYTES || options.mode != PutMode::Overwrite {
            return self.inner.put_opts(location, payload, options).await;
        }
        let PutOptions { mode: _, tags, attributes, extensions } = options;
        let upload = PutMultipartOptions { tags, attributes, extensions };
        let upload = self.inner.put_multipart_opts(location, upload).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        for bytes in payload {
            let mut rest = bytes;
            while !rest.is_empty() {
                writer.wait_for_capacity(PARALLEL_PARTS).await?;
                writer.put(rest.split_to(rest.len().min(PART_BYTES)));
            }
        }
        writer.finish().await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(GetRange::Suffix(length)) = options.range else {
            return self.inner.get_opts(location, options).await;
        };
        match self.inner.get_opts(location, options.clone()).await {
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => {}
            done => return done,
        }
        // Azure knows no range from the end: ask how long the object is, and read that version of it.
        let head = self.inner.head(location).await?;
        options.check_preconditions(&head)?;
        let range = (length < head.size).then(|| GetRange::Offset(head.size - length));
        self.inner.get_opts(location, GetOptions { range, if_match: head.e_tag, ..options }).await
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

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        // Azurite takes the offset and ignores it.
        let found = self.inner.list_with_offset(prefix, offset);
        let offset = offset.clone();
        found.try_filter(move |found| std::future::ready(found.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
