//! Leaves out rows that came after their watermark, and counts them. No state: lateness is a column of the row.

use super::map::{keep, predicate};
use super::{Operator, StepContext};
use crate::error::Result;
use datafusion::physical_plan::PhysicalExpr;
use rivermere_base::Changes;
use std::sync::Arc;

pub(crate) struct LateFilter {
    on_time: Arc<dyn PhysicalExpr>,
}

impl LateFilter {
    pub(crate) fn new(on_time: Arc<dyn PhysicalExpr>) -> Self {
        Self { on_time }
    }
}

impl Operator for LateFilter {
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>> {
        let mut out = vec![];
        for changes in inputs.into_iter().flatten() {
            let kept = keep(&changes, &predicate(&self.on_time, changes.batch())?)?;
            *context.late += (changes.num_rows() - kept.num_rows()) as u64;
            if !kept.is_empty() {
                out.push(kept);
            }
        }
        Ok(out)
    }
}
