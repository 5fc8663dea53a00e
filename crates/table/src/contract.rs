//! The verbs and nouns of the contract.

use crate::TableError;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use futures::stream::BoxStream;
use rivermere_base::{Changes, Epoch};
use std::fmt;
use std::sync::Arc;

/// Who writes: `rivermere/<incarnation>/<view>`. The incarnation is a UUID made with the pipeline's first manifest, so a
/// pipeline that was started over is another writer and cannot take an old table for its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SinkId(Arc<str>);

impl SinkId {
    /// # Errors
    /// When the text is not `rivermere/<incarnation>/<view>` with three non-empty parts.
    pub fn new(text: impl AsRef<str>) -> Result<Self, TableError> {
        let text = text.as_ref();
        let mut parts = text.splitn(3, '/');
        let whole = parts.next() == Some("rivermere")
            && parts.next().is_some_and(|incarnation| !incarnation.is_empty())
            && parts.next().is_some_and(|view| !view.is_empty());
        if !whole {
            return Err(TableError::InvalidSpec {
                reason: format!("sink id '{text}' is not rivermere/<incarnation>/<view>"),
            });
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The view's name.
    pub fn view(&self) -> &str {
        self.0.splitn(3, '/').nth(2).unwrap_or_default()
    }
}

impl fmt::Display for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How net changes reach the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkMode {
    /// Rows are only ever added; a net deletion is an error.
    Append,
    /// The table holds one row for each value of the key columns. Null equals null.
    Merge {
        /// Column names; not empty.
        key: Vec<String>,
    },
}

/// What to do with a table that this sink has never written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adopt {
    /// Refuse it, unless it is empty and nobody's.
    #[default]
    Refuse,
    /// Keep its rows and write on from there.
    Adopt,
    /// Replace its rows and columns by those of the view, in one commit; older versions stay readable.
    Overwrite,
}

/// All that a format needs to open a sink.
#[derive(Clone, Debug)]
pub struct SinkSpec {
    pub sink_id: SinkId,
    /// Columns of the view.
    pub schema: SchemaRef,
    pub mode: SinkMode,
    pub adopt: Adopt,
    /// Properties, in the words of the format, of a table that is made.
    pub properties: Vec<(String, String)>,
    /// The first epoch that the view may have output in. What a table holds from before is of an earlier view of the same
    /// name, and no more this view's than that of another pipeline.
    pub since: Epoch,
}

impl SinkSpec {
    /// The marker of a table that is this sink's and holds nothing of it yet.
    pub fn first_marker(&self) -> Epoch {
        Epoch(self.since.0.saturating_sub(1))
    }
}

impl SinkSpec {
    /// Whether a table that this sink has no part in may be written, and how: kept as it is, or replaced. `marker` is the epoch
    /// that the table holds of the sink's name, `owner` who says that it writes the table, `files` how many data files it has.
    ///
    /// # Errors
    /// [`TableError::Foreign`], with what was found.
    pub fn claim(
        &self,
        location: &str,
        marker: Option<Epoch>,
        owner: Option<&str>,
        files: usize,
    ) -> Result<Claim, TableError> {
        let found = match (self.adopt, owner) {
            (Adopt::Adopt, _) => return Ok(Claim::Keep),
            (Adopt::Overwrite, _) => return Ok(Claim::Replace),
            (Adopt::Refuse, None) if files == 0 => return Ok(Claim::Keep),
            // Ours and empty: an earlier view of this name was dropped before it had rows.
            (Adopt::Refuse, _) if marker.is_some() && files == 0 => return Ok(Claim::Replace),
            (Adopt::Refuse, Some(_)) if marker.is_some() => {
                format!("it holds what an earlier view '{}', which was dropped, wrote", self.sink_id.view())
            }
            (Adopt::Refuse, Some(owner)) => format!("it belongs to '{owner}', this is '{}'", self.sink_id),
            (Adopt::Refuse, None) => format!("it holds {files} data file(s) of another writer"),
        };
        Err(TableError::Foreign { location: location.to_owned(), found })
    }
}

/// How a table becomes a sink's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// With its rows, if any.
    Keep,
    /// By the view's rows and columns.
    Replace,
}

/// The net changes of one epoch: durable in the pipeline's own outbox and listed in its manifest.
#[derive(Clone, Debug)]
pub struct StagedEpoch {
    pub epoch: Epoch,
    pub changes: Vec<Changes>,
}

/// What [`TableSink::commit`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Version of the table that holds `epoch`, or a later one when there was nothing left to do.
    pub version: i64,
    /// Last epoch that the table holds now.
    pub epoch: Epoch,
    /// Epochs that the table held already.
    pub epochs_skipped: u64,
    pub rows_inserted: u64,
    pub rows_deleted: u64,
    pub files_added: u64,
    pub files_removed: u64,
    /// Attempts lost to other writers of the table.
    pub conflicts: u64,
}

