//! Consumer groups on the wire: the rebalance protocol, committed offsets, and what tools ask about them.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::error::ResponseError as Error;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
    TopicName as WireName,
};
use kafka_protocol::protocol::StrBytes;
use rivermere_base::{PartitionId, TopicName};
use uuid::Uuid;

use super::Request;
use crate::changes::Change;
use crate::groups::{CommittedOffset, Group, JoinRequest, Joined, Phase, SyncStep, Synced};
use crate::kafka::broker::{Broker, code, text};
use crate::kafka::connection::Client;
use crate::state::GroupOffsets;

/// Bytes of the text that a client may keep with an offset (Kafka's default).
const MAX_METADATA_BYTES: usize = 4096;
/// "Not computed": there is no authorizer to ask.
const NO_OPERATIONS: i32 = i32::MIN;

fn string(text: &StrBytes) -> String {
    text.as_str().to_owned()
}

/// The first version that is told its id before it joins.
const TELLS_ID_FIRST: i16 = 4;
/// The first version with a rebalance timeout of its own.
const REBALANCE_TIMEOUT: i16 = 1;
/// The first version in which absent differs from empty.
const NULLABLE_PROTOCOL: i16 = 7;

pub(super) async fn join(client: &Client, request: &Request, message: JoinGroupRequest) -> JoinGroupResponse {
    let version = request.version();
    let joined = match start_join(client, request, message) {
        Ok(waiting) => waiting.await.unwrap_or_else(|_| refused_join(Error::UnknownMemberId)),
        Err(refused) => refused,
    };
    let member = |(id, instance, metadata): (String, Option<String>, bytes::Bytes)| {
        let member = JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata);
        if version >= 5 { member.with_group_instance_id(instance.map(text)) } else { member }
    };
    let protocol = joined.protocol.map(text);
    let response = JoinGroupResponse::default()
        .with_error_code(joined.error)
        .with_generation_id(joined.generation)
        .with_protocol_name(if version >= NULLABLE_PROTOCOL { protocol } else { Some(protocol.unwrap_or_default()) })
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect());
    let response = if version >= NULLABLE_PROTOCOL {
        response.with_protocol_type(joined.protocol_type.map(text))
    } else {
        response
    };
    if version >= 9 { response.with_skip_assignment(joined.skip_assignment) } else { response }
}

fn refused_join(error: Error) -> Joined {
    Joined { error: error.code(), generation: -1, ..Joined::default() }
}

fn start_join(
    client: &Client,
    request: &Request,
    message: JoinGroupRequest,
) -> Result<tokio::sync::oneshot::Receiver<Joined>, Joined> {
    let broker = &client.broker;
    let version = request.version();
    let name = string(&message.group_id);
    if name.is_empty() {
        return Err(refused_join(Error::InvalidGroupId));
    }
    let client_id = if request.client_id.is_empty() { "client" } else { &request.client_id };
    let fresh_id = format!("{client_id}-{}", broker.log.rng().uuid());
    let join = JoinRequest {
        member_id: string(&message.member_id),
        instance: message.group_instance_id.as_ref().map(string),
        client_id: request.client_id.clone(),
        client_host: client.peer.ip().to_string(),
        session_timeout_ms: message.session_timeout_ms,
        rebalance_timeout_ms: if version >= REBALANCE_TIMEOUT {
            message.rebalance_timeout_ms
        } else {
            message.session_timeout_ms
        },
        protocol_type: string(&message.protocol_type),
        protocols: message.protocols.into_iter().map(|one| (string(&one.name), one.metadata)).collect(),
        can_take_id: version >= TELLS_ID_FIRST,
    };
    let mut groups = broker.groups.lock();
    if !groups.contains_key(&name) {
        if !join.member_id.is_empty() {
            return Err(refused_join(Error::UnknownMemberId));
        }
        if groups.len() >= broker.log.shared().options.max_groups {
            return Err(refused_join(Error::CoordinatorNotAvailable));
        }
    }
    groups.entry(name).or_default().join(join, fresh_id, broker.now())
}

pub(super) async fn sync(client: &Client, message: SyncGroupRequest) -> SyncGroupResponse {
    let synced = synced(client, message).await;
    SyncGroupResponse::default()
        .with_error_code(synced.error)
        .with_protocol_type(synced.protocol_type.map(text))
        .with_protocol_name(synced.protocol.map(text))
        .with_assignment(synced.assignment)
}

