//! Whether a view can be written into a table, before anything is.

use crate::handle::Handle;
use crate::schema::Conform;
use deltalake_core::kernel::StructTypeExt as _;
use deltalake_core::table::state::DeltaTableState;
use rivermere_table::{SinkSpec, TableError};

/// How the view's columns go into the table, if they can.
pub(crate) fn fit(handle: &Handle, spec: &SinkSpec, state: &DeltaTableState) -> Result<Conform, TableError> {
    check_features(handle, state)?;
    Conform::new(&spec.schema, state.snapshot().arrow_schema(), &handle.location.to_string())
}

/// Rules of the table that the library would let us break.
pub(crate) fn check_features(handle: &Handle, state: &DeltaTableState) -> Result<(), TableError> {
    let refuse = |feature: String| {
        Err(TableError::UnsupportedFeature {
            location: handle.location.to_string(),
            feature,
            hint: "drop it, or give the view a LOCATION of its own",
        })
    };
    let configuration = state.metadata().configuration();
    if let Some(name) = configuration.keys().find_map(|key| key.strip_prefix("delta.constraints.")) {
        return refuse(format!("the CHECK constraint '{name}'"));
    }
    if configuration.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
        return refuse("column mapping".to_string());
    }
    let schema = state.schema();
    let unreadable = |error: deltalake_core::kernel::Error| {
        TableError::storage("reading the schema", handle.location.to_string(), error)
    };
    if !schema.get_invariants().map_err(unreadable)?.is_empty() {
        return refuse("column invariants".to_string());
    }
    if !schema.get_generated_columns().map_err(unreadable)?.is_empty() {
        return refuse("generated columns".to_string());
    }
    if let Some(field) =
        schema.fields().find(|field| field.metadata().keys().any(|key| key.starts_with("delta.identity.")))
    {
        return refuse(format!("the identity column '{}'", field.name()));
    }
    Ok(())
}
