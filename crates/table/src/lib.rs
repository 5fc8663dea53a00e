//! The contract between streams and table formats: a [`Table`] is read at a version, a [`TableSink`] publishes epochs
//! exactly once, an [`EditableTable`] does what statements say.
//!
//! This room knows no format; a format (`rivermere-delta`) knows no stream. What both need to agree on lives here: the
//! identity of a sink, what an epoch hands over, how several epochs become one commit ([`net`]), and the errors.
//!
//! # Exactly once
//! The pipeline's manifest is the only decision; a sink is told about an epoch after the manifest lists it. The sink
//! puts the epoch's number into the *same* atomic commit as the rows and reads it back from the table's history before
//! it writes. So a commit may be repeated, delayed or coalesced with later ones, and every row still arrives once.

mod contract;
mod editing;
mod error;
mod fit;
mod hive_types;
mod keys;
mod location;
pub mod merging;
pub mod net;
mod parts;
mod pieces;
mod pruning;
mod stored_file;
mod verbs;

pub use contract::{
    Adopt, Claim, Committed, RowChanges, SinkId, SinkMode, SinkSpec, StagedEpoch, Table, TableSink, TableVersion,
    Upkeep,
};
pub use editing::{Editing, Target};
pub use error::TableError;
pub use fit::Fit;
pub use hive_types::metastore_columns;
pub use keys::Keys;
pub use location::Location;
pub use pieces::{Batches, PIECE_COLUMN, PieceScan, Pieces, ROW_COLUMN};
pub use pruning::{Filter, row_group_bounds};
pub use stored_file::StoredFile;
pub use verbs::{Clean, Done, EditableTable, MergeClause, MergeVerb, PartitionField, TableSpec, Transform, Verb};
