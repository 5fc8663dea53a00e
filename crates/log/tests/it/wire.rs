//! The Kafka listener through real sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use rivermere_base::{Offset, PartitionId};
use rivermere_log::kafka::client::{ClientError, KafkaClient};
use rivermere_log::kafka::{KafkaOptions, KafkaServer};
use rivermere_log::records::{Compression, Producer, Record, decode, encode, encode_for};
use rivermere_log::{Log, LogOptions, TopicOptions};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::support::*;

/// A log with a listener, and a runtime for both.
struct Served {
    log: Log,
    addr: SocketAddr,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
}

fn serve(dir: &Path) -> Served {
    let log = open(dir, LogOptions { wal_first_file_bytes: 1 << 20, wal_file_bytes: 1 << 20, ..LogOptions::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = runtime.block_on(KafkaServer::bind(log.clone(), addr, KafkaOptions::default())).unwrap();
    let addr = server.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    runtime.spawn(server.serve(async { drop(stopped.await) }));
    Served { log, addr, runtime, stop: Some(stop) }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.log.close().unwrap();
    }
}

/// A connection that sends what it is told.
struct Raw(TcpStream);

impl Raw {
    fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(socket)
    }

    fn send(&mut self, frame: &[u8]) {
        self.0.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        self.0.write_all(frame).unwrap();
    }

    fn receive(&mut self) -> Option<Bytes> {
        let mut size = [0; 4];
        self.0.read_exact(&mut size).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        self.0.read_exact(&mut frame).ok()?;
        Some(frame.into())
    }

    fn ask<Q: Encodable + HeaderVersion, R: Decodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
    ) -> R {
        self.send(&framed(key, version, request));
        let mut answer = self.receive().expect("an answer");
        ResponseHeader::decode(&mut answer, R::header_version(version)).unwrap();
        R::decode(&mut answer, version).unwrap()
    }
}

fn framed<Q: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &Q) -> Vec<u8> {
    let mut frame = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
    header.with_correlation_id(5).encode(&mut frame, Q::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    frame.to_vec()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

#[test]
fn the_client_creates_produces_lists_and_fetches() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    served.runtime.block_on(async {
        let mut client = KafkaClient::connect(served.addr).await.unwrap();
        let (flights, one) = (topic("flights"), PartitionId(1));
        let options = TopicOptions { partitions: 2, ..TopicOptions::default() };
        assert!(client.create_topic(&flights, &options).await.unwrap());
        assert!(!client.create_topic(&flights, &options).await.unwrap());
        assert_eq!(client.metadata(&[flights.clone()]).await.unwrap()[0].partitions, 2);
        assert_eq!(client.metadata(&[topic("nothing")]).await.unwrap()[0].error, 3);
        assert_eq!(client.produce(&flights, one, batch(&["a", "b"])).await.unwrap(), Offset(0));
        assert_eq!(client.produce(&flights, one, batch(&["c"])).await.unwrap(), Offset(2));
        assert_eq!(client.list_offsets(&flights, one).await.unwrap().high_watermark, Offset(3));
        let fetched = client.fetch(&flights, one, Offset(1), 1 << 20, Duration::ZERO).await.unwrap();
        let mut values = Vec::new();
        decode(&fetched.batches, |record| values.push((record.offset.0, record.value.unwrap().to_vec()))).unwrap();
        assert_eq!(values, [(0, b"a".to_vec()), (1, b"b".to_vec()), (2, b"c".to_vec())]);
        let beyond = client.fetch(&flights, one, Offset(9), 1 << 20, Duration::ZERO).await;
        assert!(matches!(beyond, Err(ClientError::Refused { code: 1, .. })), "{beyond:?}");
        let missing = client.produce(&topic("nothing"), one, batch(&["x"])).await;
        assert!(matches!(missing, Err(ClientError::Refused { code: 3, .. })), "{missing:?}");
    });
}

#[test]
fn a_waiting_fetch_is_answered_by_the_append_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    let flights = create(&served.log, "flights", 1);
    served.runtime.block_on(async {
        let mut client = KafkaClient::connect(served.addr).await.unwrap();
        let fetch = client.fetch(&flights, PartitionId(0), Offset(0), 1 << 20, Duration::from_secs(3600));
        let append = async { served.log.append(&flights, PartitionId(0), batch(&["now"])).await };
        let (fetched, appended) = tokio::join!(fetch, append);
        assert_eq!(fetched.unwrap().high_watermark, Offset(1));
        appended.unwrap();
    });
}

