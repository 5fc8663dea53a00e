//! Our store behind the library's door to storages: metadata that it writes and reads goes through it.

use crate::paths::Paths;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The library wants a storage that can be written down; ours cannot, and nothing ever does it.
#[derive(Clone, Default, Serialize, Deserialize)]
struct OurStorage {
    #[serde(skip)]
    inside: Option<(Arc<dyn ObjectStore>, Paths)>,
}

impl fmt::Debug for OurStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OurStorage")
    }
}

/// The files of a table, by the names that its metadata has for them.
pub(crate) fn file_io(store: &Arc<dyn ObjectStore>, paths: &Paths) -> FileIO {
    let storage = OurStorage { inside: Some((store.clone(), paths.clone())) };
    FileIOBuilder::new(Arc::new(OurFactory(storage))).build()
}

fn failed(error: object_store::Error) -> Error {
    Error::new(ErrorKind::Unexpected, error.to_string()).with_source(error)
}

impl OurStorage {
    fn at(&self, name: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let none = || Error::new(ErrorKind::Unexpected, "a storage without a store");
        let (store, paths) = self.inside.as_ref().ok_or_else(none)?;
        let path = paths.find(name).map_err(|error| Error::new(ErrorKind::DataInvalid, error.to_string()))?;
        Ok((store.clone(), path))
    }
}

#[async_trait]
#[typetag::serde(name = "rivermere")]
impl Storage for OurStorage {
    async fn exists(&self, name: &str) -> Result<bool> {
        let (store, path) = self.at(name)?;
        match store.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn metadata(&self, name: &str) -> Result<FileMetadata> {
        let (store, path) = self.at(name)?;
        Ok(FileMetadata { size: store.head(&path).await.map_err(failed)?.size })
    }

    async fn read(&self, name: &str) -> Result<Bytes> {
        let (store, path) = self.at(name)?;
        store.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    async fn reader(&self, name: &str) -> Result<Box<dyn FileRead>> {
        let (store, path) = self.at(name)?;
        Ok(Box::new(Reader { store, path }))
    }

    async fn write(&self, name: &str, bytes: Bytes) -> Result<()> {
        let (store, path) = self.at(name)?;
        put_new(&store, &path, bytes).await
    }

    async fn writer(&self, name: &str) -> Result<Box<dyn FileWrite>> {
        let (store, path) = self.at(name)?;
        Ok(Box::new(Writer { store, path, bytes: BytesMut::new() }))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let (store, path) = self.at(name)?;
        match store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn delete_prefix(&self, _name: &str) -> Result<()> {
        Err(Error::new(ErrorKind::FeatureUnsupported, "folders are not deleted as a whole"))
    }

    async fn delete_stream(&self, mut names: BoxStream<'static, String>) -> Result<()> {
        while let Some(name) = names.next().await {
            self.delete(&name).await?;
        }
        Ok(())
    }

    fn new_input(&self, name: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), name.to_owned()))
    }

    fn new_output(&self, name: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), name.to_owned()))
    }
}

/// Hands out the one storage.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OurFactory(OurStorage);

#[typetag::serde(name = "rivermere")]
impl StorageFactory for OurFactory {
    fn build(&self, _: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.0.clone()))
    }
}

struct Reader {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.store.get_range(&self.path, range).await.map_err(failed)
    }
}

/// Manifests are small: they are put as a whole when they are closed.
struct Writer {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: BytesMut,
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        put_new(&self.store, &self.path, bytes).await
    }
}

/// Names are made by nobody else: a file that is there already would be ours, of an answer that was lost.
async fn put_new(store: &Arc<dyn ObjectStore>, path: &Path, bytes: Bytes) -> Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(path, bytes.into(), options).await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
