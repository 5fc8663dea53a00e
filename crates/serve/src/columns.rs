//! `GET /v1/views/NAME?column=value&order=-column&limit=n`: filter, order and cut over a snapshot's Arrow columns.
//!
//! A value is cast from text to its column's type, so that `delay=5` means the same for an integer and a float, and
//! `at=2013-01-04T05:00:00` means a moment. Nulls never equal a value; they come last in either direction.

use crate::problem::similar;
use crate::{ServeError, Snapshot};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar, StringArray};
use arrow::compute::{
    CastOptions, SortColumn, SortOptions, and, cast_with_options, concat_batches, filter_record_batch,
    lexsort_to_indices, prep_null_mask_filter, take_record_batch,
};
use arrow::datatypes::SchemaRef;

/// What of a view was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Column and value, all of which must hold.
    pub equal: Vec<(String, String)>,
    pub order: Vec<Ordering>,
    pub limit: usize,
}

/// One column of `order=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ordering {
    pub column: String,
    pub descending: bool,
}

impl Ordering {
    /// Reads `a,-b`: by `a`, then by `b` from the greatest down.
    pub(crate) fn list(text: &str) -> Vec<Self> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| match part.strip_prefix('-') {
                Some(column) => Self { column: column.to_owned(), descending: true },
                None => Self { column: part.strip_prefix('+').unwrap_or(part).to_owned(), descending: false },
            })
            .collect()
    }
}

/// The rows of `snapshot` that were asked for.
///
/// # Errors
/// When a column is unknown, a value does not fit its column, or a type has no equality or order.
pub(crate) fn select(view: &str, snapshot: &Snapshot, selection: &Selection) -> Result<Vec<RecordBatch>, ServeError> {
    let schema = &snapshot.schema;
    let mut equal = Vec::with_capacity(selection.equal.len());
    for (name, text) in &selection.equal {
        let index = column(view, schema, name)?;
        equal.push((index, scalar(schema, index, text)?));
    }
    let mut order = Vec::with_capacity(selection.order.len());
    for ordering in &selection.order {
        order.push((column(view, schema, &ordering.column)?, ordering.descending));
    }
    // Without an order the first rows will do, and the rest is not looked at.
    let enough = if order.is_empty() { selection.limit } else { usize::MAX };
    let mut kept = Vec::new();
    let mut rows = 0;
    for batch in &snapshot.batches {
        if rows >= enough {
            break;
        }
        let batch = filter(batch, &equal)?;
        let batch = batch.slice(0, batch.num_rows().min(enough - rows));
        rows += batch.num_rows();
        if batch.num_rows() > 0 {
            kept.push(batch);
        }
    }
    if order.is_empty() || kept.is_empty() {
        return Ok(kept);
    }
    let all = concat_batches(schema, &kept)?;
    let columns: Vec<SortColumn> = order
        .into_iter()
        .map(|(index, descending)| SortColumn {
            values: all.column(index).clone(),
            options: Some(SortOptions { descending, nulls_first: false }),
        })
        .collect();
    let indices = lexsort_to_indices(&columns, Some(selection.limit))?;
    Ok(vec![take_record_batch(&all, &indices)?])
}

fn column(view: &str, schema: &SchemaRef, name: &str) -> Result<usize, ServeError> {
    schema.index_of(name).map_err(|_| {
        let known = schema.fields().iter().map(|field| field.name().as_str()).chain(["limit", "order", "format"]);
        ServeError::NoSuchParameter { name: name.to_owned(), view: view.to_owned(), similar: similar(name, known) }
    })
}

