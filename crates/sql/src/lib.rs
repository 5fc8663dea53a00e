//! The language: text to statements, statements to plans. Nothing is opened or executed here, and every error says
//! where in the text it is.
//!
//! The entry noun is [`Plan`]: what a view computes, as DataFusion's logical plan over named relations, beside what
//! the stream engine must know about it (keys, append-only, watermarks). The same plan is run once by `batch` and
//! incrementally by `stream`.
//!
//! ```
//! use rivermere_sql::{Planner, Script, Statement};
//!
//! let script = Script::parse(
//!     "example.sql",
//!     "CREATE TABLE t (id BIGINT NOT NULL, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
//!      CREATE MATERIALIZED VIEW v AS SELECT id FROM t WHERE id > 3;",
//! ).unwrap();
//! let mut planner = Planner::new();
//! for parsed in script.statements() {
//!     match &parsed.statement {
//!         Statement::CreateTable(create) => { planner.add_table(create.define(parsed).unwrap()).unwrap(); }
//!         Statement::CreateView(create) => {
//!             let view = planner.plan_view(create, parsed).unwrap();
//!             assert!(view.plan.properties.append_only);
//!         }
//!         _ => {}
//!     }
//! }
//! ```

mod catalog;
mod error;
mod explain;
mod functions;
mod parse;
mod plan;
mod properties;
mod session;

pub use catalog::{
    Column, Connector, ExternalTable, LakeFormat, LakePlace, Relation, RelationKind, TableDefinition, ViewDefinition,
    Watermark,
};
pub use error::{Location, SqlError, suggestion};
pub use explain::explain_streaming;
pub use functions::register_functions;
pub use parse::{
    Alteration, AsOf, CreateExternal, CreateTable, CreateView, Emit, Insert, LakeStatement, LakeVerb, Merge,
    MergeClause, MergeDo, MergeWhen, ObjectKind, Parsed, PartitionBy, Script, Show, Statement, StoredAs, TABLE_AS_OF,
    Target, columns_of, data_type_of, expression_text, normalised, query_relations, timestamp_us,
};
pub use plan::{LATENESS_COLUMN, Plan, Planner, RelationProvider};
pub use properties::{
    Properties, Ranking, Retention, TimeBound, TimeTransform, TopN, conjuncts, grouping_sets, properties,
    session_bound, top_n,
};
