//! Reading.

use crate::Location;
use crate::feed;
use crate::handle::Handle;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::TableProvider;
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt as _, TryStreamExt as _};
use rivermere_table::{RowChanges, Table, TableError, TableVersion};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Log entries that are read at a time.
const ENTRIES_AT_ONCE: usize = 16;

/// Versions that one call of [`Table::history`] returns at most.
const MAX_HISTORY: usize = 10_000;

/// A Delta table, written by whomever.
pub struct DeltaTable {
    handle: Handle,
    /// The newest state that was seen; following the log from there is cheaper than from the last checkpoint.
    newest: Mutex<DeltaTableState>,
    /// The version that changes were last read up to, from which they are mostly read on.
    followed: Mutex<Option<DeltaTableState>>,
}

impl DeltaTable {
    /// # Errors
    /// [`TableError::Missing`] when there is no table.
    pub async fn open(location: Location) -> Result<Self, TableError> {
        let handle = Handle::new(location)?;
        if !handle.exists().await? {
            return Err(TableError::Missing { location: handle.location.to_string() });
        }
        let newest = Mutex::new(handle.load(None).await?);
        Ok(Self { handle, newest, followed: Mutex::new(None) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) async fn newest(&self) -> Result<DeltaTableState, TableError> {
        let mut newest = self.newest.lock().await;
        self.handle.refresh(&mut newest).await?;
        Ok(newest.clone())
    }

    async fn at(&self, version: i64) -> Result<DeltaTableState, TableError> {
        let newest = self.newest().await?;
        let missing = || TableError::MissingVersion {
            location: self.handle.location.to_string(),
            version,
            newest: signed(newest.version()),
        };
        let Ok(wanted) = u64::try_from(version) else { return Err(missing()) };
        if wanted == newest.version() {
            return Ok(newest);
        }
        if wanted > newest.version() {
            return Err(missing());
        }
        self.handle.load(Some(wanted)).await.map_err(|error| match error {
            // The log entries before the oldest checkpoint may be cleaned up.
            TableError::Missing { .. } => missing(),
            error => error,
        })
    }
}

/// What a log entry says of itself, which may be nothing.
fn told(version: u64, entry: &[u8]) -> TableVersion {
    let info = entry.split(|byte| *byte == b'\n').find_map(|line| {
        let action: serde_json::Value = serde_json::from_slice(line).ok()?;
        action.get("commitInfo").cloned()
    });
    let field = |name: &str| info.as_ref().and_then(|info| info.get(name));
    let text = |name: &str| field(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    TableVersion {
        version: signed(version),
        committed_ms: field("timestamp").and_then(serde_json::Value::as_i64),
        operation: text("operation"),
        parameters: field("operationParameters").map(ToString::to_string),
        engine: text("engineInfo"),
    }
}

/// Versions up to `newest`, newest first.
pub(crate) async fn history(handle: &Handle, newest: u64, limit: usize) -> Result<Vec<TableVersion>, TableError> {
    let read = |version: u64| async move {
        let entry = handle.log_store.read_commit_entry(version).await;
        let entry = entry.map_err(|error| handle.error("reading the history", error))?;
        Ok::<_, TableError>(entry.map(|entry| told(version, &entry)))
    };
    let versions = (0..=newest).rev().take(limit.min(MAX_HISTORY)).map(read);
    // An entry that was cleaned up ends what the table remembers.
    let known = futures::stream::iter(versions).buffered(ENTRIES_AT_ONCE);
    known
        .try_take_while(|entry| std::future::ready(Ok(entry.is_some())))
        .try_filter_map(|entry| async { Ok(entry) })
        .try_collect()
        .await
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

#[async_trait]
impl Table for DeltaTable {
    async fn schema(&self) -> Result<SchemaRef, TableError> {
        Ok(self.newest().await?.snapshot().arrow_schema())
    }

    async fn version(&self) -> Result<i64, TableError> {
        Ok(signed(self.newest().await?.version()))
    }

    async fn version_at(&self, time_ms: i64) -> Result<i64, TableError> {
        let history = self.history(MAX_HISTORY).await?;
        let until = |version: &&TableVersion| version.committed_ms.is_some_and(|committed| committed <= time_ms);
        if let Some(version) = history.iter().find(until) {
            return Ok(version.version);
        }
        let oldest = history.last().and_then(|version| version.committed_ms);
        let oldest = oldest.and_then(DateTime::from_timestamp_millis);
        Err(TableError::MissingTime {
            location: self.handle.location.to_string(),
            oldest: oldest.map_or("an unknown time".into(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()),
        })
    }

    async fn version_named(&self, name: &str) -> Result<i64, TableError> {
        let location = self.handle().location.to_string();
        Err(TableError::MissingName { location, name: name.to_owned(), known: String::new() })
    }

    async fn history(&self, limit: usize) -> Result<Vec<TableVersion>, TableError> {
        let newest = self.newest().await?.version();
        history(&self.handle, newest, limit).await
    }

    async fn scan(&self, version: Option<i64>) -> Result<Arc<dyn TableProvider>, TableError> {
        let state = match version {
            None => self.newest().await?,
            Some(version) => self.at(version).await?,
        };
        let provider = self.handle.scan(&state).await;
        provider.map_err(|error| TableError::storage("opening", self.handle.location.to_string(), error))
    }

    async fn id(&self, version: i64) -> Result<String, TableError> {
        Ok(self.at(version).await?.metadata().id().to_string())
    }

    async fn names_in(&self, version: i64, to: i64, columns: &SchemaRef) -> Result<Vec<Option<String>>, TableError> {
        Ok(feed::names_in(&self.at(version).await?, &self.at(to).await?, columns))
    }

    async fn changes(&self, from: Option<i64>, to: i64, columns: &SchemaRef) -> Result<RowChanges, TableError> {
        let to = self.at(to).await?;
        let mut followed = self.followed.lock().await;
        let known = followed.take().filter(|state| Some(signed(state.version())) == from);
        let from = match (known, from) {
            (None, Some(from)) => Some(self.at(from).await?),
            (known, _) => known,
        };
        *followed = Some(to.clone());
        feed::changes(&self.handle, from.as_ref(), &to, columns).await
    }
}
