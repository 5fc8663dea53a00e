//! A storage that breaks on purpose.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The write does not happen, and nothing works afterwards.
    CrashBefore,
    /// The write happens, but nobody hears of it, and nothing works afterwards.
    CrashAfter,
    /// The write happens, its answer is an error, and all works afterwards.
    LostAnswer,
    /// The write does not happen because the disk is full; later there is space.
    Full,
}

/// A store that breaks at its n-th write; what is written until then, and what is read, is that of another store.
///
/// A write is a put, the beginning of an upload in parts, or a copy; deletions go through.
#[derive(Debug)]
pub struct BreakingStore {
    inner: Arc<dyn ObjectStore>,
    writes_left: AtomicI64,
    failure: Failure,
    /// Once the store has broken: the read that fails too; negative for none.
    reads_left: AtomicI64,
}

impl BreakingStore {
    /// Lets `writes` of them through, and breaks at the next.
    #[must_use]
    pub fn new(inner: &Arc<dyn ObjectStore>, writes: i64, failure: Failure) -> Arc<Self> {
        Self::with_blind_read(inner, writes, failure, -1)
    }

    /// The same, and after it broke the read after `reads` others fails, too; none does when that is negative.
    #[must_use]
    pub fn with_blind_read(inner: &Arc<dyn ObjectStore>, writes: i64, failure: Failure, reads: i64) -> Arc<Self> {
        let (writes_left, reads_left) = (AtomicI64::new(writes), AtomicI64::new(reads));
        Arc::new(Self { inner: inner.clone(), writes_left, failure, reads_left })
    }

    pub fn has_broken(&self) -> bool {
        self.writes_left.load(Ordering::SeqCst) < 0
    }

    fn error(&self) -> Error {
        let kind = if self.failure == Failure::Full { io::ErrorKind::StorageFull } else { io::ErrorKind::Other };
        Error::Generic { store: "breaking", source: io::Error::from(kind).into() }
    }

    fn read(&self) -> Result<()> {
        let crashed = matches!(self.failure, Failure::CrashBefore | Failure::CrashAfter) && self.has_broken();
        let blind = self.has_broken() && self.reads_left.fetch_sub(1, Ordering::SeqCst) == 0;
        if crashed || blind { Err(self.error()) } else { Ok(()) }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        self.read()?;
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return write.await;
        }
        if matches!(self.failure, Failure::CrashAfter | Failure::LostAnswer) {
            write.await?;
        }
        Err(self.error())
    }
}

impl fmt::Display for BreakingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Breaking({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for BreakingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.write(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.write(self.inner.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.read() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => Box::pin(futures::stream::once(async { Err(error) })),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.write(self.inner.copy_opts(from, to, options)).await
    }
}
