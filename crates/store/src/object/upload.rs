//! An upload in parts, which go straight to their places in the file being written.

use super::blocking;
use super::location::generic;
use super::write::Staged;
use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutMode, PutPayload, PutResult, Result, UploadPart};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Upload {
    /// None when completed or aborted.
    staged: Option<Arc<Staged>>,
    /// Where the next part begins.
    offset: u64,
}

impl Upload {
    pub(super) fn new(staged: Staged) -> Self {
        Self { staged: Some(Arc::new(staged)), offset: 0 }
    }

    /// The file, once no part is being written to it any more.
    fn take(&mut self) -> Result<Staged> {
        let staged = self.staged.take().ok_or_else(|| generic("the upload is over"))?;
        Arc::try_unwrap(staged).map_err(|_| generic("a part of the upload is still being written"))
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let offset = self.offset;
        self.offset += payload.content_length() as u64;
        let staged = self.staged.clone();
        async move {
            let staged = staged.ok_or_else(|| generic("the upload is over"))?;
            blocking(move || staged.write_at(&payload, offset)).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.take()?;
        blocking(move || {
            staged.sync()?;
            staged.publish(&PutMode::Overwrite)
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        // A part that is still being written removes the file when it is done.
        let staged = self.staged.take();
        blocking(move || {
            drop(staged);
            Ok(())
        })
        .await
    }
}
