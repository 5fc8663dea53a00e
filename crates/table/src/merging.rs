//! `MERGE` as one plan, whose rows say what is done where.
//!
//! A format gives the rows of its table with their places, in columns of its own; the plan joins them with the source, finds the
//! first clause that fits each row, and works out the values that are to be there.

use crate::{MergeClause, MergeVerb};
use arrow::array::{AsArray as _, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, SchemaRef, UInt8Type};
use datafusion::common::{Column, JoinType, ScalarValue, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, lit, when};

/// The column that says which clause is done to a row, by its number: a `UInt8`.
pub const CLAUSE: &str = "__rivermere_clause";
/// What tells a row of the source from none.
const SOURCE: &str = "__rivermere_source";

/// What is told of a row that several rows of the source match.
pub const SEVERAL_MATCH: &str = "several rows of the source match one row of the table, and which of them is to count is \
                                 not said: let the source have one row for each";

/// What a clause does to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Delete,
    Update,
    Insert,
}

/// A merge, to be run.
pub struct MergePlan {
    /// Rows with the columns of their places (null, when they are new), then [`CLAUSE`], then the table's columns with the
    /// values that are to be there.
    pub plan: LogicalPlan,
    /// By the numbers of clauses.
    pub deeds: Vec<Deed>,
    /// Whether it is no matter how often a row of the table is matched: it is deleted, whatever matches.
    pub may_match_twice: bool,
}

/// Why a merge cannot be planned.
pub enum MergeError {
    Plan(DataFusionError),
    Refused(String),
}

impl From<DataFusionError> for MergeError {
    fn from(error: DataFusionError) -> Self {
        Self::Plan(error)
    }
}

