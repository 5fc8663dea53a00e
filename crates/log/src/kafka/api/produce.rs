//! Produce: the hot way in. Batches go from the request's bytes into the write-ahead frame, looked at once for their
//! checksum.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName as WireName};
use rivermere_base::{PartitionId, TopicName};

use super::{Answer, Envelope};
use crate::kafka::broker::{code, text};
use crate::kafka::connection::Client;
use crate::kafka::topic_configs;
use crate::{AppendFuture, LogError};

/// Appends under way, one for each partition of the request.
pub(crate) struct Producing {
    acknowledge: bool,
    topics: Vec<(WireName, Vec<(i32, Started)>)>,
}

struct Started {
    outcome: Result<AppendFuture, (i16, String)>,
    /// Whether records get the time of the append.
    append_time: bool,
    start: i64,
}

/// Starts the appends in the order of the request.
pub(super) fn begin(client: &Client, request: ProduceRequest) -> Producing {
    let refused = if request.transactional_id.is_some() {
        Some((ResponseError::TransactionalIdAuthorizationFailed, "RM-2074: transactions are not supported yet"))
    } else if !(-1..=1).contains(&request.acks) {
        Some((ResponseError::InvalidRequiredAcks, "RM-2075: acks must be 0, 1 or all"))
    } else {
        None
    };
    let topics = request.topic_data.into_iter().map(|topic| {
        let name = TopicName::new(topic.name.as_str());
        let partitions = topic.partition_data.into_iter().map(|partition| {
            let started = match (&refused, &name) {
                (Some((error, message)), _) => failed(error.code(), *message),
                (None, Err(error)) => failed(ResponseError::InvalidTopicException.code(), error.to_string()),
                (None, Ok(name)) => start(client, name, partition.index, partition.records),
            };
            (partition.index, started)
        });
        (topic.name, partitions.collect())
    });
    Producing { acknowledge: request.acks != 0, topics: topics.collect() }
}

fn failed(code: i16, message: impl Into<String>) -> Started {
    Started { outcome: Err((code, message.into())), append_time: false, start: -1 }
}

fn start(client: &Client, name: &TopicName, index: i32, records: Option<Bytes>) -> Started {
    let log = &client.broker.log;
    let (topic, partition) = match log.partition(name, PartitionId(index)) {
        Ok(found) => found,
        Err(error) => return failed(code(&error), error.to_string()),
    };
    let records = records.unwrap_or_default();
    let limit = topic_configs::max_message_bytes(&topic.configs());
    if records.len() > limit {
        let error = LogError::TooLarge { what: "max.message.bytes of the topic", bytes: records.len(), limit };
        return failed(code(&error), error.to_string());
    }
    let start = partition.range().start.0;
    let append = log.append(name, PartitionId(index), records);
    Started { outcome: Ok(append), append_time: topic.append_time(), start }
}

/// Waits for the fsync of all appends.
pub(super) async fn finish(producing: Producing, envelope: Envelope) -> Answer {
    let mut responses = Vec::with_capacity(producing.topics.len());
    for (name, partitions) in producing.topics {
        let mut answers = Vec::with_capacity(partitions.len());
        for (index, started) in partitions {
            let outcome = match started.outcome {
                Ok(append) => append.await.map_err(|error| (code(&error), error.to_string())),
                Err(refused) => Err(refused),
            };
            let answer = PartitionProduceResponse::default().with_index(index);
            answers.push(match outcome {
                Ok(appended) => answer
                    .with_base_offset(appended.base_offset.0)
                    .with_log_append_time_ms(if started.append_time { appended.log_append_time_ms } else { -1 })
                    .with_log_start_offset(started.start),
                Err((code, message)) => {
                    let answer = answer.with_error_code(code).with_base_offset(-1).with_log_start_offset(-1);
                    if envelope.version >= 8 { answer.with_error_message(Some(text(message))) } else { answer }
                }
            });
        }
        responses.push(TopicProduceResponse::default().with_name(name).with_partition_responses(answers));
    }
    if !producing.acknowledge {
        return Some(None);
    }
    envelope.encode(&ProduceResponse::default().with_responses(responses)).map(Some)
}
