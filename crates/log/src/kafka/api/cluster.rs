//! Metadata, DescribeCluster, FindCoordinator: who is there. One node leads and coordinates everything.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse, TopicName as WireName,
};
use rivermere_base::TopicName;
use uuid::Uuid;

use crate::kafka::broker::{NODE_ID, advertised, code, text};
use crate::kafka::connection::Client;
use crate::{LogError, TopicInfo, TopicOptions};

/// "Not computed": there is no authorizer to ask.
const NO_OPERATIONS: i32 = i32::MIN;
/// Newest version in which an empty list of topics means all of them.
const EMPTY_MEANS_ALL: i16 = 0;
/// First version that can say no to automatic creation.
const AUTO_CREATE_OPTIONAL: i16 = 4;

pub(super) async fn metadata(client: &Client, request: MetadataRequest, version: i16) -> MetadataResponse {
    let broker = &client.broker;
    let epoch = broker.leader_epoch();
    let create =
        broker.options.auto_create_topics && (request.allow_auto_topic_creation || version < AUTO_CREATE_OPTIONAL);
    let all = |asked: &Vec<_>| version <= EMPTY_MEANS_ALL && asked.is_empty();
    let mut topics = Vec::new();
    match request.topics.filter(|asked| !all(asked)) {
        None => topics.extend(broker.log.topics().iter().map(|info| described(info, epoch))),
        Some(asked) => {
            for topic in asked {
                topics.push(match topic.name {
                    Some(name) => by_name(client, name, create, epoch).await,
                    None => by_id(client, topic.topic_id, epoch),
                });
            }
        }
    }
    let (host, port) = advertised(client.local);
    let node = MetadataResponseBroker::default().with_node_id(BrokerId(NODE_ID)).with_host(host).with_port(port);
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(broker.cluster_id()))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics)
        .with_cluster_authorized_operations(NO_OPERATIONS)
}

fn described(info: &TopicInfo, epoch: i32) -> MetadataResponseTopic {
    let node = vec![BrokerId(NODE_ID)];
    let partition = |index: i32| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(epoch)
            .with_replica_nodes(node.clone())
            .with_isr_nodes(node.clone())
    };
    MetadataResponseTopic::default()
        .with_name(Some(WireName(text(info.name.as_str()))))
        .with_topic_id(info.id)
        .with_partitions((0..info.partitions).map(partition).collect())
        .with_topic_authorized_operations(NO_OPERATIONS)
}

fn unknown(name: Option<WireName>, id: Uuid, code: i16) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_name(name)
        .with_topic_id(id)
        .with_error_code(code)
        .with_topic_authorized_operations(NO_OPERATIONS)
}

async fn by_name(client: &Client, wire: WireName, create: bool, epoch: i32) -> MetadataResponseTopic {
    let broker = &client.broker;
    let Ok(name) = TopicName::new(wire.as_str()) else {
        return unknown(Some(wire), Uuid::nil(), ResponseError::InvalidTopicException.code());
    };
    if let Some(info) = broker.log.topic(&name) {
        return described(&info, epoch);
    }
    if !create {
        return unknown(Some(wire), Uuid::nil(), ResponseError::UnknownTopicOrPartition.code());
    }
    let options = TopicOptions { partitions: broker.options.default_partitions, ..TopicOptions::default() };
    match broker.log.create_topic_later(&name, options).await {
        Ok(()) | Err(LogError::AlreadyExists { .. }) => match broker.log.topic(&name) {
            Some(info) => described(&info, epoch),
            None => unknown(Some(wire), Uuid::nil(), ResponseError::UnknownTopicOrPartition.code()),
        },
        Err(error) => unknown(Some(wire), Uuid::nil(), code(&error)),
    }
}

fn by_id(client: &Client, id: Uuid, epoch: i32) -> MetadataResponseTopic {
    let known = client.broker.log.shared().state.read().topic_by_id(id);
    match known {
        Some(topic) => described(&topic.info(), epoch),
        None => unknown(None, id, ResponseError::UnknownTopicId.code()),
    }
}

pub(super) fn describe(client: &Client, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let (host, port) = advertised(client.local);
    let node = DescribeClusterBroker::default().with_broker_id(BrokerId(NODE_ID)).with_host(host).with_port(port);
    DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(client.broker.cluster_id())
        .with_controller_id(BrokerId(NODE_ID))
        .with_brokers(vec![node])
        .with_cluster_authorized_operations(NO_OPERATIONS)
}

/// First version that asks for several keys.
const MANY_KEYS: i16 = 4;

pub(super) fn coordinator(client: &Client, request: FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
    const GROUP: i8 = 0;
    let (host, port) = advertised(client.local);
    let refused = (request.key_type != GROUP).then(|| {
        let what =
            "RM-2076: only consumer groups have a coordinator; transactions and share groups are not supported yet";
        // The refusal that clients report to their user at once instead of trying again.
        (ResponseError::TransactionalIdAuthorizationFailed.code(), text(what))
    });
    if version < MANY_KEYS {
        let response = FindCoordinatorResponse::default();
        return match refused {
            None => response.with_node_id(BrokerId(NODE_ID)).with_host(host).with_port(port),
            Some((code, message)) => {
                let response = response.with_error_code(code).with_node_id(BrokerId(-1)).with_port(-1);
                response.with_error_message(Some(message))
            }
        };
    }
    let each = |key| {
        let answer = Coordinator::default().with_key(key);
        match &refused {
            None => answer.with_node_id(BrokerId(NODE_ID)).with_host(host.clone()).with_port(port),
            Some((code, message)) => {
                let answer = answer.with_error_code(*code).with_node_id(BrokerId(-1)).with_port(-1);
                answer.with_error_message(Some(message.clone()))
            }
        }
    };
    FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.into_iter().map(each).collect())
}
