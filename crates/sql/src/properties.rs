//! What the stream engine must know about a plan, derived bottom-up: whether rows are only ever added, which columns
//! identify a row, and how watermarks bound the future of each time column. A plan that cannot be maintained is
//! refused here, by the name of the operator, before anything starts.

use crate::error::SqlError;
use crate::session::SESSION_END;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{GroupingSet, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, Expr, ExprSchemable, Filter, Join, JoinType, LogicalPlan, Operator, Subquery,
    Union, Unnest, Volatility, Window, WindowFrameUnits, WindowFunctionDefinition,
};
use std::collections::BTreeSet;

/// Facts of one relation or plan node; column numbers are those of its output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// No row is ever taken back.
    pub append_only: bool,
    /// Columns that no two rows share; an empty list means "at most one row".
    pub key: Option<Vec<usize>>,
    /// For each column, the least value that a future change can have.
    pub time: Vec<Option<TimeBound>>,
    /// Complete after the first step and never changing: files and constants.
    pub is_static: bool,
}

/// The least future value of a time column: the minimum over sources of their watermark, transformed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeBound(pub Vec<(String, Vec<TimeTransform>)>);

/// A monotone function of a timestamp in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeTransform {
    /// Down to a multiple.
    Floor {
        us: i64,
    },
    Add {
        us: i64,
    },
}

impl TimeBound {
    /// Of a source's own event time.
    pub fn of_source(table: &str) -> Self {
        Self(vec![(table.to_string(), vec![])])
    }

    fn then(&self, transforms: &[TimeTransform]) -> Self {
        let extend = |(source, chain): &(String, Vec<TimeTransform>)| {
            (source.clone(), chain.iter().chain(transforms).copied().collect())
        };
        Self(self.0.iter().map(extend).collect())
    }

    /// The lower of both.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(source, _)| source.as_str())
    }

    /// Microseconds, given each source's watermark; nothing while one has none.
    pub fn evaluate(&self, watermark_us: impl Fn(&str) -> Option<i64>) -> Option<i64> {
        let mut least = None;
        for (source, transforms) in &self.0 {
            let mut value = watermark_us(source)?;
            for transform in transforms {
                value = match transform {
                    TimeTransform::Floor { us } => value.checked_sub(value.rem_euclid(*us))?,
                    TimeTransform::Add { us } => value.checked_add(*us)?,
                };
            }
            least = Some(least.map_or(value, |other: i64| other.min(value)));
        }
        least
    }
}

/// How rows of a partition are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// One after the other; ties are decided by the whole row.
    RowNumber,
    /// Ties share the number of their first row.
    Rank,
    /// Ties share a number, and no number is left out.
    DenseRank,
}

impl Ranking {
    pub(crate) fn of(function: &WindowFunction) -> Option<Self> {
        match &function.fun {
            WindowFunctionDefinition::WindowUDF(udf) => match udf.name() {
                "row_number" => Some(Self::RowNumber),
                "rank" => Some(Self::Rank),
                "dense_rank" => Some(Self::DenseRank),
                _ => None,
            },
            _ => None,
        }
    }
}

/// `ROW_NUMBER() … <= limit` over a window, or RANK or DENSE_RANK.
#[derive(Clone, Debug)]
pub struct TopN<'a> {
    pub window: &'a Window,
    pub function: &'a WindowFunction,
    pub ranking: Ranking,
    /// The column with the numbers.
    pub rank: Column,
    /// Numbers up to this one are kept of each partition.
    pub limit: usize,
    /// The filter's other conditions.
    pub rest: Vec<Expr>,
}

/// Finds a top-N in a filter.
pub fn top_n(filter: &Filter) -> Option<TopN<'_>> {
    let LogicalPlan::Window(window) = filter.input.as_ref() else { return None };
    let [expr] = window.window_expr.as_slice() else { return None };
    let Expr::WindowFunction(function) = unalias(expr) else { return None };
    let ranking = Ranking::of(function)?;
    let rank = window.schema.columns().pop()?;
    let mut limit: Option<usize> = None;
    let mut rest = vec![];
    for condition in conjuncts(&filter.predicate) {
        match upper_bound(&condition, &rank) {
            Some((bound, exact)) => {
                limit = Some(limit.map_or(bound, |other| other.min(bound)));
                // `rank = 3` keeps three and shows one; `rank = 1` needs no second look.
                if exact && bound > 1 {
                    rest.push(condition);
                }
            }
            None => rest.push(condition),
        }
    }
    Some(TopN { window, function, ranking, rank, limit: limit?, rest })
}

