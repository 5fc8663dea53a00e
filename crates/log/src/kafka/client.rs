//! A small client over the same codec, for the command line and for replaying files into topics. One connection, one
//! request at a time; it speaks the newest versions this crate serves, to this broker or to any Kafka from 2.8 on.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, BrokerId, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName as WireName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use rivermere_base::{Offset, PartitionId, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::broker::text;
use crate::{Fetched, OffsetRange, TopicOptions};

/// The largest answer that is accepted.
const MAX_ANSWER_BYTES: usize = 128 << 20;
/// How long a broker may take, beyond the wait that a fetch asks for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT_MS: i32 = 30_000;

/// Why a request to a broker failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    #[error("RM-2090: the connection to the Kafka broker at {addr} failed: {source}; is it running?")]
    Connection { addr: SocketAddr, source: io::Error },
    #[error("RM-2091: the Kafka broker at {addr} did not answer in time")]
    Timeout { addr: SocketAddr },
    #[error("RM-2092: the Kafka broker sent an answer that cannot be read: {detail}")]
    Malformed { detail: String },
    /// The broker said no, with Kafka's error code.
    #[error("RM-2093: the Kafka broker refused: {message} (Kafka error {code})")]
    Refused { code: i16, message: String },
}

/// A topic as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTopic {
    pub name: String,
    pub partitions: i32,
    /// Kafka's error code for this topic; 0 is none.
    pub error: i16,
}

/// A connection to one broker.
#[derive(Debug)]
pub struct KafkaClient {
    socket: TcpStream,
    addr: SocketAddr,
    correlation_id: i32,
}

impl KafkaClient {
    /// Connects.
    ///
    /// # Errors
    /// When nothing listens there.
    pub async fn connect(addr: SocketAddr) -> Result<Self, ClientError> {
        let connect = async {
            let socket = TcpStream::connect(addr).await?;
            socket.set_nodelay(true)?;
            Ok(socket)
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, connect).await {
            Ok(Ok(socket)) => Ok(Self { socket, addr, correlation_id: 0 }),
            Ok(Err(source)) => Err(ClientError::Connection { addr, source }),
            Err(_) => Err(ClientError::Timeout { addr }),
        }
    }

    /// Creates a topic; `false` when it was there already.
    ///
    /// # Errors
    /// When the broker refuses the name or the settings, or cannot be reached.
    pub async fn create_topic(&mut self, name: &TopicName, options: &TopicOptions) -> Result<bool, ClientError> {
        const EXISTS: i16 = 36;
        let config = |(name, value): (&String, &String)| {
            CreatableTopicConfig::default().with_name(text(name.as_str())).with_value(Some(text(value.as_str())))
        };
        let topic = CreatableTopic::default()
            .with_name(wire(name))
            .with_num_partitions(options.partitions)
            .with_replication_factor(1)
            .with_configs(options.configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let response: CreateTopicsResponse = self.ask(ApiKey::CreateTopics, 7, &request, Duration::ZERO).await?;
        let result = response.topics.first().ok_or_else(|| malformed("no topic in the answer"))?;
        match result.error_code {
            EXISTS => Ok(false),
            code => refused(code, result.error_message.as_ref()).map(|()| true),
        }
    }

    /// The named topics as the broker knows them, all of them for an empty list. Creates none.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn metadata(&mut self, topics: &[TopicName]) -> Result<Vec<RemoteTopic>, ClientError> {
        let each = |name| MetadataRequestTopic::default().with_name(Some(wire(name)));
        let topics = (!topics.is_empty()).then(|| topics.iter().map(each).collect());
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let response: MetadataResponse = self.ask(ApiKey::Metadata, 9, &request, Duration::ZERO).await?;
        let each = |topic: kafka_protocol::messages::metadata_response::MetadataResponseTopic| RemoteTopic {
            name: topic.name.map(|name| name.to_string()).unwrap_or_default(),
            partitions: topic.partitions.len() as i32,
            error: topic.error_code,
        };
        Ok(response.topics.into_iter().map(each).collect())
    }

    /// The readable range of a partition.
    ///
    /// # Errors
    /// When there is no such partition or the broker cannot be reached.
    pub async fn list_offsets(&mut self, name: &TopicName, partition: PartitionId) -> Result<OffsetRange, ClientError> {
        const LATEST: i64 = -1;
        const EARLIEST: i64 = -2;
        let start = self.offset_at(name, partition, EARLIEST).await?;
        let high_watermark = self.offset_at(name, partition, LATEST).await?;
        Ok(OffsetRange { start, high_watermark })
    }

