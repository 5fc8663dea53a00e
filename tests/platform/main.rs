//! The whole platform, through the doors that its users have.

mod acceptance;
mod catalogs;
mod clients;
mod crash;
mod docs;
mod full_disk;
mod harness;
mod hudi;
mod iceberg;
mod journey;
mod kill;
mod lake;
mod lake_sources;
mod lake_tables;
mod lifecycle;
mod matrix;
mod pages;
#[path = "../../crates/store/tests/peer.rs"]
mod peer;
mod process;
mod sql;
mod storages;
#[path = "../../crates/delta/tests/tables.rs"]
mod tables;
mod two_writers;
