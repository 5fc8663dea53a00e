//! A table that Apache Spark and we write at the same time, on HDFS, where Spark's commits are atomic: on a local disk its
//! log store renames over what another process has put there meanwhile.

use crate::harness::{sql, start, stop, write_project};
use crate::peer::{Peer, tool};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Counts with updates, adds rows and optimizes, `rounds` times each; again where it lost. `INSTALLED FORMAT TABLE ROUNDS`
const SPARK: &str = r#"
import glob, sys
from pyspark.sql import SparkSession
installed, format, place, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
spark = (SparkSession.builder.master("local[2]").config("spark.jars", ",".join(glob.glob(installed + "/jars/*.jar")))
    .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "1")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    .config("spark.databricks.delta.snapshotPartitions", "1")
    .config("spark.hadoop.dfs.client.use.datanode.hostname", "false")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension,"
        "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
    .config("spark.sql.catalog.lake", "org.apache.iceberg.spark.SparkCatalog")
    .config("spark.sql.catalog.lake.type", "hadoop").config("spark.sql.catalog.lake.cache-enabled", "false")
    .config("spark.sql.catalog.lake.warehouse", place.rsplit("/", 2)[0])
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
t = f"delta.`{place}`" if format == "delta" else "lake." + ".".join(place.rsplit("/", 2)[1:])
lost = 0
def done(statement):
    global lost
    while True:
        try:
            spark.sql(statement)
            return
        except Exception as error:
            lost_words = ["concurrent", "conflict", "cannot commit", "commitfailed", "version"]
            if not any(word in str(error).lower() for word in lost_words):
                raise
            lost += 1
print("READY", flush=True)
for round in range(rounds):
    done(f"UPDATE {t} SET n = n + 1 WHERE name = 'both'")
    done(f"INSERT INTO {t} VALUES ('spark {round}', {round})")
    done(f"UPDATE {t} SET n = n + 1 WHERE name = 'spark'")
    if round % 5 == 4 and format == "delta":
        done(f"OPTIMIZE {t}")
rows = spark.table(t).collect()
print("DONE", lost, len(rows), flush=True)
"#;

const ROUNDS: usize = 12;

async fn no_update_is_lost(format: &str, properties: &str) {
    let (Some(installed), Some(jars)) = (tool("RIVERMERE_SPARK"), tool("RIVERMERE_HDFS")) else { return };
    let peer = Peer::start("hdfs", &jars);
    let place = format!("{}/lake/db/both", peer.told("endpoint"));
    let folder = tempfile::tempdir().unwrap();
    write_project(
        folder.path(),
        &format!(
            "CREATE EXTERNAL TABLE counts (name TEXT, n BIGINT) STORED AS {format} LOCATION '{place}' {properties};"
        ),
    );
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    let ok = |text: &str| sql(&assembly, text).unwrap_or_else(|error| panic!("{text}: {error}"));
    ok("INSERT INTO counts VALUES ('both', 0), ('spark', 0), ('ours', 0)");
    ok("CREATE MATERIALIZED VIEW total AS SELECT COUNT(*) AS rows, SUM(n) AS n FROM counts");
    let mut spark = Command::new(installed.join("python/bin/python"))
        .args(["-c", SPARK])
        .arg(&installed)
        .args([format, &place, &ROUNDS.to_string()])
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(spark.stdout.take().unwrap()).lines().map_while(Result::ok);
    said.by_ref().find(|line| line == "READY").expect("Spark ended before it was ready");
    // Ours go on for as long as Spark's, so that they meet.
    let (end, ended) = std::sync::mpsc::channel();
    let spark = std::thread::spawn(move || {
        let last = said.find(|line| line.starts_with("DONE"));
        let _ = end.send(());
        assert!(spark.wait().unwrap().success(), "Spark failed");
        last.unwrap()
    });
    let mut ours = 0;
    while ended.try_recv().is_err() && !spark.is_finished() {
        for statement in [
            "UPDATE counts SET n = n + 1 WHERE name = 'both'".to_string(),
            format!("INSERT INTO counts VALUES ('row {ours}', {ours})"),
            "MERGE INTO counts USING (SELECT 'ours' AS name) AS s ON counts.name = s.name
             WHEN MATCHED THEN UPDATE SET n = counts.n + 1"
                .to_string(),
        ] {
            // A statement gives way after some attempts, and says so.
            while let Err(error) = sql(&assembly, &statement) {
                assert!(error.to_string().contains("RM-5008"), "{statement}: {error}");
            }
        }
        ours += 1;
        // Ours take a tenth of Spark's time, which would otherwise lose every race.
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    }
    println!("{format} {properties}: {} of Spark's, {ours} of ours; Spark: {}", ROUNDS, spark.join().unwrap());
    let counts = ok("SELECT name, n FROM counts WHERE name IN ('both', 'spark', 'ours') ORDER BY name");
    assert_eq!(
        counts,
        json!([{ "name": "both", "n": ROUNDS + ours }, { "name": "ours", "n": ours }, { "name": "spark", "n": ROUNDS }])
    );
    let whole = ok("SELECT COUNT(*) AS rows, COUNT(DISTINCT name) AS names, SUM(n) AS n FROM counts");
    assert_eq!((&whole[0]["rows"], &whole[0]["names"]), (&json!(3 + ROUNDS + ours), &json!(3 + ROUNDS + ours)));
    let total = json!([{ "rows": whole[0]["rows"], "n": whole[0]["n"] }]);
    crate::harness::eventually("the view over it", || (ok("SELECT rows, n FROM total") == total).then_some(())).await;
    stop(assembly).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn beside_spark_no_update_of_a_table_is_lost() {
    no_update_is_lost("delta", "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn beside_spark_no_update_of_a_table_that_marks_rows_is_lost() {
    no_update_is_lost("delta", "TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn beside_spark_no_update_of_an_iceberg_table_is_lost() {
    no_update_is_lost("iceberg", "").await;
}
