//! What all connections share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;

use crate::changes::Change;
use crate::groups::Group;
use crate::records::RecordsError;
use crate::{Log, LogError};

/// The one node of the cluster.
pub(super) const NODE_ID: i32 = 1;

/// Settings and limits of the Kafka listener.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Whether a topic is created when a client asks about it.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created without saying how many.
    pub default_partitions: i32,
    /// The largest request; larger ones close the connection.
    pub max_request_bytes: usize,
    /// Bytes of requests that one connection may have unanswered; then it is not read from.
    pub max_in_flight_bytes: usize,
    /// Bytes of one fetch answer, whatever the client asks for.
    pub max_fetch_bytes: usize,
    /// The longest wait of a fetch, whatever the client asks for.
    pub max_fetch_wait_ms: i32,
    /// Open connections.
    pub max_connections: usize,
    /// Topics, partitions or groups in one request.
    pub max_request_items: usize,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            auto_create_topics: true,
            default_partitions: 1,
            max_request_bytes: 100 << 20,
            max_in_flight_bytes: 128 << 20,
            max_fetch_bytes: 64 << 20,
            max_fetch_wait_ms: 60_000,
            max_connections: 10_000,
            max_request_items: 1_000_000,
        }
    }
}

/// The state behind all connections.
#[derive(Debug)]
pub(super) struct Broker {
    pub log: Log,
    pub options: KafkaOptions,
    pub groups: Mutex<HashMap<String, Group>>,
    producer_ids: Mutex<ProducerIds>,
    /// Held while a new block of producer ids is made durable.
    pub refill: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct ProducerIds {
    next: i64,
    end: i64,
}

/// Producer ids made durable at once.
const PRODUCER_ID_BLOCK: i64 = 1000;

impl Broker {
    pub fn new(log: Log, options: KafkaOptions) -> Self {
        let broker = Self {
            log,
            options,
            groups: Mutex::default(),
            producer_ids: Mutex::default(),
            refill: tokio::sync::Mutex::default(),
        };
        let now = broker.now();
        let saved = broker.log.shared().state.read().groups.clone();
        broker.groups.lock().extend(saved.into_iter().map(|(name, group)| (name, Group::restore(group, now))));
        broker
    }

    pub fn now(&self) -> Duration {
        self.log.shared().clock.monotonic()
    }

    pub fn leader_epoch(&self) -> i32 {
        self.log.shared().state.read().leader_epoch
    }

    /// The cluster's id as clients see it.
    pub fn cluster_id(&self) -> StrBytes {
        StrBytes::from_string(self.log.id().simple().to_string())
    }

    /// A producer id that was never given out before.
    pub async fn producer_id(&self) -> Result<i64, LogError> {
        loop {
            if let Some(id) = self.take_producer_id() {
                return Ok(id);
            }
            let _refilling = self.refill.lock().await;
            if let Some(id) = self.take_producer_id() {
                return Ok(id);
            }
            let from = self.log.shared().state.read().next_producer_id;
            let next = from + PRODUCER_ID_BLOCK;
            self.log.change(Change::ProducerIds { next }).await?;
            *self.producer_ids.lock() = ProducerIds { next: from, end: next };
        }
    }

    fn take_producer_id(&self) -> Option<i64> {
        let mut ids = self.producer_ids.lock();
        (ids.next < ids.end).then(|| {
            ids.next += 1;
            ids.next - 1
        })
    }

    /// Lets time pass for all groups. Groups that became empty are kept so, or forgotten with nothing to keep.
    pub fn tick(&self) {
        let now = self.now();
        let mut emptied = Vec::new();
        self.groups.lock().retain(|name, group| {
            if group.tick(now) {
                emptied.push((name.clone(), group.save()));
            }
            !group.is_idle() || group.generation > 0
        });
        for (group, state) in emptied {
            // Nobody waits for this; after a crash before it is durable the members time out again.
            drop(self.log.change(Change::GroupSaved { group, state }));
        }
    }
}

/// Where this connection reaches the broker, for clients that ask where to connect.
pub(super) fn advertised(local: SocketAddr) -> (StrBytes, i32) {
    (StrBytes::from_string(local.ip().to_string()), i32::from(local.port()))
}

/// Kafka's code for an error of the log.
pub(super) fn code(error: &LogError) -> i16 {
    match error {
        LogError::UnknownTopic { .. } | LogError::UnknownPartition { .. } => ResponseError::UnknownTopicOrPartition,
        LogError::AlreadyExists { .. } => ResponseError::TopicAlreadyExists,
        LogError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        LogError::Records(RecordsError::Checksum { .. } | RecordsError::Truncated { .. }) => {
            ResponseError::CorruptMessage
        }
        LogError::Records(RecordsError::Format { .. }) => ResponseError::UnsupportedForMessageFormat,
        LogError::Records(_) => ResponseError::InvalidRecord,
        LogError::TooLarge { .. } => ResponseError::MessageTooLarge,
        LogError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        LogError::ProducerFenced { .. } => ResponseError::InvalidProducerEpoch,
        LogError::Invalid { .. } => ResponseError::InvalidRequest,
        // Both pass: clients try again.
        LogError::Busy { .. } | LogError::Closed => ResponseError::NotLeaderOrFollower,
        LogError::Full { .. } | LogError::Poisoned { .. } | LogError::Io { .. } | LogError::Corrupt { .. } => {
            ResponseError::KafkaStorageError
        }
    }
    .code()
}

pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