async fn synced(client: &Client, message: SyncGroupRequest) -> Synced {
    let broker = &client.broker;
    let refused = |error: Error| Synced { error: error.code(), ..Synced::default() };
    let assignments: HashMap<_, _> =
        message.assignments.into_iter().map(|one| (string(&one.member_id), one.assignment)).collect();
    let who = (message.member_id.as_str(), message.group_instance_id.as_deref(), message.generation_id);
    let step = match broker.groups.lock().get_mut(message.group_id.as_str()) {
        Some(group) => group.sync(who, assignments, broker.now()),
        None => SyncStep::Answer(refused(Error::UnknownMemberId)),
    };
    match step {
        SyncStep::Answer(synced) => synced,
        SyncStep::Wait(waiting) => waiting.await.unwrap_or_else(|_| refused(Error::RebalanceInProgress)),
        SyncStep::Save { group, answers, own } => {
            let group_name = string(&message.group_id);
            // Nobody works with an assignment that a restart would not know.
            let saved = broker.log.change(Change::GroupSaved { group: group_name, state: group }).await;
            let error = saved.err().map(|error| code(&error));
            for (sender, synced) in answers {
                let _ = sender.send(error.map_or(synced, |error| Synced { error, ..Synced::default() }));
            }
            error.map_or(own, |error| Synced { error, ..Synced::default() })
        }
    }
}

pub(super) fn heartbeat(client: &Client, message: HeartbeatRequest) -> HeartbeatResponse {
    let broker = &client.broker;
    let beaten = match broker.groups.lock().get_mut(message.group_id.as_str()) {
        Some(group) => {
            let instance = message.group_instance_id.as_deref();
            group.heartbeat(&message.member_id, instance, message.generation_id, broker.now())
        }
        None => Err(Error::UnknownMemberId),
    };
    HeartbeatResponse::default().with_error_code(beaten.err().map_or(0, |error| error.code()))
}

/// First version that names several members.
const LEAVE_MANY: i16 = 3;

pub(super) fn leave(client: &Client, message: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    let broker = &client.broker;
    let now = broker.now();
    let mut emptied = None;
    let mut answers = Vec::new();
    {
        let mut groups = broker.groups.lock();
        let mut leave = |id: &str, instance: Option<&str>| match groups.get_mut(message.group_id.as_str()) {
            Some(group) => {
                let left = group.leave(id, instance, now);
                emptied = (group.phase == Phase::Empty).then(|| group.save());
                left.err().map_or(0, |error| error.code())
            }
            None => Error::UnknownMemberId.code(),
        };
        if version < LEAVE_MANY {
            let error = leave(&message.member_id, None);
            answers.push((message.member_id.clone(), None, error));
        }
        for member in &message.members {
            let error = leave(&member.member_id, member.group_instance_id.as_deref());
            answers.push((member.member_id.clone(), member.group_instance_id.clone(), error));
        }
    }
    if let Some(state) = emptied {
        // Nobody waits for this; after a crash before it is durable the members time out.
        drop(broker.log.change(Change::GroupSaved { group: string(&message.group_id), state }));
    }
    if version < LEAVE_MANY {
        return LeaveGroupResponse::default().with_error_code(answers.first().map_or(0, |(.., error)| *error));
    }
    let each = |(id, instance, error)| {
        MemberResponse::default().with_member_id(id).with_group_instance_id(instance).with_error_code(error)
    };
    LeaveGroupResponse::default().with_members(answers.into_iter().map(each).collect())
}

