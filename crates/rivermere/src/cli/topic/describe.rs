//! `rivermere topic describe`: partitions and their offsets.

use super::super::failure::Outcome;
use super::super::status::Output;
use super::super::table::Table;
use super::{partitions, topic_name};
use clap::Args;
use rivermere::quantities::count;
use rivermere_base::{PartitionId, TopicName};
use rivermere_log::kafka::client::KafkaClient;
use std::io::{self, Write};
use std::net::SocketAddr;

/// Show a topic's partitions and offsets
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  rivermere topic describe departures\n  \
    rivermere topic describe departures --output json | jq '[.partitions[].records] | add'")]
pub struct Describe {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    name: TopicName,

    /// How it is written
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Describe {
    pub async fn run(self, addr: SocketAddr) -> Outcome {
        let mut client = KafkaClient::connect(addr).await?;
        let mut ranges = Vec::new();
        for partition in 0..partitions(&mut client, &self.name).await? {
            ranges.push((partition, client.list_offsets(&self.name, PartitionId(partition)).await?));
        }
        // Offsets are dense unless a topic is compacted, so that this is the number of records.
        let records = |start: i64, end: i64| u64::try_from(end.saturating_sub(start)).unwrap_or(0);
        let mut out = io::stdout().lock();
        match self.output {
            Output::Json => {
                let rows: Vec<_> = ranges
                    .iter()
                    .map(|(partition, range)| {
                        let (start, end) = (range.start.0, range.high_watermark.0);
                        serde_json::json!({
                            "partition": partition, "start": start, "high_watermark": end, "records": records(start, end)
                        })
                    })
                    .collect();
                writeln!(out, "{}", serde_json::json!({"name": self.name.as_str(), "partitions": rows}))?;
            }
            Output::Table => {
                let mut table = Table::new().right("partition").right("start").right("high watermark").right("records");
                for (partition, range) in ranges {
                    let (start, end) = (range.start.0, range.high_watermark.0);
                    table.row([partition.to_string(), start.to_string(), end.to_string(), count(records(start, end))]);
                }
                table.write(&mut out)?;
            }
        }
        Ok(())
    }
}
