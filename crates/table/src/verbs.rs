//! What statements do to a table: the verbs that every format has, in words that no format owns.
//!
//! Expressions are SQL text over the columns of the table (and, in a merge, of the source), read by the session that comes
//! with them, so that a condition means the same as in a SELECT of that session.

use crate::{Table, TableError};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;

/// A table to be made.
#[derive(Clone, Debug)]
pub struct TableSpec {
    pub schema: SchemaRef,
    /// Nothing for a table that is not partitioned.
    pub partitioned_by: Vec<PartitionField>,
    /// Properties in the words of the format.
    pub properties: Vec<(String, String)>,
}

/// What a table is partitioned by: the values of a column, or what a transform makes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionField {
    pub column: String,
    pub transform: Transform,
}

impl From<&str> for PartitionField {
    fn from(column: &str) -> Self {
        Self { column: column.to_owned(), transform: Transform::Identity }
    }
}

/// Iceberg spec, "Partition Transforms". Formats without them refuse all but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    Identity,
    /// A hash, modulo a number.
    Bucket(u32),
    /// So many letters of a text; a number rounded down to a multiple.
    Truncate(u32),
    Year,
    Month,
    Day,
    Hour,
}

/// One change of a table. Each is one commit, or none when there is nothing to do.
#[derive(Clone, Debug)]
pub enum Verb {
    /// Adds the rows of a plan, whose columns are those of the table.
    Append(LogicalPlan),
    /// Puts the rows of a plan in the place of all rows; older versions stay readable.
    Overwrite(LogicalPlan),
    /// Removes the rows where the condition is true; all without one.
    Delete {
        condition: Option<String>,
    },
    /// Sets columns in the rows where the condition is true.
    Update {
        assignments: Vec<(String, String)>,
        condition: Option<String>,
    },
    Merge(Box<MergeVerb>),
    /// Adds nullable columns at the end.
    AddColumns(SchemaRef),
    RenameColumn {
        from: String,
        to: String,
    },
    DropColumn(String),
    /// Gives a column a wider type, which holds every value of the old one.
    WidenColumn {
        column: String,
        to: DataType,
    },
    DropNotNull(String),
    /// Rows that are there must satisfy it, too.
    AddConstraint {
        name: String,
        check: String,
    },
    DropConstraint {
        name: String,
        if_exists: bool,
    },
    SetProperties(Vec<(String, String)>),
    /// Puts small files together, without the rows that are only marked as deleted; with columns, sorts along a curve through them. Rows stay the same.
    Compact {
        z_order: Vec<String>,
        /// Only the partitions for which it is true.
        condition: Option<String>,
    },
    Clean(Clean),
    /// Makes an earlier version the newest.
    Restore {
        version: i64,
    },
}

impl Verb {
    /// As statements call it, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Append(_) => "INSERT",
            Self::Overwrite(_) => "INSERT OVERWRITE",
            Self::Delete { .. } => "DELETE",
            Self::Update { .. } => "UPDATE",
            Self::Merge(_) => "MERGE",
            Self::AddColumns(_) => "ADD COLUMNS",
            Self::RenameColumn { .. } => "RENAME COLUMN",
            Self::DropColumn(_) => "DROP COLUMN",
            Self::WidenColumn { .. } => "ALTER COLUMN TYPE",
            Self::DropNotNull(_) => "DROP NOT NULL",
            Self::AddConstraint { .. } => "ADD CONSTRAINT",
            Self::DropConstraint { .. } => "DROP CONSTRAINT",
            Self::SetProperties(_) => "SET TBLPROPERTIES",
            Self::Compact { .. } => "OPTIMIZE",
            Self::Clean(_) => "VACUUM",
            Self::Restore { .. } => "RESTORE",
        }
    }
}

/// `VACUUM`: removes files that no version of the last `retain_hours` names; the table's own retention when that is left
/// out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clean {
    /// Also files that no version ever named.
    pub everything: bool,
    pub retain_hours: Option<u64>,
    pub dry_run: bool,
    /// Versions that somebody still reads on from: their files stay, however old they are. Versions that the table has
    /// forgotten are passed over.
    pub needed: Vec<i64>,
}

impl Clean {
    /// How long, in milliseconds, what versions name is kept, for a table that keeps it for `own_ms` by its property `name`.
    ///
    /// # Errors
    /// With the reason, for less time than the table's own: readers of older versions count on that.
    pub fn retention_ms(&self, own_ms: i64, name: &str) -> Result<i64, String> {
        const HOUR_MS: i64 = 3_600_000;
        let Some(hours) = self.retain_hours else { return Ok(own_ms) };
        let asked = i64::try_from(hours).ok().and_then(|hours| hours.checked_mul(HOUR_MS)).ok_or("that is too long")?;
        if asked < own_ms {
            return Err(format!(
                "the table keeps older versions for {} hours, which their readers count on; to keep them for less time, set its \
                 property {name}",
                own_ms / HOUR_MS
            ));
        }
        Ok(asked)
    }
}

/// `MERGE`: what happens to rows of the table and of a source that match.
#[derive(Clone, Debug)]
pub struct MergeVerb {
    pub source: LogicalPlan,
    /// The names that expressions call the two by.
    pub target_alias: String,
    pub source_alias: String,
    pub on: String,
    /// In the order they are tried.
    pub clauses: Vec<MergeClause>,
}

/// The first clause whose condition is true is done.
#[derive(Clone, Debug)]
pub enum MergeClause {
    UpdateMatched { condition: Option<String>, assignments: Vec<(String, String)> },
    DeleteMatched { condition: Option<String> },
    Insert { condition: Option<String>, values: Vec<(String, String)> },
    UpdateUnmatched { condition: Option<String>, assignments: Vec<(String, String)> },
    DeleteUnmatched { condition: Option<String> },
}

/// What a verb did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The newest version afterwards.
    pub version: i64,
    /// Rows that were added, changed or removed, where rows are what it is about.
    pub rows: Option<u64>,
    /// Further figures by their names.
    pub figures: Vec<(&'static str, u64)>,
}

/// A table that statements change.
#[async_trait]
pub trait EditableTable: Table {
    /// The sink that writes the table, if one says that it does.
    async fn owner(&self) -> Result<Option<String>, TableError>;

    /// Does it in one commit over version `base`. Whatever the verb's plans read must be no older than that; what other
    /// writers committed since is looked at, and where it touches the same rows, nothing is changed.
    ///
    /// `statement` is a text that no other statement ever has. It is put into the commit, by which a commit is known
    /// again whose answer was lost on the way: it is not done twice.
    ///
    /// # Errors
    /// [`TableError::Verb`] for what cannot be done to this table, with the reason; [`TableError::Conflict`] when another
    /// writer was quicker: plan and apply it again over the newest version.
    async fn apply(&self, session: &SessionState, base: i64, statement: &str, verb: Verb) -> Result<Done, TableError>;
}
