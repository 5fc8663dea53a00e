//! `table_changes(…)`: the rows that each version of a table added and took away.

use super::lake::Lake;
use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array, new_null_array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use futures::TryStreamExt as _;
use rivermere_base::Changes;
use rivermere_batch::At;
use rivermere_sql::LakePlace;
use rivermere_stream::netted;
use rivermere_table::{EditableTable, TableError};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that one reading of changes holds.
const ROWS_LIMIT: usize = 5_000_000;

/// The columns behind those of the table, named as Delta's change data feed names them.
const KIND: &str = "_change_type";
const VERSION: &str = "_commit_version";
const TIME: &str = "_commit_timestamp";

impl Lake {
    /// What the versions from the one to the other changed, both included; the newest when there is no other. An updated
    /// row is deleted and inserted. Columns are those of the last version.
    pub(super) async fn changes(&self, place: &LakePlace, from: At, to: At) -> Result<Arc<dyn TableProvider>, String> {
        let table = self.table(place).await.map_err(|error| error.to_string())?;
        let newest = table.version().await.map_err(|error| error.to_string())?;
        let last = version(table.as_ref(), to, newest).await?;
        let first = match from {
            // The first that was committed at that time or after it.
            At::TimeMs(time) => match table.version_at(time - 1).await {
                Ok(before) => before + 1,
                Err(TableError::MissingTime { .. }) => 0,
                Err(error) => return Err(error.to_string()),
            },
            from => version(table.as_ref(), from, newest).await?,
        };
        if first > last {
            return Err(format!(
                "RM-3107: the changes of '{}' would begin at version {first} and end at {last}",
                place.location
            ));
        }
        let times = times(table.as_ref(), newest, first).await?;
        let mut versions: Vec<i64> = times.keys().copied().filter(|version| (first..=last).contains(version)).collect();
        versions.sort_unstable();
        let schema = columns(table.as_ref(), last).await?;
        let mut fields = schema.fields().to_vec();
        fields.push(Arc::new(Field::new(KIND, DataType::Utf8, false)));
        fields.push(Arc::new(Field::new(VERSION, DataType::Int64, false)));
        fields.push(Arc::new(Field::new(TIME, DataType::Timestamp(TimeUnit::Microsecond, None), true)));
        let told = Arc::new(Schema::new(fields));
        let (mut batches, mut rows) = (vec![], 0);
        for (at, version) in versions.iter().copied().enumerate() {
            // Numbers of versions need not follow each other in every format.
            let known = at.checked_sub(1).and_then(|at| versions.get(at)).copied();
            let before = match known {
                None if version > 0 => Some(table.before(version).await.map_err(|error| error.to_string())?),
                known => known,
            };
            let own = columns(table.as_ref(), version).await?;
            let mut changes = table.changes(before, version, &own).await.map_err(|error| error.to_string())?;
            let mut parts = vec![];
            while let Some(part) = changes.try_next().await.map_err(|error| error.to_string())? {
                rows += part.num_rows();
                if rows > ROWS_LIMIT {
                    return Err(format!(
                        "RM-3107: more than {ROWS_LIMIT} rows of '{}' are to be read for its changes up to version \
                         {version}: read fewer versions at a time",
                        place.location
                    ));
                }
                parts.push(part);
            }
            let net = netted(&own, &parts).map_err(|error| error.to_string())?;
            let mut names = table.names_in(version, last, &schema).await.map_err(|error| error.to_string())?;
            names.resize(told.fields().len(), None);
            let batch = listed(&net, &told, &names, version, times.get(&version).copied().flatten());
            let batch = batch.map_err(|error| error.to_string())?;
            batches.push(batch);
        }
        Ok(Arc::new(MemTable::try_new(told, vec![batches]).map_err(|error| error.to_string())?))
    }
}

