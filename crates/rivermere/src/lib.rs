//! Rivermere: streams in, views that are right at every step, open lake tables out, served while they move.
//!
//! The library behind the binary. The entry noun is [`Assembly`]: a running platform over a [`Project`].

mod assembly;
pub mod demo;
mod formats;
mod memory;
mod problem;
mod project;
pub mod quantities;
mod storages;
pub mod testing;

pub use assembly::{Assembly, InstanceFile, Settings, external_columns};
pub use problem::Problem;
pub use project::{Planned, Project, ProjectSettings};
pub use storages::StorageSettings;