#[test]
fn every_codec_is_kept_verbatim_and_large_reads_cross_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogOptions { segment_bytes: 20_000, tail_cache_bytes: 1000, ..LogOptions::tiny() });
    let flights = create(&log, "flights", 1);
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for round in 0..40 {
        let value = Bytes::from(vec![round as u8; 5000]);
        let record = Record { value: Some(value), ..Record::default() };
        log.append(&flights, PartitionId(0), encode(&[record], codecs[round % 5]).unwrap()).wait().unwrap();
    }
    let (mut next, mut seen) = (Offset(0), 0);
    while next < Offset(40) {
        let fetched = log.read(&flights, PartitionId(0), next, 9000).unwrap();
        decode(&fetched.batches, |record| {
            assert_eq!(record.value, Some(&vec![record.offset.0 as u8; 5000][..]));
            seen += 1;
            next = Offset(record.offset.0 + 1);
        })
        .unwrap();
    }
    assert_eq!(seen, 40);
}

#[test]
fn a_batch_sent_twice_is_stored_once_and_a_gap_is_refused_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let send = |log: &Log, base_sequence| {
        let producer = Producer { id: 7, epoch: 0, base_sequence };
        let records = vec![Record::default(); 2];
        let batch = encode_for(&records, Compression::None, producer).unwrap();
        log.append(&topic("flights"), PartitionId(0), batch).wait().map(|appended| appended.base_offset.0)
    };
    let log = open(dir.path(), LogOptions::tiny());
    create(&log, "flights", 1);
    assert_eq!((send(&log, 0).unwrap(), send(&log, 2).unwrap(), send(&log, 0).unwrap()), (0, 2, 0));
    assert!(send(&log, 6).is_err());
    drop(log);
    let log = open(dir.path(), LogOptions::tiny());
    assert_eq!((send(&log, 2).unwrap(), send(&log, 4).unwrap()), (2, 4));
    assert!(send(&log, 9).is_err());
    assert_eq!(log.metrics().duplicates, 1);
}

#[test]
fn a_group_keeps_its_members_generation_and_offsets_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let group = || GroupId(text("g"));
    let (member, generation);
    {
        let served = serve(dir.path());
        create(&served.log, "flights", 1);
        let mut raw = Raw::connect(served.addr);
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("m".into());
        let join = JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(60_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let told: JoinGroupResponse = raw.ask(ApiKey::JoinGroup, 9, &join);
        assert_eq!(told.error_code, 79, "the member is told its id first");
        let joined: JoinGroupResponse = raw.ask(ApiKey::JoinGroup, 9, &join.with_member_id(told.member_id));
        assert_eq!((joined.error_code, joined.generation_id), (0, 1));
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment("all".into());
        let sync = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(1)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        let synced: SyncGroupResponse = raw.ask(ApiKey::SyncGroup, 5, &sync);
        assert_eq!((synced.error_code, synced.assignment), (0, "all".into()));
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(42);
        let topic = OffsetCommitRequestTopic::default().with_name(TopicName(text("flights")));
        let commit = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(1)
            .with_member_id(joined.member_id.clone())
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        let committed: OffsetCommitResponse = raw.ask(ApiKey::OffsetCommit, 8, &commit);
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
        let stale: OffsetCommitResponse =
            raw.ask(ApiKey::OffsetCommit, 8, &commit.with_generation_id_or_member_epoch(7));
        assert_eq!(stale.topics[0].partitions[0].error_code, 22);
        (member, generation) = (joined.member_id, joined.generation_id);
    }
    let served = serve(dir.path());
    let mut raw = Raw::connect(served.addr);
    let beat = HeartbeatRequest::default().with_group_id(group()).with_generation_id(generation).with_member_id(member);
    let beaten: HeartbeatResponse = raw.ask(ApiKey::Heartbeat, 4, &beat);
    assert_eq!(beaten.error_code, 0, "the member goes on without joining again");
    let topic =
        OffsetFetchRequestTopic::default().with_name(TopicName(text("flights"))).with_partition_indexes(vec![0]);
    let fetch = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
    let fetched: OffsetFetchResponse = raw.ask(ApiKey::OffsetFetch, 7, &fetch);
    assert_eq!(fetched.topics[0].partitions[0].committed_offset, 42);
}

