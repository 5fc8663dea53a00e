//! Delta Lake tables: a view published exactly once ([`DeltaSink`]), and a table read at any version ([`DeltaTable`]).
//!
//! Specification: Delta's PROTOCOL.md. The log is read and written through `deltalake-core`; ours are the marker that
//! makes a replay harmless, the netting of epochs, the merge, and the refusal of tables that are not ours.
//!
//! # One commit
//! All pending epochs become one version of the table, whose `txn` action (appId = sink id, version = last epoch) is
//! the marker. Before anything is written the marker is looked up through the whole log, checkpoints included, so
//! commits of other engines in between do not hide it. The log entry is put with create-if-absent: it is there as a
//! whole or not at all, and two writers cannot take the same version. Whatever an attempt reports, the marker decides.
//!
//! # Rows that go
//! A table with the property `delta.enableDeletionVectors` keeps its files, and rows that are changed or deleted are marked
//! (merge-on-read): the modules `vectors`, `edits` and `merge`. Else the files that hold them are written anew.
//!
//! # Following a table
//! What came and went between two versions are the rows of the files that only one of them names, and those by which
//! deletion vectors differ: the module `feed`.
//!
//! # What is not supported
//! Views are not stored in tables with column mapping, generated or identity columns, CHECK constraints or invariants;
//! nothing is written where the library cannot commit (row tracking, clustering, type widening, ...): a type is widened by
//! writing the files anew. Reading supports what the library does.

mod active;
mod alter;
mod clean;
mod compact;
mod deferred;
mod edits;
mod expired;
mod feed;
mod files;
mod fit;
mod handle;
mod location;
mod mapping;
mod merge;
mod ordered;
mod ownership;
mod rows;
mod schema;
mod sink;
mod table;
mod vectors;
mod verbs;

pub use rivermere_table::Location;
pub use schema::table_schema;
pub use sink::DeltaSink;
pub use table::DeltaTable;
