//! Words that every room shares: a change to a relation, a moment of the pipeline, a place in a topic, and the doors
//! through which the outside world is reached.
//!
//! The entry noun is [`Changes`]: rows with weights, where a positive weight inserts and a negative one deletes.
//!
//! ```
//! use std::sync::Arc;
//! use arrow::array::{Int64Array, RecordBatch};
//! use arrow::datatypes::{DataType, Field, Schema};
//! use rivermere_base::Changes;
//!
//! let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
//! let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
//! let inserted = Changes::inserts(rows.clone());
//! assert_eq!(inserted.weight(1), 1);
//! let deleted = Changes::with_weights(rows, Int64Array::from(vec![-1, -1])).unwrap();
//! assert_eq!(deleted.weight(0), -1);
//! ```
//!
//! This crate does no I/O itself; real doors live in `rivermere-store`, simulated ones in `rivermere-sim`.

mod changes;
mod crash_point;
mod doors;
mod ids;
mod opaque;
mod secret;

pub use changes::{Changes, Weights};
pub use crash_point::CrashPoint;
pub use doors::{Clock, Disk, DiskFile, DiskMetadata, Doors, OpenMode, Rng, SeededRng, SystemClock};
pub use ids::{Code, Epoch, Offset, PartitionId, Step, TopicName, TopicNameError};
pub use opaque::Opaque;
pub use secret::Secret;
