//! Tables beside Apache Spark, in both directions, when `RIVERMERE_SPARK` names the folder where it is installed
//! (`cargo xtask test --full` does).

use crate::spark_session::{installed, rows_of_script};
use crate::tables::{changed, collect};
use crate::verbs::{KINDS, apply, apply_with, delete, insert, insert_into, plan, set};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use rivermere_base::Changes;
use rivermere_iceberg::IcebergTable;
use rivermere_table::{Location, MergeClause, MergeVerb, Table, Verb};
use std::path::Path;
use std::sync::Arc;

/// A session, and `show(snapshot)`: the rows of a table as one line of JSON.
const SESSION: &str = r#"
spark = (builder
    .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
    .config("spark.sql.catalog.lake", "org.apache.iceberg.spark.SparkCatalog")
    .config("spark.sql.catalog.lake.type", "hadoop").config("spark.sql.catalog.lake.cache-enabled", "false")
    .config("spark.sql.catalog.lake.warehouse", sys.argv[2]).getOrCreate())
t = "lake.db.t"
def show(snapshot=None):
    frame = spark.table(t) if snapshot is None else spark.sql(f"SELECT * FROM {t} VERSION AS OF {snapshot}")
    told(frame)
"#;

fn spark(installed: &Path, warehouse: &Path, script: &str) -> Vec<Vec<String>> {
    rows_of_script(installed, SESSION, warehouse, script)
}

/// Goes from each version to the next, and from the first to the last.
async fn changes_lead_on(table: &IcebergTable, versions: &[i64]) {
    let columns = table.schema().await.unwrap();
    let pairs = versions.windows(2).map(|pair| (pair[0], pair[1]));
    for (from, to) in pairs.chain([(versions[0], versions[versions.len() - 1])]) {
        let old = collect(table.scan(Some(from)).await.unwrap()).await.unwrap();
        let changes: Vec<Changes> = table.changes(Some(from), to, &columns).await.unwrap().try_collect().await.unwrap();
        let new = collect(table.scan(Some(to)).await.unwrap()).await.unwrap();
        assert_eq!(changed(old, &changes), new, "{from} to {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_every_snapshot_of_ours_and_we_read_those_that_it_makes() {
    let Some(installed) = installed("RIVERMERE_SPARK") else { return };
    for (partitioned_by, version) in KINDS {
        for mode in ["copy-on-write", "merge-on-read"] {
            let folder = tempfile::tempdir().unwrap();
            let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix("/").unwrap());
            let path = folder.path().join("db/t");
            let inside = object_store::path::Path::from_absolute_path(&path).unwrap();
            let place = Location::new(store, inside, Arc::new(rivermere_store::LocalDisk::new()))
                .named(path.to_str().unwrap().to_owned());
            let table = crate::verbs::created_at(place.clone(), partitioned_by, version).await;
            let modes = ["delete", "update", "merge"].map(|verb| (format!("write.{verb}.mode"), mode.to_string()));
            apply(&table, Verb::SetProperties(modes.to_vec())).await.unwrap();
            insert(&table, "(1, 'a', 'n'), (2, 'b', 's'), (3, 'c', NULL), (4, 'd', 'a/b')").await.unwrap();
            apply(&table, delete("\"key\" = 2")).await.unwrap();
            apply(&table, set("value", "'changed'", Some("\"key\" > 3"))).await.unwrap();
            let session = SessionContext::new();
            let own = |column: &str| (column.to_string(), format!("\"s\".\"{column}\""));
            let merge = MergeVerb {
                source: plan(
                    &session,
                    "SELECT CAST(k AS INT) AS key, v AS value FROM (VALUES (1, 'z'), (9, 'y')) AS t(k, v)",
                )
                .await,
                target_alias: "t".into(),
                source_alias: "s".into(),
                on: "\"t\".\"key\" = \"s\".\"key\"".into(),
                clauses: vec![
                    MergeClause::UpdateMatched { condition: None, assignments: vec![own("value")] },
                    MergeClause::Insert { condition: None, values: vec![own("key"), own("value")] },
                ],
            };
            apply_with(&session, &table, Verb::Merge(Box::new(merge))).await.unwrap();
            apply(&table, Verb::WidenColumn { column: "key".into(), to: DataType::Int64 }).await.unwrap();
            apply(&table, Verb::RenameColumn { from: "value".into(), to: "name".into() }).await.unwrap();
            let more = Arc::new(Schema::new(vec![Field::new("more", DataType::Float64, true)]));
            apply(&table, Verb::AddColumns(more)).await.unwrap();
            insert_into(&table, "SELECT 5000000000 AS key, 'e' AS name, 'n' AS place, CAST(0.5 AS DOUBLE) AS more")
                .await;
            apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();

            let history = table.history(99).await.unwrap();
            let ids: Vec<String> = history
                .iter()
                .rev()
                .map(|version| {
                    let told: serde_json::Value = serde_json::from_str(version.parameters.as_ref().unwrap()).unwrap();
                    told["snapshot-id"].as_str().unwrap().to_owned()
                })
                .collect();
            let script = format!(
                "for snapshot in [{}]: show(snapshot)
show()
spark.sql(f\"INSERT INTO {{t}} VALUES (6, 'f', 'n', 1.5), (7, 'g', 's', NULL), (8, 'h', 's', 2.5)\")
spark.sql(f\"DELETE FROM {{t}} WHERE key IN (1, 7)\")
spark.sql(f\"UPDATE {{t}} SET more = 9.5 WHERE key = 3 OR key = 8\")
spark.sql(f\"MERGE INTO {{t}} USING (SELECT 6L AS key) s ON {{t}}.key = s.key WHEN MATCHED THEN DELETE\")
show()
",
                ids.join(", ")
            );
            let what = format!("{partitioned_by:?}, version {version}, {mode}");
            let shown = spark(&installed, folder.path(), &script);
            for (id, shown) in ids.iter().zip(&shown) {
                let ours = collect(table.scan(Some(id.parse().unwrap())).await.unwrap()).await.unwrap();
                assert_eq!(shown, &ours, "{what}, snapshot {id}");
            }
            let now = async || {
                collect(IcebergTable::open(place.clone()).await.unwrap().scan(None).await.unwrap()).await.unwrap()
            };
            assert_eq!(shown[ids.len() + 1], now().await, "{what}");
            let expected = ["3=c=null=9.5", "4=changed=a/b=null", "5000000000=e=n=0.5", "8=h=s=9.5", "9=y=null=null"];
            assert_eq!(now().await, expected, "{what}");
            let mut versions: Vec<i64> =
                table.history(99).await.unwrap().iter().map(|version| version.version).collect();
            versions.reverse();
            assert!(versions.len() >= ids.len() + 4, "{versions:?}");
            // Those of before the columns changed have others.
            changes_lead_on(&table, &versions[ids.len() - 1..]).await;
            // Once more ours, over its deletes.
            apply(&table, delete("\"key\" = 8")).await.unwrap();
            apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
            let left = ["3=c=null=9.5", "4=changed=a/b=null", "5000000000=e=n=0.5", "9=y=null=null"];
            assert_eq!(
                (now().await, spark(&installed, folder.path(), "show()").concat()),
                (left.map(String::from).to_vec(), left.map(String::from).to_vec()),
                "{what}"
            );
        }
    }
}