fn scalar(schema: &SchemaRef, index: usize, text: &str) -> Result<Scalar<ArrayRef>, ServeError> {
    let field = schema.field(index);
    let wrong = |_| ServeError::WrongValue {
        name: field.name().clone(),
        value: text.chars().take(100).collect(),
        wanted: format!("value of type {}", field.data_type()),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let value = cast_with_options(&StringArray::from(vec![text]), field.data_type(), &options).map_err(wrong)?;
    Ok(Scalar::new(value))
}

fn filter(batch: &RecordBatch, equal: &[(usize, Scalar<ArrayRef>)]) -> Result<RecordBatch, ServeError> {
    let mut keep: Option<BooleanArray> = None;
    for (index, value) in equal {
        let same = arrow::compute::kernels::cmp::eq(batch.column(*index), value)?;
        let same = if same.null_count() > 0 { prep_null_mask_filter(&same) } else { same };
        keep = Some(match keep {
            Some(keep) => and(&keep, &same)?,
            None => same,
        });
    }
    match keep {
        Some(keep) => Ok(filter_record_batch(batch, &keep)?),
        None => Ok(batch.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChangeId, RowFormat, write_rows};
    use arrow::array::{Float64Array, TimestampMillisecondArray};
    use std::sync::Arc;

    fn snapshot() -> Snapshot {
        let batch = |origin: Vec<&str>, delay: Vec<Option<f64>>, at: Vec<i64>| {
            let columns: [(&str, ArrayRef, bool); 3] = [
                ("origin", Arc::new(StringArray::from(origin)), false),
                ("delay", Arc::new(Float64Array::from(delay)), true),
                ("at", Arc::new(TimestampMillisecondArray::from(at)), false),
            ];
            RecordBatch::try_from_iter_with_nullable(columns).unwrap()
        };
        let batches = vec![
            batch(vec!["JFK", "EWR"], vec![Some(5.0), None], vec![0, 3_600_000]),
            batch(vec!["JFK", "LGA"], vec![Some(-1.5), Some(9.0)], vec![7_200_000, 0]),
        ];
        Snapshot { schema: batches[0].schema(), batches, id: ChangeId::default() }
    }

    fn check(equal: &[(&str, &str)], order: &str, limit: usize, expected: &str) {
        let selection = Selection {
            equal: equal.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            order: Ordering::list(order),
            limit,
        };
        let snapshot = snapshot();
        let rows = select("v", &snapshot, &selection).unwrap();
        let text = String::from_utf8(write_rows(RowFormat::Csv, &snapshot.schema, &rows).unwrap()).unwrap();
        let first: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(first.join(" "), expected, "{equal:?} {order} {limit}");
    }

    #[test]
    fn without_wishes_the_first_rows_come_in_their_order() {
        check(&[], "", 3, "JFK,5.0,1970-01-01T00:00:00 EWR,,1970-01-01T01:00:00 JFK,-1.5,1970-01-01T02:00:00");
        check(&[], "", 0, "");
    }

    #[test]
    fn values_are_compared_as_their_columns_type() {
        check(&[("delay", "5")], "", 9, "JFK,5.0,1970-01-01T00:00:00");
        check(&[("at", "1970-01-01 01:00:00")], "", 9, "EWR,,1970-01-01T01:00:00");
        check(&[("origin", "JFK"), ("delay", "-1.5")], "", 9, "JFK,-1.5,1970-01-01T02:00:00");
        check(&[("origin", "")], "", 9, "");
    }

    #[test]
    fn order_puts_nulls_last_either_way() {
        check(&[], "-delay", 2, "LGA,9.0,1970-01-01T00:00:00 JFK,5.0,1970-01-01T00:00:00");
        let up = "JFK,-1.5,1970-01-01T02:00:00 JFK,5.0,1970-01-01T00:00:00 LGA,9.0,1970-01-01T00:00:00 \
                  EWR,,1970-01-01T01:00:00";
        check(&[], "delay", 9, up);
        check(&[], "at,-origin", 1, "LGA,9.0,1970-01-01T00:00:00");
    }

    #[test]
    fn a_wrong_value_names_column_and_type() {
        let selection = Selection { equal: vec![("delay".into(), "much".into())], order: vec![], limit: 1 };
        let error = select("v", &snapshot(), &selection).unwrap_err();
        assert_eq!(error.to_string(), "RM-6004: 'much' is no value of type Float64 for 'delay'");
    }

    #[test]
    fn an_unknown_column_is_guessed() {
        let selection = Selection { equal: vec![], order: Ordering::list("-dellay"), limit: 1 };
        let error = select("v", &snapshot(), &selection).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean 'delay'?"));
    }
}
