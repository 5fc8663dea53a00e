//! Counters of the log, cheap enough to be always on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub $name: AtomicU64,)* }

        /// Counters since the log was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct LogMetrics { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub fn read(&self) -> LogMetrics {
                LogMetrics { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl LogMetrics {
            /// Names and values, for an exporter.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Records appended.
    records_in,
    /// Bytes of record batches appended.
    bytes_in,
    /// Bytes of record batches handed to readers.
    bytes_out,
    /// Reads answered from memory.
    reads_cached,
    /// Reads answered from segment files.
    reads_segment,
    /// Frames written to the write-ahead log.
    frames,
    /// Bytes written to the write-ahead log.
    wal_bytes,
    /// Calls of fsync for the write-ahead log.
    fsyncs,
    /// Batches answered from the memory of an idempotent producer.
    duplicates,
    /// Checkpoints made.
    checkpoints,
    /// Frames read again when the log was opened.
    frames_recovered,
}

impl Counters {
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
}
