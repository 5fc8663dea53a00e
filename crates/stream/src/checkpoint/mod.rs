//! What survives the process: runs of state, staged output, and the manifest whose put decides an epoch.
//!
//! ```text
//! state/generations/<number>       one file for each start; a process that finds a newer one is fenced
//! state/manifests/<epoch>.json     the decision; created new, never replaced
//! state/runs/<epoch>.run           state entries that changed in the epoch, of all operators
//! state/staged/<view>/<epoch>.arrow  net change of a stored view, until its table has it
//! ```

mod files;
mod manifest;
mod run;
mod staged;

pub(crate) use files::StateFiles;
pub(crate) use manifest::{FORMAT, RunRecord};
pub use manifest::{Manifest, ObjectRecord, SinkRecord};
pub(crate) use run::{RunBuilder, read_newest};
pub(crate) use staged::encode_staged;
pub use staged::read_staged;

/// The newest manifest of a state folder, without starting anything.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn newest_manifest(
    disk: std::sync::Arc<dyn rivermere_base::Disk>,
    folder: &std::path::Path,
) -> crate::error::Result<Option<Manifest>> {
    StateFiles::open(disk, folder)?.newest_manifest()
}
