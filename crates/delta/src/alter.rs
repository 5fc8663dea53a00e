//! ALTER TABLE for columns: renamed and dropped by column mapping, widened by writing the table anew.

use crate::edits::EditError;
use crate::handle::Handle;
use crate::mapping::{self, Change};
use arrow::datatypes::DataType;
use chrono::Utc;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::{Column, DFSchema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder};
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, CommitInfo, StructTypeExt as _};
use deltalake_core::protocol::DeltaOperation;
use deltalake_core::table::state::DeltaTableState;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// The property by which a table says which columns have statistics.
const STATISTICS: &str = "delta.dataSkippingStatsColumns";

/// Commits a change of the columns and nothing else.
pub(crate) async fn change(
    handle: &Handle,
    state: &DeltaTableState,
    session: &SessionState,
    change: Change<'_>,
    properties: CommitProperties,
) -> Result<DeltaTableState, EditError> {
    let (operation, told) = match &change {
        Change::Add(columns) => {
            let names: Vec<&str> = columns.iter().map(|column| column.name().as_str()).collect();
            ("ADD COLUMNS", json!({ "columns": json!(names).to_string() }))
        }
        Change::Rename { from, to } => ("RENAME COLUMN", json!({ "oldColumnPath": from, "newColumnPath": to })),
        Change::Drop(name) => ("DROP COLUMNS", json!({ "columns": json!([name]).to_string() })),
    };
    if let Change::Rename { from: name, .. } | Change::Drop(name) = change {
        free(state, session, name)?;
    }
    let mut actions = mapping::changed(state, change, || handle.location.new_id()).map_err(EditError::Refused)?;
    let info = CommitInfo {
        timestamp: Some(Utc::now().timestamp_millis()),
        operation: Some(operation.into()),
        operation_parameters: told.as_object().map(|told| told.clone().into_iter().collect::<HashMap<_, _>>()),
        engine_info: Some(concat!("rivermere/", env!("CARGO_PKG_VERSION")).into()),
        ..CommitInfo::default()
    };
    actions.insert(0, Action::CommitInfo(info));
    let committed = CommitBuilder::from(properties.with_max_retries(0))
        .with_actions(actions)
        .build(Some(state), handle.log_store.clone(), DeltaOperation::UpdateFieldMetadata { fields: vec![] })
        .await;
    Ok(committed.map_err(EditError::Library)?.snapshot())
}

/// Refuses a column that a rule of the table names: the rule would mean another column, or none.
fn free(state: &DeltaTableState, session: &SessionState, name: &str) -> Result<(), EditError> {
    let schema = DFSchema::try_from(state.snapshot().arrow_schema().as_ref().clone())?;
    for (key, check) in state.metadata().configuration() {
        let Some(constraint) = key.strip_prefix("delta.constraints.") else { continue };
        let parsed = session.create_logical_expr(check, &schema)?;
        if parsed.column_refs().iter().any(|column| column.name == name) {
            return Err(EditError::Refused(format!(
                "the constraint '{constraint}' ({check}) names '{name}': drop it first"
            )));
        }
    }
    let listed = state.metadata().configuration().get(STATISTICS).map(String::as_str).unwrap_or_default();
    if listed.split(',').any(|column| column.trim().trim_matches('`') == name) {
        return Err(EditError::Refused(format!("the property {STATISTICS} names '{name}': set it anew first")));
    }
    let told = |error: deltalake_core::kernel::Error| EditError::Refused(error.to_string());
    if !state.snapshot().schema().get_invariants().map_err(told)?.is_empty() {
        return Err(EditError::Refused("it has column invariants, whose expressions name columns".into()));
    }
    let generated =
        state.snapshot().schema().get_generated_columns().map_err(|error| EditError::Refused(error.to_string()))?;
    match generated.is_empty() {
        true => Ok(()),
        false => Err(EditError::Refused("it has generated columns, whose expressions name columns".into())),
    }
}

/// All rows of the table, with one column in its new type.
///
/// # Errors
/// When the new type does not hold every value of the old one.
pub(crate) async fn widened(
    handle: &Handle,
    state: &DeltaTableState,
    column: &str,
    to: &DataType,
) -> Result<LogicalPlan, EditError> {
    if mapping::is_mapped(state) {
        return Err(EditError::Refused("types of a table with column mapping are not widened yet".into()));
    }
    if state.metadata().partition_columns().iter().any(|partition| partition == column) {
        return Err(EditError::Refused(format!("the table is partitioned by '{column}'")));
    }
    let provider = handle.scan(state).build().await?;
    let scan = LogicalPlanBuilder::scan("t", provider_as_source(Arc::new(provider)), None)?.build()?;
    let schema = scan.schema().clone();
    let mut all = vec![];
    for field in state.snapshot().arrow_schema().fields() {
        let value = Expr::Column(Column::from_name(field.name()));
        if field.name() != column {
            all.push(value);
            continue;
        }
        if !widens(field.data_type(), to) {
            return Err(EditError::Refused(format!(
                "'{column}' is {}, and not every value of that is one of {to}",
                field.data_type()
            )));
        }
        all.push(value.cast_to(to, &schema)?.alias(column));
    }
    Ok(LogicalPlanBuilder::from(scan).project(all)?.build()?)
}

/// The changes of PROTOCOL.md, "Type Widening".
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp};
    match (from, to) {
        (Int8, Int16 | Int32 | Int64 | Float64) | (Int16, Int32 | Int64 | Float64) => true,
        (Int32, Int64 | Float64) | (Float32, Float64) | (Date32, Timestamp(_, None)) => true,
        (Decimal128(digits, scale), Decimal128(more, finer)) => {
            finer >= scale && i16::from(*more) - i16::from(*finer) >= i16::from(*digits) - i16::from(*scale)
        }
        (Int8 | Int16 | Int32, Decimal128(digits, scale)) => i16::from(*digits) - i16::from(*scale) >= 10,
        (Int64, Decimal128(digits, scale)) => i16::from(*digits) - i16::from(*scale) >= 20,
        _ => false,
    }
}
