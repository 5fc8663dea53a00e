//! DescribeConfigs and IncrementalAlterConfigs: settings of topics.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use rivermere_base::TopicName;

use crate::LogError;
use crate::kafka::broker::{NODE_ID, code, text};
use crate::kafka::connection::Client;
use crate::kafka::topic_configs::{self, Effective};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(super) fn describe(client: &Client, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let synonyms = request.include_synonyms;
    let each = |resource: DescribeConfigsResource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match described(client, &resource, synonyms) {
            Ok(configs) => result.with_configs(configs),
            Err((code, message)) => result.with_error_code(code).with_error_message(Some(text(message))),
        }
    };
    DescribeConfigsResponse::default().with_results(request.resources.into_iter().map(each).collect())
}

fn described(
    client: &Client,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, (i16, String)> {
    match resource.resource_type {
        TOPIC => {
            let info =
                TopicName::new(resource.resource_name.as_str()).ok().and_then(|name| client.broker.log.topic(&name));
            let info = info.ok_or_else(|| {
                let error = LogError::UnknownTopic { topic: resource.resource_name.to_string() };
                (code(&error), error.to_string())
            })?;
            let wanted = |setting: &Effective| {
                let keys = resource.configuration_keys.as_ref();
                keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == setting.config.name))
            };
            let each = |setting: Effective| one(&setting, synonyms);
            Ok(topic_configs::effective(&info.configs).filter(wanted).map(each).collect())
        }
        // The node has no settings that clients could read or change.
        BROKER if resource.resource_name.is_empty() || resource.resource_name.as_str() == NODE_ID.to_string() => {
            Ok(Vec::new())
        }
        _ => {
            let what = "RM-2080: only topics and the node have settings here";
            Err((ResponseError::InvalidRequest.code(), what.to_owned()))
        }
    }
}

fn one(setting: &Effective, synonyms: bool) -> DescribeConfigsResourceResult {
    let value = Some(text(setting.value.as_str()));
    let synonym = DescribeConfigsSynonym::default()
        .with_name(text(setting.config.name))
        .with_value(value.clone())
        .with_source(setting.source());
    DescribeConfigsResourceResult::default()
        .with_name(text(setting.config.name))
        .with_value(value)
        .with_config_source(setting.source())
        .with_config_type(setting.config.kind as i8)
        .with_synonyms(if synonyms { vec![synonym] } else { Vec::new() })
}

pub(super) async fn alter(client: &Client, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        responses.push(match alter_one(client, resource, request.validate_only).await {
            Ok(()) => response,
            Err((code, message)) => response.with_error_code(code).with_error_message(Some(text(message))),
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// What to do with a setting, by Kafka's numbers: a list can also grow and shrink.
enum Edit {
    Set(String),
    Delete,
    Append(String),
    Subtract(String),
}

async fn alter_one(client: &Client, resource: AlterConfigsResource, validate_only: bool) -> Result<(), (i16, String)> {
    let invalid = |what: String| (ResponseError::InvalidConfig.code(), what);
    if resource.resource_type != TOPIC {
        return Err((ResponseError::InvalidRequest.code(), "RM-2080: only topics have settings here".to_owned()));
    }
    let name = TopicName::new(resource.resource_name.as_str())
        .map_err(|error| (ResponseError::InvalidTopicException.code(), error.to_string()))?;
    let mut edits = Vec::with_capacity(resource.configs.len());
    for config in resource.configs {
        let value = config.value.map(|value| value.to_string()).unwrap_or_default();
        if config.config_operation != 1 {
            topic_configs::check(&config.name, &value).map_err(invalid)?;
        }
        let edit = match config.config_operation {
            0 => Edit::Set(value),
            1 => Edit::Delete,
            2 => Edit::Append(value),
            3 => Edit::Subtract(value),
            other => return Err(invalid(format!("RM-2081: there is no operation {other} on settings"))),
        };
        edits.push((config.name.to_string(), edit));
    }
    if validate_only {
        return Ok(());
    }
    let altered = client.broker.log.alter_configs(&name, move |configs| {
        for (name, edit) in edits {
            let default =
                topic_configs::CONFIGS.iter().find(|config| config.name == name).map_or("", |config| config.default);
            let now = configs.get(&name).map_or(default, String::as_str);
            let words =
                |text: &str| text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let value = match edit {
                Edit::Delete => {
                    configs.remove(&name);
                    continue;
                }
                Edit::Set(value) => value,
                Edit::Append(more) => {
                    let mut all = words(now);
                    let new: Vec<_> = words(&more).into_iter().filter(|word| !all.contains(word)).collect();
                    all.extend(new);
                    all.join(",")
                }
                Edit::Subtract(less) => {
                    let less = words(&less);
                    words(now).into_iter().filter(|word| !less.contains(word)).collect::<Vec<_>>().join(",")
                }
            };
            configs.insert(name, value);
        }
    });
    altered.await.map_err(|error| (code(&error), error.to_string()))
}