fn unalias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unalias(&alias.expr),
        other => other,
    }
}

/// N of `rank <= N`, `rank < N + 1`, `rank = N` (exact), or the same turned round.
fn upper_bound(condition: &Expr, rank: &Column) -> Option<(usize, bool)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let is_rank = |expr: &Expr| matches!(expr, Expr::Column(column) if column == rank);
    let (op, literal) = match (left.as_ref(), right.as_ref()) {
        (column, Expr::Literal(value, _)) if is_rank(column) => (*op, value),
        (Expr::Literal(value, _), column) if is_rank(column) => (op.swap()?, value),
        _ => return None,
    };
    let number = match literal {
        ScalarValue::UInt64(Some(number)) => i64::try_from(*number).ok()?,
        ScalarValue::Int64(Some(number)) => *number,
        _ => return None,
    };
    let number = usize::try_from(number.max(0)).ok()?;
    match op {
        Operator::LtEq => Some((number, false)),
        Operator::Lt => Some((number.saturating_sub(1), false)),
        Operator::Eq => Some((number, true)),
        _ => None,
    }
}

/// The parts of `a AND b AND c`.
pub fn conjuncts(predicate: &Expr) -> Vec<Expr> {
    datafusion::logical_expr::utils::split_conjunction(predicate).into_iter().cloned().collect()
}

/// Properties of a plan's output. `lookup` gives those of a named relation.
///
/// # Errors
/// When an operator cannot be maintained incrementally, with its name and a way out.
pub fn properties(plan: &LogicalPlan, lookup: &dyn Fn(&str) -> Option<Properties>) -> Result<Properties, SqlError> {
    for expr in plan.expressions() {
        check_expression(&expr)?;
        no_subquery(&expr)?;
    }
    match plan {
        LogicalPlan::TableScan(scan) => {
            let name = scan.table_name.table();
            let base = lookup(name)
                .ok_or_else(|| SqlError::new(SqlError::NAME, format!("relation '{name}' does not exist")))?;
            let width = scan.source.schema().fields().len();
            let columns = scan.projection.clone().unwrap_or_else(|| (0..width).collect());
            let time = columns.iter().map(|column| base.time.get(*column).cloned().flatten()).collect();
            Ok(Properties { key: map_key(base.key.as_deref(), &columns), time, ..base })
        }
        LogicalPlan::SubqueryAlias(alias) => properties(&alias.input, lookup),
        LogicalPlan::Projection(projection) => {
            let input = properties(&projection.input, lookup)?;
            let schema = projection.input.schema();
            let sources: Vec<Option<usize>> = projection.expr.iter().map(|expr| column_index(expr, schema)).collect();
            let time = projection.expr.iter().map(|expr| expression_time(expr, schema, &input)).collect();
            Ok(Properties { key: map_key_from(input.key.as_deref(), &sources), time, ..input })
        }
        LogicalPlan::Filter(filter) => match top_n(filter) {
            Some(top) => top_n_properties(&top, lookup),
            None => properties(&filter.input, lookup),
        },
        LogicalPlan::Window(window) => window_properties(window, lookup),
        LogicalPlan::Aggregate(aggregate) => aggregate_properties(aggregate, lookup),
        LogicalPlan::Join(join) => join_properties(join, lookup),
        LogicalPlan::Union(union) => union_properties(union, lookup),
        LogicalPlan::Unnest(unnest) => unnest_properties(unnest, lookup),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(Properties {
            append_only: true,
            key: None,
            time: vec![None; plan.schema().fields().len()],
            is_static: true,
        }),
        LogicalPlan::Distinct(Distinct::On(_)) => {
            Err(refuse("DISTINCT ON", "use ROW_NUMBER() OVER (PARTITION BY …) = 1"))
        }
        LogicalPlan::Sort(_) => Err(refuse("ORDER BY", "a view has no order: order the rows when you read it")),
        LogicalPlan::Limit(_) => {
            Err(refuse("LIMIT without ORDER BY", "say which rows are the first: ORDER BY … LIMIT 10"))
        }
        LogicalPlan::RecursiveQuery(_) => Err(refuse("WITH RECURSIVE", "only batch queries can be recursive")),
        LogicalPlan::Subquery(_) => Err(refuse("this subquery", "write it as a join")),
        other => {
            let text = other.display().to_string();
            let name = text.split([':', ' ']).next().unwrap_or_default().to_string();
            Err(refuse(&name, "only batch queries can use it"))
        }
    }
}

