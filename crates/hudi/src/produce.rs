//! What is done to a table as an instant of its timeline: begun, written, and completed by one file.
//!
//! Hudi technical specification, "Timeline" and "Writer Expectations". An instant is *requested* and *inflight* before a file of
//! it is written, with a marker for each file, so that whoever finds it unfinished can undo it.
//!
//! # Who is next
//! The timeline itself lets two writers complete at the same time. Ours take a *ticket* before: a file that is named by the newest
//! completed instant and put only where there is none, so that one writer alone follows it. The ticket holds the very bytes that
//! complete the instant: whoever finds one that its writer did not use completes it, and then is next himself. Nobody waits for
//! anybody, and no clock is asked. Writers of other programs know nothing of tickets (see the docs).

use crate::metadata;
use crate::place::{Found, Place};
use crate::timeline::{Action, time_after};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions};
use rivermere_table::TableError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const WRITING: &str = "writing to the timeline";
/// Times that are tried until one is nobody else's.
const TIMES: usize = 1_000;
/// What is unfinished for longer than this was left by a writer that is no more.
const LEFT_AFTER_MS: i64 = 3_600_000;
/// Tickets that are older are of instants that nobody takes for the newest any more.
const TICKETS_KEPT_MS: i64 = 86_400_000;

/// A base file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) partition: String,
    pub(crate) file_id: String,
    /// Below the table's folder.
    pub(crate) inside: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    /// Rows that the file before had and this one has not.
    pub(crate) deleted: u64,
    /// The time of the instant whose file it takes the place of.
    pub(crate) before: Option<String>,
}

/// What becomes an instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// As Hudi calls it.
    pub(crate) operation: &'static str,
    pub(crate) added: Vec<Written>,
    /// By partition, the file groups that are no more.
    pub(crate) replaced: BTreeMap<String, Vec<String>>,
    pub(crate) extra: BTreeMap<String, String>,
    /// In Avro.
    pub(crate) schema: String,
}

impl Change {
    pub(crate) fn is_nothing(&self) -> bool {
        self.added.is_empty() && self.replaced.is_empty()
    }
}

/// An instant that began.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) time: String,
    pub(crate) action: Action,
}

/// What a commit came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Committed(Found),
    /// Another one took its place, or it was undone by somebody.
    Lost,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ticket {
    time: String,
    action: String,
    /// The name of the file that completes it.
    file: String,
    /// Its bytes.
    content: String,
}

fn begun_file(place: &Place, time: &str) -> Path {
    place.ours().join(format!("{time}.begun"))
}

fn marker_folder(place: &Place, time: &str) -> Path {
    place.meta().join(".temp").join(time)
}

fn names_of_start(action: Action, time: &str) -> [String; 2] {
    let inflight = match action {
        Action::Commit => format!("{time}.inflight"),
        other => format!("{time}.{}.inflight", other.name()),
    };
    [format!("{time}.{}.requested", action.name()), inflight]
}

/// Puts a file only where there is none; whether it is there as it is now.
pub(crate) async fn put_new(place: &Place, path: &Path, bytes: &[u8]) -> Result<bool, TableError> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match place.location.store().put_opts(path, bytes.to_vec().into(), options).await {
        Ok(_) => Ok(true),
        // It may be ours, of an attempt whose answer was lost.
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
            Ok(read(place, path).await?.as_deref() == Some(bytes))
        }
        Err(error) => Err(place.failed(WRITING, error)),
    }
}

async fn read(place: &Place, path: &Path) -> Result<Option<Vec<u8>>, TableError> {
    let read = async { place.location.store().get(path).await?.bytes().await };
    match read.await {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(place.failed(WRITING, error)),
    }
}

pub(crate) async fn is_there(place: &Place, path: &Path) -> Result<bool, TableError> {
    match place.location.store().head(path).await {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(place.failed(WRITING, error)),
    }
}

