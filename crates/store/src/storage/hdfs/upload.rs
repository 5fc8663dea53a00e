//! A file being written beside its place.

use super::super::retry::Patience;
use super::failure::{about, generic};
use async_trait::async_trait;
use futures::FutureExt;
use hdfs_native::file::FileWriter;
use hdfs_native::{Client, HdfsError, WriteOptions};
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use rivermere_base::Rng;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Hidden by the convention of Hadoop, and from our own listings.
const STAGED: &str = ".staged";

/// How often a file's completion is asked for, each time for a quarter of a minute.
const MAX_CLOSES: u32 = 4;

/// Whether a file of this name is being written.
pub(super) fn is_staged(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(STAGED)
}

/// The path of the file system for a location.
pub(super) fn absolute(location: &Path) -> String {
    format!("/{location}")
}

/// A file that is not at its place yet.
pub(super) struct Staged {
    client: Client,
    patience: Patience,
    pub(super) location: Path,
    path: String,
    writer: FileWriter,
}

impl Staged {
    /// An empty file beside the place of `location`, whose folder is made when missing.
    pub(super) async fn create(client: &Client, location: &Path, patience: &Patience, rng: &dyn Rng) -> Result<Self> {
        let Some(name) = location.filename().filter(|name| !is_staged(name)) else {
            return Err(generic(format!("'{location}' is not the path of an object")));
        };
        let target = absolute(location);
        let folder = target.strip_suffix(name).unwrap_or("/");
        let path = format!("{folder}.{name}.{}{STAGED}", rng.uuid().simple());
        let writer = patience.within(client.create(&path, WriteOptions::default())).await;
        let writer = writer.map_err(|error| about(location, error))?;
        let (client, location, patience) = (client.clone(), location.clone(), patience.clone());
        Ok(Self { client, patience, location, path, writer })
    }

    pub(super) async fn write(&mut self, payload: PutPayload) -> Result<()> {
        for bytes in payload {
            self.writer.write(bytes).await.map_err(|error| about(&self.location, error))?;
        }
        Ok(())
    }

    /// Moves the complete file to its place.
    pub(super) async fn publish(mut self, replace: bool) -> Result<()> {
        let done = async {
            close(&mut self.writer).await?;
            let target = absolute(&self.location);
            self.patience.within(self.client.rename(&self.path, &target, replace)).await
        };
        if let Err(error) = done.await {
            let error = about(&self.location, error);
            self.discard().await;
            return Err(error);
        }
        Ok(())
    }

    /// Best effort: a file that stays is hidden.
    pub(super) async fn discard(self) {
        let Self { client, path, writer, .. } = self;
        drop(writer);
        if let Err(error) = client.delete(&path, false).await {
            tracing::debug!(path, %error, "a file that was not completed stays");
        }
    }
}

/// Completes a file. The name node does that once a data node has reported the last block, and the client asks for some
/// seconds only; asking again changes nothing.
async fn close(writer: &mut FileWriter) -> Result<(), HdfsError> {
    for _ in 1..MAX_CLOSES {
        match writer.close().await {
            Err(HdfsError::OperationFailed(reason)) => tracing::debug!(reason, "a file of HDFS is not complete yet"),
            done => return done,
        }
    }
    writer.close().await
}

type Part = (PutPayload, oneshot::Sender<Result<()>>);

/// An upload in parts, which one task appends to the file in the order of [`put_part`](MultipartUpload::put_part): in
/// whatever order their futures are polled, HDFS only appends.
pub(super) struct Upload {
    location: Path,
    /// None when completed or aborted.
    work: Option<(mpsc::UnboundedSender<Part>, JoinHandle<(Staged, bool)>)>,
}

impl Upload {
    pub(super) fn new(mut staged: Staged) -> Self {
        // Not bounded here: who uploads holds the parts until their futures are done.
        let (sender, mut parts) = mpsc::unbounded_channel::<Part>();
        let location = staged.location.clone();
        let task = tokio::spawn(async move {
            let mut whole = true;
            while let Some((payload, done)) = parts.recv().await {
                let outcome = if whole { staged.write(payload).await } else { Err(generic("an earlier part failed")) };
                whole &= outcome.is_ok();
                // Who does not wait for a part learns of its failure at the end.
                let _ = done.send(outcome);
            }
            (staged, whole)
        });
        Self { location, work: Some((sender, task)) }
    }

    /// The file, once every part is written.
    async fn finished(&mut self) -> Result<(Staged, bool)> {
        let (sender, task) = self.work.take().ok_or_else(|| generic("the upload is over"))?;
        drop(sender);
        task.await.map_err(generic)
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
        let (done, outcome) = oneshot::channel();
        let sent = self.work.as_ref().is_some_and(|(sender, _)| sender.send((payload, done)).is_ok());
        async move {
            if !sent {
                return Err(generic("the upload is over"));
            }
            outcome.await.unwrap_or_else(|_| Err(generic("the upload was given up")))
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (staged, whole) = self.finished().await?;
        if !whole {
            staged.discard().await;
            return Err(generic("a part of the upload failed"));
        }
        staged.publish(true).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let (staged, _) = self.finished().await?;
        staged.discard().await;
        Ok(())
    }
}
