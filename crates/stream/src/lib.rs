//! The incremental engine: views that stay equal to their batch answer, step by step.
//!
//! The entry noun is [`Dataflow`]: operators over Arrow batches with weights, run in steps. After every step each view
//! equals the result of its SQL over all rows put in so far; there is no intermediate answer.

mod arrangement;
mod checkpoint;
mod compile;
mod dataflow;
mod error;
mod operators;
pub mod runtime;
mod source;
mod state;

pub use arrangement::{Arrangement, Snapshot};
pub use checkpoint::{Manifest, ObjectRecord, SinkRecord, newest_manifest};
pub use compile::{needed_columns, table_input_schema};
pub use dataflow::{Dataflow, StepOutput};
pub use error::StreamError;
pub use operators::RejectedRow;
pub use source::{
    DeadLetter, LakePosition, LakeReader, Lakes, OpenTable, PartitionPosition, TopicReader, lateness_field, read_file,
};
pub use state::netted;
