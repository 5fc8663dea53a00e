//! An object store over a [`Disk`]: tables are written through it to the real and to the simulated disk alike.
//!
//! An object is a plain file under the root, and its path is the file's path as it stands (`day=a%20b` is a folder of
//! that name), as with `object_store`'s `LocalFileSystem`: whoever reads the folder with another tool finds the same
//! objects. What this store adds is durability and conditions: a put, a finished upload, a copy and a rename are durable
//! when they return, `Create` never replaces, and `Update` compares the tag of what it replaces. A removal is not synced;
//! after a power loss a removed object may be back.
//!
//! Objects are written beside their place under a name that ends in `#` and digits, which listings hide and addresses
//! refuse. `Update` is safe among all stores of one process; between processes only `Create` is.
//!
//! Tags are made of modification time and length; two versions of an object never have the same one, because a version
//! waits for the clock to tick when it would.

mod list;
mod location;
mod read;
mod upload;
mod write;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use location::Root;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};
use rivermere_base::Disk;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use write::Staged;

/// An `object_store` whose objects are the files of a folder. Clones are the same store.
#[derive(Clone, Debug)]
pub struct DiskStore {
    root: Arc<Root>,
}

impl DiskStore {
    /// The objects under `folder`, which is made with the first of them.
    pub fn new(disk: Arc<dyn Disk>, folder: impl Into<PathBuf>) -> Self {
        Self { root: Arc::new(Root { disk, folder: folder.into() }) }
    }

    /// Where an object is.
    ///
    /// # Errors
    /// When the path is empty or that of a file being written.
    pub fn path_of(&self, location: &Path) -> Result<PathBuf> {
        self.root.file(location)
    }

    fn refuse_attributes(&self, are_none: bool, operation: &str) -> Result<()> {
        if are_none {
            return Ok(());
        }
        Err(Error::NotImplemented { operation: format!("{operation} with attributes"), implementer: self.to_string() })
    }

    /// Runs blocking work on the disk away from the async workers.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Root) -> Result<T> + Send + 'static) -> Result<T> {
        let root = self.root.clone();
        blocking(move || work(&root)).await
    }
}

/// Runs blocking work on Tokio's blocking threads; in place when there is no runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

impl std::fmt::Display for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskStore({})", self.root.folder.display())
    }
}

#[async_trait]
impl ObjectStore for DiskStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.refuse_attributes(options.attributes.is_empty(), "put")?;
        let location = location.clone();
        self.blocking(move |root| {
            let staged = Staged::create(root, &location)?;
            staged.write_synced(&payload)?;
            staged.publish(&options.mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.refuse_attributes(options.attributes.is_empty(), "put_multipart")?;
        let location = location.clone();
        let staged = self.blocking(move |root| Staged::create(root, &location)).await?;
        Ok(Box::new(upload::Upload::new(staged)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let location = location.clone();
        self.blocking(move |root| read::get(root, location, &options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (location, ranges) = (location.clone(), ranges.to_vec());
        self.blocking(move |root| read::get_ranges(root, &location, &ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        crate::removal::each(self, locations, |store, location| async move {
            store.blocking(move |root| write::remove(root, location)).await
        })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        list::all(self.root.clone(), prefix.cloned().unwrap_or_default())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.blocking(move |root| list::one_level(root, &prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        let replace = options.mode == CopyMode::Overwrite;
        self.blocking(move |root| write::copy(root, &from, &to, replace)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (from.clone(), to.clone());
        let replace = options.target_mode == RenameTargetMode::Overwrite;
        self.blocking(move |root| write::rename(root, &from, &to, replace)).await
    }
}

#[cfg(test)]
mod tests;
