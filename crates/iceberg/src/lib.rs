//! Apache Iceberg tables, of a file system, of a REST catalog, or by a file of their metadata: read at any snapshot
//! ([`IcebergTable`]).
//!
//! Specification: the Iceberg table spec, format versions 1 to 3, and the Puffin spec.
//!
//! # What is ours and what the library's
//! Metadata is the library's. Manifests are read by us, field by field, since writers leave out what the library insists on; data
//! files by us, too, by the ids of their columns: the library's reader gives nulls for columns that only partitions have, loses
//! rows to filters after a type was widened, and does not know deletion vectors (decision 0011).
//!
//! # Following a table
//! What came and went between two snapshots are the rows of the files that only one of them names, or that have other deletes:
//! the module `feed`.

mod catalog;
mod clean;
mod edits;
mod feed;
mod files;
mod manifests;
mod metadata;
mod metastore;
mod paths;
mod place;
mod produce;
mod reading;
mod removal;
mod rest;
mod scan;
mod sink;
mod storage;
mod table;
mod types;
mod vector;
mod verbs;
mod writing;

pub use catalog::{CommitRefused, NewIcebergTable};
pub use rest::Locate;
pub use sink::IcebergSink;
pub use table::IcebergTable;
pub use verbs::table_schema;
