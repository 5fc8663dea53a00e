//! Text to statements.
//!
//! Expressions and queries are parsed by sqlparser with [`dialect`]; our own statements are read from its token
//! stream in [`statements`], those about tables of the lake in [`lake`]. Window table functions become ordinary
//! subqueries in [`windows`], tables at a version calls in [`versions`].

mod dialect;
mod lake;
mod script;
mod statements;
mod versions;
mod windows;

pub use lake::{
    Alteration, AsOf, CreateExternal, LakeStatement, LakeVerb, Merge, MergeClause, MergeDo, MergeWhen, PartitionBy,
    Target, columns_of, data_type_of, expression_text, timestamp_us,
};
pub use script::{Parsed, Script};
pub use statements::normalise as normalised;
pub(crate) use statements::normalise;
pub use statements::{CreateTable, CreateView, Emit, Insert, ObjectKind, Show, Statement, StoredAs, query_relations};
pub use versions::TABLE_AS_OF;
