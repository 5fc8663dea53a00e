//! Tests of the log through its public surface.

mod crash;
mod recovery;
mod support;
mod wire;
