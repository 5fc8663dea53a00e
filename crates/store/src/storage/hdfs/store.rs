//! Files of HDFS as objects.

use super::super::retry::Patience;
use super::failure::{about, generic, is_missing, may_pass};
use super::upload::{Staged, Upload, absolute, is_staged};
use async_trait::async_trait;
use chrono::DateTime;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use hdfs_native::client::FileStatus;
use hdfs_native::file::FileReader;
use hdfs_native::{Client, HdfsError};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result,
};
use rivermere_base::Rng;
use std::fmt;
use std::sync::Arc;

/// Tries to see one version of a file that is being replaced.
const MAX_TRIES: u32 = 10;

/// Of folders that are made for objects; the cluster's umask is applied by whoever set one there.
const FOLDER_PERMISSION: u32 = 0o755;

#[derive(Clone)]
pub(super) struct HdfsStore {
    client: Client,
    patience: Patience,
    rng: Arc<dyn Rng>,
}

impl HdfsStore {
    pub(super) fn new(client: Client, patience: Patience, rng: Arc<dyn Rng>) -> Self {
        Self { client, patience, rng }
    }

    /// Asks about the file of a location what may be asked twice, again and again if need be.
    async fn ask<T, F: Future<Output = Result<T, HdfsError>>>(
        &self,
        location: &Path,
        request: impl Fn(Client, String) -> F,
    ) -> Result<T> {
        let path = absolute(location);
        let attempt = || self.patience.within(request(self.client.clone(), path.clone()));
        self.patience.repeat(may_pass, attempt).await.map_err(|error| about(location, error))
    }

    async fn status(&self, location: &Path) -> Result<FileStatus> {
        let found = self.ask(location, |client, path| async move { client.get_file_info(&path).await }).await?;
        if found.isdir {
            let source = format!("{} is a folder", found.path).into();
            return Err(Error::NotFound { path: location.to_string(), source });
        }
        Ok(found)
    }

    /// What is there, and its bytes.
    async fn open(&self, location: &Path) -> Result<(ObjectMeta, FileReader)> {
        for _ in 0..MAX_TRIES {
            let before = self.status(location).await?;
            let reader = self.ask(location, |client, path| async move { client.read(&path).await }).await?;
            let after = self.status(location).await?;
            if tag(&before) == tag(&after) && reader.file_length() == after.length {
                return Ok((meta(&after)?, reader));
            }
        }
        Err(generic(format!("'{location}' is replaced again and again")))
    }

    async fn remove(&self, location: Path) -> Result<Path> {
        if self.ask(&location, |client, path| async move { client.delete(&path, false).await }).await? {
            return Ok(location);
        }
        Err(Error::NotFound { path: location.to_string(), source: format!("there is no /{location}").into() })
    }

    /// Files and folders below a prefix.
    fn statuses(&self, prefix: &Path, recursive: bool) -> BoxStream<'static, Result<FileStatus>> {
        let (folder, prefix) = (absolute(prefix), prefix.clone());
        let listed = self.client.list_status_iter(&folder, recursive).into_stream();
        listed
            .filter_map(move |found| {
                let found = match found {
                    // A prefix that is a file has nothing below it.
                    Ok(found) if found.path == folder || is_hidden(&found) => None,
                    Ok(found) => Some(Ok(found)),
                    Err(error) if is_missing(&error) => None,
                    Err(error) => Some(Err(about(&prefix, error))),
                };
                std::future::ready(found)
            })
            .boxed()
    }
}

fn is_hidden(found: &FileStatus) -> bool {
    !found.isdir && found.path.rsplit('/').next().is_some_and(is_staged)
}

fn tag(found: &FileStatus) -> String {
    format!("{:x}-{:x}", found.modification_time, found.length)
}

