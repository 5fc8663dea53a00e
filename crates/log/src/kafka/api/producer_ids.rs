//! InitProducerId: identities of idempotent producers.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::kafka::broker::code;
use crate::kafka::connection::Client;

pub(super) async fn init(client: &Client, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let none = |code: i16| {
        InitProducerIdResponse::default().with_error_code(code).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        // The one refusal that clients report to their user at once instead of trying again.
        return none(ResponseError::TransactionalIdAuthorizationFailed.code());
    }
    // A producer that wants to go on after an error gets its next epoch, as long as there is one (KIP-360).
    if request.producer_id.0 >= 0 && (0..i16::MAX - 1).contains(&request.producer_epoch) {
        return InitProducerIdResponse::default()
            .with_producer_id(request.producer_id)
            .with_producer_epoch(request.producer_epoch + 1);
    }
    match client.broker.producer_id().await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => none(code(&error)),
    }
}