async fn delete(place: &Place, path: &Path) {
    if let Err(error) = place.location.store().delete(path).await
        && !matches!(error, Error::NotFound { .. })
    {
        tracing::debug!(location = %place.location, %path, %error, "was not removed");
    }
}

/// Begins an instant over `found`, whose name files may have from now on. `owner` is whoever may undo it at once when it finds it
/// unfinished: the sink that alone writes under that name.
pub(crate) async fn begin(place: &Place, found: &Found, action: Action, owner: &str) -> Result<Begun, TableError> {
    let mut time = found.timeline.next_time(&found.properties);
    for _ in 0..TIMES {
        // Told apart by their owner and an id: two writers may begin at the same time.
        let own = format!("{owner} {}", place.location.new_id());
        if put_new(place, &begun_file(place, &time), own.as_bytes()).await? {
            let folder = found.timeline_folder(place);
            let [requested, inflight] = names_of_start(action, &time);
            let requested = folder.clone().join(requested);
            // Another program's, in the same millisecond.
            if !is_there(place, &requested).await? {
                put_new(place, &requested, b"").await?;
                put_new(place, &folder.join(inflight), b"").await?;
                return Ok(Begun { time, action });
            }
            delete(place, &begun_file(place, &time)).await;
        }
        time = time_after(&time);
    }
    Err(TableError::Conflict { location: place.location.to_string(), attempts: TIMES as u64 })
}

/// Puts the marker of a file that is about to be written.
pub(crate) async fn mark(place: &Place, begun: &Begun, inside: &str, is_new: bool) -> Result<(), TableError> {
    let kind = if is_new { "CREATE" } else { "MERGE" };
    let marker = format!("{}/{inside}.marker.{kind}", marker_folder(place, &begun.time));
    let marker = Path::parse(marker).map_err(|error| place.failed(WRITING, error))?;
    put_new(place, &marker, b"").await.map(|_| ())
}

/// Completes an instant: as the one after `base`, or, without it, after whichever is the newest.
pub(crate) async fn commit(
    place: &Place,
    base: Option<&Found>,
    begun: &Begun,
    change: &Change,
) -> Result<Outcome, TableError> {
    let content = metadata::bytes(begun.action, change).map_err(|error| place.failed(WRITING, error))?;
    for _ in 0..TIMES {
        let found = settled(place).await?;
        let newest = |found: &Found| found.timeline.newest().map(|instant| instant.completed.clone());
        if base.is_some_and(|base| newest(base) != newest(&found)) {
            return Ok(Outcome::Lost);
        }
        let folder = found.timeline_folder(place);
        let [requested, _] = names_of_start(begun.action, &begun.time);
        if !is_there(place, &folder.clone().join(requested.as_str())).await? {
            return Ok(Outcome::Lost);
        }
        found.without_index(place).await?;
        let completed = found.timeline.next_time(&found.properties).max(time_after(&begun.time));
        let file = format!("{}_{completed}.{}", begun.time, begun.action.name());
        let ticket = Ticket {
            time: begun.time.clone(),
            action: begun.action.name().to_owned(),
            file: file.clone(),
            content: BASE64_STANDARD.encode(&content),
        };
        let bytes = serde_json::to_vec(&ticket).map_err(|error| place.failed(WRITING, error))?;
        let (path, _) = next_ticket(place, &found).await?;
        if put_new(place, &path, &bytes).await? {
            put_new(place, &folder.join(file), &content).await?;
            finish(place, &begun.time).await;
            return Ok(Outcome::Committed(place.newest().await?));
        }
    }
    Err(TableError::Conflict { location: place.location.to_string(), attempts: TIMES as u64 })
}

