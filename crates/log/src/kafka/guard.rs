//! Checks the shape of a request before the codec decodes it.
//!
//! The codec reserves memory for as many elements as an array claims to have, so an array of two thousand million
//! elements in a request of twenty bytes would end the process. Here every length is compared with the bytes that are
//! really there, and elements are counted.
//!
//! A shape is written as in the protocol's own tables: `b` one byte, `h` two, `i` four, `l` eight, `u` a UUID, `s` a
//! string, `y` bytes, `[..]` an array of structures, `(..)` an array of plain values; digits behind it are the versions
//! that have it (`3+`, `0-7`).

use kafka_protocol::messages::ApiKey;

fn shape(key: ApiKey) -> Option<&'static str> {
    Some(match key {
        ApiKey::Produce => "s h i [ s [ i y ] ]",
        ApiKey::Fetch => "i0-14 i i i b i7+ i7+ [ s0-12 u13+ [ i i9+ l i12+ l5+ i ] ] [7+ s0-12 u13+ ( i ) ] s11+",
        ApiKey::ListOffsets => "i b2+ [ s [ i i4+ l ] ] i10+",
        ApiKey::Metadata => "[ u10+ s ] b4+ b8-10 b8+",
        ApiKey::OffsetCommit => "s i s s7+ l2-4 [ s [ i l i6+ s ] ]",
        ApiKey::OffsetFetch => "s0-7 [0-7 s ( i ) ] [8+ s s9+ i9+ [ s ( i ) ] ] b7+",
        ApiKey::FindCoordinator => "s0-3 b1+ (4+ s )",
        ApiKey::JoinGroup => "s i i1+ s s5+ s [ s y ] s8+",
        ApiKey::Heartbeat => "s i s s3+",
        ApiKey::LeaveGroup => "s s0-2 [3+ s s s5+ ]",
        ApiKey::SyncGroup => "s i s s3+ s5+ s5+ [ s y ]",
        ApiKey::DescribeGroups => "( s ) b3+",
        ApiKey::ListGroups => "(4+ s ) (5+ s )",
        ApiKey::ApiVersions => "s3+ s3+",
        ApiKey::CreateTopics => "[ s i h [ i ( i ) ] [ s s ] ] i b",
        ApiKey::DeleteTopics => "[6+ s u ] (0-5 s ) i",
        ApiKey::DeleteRecords => "[ s [ i l ] ] i",
        ApiKey::InitProducerId => "s i l3+ h3+",
        ApiKey::OffsetForLeaderEpoch => "i3+ [ s [ i i i ] ]",
        ApiKey::DescribeConfigs => "[ b s ( s ) ] b b3+",
        ApiKey::CreatePartitions => "[ s i [ ( i ) ] ] i b",
        ApiKey::DeleteGroups => "( s )",
        ApiKey::IncrementalAlterConfigs => "[ b s [ s b s ] ] b",
        ApiKey::OffsetDelete => "s [ s [ i ] ]",
        ApiKey::DescribeCluster => "b b1+ b2+",
        _ => return None,
    })
}

/// Whether the body of a request has the shape of its kind and at most `max_items` array elements in all.
pub(super) fn is_sound(key: ApiKey, version: i16, body: &[u8], max_items: usize) -> bool {
    let Some(shape) = shape(key) else { return false };
    let tokens: Vec<&str> = shape.split(' ').collect();
    let flexible = key.request_header_version(version) >= 2;
    let mut walk = Walk { rest: body, version, flexible, items_left: max_items };
    walk.fields(&tokens).is_some() && walk.tags().is_some()
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    items_left: usize,
}

