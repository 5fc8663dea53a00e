//! What is done to a table as an instant of its timeline: begun, written, and completed by one file.
//!
//! Hudi technical specification, "Timeline" and "Writer Expectations". An instant is *requested* and *inflight* before a file of
//! it is written, with a marker for each file, so that whoever finds it unfinished can undo it.
//!
//! # Who is next
//! The timeline itself lets two writers complete at the same time. Ours take a *ticket* before: a file that is named by the newest
//! completed instant and put only where there is none, so that one writer alone follows it. The ticket holds the very bytes that
//! complete the instant: whoever finds one that its writer did not use completes it, and then is next himself. Nobody waits for
//! anybody, and no clock is asked. An instant that its writer has left unfinished is undone by a ticket, too, so that it is either
//! completed or undone. Writers of other programs know nothing of tickets (see the docs).

use crate::metadata;
use crate::place::{Found, Place};
use crate::schema::schema_text;
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
/// Whoever has begun an instant and has put no file for longer than this is taken to be no more.
const LEFT_AFTER_MS: i64 = 6 * 3_600_000;
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
    /// Of a log, the name of the base file that it is about.
    pub(crate) base: Option<String>,
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
    fate: Fate,
}

/// What a ticket decides for an instant.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    /// It is completed, by a file of this name and with these bytes.
    Completed { file: String, content: String },
    /// It is never completed: whoever began it is taken to be no more.
    Undone,
}

impl Ticket {
    fn begun(&self) -> Option<Begun> {
        Some(Begun { time: self.time.clone(), action: Action::of(&self.action)? })
    }
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
        let own = format!("{owner} {} {}", action.name(), place.location.new_id());
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
    place.newest().await?.without_index(place).await?;
    for _ in 0..TIMES {
        let found = settled(place).await?;
        match base {
            // All of them: clocks of other programs may give an instant an older time of completion than there is.
            Some(base) if base.timeline.instants != found.timeline.instants => return Ok(Outcome::Lost),
            Some(_) => {}
            // What was written has the columns of then.
            None if schema_text(place, &found, &found.timeline.instants).await? != change.schema => {
                return Ok(Outcome::Lost);
            }
            None => {}
        }
        let folder = found.timeline_folder(place);
        let [requested, _] = names_of_start(begun.action, &begun.time);
        let completed = found.timeline.next_time(&found.properties).max(time_after(&begun.time));
        let file = format!("{}_{completed}.{}", begun.time, begun.action.name());
        let fate = Fate::Completed { file: file.clone(), content: BASE64_STANDARD.encode(&content) };
        let (path, _) = next_ticket(place, &found).await?;
        // Looked for behind the tickets: one of them may have undone it.
        if !is_there(place, &folder.clone().join(requested.as_str())).await? {
            return Ok(Outcome::Lost);
        }
        if take(place, &path, begun, fate).await? {
            put_new(place, &folder.join(file), &content).await?;
            finish(place, &begun.time).await;
            return Ok(Outcome::Committed(place.newest().await?));
        }
    }
    Err(TableError::Conflict { location: place.location.to_string(), attempts: TIMES as u64 })
}

async fn take(place: &Place, path: &Path, begun: &Begun, fate: Fate) -> Result<bool, TableError> {
    let ticket = Ticket { time: begun.time.clone(), action: begun.action.name().to_owned(), fate };
    let bytes = serde_json::to_vec(&ticket).map_err(|error| place.failed(WRITING, error))?;
    put_new(place, path, &bytes).await
}

/// The ticket of the newest completed instant: one that waits for its instant to be completed, or the name of the next one.
async fn next_ticket(place: &Place, found: &Found) -> Result<(Path, Option<Ticket>), TableError> {
    let after = found.timeline.newest().map_or("0", |instant| instant.completed.as_str());
    for number in 0.. {
        let path = place.ours().join(format!("{after}-{number}.next"));
        let Some(bytes) = read(place, &path).await? else { return Ok((path, None)) };
        let ticket: Ticket = serde_json::from_slice(&bytes).map_err(|error| place.damaged(&path, error.to_string()))?;
        let begun = ticket.begun().ok_or_else(|| place.damaged(&path, "an unknown action".into()))?;
        match ticket.fate {
            // Before anybody goes on: behind the next instant nobody looks at this ticket any more.
            Fate::Undone => forget(place, found, &begun).await?,
            // Of an instant that another program has undone, it is worth nothing.
            Fate::Completed { .. } if !is_begun(place, found, &begun).await? => {}
            Fate::Completed { .. } => return Ok((path, Some(ticket))),
        }
    }
    Err(TableError::Conflict { location: place.location.to_string(), attempts: 1 })
}

async fn is_begun(place: &Place, found: &Found, begun: &Begun) -> Result<bool, TableError> {
    let [requested, _] = names_of_start(begun.action, &begun.time);
    is_there(place, &found.timeline_folder(place).join(requested)).await
}

