//! ApiVersions: the handshake.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::SUPPORTED;

pub(super) type Request = kafka_protocol::messages::ApiVersionsRequest;

pub(super) fn supported() -> ApiVersionsResponse {
    let each = |(key, oldest, newest): &(kafka_protocol::messages::ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*oldest).with_max_version(*newest)
    };
    ApiVersionsResponse::default().with_api_keys(SUPPORTED.iter().map(each).collect())
}

/// For a version of ApiVersions itself that is not known: the client tries again with one of ours (KIP-35).
pub(super) fn unknown() -> ApiVersionsResponse {
    supported().with_error_code(ResponseError::UnsupportedVersion.code())
}
