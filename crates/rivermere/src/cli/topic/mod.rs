//! `rivermere topic`: topics over Kafka's protocol, of this broker or any other that speaks it.

mod consume;
mod describe;
mod partitioner;
mod produce;

use super::failure::{Failure, Outcome};
use super::instance;
use super::options::Options;
use super::status::Output;
use super::table::Table;
use clap::{Args, Subcommand};
use rivermere_base::TopicName;
use rivermere_log::TopicOptions;
use rivermere_log::kafka::client::KafkaClient;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Kafka's error code for a topic that does not exist.
const UNKNOWN_TOPIC: i16 = 3;

const EXAMPLES: &str = "\
Examples:
  rivermere topic list
  rivermere topic create orders --partitions 4
  echo '{\"id\": 1}' | rivermere topic produce orders
  rivermere topic consume orders --from end
  rivermere topic describe orders --kafka 127.0.0.1:9092";

/// List, create, write and read topics, over Kafka's protocol
#[derive(Args, Debug)]
#[command(name = "topic", after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Topic {
    /// Folder of the running project whose broker is meant, when --kafka does not say
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    project: PathBuf,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    List(List),
    Create(Create),
    Describe(describe::Describe),
    Produce(produce::Produce),
    Consume(consume::Consume),
}

/// List all topics
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  rivermere topic list\n  rivermere topic list --output json | jq -r '.[].name'")]
struct List {
    /// How they are written
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Create a topic; it is durable when the command ends
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  rivermere topic create orders\n  rivermere topic create orders --partitions 4 \
    --config retention.ms=86400000\n  rivermere topic create orders --if-not-exists")]
struct Create {
    /// The topic
    #[arg(value_name = "TOPIC", value_parser = topic_name)]
    name: TopicName,

    /// Partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,

    /// A setting by Kafka's name; may be given several times
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = setting)]
    configs: Vec<(String, String)>,

    /// A topic that is there already is fine
    #[arg(long)]
    if_not_exists: bool,
}

impl Topic {
    pub fn run(self, options: &Options) -> Outcome {
        let addr = broker(options, &self.project)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Dropped without waiting: a thread that reads stdin cannot be stopped.
        let done = runtime.block_on(until_interrupted(async {
            match self.verb {
                Verb::List(verb) => verb.run(addr).await,
                Verb::Create(verb) => verb.run(addr).await,
                Verb::Describe(verb) => verb.run(addr).await,
                Verb::Produce(verb) => verb.run(addr).await,
                Verb::Consume(verb) => verb.run(addr).await,
            }
        }));
        runtime.shutdown_background();
        done
    }
}

/// Ctrl-C ends a word as if it were done: what is acknowledged is told by each word itself.
async fn until_interrupted(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        done = work => done,
        Ok(()) = tokio::signal::ctrl_c() => Ok(()),
    }
}

impl List {
    async fn run(self, addr: SocketAddr) -> Outcome {
        let mut topics = KafkaClient::connect(addr).await?.metadata(&[]).await?;
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        let mut out = io::stdout().lock();
        match self.output {
            Output::Json => {
                let topics = topics.iter();
                let rows: Vec<_> = topics
                    .map(|topic| serde_json::json!({"name": topic.name, "partitions": topic.partitions}))
                    .collect();
                writeln!(out, "{}", serde_json::Value::from(rows))?;
            }
            Output::Table => {
                let mut table = Table::new().left("topic").right("partitions");
                for topic in topics {
                    table.row([topic.name, topic.partitions.to_string()]);
                }
                table.write(&mut out)?;
            }
        }
        Ok(())
    }
}

impl Create {
    async fn run(self, addr: SocketAddr) -> Outcome {
        let mut configs = BTreeMap::new();
        for (key, value) in self.configs {
            if configs.insert(key.clone(), value).is_some() {
                return Err(Failure::new(format!("RM-7120: --config {key} is given twice")).usage());
            }
        }
        let options = TopicOptions { partitions: self.partitions, configs };
        let is_new = KafkaClient::connect(addr).await?.create_topic(&self.name, &options).await?;
        match (is_new, self.if_not_exists) {
            (true, _) => writeln!(io::stdout(), "created {}", self.name)?,
            (false, true) => writeln!(io::stdout(), "{} is there already", self.name)?,
            (false, false) => {
                return Err(Failure::new(format!("RM-7121: the topic '{}' is there already", self.name))
                    .hint("--if-not-exists takes it as it is"));
            }
        }
        Ok(())
    }
}

/// The broker: `--kafka`, `RIVERMERE_KAFKA`, or that of the process on the data folder.
fn broker(options: &Options, folder: &std::path::Path) -> Result<SocketAddr, Failure> {
    if let Some(addr) = options.kafka {
        return Ok(addr);
    }
    let found = instance::running(options, folder)
        .map_err(|failure| failure.hint("start it with `rivermere run`, or name a broker with --kafka 9092"))?;
    let text = found.addresses.kafka.unwrap_or_default();
    text.parse().map_err(|_| Failure::new(format!("RM-7122: the running process has no Kafka listener ('{text}')")))
}

/// The partitions of a topic that must exist.
async fn partitions(client: &mut KafkaClient, name: &TopicName) -> Result<i32, Failure> {
    let found = client.metadata(std::slice::from_ref(name)).await?.into_iter().next();
    match found {
        Some(topic) if topic.error == 0 && topic.partitions > 0 => Ok(topic.partitions),
        Some(topic) if topic.error != UNKNOWN_TOPIC && topic.error != 0 => {
            Err(Failure::new(format!("RM-7123: the topic '{name}' cannot be used (Kafka error {})", topic.error)))
        }
        _ => {
            let known = client.metadata(&[]).await?;
            let similar = rivermere_sql::suggestion(name.as_str(), known.iter().map(|topic| topic.name.as_str()));
            let create = format!("make it with `rivermere topic create {name}`");
            Err(Failure::new(format!("RM-7124: there is no topic '{name}'"))
                .hint(similar.map_or(create.clone(), |similar| format!("{similar} Or {create}"))))
        }
    }
}

fn topic_name(text: &str) -> Result<TopicName, String> {
    TopicName::new(text).map_err(|error| error.to_string())
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it looks like retention.ms=86400000".to_owned()),
    }
}
