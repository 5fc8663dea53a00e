//! `session_start` and `session_end`: SESSION windows as window functions, over rows in the order of their time.
//!
//! Two neighbours at most a gap apart are in one session, as in Flink. A session ends a gap after its last row.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::common::{Result, exec_datafusion_err, plan_datafusion_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use std::sync::Arc;

/// The function whose column is the start of a row's session.
pub(crate) const SESSION_START: &str = "session_start";
/// The function whose column is its end.
pub(crate) const SESSION_END: &str = "session_end";

/// (ts, gap in microseconds) OVER (PARTITION BY … ORDER BY ts); no time is null.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionFunction {
    end: bool,
    signature: Signature,
}

impl SessionFunction {
    pub(crate) fn new(end: bool) -> Self {
        Self { end, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for SessionFunction {
    fn name(&self) -> &str {
        if self.end { SESSION_END } else { SESSION_START }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [time @ DataType::Timestamp(_, _), _] => Ok(vec![time.clone(), DataType::Int64]),
            _ => Err(plan_datafusion_err!("SESSION needs a TIMESTAMP column")),
        }
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let time = args.get_input_field(0).ok_or_else(|| plan_datafusion_err!("SESSION needs a TIMESTAMP column"))?;
        Ok(Arc::new(Field::new(args.name(), time.data_type().clone(), true)))
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Sessions { end: self.end }))
    }
}

#[derive(Debug)]
struct Sessions {
    end: bool,
}

impl PartitionEvaluator for Sessions {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let [times, gaps] = values else { return Err(exec_datafusion_err!("SESSION takes a time and a gap")) };
        let data_type = times.data_type().clone();
        let ticks = match &data_type {
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            },
            other => return Err(exec_datafusion_err!("SESSION of {other}")),
        };
        let gaps = cast(gaps, &DataType::Int64)?;
        let Some(gap) = gaps.as_primitive::<Int64Type>().iter().next().flatten() else { return Ok(times.slice(0, 0)) };
        let gap = i64::try_from(i128::from(gap) * ticks / 1_000_000)
            .map_err(|_| exec_datafusion_err!("SESSION: the gap is out of range"))?;
        let times = cast(times, &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let mut results = Vec::with_capacity(rows);
        let mut first = 0;
        for row in 0..times.len() {
            let next = (row + 1 < times.len()).then(|| times.value(row + 1));
            let ends = next.is_none_or(|next| next.checked_sub(times.value(row)).is_none_or(|apart| apart > gap));
            if ends {
                let end = times.value(row).checked_add(gap);
                let end = end.ok_or_else(|| exec_datafusion_err!("SESSION: timestamp out of range"))?;
                let value = if self.end { end } else { times.value(first) };
                results.resize(row + 1, value);
                first = row + 1;
            }
        }
        Ok(cast(&Int64Array::from(results), &data_type)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMillisecondArray;

    #[test]
    fn rows_a_gap_apart_are_together_and_a_session_ends_a_gap_after_its_last_row() {
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1_000, 3_000, 5_001, 5_001, 9_000]));
        let gaps: ArrayRef = Arc::new(Int64Array::from(vec![2_000_000; 5]));
        let run = |end: bool| {
            let found = Sessions { end }.evaluate_all(&[times.clone(), gaps.clone()], 5).unwrap();
            cast(&found, &DataType::Int64).unwrap().as_primitive::<Int64Type>().values().to_vec()
        };
        assert_eq!(run(false), [1_000, 1_000, 5_001, 5_001, 9_000]);
        assert_eq!(run(true), [5_000, 5_000, 7_001, 7_001, 11_000]);
    }
}
