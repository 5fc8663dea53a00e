//! Files that nothing needs any more: `VACUUM`, asked and unasked.

use crate::edits::EditError;
use crate::expired::{CLEANED, Expired, expired};
use crate::handle::Handle;
use crate::table::history;
use buoyant_kernel::table_features::TableFeature;
use chrono::{Duration, Utc};
use deltalake_core::checkpoints::cleanup_expired_logs_for;
use deltalake_core::kernel::Transaction;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::table::config::TablePropertiesExt as _;
use deltalake_core::table::state::DeltaTableState;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use rivermere_table::{Clean, TableError};
use serde_json::json;

/// Versions whose deletion vectors a clean-up may have to keep.
const NEEDED_AT_MOST: usize = 256;

/// Files that are looked at in one go of the upkeep.
const FILES_AT_ONCE: usize = 10_000;
/// Versions after which it is written down how far a clean-up came, though it found nothing.
const COVERED_AT_LEAST: u64 = 256;

/// What a clean-up did.
pub(crate) struct Cleaned {
    /// The newest state afterwards.
    pub(crate) state: DeltaTableState,
    pub(crate) files_removed: u64,
    /// Versions whose removals are too young to be looked at.
    pub(crate) younger: u64,
}

/// Removes the data files that no version of the retention, and none that is asked for, names.
pub(crate) async fn clean(
    handle: &Handle,
    state: &DeltaTableState,
    clean: &Clean,
    commit: impl Fn() -> CommitProperties,
) -> Result<Cleaned, EditError> {
    let needed = known(handle, state, &clean.needed).await?;
    let own = milliseconds(state.table_config().deleted_file_retention_duration());
    let retention = clean.retention_ms(own, "delta.deletedFileRetentionDuration").map_err(EditError::Refused)?;
    if clean.everything {
        return everything(handle, state, clean, needed, retention, commit()).await;
    }
    let since = Utc::now().timestamp_millis().saturating_sub(retention);
    let expired = expired(handle, state, since, &needed, usize::MAX).await?;
    if clean.dry_run {
        return Ok(Cleaned {
            state: state.clone(),
            files_removed: expired.files.len() as u64,
            younger: expired.younger,
        });
    }
    remove(handle, state, expired, retention, commit).await
}

/// A bounded piece of the same, unasked.
pub(crate) async fn tidy(
    handle: &Handle,
    state: &DeltaTableState,
    needed: &[i64],
    commit: impl Fn() -> CommitProperties,
) -> Result<Cleaned, EditError> {
    let needed = known(handle, state, needed).await?;
    let retention = milliseconds(state.table_config().deleted_file_retention_duration());
    let since = Utc::now().timestamp_millis().saturating_sub(retention);
    let expired = expired(handle, state, since, &needed, FILES_AT_ONCE).await?;
    remove(handle, state, expired, retention, commit).await
}

fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Says so before and after, as Spark does. A clean-up that is cut off is done again from where the last one came to.
async fn remove(
    handle: &Handle,
    state: &DeltaTableState,
    expired: Expired,
    retention: i64,
    commit: impl Fn() -> CommitProperties,
) -> Result<Cleaned, EditError> {
    let younger = expired.younger;
    let files_removed = expired.files.len() as u64;
    let log_store = &handle.log_store;
    let mut state = state.clone();
    if files_removed == 0 && expired.covered < COVERED_AT_LEAST {
        return Ok(Cleaned { state, files_removed, younger });
    }
    let told = |name: &str| ("operationMetrics".to_string(), json!({ name: files_removed.to_string() }));
    if files_removed > 0 {
        let own = milliseconds(state.table_config().deleted_file_retention_duration());
        let begins = DeltaOperation::VacuumStart {
            retention_check_enabled: true,
            specified_retention_millis: Some(retention),
            default_retention_millis: own,
        };
        let commit = CommitBuilder::from(commit().with_metadata([told("numFilesToDelete")]));
        let before = state.version();
        state = commit.build(Some(&state), log_store.clone(), begins).await.map_err(EditError::Library)?.snapshot();
        if state.version() > before + 1 {
            // Somebody has committed in between, and may have brought a file back: there is a next time.
            return Ok(Cleaned { state, files_removed: 0, younger });
        }
        let locations = futures::stream::iter(expired.files).map(Ok).boxed();
        let deleted = log_store.object_store(None).delete_stream(locations);
        let gone = |deleted: Result<Path, object_store::Error>| match deleted {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        let failed =
            |error| TableError::storage("removing files that nothing needs", handle.location.to_string(), error);
        deleted.map(gone).try_collect::<()>().await.map_err(failed)?;
    }
    let until = expired.until.and_then(|until| i64::try_from(until).ok()).unwrap_or_default();
    let commit = commit()
        .with_metadata([told("numDeletedFiles")])
        .with_application_transaction(Transaction::new(CLEANED, until));
    let ended = DeltaOperation::VacuumEnd { status: "COMPLETED".to_string() };
    let commit = CommitBuilder::from(commit).build(Some(&state), log_store.clone(), ended);
    let state = commit.await.map_err(EditError::Library)?.snapshot();
    Ok(Cleaned { state, files_removed, younger })
}

/// Also what no version ever named: the folder is listed.
async fn everything(
    handle: &Handle,
    state: &DeltaTableState,
    clean: &Clean,
    mut needed: Vec<u64>,
    retention: i64,
    commit: CommitProperties,
) -> Result<Cleaned, EditError> {
    needed.extend(retained(handle, state, retention).await?);
    let mut table = deltalake_core::DeltaTable::new(handle.log_store.clone());
    table.state = Some(state.clone());
    let vacuum = table.vacuum().with_mode(VacuumMode::Full).with_dry_run(clean.dry_run);
    let mut vacuum = vacuum.with_retention_period(Duration::milliseconds(retention));
    if !needed.is_empty() {
        vacuum = vacuum.with_keep_versions(&needed);
    }
    let (table, metrics) = vacuum.with_commit_properties(commit).await.map_err(EditError::Library)?;
    let state = table.snapshot().map_err(EditError::Library)?.clone();
    Ok(Cleaned { state, files_removed: metrics.files_deleted.len() as u64, younger: 0 })
}

/// Removes log entries that are older than the table's own retention, but for those that `needed` versions stand on.
pub(crate) async fn forget(handle: &Handle, state: &DeltaTableState, needed: &[i64]) -> Result<(), TableError> {
    let config = state.table_config();
    let since = Duration::from_std(config.log_retention_duration())
        .ok()
        .and_then(|retention| Utc::now().checked_sub_signed(retention));
    let Some(since) = since.filter(|_| config.enable_expired_log_cleanup()) else { return Ok(()) };
    let oldest = needed.iter().filter_map(|version| u64::try_from(*version).ok()).min();
    let keep = oldest.map_or(state.version(), |oldest| oldest.min(state.version()));
    cleanup_expired_logs_for(keep, handle.log_store.as_ref(), since.timestamp_millis(), None)
        .await
        .map_err(|error| handle.error("forgetting old log entries", error))?;
    Ok(())
}

/// Those of `versions` that the table still remembers.
async fn known(handle: &Handle, state: &DeltaTableState, versions: &[i64]) -> Result<Vec<u64>, TableError> {
    let mut known = vec![];
    for version in versions {
        let Some(version) = u64::try_from(*version).ok().filter(|version| *version <= state.version()) else {
            continue;
        };
        match handle.load(Some(version)).await {
            Ok(_) => known.push(version),
            Err(TableError::Missing { .. } | TableError::MissingVersion { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

/// The versions of the retention of a table that may have deletion vectors. The library keeps data files of these; of
/// vectors only those that the newest version names.
async fn retained(handle: &Handle, state: &DeltaTableState, retention: i64) -> Result<Vec<u64>, TableError> {
    let features = state.protocol().reader_features().unwrap_or_default();
    if !features.contains(&TableFeature::DeletionVectors) {
        return Ok(vec![]);
    }
    let since = Utc::now().timestamp_millis().saturating_sub(retention);
    let mut needed = vec![];
    for version in history(handle, state.version(), NEEDED_AT_MOST + 1).await? {
        needed.extend(u64::try_from(version.version));
        // The one before the first of that time was the newest then.
        if version.committed_ms.is_some_and(|committed| committed < since) {
            return Ok(needed);
        }
    }
    if needed.len() > NEEDED_AT_MOST {
        return Err(TableError::Verb {
            location: handle.location.to_string(),
            verb: "VACUUM",
            reason: format!(
                "more than {NEEDED_AT_MOST} versions of its time may need their deletion vectors: leave out FULL"
            ),
        });
    }
    Ok(needed)
}