fn refuse(what: &str, hint: &str) -> SqlError {
    SqlError::new(SqlError::NOT_MAINTAINABLE, format!("{what} cannot be maintained in a view")).hint(hint.to_string())
}

fn window_properties(window: &Window, lookup: &dyn Fn(&str) -> Option<Properties>) -> Result<Properties, SqlError> {
    let input = properties(&window.input, lookup)?;
    let schema = window.input.schema();
    let mut time = vec![None; window.schema.fields().len()];
    for (at, expr) in window.window_expr.iter().enumerate() {
        let Expr::WindowFunction(function) = unalias(expr) else {
            return Err(refuse(&expr.schema_name().to_string(), "write the window function alone in its column"));
        };
        if function.params.distinct {
            return Err(refuse("DISTINCT in a window function", "count over a view with SELECT DISTINCT"));
        }
        let by_rows = function.params.window_frame.units == WindowFrameUnits::Rows;
        if depends_on_order(function) && !by_rows {
            return Err(refuse(
                &format!("{}() over a RANGE frame", function.fun.name()),
                "which of several equal rows it takes is open: write a ROWS frame",
            ));
        }
        if function.fun.name() == SESSION_END {
            let ends = function.params.args.first().and_then(|expr| expression_time(expr, schema, &input));
            time[schema.fields().len() + at] = ends;
        }
    }
    // Rows change only in partitions that can still change.
    for expr in partition_of(window) {
        if let Some(column) = column_index(expr, schema) {
            time[column] = input.time.get(column).cloned().flatten();
        }
    }
    Ok(Properties { append_only: false, key: input.key, time, is_static: input.is_static })
}

/// Functions that take the value of one row of their frame, or all of them in order.
fn depends_on_order(function: &WindowFunction) -> bool {
    ["first_value", "last_value", "nth_value", "array_agg", "string_agg"].contains(&function.fun.name())
}

fn partition_of(window: &Window) -> &[Expr] {
    match window.window_expr.first().map(unalias) {
        Some(Expr::WindowFunction(function)) => &function.params.partition_by,
        _ => &[],
    }
}

/// The column with the ends of sessions and the bound of the rows' times, which closes them.
pub fn session_bound(window: &Window, output: &Properties) -> Option<(usize, TimeBound)> {
    let first = window.input.schema().fields().len();
    let is_end = |expr: &Expr| matches!(unalias(expr), Expr::WindowFunction(f) if f.fun.name() == SESSION_END);
    let at = first + window.window_expr.iter().position(is_end)?;
    Some((at, output.time.get(at)?.clone()?))
}

/// Refuses expressions whose value is no matter of the row alone, before an optimiser can fold them into constants; in
/// subqueries too.
pub(crate) fn check_expressions(plan: &LogicalPlan) -> Result<(), SqlError> {
    for expr in plan.expressions() {
        check_expression(&expr)?;
        for subquery in subqueries(&expr)? {
            check_expressions(&subquery.subquery)?;
        }
    }
    plan.inputs().into_iter().try_for_each(check_expressions)
}

fn check_expression(expr: &Expr) -> Result<(), SqlError> {
    first_problem(expr, |expr| match expr {
        Expr::ScalarFunction(function) if function.func.signature().volatility != Volatility::Immutable => {
            Some(refuse(
                &format!("{}()", function.func.name()),
                "its answer changes although no row does; use a column of the row",
            ))
        }
        Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() && !is_one_row(&subquery.subquery) => {
            Some(refuse(
                "a scalar subquery of more than one row",
                "make it one row with an aggregate: (SELECT MAX(x) …)",
            ))
        }
        _ => None,
    })
}