async fn version(table: &dyn EditableTable, at: At, newest: i64) -> Result<i64, String> {
    match at {
        At::Newest => Ok(newest),
        At::Version(version) => Ok(version),
        At::Named(name) => table.version_named(&name).await.map_err(|error| error.to_string()),
        At::TimeMs(time) => table.version_at(time).await.map_err(|error| error.to_string()),
    }
}

/// When each version was committed, in milliseconds, as far back as `first`.
async fn times(table: &dyn EditableTable, newest: i64, first: i64) -> Result<HashMap<i64, Option<i64>>, String> {
    let count = usize::try_from(newest.saturating_sub(first)).unwrap_or(0).saturating_add(1);
    // Where versions may come back, some are told more than once.
    let count = if table.turns_back() { usize::MAX } else { count };
    let history = table.history(count).await.map_err(|error| error.to_string())?;
    Ok(history.into_iter().map(|version| (version.version, version.committed_ms)).collect())
}

/// The columns of a version, whatever a scan wraps them in.
async fn columns(table: &dyn EditableTable, version: i64) -> Result<SchemaRef, String> {
    let provider = table.scan(Some(version)).await.map_err(|error| error.to_string())?;
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, values) => field.as_ref().clone().with_data_type(values.as_ref().clone()),
        _ => field.as_ref().clone(),
    };
    Ok(Arc::new(Schema::new(provider.schema().fields().iter().map(plain).collect::<Vec<_>>())))
}

/// A row for each time that one came or went, deletions first.
///
/// `names` are what the columns of `told` are called in the changes.
fn listed(
    net: &Changes,
    told: &SchemaRef,
    names: &[Option<String>],
    version: i64,
    time_ms: Option<i64>,
) -> Result<RecordBatch, ArrowError> {
    let (mut indices, mut kinds) = (vec![], vec![]);
    for (sign, kind) in [(-1, "delete"), (1, "insert")] {
        for row in 0..net.num_rows() {
            let times = usize::try_from(net.weight(row) * sign).unwrap_or(0);
            indices.extend(std::iter::repeat_n(row as u64, times));
            kinds.extend(std::iter::repeat_n(kind, times));
        }
    }
    let rows = take_record_batch(net.batch(), &UInt64Array::from(indices))?;
    let count = kinds.len();
    let columns = told.fields().iter().zip(names).map(|(field, name)| -> Result<ArrayRef, ArrowError> {
        Ok(match field.name().as_str() {
            KIND => Arc::new(StringArray::from(kinds.clone())),
            VERSION => Arc::new(Int64Array::from_value(version, count)),
            TIME => Arc::new(TimestampMicrosecondArray::from(vec![time_ms.map(|ms| ms * 1_000); count])),
            _ => match name.as_ref().and_then(|name| rows.column_by_name(name)) {
                Some(column) if column.data_type() == field.data_type() => column.clone(),
                Some(column) => arrow::compute::cast(column, field.data_type())?,
                None => new_null_array(field.data_type(), count),
            },
        })
    });
    RecordBatch::try_new(told.clone(), columns.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_listed_as_often_as_they_came_or_went() {
        let schema = Arc::new(Schema::new(vec![Field::new("was", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![7, 8]))]).unwrap();
        let net = Changes::with_weights(batch, Int64Array::from(vec![2, -1])).unwrap();
        let told = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("later", DataType::Utf8, true),
            Field::new(KIND, DataType::Utf8, false),
            Field::new(VERSION, DataType::Int64, false),
            Field::new(TIME, DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ]));
        // The first column was called otherwise then.
        let names = [Some("was".to_string()), None, None, None, None];
        let shown = arrow::util::pretty::pretty_format_batches(&[listed(&net, &told, &names, 3, Some(1_000)).unwrap()])
            .unwrap();
        let rows: Vec<String> = shown.to_string().lines().skip(3).map(|line| line.replace(' ', "")).collect();
        assert_eq!(
            rows[..3],
            [
                "|8||delete|3|1970-01-01T00:00:01|",
                "|7||insert|3|1970-01-01T00:00:01|",
                "|7||insert|3|1970-01-01T00:00:01|"
            ]
        );
    }
}
