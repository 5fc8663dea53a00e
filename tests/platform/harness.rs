//! A platform on free ports, and small clients for it.

use rivermere::{Assembly, Problem, Project, Settings};
use rivermere_base::{Doors, SeededRng, SystemClock, TopicName};
use rivermere_log::kafka::client::KafkaClient;
use rivermere_log::records::{Compression, Record, encode};
use rivermere_store::LocalDisk;
use rivermere_table::Adopt;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub fn doors() -> Doors {
    Doors { clock: Arc::new(SystemClock::new()), rng: Arc::new(SeededRng::from_os()), disk: Arc::new(LocalDisk::new()) }
}

pub fn settings(data: &Path) -> Settings {
    let any = "127.0.0.1:0".parse().unwrap();
    Settings { data: data.to_path_buf(), http: any, kafka: any, pg: any, adopt: Adopt::Refuse }
}

/// A project of one SQL file.
pub fn write_project(folder: &Path, sql: &str) {
    std::fs::create_dir_all(folder.join("sql")).unwrap();
    std::fs::write(folder.join("rivermere.toml"), "name = \"test\"\ncommit_interval_s = 0\nepoch_interval_ms = 50\n")
        .unwrap();
    std::fs::write(folder.join("sql/all.sql"), sql).unwrap();
}

pub async fn start(project: &Path, data: &Path) -> Result<Assembly, Problem> {
    within("the start", Assembly::start(doors(), Project::load(project)?, settings(data))).await
}

pub async fn stop(assembly: Assembly) {
    within("the end", assembly.stop()).await.unwrap_or_else(|problem| panic!("{problem}"));
}

pub async fn flush(assembly: &Assembly) {
    within("the tables", assembly.flush()).await.unwrap_or_else(|problem| panic!("{problem}"));
}

pub async fn produce(assembly: &Assembly, topic: &str, values: &[String]) {
    let address = assembly.addresses().kafka.unwrap().parse().unwrap();
    let mut client = KafkaClient::connect(address).await.unwrap();
    let records: Vec<Record> =
        values.iter().map(|value| Record { value: Some(value.clone().into()), ..Record::default() }).collect();
    let batch = encode(&records, Compression::Lz4).unwrap();
    client.produce(&TopicName::new(topic).unwrap(), rivermere_base::PartitionId(0), batch).await.unwrap();
}

/// Longest wait for an answer: what hangs fails, and says where.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A client that gives up, and takes errors as answers.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

/// One step of a long test: among what it prints, and every other minute past libtest, which keeps that back until the
/// end and would make a test of half an hour look as if it hung.
pub fn progress(line: &str) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    println!("{line}");
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(120) {
        *said = Some(Instant::now());
        let _ = writeln!(std::io::stderr(), "[long] {line}");
    }
}

/// What the platform does in the end, which must not take longer than [`PATIENCE`].
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let (what, place) = (what.to_owned(), std::panic::Location::caller());
    async move {
        let ended = tokio::time::timeout(PATIENCE, future).await;
        ended.unwrap_or_else(|_| panic!("{place}: waited for {what} in vain"))
    }
}

pub fn get(assembly: &Assembly, path: &str) -> Value {
    let url = format!("{}{path}", assembly.addresses().http.unwrap());
    let mut response = agent().get(&url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
    let body = response.body_mut().read_to_string().unwrap();
    assert!(response.status().is_success(), "{url}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Runs a statement over HTTP: the rows, or the error object.
pub fn sql(assembly: &Assembly, text: &str) -> Result<Value, Value> {
    let url = format!("{}/v1/sql", assembly.addresses().http.unwrap());
    let asked =
        agent().post(&url).content_type("application/json").send(serde_json::json!({ "sql": text }).to_string());
    let mut response = asked.unwrap_or_else(|error| panic!("{text}: {error}"));
    let ok = response.status().is_success();
    let body: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
    if ok { Ok(body) } else { Err(body) }
}

/// The rows of a statement that must succeed.
#[track_caller]
pub fn ok(assembly: &Assembly, text: &str) -> Value {
    sql(assembly, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What is said of a statement that must not.
#[track_caller]
pub fn refused(assembly: &Assembly, text: &str) -> String {
    sql(assembly, text).map_or_else(|error| error.to_string(), |rows| panic!("{text}: {rows}"))
}

/// Waits until a condition holds, for as long as anything is waited for.
pub async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited for {what} in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Rows of a result in a comparable order; floats to nine digits.
pub fn sorted(rows: &Value) -> Vec<String> {
    fn normal(value: &Value) -> Value {
        match value {
            Value::Number(number) if number.is_f64() => Value::String(format!("{:.8e}", number.as_f64().unwrap())),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(name, value)| (name.clone(), normal(value))).collect())
            }
            other => other.clone(),
        }
    }
    let mut rows: Vec<String> = rows.as_array().unwrap().iter().map(|row| normal(row).to_string()).collect();
    rows.sort();
    rows
}

/// Every view equals the batch answer of its own query over its topics.
pub fn assert_views_equal_batch(assembly: &Assembly) {
    for view in get(assembly, "/v1/views").as_array().unwrap() {
        let name = view["name"].as_str().unwrap();
        let stream = sql(assembly, &format!("SELECT * FROM {name}")).unwrap();
        let batch = sql(assembly, &format!("SELECT * FROM batch('{name}')")).unwrap();
        assert_eq!(sorted(&stream), sorted(&batch), "view {name}");
    }
}
