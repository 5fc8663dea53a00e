//! Iceberg tables: of other engines, and our own.

mod acceptance;
#[path = "../../delta/tests/expected.rs"]
mod expected;
mod spark;
mod verbs;
mod world;