fn meta(found: &FileStatus) -> Result<ObjectMeta> {
    let modified = i64::try_from(found.modification_time).ok().and_then(DateTime::from_timestamp_millis);
    Ok(ObjectMeta {
        location: Path::parse(&found.path)?,
        last_modified: modified.unwrap_or_default(),
        size: found.length as u64,
        e_tag: Some(tag(found)),
        version: None,
    })
}

impl fmt::Display for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HDFS")
    }
}

impl fmt::Debug for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HdfsStore")
    }
}

#[async_trait]
impl ObjectStore for HdfsStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let replace = match options.mode {
            PutMode::Create => false,
            PutMode::Overwrite => true,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "replacing only a certain version of a file".to_owned(),
                    implementer: self.to_string(),
                });
            }
        };
        // Many lose a race for a commit; they need not write the file to learn that.
        let path = absolute(location);
        if !replace && self.patience.within(self.client.get_file_info(&path)).await.is_ok() {
            return Err(about(location, HdfsError::AlreadyExists(path)));
        }
        let mut staged = Staged::create(&self.client, location, &self.patience, self.rng.as_ref()).await?;
        if let Err(error) = staged.write(payload).await {
            staged.discard().await;
            return Err(error);
        }
        staged.publish(replace).await?;
        let written = self.status(location).await?;
        Ok(PutResult { e_tag: Some(tag(&written)), version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload::new(Staged::create(&self.client, location, &self.patience, self.rng.as_ref()).await?)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (meta, reader) = if options.head {
            (meta(&self.status(location).await?)?, None)
        } else {
            let (meta, reader) = self.open(location).await?;
            (meta, Some(reader))
        };
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(generic)?,
            None => 0..meta.size,
        };
        let bytes = match reader {
            Some(reader) => {
                let start = usize::try_from(range.start).map_err(generic)?;
                let length = usize::try_from(range.end - range.start).map_err(generic)?;
                let location = location.clone();
                reader.read_range_stream(start, length).map_err(move |error| about(&location, error)).boxed()
            }
            None => futures::stream::empty().boxed(),
        };
        Ok(GetResult { payload: GetResultPayload::Stream(bytes), meta, range, attributes: Attributes::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        crate::removal::each(self, locations, |store, location| async move { store.remove(location).await })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let found = self.statuses(prefix.unwrap_or(&Path::default()), true);
        found.try_filter(|found| std::future::ready(!found.isdir)).and_then(|found| async move { meta(&found) }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let mut found = self.statuses(prefix.unwrap_or(&Path::default()), false);
        while let Some(found) = found.try_next().await? {
            if found.isdir {
                result.common_prefixes.push(Path::parse(&found.path)?);
            } else {
                result.objects.push(meta(&found)?);
            }
        }
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (_, reader) = self.open(from).await?;
        let mut staged = Staged::create(&self.client, to, &self.patience, self.rng.as_ref()).await?;
        let mut bytes = reader.read_range_stream(0, reader.file_length()).boxed();
        let copied = async {
            while let Some(piece) = bytes.next().await {
                staged.write(piece.map_err(|error| about(from, error))?.into()).await?;
            }
            Ok(())
        };
        if let Err(error) = copied.await {
            staged.discard().await;
            return Err(error);
        }
        staged.publish(options.mode == CopyMode::Overwrite).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        // A folder is no object, whatever its name.
        self.status(from).await?;
        let folder = absolute(&parent(to));
        let made = self.patience.within(self.client.mkdirs(&folder, FOLDER_PERMISSION, true)).await;
        made.map_err(|error| about(to, error))?;
        let replace = options.target_mode == RenameTargetMode::Overwrite;
        let (source, target) = (absolute(from), absolute(to));
        let renamed = self.patience.within(self.client.rename(&source, &target, replace)).await;
        renamed.map_err(|error| about(to, error))
    }
}

fn parent(location: &Path) -> Path {
    let mut parts: Vec<_> = location.parts().collect();
    parts.pop();
    parts.into_iter().collect()
}
