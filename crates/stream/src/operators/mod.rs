//! Incremental operators: (state, changes, watermarks) -> (state, changes). Pure and synchronous; one file each.

mod accumulate;
mod aggregate;
mod join;
mod late;
mod map;
mod over;
mod top_n;
mod unnest;

pub(crate) use aggregate::{Aggregate, Call, microseconds};
pub(crate) use join::{Join, JoinSpec};
pub(crate) use late::LateFilter;
pub(crate) use map::Map;
pub(crate) use over::{Over, OverSpec};
pub(crate) use top_n::{TopN, TopNSpec};
pub(crate) use unnest::Unnest;

use crate::error::Result;
use rivermere_base::Changes;
use rivermere_sql::TimeBound;
use std::collections::BTreeMap;

/// What an operator sees of a step beside its input.
pub struct StepContext<'a> {
    /// Watermark of each table after the step, in microseconds.
    pub watermarks: &'a BTreeMap<String, i64>,
    /// Rows that an expression failed on.
    pub rejected: &'a mut Vec<RejectedRow>,
    /// The view that is being computed.
    pub view: &'a str,
    /// Rows left out because they were late, by view and table.
    pub late: &'a mut u64,
}

impl StepContext<'_> {
    pub(crate) fn threshold_us(&self, bound: &TimeBound) -> Option<i64> {
        bound.evaluate(|source| self.watermarks.get(source).copied())
    }
}

/// A row that an expression failed on: it is left out of the view and told of in the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRow {
    pub view: String,
    /// The row as JSON.
    pub row: String,
    pub reason: String,
    pub weight: i64,
}

/// One entry of an operator's state for the next checkpoint: a key with its value, or its removal.
pub type StateSink<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// An incremental operator.
pub(crate) trait Operator: Send {
    /// Takes the complete change of each input for one step and gives the change of the output.
    fn step(&mut self, inputs: Vec<Vec<Changes>>, context: &mut StepContext) -> Result<Vec<Changes>>;

    /// Tells every state entry that changed since the last call.
    fn checkpoint(&mut self, _sink: &mut StateSink) -> Result<()> {
        Ok(())
    }

    /// Puts one state entry back: what was told last of its key. [`restored`](Self::restored) follows.
    fn restore(&mut self, _key: &[u8], _value: Option<&[u8]>) -> Result<()> {
        Ok(())
    }

    /// Ends a restore.
    fn restored(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether it does something in a step without input (first output of a global aggregate, expiry).
    fn wants_empty_step(&self) -> bool {
        false
    }

    /// Bytes of state held.
    fn memory(&self) -> usize {
        0
    }

    /// Entries of state held.
    fn entries(&self) -> usize {
        0
    }
}
