use crate::world::*;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use datafusion::prelude::SessionContext;
use rivermere_base::{Changes, Epoch};
use rivermere_table::{SinkMode, SinkSpec, StagedEpoch, TableSink};
use std::sync::Arc;

/// One expression a column: what SQL produces, and its text when it is read back.
const COLUMNS: &[(&str, &str)] = &[
    ("true", "true"),
    ("CAST(-8 AS TINYINT)", "-8"),
    ("CAST(-300 AS SMALLINT)", "-300"),
    ("CAST(70000 AS INT)", "70000"),
    ("CAST(5000000000 AS BIGINT)", "5000000000"),
    ("CAST(200 AS TINYINT UNSIGNED)", "200"),
    ("CAST(60000 AS SMALLINT UNSIGNED)", "60000"),
    ("CAST(4000000000 AS INT UNSIGNED)", "4000000000"),
    ("CAST('18446744073709551615' AS BIGINT UNSIGNED)", "18446744073709551615"),
    ("CAST(1.5 AS REAL)", "1.5"),
    ("CAST(2.25 AS DOUBLE)", "2.25"),
    ("CAST(12.345 AS DECIMAL(10, 3))", "12.345"),
    ("'text'", "text"),
    ("arrow_cast('large', 'LargeUtf8')", "large"),
    ("arrow_cast('dictionary', 'Dictionary(Int32, Utf8)')", "dictionary"),
    ("X'0102'", "0102"),
    ("DATE '2013-01-04'", "2013-01-04"),
    ("TIMESTAMP '2013-01-04T05:06:07.123456'", "2013-01-04T05:06:07.123456"),
    ("arrow_cast(TIMESTAMP '2013-01-04T05:06:07.123', 'Timestamp(Millisecond, None)')", "2013-01-04T05:06:07.123"),
    ("arrow_cast(TIMESTAMP '2013-01-04T05:06:07', 'Timestamp(Second, Some(\"UTC\"))')", "2013-01-04T05:06:07Z"),
    ("[1, NULL, 3]", "[1, null, 3]"),
    ("['a', 'b']", "[a, b]"),
    ("named_struct('x', 1, 'y', 'z')", "{x: 1, y: z}"),
    ("[named_struct('x', CAST(1 AS INT UNSIGNED))]", "[{x: 1}]"),
    ("CAST(NULL AS VARCHAR)", "null"),
];

async fn view() -> RecordBatch {
    let list = COLUMNS.iter().enumerate().map(|(index, (sql, _))| format!("{sql} AS c{index}")).collect::<Vec<_>>();
    let batches =
        SessionContext::new().sql(&format!("SELECT {}", list.join(", "))).await.unwrap().collect().await.unwrap();
    batches.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_that_sql_produces_is_written_merged_and_read_back() {
    let row = view().await;
    let expected = COLUMNS.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("=");
    let key = ["c4", "c12", "c17", "c24"].map(String::from).to_vec();
    for (mode, times) in [(SinkMode::Append, 2), (SinkMode::Merge { key }, 1)] {
        let store = memory();
        let spec = SinkSpec { schema: row.schema(), mode, ..append() };
        let sink = open(&store, spec).await.unwrap();
        let staged = |number| StagedEpoch { epoch: Epoch(number), changes: vec![Changes::inserts(row.clone())] };
        sink.commit(vec![staged(1)]).await.unwrap();
        assert_eq!(rows(&store).await, [expected.clone()]);
        // The same row again: the second writing finds, reads and rewrites the first when it merges.
        sink.commit(vec![staged(2)]).await.unwrap();
        assert_eq!(rows(&store).await, vec![expected.clone(); times]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_in_a_not_null_column_is_refused() {
    let store = memory();
    let sink = open(&store, append()).await.unwrap();
    let nullable =
        Schema::new(schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>());
    let columns: Vec<ArrayRef> =
        nullable.fields().iter().map(|f| arrow::array::new_null_array(f.data_type(), 1)).collect();
    let batch = RecordBatch::try_new(Arc::new(nullable), columns).unwrap();
    let staged = StagedEpoch { epoch: Epoch(1), changes: vec![Changes::inserts(batch)] };
    let error = sink.commit(vec![staged]).await.unwrap_err();
    assert!(error.to_string().contains("RM-5013"), "{error}");
    assert_eq!(sink.committed().await.unwrap(), None);
}
