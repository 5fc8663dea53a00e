//! A view's changes as events: `reset` with the whole view, then `changes`.
//!
//! ```text
//! event: reset
//! id: 1.12.3456
//! data: {"rows":[{"origin":"JFK","departures":3}]}
//!
//! event: changes
//! id: 1.12.3457
//! data: {"inserted":[{"origin":"JFK","departures":4}],"deleted":[],"at_ms":1700000000000}
//! ```
//!
//! A client that applies every event holds the view at the step of the last id. Steps that end within
//! [`push_interval`](crate::Limits::push_interval) of the last event are sent as their net change, so an idle view's
//! next change goes out at once and a busy view costs a bounded number of events. A client that lags behind the
//! platform's buffer, or for whom more than [`push_pending_rows`](crate::Limits::push_pending_rows) wait, gets a
//! `reset`. When the view is dropped, or outgrows what is pushed, an event `end` with the error comes, and the stream
//! ends.

use super::net::net;
use super::{EventSource, HELLO, KEEP_ALIVE, event};
use crate::endpoint::Shared;
use crate::rows::{ROWS_PER_CHUNK, write_json_objects};
use crate::{ChangeFeed, ChangeId, FeedStart, ServeError, Snapshot, ViewChange};
use arrow::array::RecordBatch;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

/// One client's stream of one view's changes.
pub(crate) struct ChangeStream {
    shared: Arc<Shared>,
    view: String,
    phase: Phase,
    greeted: bool,
    rx: broadcast::Receiver<Arc<ViewChange>>,
    /// The last step that the client knows or that waits in `pending`.
    seen: Option<ChangeId>,
    pending: Vec<Arc<ViewChange>>,
    pending_rows: usize,
    /// Before this moment no further event of changes is sent.
    not_before: Instant,
    last_sent: Instant,
}

enum Phase {
    Resetting(Reset),
    Following,
    Ended,
}

/// A snapshot on its way, so many rows at a time.
struct Reset {
    snapshot: Snapshot,
    batch: usize,
    row: usize,
    opened: bool,
    any: bool,
}

/// What a received message means.
enum Received {
    Nothing,
    Step,
    StartOver,
}

impl ChangeStream {
    /// Opens the feed; `None` when there is no such view.
    ///
    /// # Errors
    /// When the view is too large to push.
    pub(crate) fn open(shared: Arc<Shared>, view: &str, after: Option<ChangeId>) -> Result<Option<Self>, ServeError> {
        let Some(feed) = shared.platform.changes(view, after) else { return Ok(None) };
        let now = Instant::now();
        let mut stream = Self {
            shared,
            view: view.to_owned(),
            phase: Phase::Following,
            greeted: false,
            rx: feed.rx.resubscribe(),
            seen: after,
            pending: Vec::new(),
            pending_rows: 0,
            not_before: now,
            last_sent: now,
        };
        stream.follow(feed)?;
        Ok(Some(stream))
    }

    /// Takes a feed up, in place of the one before.
    fn follow(&mut self, feed: ChangeFeed) -> Result<(), ServeError> {
        self.rx = feed.rx;
        self.pending.clear();
        self.pending_rows = 0;
        match feed.start {
            FeedStart::Resumed(steps) => {
                self.phase = Phase::Following;
                steps.into_iter().for_each(|step| self.queue(step));
            }
            FeedStart::Reset(snapshot) => {
                let limit = self.shared.limits.push_view_rows;
                if snapshot.num_rows() > limit {
                    return Err(ServeError::ViewTooLarge { view: self.view.clone(), limit });
                }
                self.seen = Some(snapshot.id);
                self.phase = Phase::Resetting(Reset { snapshot, batch: 0, row: 0, opened: false, any: false });
            }
        }
        Ok(())
    }

    fn queue(&mut self, step: Arc<ViewChange>) {
        // The platform promises neither gap nor overlap; a step seen twice would still do harm for ever.
        if self.seen.is_some_and(|seen| step.id <= seen) {
            return;
        }
        self.seen = Some(step.id);
        if !step.changes.is_empty() {
            self.pending_rows = self.pending_rows.saturating_add(step.changes.num_rows());
            self.pending.push(step);
        }
    }

    /// The whole view again, or the end with its reason.
    fn start_over(&mut self) -> Option<Bytes> {
        let error = match self.shared.platform.changes(&self.view, None) {
            Some(feed) => match self.follow(feed) {
                Ok(()) => return None,
                Err(error) => error,
            },
            None => ServeError::NoSuchView { view: self.view.clone(), similar: None },
        };
        Some(self.end(&error))
    }

