//! The engine at work: one thread reads topics, runs steps and seals epochs; tables are written beside it.

mod committer;
mod engine;
mod handle;

pub use committer::{Committer, NeededVersions, SinkProgress};
pub use engine::{EngineConfig, EngineOptions};
pub use handle::{EngineHandle, EngineStatus, NewObjects, ObjectStatus, StepListener, StepReport, start};