/// Publishes the epochs of one view into one table.
#[async_trait]
pub trait TableSink: Send + Sync {
    /// The last epoch that the table holds, read from the table itself; `None` when it holds none.
    async fn committed(&self) -> Result<Option<Epoch>, TableError>;

    /// Publishes `epochs`, which ascend, in one atomic commit; epochs that the table holds already are skipped. After
    /// an error nothing is known but that repeating the call is safe.
    ///
    /// # Errors
    /// [`TableError::is_retryable`] tells whether repeating can help.
    async fn commit(&self, epochs: Vec<StagedEpoch>) -> Result<Committed, TableError>;

    /// A bounded piece of the table's upkeep, cheap when there is none: to be called between commits, whose way it is in.
    /// Rows and the marker stay as they are, and so do the files of the versions `needed`, from which somebody reads on.
    ///
    /// # Errors
    /// Nothing is lost by one, and nothing need be done about it: it is tried again with a later commit.
    async fn maintain(&self, needed: &[i64]) -> Result<Upkeep, TableError>;
}

/// What [`TableSink::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Small files that were put together.
    pub files_compacted: u64,
    /// Files that nothing needs any more and that are gone.
    pub files_removed: u64,
}

/// One version of a table, newest first in [`Table::history`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableVersion {
    pub version: i64,
    /// Milliseconds since 1970-01-01 UTC, by the clock of whoever committed.
    pub committed_ms: Option<i64>,
    /// What was done, in the words of the format (`WRITE`, `MERGE`, `OPTIMIZE`, ...).
    pub operation: Option<String>,
    /// How it was done, as a JSON object.
    pub parameters: Option<String>,
    /// The program that did it.
    pub engine: Option<String>,
}

/// Rows that come and go, batch by batch.
pub type RowChanges = BoxStream<'static, Result<Changes, TableError>>;

/// A table in the lake, for reading.
#[async_trait]
pub trait Table: Send + Sync {
    /// Columns at the newest version.
    async fn schema(&self) -> Result<SchemaRef, TableError>;

    /// The newest version.
    async fn version(&self) -> Result<i64, TableError>;

    /// The newest version that was committed at `time_ms` (milliseconds since 1970-01-01 UTC) or before.
    ///
    /// # Errors
    /// [`TableError::MissingTime`] when the oldest version that the table remembers is newer.
    async fn version_at(&self, time_ms: i64) -> Result<i64, TableError>;

    /// The version that a branch or a tag names.
    ///
    /// # Errors
    /// [`TableError::MissingName`] when there is none of that name, as there never is in formats that have no names for versions.
    async fn version_named(&self, name: &str) -> Result<i64, TableError>;

    /// The newest `limit` versions that the table still remembers.
    async fn history(&self, limit: usize) -> Result<Vec<TableVersion>, TableError>;

    /// The version before `version`, which is not 0.
    ///
    /// # Errors
    /// [`TableError::MissingVersion`] when it is forgotten, for a format whose numbers do not follow each other.
    async fn before(&self, version: i64) -> Result<i64, TableError> {
        Ok(version - 1)
    }

    /// The rows at `version`, or at the newest one. The answer does not move when the table does.
    async fn scan(&self, version: Option<i64>) -> Result<Arc<dyn TableProvider>, TableError>;

    /// What tells the table apart, at `version`, from another one that was made at the same place.
    async fn id(&self, version: i64) -> Result<String, TableError>;

    /// What columns that version `to` has are called in `version`, in the order of `columns`; `None` where there is no such
    /// column. A format that renames columns without touching their files knows them by something else than their names.
    ///
    /// # Errors
    /// [`TableError::MissingVersion`] when a version is forgotten.
    async fn names_in(&self, version: i64, to: i64, columns: &SchemaRef) -> Result<Vec<Option<String>>, TableError>;

    /// How the rows of version `from` (none, without it) become those of version `to`, with the columns of `columns` by
    /// their names and in its types. In any order and not consolidated: a row that only moved to another file comes and
    /// goes. Adding it all to the rows of `from` gives exactly the rows of `to`, whatever was done in between and by
    /// whomever; no change feed has to be kept by the table.
    ///
    /// # Errors
    /// [`TableError::MissingVersion`] when a version is forgotten, [`TableError::SchemaMismatch`] when a column is gone
    /// or has another type. In the stream: files that were cleaned up since.
    async fn changes(&self, from: Option<i64>, to: i64, columns: &SchemaRef) -> Result<RowChanges, TableError>;

    /// Whether the newest version may be one that was the newest before, with its old number: a format whose rollback makes no
    /// new version. Else a newest version that is older than before is that of another table.
    fn turns_back(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_id_names_its_view() {
        let id = SinkId::new("rivermere/0b6f/sales/by_day").unwrap();
        assert_eq!(id.view(), "sales/by_day");
        for bad in ["", "rivermere", "rivermere//v", "rivermere/u/", "other/u/v"] {
            assert!(SinkId::new(bad).is_err(), "{bad}");
        }
    }
}
