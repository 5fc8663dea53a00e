//! Tables as others see them: each test writes through a sink and reads the result back with another reader.

mod acceptance;
mod append;
mod columns;
mod crash;
mod expected;
mod feed;
mod merge;
mod other_engines;
mod ownership;
mod power_loss;
mod python;
mod reading;
mod spark;
mod spark_session;
mod tables;
mod types;
mod vectors;
mod verbs;
mod world;
