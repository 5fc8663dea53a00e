//! Hudi tables: of other engines, and our own.

mod acceptance;
#[path = "../../delta/tests/expected.rs"]
mod expected;
mod spark;
#[path = "../../delta/tests/spark_session.rs"]
mod spark_session;
#[path = "../../delta/tests/tables.rs"]
mod tables;
mod verbs;
mod world;
