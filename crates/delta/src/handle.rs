//! One opened log: loading and refreshing its state, scanning it, and errors in our words.

use crate::Location;
use crate::location::log_store;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use deltalake_core::delta_datafusion::TableProviderBuilder;
use deltalake_core::kernel::transaction::{CommitConflictError, TransactionError};
use deltalake_core::kernel::{LogicalFileView, Remove};
use deltalake_core::logstore::LogStore;
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTableError, ObjectStoreError};
use rivermere_base::Epoch;
use rivermere_table::{SinkId, TableError};
use std::sync::Arc;

pub(crate) struct Handle {
    pub(crate) location: Location,
    pub(crate) log_store: Arc<dyn LogStore>,
    /// Scans of merges run here; the store is known to it under the log's URL.
    pub(crate) session: Arc<SessionState>,
}

impl Handle {
    pub(crate) fn new(location: Location) -> Result<Self, TableError> {
        let log_store = log_store(&location)?;
        let mut config = SessionConfig::new();
        // The types of the table's schema and nothing else, so that batches of files and of views are alike.
        config.options_mut().execution.parquet.schema_force_view_types = false;
        let session = Arc::new(SessionStateBuilder::new().with_config(config).with_default_features().build());
        Ok(Self { location, log_store, session })
    }

    pub(crate) async fn exists(&self) -> Result<bool, TableError> {
        self.log_store.is_delta_table_location().await.map_err(|error| self.error("looking for the table", error))
    }

    /// The table's state at `version`, or at the newest.
    pub(crate) async fn load(&self, version: Option<u64>) -> Result<DeltaTableState, TableError> {
        DeltaTableState::try_new(self.log_store.as_ref(), version)
            .await
            .map_err(|error| self.error("reading the log", error))
    }

    /// Moves `state` to the newest version.
    pub(crate) async fn refresh(&self, state: &mut DeltaTableState) -> Result<(), TableError> {
        state.update(self.log_store.as_ref(), None).await.map_err(|error| self.error("reading the log", error))
    }

    /// The last epoch of `sink` that the table holds.
    ///
    /// Our markers carry no time, so that `delta.setTransactionRetentionDuration` never lets one expire.
    pub(crate) async fn marker(&self, state: &DeltaTableState, sink: &SinkId) -> Result<Option<Epoch>, TableError> {
        let version = state
            .transaction_version(self.log_store.as_ref(), sink.as_str())
            .await
            .map_err(|error| self.error("reading the marker", error))?;
        version
            .map(|version| {
                u64::try_from(version).map(Epoch).map_err(|_| TableError::Foreign {
                    location: self.location.to_string(),
                    found: format!("its marker is the impossible epoch {version}"),
                })
            })
            .transpose()
    }

    pub(crate) fn scan(&self, state: &DeltaTableState) -> TableProviderBuilder {
        TableProviderBuilder::default()
            .with_log_store(self.log_store.clone())
            .with_eager_snapshot(state.snapshot().clone())
            .with_session(self.session.clone())
    }

    /// The URLs that scans may call a file by. A log has file names with what is special in URLs encoded (PROTOCOL.md, "Add
    /// File and Remove File"), but the library tells them decoded, and writers differ in what they encode: first as Spark
    /// does, then as the library itself.
    pub(crate) fn file_urls(&self, file: &LogicalFileView) -> Result<[String; 2], TableError> {
        let path = file.path();
        let joined = |special: &str| {
            let encoded = match url::Url::parse(&path) {
                Ok(_) => path.to_string(),
                Err(_) => path.chars().fold(String::new(), |mut encoded, char| {
                    match char.is_ascii() && special.contains(char) {
                        true => encoded.push_str(&format!("%{:02X}", u32::from(char))),
                        false => encoded.push(char),
                    }
                    encoded
                }),
            };
            let url = self.log_store.root_url().join(&encoded);
            url.map(String::from)
                .map_err(|error| TableError::storage("reading a file name", self.location.to_string(), error))
        };
        Ok([joined("%?#")?, joined("%?#\\{}^`[]\"<>~|*\r\n")?])
    }

    /// The log entry that takes a file away.
    ///
    /// # Errors
    /// For a name that its writer put into the log unencoded: the library would encode it, to every reader that would be
    /// another file, and the rows would be there still.
    pub(crate) fn remove(&self, file: &LogicalFileView, data_change: bool) -> Result<Remove, TableError> {
        let path = file.path();
        if is_same_in_a_log(&path) {
            return Ok(file.remove_action(data_change));
        }
        Err(TableError::UnsupportedFeature {
            location: self.location.to_string(),
            feature: format!("the file name '{path}', with letters beyond ASCII,"),
            hint: "let the engine that wrote it change it",
        })
    }

    pub(crate) fn error(&self, action: &'static str, error: DeltaTableError) -> TableError {
        let unsupported = |feature: String, hint| TableError::UnsupportedFeature {
            location: self.location.to_string(),
            feature,
            hint,
        };
        match error {
            DeltaTableError::Transaction { source: TransactionError::UnsupportedTableFeatures(features) } => {
                let features = features.iter().map(ToString::to_string).collect::<Vec<_>>();
                unsupported(features.join(", "), "turn it off, or give the view a LOCATION of its own")
            }
            DeltaTableError::Transaction { source: TransactionError::DeltaTableAppendOnly } => unsupported(
                "delta.appendOnly".to_string(),
                "set the property to false, or make the view append-only with EMIT ON WINDOW CLOSE",
            ),
            DeltaTableError::NotATable(_) => TableError::Missing { location: self.location.to_string() },
            error => TableError::storage(action, self.location.to_string(), error),
        }
    }
}

/// Whether all writers spell a file's name alike in a log.
pub(crate) fn is_same_in_a_log(path: &str) -> bool {
    path.is_ascii() && !path.contains('*')
}

/// Whether a failed commit lost against another writer.
pub(crate) fn is_conflict(error: &DeltaTableError) -> bool {
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::ObjectStore { source: ObjectStoreError::AlreadyExists { .. } } => true,
        DeltaTableError::Transaction { source } => match source {
            TransactionError::VersionAlreadyExists(_) | TransactionError::MaxCommitAttempts(_) => true,
            TransactionError::CommitConflict(conflict) => !matches!(
                conflict,
                CommitConflictError::UnsupportedReaderVersion(_)
                    | CommitConflictError::UnsupportedWriterVersion(_)
                    | CommitConflictError::CorruptedState { .. }
            ),
            _ => false,
        },
        _ => false,
    }
}
