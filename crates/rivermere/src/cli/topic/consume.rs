//! `rivermere topic consume`: records to stdout, as they come.
//!
//! Partitions are read over a few connections; within a partition records keep their order, between partitions there is
//! none.

use super::super::failure::{Failure, Outcome};
use super::super::terminal;
use super::{partitions, topic_name};
use chrono::{DateTime, SecondsFormat};
use clap::{Args, ValueEnum};
use rivermere_base::{Offset, PartitionId, TopicName};
use rivermere_log::Fetched;
use rivermere_log::kafka::client::KafkaClient;
use rivermere_log::records::{RecordRef, decode};
use serde::de::IgnoredAny;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;

const MAX_CONNECTIONS: usize = 8;
/// Bytes of one answer for one partition.
const FETCH_BYTES: i32 = 4 << 20;
/// How long a round over silent partitions takes.
const ROUND: Duration = Duration::from_millis(500);
/// Answers read ahead of the output.
const ANSWERS_AHEAD: usize = 8;

const EXAMPLES: &str = "\
Examples:
  rivermere topic consume departures --max 3
  rivermere topic consume departures --from end
  rivermere topic consume departures --format json | jq .value.carrier
  rivermere topic consume departures --partition 0 --from 1200 --until-end > part.ndjson";

/// Read records: one line for each, until Ctrl-C
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Consume {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    name: TopicName,

    /// Where to start in each partition
    #[arg(long, value_name = "beginning|end|OFFSET", default_value = "beginning", value_parser = From::parse)]
    from: From,

    /// Read this partition only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,

    /// End at the last record that is there at the start
    #[arg(long)]
    until_end: bool,

    /// The value alone, or one JSON object with partition, offset, timestamp, key, value and headers
    #[arg(long, value_enum, default_value_t = Format::Value)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Beginning,
    End,
    Offset(i64),
}

impl From {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            text => text
                .parse()
                .ok()
                .filter(|offset| *offset >= 0)
                .map(Self::Offset)
                .ok_or_else(|| format!("'{text}' is none of 'beginning', 'end' and an offset from 0")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Value,
    Json,
}

/// One partition while it is read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    partition: PartitionId,
    next: Offset,
    /// Where to end.
    end: Option<Offset>,
}

#[derive(Debug)]
struct Answer {
    reading: Reading,
    fetched: Fetched,
}

