//! Apache Hudi tables: versions 5 to 9 read at any version that their timeline remembers ([`HudiTable`]), versions 8 and 9 changed by
//! statements, and written exactly once ([`HudiSink`]).
//!
//! Specification: the Hudi technical specification, <https://hudi.apache.org/tech-specs>.
//!
//! # Following a table
//! What came and went between two versions are the rows of the slices of which only one of them has the files.

mod blocks;
mod clean;
mod edits;
mod metadata;
mod place;
mod produce;
mod properties;
mod reading;
mod scan;
mod schema;
mod sink;
mod slices;
mod table;
mod timeline;
mod types;
mod verbs;
mod writing;

pub use sink::HudiSink;
pub use table::HudiTable;
pub use types::table_schema;