impl Walk<'_> {
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*number)
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_u64;
        for shift in 0..5 {
            let [byte] = self.number()?;
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                return u32::try_from(value).ok().map(|value| value as usize);
            }
        }
        None
    }

    /// A length; absent counts as zero.
    fn length(&mut self, short: bool) -> Option<usize> {
        let length = if self.flexible {
            i64::try_from(self.varint()?).ok()? - 1
        } else if short {
            i64::from(i16::from_be_bytes(self.number()?))
        } else {
            i64::from(i32::from_be_bytes(self.number()?))
        };
        if length < -1 { None } else { usize::try_from(length.max(0)).ok() }
    }

    fn tags(&mut self) -> Option<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = self.varint()?;
                self.skip(size)?;
            }
        }
        Some(())
    }

    fn fields(&mut self, mut tokens: &[&str]) -> Option<()> {
        while let Some((token, rest)) = tokens.split_first() {
            let (kind, versions) = token.split_at(1);
            let present = applies(versions, self.version);
            tokens = rest;
            if kind == "[" || kind == "(" {
                let end = closing(rest);
                let (inner, after) = (rest.get(..end)?, rest.get(end + 1..)?);
                tokens = after;
                if present {
                    self.array(inner, kind == "[")?;
                }
            } else if present {
                match kind {
                    "b" => self.skip(1)?,
                    "h" => self.skip(2)?,
                    "i" => self.skip(4)?,
                    "l" => self.skip(8)?,
                    "u" => self.skip(16)?,
                    _ => {
                        let length = self.length(kind == "s")?;
                        self.skip(length)?;
                    }
                }
            }
        }
        Some(())
    }

    fn array(&mut self, inner: &[&str], structures: bool) -> Option<()> {
        let count = self.length(false)?;
        // Every element has at least one byte.
        if count > self.rest.len() || count > self.items_left {
            return None;
        }
        self.items_left -= count;
        for _ in 0..count {
            self.fields(inner)?;
            if structures {
                self.tags()?;
            }
        }
        Some(())
    }
}

/// Where the bracket that was just opened closes.
fn closing(tokens: &[&str]) -> usize {
    let mut depth = 1;
    tokens
        .iter()
        .position(|token| {
            depth += i32::from(token.starts_with(['[', '('])) - i32::from(token.starts_with([']', ')']));
            depth == 0
        })
        .unwrap_or(tokens.len())
}