/// What the optimiser could not turn into a join.
fn no_subquery(expr: &Expr) -> Result<(), SqlError> {
    first_problem(expr, |expr| match expr {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
            Some(refuse("this subquery", "write it as a join, or use it in WHERE"))
        }
        Expr::OuterReferenceColumn(_, _) => {
            Some(refuse("this correlated subquery", "correlate it by equalities, or write it as a join"))
        }
        _ => None,
    })
}

fn first_problem(expr: &Expr, find: impl Fn(&Expr) -> Option<SqlError>) -> Result<(), SqlError> {
    let mut problem = None;
    let walk = expr.apply(|expr| {
        problem = find(expr);
        Ok(if problem.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (walk, problem) {
        (_, Some(problem)) => Err(problem),
        (Err(error), None) => Err(SqlError::new(SqlError::PLAN, error.to_string())),
        (Ok(_), None) => Ok(()),
    }
}

fn subqueries(expr: &Expr) -> Result<Vec<Subquery>, SqlError> {
    let mut found = vec![];
    let walk = expr.apply(|expr| {
        found.extend(match expr {
            Expr::Exists(exists) => Some(exists.subquery.clone()),
            Expr::InSubquery(inside) => Some(inside.subquery.clone()),
            Expr::ScalarSubquery(subquery) => Some(subquery.clone()),
            Expr::SetComparison(comparison) => Some(comparison.subquery.clone()),
            _ => None,
        });
        Ok(TreeNodeRecursion::Continue)
    });
    walk.map_err(|error| SqlError::new(SqlError::PLAN, error.to_string()))?;
    Ok(found)
}

/// Whether a plan has at most one row whatever its inputs have.
fn is_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_one_row(&alias.input),
        LogicalPlan::Filter(filter) => is_one_row(&filter.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}

fn map_key(key: Option<&[usize]>, columns: &[usize]) -> Option<Vec<usize>> {
    let sources: Vec<Option<usize>> = columns.iter().map(|column| Some(*column)).collect();
    map_key_from(key, &sources)
}

/// The key's place in an output whose column `i` is input column `sources[i]`.
fn map_key_from(key: Option<&[usize]>, sources: &[Option<usize>]) -> Option<Vec<usize>> {
    key?.iter().map(|column| sources.iter().position(|source| *source == Some(*column))).collect()
}

fn column_index(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.index_of_column(column).ok(),
        Expr::Alias(alias) => column_index(&alias.expr, schema),
        _ => None,
    }
}

/// How an expression over an input's columns is bounded in time.
fn expression_time(expr: &Expr, schema: &DFSchema, input: &Properties) -> Option<TimeBound> {
    // Into another zone a clock is moved by hours, and days there have not always 24 of them.
    if let Ok(DataType::Timestamp(_, Some(zone))) = expr.get_type(schema)
        && !["UTC", "+00:00"].contains(&zone.as_ref())
    {
        return None;
    }
    match expr {
        Expr::Column(column) => input.time.get(schema.index_of_column(column).ok()?)?.clone(),
        Expr::Alias(alias) => expression_time(&alias.expr, schema, input),
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(_, _)) => {
            // A coarser unit rounds down: one second covers every unit.
            Some(expression_time(&cast.expr, schema, input)?.then(&[TimeTransform::Floor { us: 1_000_000 }]))
        }
        Expr::ScalarFunction(function) => {
            let bound = |index: usize| expression_time(function.args.get(index)?, schema, input);
            let interval = |index: usize| match function.args.get(index)? {
                Expr::Literal(value, _) => interval_us(value),
                _ => None,
            };
            match function.func.name() {
                "tumble_start" => Some(bound(0)?.then(&[TimeTransform::Floor { us: interval(1)? }])),
                "tumble_end" => {
                    let us = interval(1)?;
                    Some(bound(0)?.then(&[TimeTransform::Floor { us }, TimeTransform::Add { us }]))
                }
                "cumulate_ends" => {
                    let us = interval(1)?;
                    Some(bound(0)?.then(&[TimeTransform::Floor { us }, TimeTransform::Add { us }]))
                }
                "window_end" => Some(bound(0)?.then(&[TimeTransform::Add { us: interval(1)? }])),
                "hop_starts" => {
                    let (slide, size) = (interval(1)?, interval(2)?);
                    let transforms = [TimeTransform::Floor { us: slide }, TimeTransform::Add { us: slide - size }];
                    Some(bound(0)?.then(&transforms))
                }
                "date_trunc" => {
                    let Some(Expr::Literal(ScalarValue::Utf8(Some(unit)), _)) = function.args.first() else {
                        return None;
                    };
                    let us = match unit.to_lowercase().as_str() {
                        "second" => 1_000_000,
                        "minute" => 60_000_000,
                        "hour" => 3_600_000_000,
                        "day" => 86_400_000_000,
                        _ => return None,
                    };
                    Some(bound(1)?.then(&[TimeTransform::Floor { us }]))
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
            let Expr::Literal(value, _) = right.as_ref() else { return None };
            let us = interval_us(value)?;
            let us = if *op == Operator::Plus { us } else { -us };
            Some(expression_time(left, schema, input)?.then(&[TimeTransform::Add { us }]))
        }
        _ => None,
    }
}

fn interval_us(value: &ScalarValue) -> Option<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = value else { return None };
    (interval.months == 0).then(|| i64::from(interval.days) * 86_400_000_000 + interval.nanoseconds / 1_000)
}

fn aggregate_properties(
    aggregate: &Aggregate,
    lookup: &dyn Fn(&str) -> Option<Properties>,
) -> Result<Properties, SqlError> {
    let input = properties(&aggregate.input, lookup)?;
    let sets = grouping_sets(aggregate);
    if sets.as_ref().is_some_and(|sets| sets.len() > GROUPING_SETS_LIMIT) {
        return Err(refuse(&format!("more than {GROUPING_SETS_LIMIT} grouping sets"), "write a view for some of them"));
    }
    for expr in &aggregate.aggr_expr {
        check_aggregate(expr)?;
    }
    let schema = aggregate.input.schema();
    let groups = group_columns(aggregate);
    let mut time: Vec<_> = match sets {
        // A column is null in the sets that leave it out, and no time frees those groups.
        Some(_) => vec![None; groups],
        None => aggregate.group_expr.iter().map(|expr| expression_time(expr, schema, &input)).collect(),
    };
    time.extend(vec![None; aggregate.aggr_expr.len()]);
    Ok(Properties {
        append_only: input.append_only && aggregate.aggr_expr.is_empty(),
        key: Some((0..groups).collect()),
        time,
        is_static: input.is_static,
    })
}

/// Most grouping sets of one query; a row is grouped in each.
const GROUPING_SETS_LIMIT: usize = 64;

/// Columns of an aggregate's output before its results: the groups, and the number of the grouping set.
fn group_columns(aggregate: &Aggregate) -> usize {
    aggregate.schema.fields().len() - aggregate.aggr_expr.len()
}

/// The groups of each grouping set, where there are several.
pub fn grouping_sets(aggregate: &Aggregate) -> Option<Vec<Vec<Expr>>> {
    let [Expr::GroupingSet(set)] = aggregate.group_expr.as_slice() else { return None };
    Some(match set {
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|length| exprs[..length].to_vec()).collect(),
        GroupingSet::Cube(exprs) => {
            // More than can be counted is more than the limit.
            let sets = 1_usize << exprs.len().min(16);
            let chosen = |set: usize| exprs.iter().enumerate().filter(move |(at, _)| set >> (at % 16) & 1 == 0);
            (0..sets).map(|set| chosen(set).map(|(_, expr)| expr.clone()).collect()).collect()
        }
        GroupingSet::GroupingSets(sets) => sets.clone(),
    })
}

/// Aggregates that the stream engine has.
const AGGREGATES: [&str; 22] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "first_value",
    "last_value",
    "array_agg",
    "string_agg",
    "median",
];