/// The ticket of the newest completed instant: one that waits for its instant to be completed, or the name of the next one.
async fn next_ticket(place: &Place, found: &Found) -> Result<(Path, Option<Ticket>), TableError> {
    let after = found.timeline.newest().map_or("0", |instant| instant.completed.as_str());
    for number in 0.. {
        let path = place.ours().join(format!("{after}-{number}.next"));
        let Some(bytes) = read(place, &path).await? else { return Ok((path, None)) };
        let ticket: Ticket = serde_json::from_slice(&bytes).map_err(|error| place.damaged(&path, error.to_string()))?;
        let action = Action::of(&ticket.action).ok_or_else(|| place.damaged(&path, "an unknown action".into()))?;
        let [requested, _] = names_of_start(action, &ticket.time);
        // Of an instant that somebody has undone, it is worth nothing.
        if is_there(place, &found.timeline_folder(place).join(requested)).await? {
            return Ok((path, Some(ticket)));
        }
    }
    Err(TableError::Conflict { location: place.location.to_string(), attempts: 1 })
}

/// The table, after what a writer has decided and did not come to.
pub(crate) async fn settled(place: &Place) -> Result<Found, TableError> {
    let mut found = place.newest().await?;
    while let (path, Some(ticket)) = next_ticket(place, &found).await? {
        let content = BASE64_STANDARD.decode(&ticket.content);
        let content = content.map_err(|error| place.damaged(&path, error.to_string()))?;
        put_new(place, &found.timeline_folder(place).join(ticket.file.as_str()), &content).await?;
        finish(place, &ticket.time).await;
        found = place.newest().await?;
    }
    Ok(found)
}

/// Removes what is of use until an instant is completed.
async fn finish(place: &Place, time: &str) {
    let mut markers = place.location.store().list(Some(&marker_folder(place, time)));
    while let Ok(Some(marker)) = markers.try_next().await {
        delete(place, &marker.location).await;
    }
    delete(place, &begun_file(place, time)).await;
}

/// Undoes an instant: its files go, and then it never was.
pub(crate) async fn undo(place: &Place, found: &Found, begun: &Begun) -> Result<(), TableError> {
    let folder = marker_folder(place, &begun.time);
    let mut markers = place.location.store().list(Some(&folder));
    while let Some(marker) = markers.try_next().await.map_err(|error| place.failed(WRITING, error))? {
        let Some(parts) = marker.location.prefix_match(&folder) else { continue };
        let inside = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
        let Some((inside, _)) = inside.rsplit_once(".marker.") else { continue };
        let file = Path::parse(format!("{}/{inside}", place.location.path()));
        delete(place, &file.map_err(|error| place.failed(WRITING, error))?).await;
    }
    // Those that say that it is unfinished go last: as long as one is there, it can be undone again.
    let timeline = found.timeline_folder(place);
    for name in names_of_start(begun.action, &begun.time).into_iter().rev() {
        delete(place, &timeline.clone().join(name)).await;
    }
    finish(place, &begun.time).await;
    Ok(())
}

/// Undoes what writers of ours left unfinished: those of `owner` at once, others after an hour.
pub(crate) async fn undo_left(place: &Place, found: &Found, owner: &str) -> Result<(), TableError> {
    let now = chrono::Utc::now().timestamp_millis();
    let done = |time: &str| found.timeline.instants.iter().any(|instant| instant.time == time);
    let mut files = place.location.store().list(Some(&place.ours()));
    let mut left = vec![];
    while let Some(file) = files.try_next().await.map_err(|error| place.failed(WRITING, error))? {
        let name = file.location.filename().unwrap_or_default();
        let age = now - file.last_modified.timestamp_millis();
        match name.split_once('.') {
            Some((time, "begun")) => left.push((time.to_owned(), file.location.clone(), age)),
            Some((_, "next")) if age > TICKETS_KEPT_MS => delete(place, &file.location).await,
            _ => {}
        }
    }
    for (time, path, age) in left {
        let Some(who) = read(place, &path).await? else { continue };
        let is_own = !owner.is_empty() && who.starts_with(format!("{owner} ").as_bytes());
        if done(&time) {
            finish(place, &time).await;
        } else if is_own || age > LEFT_AFTER_MS {
            for action in [Action::Commit, Action::DeltaCommit, Action::ReplaceCommit] {
                undo(place, found, &Begun { time: time.clone(), action }).await?;
            }
        }
    }
    Ok(())
}
