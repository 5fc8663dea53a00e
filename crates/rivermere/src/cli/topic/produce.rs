//! `rivermere topic produce`: lines of stdin or a file become records.
//!
//! A line is sent as soon as it is there; lines that come faster than the broker acknowledges them go together, so that
//! typing is immediate and a large file is fast, without a setting.

use super::super::failure::{Failure, Outcome};
use super::super::terminal;
use super::partitioner::Partitioner;
use super::{partitions, topic_name};
use bytes::Bytes;
use clap::Args;
use rivermere::quantities::counted;
use rivermere_base::{Clock, PartitionId, SystemClock, TopicName};
use rivermere_log::kafka::client::KafkaClient;
use rivermere_log::records::{Compression, Record, encode};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// The longest line.
const MAX_LINE_BYTES: usize = 8 << 20;
/// Records of one request are no more than these.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 10_000;
/// Lines read ahead of the broker.
const LINES_AHEAD: usize = 10_000;

const EXAMPLES: &str = "\
Examples:
  echo '{\"id\": 1, \"amount\": 12.5}' | rivermere topic produce orders
  rivermere topic produce orders orders.ndjson
  echo 'NZ:{\"amount\": 1}' | rivermere topic produce countries --key-separator :
  echo 'NZ:' | rivermere topic produce countries --key-separator : --tombstones";

/// Write records: one for each line of stdin or a file
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Produce {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    name: TopicName,

    /// File to read instead of stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// What stands between key and value in a line; the first one counts
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,

    /// An empty value is a null, which deletes its key
    #[arg(long, requires = "key_separator")]
    tombstones: bool,

    /// Write to this partition instead of the one of the key, or of all in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
}

impl Produce {
    pub async fn run(self, addr: SocketAddr) -> Outcome {
        let mut client = KafkaClient::connect(addr).await?;
        let count_of_partitions = partitions(&mut client, &self.name).await?;
        if let Some(partition) = self.partition.filter(|partition| *partition >= count_of_partitions) {
            return Err(Failure::new(format!("RM-7130: '{}' has no partition {partition}", self.name))
                .hint(format!("its partitions are 0 to {}", count_of_partitions - 1)));
        }
        let mut lines = self.lines()?;
        let mut partitioner = Partitioner::new(count_of_partitions);
        let clock = SystemClock::new();
        let mut produced = 0_u64;
        let done = loop {
            let Some(first) = lines.recv().await else { break Ok(()) };
            let (batches, broken) = self.batches(&mut partitioner, &clock, first, &mut lines);
            // The lines before a broken one are still sent.
            let sent = self.send(&mut client, batches, &mut produced).await;
            if let Err(failure) = sent.and(broken) {
                break Err(failure);
            }
        };
        // Told in any case: the records before a failure are acknowledged and durable.
        terminal::tell(&format!("produced {} to {}", counted(produced, "record"), self.name));
        done
    }

    /// A line and those that wait behind it, as records for each partition, up to the first broken one.
    fn batches(
        &self,
        partitioner: &mut Partitioner,
        clock: &SystemClock,
        first: Result<Line, Failure>,
        lines: &mut mpsc::Receiver<Result<Line, Failure>>,
    ) -> (BTreeMap<i32, Vec<Record>>, Outcome) {
        let mut batches: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        let (mut bytes, mut records) = (0, 0);
        let mut next = Some(first);
        while let Some(line) = next {
            match line.and_then(|line| Ok((line.bytes.len(), self.record(line, clock.now_ms())?))) {
                Ok((length, record)) => {
                    let partition = self.partition.unwrap_or_else(|| partitioner.choose(record.key.as_deref()));
                    bytes += length;
                    records += 1;
                    batches.entry(partition).or_default().push(record);
                }
                Err(failure) => return (batches, Err(failure)),
            }
            next = if bytes < BATCH_BYTES && records < BATCH_RECORDS { lines.try_recv().ok() } else { None };
        }
        partitioner.next_batch();
        (batches, Ok(()))
    }

    async fn send(&self, client: &mut KafkaClient, batches: BTreeMap<i32, Vec<Record>>, sent: &mut u64) -> Outcome {
        for (partition, records) in batches {
            let batch = encode(&records, Compression::None).map_err(|error| Failure::new(error.to_string()))?;
            client.produce(&self.name, PartitionId(partition), batch).await?;
            *sent += records.len() as u64;
        }
        Ok(())
    }

    fn record(&self, line: Line, timestamp_ms: i64) -> Result<Record, Failure> {
        let Line { bytes, number } = line;
        let Some(separator) = &self.key_separator else {
            return Ok(Record { value: Some(bytes), timestamp_ms, ..Record::default() });
        };
        let at = bytes.windows(separator.len()).position(|window| window == separator.as_bytes()).ok_or_else(|| {
            Failure::new(format!("RM-7131: line {number} has no '{separator}' between key and value"))
                .hint("the lines before it are written")
        })?;
        let value = Some(bytes.slice(at + separator.len()..)).filter(|value| !(self.tombstones && value.is_empty()));
        Ok(Record { key: Some(bytes.slice(..at)), value, timestamp_ms, ..Record::default() })
    }

    /// Reads lines on a thread of its own: a terminal cannot be read otherwise.
    fn lines(&self) -> Result<mpsc::Receiver<Result<Line, Failure>>, Failure> {
        let input: Box<dyn Read + Send> =
            match &self.file {
                Some(path) => {
                    let file = std::fs::File::open(path);
                    Box::new(file.map_err(|error| {
                        Failure::new(format!("RM-7132: {} could not be read: {error}", path.display()))
                    })?)
                }
                None => {
                    if io::stdin().is_terminal() {
                        terminal::tell("type one record a line; Ctrl-D ends");
                    }
                    Box::new(io::stdin())
                }
            };
        let (sender, receiver) = mpsc::channel(LINES_AHEAD);
        std::thread::Builder::new().name("lines".into()).spawn(move || read_lines(input, &sender))?;
        Ok(receiver)
    }
}

#[derive(Debug)]
struct Line {
    bytes: Bytes,
    /// From 1.
    number: u64,
}

/// Sends every line that is not empty, until the end, an error or a receiver that is gone.
fn read_lines(input: impl Read, sender: &mpsc::Sender<Result<Line, Failure>>) {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    for number in 1.. {
        let mut line = Vec::new();
        let read = (&mut input).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) => return,
            Ok(_) if line.len() > MAX_LINE_BYTES => {
                Err(Failure::new(format!("RM-7133: line {number} has more than {MAX_LINE_BYTES} bytes")))
            }
            Ok(_) => {
                let end = line.strip_suffix(b"\n").unwrap_or(&line);
                let end = end.strip_suffix(b"\r").unwrap_or(end).len();
                line.truncate(end);
                Ok(Line { bytes: line.into(), number })
            }
            Err(error) => Err(Failure::new(format!("RM-7132: the input could not be read: {error}"))),
        };
        if matches!(&line, Ok(line) if line.bytes.is_empty()) {
            continue;
        }
        let is_last = line.is_err();
        if sender.blocking_send(line).is_err() || is_last {
            return;
        }
    }
}