/// Takes an instant that is not completed off the timeline: from then on it cannot be completed.
async fn forget(place: &Place, found: &Found, begun: &Begun) -> Result<(), TableError> {
    for name in names_of_start(begun.action, &begun.time) {
        remove(place, &found.timeline_folder(place).join(name)).await?;
    }
    Ok(())
}

/// The table, after what a writer has decided and did not come to.
pub(crate) async fn settled(place: &Place) -> Result<Found, TableError> {
    let mut found = place.newest().await?;
    while let (path, Some(Ticket { time, fate: Fate::Completed { file, content }, .. })) =
        next_ticket(place, &found).await?
    {
        let content = BASE64_STANDARD.decode(&content);
        let content = content.map_err(|error| place.damaged(&path, error.to_string()))?;
        put_new(place, &found.timeline_folder(place).join(file), &content).await?;
        finish(place, &time).await;
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

/// Undoes an instant of one's own that is not to be completed: its files go, and then it never was.
pub(crate) async fn undo(place: &Place, found: &Found, begun: &Begun) -> Result<(), TableError> {
    remove_files(place, begun).await?;
    forget(place, found, begun).await?;
    finish(place, &begun.time).await;
    Ok(())
}

/// Removes the files that an instant has written. None may be forgotten: once the timeline begins behind the instant, its files count.
async fn remove_files(place: &Place, begun: &Begun) -> Result<(), TableError> {
    let folder = marker_folder(place, &begun.time);
    let mut markers = place.location.store().list(Some(&folder));
    while let Some(marker) = markers.try_next().await.map_err(|error| place.failed(WRITING, error))? {
        let Some(parts) = marker.location.prefix_match(&folder) else { continue };
        let inside = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
        let Some((inside, _)) = inside.rsplit_once(".marker.") else { continue };
        let file = Path::parse(format!("{}/{inside}", place.location.path()));
        remove(place, &file.map_err(|error| place.failed(WRITING, error))?).await?;
    }
    Ok(())
}

async fn remove(place: &Place, path: &Path) -> Result<(), TableError> {
    match place.location.store().delete(path).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(place.failed(WRITING, error)),
    }
}

/// Undoes an instant that somebody else has begun, unless it is completed.
async fn undo_of_another(place: &Place, begun: &Begun) -> Result<(), TableError> {
    for _ in 0..TIMES {
        let found = settled(place).await?;
        if found.timeline.instants.iter().any(|instant| instant.time == begun.time) {
            finish(place, &begun.time).await;
            return Ok(());
        }
        let (path, _) = next_ticket(place, &found).await?;
        // Off the timeline it cannot be completed: no ticket is needed for that.
        if !is_begun(place, &found, begun).await? || take(place, &path, begun, Fate::Undone).await? {
            forget(place, &found, begun).await?;
            remove_files(place, begun).await?;
            finish(place, &begun.time).await;
            return Ok(());
        }
    }
    Err(TableError::Conflict { location: place.location.to_string(), attempts: TIMES as u64 })
}

/// Undoes what writers of ours left unfinished: those of `owner` at once, others after hours without a sign of them.
pub(crate) async fn undo_left(place: &Place, owner: &str) -> Result<(), TableError> {
    let now = chrono::Utc::now().timestamp_millis();
    let listed = |error: Error| place.failed(WRITING, error);
    let mut files = place.location.store().list(Some(&place.ours()));
    let (mut left, mut tickets) = (vec![], vec![]);
    while let Some(file) = files.try_next().await.map_err(listed)? {
        let name = file.location.filename().unwrap_or_default();
        let since = file.last_modified.timestamp_millis();
        match name.split_once('.') {
            Some((time, "begun")) => left.push((time.to_owned(), file.location.clone(), since)),
            Some((after, "next")) if now - since > TICKETS_KEPT_MS => {
                tickets.push((after.split('-').next().unwrap_or_default().to_owned(), file.location.clone()));
            }
            _ => {}
        }
    }
    if !tickets.is_empty() {
        let found = place.newest().await?;
        let newest = found.timeline.newest().map_or("0", |instant| instant.completed.as_str());
        for (_, path) in tickets.iter().filter(|(after, _)| after != newest) {
            delete(place, path).await;
        }
    }
    for (time, path, mut since) in left {
        let Some(said) = read(place, &path).await? else { continue };
        let said = String::from_utf8_lossy(&said).into_owned();
        let mut words = said.rsplitn(3, ' ').skip(1);
        let (Some(action), who) = (words.next().and_then(Action::of), words.next().unwrap_or_default()) else {
            continue;
        };
        let is_own = !owner.is_empty() && who == owner;
        if !is_own {
            let mut markers = place.location.store().list(Some(&marker_folder(place, &time)));
            while let Some(marker) = markers.try_next().await.map_err(listed)? {
                since = since.max(marker.last_modified.timestamp_millis());
            }
        }
        if is_own || now - since > LEFT_AFTER_MS {
            undo_of_another(place, &Begun { time, action }).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HudiTable;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::SessionContext;
    use object_store::memory::InMemory;
    use rivermere_store::LocalDisk;
    use rivermere_table::{EditableTable as _, Location, Table as _, TableSpec, Verb};
    use std::sync::Arc;

    const OWNER: &str = "rivermere/11111111-1111-4111-8111-111111111111/a view";

    async fn table() -> HudiTable {
        let location = Location::new(Arc::new(InMemory::new()), "lake/t".into(), Arc::new(LocalDisk::new()));
        let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)]));
        HudiTable::create(location, &TableSpec { schema, partitioned_by: vec![], properties: vec![] }).await.unwrap()
    }

    async fn change(place: &Place) -> Change {
        let found = place.newest().await.unwrap();
        Change::of("INSERT", schema_text(place, &found, &found.timeline.instants).await.unwrap())
    }

    /// Begins an instant and puts a file of it.
    async fn begun(place: &Place) -> (Found, Begun, Path) {
        let found = settled(place).await.unwrap();
        let begun = begin(place, &found, Action::Commit, OWNER).await.unwrap();
        let name = format!("id-0_0-0-0_{}.parquet", begun.time);
        mark(place, &begun, &name, true).await.unwrap();
        let file = place.location.path().clone().join(name);
        assert!(put_new(place, &file, b"rows").await.unwrap());
        (found, begun, file)
    }

    async fn left(place: &Place) -> Vec<String> {
        let files: Vec<_> = place.location.store().list(Some(&place.meta())).try_collect().await.unwrap();
        let names = files.into_iter().map(|file| file.location.to_string());
        names.filter(|name| name.ends_with(".begun") || name.contains("/.temp/")).collect()
    }

    #[tokio::test]
    async fn a_writer_that_was_taken_to_be_no_more_does_not_complete_what_was_undone() {
        let table = table().await;
        let place = table.place();
        let (found, slow, file) = begun(place).await;
        // Another program of the same name starts, as after a crash.
        undo_left(place, OWNER).await.unwrap();
        assert!(!is_there(place, &file).await.unwrap());
        let change = change(place).await;
        assert!(matches!(commit(place, Some(&found), &slow, &change).await.unwrap(), Outcome::Lost));
        assert_eq!(place.newest().await.unwrap().timeline.instants, []);
        // Somebody who is not known to be gone is left alone.
        let (found, alive, file) = begun(place).await;
        undo_left(place, "somebody else").await.unwrap();
        assert!(is_there(place, &file).await.unwrap());
        assert!(matches!(commit(place, Some(&found), &alive, &change).await.unwrap(), Outcome::Committed(_)));
        assert_eq!(left(place).await, Vec::<String>::new());
    }

    /// Between the ticket by which an instant is undone and its end: whoever goes on ends it first.
    #[tokio::test]
    async fn what_is_decided_is_done_by_whoever_comes_next() {
        let table = table().await;
        let place = table.place();
        let (found, undone, _) = begun(place).await;
        let (path, _) = next_ticket(place, &found).await.unwrap();
        assert!(take(place, &path, &undone, Fate::Undone).await.unwrap());
        let (_, other, _) = begun(place).await;
        let change = change(place).await;
        assert!(matches!(commit(place, None, &other, &change).await.unwrap(), Outcome::Committed(_)));
        // At a later instant, where nobody looks at that ticket any more.
        assert!(matches!(commit(place, None, &undone, &change).await.unwrap(), Outcome::Lost));
        // A ticket that its writer did not come to use.
        let (found, decided, file) = begun(place).await;
        let fate = Fate::Completed {
            file: format!("{}_{}.commit", decided.time, time_after(&decided.time)),
            content: BASE64_STANDARD.encode(metadata::bytes(Action::Commit, &change).unwrap()),
        };
        let (path, _) = next_ticket(place, &found).await.unwrap();
        assert!(take(place, &path, &decided, fate).await.unwrap());
        undo_left(place, OWNER).await.unwrap();
        assert!(is_there(place, &file).await.unwrap(), "it is completed, and not undone");
        let newest = place.newest().await.unwrap();
        assert!(newest.timeline.instants.iter().any(|instant| instant.time == decided.time));
        assert_eq!(left(place).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn rows_with_the_columns_of_before_do_not_take_back_the_new_ones() {
        let table = table().await;
        let place = table.place();
        let (_, slow, _) = begun(place).await;
        let change = change(place).await;
        let more = Arc::new(Schema::new(vec![Field::new("more", DataType::Int64, true)]));
        let session = SessionContext::new().state();
        table.apply(&session, 0, "one", Verb::AddColumns(more)).await.unwrap();
        assert!(matches!(commit(place, None, &slow, &change).await.unwrap(), Outcome::Lost));
        assert_eq!(table.schema().await.unwrap().fields().len(), 2);
    }
}
