//! The write-ahead log shared by all partitions: one writer thread, one frame and one fsync for everything that queued
//! while the last fsync ran. See [`frame`] for the bytes and [`files`] for the files.

mod files;
mod frame;
mod scan;
mod writer;

pub(crate) use files::{WalFile, WalFiles};
pub(crate) use frame::Entry;
pub(crate) use scan::{Scan, scan};
pub(crate) use writer::{Decide, Part, Submission, SubmissionQueue, Writer};
