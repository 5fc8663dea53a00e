//! The doors of `rivermere-base` in memory: a clock that moves when told, randomness from a seed, and a disk that
//! crashes, fails and forgets on purpose.
//!
//! ```
//! use rivermere_base::{CrashPoint, Disk, OpenMode};
//! use rivermere_sim::World;
//! use std::path::Path;
//!
//! let world = World::new(7);
//! world.disk.arm(CrashPoint::AfterWalWrite, 1);
//! let disk = world.doors().disk;
//! let file = disk.open(Path::new("/wal"), OpenMode::CreateNew).unwrap();
//! file.write_all_at(b"never synced", 0).unwrap();
//! disk.crash_point(CrashPoint::AfterWalWrite);
//! assert!(file.sync_data().is_err(), "nothing works after the crash");
//!
//! let world = world.reboot_strict();
//! assert!(world.disk.read(Path::new("/wal")).is_err(), "neither name nor contents were synced");
//! ```

mod clock;
mod disk;
mod store;
mod world;

pub use clock::SimClock;
pub use disk::{Operations, SimDisk};
pub use store::{BreakingStore, Failure};
pub use world::World;
