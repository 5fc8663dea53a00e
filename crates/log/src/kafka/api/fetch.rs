//! Fetch: the hot way out. The answer is put together by hand, so that record batches go to the socket as the pieces
//! they are kept in. Fetch sessions (KIP-227) are declined with session 0, which every client accepts.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use rivermere_base::{Offset, PartitionId, TopicName};
use tokio::sync::Notify;
use uuid::Uuid;

use super::Envelope;
use crate::kafka::broker::{Broker, code};
use crate::kafka::connection::Client;
use crate::log::FetchedPieces;

/// First version with compact encoding.
const FLEXIBLE: i16 = 12;
/// First version that names topics by their ids.
const BY_ID: i16 = 13;

struct Wanted {
    max_bytes: usize,
    topics: Vec<WantedTopic>,
}

struct WantedTopic {
    wire_name: Bytes,
    id: Uuid,
    name: Result<TopicName, i16>,
    partitions: Vec<WantedPartition>,
}

struct WantedPartition {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    max_bytes: usize,
}

/// What one partition answers.
struct Found {
    index: i32,
    outcome: Result<FetchedPieces, i16>,
}

pub(super) async fn fetch(client: &Client, request: FetchRequest, envelope: Envelope) -> Option<Vec<Bytes>> {
    let broker = &client.broker;
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let wait_ms = request.max_wait_ms.clamp(0, broker.options.max_fetch_wait_ms);
    let wanted = Arc::new(wanted(broker, request, envelope.version));
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms as u64);
    loop {
        let found = match read(broker, &wanted, Some(&client.appended), true) {
            Some(found) => found,
            None => {
                // Segment files are read where blocking does not matter.
                let (broker, wanted, waiter) = (broker.clone(), wanted.clone(), client.appended.clone());
                let read = move || read(&broker, &wanted, Some(&waiter), false);
                tokio::task::spawn_blocking(read).await.ok().flatten()?
            }
        };
        let all = || found.iter().flatten();
        let bytes: usize =
            all().filter_map(|found| found.outcome.as_ref().ok()).flat_map(|found| &found.pieces).map(Bytes::len).sum();
        let failed = all().any(|found| found.outcome.is_err());
        let none_wanted = wanted.topics.iter().all(|topic| topic.partitions.is_empty());
        if failed || none_wanted || bytes >= min_bytes || tokio::time::Instant::now() >= deadline {
            return Some(encode(&wanted, found, envelope));
        }
        // A timeout is an answer with what there is.
        let _ = tokio::time::timeout_at(deadline, client.appended.notified()).await;
    }
}

fn wanted(broker: &Broker, request: FetchRequest, version: i16) -> Wanted {
    let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let partition = |partition: kafka_protocol::messages::fetch_request::FetchPartition| WantedPartition {
        index: partition.partition,
        offset: partition.fetch_offset,
        leader_epoch: partition.current_leader_epoch,
        max_bytes: size(partition.partition_max_bytes),
    };
    let topic = |topic: kafka_protocol::messages::fetch_request::FetchTopic| {
        let name = if version >= BY_ID {
            let known = broker.log.shared().state.read().topic_by_id(topic.topic_id);
            known.map(|topic| topic.name.clone()).ok_or(ResponseError::UnknownTopicId.code())
        } else {
            TopicName::new(topic.topic.as_str()).map_err(|_| ResponseError::UnknownTopicOrPartition.code())
        };
        WantedTopic {
            wire_name: topic.topic.0.into_bytes(),
            id: topic.topic_id,
            name,
            partitions: topic.partitions.into_iter().map(partition).collect(),
        }
    };
    Wanted {
        max_bytes: size(request.max_bytes).min(broker.options.max_fetch_bytes),
        topics: request.topics.into_iter().map(topic).collect(),
    }
}

/// Reads all partitions; `None` when `memory_only` and one of them is not in memory.
fn read(broker: &Broker, wanted: &Wanted, waiter: Option<&Arc<Notify>>, memory_only: bool) -> Option<Vec<Vec<Found>>> {
    let epoch = broker.leader_epoch();
    let mut left = wanted.max_bytes;
    let mut out = Vec::with_capacity(wanted.topics.len());
    for topic in &wanted.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let limit = partition.max_bytes.min(left);
            let outcome = match &topic.name {
                Err(code) => Err(*code),
                Ok(_) if partition.leader_epoch > epoch => Err(ResponseError::UnknownLeaderEpoch.code()),
                Ok(_) if (0..epoch).contains(&partition.leader_epoch) => Err(ResponseError::FencedLeaderEpoch.code()),
                Ok(name) => {
                    let place = (name, PartitionId(partition.index), Offset(partition.offset));
                    match broker.log.read_pieces(place, limit, left > 0, waiter, memory_only) {
                        Ok(Some(found)) => Ok(found),
                        Ok(None) => return None,
                        Err(error) => Err(code(&error)),
                    }
                }
            };
            if let Ok(found) = &outcome {
                left = left.saturating_sub(found.pieces.iter().map(Bytes::len).sum());
            }
            partitions.push(Found { index: partition.index, outcome });
        }
        out.push(partitions);
    }
    Some(out)
}

