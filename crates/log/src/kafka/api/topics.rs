//! CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName as WireName,
};
use rivermere_base::{PartitionId, TopicName};
use uuid::Uuid;

use crate::kafka::broker::{code, text};
use crate::kafka::connection::Client;
use crate::kafka::topic_configs;
use crate::{LogError, TopicOptions};

type Refusal = (i16, String);

/// First version whose answer tells the settings.
const TELLS_SETTINGS: i16 = 5;

pub(super) async fn create(client: &Client, request: CreateTopicsRequest, version: i16) -> CreateTopicsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let wire = topic.name.clone();
        let outcome = create_one(client, topic, request.validate_only).await;
        let result = CreatableTopicResult::default().with_name(wire);
        results.push(match outcome {
            Ok((id, options)) => {
                let result = if version >= 7 { result.with_topic_id(id) } else { result };
                if version < TELLS_SETTINGS {
                    result
                } else {
                    result
                        .with_num_partitions(options.partitions)
                        .with_replication_factor(1)
                        .with_configs(Some(settings(&options.configs)))
                }
            }
            Err((code, message)) => {
                let result = result.with_error_code(code).with_error_message(Some(text(message)));
                if version < TELLS_SETTINGS {
                    result
                } else {
                    result.with_num_partitions(-1).with_replication_factor(-1)
                }
            }
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

async fn create_one(
    client: &Client,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<(Uuid, TopicOptions), Refusal> {
    let broker = &client.broker;
    let name = TopicName::new(topic.name.as_str())
        .map_err(|error| (ResponseError::InvalidTopicException.code(), error.to_string()))?;
    // Any replication factor is accepted and one copy kept: many applications ask for three without a thought.
    let partitions = if !topic.assignments.is_empty() {
        topic.assignments.len() as i32
    } else if topic.num_partitions == -1 {
        broker.options.default_partitions
    } else {
        topic.num_partitions
    };
    if partitions < 1 {
        let what = format!("RM-2077: topic '{name}' needs at least one partition, not {partitions}");
        return Err((ResponseError::InvalidPartitions.code(), what));
    }
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        if let Some(value) = config.value {
            topic_configs::check(&config.name, &value).map_err(|what| (ResponseError::InvalidConfig.code(), what))?;
            configs.insert(config.name.to_string(), value.to_string());
        }
    }
    let options = TopicOptions { partitions, configs };
    let refuse = |error: LogError| (code(&error), error.to_string());
    if validate_only {
        return match broker.log.topic(&name) {
            Some(_) => Err(refuse(LogError::AlreadyExists { topic: name })),
            None => Ok((Uuid::nil(), options)),
        };
    }
    broker.log.create_topic_later(&name, options.clone()).await.map_err(refuse)?;
    Ok((broker.log.topic(&name).map_or(Uuid::nil(), |info| info.id), options))
}

fn settings(configs: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let each = |setting: topic_configs::Effective| {
        CreatableTopicConfigs::default()
            .with_name(text(setting.config.name))
            .with_config_source(setting.source())
            .with_value(Some(text(setting.value)))
    };
    topic_configs::effective(configs).map(each).collect()
}

pub(super) async fn delete(client: &Client, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let asked = by_name.chain(request.topics.into_iter().map(|topic| (topic.name, topic.topic_id)));
    let mut results = Vec::new();
    for (name, id) in asked {
        let known = client.broker.log.shared().state.read().topic_by_id(id);
        let name = name.or_else(|| known.map(|topic| WireName(text(topic.name.as_str()))));
        let result = DeletableTopicResult::default().with_name(name.clone()).with_topic_id(id);
        let outcome = match name.as_ref().map(|name| TopicName::new(name.as_str())) {
            Some(Ok(name)) => {
                client.broker.log.delete_topic_later(&name).await.map_err(|error| (code(&error), error.to_string()))
            }
            Some(Err(error)) => Err((ResponseError::InvalidTopicException.code(), error.to_string())),
            None => Err((ResponseError::UnknownTopicId.code(), format!("RM-2003: there is no topic with id {id}"))),
        };
        results.push(match outcome {
            Ok(()) => result,
            Err((code, message)) => {
                let result = result.with_error_code(code);
                if version >= 5 { result.with_error_message(Some(text(message))) } else { result }
            }
        });
    }
    DeleteTopicsResponse::default().with_responses(results)
}

pub(super) async fn grow(client: &Client, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let outcome = match TopicName::new(topic.name.as_str()) {
            Err(error) => Err((ResponseError::InvalidTopicException.code(), error.to_string())),
            Ok(name) if request.validate_only => match client.broker.log.topic(&name) {
                Some(info) if info.partitions < topic.count => Ok(()),
                Some(_) => Err((ResponseError::InvalidPartitions.code(), "RM-2014: it has as many already".into())),
                None => Err((ResponseError::UnknownTopicOrPartition.code(), format!("RM-2003: no topic '{name}'"))),
            },
            Ok(name) => client.broker.log.add_partitions(&name, topic.count).await.map_err(|error| {
                let code = match error {
                    LogError::Invalid { .. } => ResponseError::InvalidPartitions.code(),
                    _ => code(&error),
                };
                (code, error.to_string())
            }),
        };
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(match outcome {
            Ok(()) => result,
            Err((code, message)) => result.with_error_code(code).with_error_message(Some(text(message))),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

pub(super) async fn delete_records(client: &Client, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let outcome = match TopicName::new(topic.name.as_str()) {
                Err(_) => Err(ResponseError::UnknownTopicOrPartition.code()),
                Ok(name) => {
                    let index = PartitionId(partition.partition_index);
                    let (start, done) = client.broker.log.delete_records(&name, index, partition.offset);
                    done.await.map(|()| start.0).map_err(|error| code(&error))
                }
            };
            let result = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            partitions.push(match outcome {
                Ok(start) => result.with_low_watermark(start),
                Err(code) => result.with_error_code(code).with_low_watermark(-1),
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}