fn check_aggregate(expr: &Expr) -> Result<(), SqlError> {
    match expr {
        Expr::Alias(alias) => check_aggregate(&alias.expr),
        Expr::AggregateFunction(function) => {
            let name = function.func.name();
            if !AGGREGATES.contains(&name) {
                return Err(refuse(&format!("{name}()"), &format!("these can be: {}", AGGREGATES.join(", "))));
            }
            if name == "bit_xor" && function.params.distinct {
                return Err(refuse("bit_xor(DISTINCT …)", "take bit_xor() over a view with SELECT DISTINCT"));
            }
            if name == "count" && function.params.args.len() > 1 {
                return Err(refuse("COUNT of several columns", "count the rows where none is null with FILTER"));
            }
            Ok(())
        }
        other => Err(refuse(&other.schema_name().to_string(), &format!("these can be: {}", AGGREGATES.join(", ")))),
    }
}

/// The group column whose bound lets old groups go, with that bound.
pub(crate) fn aggregate_bound(output: &Properties, groups: usize) -> Option<(usize, TimeBound)> {
    first_bound(output, 0..groups)
}

fn first_bound(properties: &Properties, columns: impl IntoIterator<Item = usize>) -> Option<(usize, TimeBound)> {
    columns.into_iter().find_map(|column| Some((column, properties.time.get(column)?.clone()?)))
}

