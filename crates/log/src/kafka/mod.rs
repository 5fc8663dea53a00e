//! The Kafka protocol: bytes to messages and back (the codec is the crate `kafka-protocol`), and the sockets around it.
//!
//! Implemented: what [`api::SUPPORTED`] lists, and nothing else is advertised. Transactions, ACLs, share groups and
//! KIP-848 groups are not. Specification: <https://kafka.apache.org/protocol>.

mod api;
mod broker;
pub mod client;

mod connection;
mod guard;
mod listener;
mod topic_configs;

pub use broker::KafkaOptions;
pub use listener::KafkaServer;
