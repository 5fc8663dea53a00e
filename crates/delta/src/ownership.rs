//! Whose table is it? A table is written only by the sink whose marker its log carries.
//!
//! A created, adopted or overwritten table gets the sink's first marker in the very commit that makes it ours, so a crash
//! at any moment leaves a table that is ours or is not, and opening it again ends in the same state.

use crate::fit::fit;
use crate::handle::Handle;
use crate::schema::{delta_columns, table_schema};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, MetadataExt, Transaction};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use rivermere_base::Epoch;
use rivermere_table::{Claim, SinkSpec, TableError};
use std::collections::HashMap;

/// Table property that names the sink for people and for the refusal of others; the marker alone decides.
pub(crate) const OWNER: &str = "rivermere.sink";

/// What a commit of `spec`'s sink always says. The marker makes a lost race visible; retrying is ours, because the
/// library would not notice that a file to be rewritten was compacted away in the meantime.
pub(crate) fn properties(spec: &SinkSpec, epoch: Epoch) -> Result<CommitProperties, TableError> {
    let version = i64::try_from(epoch.0)
        .map_err(|_| TableError::InvalidSpec { reason: format!("epoch {epoch} is larger than a marker can be") })?;
    Ok(CommitProperties::default()
        .with_max_retries(0)
        .with_cleanup_expired_logs(Some(false))
        .with_application_transaction(Transaction::new(spec.sink_id.as_str(), version)))
}

/// The state of a table that carries our marker, created or taken over if need be.
pub(crate) async fn claim(handle: &Handle, spec: &SinkSpec) -> Result<(DeltaTableState, Epoch), TableError> {
    if !handle.exists().await? {
        create(handle, spec, SaveMode::ErrorIfExists).await?;
    }
    let state = handle.load(None).await?;
    let marker = handle.marker(&state, &spec.sink_id).await?;
    if let Some(marker) = marker.filter(|marker| *marker >= spec.first_marker()) {
        return Ok((state, marker));
    }
    let owner = state.metadata().configuration().get(OWNER).cloned();
    let files = state.log_data().num_files();
    match spec.claim(&handle.location.to_string(), marker, owner.as_deref(), files)? {
        Claim::Keep => adopt(handle, spec, &state).await?,
        Claim::Replace => create(handle, spec, SaveMode::Overwrite).await?,
    }
    let state = handle.load(None).await?;
    match handle.marker(&state, &spec.sink_id).await? {
        Some(marker) => Ok((state, marker)),
        None => Err(TableError::Foreign {
            location: handle.location.to_string(),
            found: "another writer created or replaced it at the same moment".to_string(),
        }),
    }
}

/// Creates the table, or replaces its rows and columns.
async fn create(handle: &Handle, spec: &SinkSpec, mode: SaveMode) -> Result<(), TableError> {
    let asked_for = spec.properties.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
    let configuration = asked_for.chain([(OWNER, Some(spec.sink_id.as_str()))]);
    let created = CreateBuilder::new()
        .with_log_store(handle.log_store.clone())
        .with_table_name(spec.sink_id.view())
        .with_columns(delta_columns(table_schema(&spec.schema)?.as_ref())?)
        .with_configuration(configuration)
        .with_raise_if_key_not_exists(false)
        .with_save_mode(mode)
        .with_commit_properties(properties(spec, spec.first_marker())?)
        .await;
    match created {
        Ok(_) => Ok(()),
        // Perhaps it is there all the same: another process was faster, or only the answer was lost.
        Err(error) => match handle.exists().await {
            Ok(true) if mode == SaveMode::ErrorIfExists => Ok(()),
            _ => Err(handle.error("creating the table", error)),
        },
    }
}

/// Leaves rows and columns as they are, if the view fits: a table that is marked as ours must be one we can write.
async fn adopt(handle: &Handle, spec: &SinkSpec, state: &DeltaTableState) -> Result<(), TableError> {
    fit(handle, spec, state)?;
    let metadata = state
        .metadata()
        .clone()
        .add_config_key(OWNER.to_string(), spec.sink_id.to_string())
        .map_err(|error| handle.error("adopting the table", error.into()))?;
    let operation = DeltaOperation::SetTableProperties {
        properties: HashMap::from([(OWNER.to_string(), spec.sink_id.to_string())]),
    };
    CommitBuilder::from(properties(spec, spec.first_marker())?)
        .with_actions(vec![Action::Metadata(metadata)])
        .build(Some(state), handle.log_store.clone(), operation)
        .await
        .map(|_| ())
        .map_err(|error| handle.error("adopting the table", error))
}