    fn end(&mut self, error: &ServeError) -> Bytes {
        self.phase = Phase::Ended;
        event("end", None, &error.to_json().to_string())
    }

    /// Everything that is already there, without waiting.
    fn drain(&mut self) -> Received {
        let mut received = Received::Nothing;
        loop {
            match self.rx.try_recv() {
                Ok(step) => {
                    self.queue(step);
                    received = Received::Step;
                    if self.pending_rows > self.shared.limits.push_pending_rows {
                        return Received::StartOver;
                    }
                }
                Err(TryRecvError::Empty) => return received,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return Received::StartOver,
            }
        }
    }

    /// The pending steps as one event; `None` when they cancel out.
    fn pending_event(&mut self) -> Result<Option<Bytes>, ServeError> {
        let steps = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        let Some(last) = steps.last() else { return Ok(None) };
        let Some(net) = net(&steps, self.shared.limits.push_pending_rows)? else {
            return Ok(self.start_over());
        };
        if net.is_empty() {
            return Ok(None);
        }
        let mut text = format!("event: changes\nid: {}\ndata: {{\"inserted\":[", last.id).into_bytes();
        write_json_objects(&net.inserted, b',', &mut text)?;
        text.extend_from_slice(b"],\"deleted\":[");
        write_json_objects(&net.deleted, b',', &mut text)?;
        text.extend_from_slice(format!("],\"at_ms\":{}}}\n\n", last.at_ms).as_bytes());
        self.shared.counters.events_sent.fetch_add(1, Relaxed);
        Ok(Some(text.into()))
    }

    async fn following(&mut self) -> Option<Bytes> {
        loop {
            if matches!(self.drain(), Received::StartOver) {
                return self.start_over();
            }
            let now = Instant::now();
            if !self.pending.is_empty() && now >= self.not_before {
                match self.pending_event() {
                    Ok(Some(event)) => {
                        self.not_before = now + self.shared.limits.push_interval;
                        return Some(event);
                    }
                    Ok(None) if matches!(self.phase, Phase::Following) => continue,
                    Ok(None) => return None,
                    Err(error) => return Some(self.end(&error)),
                }
            }
            let silent_until = self.last_sent + self.shared.limits.keep_alive;
            let wake = if self.pending.is_empty() { silent_until } else { self.not_before.min(silent_until) };
            tokio::select! {
                received = self.rx.recv() => match received {
                    Ok(step) => self.queue(step),
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return self.start_over(),
                },
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= silent_until {
                        return Some(KEEP_ALIVE);
                    }
                }
            }
        }
    }
}

impl EventSource for ChangeStream {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(HELLO);
        }
        loop {
            let piece = match &mut self.phase {
                Phase::Ended => return None,
                Phase::Resetting(reset) => match reset.next() {
                    Ok(Some(piece)) => Some(piece),
                    Ok(None) => {
                        self.shared.counters.resets_sent.fetch_add(1, Relaxed);
                        self.phase = Phase::Following;
                        Some(Bytes::from_static(b"]}\n\n"))
                    }
                    // Half an event without its empty line is dropped by the client.
                    Err(error) => {
                        let end = self.end(&error);
                        Some([&b"\n"[..], &end].concat().into())
                    }
                },
                Phase::Following => self.following().await,
            };
            if let Some(piece) = piece {
                self.last_sent = Instant::now();
                return Some(piece);
            }
        }
    }
}

impl Reset {
    /// The next rows; `None` after the last.
    fn next(&mut self) -> Result<Option<Bytes>, ServeError> {
        let mut text = Vec::new();
        if !self.opened {
            self.opened = true;
            text.extend_from_slice(format!("event: reset\nid: {}\ndata: {{\"rows\":[", self.snapshot.id).as_bytes());
        }
        while text.len() < 64 * 1024 {
            let Some(batch) = self.snapshot.batches.get(self.batch) else { break };
            let rows = self.rows(batch);
            if rows.num_rows() == 0 {
                self.batch += 1;
                self.row = 0;
                continue;
            }
            self.row += rows.num_rows();
            if std::mem::replace(&mut self.any, true) {
                text.push(b',');
            }
            write_json_objects(&rows, b',', &mut text)?;
        }
        Ok(if text.is_empty() { None } else { Some(text.into()) })
    }

    fn rows(&self, batch: &RecordBatch) -> RecordBatch {
        let left = batch.num_rows().saturating_sub(self.row);
        batch.slice(self.row.min(batch.num_rows()), left.min(ROWS_PER_CHUNK))
    }
}
