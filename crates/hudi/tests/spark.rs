//! Tables beside Apache Spark with Hudi's own bundle, in both directions, when `RIVERMERE_SPARK_HUDI` names the folder where it is
//! installed (`cargo xtask test --full` does).

use crate::spark_session::{installed, rows_of_script};
use crate::tables::{changed, collect};
use crate::world::*;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use rivermere_base::Changes;
use rivermere_hudi::HudiTable;
use rivermere_table::{Location, MergeClause, MergeVerb, Table, Verb};
use std::path::Path;
use std::sync::Arc;

/// A session; `show(instant)`: the rows of a table as one line of JSON; `write(rows, columns, operation)`.
const SESSION: &str = r#"
spark = (builder
    .config("spark.serializer", "org.apache.spark.serializer.KryoSerializer")
    .config("spark.sql.extensions", "org.apache.spark.sql.hudi.HoodieSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.hudi.catalog.HoodieCatalog")
    .config("spark.kryo.registrator", "org.apache.spark.HoodieSparkKryoRegistrar").getOrCreate())
t = sys.argv[2]
def show(instant=None):
    frame = spark.read.format("hudi")
    frame = (frame if instant is None else frame.option("as.of.instant", instant)).load(t)
    told(frame.select(*[c for c in frame.columns if not c.startswith("_hoodie")]))
def write(rows, schema, operation, mode="append", **more):
    options = {"hoodie.table.name": "t", "hoodie.datasource.write.recordkey.field": "key",
        "hoodie.datasource.write.operation": operation, "hoodie.bloom.index.filter.num_entries": "100",
        **{name.replace("_", "."): value for name, value in more.items()}}
    spark.createDataFrame(rows, schema).write.format("hudi").options(**options).mode(mode).save(t)
"#;

fn spark(installed: &Path, table: &Path, script: &str) -> Vec<Vec<String>> {
    rows_of_script(installed, SESSION, table, script)
}

fn place(path: &Path) -> Location {
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix("/").unwrap());
    let inside = object_store::path::Path::from_absolute_path(path).unwrap();
    Location::new(store, inside, Arc::new(rivermere_store::LocalDisk::new())).named(path.to_str().unwrap().to_owned())
}

/// Versions with the times at which their instants began, oldest first.
async fn versions(table: &HudiTable) -> Vec<(i64, String)> {
    let history = table.history(99).await.unwrap();
    let of = |parameters: &str| serde_json::from_str::<serde_json::Value>(parameters).unwrap();
    let told = history.iter().rev().map(|version| {
        let instant = of(version.parameters.as_ref().unwrap())["instant"].as_str().unwrap().to_owned();
        (version.version, instant)
    });
    told.collect()
}

/// Goes from each version to the next, and from the first to the last.
async fn changes_lead_on(table: &HudiTable, versions: &[i64]) {
    let columns = table.schema().await.unwrap();
    let pairs = versions.windows(2).map(|pair| (pair[0], pair[1]));
    for (from, to) in pairs.chain([(versions[0], versions[versions.len() - 1])]) {
        let old = collect(table.scan(Some(from)).await.unwrap()).await.unwrap();
        let changes: Vec<Changes> = table.changes(Some(from), to, &columns).await.unwrap().try_collect().await.unwrap();
        let new = collect(table.scan(Some(to)).await.unwrap()).await.unwrap();
        assert_eq!(changed(old, &changes), new, "{from} to {to}");
    }
}