/// Whether a commit may be made. Consumers without a group's partitions commit with generation -1 to an empty group.
fn may_commit(broker: &Broker, message: &OffsetCommitRequest) -> Result<(), Error> {
    if message.group_id.is_empty() {
        return Err(Error::InvalidGroupId);
    }
    let generation = message.generation_id_or_member_epoch;
    let mut groups = broker.groups.lock();
    let Some(group) = groups.get_mut(message.group_id.as_str()) else {
        return if generation < 0 { Ok(()) } else { Err(Error::IllegalGeneration) };
    };
    if generation < 0 && group.members.is_empty() {
        return Ok(());
    }
    let instance = message.group_instance_id.as_deref();
    group.check(&message.member_id, instance, generation)?;
    if group.phase == Phase::Completing {
        return Err(Error::RebalanceInProgress);
    }
    // A commit is a sign of life.
    match group.heartbeat(&message.member_id, instance, generation, broker.now()) {
        Ok(()) | Err(Error::RebalanceInProgress) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn commit(client: &Client, message: OffsetCommitRequest) -> OffsetCommitResponse {
    let broker = &client.broker;
    let refused = may_commit(broker, &message).err().map(|error| error.code());
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let name = TopicName::new(topic.name.as_str()).ok();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let known = name.as_ref().and_then(|name| broker.log.partition(name, PartitionId(index)).ok());
            let metadata = partition.committed_metadata.map(|text| string(&text)).unwrap_or_default();
            let error = match (refused, known) {
                (Some(code), _) => code,
                (None, None) => Error::UnknownTopicOrPartition.code(),
                (None, Some(_)) if metadata.len() > MAX_METADATA_BYTES => Error::OffsetMetadataTooLarge.code(),
                (None, Some((topic, _))) => {
                    let (offset, leader_epoch) = (partition.committed_offset, partition.committed_leader_epoch);
                    offsets.push((topic.id, index, CommittedOffset { offset, leader_epoch, metadata }));
                    0
                }
            };
            partitions
                .push(OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error));
        }
        topics.push(OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    if !offsets.is_empty() {
        let group = string(&message.group_id);
        if let Err(error) = broker.log.change(Change::OffsetsCommitted { group, offsets }).await {
            for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.error_code == 0 {
                    partition.error_code = code(&error);
                }
            }
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}

/// First version that asks about several groups.
const MANY_GROUPS: i16 = 8;

/// Partitions of one topic with what is committed.
type Committed = (WireName, Vec<(i32, Option<CommittedOffset>)>);

pub(super) fn fetch_offsets(client: &Client, message: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let broker = &client.broker;
    if version < MANY_GROUPS {
        let asked =
            message.topics.map(|topics| topics.into_iter().map(|one| (one.name, one.partition_indexes)).collect());
        let partition = |(index, committed): (i32, Option<CommittedOffset>)| {
            let committed = committed.unwrap_or_else(nothing);
            let answer = OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(committed.offset)
                .with_metadata(Some(text(committed.metadata)));
            if version >= 5 { answer.with_committed_leader_epoch(committed.leader_epoch) } else { answer }
        };
        let topic = |(name, partitions): Committed| {
            let partitions = partitions.into_iter().map(partition).collect();
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions)
        };
        let found = committed(broker, &message.group_id, asked);
        return OffsetFetchResponse::default().with_topics(found.into_iter().map(topic).collect());
    }
    let partition = |(index, committed): (i32, Option<CommittedOffset>)| {
        let committed = committed.unwrap_or_else(nothing);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(text(committed.metadata)))
    };
    let topic = |(name, partitions): Committed| {
        let partitions = partitions.into_iter().map(partition).collect();
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions)
    };
    let group = |asked: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup| {
        let topics =
            asked.topics.map(|topics| topics.into_iter().map(|one| (one.name, one.partition_indexes)).collect());
        let found = committed(broker, &asked.group_id, topics);
        OffsetFetchResponseGroup::default()
            .with_group_id(asked.group_id)
            .with_topics(found.into_iter().map(topic).collect())
    };
    OffsetFetchResponse::default().with_groups(message.groups.into_iter().map(group).collect())
}

fn nothing() -> CommittedOffset {
    CommittedOffset { offset: -1, leader_epoch: -1, metadata: String::new() }
}

/// What a group committed for the partitions asked for, or for all it knows.
fn committed(broker: &Broker, group: &GroupId, asked: Option<Vec<(WireName, Vec<i32>)>>) -> Vec<Committed> {
    let state = broker.log.shared().state.read();
    let none = GroupOffsets::new();
    let offsets = state.offsets.get(group.as_str()).unwrap_or(&none);
    match asked {
        Some(topics) => {
            let topic = |(name, indexes): (WireName, Vec<i32>)| {
                let id = TopicName::new(name.as_str()).ok().and_then(|name| Some(state.topics.get(&name)?.id));
                let one = |index: i32| (index, id.and_then(|id| offsets.get(&(id, index)).cloned()));
                (name, indexes.into_iter().map(one).collect())
            };
            topics.into_iter().map(topic).collect()
        }
        None => {
            let mut by_topic: BTreeMap<Uuid, Vec<(i32, Option<CommittedOffset>)>> = BTreeMap::new();
            for ((topic, index), offset) in offsets {
                by_topic.entry(*topic).or_default().push((*index, Some(offset.clone())));
            }
            let named = |(id, partitions)| Some((WireName(text(state.topic_by_id(id)?.name.as_str())), partitions));
            by_topic.into_iter().filter_map(named).collect()
        }
    }
}

