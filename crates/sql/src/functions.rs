//! Scalar functions behind the window table functions.
//!
//! Windows are aligned to 1970-01-01 00:00 of the timestamp's own clock, as in Flink.

use crate::session::SessionFunction;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, plan_datafusion_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowUDF,
};
use std::sync::Arc;

/// Adds the dialect's own functions to a session.
///
/// # Errors
/// When the registry is read only.
pub fn register_functions(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for kind in [Kind::TumbleStart, Kind::TumbleEnd, Kind::HopStarts, Kind::WindowEnd, Kind::CumulateEnds] {
        registry.register_udf(Arc::new(ScalarUDF::from(WindowFunction::new(kind))))?;
    }
    for end in [false, true] {
        registry.register_udwf(Arc::new(WindowUDF::from(SessionFunction::new(end))))?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// (ts, size) -> start of the tumbling window
    TumbleStart,
    /// (ts, size) -> its end, exclusive
    TumbleEnd,
    /// (ts, slide, size) -> starts of all hopping windows that hold ts, ascending
    HopStarts,
    /// (start, size) -> start + size
    WindowEnd,
    /// (ts, step, size) -> ends of all cumulating windows that hold ts, ascending
    CumulateEnds,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    kind: Kind,
    signature: Signature,
}

impl WindowFunction {
    fn new(kind: Kind) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn intervals(&self) -> usize {
        if matches!(self.kind, Kind::HopStarts | Kind::CumulateEnds) { 2 } else { 1 }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::TumbleStart => "tumble_start",
            Kind::TumbleEnd => "tumble_end",
            Kind::HopStarts => "hop_starts",
            Kind::WindowEnd => "window_end",
            Kind::CumulateEnds => "cumulate_ends",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() != 1 + self.intervals() {
            return Err(plan_datafusion_err!("{} takes {} arguments", self.name(), 1 + self.intervals()));
        }
        let time = match &types[0] {
            time @ DataType::Timestamp(_, _) => time.clone(),
            DataType::Date32 | DataType::Date64 | DataType::Null => DataType::Timestamp(TimeUnit::Millisecond, None),
            other => return Err(plan_datafusion_err!("{} needs a TIMESTAMP column, not {other}", self.name())),
        };
        let mut wanted = vec![time];
        wanted.extend(vec![DataType::Interval(IntervalUnit::MonthDayNano); self.intervals()]);
        Ok(wanted)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let time = types.first().cloned().ok_or_else(|| plan_datafusion_err!("{} needs arguments", self.name()))?;
        Ok(match self.kind {
            Kind::HopStarts | Kind::CumulateEnds => DataType::List(Arc::new(Field::new_list_field(time, true))),
            _ => time,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.first().is_none_or(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (time, intervals) = args.args.split_first().ok_or_else(|| exec_datafusion_err!("no arguments"))?;
        let scalar = matches!(time, ColumnarValue::Scalar(_));
        let time = time.to_array(if scalar { 1 } else { args.number_rows })?;
        let DataType::Timestamp(unit, _) = time.data_type().clone() else {
            return Err(exec_datafusion_err!("{} of {}", self.name(), time.data_type()));
        };
        let ticks: Vec<i64> = intervals.iter().map(|value| interval_ticks(value, unit)).collect::<Result<_>>()?;
        let values = cast(&time, &DataType::Int64)?;
        let values = values.as_primitive::<Int64Type>();
        let size = ticks[0];
        let overflow = || exec_datafusion_err!("{}: timestamp out of range", self.name());
        let floor = |value: i64| value.checked_sub(value.rem_euclid(size)).ok_or_else(overflow);
        let result: ArrayRef = match self.kind {
            Kind::TumbleStart => {
                let starts: Int64Array = values.try_unary(floor)?;
                cast(&starts, time.data_type())?
            }
            Kind::TumbleEnd => {
                let ends: Int64Array =
                    values.try_unary(|value| floor(value)?.checked_add(size).ok_or_else(overflow))?;
                cast(&ends, time.data_type())?
            }
            Kind::WindowEnd => {
                let ends: Int64Array = values.try_unary(|value| value.checked_add(size).ok_or_else(overflow))?;
                cast(&ends, time.data_type())?
            }
            Kind::HopStarts => {
                let whole = ticks.get(1).copied().unwrap_or(size);
                Arc::new(hop_starts(values, size, whole, time.data_type()).ok_or_else(overflow)??)
            }
            Kind::CumulateEnds => {
                let whole = ticks.get(1).copied().unwrap_or(size);
                Arc::new(cumulate_ends(values, size, whole, time.data_type()).ok_or_else(overflow)??)
            }
        };
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

fn hop_starts(values: &Int64Array, slide: i64, size: i64, item: &DataType) -> Option<Result<ListArray>> {
    lists(values, item, |value, starts| {
        let last = value.checked_sub(value.rem_euclid(slide))?;
        let first = last.checked_sub(size)?.checked_add(slide)?;
        starts.extend((0..size / slide).map(|index| first + index * slide));
        Some(())
    })
}

fn cumulate_ends(values: &Int64Array, step: i64, size: i64, item: &DataType) -> Option<Result<ListArray>> {
    lists(values, item, |value, ends| {
        let last = value.checked_sub(value.rem_euclid(size))?.checked_add(size)?;
        let left = last.checked_sub(value)? - 1;
        ends.extend((0..=left / step).rev().map(|index| last - index * step));
        Some(())
    })
}

/// A list for each value. A null timestamp falls into no window: its list is empty.
fn lists(
    values: &Int64Array,
    item: &DataType,
    windows: impl Fn(i64, &mut Vec<i64>) -> Option<()>,
) -> Option<Result<ListArray>> {
    let mut items = vec![];
    let mut offsets = Vec::with_capacity(values.len() + 1);
    offsets.push(0_i32);
    for row in 0..values.len() {
        if values.is_valid(row) {
            windows(values.value(row), &mut items)?;
        }
        offsets.push(i32::try_from(items.len()).ok()?);
    }
    let build = || {
        let items = cast(&Int64Array::from(items), item)?;
        let field = Arc::new(Field::new_list_field(item.clone(), true));
        Ok(ListArray::try_new(field, OffsetBuffer::new(ScalarBuffer::from(offsets)), items, None)?)
    };
    Some(build())
}

fn interval_ticks(value: &ColumnarValue, unit: TimeUnit) -> Result<i64> {
    let ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(interval))) = value else {
        return Err(exec_datafusion_err!("a window needs constant intervals"));
    };
    let nanoseconds = i64::from(interval.days)
        .checked_mul(86_400_000_000_000)
        .and_then(|days| days.checked_add(interval.nanoseconds))
        .filter(|nanoseconds| interval.months == 0 && *nanoseconds > 0)
        .ok_or_else(|| exec_datafusion_err!("a window needs a positive interval without months"))?;
    let tick = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    if nanoseconds % tick != 0 {
        return Err(DataFusionError::Execution(format!("the interval is finer than the column's {unit:?}s")));
    }
    Ok(nanoseconds / tick)
}