fn top_n_properties(top: &TopN, lookup: &dyn Fn(&str) -> Option<Properties>) -> Result<Properties, SqlError> {
    let input = properties(&top.window.input, lookup)?;
    let schema = top.window.input.schema();
    let partition = &top.function.params.partition_by;
    let columns: Option<Vec<usize>> = partition.iter().map(|expr| column_index(expr, schema)).collect();
    let rank = schema.fields().len();
    let partition_key = columns.clone().filter(|_| top.ranking == Ranking::RowNumber).map(|mut columns| {
        if top.limit > 1 {
            columns.push(rank);
        }
        columns
    });
    // Rows leave the top only for partitions that can still change.
    let mut time = vec![None; rank + 1];
    for column in columns.iter().flatten() {
        time[*column] = input.time.get(*column).cloned().flatten();
    }
    Ok(Properties { append_only: false, key: partition_key.or(input.key), time, is_static: input.is_static })
}

/// Which sides' rows a join shows once each, whether or not they are matched and never beside nulls of their own.
fn keeps_rows(kind: JoinType) -> [bool; 2] {
    match kind {
        JoinType::Inner => [true, true],
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => [true, false],
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => [false, true],
        JoinType::Full => [false, false],
    }
}

fn join_properties(join: &Join, lookup: &dyn Fn(&str) -> Option<Properties>) -> Result<Properties, SqlError> {
    let left = properties(&join.left, lookup)?;
    let right = properties(&join.right, lookup)?;
    let kind = join.join_type;
    if join.null_aware && (join.on.len() != 1 || join.filter.is_some()) {
        return Err(refuse(
            "NOT IN with a correlated subquery",
            "write NOT EXISTS, which says the same where no value is null",
        ));
    }
    let left_on: Vec<Option<usize>> = join.on.iter().map(|(expr, _)| column_index(expr, join.left.schema())).collect();
    let right_on: Vec<Option<usize>> =
        join.on.iter().map(|(_, expr)| column_index(expr, join.right.schema())).collect();
    let keeps = keeps_rows(kind);
    // Another side's late match shows an old row again, or hides it, so a time column stays bounded only when it is
    // joined on, or when the other side never changes.
    let bounds = |side: usize, own: &Properties, other: &Properties, on: &[Option<usize>], others: &[Option<usize>]| {
        let joined = |column: usize| {
            let at = on.iter().position(|on| *on == Some(column))?;
            let other = other.time.get(others[at]?)?.as_ref()?;
            Some(own.time[column].as_ref()?.and(other))
        };
        let bound = |column: usize| match &own.time[column] {
            Some(bound) if keeps[side] => joined(column).or_else(|| other.is_static.then(|| bound.clone())),
            _ => None,
        };
        (0..own.time.len()).map(bound).collect::<Vec<_>>()
    };
    let left_time = bounds(0, &left, &right, &left_on, &right_on);
    let right_time = bounds(1, &right, &left, &right_on, &left_on);
    let shows_left = !matches!(kind, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
    let shows_right = !matches!(kind, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
    let mut time = vec![];
    time.extend(if shows_left { left_time } else { vec![] });
    time.extend(if shows_right { right_time } else { vec![] });
    time.resize(join.schema.fields().len(), None);
    let append_only = left.append_only
        && right.append_only
        && match kind {
            JoinType::Inner | JoinType::LeftSemi | JoinType::RightSemi => true,
            JoinType::Left | JoinType::LeftAnti | JoinType::LeftMark => right.is_static,
            JoinType::Right | JoinType::RightAnti | JoinType::RightMark => left.is_static,
            JoinType::Full => left.is_static && right.is_static,
        };
    let key = match (shows_left, shows_right) {
        (true, false) => left.key.clone(),
        (false, _) => right.key.clone(),
        (true, true) => pair_key(kind, &left, &right, &left_on, &right_on),
    };
    Ok(Properties { append_only, key, time, is_static: left.is_static && right.is_static })
}

/// The key of the pairs of a join.
fn pair_key(
    kind: JoinType,
    left: &Properties,
    right: &Properties,
    left_on: &[Option<usize>],
    right_on: &[Option<usize>],
) -> Option<Vec<usize>> {
    let covers = |key: &Option<Vec<usize>>, on: &[Option<usize>]| {
        key.as_ref().is_some_and(|key| key.iter().all(|column| on.contains(&Some(*column))))
    };
    let width = left.time.len();
    let shift = |key: &Vec<usize>| key.iter().map(|column| column + width).collect::<Vec<_>>();
    let keeps = keeps_rows(kind);
    if covers(&right.key, right_on) && keeps[0] {
        left.key.clone()
    } else if covers(&left.key, left_on) && keeps[1] {
        right.key.as_ref().map(shift)
    } else {
        left.key
            .as_ref()
            .zip(right.key.as_ref())
            .map(|(left, right)| left.iter().copied().chain(shift(right)).collect())
    }
}

/// The equality (its number in `join.on`) whose bounds let old rows of both sides go.
pub(crate) fn join_bound(join: &Join, left: &Properties, right: &Properties) -> Option<(usize, TimeBound)> {
    if join.null_aware {
        // What NOT IN says depends on every row of its right side.
        return None;
    }
    join.on.iter().enumerate().find_map(|(index, (l, r))| {
        let l = expression_time(l, join.left.schema(), left)?;
        let r = expression_time(r, join.right.schema(), right)?;
        Some((index, l.and(&r)))
    })
}

/// What lets a row of one side of a join go: when the bound has passed the row's `until`, no row that the other side can
/// still get matches it.
#[derive(Clone, Debug)]
pub struct Retention {
    /// A timestamp over the row's own columns.
    pub until: Expr,
    /// Of a time column of the other side.
    pub bound: TimeBound,
}

/// How long each side's rows are needed, derived from conditions like `bid.ts BETWEEN auction.ts AND auction.expires`.
///
/// Only where no row of either side is ever taken back: taking one back asks for its matches again, however old.
pub(crate) fn join_retention(join: &Join, left: &Properties, right: &Properties) -> [Option<Retention>; 2] {
    if join.null_aware || !left.append_only || !right.append_only || join_bound(join, left, right).is_some() {
        return [None, None];
    }
    let conditions: Vec<Expr> = join.filter.iter().flat_map(|filter| conjuncts(filter)).flat_map(comparisons).collect();
    let sides = [(&join.left, left), (&join.right, right)];
    [0, 1].map(|own| {
        let ((input, _), (other, properties)) = (sides[own], sides[1 - own]);
        conditions.iter().find_map(|condition| retention(condition, input.schema(), other.schema(), properties))
    })
}

/// `other <= own` as what it says about rows of the side with the schema `own`.
fn retention(condition: &Expr, own: &DFSchema, other: &DFSchema, properties: &Properties) -> Option<Retention> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let (lower, upper) = match op {
        Operator::LtEq | Operator::Lt => (left, right),
        Operator::GtEq | Operator::Gt => (right, left),
        _ => return None,
    };
    let is_of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.index_of_column(column).is_ok())
    };
    let is_time = matches!(upper.get_type(own), Ok(DataType::Timestamp(_, _)));
    if !is_time || !is_of(upper, own) || !is_of(lower, other) {
        return None;
    }
    let bound = expression_time(lower, other, properties)?;
    Some(Retention { until: upper.as_ref().clone(), bound })
}

