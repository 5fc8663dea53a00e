//! The whole platform, through the doors that its users have.

mod crash;
mod harness;
mod journey;
mod sql;
