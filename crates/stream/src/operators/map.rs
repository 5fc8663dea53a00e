//! Filter and projection: Δ(π σ A) = π σ ΔA. No state.

use super::{Operator, RejectedRow, StepContext};
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::PhysicalExpr;
use rivermere_base::{Changes, Weights};
use std::sync::Arc;

/// An optional filter, then an optional list of expressions.
pub(crate) struct Map {
    filter: Option<Arc<dyn PhysicalExpr>>,
    project: Option<Vec<Arc<dyn PhysicalExpr>>>,
    /// Of the output.
    schema: SchemaRef,
}

impl Map {
    pub(crate) fn filter(predicate: Arc<dyn PhysicalExpr>, schema: SchemaRef) -> Self {
        Self { filter: Some(predicate), project: None, schema }
    }

    pub(crate) fn project(expressions: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> Self {
        Self { filter: None, project: Some(expressions), schema }
    }

    fn apply(&self, changes: &Changes) -> Result<Changes, DataFusionError> {
        let mut changes = changes.clone();
        if let Some(filter) = &self.filter {
            changes = keep(&changes, &predicate(filter, changes.batch())?)?;
        }
        let Some(project) = &self.project else { return Ok(changes) };
        let rows = changes.num_rows();
        let columns = project
            .iter()
            .map(|expr| expr.evaluate(changes.batch())?.into_array(rows))
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(Changes::new(batch, changes.into_parts().1)?)
    }

    /// Applies to all rows at once; on an error, to ever smaller halves, so that only the failing rows are left out.
    fn apply_or_reject(&self, changes: Changes, context: &mut StepContext, out: &mut Vec<Changes>) -> Result<()> {
        match self.apply(&changes) {
            Ok(result) => {
                if !result.is_empty() {
                    out.push(result);
                }
            }
            Err(error) if changes.num_rows() == 1 => {
                let reason = error.strip_backtrace();
                let row = crate::source::row_as_json(changes.batch(), 0);
                context.rejected.push(RejectedRow {
                    view: context.view.to_string(),
                    row,
                    reason,
                    weight: changes.weight(0),
                });
            }
            Err(_) => {
                let half = changes.num_rows() / 2;
                self.apply_or_reject(changes.slice(0, half), context, out)?;
                self.apply_or_reject(changes.slice(half, changes.num_rows() - half), context, out)?;
            }
        }
        Ok(())
    }
}

impl Operator for Map {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let mut out = vec![];
        for changes in inputs.into_iter().flatten() {
            if !changes.is_empty() {
                self.apply_or_reject(changes, context, &mut out)?;
            }
        }
        Ok(out)
    }
}

/// Which rows a predicate holds for; null is false.
pub(crate) fn predicate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let array = expr.evaluate(batch)?.into_array(batch.num_rows())?;
    let mask = array
        .as_boolean_opt()
        .ok_or_else(|| DataFusionError::Execution(format!("a condition must be boolean, not {}", array.data_type())))?;
    Ok(if mask.null_count() > 0 { arrow::compute::prep_null_mask_filter(mask) } else { mask.clone() })
}

/// The rows of `changes` that a mask without nulls keeps.
pub(crate) fn keep(changes: &Changes, mask: &BooleanArray) -> Result<Changes, DataFusionError> {
    let kept = mask.true_count();
    if kept == changes.num_rows() {
        return Ok(changes.clone());
    }
    if changes.batch().num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(kept));
        let batch = RecordBatch::try_new_with_options(changes.schema(), vec![], &options)?;
        let weights = match changes.weights() {
            Weights::Ones => Weights::Ones,
            Weights::Each(each) => Weights::Each(arrow::compute::filter(each, mask)?.as_primitive().clone()),
        };
        return Ok(Changes::new(batch, weights)?);
    }
    if changes.is_append_only() {
        return Ok(Changes::inserts(filter_record_batch(changes.batch(), mask)?));
    }
    Ok(changes.filter(mask)?)
}