fn applies(versions: &str, version: i16) -> bool {
    let number = |text: &str| text.parse::<i16>().unwrap_or(0);
    match (versions.strip_suffix('+'), versions.split_once('-')) {
        (Some(from), _) => version >= number(from),
        (None, Some((from, to))) => (number(from)..=number(to)).contains(&version),
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    fn check(key: ApiKey, versions: std::ops::RangeInclusive<i16>, message: &impl Encodable) {
        for version in versions {
            let mut bytes = bytes::BytesMut::new();
            // A field that this version does not have, and that is not ignorable, is the message's fault.
            if message.encode(&mut bytes, version).is_err() {
                continue;
            }
            assert!(is_sound(key, version, &bytes, 1000), "{key:?} v{version}");
            for cut in 0..bytes.len() {
                assert!(!is_sound(key, version, &bytes[..cut], 1000), "{key:?} v{version} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_codecs_own_requests_are_sound_in_every_version_and_no_cut_one_is() {
        let name = || TopicName(StrBytes::from_static_str("t"));
        use kafka_protocol::messages::{
            create_topics_request as create, fetch_request as fetch, join_group_request as join,
            list_offsets_request as list, metadata_request as meta, offset_commit_request as commit,
            produce_request as produce, sync_group_request as sync,
        };
        let partition = produce::PartitionProduceData::default().with_records(Some("x".into()));
        let topic = produce::TopicProduceData::default().with_name(name()).with_partition_data(vec![partition]);
        check(ApiKey::Produce, 3..=12, &ProduceRequest::default().with_topic_data(vec![topic]));
        let partition = fetch::FetchPartition::default();
        for named in [true, false] {
            let topic = fetch::FetchTopic::default().with_partitions(vec![partition.clone(); 2]);
            let topic = if named { topic.with_topic(name()) } else { topic.with_topic_id(uuid::Uuid::from_u128(1)) };
            let versions = if named { 4..=12 } else { 13..=16 };
            check(ApiKey::Fetch, versions, &FetchRequest::default().with_topics(vec![topic]));
        }
        let topic = list::ListOffsetsTopic::default().with_name(name()).with_partitions(vec![Default::default()]);
        check(ApiKey::ListOffsets, 1..=10, &ListOffsetsRequest::default().with_topics(vec![topic]));
        let topic = meta::MetadataRequestTopic::default().with_name(Some(name()));
        check(ApiKey::Metadata, 0..=13, &MetadataRequest::default().with_topics(Some(vec![topic])));
        let topic =
            commit::OffsetCommitRequestTopic::default().with_name(name()).with_partitions(vec![Default::default()]);
        check(ApiKey::OffsetCommit, 2..=9, &OffsetCommitRequest::default().with_topics(vec![topic]));
        check(ApiKey::OffsetFetch, 1..=7, &OffsetFetchRequest::default());
        check(ApiKey::OffsetFetch, 8..=9, &OffsetFetchRequest::default().with_groups(vec![Default::default()]));
        let protocol = join::JoinGroupRequestProtocol::default().with_metadata("m".into());
        check(ApiKey::JoinGroup, 0..=9, &JoinGroupRequest::default().with_protocols(vec![protocol]));
        let assignment = sync::SyncGroupRequestAssignment::default().with_assignment("a".into());
        check(ApiKey::SyncGroup, 0..=5, &SyncGroupRequest::default().with_assignments(vec![assignment]));
        let topic = create::CreatableTopic::default().with_name(name()).with_configs(vec![Default::default()]);
        check(ApiKey::CreateTopics, 2..=7, &CreateTopicsRequest::default().with_topics(vec![topic]));
        check(ApiKey::Heartbeat, 0..=4, &HeartbeatRequest::default());
        check(ApiKey::LeaveGroup, 0..=2, &LeaveGroupRequest::default());
        check(ApiKey::LeaveGroup, 3..=5, &LeaveGroupRequest::default().with_members(vec![Default::default()]));
        check(ApiKey::FindCoordinator, 0..=3, &FindCoordinatorRequest::default());
        let keys = vec![StrBytes::from_static_str("k")];
        check(ApiKey::FindCoordinator, 4..=6, &FindCoordinatorRequest::default().with_coordinator_keys(keys));
        check(ApiKey::InitProducerId, 0..=5, &InitProducerIdRequest::default());
        check(
            ApiKey::DescribeConfigs,
            1..=4,
            &DescribeConfigsRequest::default().with_resources(vec![Default::default()]),
        );
        check(
            ApiKey::CreatePartitions,
            0..=3,
            &CreatePartitionsRequest::default().with_topics(vec![Default::default()]),
        );
        check(ApiKey::DeleteTopics, 1..=5, &DeleteTopicsRequest::default().with_topic_names(vec![name()]));
        check(ApiKey::DeleteTopics, 6..=6, &DeleteTopicsRequest::default().with_topics(vec![Default::default()]));
        check(ApiKey::DeleteRecords, 0..=2, &DeleteRecordsRequest::default().with_topics(vec![Default::default()]));
        check(ApiKey::DescribeGroups, 0..=6, &DescribeGroupsRequest::default().with_groups(vec![Default::default()]));
        check(ApiKey::ListGroups, 0..=5, &ListGroupsRequest::default());
        check(ApiKey::DeleteGroups, 0..=2, &DeleteGroupsRequest::default().with_groups_names(vec![Default::default()]));
        check(ApiKey::ApiVersions, 3..=4, &ApiVersionsRequest::default());
        check(ApiKey::DescribeCluster, 0..=2, &DescribeClusterRequest::default());
        check(ApiKey::OffsetDelete, 0..=0, &OffsetDeleteRequest::default().with_topics(vec![Default::default()]));
        let epochs = OffsetForLeaderEpochRequest::default().with_topics(vec![Default::default()]);
        check(ApiKey::OffsetForLeaderEpoch, 2..=4, &epochs);
        let alter = IncrementalAlterConfigsRequest::default().with_resources(vec![Default::default()]);
        check(ApiKey::IncrementalAlterConfigs, 0..=1, &alter);
    }

    #[test]
    fn an_array_longer_than_the_request_is_not_sound() {
        let body = [0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
        assert!(!is_sound(ApiKey::ListOffsets, 1, &body, usize::MAX));
        assert!(!is_sound(ApiKey::Metadata, 1, &[0x7f, 0xff, 0xff, 0xff, 0], usize::MAX));
    }
}
