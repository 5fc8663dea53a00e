//! Tests of the whole platform; see `main.rs`.