#[test]
fn an_unknown_version_of_the_handshake_is_answered_in_version_zero() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    let mut raw = Raw::connect(served.addr);
    raw.send(&[0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff]);
    let mut answer = raw.receive().unwrap();
    assert_eq!((answer.get_i32(), answer.get_i16()), (5, 35));
    let handshake: ApiVersionsResponse = raw.ask(ApiKey::ApiVersions, 4, &ApiVersionsRequest::default());
    assert!(handshake.api_keys.iter().any(|key| key.api_key == 0 && key.min_version == 0));
}

#[test]
fn every_answer_can_be_encoded_in_every_version_that_is_offered() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    create(&served.log, "flights", 1);
    append(&served.log, &topic("flights"), 0, &["a"]).unwrap();
    let name = || TopicName(text("flights"));
    let offered: ApiVersionsResponse =
        Raw::connect(served.addr).ask(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    let check = |key: ApiKey, body: &dyn Fn(&mut BytesMut, i16) -> bool| {
        let range = offered.api_keys.iter().find(|offered| offered.api_key == key as i16).expect("it is offered");
        for version in range.min_version..=range.max_version {
            let mut frame = BytesMut::new();
            let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
            header.with_correlation_id(5).encode(&mut frame, key.request_header_version(version)).unwrap();
            if !body(&mut frame, version) {
                continue;
            }
            let mut raw = Raw::connect(served.addr);
            raw.send(&frame);
            assert!(raw.receive().is_some(), "{key:?} version {version} is answered");
        }
    };
    macro_rules! check {
        ($key:ident, $($request:expr),+) => {$(
            let request = $request;
            check(ApiKey::$key, &|frame, version| request.encode(frame, version).is_ok());
        )+};
    }
    let list = list_offsets_request::ListOffsetsTopic::default()
        .with_name(name())
        .with_partitions(vec![list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1)]);
    check!(ListOffsets, ListOffsetsRequest::default().with_topics(vec![list.clone()]));
    check!(
        Metadata,
        MetadataRequest::default().with_topics(Some(Vec::new())),
        MetadataRequest::default().with_topics(None)
    );
    let commit = OffsetCommitRequestTopic::default().with_name(name()).with_partitions(vec![Default::default()]);
    let commit = OffsetCommitRequest::default().with_group_id(GroupId(text("g"))).with_topics(vec![commit]);
    check!(OffsetCommit, commit.clone().with_generation_id_or_member_epoch(-1));
    let asked = OffsetFetchRequestTopic::default().with_name(name()).with_partition_indexes(vec![0]);
    let groups = OffsetFetchRequest::default().with_groups(vec![
        offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g"))).with_topics(None),
    ]);
    check!(
        OffsetFetch,
        OffsetFetchRequest::default().with_group_id(GroupId(text("g"))).with_topics(Some(vec![asked.clone()])),
        groups
    );
    let keys = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    check!(FindCoordinator, FindCoordinatorRequest::default().with_key(text("g")), keys.clone(), keys.with_key_type(1));
    check!(
        JoinGroup,
        JoinGroupRequest::default(),
        JoinGroupRequest::default()
            .with_group_id(GroupId(text("j")))
            .with_session_timeout_ms(9000)
            .with_rebalance_timeout_ms(9000)
            .with_protocol_type(text("p"))
            .with_protocols(vec![JoinGroupRequestProtocol::default()])
    );
    check!(Heartbeat, HeartbeatRequest::default());
    check!(
        LeaveGroup,
        LeaveGroupRequest::default(),
        LeaveGroupRequest::default().with_members(vec![Default::default()])
    );
    check!(SyncGroup, SyncGroupRequest::default());
    let groups = vec![GroupId(text("g")), GroupId(text("none")), GroupId(text("j"))];
    check!(DescribeGroups, DescribeGroupsRequest::default().with_groups(groups));
    check!(ListGroups, ListGroupsRequest::default());
    let created = create_topics_request::CreatableTopic::default().with_num_partitions(1);
    let created = vec![created.clone().with_name(TopicName(text("new"))), created.with_name(name())];
    check!(CreateTopics, CreateTopicsRequest::default().with_topics(created));
    check!(
        DeleteTopics,
        DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("none"))]),
        DeleteTopicsRequest::default().with_topics(vec![Default::default()])
    );
    check!(DeleteRecords, DeleteRecordsRequest::default().with_topics(vec![Default::default()]));
    check!(
        InitProducerId,
        InitProducerIdRequest::default(),
        InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("t"))))
    );
    let epochs = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic(name())
        .with_partitions(vec![Default::default()]);
    check!(OffsetForLeaderEpoch, OffsetForLeaderEpochRequest::default().with_topics(vec![epochs]));
    let config = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("flights"))
        .with_configuration_keys(None);
    check!(DescribeConfigs, DescribeConfigsRequest::default().with_resources(vec![config, Default::default()]));
    check!(CreatePartitions, CreatePartitionsRequest::default().with_topics(vec![Default::default()]));
    check!(DeleteGroups, DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("none"))]));
    check!(IncrementalAlterConfigs, IncrementalAlterConfigsRequest::default().with_resources(vec![Default::default()]));
    check!(OffsetDelete, OffsetDeleteRequest::default().with_topics(vec![Default::default()]));
    check!(DescribeCluster, DescribeClusterRequest::default());
    let sent = produce_request::PartitionProduceData::default().with_records(Some(batch(&["x"])));
    let sent = produce_request::TopicProduceData::default()
        .with_name(name())
        .with_partition_data(vec![sent, Default::default()]);
    check!(Produce, ProduceRequest::default().with_acks(-1).with_topic_data(vec![sent]));
}

