//! The binary as a person at a terminal meets it: help texts, errors and exit codes, and a project that runs.

mod errors;
mod help;
mod process;
mod running;
mod snapshot;
mod testing;
