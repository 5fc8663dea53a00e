//! From a producer to a reader of the page: `cargo xtask bench latency [-- SAMPLES]`.
//!
//! A whole platform at its default settings, on the real disk. A client produces one record over the Kafka protocol, at
//! random moments, and a reader of the view's server-sent events waits for the row that it changes. Measured are the
//! acknowledgement (the record is durable) and the arrival of the event, both from just before the record is sent; first
//! alone, then beside another topic that takes in a steady load and maintains a view of its own.

use rivermere::{Assembly, Project, Settings};
use rivermere_base::{Doors, PartitionId, Rng, SeededRng, SystemClock, TopicName};
use rivermere_log::kafka::client::KafkaClient;
use rivermere_log::records::{Compression, Record, encode};
use rivermere_table::Adopt;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PROJECT: &str = "
CREATE TABLE orders (id BIGINT NOT NULL, customer TEXT NOT NULL, amount DOUBLE);
CREATE MATERIALIZED VIEW by_customer AS
SELECT customer, COUNT(*) AS orders, SUM(amount) AS total, MAX(id) AS newest FROM orders GROUP BY customer;

CREATE TABLE readings (sensor BIGINT NOT NULL, at TIMESTAMP(3) NOT NULL, celsius DOUBLE,
  WATERMARK FOR at AS at - INTERVAL '1' SECOND);
CREATE MATERIALIZED VIEW by_second AS
SELECT sensor, window_start, COUNT(*) AS readings, AVG(celsius) AS celsius
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(at), INTERVAL '1' SECOND)) GROUP BY sensor, window_start;
";

const WARM_UP: usize = 30;
/// Pauses between records: random up to this, so that they meet every phase of whatever is periodic.
const LONGEST_PAUSE_MS: u64 = 200;
/// Records a second of the load beside.
const LOAD: u64 = 20_000;
const LOAD_BATCH: u64 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let samples = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(300);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(samples))
}

async fn measure(samples: usize) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("sql"))?;
    std::fs::write(folder.path().join("sql/all.sql"), PROJECT)?;
    let doors = Doors {
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SeededRng::from_os()),
        disk: Arc::new(rivermere_store::LocalDisk::new()),
    };
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let settings = Settings { data: folder.path().join("data"), http: any, kafka: any, pg: any, adopt: Adopt::Refuse };
    let assembly = Assembly::start(doors, Project::load(folder.path())?, settings).await.map_err(|p| p.to_string())?;
    let addresses = assembly.addresses();
    let kafka: SocketAddr = addresses.kafka.ok_or("no Kafka listener")?.parse()?;
    let events = subscribe(format!("{}/v1/views/by_customer/changes", addresses.http.ok_or("no HTTP listener")?));
    let mut client = KafkaClient::connect(kafka).await?;
    let pauses = SeededRng::new(1);

    println!("{samples} records each, milliseconds from before the send; {}", profile());
    println!("{:<28} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}", "", "ack p50", "p90", "p99", "page p50", "p90", "p99");
    one_by_one(&mut client, &events, &pauses, 0, WARM_UP).await?;
    let mut next = WARM_UP;
    let alone = one_by_one(&mut client, &events, &pauses, next, samples).await?;
    next += samples;
    print("alone", alone);

    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = tokio::spawn(load(kafka, stop.clone(), sent.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (started, before) = (Instant::now(), sent.load(Ordering::Relaxed));
    let beside = one_by_one(&mut client, &events, &pauses, next, samples).await?;
    let rate = (sent.load(Ordering::Relaxed) - before) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    load.await?.map_err(|error| error.to_string())?;
    print(&format!("beside {rate:.0} records/s"), beside);
    assembly.stop().await.map_err(|problem| problem.to_string())?;
    Ok(())
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "dev profile" } else { "release profile" }
}

type Line = (Instant, String);

/// Lines of the event stream with the moment they came.
fn subscribe(url: String) -> Receiver<Line> {
    let (lines, received) = channel();
    std::thread::spawn(move || {
        let Ok(response) = ureq::get(&url).call() else { return };
        for line in BufReader::new(response.into_body().into_reader()).lines().map_while(Result::ok) {
            if lines.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    received
}

/// Milliseconds to the acknowledgement and to the event, of each record.
async fn one_by_one(
    client: &mut KafkaClient,
    events: &Receiver<Line>,
    pauses: &SeededRng,
    first: usize,
    count: usize,
) -> Result<Vec<(f64, f64)>, Box<dyn Error>> {
    let topic = TopicName::new("orders")?;
    let mut took = vec![];
    for id in first..first + count {
        tokio::time::sleep(Duration::from_millis(pauses.next_u64() % LONGEST_PAUSE_MS)).await;
        let value = format!(r#"{{"id":{id},"customer":"c{}","amount":{}.5}}"#, id % 10, id % 97);
        let batch = encode(&[Record { value: Some(value.into()), ..Record::default() }], Compression::None)?;
        let sent = Instant::now();
        client.produce(&topic, PartitionId(0), batch).await?;
        let acknowledged = sent.elapsed();
        let wanted = format!(r#""newest":{id}"#);
        let seen = loop {
            let (at, line) = events.recv_timeout(Duration::from_secs(20)).map_err(|_| "the row never came")?;
            if line.contains(&wanted) {
                break at - sent;
            }
        };
        took.push((acknowledged.as_secs_f64() * 1e3, seen.as_secs_f64() * 1e3));
    }
    Ok(took)
}

/// A steady load until it is stopped.
async fn load(
    kafka: SocketAddr,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut client = KafkaClient::connect(kafka).await?;
    let topic = TopicName::new("readings")?;
    let mut ticks = tokio::time::interval(Duration::from_millis(1_000 * LOAD_BATCH / LOAD));
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let records: Vec<Record> = (number..number + LOAD_BATCH)
            .map(|number| {
                let ms = number * 1_000 / LOAD;
                let at = format!(
                    "2024-01-01T{:02}:{:02}:{:02}.{:03}",
                    ms / 3_600_000 % 24,
                    ms / 60_000 % 60,
                    ms / 1_000 % 60,
                    ms % 1_000
                );
                let value = format!(r#"{{"sensor":{},"at":"{at}","celsius":{}.25}}"#, number % 100, number % 40);
                Record { value: Some(value.into()), ..Record::default() }
            })
            .collect();
        client.produce(&topic, PartitionId(0), encode(&records, Compression::Lz4)?).await?;
        number += LOAD_BATCH;
        sent.store(number, Ordering::Relaxed);
    }
    Ok(())
}

fn print(name: &str, took: Vec<(f64, f64)>) {
    let (mut acks, mut pages): (Vec<f64>, Vec<f64>) = took.into_iter().unzip();
    let part = |values: &mut Vec<f64>, part: f64| {
        values.sort_by(f64::total_cmp);
        values
            .get(((values.len() as f64 * part) as usize).min(values.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    print!("{name:<28}");
    for values in [&mut acks, &mut pages] {
        print!(" {:>8.2} {:>8.2} {:>8.2}", part(values, 0.5), part(values, 0.9), part(values, 0.99));
    }
    println!();
}