/// Plans a merge. `scan` are the rows of the table under the merge's alias for it, with the columns of `schema` and those that
/// `places` names, none of which is null.
///
/// # Errors
/// For expressions that cannot be read, and for more clauses than there are numbers.
pub fn plan_merge(
    session: &SessionState,
    scan: LogicalPlan,
    places: &[&str],
    schema: &SchemaRef,
    merge: &MergeVerb,
) -> Result<MergePlan, MergeError> {
    let (target, source) = (TableReference::bare(&*merge.target_alias), TableReference::bare(&*merge.source_alias));
    let columns = merge.source.schema().columns().into_iter().map(Expr::Column);
    let from = LogicalPlanBuilder::from(merge.source.clone()).project(columns.chain([lit(true).alias(SOURCE)]))?;
    let from = from.alias(source.clone())?.build()?;
    let both = scan.schema().join(from.schema())?;
    let parsed = |text: &String| session.create_logical_expr(text, &both);
    let on = parsed(&merge.on)?;
    // A side's row that matches nothing is only of interest when a clause says what is done then.
    let inserts = merge.clauses.iter().any(|clause| matches!(clause, MergeClause::Insert { .. }));
    let unmatched = |clause: &MergeClause| {
        matches!(clause, MergeClause::UpdateUnmatched { .. } | MergeClause::DeleteUnmatched { .. })
    };
    let kind = match (merge.clauses.iter().any(unmatched), inserts) {
        (false, false) => JoinType::Inner,
        (false, true) => JoinType::Right,
        (true, false) => JoinType::Left,
        (true, true) => JoinType::Full,
    };
    let joined = LogicalPlanBuilder::from(scan).join_on(from, kind, [on])?;
    let whole = joined.schema().clone();

    let place = |name: &str| Expr::Column(Column::new(Some(target.clone()), name));
    let Some(is_target) = places.first().map(|name| place(name).is_not_null()) else {
        return Err(MergeError::Refused("rows without places cannot be merged into".into()));
    };
    let is_source = Expr::Column(Column::new(Some(source), SOURCE)).is_not_null();
    let matched = is_target.clone().and(is_source.clone());
    let (only_source, only_target) = (Expr::Not(is_target.into()), Expr::Not(is_source.into()));
    let mut deeds = vec![];
    let mut fits = vec![];
    let mut values: Vec<Option<&[(String, String)]>> = vec![];
    for clause in &merge.clauses {
        let (deed, side, condition, set) = match clause {
            MergeClause::UpdateMatched { condition, assignments } => {
                (Deed::Update, &matched, condition, Some(assignments))
            }
            MergeClause::DeleteMatched { condition } => (Deed::Delete, &matched, condition, None),
            MergeClause::Insert { condition, values } => (Deed::Insert, &only_source, condition, Some(values)),
            MergeClause::UpdateUnmatched { condition, assignments } => {
                (Deed::Update, &only_target, condition, Some(assignments))
            }
            MergeClause::DeleteUnmatched { condition } => (Deed::Delete, &only_target, condition, None),
        };
        let condition = condition.as_ref().map(parsed).transpose()?;
        fits.push(condition.into_iter().fold(side.clone(), Expr::and));
        deeds.push(deed);
        values.push(set.map(Vec::as_slice));
    }
    let number = |clause: usize| lit(u8::try_from(clause).unwrap_or(u8::MAX));
    if deeds.len() > usize::from(u8::MAX) {
        return Err(MergeError::Refused(format!("a merge has at most {} clauses", u8::MAX)));
    }
    // The first clause that fits.
    let clause = choice(fits.into_iter().enumerate().map(|(clause, fits)| (fits, number(clause))), DataType::UInt8)?;
    let mut all: Vec<Expr> = whole.columns().into_iter().map(Expr::Column).collect();
    all.push(clause.alias(CLAUSE));
    let joined = joined.project(all)?.filter(Expr::Column(Column::from_name(CLAUSE)).is_not_null())?;

    let whole = joined.schema().clone();
    let chosen = Expr::Column(Column::from_name(CLAUSE));
    let mut out: Vec<Expr> = places.iter().map(|name| place(name).alias(*name)).collect();
    out.push(chosen.clone().alias(CLAUSE));
    for field in schema.fields() {
        let mut cases = vec![];
        for (clause, (deed, set)) in deeds.iter().zip(&values).enumerate() {
            let Some(set) = set else { continue };
            let value = match set.iter().find(|(column, _)| column == field.name()) {
                Some((_, value)) => session.create_logical_expr(value, &both)?,
                None if *deed == Deed::Insert => Expr::Literal(ScalarValue::try_from(field.data_type())?, None),
                None => Expr::Column(Column::new(Some(target.clone()), field.name())),
            };
            cases.push((chosen.clone().eq(number(clause)), value.cast_to(field.data_type(), &whole)?));
        }
        out.push(choice(cases.into_iter(), field.data_type().clone())?.alias(field.name()));
    }
    let matched =
        |clause: &&MergeClause| matches!(clause, MergeClause::UpdateMatched { .. } | MergeClause::DeleteMatched { .. });
    let mut matched = merge.clauses.iter().filter(matched);
    let first = matched.next();
    let may_match_twice =
        matches!(first, Some(MergeClause::DeleteMatched { condition: None })) && matched.next().is_none();
    Ok(MergePlan { plan: joined.project(out)?.build()?, deeds, may_match_twice })
}

/// Which clause is done to each row of a plan's batch.
///
/// # Errors
/// For a batch of another plan.
pub fn clauses(batch: &RecordBatch) -> Result<&UInt8Array, DataFusionError> {
    let column = batch.column_by_name(CLAUSE).and_then(|column| column.as_primitive_opt::<UInt8Type>());
    column.ok_or_else(|| DataFusionError::Execution("rows without what is done to them".into()))
}

/// The value of the first case that is true; else null.
fn choice(mut cases: impl Iterator<Item = (Expr, Expr)>, data_type: DataType) -> Result<Expr, DataFusionError> {
    let null = Expr::Literal(ScalarValue::try_from(&data_type)?, None);
    let Some((fits, value)) = cases.next() else { return Ok(null) };
    let first = when(fits, value);
    cases.fold(first, |mut built, (fits, value)| built.when(fits, value)).otherwise(null)
}
