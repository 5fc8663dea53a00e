//! The topic log: durable partitioned topics in one folder, spoken to in-process and over the Kafka protocol.
//!
//! The entry noun is [`Log`]. A write is acknowledged after its fsync, one for everything that queued while the last one
//! ran; nothing is visible before. Records are bytes in Kafka's batch format (see [`records`]); the log knows neither SQL
//! nor schemas.
//!
//! ```
//! use bytes::Bytes;
//! use rivermere_base::{Doors, Offset, PartitionId, SeededRng, SystemClock, TopicName};
//! use rivermere_log::records::{Compression, Record, decode, encode};
//! use rivermere_log::{Log, LogOptions, TopicOptions};
//! use std::sync::Arc;
//!
//! # let dir = std::env::temp_dir().join(format!("rivermere-log-doc-{}", std::process::id()));
//! let doors = Doors {
//!     clock: Arc::new(SystemClock::new()),
//!     rng: Arc::new(SeededRng::from_os()),
//!     disk: Arc::new(rivermere_store::LocalDisk::new()),
//! };
//! let log = Log::open(doors, &dir, LogOptions::default())?;
//! let flights = TopicName::new("flights")?;
//! log.create_topic(&flights, TopicOptions::default())?;
//!
//! let record = Record { value: Some(Bytes::from_static(b"UA 1545")), ..Record::default() };
//! let appended = log.append(&flights, PartitionId(0), encode(&[record], Compression::None)?).wait()?;
//! assert_eq!(appended.base_offset, Offset(0));
//!
//! let fetched = log.read(&flights, PartitionId(0), Offset(0), 1 << 20)?;
//! decode(&fetched.batches, |record| assert_eq!(record.value, Some(&b"UA 1545"[..])))?;
//! log.close()?;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod changes;
mod error;
mod groups;
pub mod kafka;
mod log;
mod metrics;
mod options;
mod pending;
mod producers;
pub mod records;
mod recovery;
mod segments;
mod shared;
mod snapshot;
mod state;
mod topics;
mod wal;

pub use error::LogError;
pub use log::{AppendFuture, Appended, AtomicAppendFuture, Fetched, Log};
pub use metrics::LogMetrics;
pub use options::{LogOptions, OffsetRange, TopicInfo, TopicOptions};
pub use pending::Pending;