async fn now(path: &Path) -> Vec<String> {
    collect(HudiTable::open(place(path)).await.unwrap().scan(None).await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_every_version_of_ours_and_we_read_those_that_it_makes() {
    let Some(installed) = installed("RIVERMERE_SPARK_HUDI") else { return };
    for kind in KINDS {
        let (partitioned_by, key, of) = kind;
        let what = format!("{kind:?}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let table = created_at(place(&path), kind).await;
        insert(&table, "(1, 'a', 'n'), (2, 'b', 's'), (3, 'c', NULL), (4, 'd', 'a/b')").await;
        apply(&table, delete("\"key\" = 2")).await.unwrap();
        apply(&table, set("value", "'changed'", Some("\"key\" > 3"))).await.unwrap();
        let session = SessionContext::new();
        let own = |column: &str| (column.to_string(), format!("\"s\".\"{column}\""));
        let sql = "SELECT CAST(k AS INT) AS key, v AS value FROM (VALUES (1, 'z'), (9, 'y')) AS t(k, v)";
        let merge = MergeVerb {
            source: plan(&session, sql).await,
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
        let more = Arc::new(Schema::new(vec![Field::new("more", DataType::Float64, true)]));
        apply(&table, Verb::AddColumns(more)).await.unwrap();
        insert_into(&table, "SELECT 5000000000 AS key, 'e' AS value, 'n' AS place, CAST(0.5 AS DOUBLE) AS more").await;
        let before = table.version().await.unwrap();
        apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        apply(&table, Verb::Restore { version: before }).await.unwrap();
        let made = versions(&table).await;
        let instants: Vec<String> = made.iter().map(|(_, instant)| format!("'{instant}'")).collect();
        let shown = spark(&installed, &path, &format!("for i in [{}]: show(i)\nshow()", instants.join(", ")));
        assert_eq!(shown.len(), made.len() + 1, "{what}");
        for ((version, instant), shown) in made.iter().zip(&shown) {
            let provider = table.scan(Some(*version)).await.unwrap();
            let width = provider.schema().fields().len();
            let ours = collect(provider).await.unwrap();
            // Spark shows an older version with the newest columns, and we with its own.
            let cut = |row: &String| row.split('=').take(width).collect::<Vec<_>>().join("=");
            assert_eq!(shown.iter().map(cut).collect::<Vec<_>>(), ours, "{what}, at {instant}");
        }
        assert_eq!(shown.last().unwrap(), &now(&path).await, "{what}");
        if key.is_empty() {
            continue;
        }
        // Spark writes on, with the index of files that we do not keep.
        let partition = partitioned_by.join(",");
        let of = if of == "mor" { "MERGE_ON_READ" } else { "COPY_ON_WRITE" };
        let shown = spark(
            &installed,
            &path,
            &format!(
                "columns = 'key long, value string, place string, more double'
more = dict(hoodie_datasource_write_partitionpath_field='{partition}', hoodie_datasource_write_table_type='{of}',
    hoodie_compact_inline='false')
write([(6, 'f', 'n', 1.5), (7, 'g', 's', None), (8, 'h', 's', 2.5)], columns, 'upsert', **more)
write([(8, 'H', 's', 9.5), (9, 'Y', None, 1.0)], columns, 'upsert', **more)
write([(1, None, 'n', None), (7, None, 's', None)], columns, 'delete', **more)
show()"
            ),
        );
        assert_eq!(shown[0], now(&path).await, "{what}");
        let all: Vec<i64> = versions(&table).await.into_iter().map(|(version, _)| version).collect();
        assert!(all.len() >= made.len() + 3, "{what}: {all:?}");
        // Those of before the columns changed have others.
        changes_lead_on(&table, &all[made.len() - 3..]).await;
        // Once more ours, and Spark sees it without the index that it had made.
        apply(&table, delete("\"key\" = 8")).await.unwrap();
        insert_into(&table, "SELECT CAST(10 AS BIGINT) AS key, 'j' AS value, 'n' AS place, CAST(0 AS DOUBLE) AS more")
            .await;
        let shown = spark(&installed, &path, "show()");
        assert_eq!(shown[0], now(&path).await, "{what}");
        assert!(
            shown[0].iter().any(|row| row.starts_with("10=j")) && !shown[0].iter().any(|row| row.starts_with("8="))
        );
    }
}

/// Every type that a table can have, null and not, written here and by Spark over it. Spark itself fails to write a list with a null in it.
#[tokio::test(flavor = "multi_thread")]
async fn spark_reads_every_type_that_we_write() {
    let Some(installed) = installed("RIVERMERE_SPARK_HUDI") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    let session = SessionContext::new();
    let row = "CAST(1 AS INT) AS key, true AS b, CAST(-5000000000 AS BIGINT) AS l, CAST(1.5 AS FLOAT) AS f, \
               CAST(-2.25 AS DOUBLE) AS d, 'zwölf' AS t, CAST(-12.34 AS DECIMAL(9, 2)) AS small, \
               CAST('123456789012345678.125' AS DECIMAL(30, 3)) AS large, DATE '1969-12-31' AS day, \
               TIMESTAMP '2026-01-02 03:04:05.678901' AS plain, \
               arrow_cast(1767323045678901, 'Timestamp(Microsecond, Some(\"UTC\"))') AS utc, \
               arrow_cast('ab', 'Binary') AS bytes, make_array(1, 3) AS list, \
               named_struct('x', CAST(7 AS INT), 'y', 'in') AS inside";
    let rows = plan(&session, &format!("SELECT {row}")).await;
    let schema = Arc::new(rows.schema().as_arrow().clone());
    let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
    let spec = rivermere_table::TableSpec {
        schema,
        partitioned_by: vec![],
        properties: vec![("primaryKey".into(), "key".into())],
    };
    let table = HudiTable::create(place(&path), &spec).await.unwrap();
    apply_with(&session, &table, Verb::Append(rows)).await.unwrap();
    let names: Vec<String> = table.schema().await.unwrap().fields().iter().map(|field| field.name().clone()).collect();
    let nothing = names.iter().map(|name| match name.as_str() {
        "key" => "CAST(2 AS INT) AS key".to_owned(),
        name => format!("CASE WHEN false THEN {name} END AS {name}"),
    });
    let sql = format!("SELECT {} FROM (SELECT {row})", nothing.collect::<Vec<_>>().join(", "));
    apply_with(&session, &table, Verb::Append(plan(&session, &sql).await)).await.unwrap();
    let check = "import datetime, decimal
def check():
    for r in sorted(spark.read.format('hudi').load(t).collect(), key=lambda r: r.key):
        d = r.asDict(recursive=True)
        print('ROWS ' + json.dumps([repr(d[c]) for c in d if not c.startswith('_hoodie')]))
check()";
    let shown = spark(&installed, &path, check);
    let plain = "datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)";
    let expected = [
        "1",
        "True",
        "-5000000000",
        "1.5",
        "-2.25",
        "'zwölf'",
        "Decimal('-12.34')",
        "Decimal('123456789012345678.125')",
        "datetime.date(1969, 12, 31)",
        plain,
        plain,
        "bytearray(b'ab')",
        "[1, 3]",
        "{'x': 7, 'y': 'in'}",
    ];
    assert_eq!(shown[0], expected);
    assert!(shown[1][0] == "2" && shown[1][1..].iter().all(|cell| cell == "None"), "{:?}", shown[1]);
    let before = now(&path).await;
    // Written anew by Spark, with what is not touched as it was.
    let again = format!(
        "spark.read.format('hudi').load(t).drop('_hoodie_commit_time', '_hoodie_commit_seqno', '_hoodie_record_key', \
         '_hoodie_partition_path', '_hoodie_file_name').write.format('hudi').options(**{{'hoodie.table.name': 't', \
         'hoodie.datasource.write.recordkey.field': 'key', 'hoodie.datasource.write.operation': 'upsert'}}).mode('append').save(t)
{check}"
    );
    assert_eq!(spark(&installed, &path, &again), shown);
    assert_eq!(now(&path).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_spark_merges_on_read_are_read_followed_and_changed() {
    let Some(installed) = installed("RIVERMERE_SPARK_HUDI") else { return };
    for partition in ["", "place"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let shown = spark(
            &installed,
            &path,
            &format!(
                "columns = 'key long, value string, at long, place string'
more = dict(hoodie_datasource_write_partitionpath_field='{partition}', hoodie_datasource_write_table_type='MERGE_ON_READ',
    hoodie_datasource_write_precombine_field='at', hoodie_compact_inline='false')
write([(k, 'v%d' % k, 10, 'p%d' % (k % 2)) for k in range(20)], columns, 'upsert', 'overwrite', **more)
show()
write([(3, 'x', 11, 'p1'), (4, 'late', 9, 'p0'), (20, 'n', 10, 'p0')], columns, 'upsert', **more)
show()
write([(5, None, 12, 'p1'), (6, None, 12, 'p0')], columns, 'delete', **more)
show()
write([(3, 'y', 12, 'p1'), (5, 'back', 13, 'p1')], columns, 'upsert', **more)
show()
write([(7, 'c', 14, 'p1')], columns, 'upsert', **{{**more, 'hoodie_compact_inline': 'true', 'hoodie_compact_inline_max_delta_commits': '1'}})
show()
write([(7, 'd', 15, 'p1'), (8, 'e', 15, 'p0')], columns, 'upsert', **more)
show()"
            ),
        );
        let table = HudiTable::open(place(&path)).await.unwrap();
        let made = versions(&table).await;
        let all: Vec<i64> = made.iter().map(|(version, _)| *version).collect();
        let mut read = vec![];
        for version in &all {
            read.push(collect(table.scan(Some(*version)).await.unwrap()).await.unwrap());
        }
        for (at, shown) in shown.iter().enumerate() {
            assert!(read.contains(shown), "'{partition}', {at}: {shown:?}\nnone of {read:?}");
        }
        assert_eq!(read.last(), shown.last(), "'{partition}'");
        changes_lead_on(&table, &all).await;
        // Over its logs.
        apply(&table, set("value", "'ours'", Some("\"key\" IN (3, 7, 9)"))).await.unwrap();
        apply(&table, delete("\"key\" = 8")).await.unwrap();
        insert_into(&table, "SELECT CAST(30 AS BIGINT) AS key, 'i' AS value, CAST(1 AS BIGINT) AS at, 'p0' AS place")
            .await;
        let shown = spark(
            &installed,
            &path,
            &format!(
                "show()
columns = 'key long, value string, at long, place string'
more = dict(hoodie_datasource_write_partitionpath_field='{partition}', hoodie_datasource_write_table_type='MERGE_ON_READ',
    hoodie_datasource_write_precombine_field='at', hoodie_compact_inline='false')
write([(3, 'again', 99, 'p1'), (30, 'z', 99, 'p0')], columns, 'upsert', **more)
show()"
            ),
        );
        let before = table.version().await.unwrap();
        let ours = &versions(&table).await;
        let at = ours.iter().position(|(version, _)| *version == before).unwrap();
        let ours_then = collect(table.scan(Some(ours[at - 1].0)).await.unwrap()).await.unwrap();
        assert_eq!(shown[0], ours_then, "'{partition}'");
        assert_eq!(shown[1], now(&path).await, "'{partition}'");
        let done = apply(&table, Verb::Compact { z_order: vec![], condition: None }).await.unwrap();
        assert!(done.version > before, "{done:?}");
        assert_eq!(spark(&installed, &path, "show()")[0], shown[1], "'{partition}'");
        assert_eq!(now(&path).await, shown[1], "'{partition}'");
    }
}