#[test]
fn malformed_requests_close_their_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    create(&served.log, "flights", 1);
    let produce = produce_request::PartitionProduceData::default().with_records(Some(batch(&["x"])));
    let produce = produce_request::TopicProduceData::default()
        .with_name(TopicName(text("flights")))
        .with_partition_data(vec![produce]);
    let produce = ProduceRequest::default().with_acks(-1).with_topic_data(vec![produce]);
    for (key, version, frame) in [
        (ApiKey::Produce, 9, framed(ApiKey::Produce, 9, &produce)),
        (ApiKey::Produce, 5, framed(ApiKey::Produce, 5, &produce)),
        (ApiKey::Metadata, 4, framed(ApiKey::Metadata, 4, &MetadataRequest::default().with_topics(Some(Vec::new())))),
    ] {
        // Every byte set to its extremes: lengths that lie, counts without elements, negative sizes.
        for at in 8..frame.len() {
            for lie in [0x7f, 0x80, 0xff] {
                let mut frame = frame.clone();
                frame[at] = lie;
                let mut raw = Raw::connect(served.addr);
                raw.send(&frame);
                raw.0.shutdown(std::net::Shutdown::Write).unwrap();
                let _ = raw.receive();
            }
            let mut raw = Raw::connect(served.addr);
            raw.send(&frame[..at]);
            raw.0.shutdown(std::net::Shutdown::Write).unwrap();
            assert!(raw.receive().is_none(), "{key:?} v{version} cut at {at} is not answered");
        }
    }
    let mut raw = Raw::connect(served.addr);
    raw.0.write_all(&i32::MAX.to_be_bytes()).unwrap();
    assert!(raw.receive().is_none(), "a request of two gigabytes is refused");
    let mut raw = Raw::connect(served.addr);
    let alive: MetadataResponse = raw.ask(ApiKey::Metadata, 9, &MetadataRequest::default());
    assert_eq!(alive.brokers.len(), 1);
}

#[test]
fn acks_zero_is_not_answered_and_a_listener_beyond_loopback_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    create(&served.log, "flights", 1);
    let produce = produce_request::PartitionProduceData::default().with_records(Some(batch(&["x"])));
    let produce = produce_request::TopicProduceData::default()
        .with_name(TopicName(text("flights")))
        .with_partition_data(vec![produce]);
    let mut raw = Raw::connect(served.addr);
    raw.send(&framed(ApiKey::Produce, 9, &ProduceRequest::default().with_acks(0).with_topic_data(vec![produce])));
    let next: MetadataResponse = raw.ask(ApiKey::Metadata, 9, &MetadataRequest::default());
    assert_eq!(next.brokers.len(), 1, "the first answer is that of the second request");
    assert_eq!(values(&served.log, &topic("flights"), 0), ["x"]);
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let bound = served.runtime.block_on(KafkaServer::bind(served.log.clone(), everywhere, KafkaOptions::default()));
    assert!(bound.unwrap_err().to_string().contains("RM-2070"));
}