pub(super) async fn delete_offsets(client: &Client, message: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let broker = &client.broker;
    let known = broker.log.shared().state.read().offsets.contains_key(message.group_id.as_str());
    let busy = broker.groups.lock().get(message.group_id.as_str()).map(|group| !group.members.is_empty());
    if !known && busy.is_none() {
        return OffsetDeleteResponse::default().with_error_code(Error::GroupIdNotFound.code());
    }
    // Which topics a consumer reads is inside its own metadata; a group with members keeps all its offsets.
    let refused = if busy == Some(true) { Error::GroupSubscribedToTopic.code() } else { 0 };
    let mut forgotten = Vec::new();
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let name = TopicName::new(topic.name.as_str()).ok();
        let partition = |index: i32| {
            let known = name.as_ref().and_then(|name| broker.log.partition(name, PartitionId(index)).ok());
            let error = match known {
                Some(_) if refused != 0 => refused,
                Some((topic, _)) => {
                    forgotten.push((topic.id, index));
                    0
                }
                None => Error::UnknownTopicOrPartition.code(),
            };
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(error)
        };
        let partitions = topic.partitions.iter().map(|one| one.partition_index).map(partition).collect();
        topics.push(OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    let response = OffsetDeleteResponse::default().with_topics(topics);
    if forgotten.is_empty() {
        return response;
    }
    let group = string(&message.group_id);
    match broker.log.change(Change::OffsetsForgotten { group, partitions: forgotten }).await {
        Ok(()) => response,
        Err(error) => response.with_error_code(code(&error)),
    }
}

/// First version that calls an unknown group an error.
const UNKNOWN_IS_ERROR: i16 = 6;

pub(super) fn describe(client: &Client, message: DescribeGroupsRequest, version: i16) -> DescribeGroupsResponse {
    let broker = &client.broker;
    let each = |id: GroupId| {
        let described = match broker.groups.lock().get(id.as_str()) {
            Some(group) => describe_one(group, version),
            None if broker.log.shared().state.read().offsets.contains_key(id.as_str()) => {
                describe_one(&Group::default(), version)
            }
            None if version >= UNKNOWN_IS_ERROR => DescribedGroup::default()
                .with_group_state(text("Dead"))
                .with_error_code(Error::GroupIdNotFound.code())
                .with_error_message(Some(text(format!("RM-2082: there is no group '{id}'", id = id.as_str())))),
            None => DescribedGroup::default().with_group_state(text("Dead")),
        };
        described.with_group_id(id).with_authorized_operations(NO_OPERATIONS)
    };
    DescribeGroupsResponse::default().with_groups(message.groups.into_iter().map(each).collect())
}

fn describe_one(group: &Group, version: i16) -> DescribedGroup {
    let stable = group.phase == Phase::Stable;
    let member = |(id, member): (&String, &crate::groups::Member)| {
        let chosen = member.protocols.iter().find(|(name, _)| Some(name) == group.protocol.as_ref());
        let described = DescribedGroupMember::default()
            .with_member_id(text(id.as_str()))
            .with_client_id(text(member.client_id.as_str()))
            .with_client_host(text(format!("/{}", member.client_host)))
            .with_member_metadata(chosen.map(|(_, data)| data.clone()).unwrap_or_default())
            .with_member_assignment(if stable { member.assignment.clone() } else { bytes::Bytes::new() });
        if version >= 4 { described.with_group_instance_id(member.instance.clone().map(text)) } else { described }
    };
    DescribedGroup::default()
        .with_group_state(text(group.phase.name()))
        .with_protocol_type(text(group.protocol_type.clone().unwrap_or_else(|| "consumer".to_owned())))
        .with_protocol_data(text(group.protocol.clone().unwrap_or_default()))
        .with_members(group.members.iter().map(member).collect())
}

pub(super) fn list(client: &Client, message: ListGroupsRequest) -> ListGroupsResponse {
    let broker = &client.broker;
    let mut all: BTreeMap<String, (String, Phase)> = BTreeMap::new();
    // Groups that only ever committed offsets.
    all.extend(
        broker.log.shared().state.read().offsets.keys().map(|name| (name.clone(), (String::new(), Phase::Empty))),
    );
    for (name, group) in broker.groups.lock().iter() {
        all.insert(name.clone(), (group.protocol_type.clone().unwrap_or_default(), group.phase));
    }
    let any = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(value))
    };
    let each = |(name, (protocol_type, phase)): (String, (String, Phase))| {
        ListedGroup::default()
            .with_group_id(GroupId(text(name)))
            .with_protocol_type(text(protocol_type))
            .with_group_state(text(phase.name()))
            .with_group_type(text("classic"))
    };
    let fits = |(_, (_, phase)): &(String, (String, Phase))| {
        any(&message.states_filter, phase.name()) && any(&message.types_filter, "classic")
    };
    ListGroupsResponse::default().with_groups(all.into_iter().filter(fits).map(each).collect())
}

pub(super) async fn delete(client: &Client, message: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(message.groups_names.len());
    for id in message.groups_names {
        let error = delete_one(&client.broker, string(&id)).await.err().unwrap_or(0);
        results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(error));
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete_one(broker: &Broker, group: String) -> Result<(), i16> {
    {
        let mut groups = broker.groups.lock();
        match groups.get(&group) {
            Some(known) if !known.is_idle() => return Err(Error::NonEmptyGroup.code()),
            Some(_) => drop(groups.remove(&group)),
            None if broker.log.shared().state.read().offsets.contains_key(&group) => {}
            None => return Err(Error::GroupIdNotFound.code()),
        }
    }
    broker.log.change(Change::GroupDeleted { group }).await.map_err(|error| code(&error))
}
