//! The serving room over real sockets, with a platform that holds its views in memory.

mod client;
mod http_answers;
mod http_safety;
mod http_streams;
mod memory;
mod postgres_catalog;
mod postgres_clients;
mod postgres_protocol;
mod running;
mod wire;