/// The answer's fields between pieces of records.
struct Out {
    flexible: bool,
    buffer: BytesMut,
    pieces: Vec<Bytes>,
}

impl Out {
    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn length(&mut self, length: usize) {
        if self.flexible { self.varint(length as u32 + 1) } else { self.buffer.put_u32(length as u32) }
    }

    fn tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    fn records(&mut self, pieces: Vec<Bytes>) {
        self.length(pieces.iter().map(Bytes::len).sum());
        if !pieces.is_empty() {
            self.pieces.push(self.buffer.split().freeze());
            self.pieces.extend(pieces);
        }
    }
}

fn encode(wanted: &Wanted, found: Vec<Vec<Found>>, envelope: Envelope) -> Vec<Bytes> {
    let version = envelope.version;
    let mut out = Out { flexible: version >= FLEXIBLE, buffer: BytesMut::with_capacity(256), pieces: Vec::new() };
    out.buffer.put_i32(envelope.correlation_id);
    out.tags();
    out.buffer.put_i32(0);
    if version >= 7 {
        out.buffer.put_i16(0);
        out.buffer.put_i32(0);
    }
    out.length(wanted.topics.len());
    for (topic, partitions) in wanted.topics.iter().zip(found) {
        if version >= BY_ID {
            out.buffer.put_slice(topic.id.as_bytes());
        } else {
            match out.flexible {
                true => out.varint(topic.wire_name.len() as u32 + 1),
                false => out.buffer.put_u16(topic.wire_name.len() as u16),
            }
            out.buffer.put_slice(&topic.wire_name);
        }
        out.length(partitions.len());
        for partition in partitions {
            encode_partition(&mut out, partition, version);
        }
        out.tags();
    }
    out.tags();
    let Out { buffer, mut pieces, .. } = out;
    pieces.push(buffer.freeze());
    pieces
}

fn encode_partition(out: &mut Out, partition: Found, version: i16) {
    let (error, high_watermark, start, pieces) = match partition.outcome {
        Ok(found) => (0, found.range.high_watermark.0, found.range.start.0, found.pieces),
        Err(code) => (code, -1, -1, Vec::new()),
    };
    out.buffer.put_i32(partition.index);
    out.buffer.put_i16(error);
    out.buffer.put_i64(high_watermark);
    // Without transactions everything below the high watermark is stable, and nothing is aborted (null).
    out.buffer.put_i64(high_watermark);
    if version >= 5 {
        out.buffer.put_i64(start);
    }
    if out.flexible {
        out.buffer.put_u8(0)
    } else {
        out.buffer.put_i32(-1)
    }
    if version >= 11 {
        out.buffer.put_i32(-1);
    }
    out.records(pieces);
    out.tags();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OffsetRange;
    use kafka_protocol::messages::{FetchResponse, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, HeaderVersion};

    #[test]
    fn the_codec_reads_what_was_put_together_by_hand_in_every_version() {
        for version in 4..=16 {
            let wanted = Wanted {
                max_bytes: 10,
                topics: vec![WantedTopic {
                    wire_name: Bytes::from_static(b"flights"),
                    id: Uuid::from_u128(5),
                    name: Err(0),
                    partitions: Vec::new(),
                }],
            };
            let pieces = FetchedPieces {
                pieces: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
                range: OffsetRange { start: Offset(3), high_watermark: Offset(9) },
            };
            let found = vec![vec![
                Found { index: 0, outcome: Ok(pieces) },
                Found { index: 1, outcome: Err(ResponseError::OffsetOutOfRange.code()) },
            ]];
            let pieces = encode(&wanted, found, Envelope { version, correlation_id: 77 });
            let mut bytes = Bytes::from(pieces.concat());
            let header = ResponseHeader::decode(&mut bytes, FetchResponse::header_version(version)).unwrap();
            let response = FetchResponse::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty() && header.correlation_id == 77, "version {version}");
            let topic = &response.responses[0];
            assert!(if version >= BY_ID {
                topic.topic_id == Uuid::from_u128(5)
            } else {
                topic.topic.as_str() == "flights"
            });
            assert_eq!(topic.partitions[0].records.as_deref(), Some(&b"onetwo"[..]));
            assert_eq!((topic.partitions[0].high_watermark, topic.partitions[1].error_code), (9, 1));
        }
    }
}
