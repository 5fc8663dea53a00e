//! The wish to end, told once to every listener and stream.

use std::sync::Arc;
use tokio::sync::watch;

/// Waits for the end. Clones wait for the same end.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Asks for the end, by [`stop`](Self::stop) or by dropping the last clone.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Shutdown {
    pub fn new() -> (Stop, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stop(Arc::new(sender)), Self(receiver))
    }

    /// Ready when the end was asked for.
    pub async fn asked(&self) {
        // An error means that the asking side is gone: an end as well.
        let _ = self.0.clone().wait_for(|stopped| *stopped).await;
    }
}

impl From<watch::Receiver<bool>> for Shutdown {
    /// Ends when the value turns true or the sender is dropped.
    fn from(receiver: watch::Receiver<bool>) -> Self {
        Self(receiver)
    }
}

impl Stop {
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}