/// `x BETWEEN a AND b` as its two comparisons.
fn comparisons(condition: Expr) -> Vec<Expr> {
    match condition {
        Expr::Between(between) if !between.negated => {
            let compare = |op, bound: Box<Expr>| Expr::BinaryExpr(BinaryExpr::new(between.expr.clone(), op, bound));
            vec![compare(Operator::GtEq, between.low.clone()), compare(Operator::LtEq, between.high.clone())]
        }
        other => vec![other],
    }
}

fn union_properties(union: &Union, lookup: &dyn Fn(&str) -> Option<Properties>) -> Result<Properties, SqlError> {
    let inputs: Vec<Properties> =
        union.inputs.iter().map(|input| properties(input, lookup)).collect::<Result<_, _>>()?;
    let width = union.schema.fields().len();
    let time = (0..width)
        .map(|column| {
            let mut bounds = inputs.iter().map(|input| input.time.get(column).cloned().flatten());
            let first = bounds.next().flatten()?;
            bounds.try_fold(first, |all, bound| Some(all.and(&bound?)))
        })
        .collect();
    Ok(Properties {
        append_only: inputs.iter().all(|input| input.append_only),
        key: None,
        time,
        is_static: inputs.iter().all(|input| input.is_static),
    })
}

fn unnest_properties(unnest: &Unnest, lookup: &dyn Fn(&str) -> Option<Properties>) -> Result<Properties, SqlError> {
    if !unnest.struct_type_columns.is_empty() || unnest.list_type_columns.len() != 1 {
        return Err(refuse("UNNEST of several columns or of a struct", "unnest one list at a time"));
    }
    let input = properties(&unnest.input, lookup)?;
    let time = unnest.dependency_indices.iter().map(|source| input.time.get(*source).cloned().flatten()).collect();
    Ok(Properties { key: None, time, ..input })
}

