//! Tables beside Apache Spark, in both directions, when `RIVERMERE_SPARK` names the folder where it is installed
//! (`cargo xtask test --full` does).

use crate::spark_session::{installed, rows_of_script};
use crate::tables::changed;
use crate::verbs::{KINDS, MARKED, append, apply, apply_with, created_with, delete, pairs, plan, values};
use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use rivermere_base::Changes;
use rivermere_delta::DeltaTable;
use rivermere_table::{MergeClause, MergeVerb, SinkSpec, Table, TableSink, Verb};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A session, and `show(what)`: the rows of a table's version as one line of JSON after `what`.
const SESSION: &str = r#"
spark = (builder
    .config("spark.databricks.delta.snapshotPartitions", "1")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog").getOrCreate())
path = sys.argv[2]
t = f"delta.`{path}`"
def show(version=None):
    reader = spark.read.format("delta")
    frame = (reader if version is None else reader.option("versionAsOf", version)).load(path)
    told(frame)
"#;

fn spark(installed: &Path, path: &Path, script: &str) -> Vec<Vec<String>> {
    rows_of_script(installed, SESSION, path, script)
}

/// A folder with a table in it.
fn place() -> (tempfile::TempDir, Arc<dyn ObjectStore>, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let path = folder.path().join("lake/totals");
    (folder, store, path)
}

async fn changes_lead_on(table: &DeltaTable, store: &Arc<dyn ObjectStore>, from: i64, to: i64) {
    let columns = table.schema().await.unwrap();
    let changes: Vec<Changes> = table.changes(Some(from), to, &columns).await.unwrap().try_collect().await.unwrap();
    let rows = changed(rows_at(store, Some(from)).await, &changes);
    assert_eq!(rows, rows_at(store, Some(to)).await, "{from} to {to}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_we_mark_are_gone_for_spark_and_those_that_it_marks_for_us() {
    let Some(installed) = installed("RIVERMERE_SPARK") else { return };
    for partitioned_by in [&[][..], &["value"]] {
        let (_folder, store, path) = place();
        let table = created_with(&store, partitioned_by, MARKED).await;
        append(&table, "(1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'a'), (NULL, 'b')").await;
        apply(&table, delete("\"key\" IN (2, 5)")).await.unwrap();
        let update =
            Verb::Update { assignments: pairs(&[("key", "\"key\" * 10")]), condition: Some("\"key\" > 3".into()) };
        apply(&table, update).await.unwrap();
        let session = SessionContext::new();
        let merge = MergeVerb {
            source: values(&session, "(1, 'z'), (9, 'd')").await,
            target_alias: "t".into(),
            source_alias: "s".into(),
            on: "\"t\".\"key\" = \"s\".\"key\"".into(),
            clauses: vec![
                MergeClause::UpdateMatched { condition: None, assignments: pairs(&[("value", "\"s\".\"value\"")]) },
                MergeClause::Insert {
                    condition: None,
                    values: pairs(&[("key", "\"s\".\"key\""), ("value", "\"s\".\"value\"")]),
                },
            ],
        };
        apply_with(&session, &table, Verb::Merge(Box::new(merge))).await.unwrap();
        let newest = table.version().await.unwrap();
        let script = format!(
            "for version in range(1, {newest} + 1): show(version)
spark.sql(f\"DELETE FROM {{t}} WHERE key = 3\")
show()
spark.sql(f\"UPDATE {{t}} SET value = 'spark' WHERE key = 9\")
show()
spark.sql(f\"INSERT INTO {{t}} VALUES (6, 'f'), (7, 'g'), (8, 'f')\")
spark.sql(f\"DELETE FROM {{t}} WHERE key = 6\")
show()
"
        );
        let shown = spark(&installed, &path, &script);
        for version in 1..=newest {
            assert_eq!(shown[version as usize - 1], rows_at(&store, Some(version)).await, "version {version}");
        }
        assert_eq!(shown.last().unwrap(), &rows(&store).await);
        assert_eq!(rows(&store).await, ["1=z", "40=d", "7=g", "8=f", "9=spark", "null=b"]);
        let after = table.version().await.unwrap();
        assert!(after >= newest + 4);
        for from in 0..after {
            changes_lead_on(&table, &store, from, from + 1).await;
            changes_lead_on(&table, &store, from, after).await;
        }
        // Once more ours, over its vectors.
        apply(&table, delete("\"key\" IN (8, 40)")).await.unwrap();
        assert_eq!(spark(&installed, &path, "show()").concat(), ["1=z", "7=g", "9=spark", "null=b"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_every_version_of_a_marking_sink_and_commits_in_between() {
    let Some(installed) = installed("RIVERMERE_SPARK") else { return };
    let (_folder, store, path) = place();
    let sink = open(&store, SinkSpec { properties: pairs(MARKED), ..merge() }).await.unwrap();
    let many = (1..=30).map(|key| format!("+{key}=a")).collect::<Vec<_>>().join(" ");
    sink.commit(vec![epoch(1, &many)]).await.unwrap();
    for number in 2..=6 {
        sink.commit(vec![epoch(number, &format!("-{number}=a +{number}=b"))]).await.unwrap();
    }
    let table = DeltaTable::open(location(&store)).await.unwrap();
    let newest = table.version().await.unwrap();
    let script =
        format!("for version in range(1, {newest} + 1): show(version)\nspark.sql(f\"OPTIMIZE {{t}}\")\nshow()\n");
    let shown = spark(&installed, &path, &script);
    for version in 1..=newest {
        assert_eq!(shown[version as usize - 1], rows_at(&store, Some(version)).await, "version {version}");
    }
    sink.commit(vec![epoch(7, "-7=a +7=c -8=a")]).await.unwrap();
    let now = rows(&store).await;
    assert_eq!(now.len(), 29);
    assert_eq!(spark(&installed, &path, "show()").concat(), now);
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_columns_that_were_renamed_dropped_and_widened() {
    let Some(installed) = installed("RIVERMERE_SPARK") else { return };
    for (partitioned_by, properties) in KINDS {
        let (_folder, store, path) = place();
        let table = created_with(&store, partitioned_by, properties).await;
        append(&table, "(1, 'a'), (2, 'b'), (3, 'c')").await;
        apply(&table, Verb::RenameColumn { from: "value".into(), to: "name".into() }).await.unwrap();
        let more = Arc::new(Schema::new(vec![Field::new("more", DataType::Int64, true)]));
        apply(&table, Verb::AddColumns(more.clone())).await.unwrap();
        let session = SessionContext::new();
        let row = plan(&session, "SELECT CAST(4 AS BIGINT) AS key, 'd' AS name, CAST(40 AS BIGINT) AS more").await;
        apply_with(&session, &table, Verb::Append(row)).await.unwrap();
        apply(&table, Verb::DropColumn("more".into())).await.unwrap();
        apply(&table, Verb::AddColumns(more)).await.unwrap();
        apply(&table, delete("\"name\" = 'b'")).await.unwrap();
        apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        let newest = table.version().await.unwrap();
        let script = format!(
            "for version in range(1, {newest} + 1): show(version)
spark.sql(f\"INSERT INTO {{t}} VALUES (5, 'e', 50)\")
spark.sql(f\"ALTER TABLE {{t}} RENAME COLUMN key TO id\")
spark.sql(f\"UPDATE {{t}} SET more = 7 WHERE name = 'd'\")
show()
print('ROWS ' + json.dumps(spark.table(t).filter('id = 4').columns))
"
        );
        let shown = spark(&installed, &path, &script);
        for version in 1..=newest {
            assert_eq!(shown[version as usize - 1], rows_at(&store, Some(version)).await, "version {version}");
        }
        assert_eq!(shown[newest as usize], rows(&store).await, "{partitioned_by:?}, {properties:?}");
        assert_eq!(rows(&store).await, ["1=a=null", "3=c=null", "4=d=7", "5=e=50"]);
        assert_eq!(shown[newest as usize + 1], ["id", "name", "more"]);
    }
}
