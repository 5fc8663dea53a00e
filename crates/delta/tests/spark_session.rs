//! Scripts for Apache Spark, when a variable names the folder where it is installed. Other formats' tests use it, too.

use std::path::{Path, PathBuf};
use std::process::Command;

/// `builder`, of a session; `told(frame)` says its rows as one line of JSON.
const BEGINNING: &str = r#"
import glob, json, sys
from pyspark.sql import SparkSession
builder = (SparkSession.builder.master("local[2]").config("spark.jars", ",".join(glob.glob(sys.argv[1] + "/jars/*.jar")))
    .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "1")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    .config("spark.sql.session.timeZone", "UTC").config("spark.log.level", "ERROR"))
def cell(value):
    return "null" if value is None else str(value)
def told(frame):
    print("ROWS " + json.dumps(sorted("=".join(cell(c) for c in row) for row in frame.collect())))
"#;

/// The folder, or a printed skip.
pub fn installed(variable: &str) -> Option<PathBuf> {
    let installed = std::env::var_os(variable).map(PathBuf::from);
    if installed.is_none() {
        println!("skipped: {variable} is not set");
    }
    installed
}

/// Runs a script after the making of its session; `path` is its second argument. The rows that it tells of, time by time.
pub fn rows_of_script(installed: &Path, session: &str, path: &Path, script: &str) -> Vec<Vec<String>> {
    let output = Command::new(installed.join("python/bin/python"))
        .args(["-c", &format!("{BEGINNING}{session}{script}")])
        .args([installed, path])
        .env("SPARK_LOCAL_IP", "127.0.0.1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = String::from_utf8(output.stdout).unwrap();
    out.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("ROWS ")?).ok()).collect()
}