impl Consume {
    pub async fn run(self, addr: SocketAddr) -> Outcome {
        let mut client = KafkaClient::connect(addr).await?;
        let readings = self.readings(&mut client).await?;
        let connections = readings.len().clamp(1, MAX_CONNECTIONS);
        let (sender, mut answers) = mpsc::channel(ANSWERS_AHEAD);
        let mut client = Some(client);
        for index in 0..connections {
            let client = match client.take() {
                Some(client) => client,
                None => KafkaClient::connect(addr).await?,
            };
            let mine = readings.iter().skip(index).step_by(connections).copied().collect();
            tokio::spawn(read(client, self.name.clone(), mine, sender.clone()));
        }
        drop(sender);

        let stdout = io::stdout();
        let mut printer = Printer {
            format: self.format,
            harmless: stdout.is_terminal(),
            left: self.max.unwrap_or(u64::MAX),
            out: BufWriter::with_capacity(64 * 1024, stdout.lock()),
        };
        while let Some(answer) = answers.recv().await {
            printer.print(&answer?)?;
            // A reader sees what is there now; what waits is written together.
            if answers.is_empty() || printer.left == 0 {
                printer.out.flush()?;
            }
            if printer.left == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn readings(&self, client: &mut KafkaClient) -> Result<Vec<Reading>, Failure> {
        let all = partitions(client, &self.name).await?;
        let wanted = match self.partition {
            Some(partition) if partition >= all => {
                return Err(Failure::new(format!("RM-7130: '{}' has no partition {partition}", self.name))
                    .hint(format!("its partitions are 0 to {}", all - 1)));
            }
            Some(partition) => partition..partition + 1,
            None => 0..all,
        };
        let mut readings = Vec::new();
        for partition in wanted.map(PartitionId) {
            let range = client.list_offsets(&self.name, partition).await?;
            let next = match self.from {
                From::Beginning => range.start,
                From::End => range.high_watermark,
                From::Offset(offset) if offset < range.start.0 || offset > range.high_watermark.0 => {
                    return Err(Failure::new(format!(
                        "RM-7134: partition {partition} of '{}' has offsets {} to {}, and {offset} is none of them",
                        self.name, range.start, range.high_watermark
                    ))
                    .hint("start at 'beginning', or choose one partition with --partition"));
                }
                From::Offset(offset) => Offset(offset),
            };
            let end = self.until_end.then_some(range.high_watermark);
            readings.push(Reading { partition, next, end });
        }
        Ok(readings)
    }
}

/// Reads its partitions in turn until all have ended or nobody listens. It waits at a partition only when a whole round
/// was silent.
async fn read(
    mut client: KafkaClient,
    name: TopicName,
    mut readings: Vec<Reading>,
    sender: mpsc::Sender<Result<Answer, Failure>>,
) {
    let mut silent = false;
    loop {
        readings.retain(|reading| reading.end.is_none_or(|end| reading.next < end));
        if readings.is_empty() {
            return;
        }
        let wait = if silent { ROUND / readings.len() as u32 } else { Duration::ZERO };
        silent = true;
        for reading in &mut readings {
            let fetched = client.fetch(&name, reading.partition, reading.next, FETCH_BYTES, wait).await;
            let answer = match fetched {
                Ok(fetched) if fetched.batches.is_empty() => continue,
                Ok(fetched) => next_offset(&fetched).map(|next| {
                    let answer = Answer { reading: *reading, fetched };
                    // A broker that sends nothing new must not keep us busy for ever.
                    reading.next = Offset(next.0.max(reading.next.0 + 1));
                    answer
                }),
                Err(error) => Err(error.into()),
            };
            silent = false;
            let is_last = answer.is_err();
            if sender.send(answer).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// The offset after the last batch.
fn next_offset(fetched: &Fetched) -> Result<Offset, Failure> {
    let mut next = fetched.start;
    for batch in rivermere_log::records::Batches::new(&fetched.batches) {
        let batch = batch.map_err(|error| Failure::new(error.to_string()))?;
        next = Offset(batch.last_offset()).next();
    }
    Ok(next)
}

struct Printer<W: Write> {
    format: Format,
    /// Whether control characters in values are shown instead of obeyed.
    harmless: bool,
    left: u64,
    out: W,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, answer: &Answer) -> Outcome {
        let Reading { partition, next, end } = answer.reading;
        let mut written = Ok(());
        let decoded = decode(&answer.fetched.batches, |record| {
            let is_wanted = record.offset >= next && end.is_none_or(|end| record.offset < end);
            if is_wanted && self.left > 0 && written.is_ok() {
                self.left -= 1;
                written = self.record(partition, &record);
            }
        });
        written?;
        decoded.map_err(|error| Failure::new(error.to_string()))
    }

    fn record(&mut self, partition: PartitionId, record: &RecordRef<'_>) -> io::Result<()> {
        match self.format {
            Format::Value if self.harmless => {
                let text = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                writeln!(self.out, "{}", terminal::harmless(&text))
            }
            Format::Value => {
                self.out.write_all(record.value.unwrap_or_default())?;
                self.out.write_all(b"\n")
            }
            Format::Json => {
                let mut line = format!("{{\"partition\":{partition},\"offset\":{}", record.offset);
                line.push_str(&format!(",\"timestamp\":{}", timestamp(record.timestamp_ms)));
                line.push_str(&format!(",\"key\":{}", text_or_hex(record.key)));
                line.push_str(&format!(",\"value\":{}", json_or_text(record.value)));
                line.push_str(",\"headers\":{");
                for (index, (name, value)) in record.headers.enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    line.push_str(&format!("{comma}{}:{}", quoted(name), text_or_hex(value)));
                }
                line.push_str("}}\n");
                self.out.write_all(line.as_bytes())
            }
        }
    }
}

fn timestamp(ms: i64) -> String {
    match DateTime::from_timestamp_millis(ms) {
        Some(at) => quoted(&at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        None => "null".to_owned(),
    }
}

/// A JSON value keeps its digits and the order of its keys; anything else is text.
fn json_or_text(value: Option<&[u8]>) -> String {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    match text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) {
        // Line breaks stand only between tokens: inside strings they are escaped.
        Some(json) => json.trim().replace(['\n', '\r'], " "),
        None => text_or_hex(value),
    }
}

/// Text as a JSON string; what is not UTF-8 as hexadecimal digits.
fn text_or_hex(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => "null".to_owned(),
        Some(Ok(text)) => quoted(text),
        Some(Err(bytes)) => quoted(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rivermere_log::records::{Compression, Record, encode};

    fn check(format: Format, harmless: bool, max: u64, expected: &str) {
        let record = |value: Option<&'static [u8]>| Record {
            key: Some(Bytes::from_static(b"k")),
            value: value.map(Bytes::from_static),
            headers: vec![("h".into(), None)],
            timestamp_ms: 1_357_275_600_123,
        };
        let values: [Option<&[u8]>; 4] = [Some(b"{\"a\":\n1.10}"), Some(b"no json \x1b"), Some(&[0xff]), None];
        let batches = encode(&values.map(record), Compression::None).unwrap();
        let fetched = Fetched { batches, high_watermark: Offset(4), start: Offset(0) };
        let reading = Reading { partition: PartitionId(2), next: Offset(0), end: None };
        let mut printer = Printer { format, harmless, left: max, out: Vec::new() };
        printer.print(&Answer { reading, fetched }).unwrap();
        assert_eq!(String::from_utf8_lossy(&printer.out), expected);
    }

    #[test]
    fn json_lines_keep_digits_and_never_break() {
        let line = |offset, value| {
            format!(
                "{{\"partition\":2,\"offset\":{offset},\"timestamp\":\"2013-01-04T05:00:00.123Z\",\"key\":\"k\",\
                 \"value\":{value},\"headers\":{{\"h\":null}}}}\n"
            )
        };
        let lines = [line(0, "{\"a\": 1.10}"), line(1, "\"no json \\u001b\""), line(2, "\"ff\""), line(3, "null")];
        check(Format::Json, false, 9, &lines.concat());
    }

    #[test]
    fn values_are_bytes_for_programs_and_harmless_for_terminals() {
        check(Format::Value, false, 2, "{\"a\":\n1.10}\nno json \x1b\n");
        check(Format::Value, true, 2, "{\"a\":\\n1.10}\nno json \\x1b\n");
    }

    #[test]
    fn a_start_is_a_word_or_an_offset() {
        assert_eq!(From::parse("beginning"), Ok(From::Beginning));
        assert_eq!(From::parse("12"), Ok(From::Offset(12)));
        assert!(From::parse("-1").is_err() && From::parse("start").is_err());
    }
}
