//! Text to statements.
//!
//! Expressions and queries are parsed by sqlparser with [`dialect`]; our own statements are read from its token
//! stream in [`statements`]. Window table functions become ordinary subqueries in [`windows`].

mod dialect;
mod script;
mod statements;
mod windows;

pub use script::{Parsed, Script};
pub(crate) use statements::normalise;
pub use statements::{CreateTable, CreateView, Emit, Insert, ObjectKind, Show, Statement, StoredAs, query_relations};
