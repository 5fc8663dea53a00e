//! Views published, and the upkeep of their tables. What a sink does with epochs on every storage and over crashes is in the
//! platform's matrix.

use crate::world::*;
use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use object_store::ObjectStore;
use rivermere_base::{Changes, Epoch};
use rivermere_iceberg::{IcebergSink, IcebergTable};
use rivermere_table::{Adopt, SinkId, SinkMode, SinkSpec, StagedEpoch, Table, TableError, TableSink, Upkeep};
use std::sync::Arc;

fn spec(view: &str, properties: &[(&str, &str)]) -> SinkSpec {
    SinkSpec {
        sink_id: SinkId::new(format!("rivermere/11111111-1111-4111-8111-111111111111/{view}")).unwrap(),
        schema: Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)])),
        mode: SinkMode::Append,
        adopt: Adopt::Refuse,
        properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        since: Epoch(0),
    }
}

fn epoch(number: u64) -> StagedEpoch {
    let key = Int64Array::from(vec![number.cast_signed()]);
    let batch = RecordBatch::try_new(spec("v", &[]).schema, vec![Arc::new(key)]).unwrap();
    StagedEpoch {
        epoch: Epoch(number),
        changes: vec![Changes::with_weights(batch, Int64Array::from(vec![1])).unwrap()],
    }
}

async fn open(store: &Arc<dyn ObjectStore>, spec: SinkSpec) -> Result<IcebergSink, TableError> {
    IcebergSink::open(location(store), spec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_and_old_snapshots_go_unasked_unless_the_table_says_no() {
    let no_wait = ("history.expire.max-snapshot-age-ms", "0");
    let off = [no_wait, ("rivermere.autoCompact", "false"), ("rivermere.autoVacuum", "false")];
    for (properties, is_kept_up) in [(&[no_wait][..], true), (&off[..], false)] {
        let store = memory();
        let mut done = Upkeep::default();
        // Started again now and then: the versions at which it looks are the same.
        for start in 0..3 {
            let sink = open(&store, spec("v", properties)).await.unwrap();
            for number in start * 100 + 1..=start * 100 + 100 {
                sink.commit(vec![epoch(number)]).await.unwrap();
                let upkeep = sink.maintain(&[100]).await.unwrap();
                done.files_compacted += upkeep.files_compacted;
                done.files_removed += upkeep.files_removed;
            }
        }
        assert_eq!(rows(&store).await.len(), 300);
        let table = IcebergTable::open(location(&store)).await.unwrap();
        let snapshots = table.history(1_000).await.unwrap().len();
        table.scan(Some(100)).await.unwrap_or_else(|error| panic!("a version that was asked for: {error}"));
        if is_kept_up {
            assert!(done.files_compacted > 250 && done.files_removed > 250, "{done:?}");
            assert!(snapshots < 100, "{snapshots} snapshots");
        } else {
            assert_eq!((done, snapshots), (Upkeep::default(), 300));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_somebody_else_is_adopted_or_replaced_or_refused() {
    let store = memory();
    open(&store, spec("one", &[])).await.unwrap().commit(vec![epoch(1), epoch(2)]).await.unwrap();
    let refused = open(&store, spec("two", &[])).await.err().expect("it is another view's");
    assert!(matches!(&refused, TableError::Foreign { found, .. } if found.contains("/one'")), "{refused}");
    let adopted = open(&store, SinkSpec { adopt: Adopt::Adopt, ..spec("two", &[]) }).await.unwrap();
    assert_eq!(adopted.committed().await.unwrap(), None);
    adopted.commit(vec![epoch(1)]).await.unwrap();
    assert_eq!(rows(&store).await, ["1", "1", "2"]);
    let other = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true)]));
    let misfit = SinkSpec { adopt: Adopt::Adopt, schema: other.clone(), ..spec("three", &[]) };
    let misfit = open(&store, misfit).await.err().expect("its columns are others").to_string();
    assert!(misfit.starts_with("RM-5006") && misfit.contains("'name'"), "{misfit}");
    open(&store, SinkSpec { adopt: Adopt::Overwrite, schema: other, ..spec("three", &[]) }).await.unwrap();
    assert_eq!(rows(&store).await, Vec::<String>::new());
    let table = IcebergTable::open(location(&store)).await.unwrap();
    assert_eq!(table.schema().await.unwrap().field(0).name(), "name");
    let before = table.version().await.unwrap() - 1;
    assert_eq!(rows_at(&store, Some(before)).await, ["1", "1", "2"], "older versions stay readable");
}

/// A view that changes, into a table that marks rows: after every commit the table is what the changes add up to.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_marks_rows_of_a_table_that_asks_for_it() {
    for version in ["2", "3"] {
        let store = memory();
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::Int64, true),
            Field::new("value", DataType::Int64, true),
        ]));
        let properties = [("format-version", version), ("write.merge.mode", "merge-on-read")];
        let mode = SinkMode::Merge { key: vec!["key".into()] };
        let sink = open(&store, SinkSpec { schema: schema.clone(), mode, ..spec("v", &properties) }).await.unwrap();
        let table = IcebergTable::open(location(&store)).await.unwrap();
        let mut held: Vec<(i64, i64)> = vec![];
        for number in 1..=40_u64 {
            let mut changes: Vec<(i64, i64, i64)> = vec![];
            if number == 1 {
                held = (0..1000).map(|key| (key, 0)).collect();
                changes.extend(held.iter().map(|(key, value)| (*key, *value, 1)));
            }
            for row in held.iter_mut().filter(|(key, _)| number > 1 && *key as u64 % 50 == number) {
                changes.push((row.0, row.1, -1));
                row.1 += 1;
                changes.push((row.0, row.1, 1));
            }
            held.retain(|(key, value)| {
                let goes = number > 1 && *key as u64 == number * 20 + 7;
                goes.then(|| changes.push((*key, *value, -1)));
                !goes
            });
            let column = |of: fn(&(i64, i64, i64)) -> i64| Int64Array::from_iter_values(changes.iter().map(of));
            let batch =
                RecordBatch::try_new(schema.clone(), vec![Arc::new(column(|c| c.0)), Arc::new(column(|c| c.1))]);
            let changes = vec![Changes::with_weights(batch.unwrap(), column(|c| c.2)).unwrap()];
            sink.commit(vec![StagedEpoch { epoch: Epoch(number), changes }]).await.unwrap();
            let mut expected: Vec<String> = held.iter().map(|(key, value)| format!("{key}={value}")).collect();
            expected.sort();
            assert_eq!(rows(&store).await, expected, "version {version}, epoch {number}");
            sink.maintain(&[]).await.unwrap();
        }
        let history = table.history(100).await.unwrap();
        let told = |name: &str| {
            let told = history.iter().filter_map(|version| {
                let told: serde_json::Value = serde_json::from_str(version.parameters.as_ref()?).ok()?;
                told[name].as_str()?.parse::<u64>().ok()
            });
            told.max().unwrap_or_default()
        };
        let marked = (told("total-delete-files"), told("added-position-deletes"), told("total-data-files"));
        assert!((1..=17).contains(&marked.0), "one file for each data file at most: {marked:?}");
        assert!(marked.1 > 300, "each of them has all that is gone: {marked:?}");
        assert!(marked.2 <= 18, "small files are put together: {marked:?}");
    }
}
