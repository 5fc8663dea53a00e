//! One file for each family of requests. A handler takes a decoded request and gives a response; the codec, versions and
//! headers are dealt with here.

mod cluster;
mod configs;
mod fetch;
mod groups;
mod offsets;
mod produce;
mod producer_ids;
mod topics;
mod versions;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::connection::Client;
use super::guard;

/// What is implemented: key, oldest and newest version. Produce is said to start at 0, as Kafka says, because librdkafka
/// looks at that number; versions 0 to 2 carry message formats that nobody writes any more and are refused.
pub(super) const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 0, 11),
    (ApiKey::Fetch, 4, 16),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 2),
];

/// A request that waits for its turn to be answered.
pub(super) enum Turn {
    /// An append that has been started.
    Produced(Box<produce::Producing>, Envelope),
    Request(Request),
    UnknownVersions(Envelope),
}

/// What of a request the answer needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    version: i16,
    correlation_id: i32,
}

/// A decoded header with an undecoded, sound body.
#[derive(Debug)]
pub(super) struct Request {
    pub key: ApiKey,
    pub envelope: Envelope,
    pub client_id: String,
    body: Bytes,
}

impl Request {
    pub fn version(&self) -> i16 {
        self.envelope.version
    }

    fn decode<M: Decodable>(&self) -> Option<M> {
        M::decode(&mut self.body.clone(), self.version()).ok()
    }

    /// Decodes, handles, encodes.
    async fn answer<M: Decodable, R: Encodable + HeaderVersion>(&self, handle: impl AsyncFnOnce(M) -> R) -> Answer {
        self.envelope.encode(&handle(self.decode()?).await).map(Some)
    }
}

/// The pieces of the answer; `None` inside when the client wants none, outside when the request is malformed.
pub(super) type Answer = Option<Option<Vec<Bytes>>>;

impl Envelope {
    fn encode<R: Encodable + HeaderVersion>(self, response: &R) -> Option<Vec<Bytes>> {
        let mut out = BytesMut::with_capacity(256);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        header.encode(&mut out, R::header_version(self.version)).ok()?;
        match response.encode(&mut out, self.version) {
            Ok(()) => Some(vec![out.freeze()]),
            Err(error) => {
                // A bug of ours, not the client's: a field that the version does not have.
                tracing::error!(%error, version = self.version, "RM-2073: a Kafka response could not be encoded");
                None
            }
        }
    }
}

/// Looks at a request when it is read. `None` when it is malformed or of a kind that is not advertised.
pub(super) fn begin(client: &Client, frame: Bytes) -> Option<Turn> {
    let mut prefix = frame.get(..4)?;
    let (key, version) = (prefix.get_i16(), prefix.get_i16());
    let key = ApiKey::try_from(key).ok()?;
    let (_, oldest, newest) = SUPPORTED.iter().find(|(known, ..)| *known == key)?;
    let oldest = if key == ApiKey::Produce { 3 } else { *oldest };
    if !(oldest..=*newest).contains(&version) {
        let mut id = frame.get(4..8)?;
        let envelope = Envelope { version: 0, correlation_id: id.get_i32() };
        return (key == ApiKey::ApiVersions).then_some(Turn::UnknownVersions(envelope));
    }
    let mut body = frame;
    let header = RequestHeader::decode(&mut body, key.request_header_version(version)).ok()?;
    if !guard::is_sound(key, version, &body, client.broker.options.max_request_items) {
        return None;
    }
    let envelope = Envelope { version, correlation_id: header.correlation_id };
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    let request = Request { key, envelope, client_id, body };
    if key == ApiKey::Produce {
        return Some(Turn::Produced(Box::new(produce::begin(client, request.decode()?)), envelope));
    }
    Some(Turn::Request(request))
}

impl Turn {
    /// Waits for what the request needs and encodes the answer.
    pub async fn finish(self, client: &Client) -> Answer {
        let request = match self {
            Turn::Produced(producing, envelope) => return produce::finish(*producing, envelope).await,
            Turn::UnknownVersions(envelope) => return envelope.encode(&versions::unknown()).map(Some),
            Turn::Request(request) => request,
        };
        let version = request.version();
        match request.key {
            ApiKey::Fetch => fetch::fetch(client, request.decode()?, request.envelope).await.map(Some),
            ApiKey::ApiVersions => request.answer(async |_: versions::Request| versions::supported()).await,
            ApiKey::Metadata => request.answer(async |m| cluster::metadata(client, m, version).await).await,
            ApiKey::DescribeCluster => request.answer(async |m| cluster::describe(client, m)).await,
            ApiKey::FindCoordinator => request.answer(async |m| cluster::coordinator(client, m, version)).await,
            ApiKey::CreateTopics => request.answer(async |m| topics::create(client, m, version).await).await,
            ApiKey::DeleteTopics => request.answer(async |m| topics::delete(client, m, version).await).await,
            ApiKey::CreatePartitions => request.answer(async |m| topics::grow(client, m).await).await,
            ApiKey::DeleteRecords => request.answer(async |m| topics::delete_records(client, m).await).await,
            ApiKey::ListOffsets => request.answer(async |m| offsets::list(client, m, version).await).await,
            ApiKey::OffsetForLeaderEpoch => request.answer(async |m| offsets::for_epoch(client, m)).await,
            ApiKey::InitProducerId => request.answer(async |m| producer_ids::init(client, m).await).await,
            ApiKey::DescribeConfigs => request.answer(async |m| configs::describe(client, m)).await,
            ApiKey::IncrementalAlterConfigs => request.answer(async |m| configs::alter(client, m).await).await,
            ApiKey::JoinGroup => request.answer(async |m| groups::join(client, &request, m).await).await,
            ApiKey::SyncGroup => request.answer(async |m| groups::sync(client, m).await).await,
            ApiKey::Heartbeat => request.answer(async |m| groups::heartbeat(client, m)).await,
            ApiKey::LeaveGroup => request.answer(async |m| groups::leave(client, m, version)).await,
            ApiKey::OffsetCommit => request.answer(async |m| groups::commit(client, m).await).await,
            ApiKey::OffsetFetch => request.answer(async |m| groups::fetch_offsets(client, m, version)).await,
            ApiKey::OffsetDelete => request.answer(async |m| groups::delete_offsets(client, m).await).await,
            ApiKey::DescribeGroups => request.answer(async |m| groups::describe(client, m, version)).await,
            ApiKey::ListGroups => request.answer(async |m| groups::list(client, m)).await,
            ApiKey::DeleteGroups => request.answer(async |m| groups::delete(client, m).await).await,
            _ => None,
        }
    }
}
