//! Copying an object from one storage to another, with word of how far it is.

use super::guarded::{PARALLEL_PARTS, PART_BYTES};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutPayload, PutResult, Result, WriteMultipart};

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    /// Bytes read so far; those of the last parts may still be on their way.
    pub bytes: u64,
    /// Bytes of the object.
    pub total: u64,
}

/// Copies an object, whole or not at all: it appears at `target` when the last part has arrived. `progress` is called at
/// the start, after every piece that was read, and never with fewer bytes than before.
///
/// # Errors
/// Those of either store; `target` is as it was then.
pub async fn copy_object(
    from: &dyn ObjectStore,
    source: &Path,
    to: &dyn ObjectStore,
    target: &Path,
    mut progress: impl FnMut(CopyProgress) + Send,
) -> Result<PutResult> {
    let found = from.get(source).await?;
    let total = found.meta.size;
    progress(CopyProgress { bytes: 0, total });
    if total <= PART_BYTES as u64 {
        let bytes = found.bytes().await?;
        progress(CopyProgress { bytes: bytes.len() as u64, total });
        return to.put(target, PutPayload::from_bytes(bytes)).await;
    }
    let mut stream = found.into_stream();
    let mut writer = WriteMultipart::new_with_chunk_size(to.put_multipart(target).await?, PART_BYTES);
    let mut bytes = 0;
    let read = loop {
        match stream.next().await {
            Some(Ok(piece)) => {
                bytes += piece.len() as u64;
                if let Err(error) = writer.wait_for_capacity(PARALLEL_PARTS).await {
                    break Err(error);
                }
                writer.put(piece);
                progress(CopyProgress { bytes, total });
            }
            Some(Err(error)) => break Err(error),
            None if bytes < total => break Err(ended_early(source, bytes, total)),
            None => break Ok(()),
        }
    };
    match read {
        Ok(()) => writer.finish().await,
        Err(error) => {
            // The reason is told; parts that stay behind are the storage's to expire.
            let _ = writer.abort().await;
            Err(error)
        }
    }
}

fn ended_early(source: &Path, bytes: u64, total: u64) -> Error {
    Error::Generic { store: "copy", source: format!("'{source}' ended after {bytes} of {total} bytes").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskStore;
    use rivermere_sim::SimDisk;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_long_copy_tells_its_progress_and_is_equal() {
        let store = DiskStore::new(Arc::new(SimDisk::new(1)), "/");
        let other = DiskStore::new(Arc::new(SimDisk::new(2)), "/");
        let data: Vec<u8> = (0..3 * PART_BYTES as u32 + 7).map(|n| (n % 251) as u8).collect();
        store.put(&Path::from("a"), data.clone().into()).await.unwrap();
        let mut told = Vec::new();
        copy_object(&store, &Path::from("a"), &other, &Path::from("b/c"), |at| told.push(at)).await.unwrap();
        assert_eq!(other.get(&Path::from("b/c")).await.unwrap().bytes().await.unwrap(), data);
        let total = data.len() as u64;
        assert_eq!(told.first(), Some(&CopyProgress { bytes: 0, total }));
        assert_eq!(told.last(), Some(&CopyProgress { bytes: total, total }));
        assert!(told.len() > 10 && told.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
    }

    #[tokio::test]
    async fn a_copy_that_cannot_be_written_leaves_the_target_as_it_was() {
        let disk = SimDisk::new(2);
        let store = DiskStore::new(Arc::new(SimDisk::new(1)), "/");
        let other = DiskStore::new(Arc::new(disk.clone()), "/");
        store.put(&Path::from("a"), vec![1; 2 * PART_BYTES].into()).await.unwrap();
        other.put(&Path::from("b"), "old".into()).await.unwrap();
        disk.fail_write_at(1, std::io::ErrorKind::StorageFull, true);
        copy_object(&store, &Path::from("a"), &other, &Path::from("b"), |_| {}).await.unwrap_err();
        disk.clear_faults();
        assert_eq!(other.get(&Path::from("b")).await.unwrap().bytes().await.unwrap(), "old");
    }
}
