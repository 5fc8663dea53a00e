//! Tests of the log through its public surface.

mod recovery;
mod support;
