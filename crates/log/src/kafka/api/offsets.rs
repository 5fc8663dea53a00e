//! ListOffsets and OffsetForLeaderEpoch: places in partitions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use rivermere_base::{Offset, PartitionId, TopicName};

use crate::kafka::broker::code;
use crate::kafka::connection::Client;
use crate::{Log, LogError};

/// Instead of a time: the next offset.
const LATEST: i64 = -1;
/// The first offset.
const EARLIEST: i64 = -2;
/// The record with the newest timestamp (KIP-734).
const NEWEST_TIMESTAMP: i64 = -3;
/// The first offset on local disk, which is all there is (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// The last offset in remote storage, of which there is none (KIP-1005).
const LATEST_TIERED: i64 = -5;

/// First version that tells the leader epoch of what it found.
const TELLS_EPOCH: i16 = 4;

pub(super) async fn list(client: &Client, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let epoch = client.broker.leader_epoch();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let outcome = match TopicName::new(topic.name.as_str()) {
                Ok(name) => {
                    place(&client.broker.log, name, PartitionId(partition.partition_index), partition.timestamp).await
                }
                Err(_) => Err(ResponseError::UnknownTopicOrPartition.code()),
            };
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
            partitions.push(match outcome {
                Ok(Some((offset, timestamp))) => {
                    let answer = answer.with_offset(offset.0).with_timestamp(timestamp);
                    if version >= TELLS_EPOCH { answer.with_leader_epoch(epoch) } else { answer }
                }
                Ok(None) => answer.with_offset(-1).with_timestamp(-1),
                Err(code) => answer.with_error_code(code).with_offset(-1).with_timestamp(-1),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn place(log: &Log, name: TopicName, partition: PartitionId, time: i64) -> Result<Option<(Offset, i64)>, i16> {
    let refuse = |error: LogError| code(&error);
    let range = log.offsets(&name, partition).map_err(refuse)?;
    match time {
        LATEST => Ok(Some((range.high_watermark, -1))),
        EARLIEST | EARLIEST_LOCAL => Ok(Some((range.start, -1))),
        LATEST_TIERED => Ok(None),
        _ if time < LATEST_TIERED => Err(ResponseError::InvalidRequest.code()),
        _ => {
            let log = log.clone();
            let search = move || match time {
                NEWEST_TIMESTAMP => log.offset_of_newest(&name, partition),
                _ => log.offset_at(&name, partition, time),
            };
            let found = tokio::task::spawn_blocking(search).await;
            found.map_err(|_| ResponseError::UnknownServerError.code())?.map_err(refuse)
        }
    }
}

pub(super) fn for_epoch(client: &Client, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let current = client.broker.leader_epoch();
    let topic = |topic: kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic| {
        let partition =
            |asked: &kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition| {
                let answer = EpochEndOffset::default().with_partition(asked.partition);
                let refuse = |error: ResponseError| {
                    answer.clone().with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1)
                };
                let known = TopicName::new(topic.topic.as_str()).ok();
                let known =
                    known.and_then(|name| client.broker.log.partition(&name, PartitionId(asked.partition)).ok());
                let Some((_, partition)) = known else { return refuse(ResponseError::UnknownTopicOrPartition) };
                if asked.current_leader_epoch > current {
                    return refuse(ResponseError::UnknownLeaderEpoch);
                }
                if (0..current).contains(&asked.current_leader_epoch) {
                    return refuse(ResponseError::FencedLeaderEpoch);
                }
                let (epoch, end) = end_of_epoch(&partition, asked.leader_epoch, current);
                answer.with_leader_epoch(epoch).with_end_offset(end)
            };
        let partitions = topic.partitions.iter().map(partition).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    };
    OffsetForLeaderEpochResponse::default().with_topics(request.topics.into_iter().map(topic).collect())
}

/// The largest epoch up to `asked` that wrote something, and where the next one began.
fn end_of_epoch(partition: &crate::topics::Partition, asked: i32, current: i32) -> (i32, i64) {
    if asked == current {
        return (current, partition.range().high_watermark.0);
    }
    let high_watermark = partition.range().high_watermark.0;
    let written = partition.written.lock();
    let after = written.epochs.partition_point(|(epoch, _)| *epoch <= asked);
    let Some((epoch, _)) = after.checked_sub(1).and_then(|at| written.epochs.get(at)) else { return (-1, -1) };
    (*epoch, written.epochs.get(after).map_or(high_watermark, |(_, first)| *first))
}