    /// The first offset at or after a time in milliseconds; -1 when there is none.
    ///
    /// # Errors
    /// When there is no such partition or the broker cannot be reached.
    pub async fn offset_at(
        &mut self,
        name: &TopicName,
        partition: PartitionId,
        time_ms: i64,
    ) -> Result<Offset, ClientError> {
        let asked = ListOffsetsPartition::default().with_partition_index(partition.0).with_timestamp(time_ms);
        let topic = ListOffsetsTopic::default().with_name(wire(name)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let response: ListOffsetsResponse = self.ask(ApiKey::ListOffsets, 6, &request, Duration::ZERO).await?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or_else(|| malformed("no partition in the answer"))?;
        refused(found.error_code, None)?;
        Ok(Offset(found.offset))
    }

    /// Appends record batches with `acks=all` and tells the first offset.
    ///
    /// # Errors
    /// When the broker refuses the batches or cannot be reached.
    pub async fn produce(
        &mut self,
        name: &TopicName,
        partition: PartitionId,
        batch: Bytes,
    ) -> Result<Offset, ClientError> {
        let data = PartitionProduceData::default().with_index(partition.0).with_records(Some(batch));
        let topic = TopicProduceData::default().with_name(wire(name)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![topic]);
        let response: ProduceResponse = self.ask(ApiKey::Produce, 9, &request, Duration::ZERO).await?;
        let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let answer = answer.ok_or_else(|| malformed("no partition in the answer"))?;
        refused(answer.error_code, answer.error_message.as_ref())?;
        Ok(Offset(answer.base_offset))
    }

    /// Reads batches from the one that holds `from`, waiting up to `max_wait` for the first byte. The answer is empty
    /// when nothing came.
    ///
    /// # Errors
    /// When `from` is out of range or the broker cannot be reached.
    pub async fn fetch(
        &mut self,
        name: &TopicName,
        partition: PartitionId,
        from: Offset,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<Fetched, ClientError> {
        let asked = FetchPartition::default()
            .with_partition(partition.0)
            .with_fetch_offset(from.0)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(max_bytes);
        let topic = FetchTopic::default().with_topic(wire(name)).with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(max_bytes)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response: FetchResponse = self.ask(ApiKey::Fetch, 12, &request, max_wait).await?;
        refused(response.error_code, None)?;
        let found = response.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let found = found.ok_or_else(|| malformed("no partition in the answer"))?;
        refused(found.error_code, None)?;
        Ok(Fetched {
            batches: found.records.unwrap_or_default(),
            high_watermark: Offset(found.high_watermark),
            start: Offset(found.log_start_offset),
        })
    }

    async fn ask<Q: Encodable + HeaderVersion, R: Decodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &Q,
        wait: Duration,
    ) -> Result<R, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("rivermere")));
        let mut frame = BytesMut::zeroed(4);
        header.encode(&mut frame, Q::header_version(version)).map_err(|error| malformed(error.to_string()))?;
        request.encode(&mut frame, version).map_err(|error| malformed(error.to_string()))?;
        let size = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&size.to_be_bytes());

        let exchange = tokio::time::timeout(ANSWER_TIMEOUT + wait, self.exchange(&frame)).await;
        let mut answer = exchange.map_err(|_| ClientError::Timeout { addr: self.addr })??;
        let header = ResponseHeader::decode(&mut answer, R::header_version(version));
        let header = header.map_err(|error| malformed(error.to_string()))?;
        if header.correlation_id != self.correlation_id {
            return Err(malformed("it answers another request"));
        }
        R::decode(&mut answer, version).map_err(|error| malformed(error.to_string()))
    }

    async fn exchange(&mut self, frame: &[u8]) -> Result<Bytes, ClientError> {
        let addr = self.addr;
        let failed = move |source| ClientError::Connection { addr, source };
        self.socket.write_all(frame).await.map_err(failed)?;
        let size = self.socket.read_u32().await.map_err(failed)? as usize;
        if size > MAX_ANSWER_BYTES {
            return Err(malformed(format!("it has {size} bytes")));
        }
        let mut answer = BytesMut::with_capacity(size.min(1 << 20));
        while answer.len() < size {
            let missing = size - answer.len();
            if (&mut self.socket).take(missing as u64).read_buf(&mut answer).await.map_err(failed)? == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(answer.copy_to_bytes(size))
    }
}

fn wire(name: &TopicName) -> WireName {
    WireName(text(name.as_str()))
}

fn malformed(detail: impl Into<String>) -> ClientError {
    ClientError::Malformed { detail: detail.into() }
}

fn refused(code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    if code == 0 {
        return Ok(());
    }
    let named = || kafka_protocol::error::ResponseError::try_from_code(code).map(|error| error.to_string());
    let message = message.map(|message| message.to_string()).or_else(named).unwrap_or_default();
    Err(ClientError::Refused { code, message })
}