/// Tables whose watermark frees some operator's state: late rows of these must not reach it.
pub(crate) fn bounding_sources(
    plan: &LogicalPlan,
    lookup: &dyn Fn(&str) -> Option<Properties>,
) -> Result<BTreeSet<String>, SqlError> {
    let mut found = BTreeSet::new();
    let mut add = |bound: Option<(usize, TimeBound)>| {
        found.extend(bound.iter().flat_map(|(_, bound)| bound.sources().map(String::from)));
    };
    match plan {
        LogicalPlan::Filter(filter) if top_n(filter).is_some() => {
            let output = properties(plan, lookup)?;
            add(first_bound(&output, 0..output.time.len()));
        }
        LogicalPlan::Aggregate(aggregate) => {
            add(aggregate_bound(&properties(plan, lookup)?, group_columns(aggregate)));
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (properties(&join.left, lookup)?, properties(&join.right, lookup)?);
            add(join_bound(join, &left, &right));
            for retention in join_retention(join, &left, &right).into_iter().flatten() {
                add(Some((0, retention.bound)));
            }
        }
        LogicalPlan::Window(_) => add(state_bound(plan, lookup)?),
        _ => {}
    }
    for input in plan.inputs() {
        found.extend(bounding_sources(input, lookup)?);
    }
    Ok(found)
}

/// What bounds the state of one operator, for the stream engine and for EXPLAIN.
pub(crate) fn state_bound(
    plan: &LogicalPlan,
    lookup: &dyn Fn(&str) -> Option<Properties>,
) -> Result<Option<(usize, TimeBound)>, SqlError> {
    Ok(match plan {
        LogicalPlan::Filter(filter) if top_n(filter).is_some() => {
            let output = properties(plan, lookup)?;
            first_bound(&output, 0..output.time.len())
        }
        LogicalPlan::Aggregate(aggregate) => aggregate_bound(&properties(plan, lookup)?, group_columns(aggregate)),
        LogicalPlan::Join(join) => {
            join_bound(join, &properties(&join.left, lookup)?, &properties(&join.right, lookup)?)
        }
        LogicalPlan::Window(window) => {
            let output = properties(plan, lookup)?;
            session_bound(window, &output).or_else(|| first_bound(&output, 0..window.input.schema().fields().len()))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_follows_its_transforms_and_waits_for_every_source() {
        let bound = TimeBound(vec![
            ("a".into(), vec![TimeTransform::Floor { us: 10 }, TimeTransform::Add { us: 10 }]),
            ("b".into(), vec![]),
        ]);
        assert_eq!(bound.evaluate(|source| if source == "a" { Some(27) } else { Some(100) }), Some(30));
        assert_eq!(bound.evaluate(|source| (source == "a").then_some(27)), None);
    }
}
