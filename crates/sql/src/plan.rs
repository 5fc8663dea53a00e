//! Statements to plans.

use crate::catalog::{ExternalTable, Relation, RelationKind, TableDefinition, ViewDefinition};
use crate::error::{Source, SqlError, suggestion};
use crate::functions::register_functions;
use crate::parse::{CreateView, Parsed, TABLE_AS_OF, query_relations};
use crate::properties::{
    Properties, Retention, TimeBound, bounding_sources, check_expressions, join_retention, properties, state_bound,
};
use crate::session::{SESSION_END, SESSION_START};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{TableProvider, TableType, provider_as_source};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::context::SessionContext;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Expr, FetchType, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, SkipType, TableScan, Window,
    WindowFrameUnits, WindowFunctionDefinition, col, lit,
};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, DataType as SqlType, Query, Statement as SqlStatement, TimezoneInfo,
};
use rivermere_base::Opaque;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Hidden column of a table with a watermark: its partition's watermark just before the row, minus the row's event
/// time, in microseconds. At most 0 when the row is on time. It follows from offset order alone, so batch, replay and
/// every cut into steps agree on which rows are late.
pub const LATENESS_COLUMN: &str = "_lateness";

/// Number of a row in the order of `ORDER BY … LIMIT`.
const LIMIT_COLUMN: &str = "__row_number";

/// Part of every fingerprint: a new layout of state makes old state unusable.
const STATE_LAYOUT: u32 = 2;

/// What a view computes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Over scans of [`RelationProvider`]s; optimised with rules that batch and stream share.
    pub logical: Opaque<LogicalPlan>,
    pub schema: SchemaRef,
    pub properties: Properties,
    /// Relations that it reads directly.
    pub inputs: BTreeSet<String>,
    /// Tables whose late rows are left out, because their watermark frees state.
    pub late_filtered: BTreeSet<String>,
    /// Changes whenever the state of the view would mean something else.
    pub fingerprint: String,
}

/// Plans statements over the relations it was told of.
pub struct Planner {
    context: SessionContext,
    relations: BTreeMap<String, Relation>,
    /// Names of tables of the lake whose columns are not known: taken, and not to be read by views.
    externals: BTreeSet<String>,
}

impl Default for Planner {
    fn default() -> Self {
        Self::new()
    }
}

impl Planner {
    pub fn new() -> Self {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_information_schema(false)
            .set_bool("datafusion.sql_parser.collect_spans", true)
            // A scalar subquery is a join, which can be maintained.
            .set_bool("datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery", false)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let mut context = SessionContext::new_with_config(config);
        // A fresh session takes functions.
        let _ = register_functions(&mut context);
        Self { context, relations: BTreeMap::new(), externals: BTreeSet::new() }
    }

    pub fn relations(&self) -> &BTreeMap<String, Relation> {
        &self.relations
    }

    /// # Errors
    /// When the name is taken.
    pub fn add_table(&mut self, table: TableDefinition) -> Result<Arc<TableDefinition>, SqlError> {
        let table = Arc::new(table);
        let time = table.schema.fields().iter().map(|field| {
            let watermark = table.watermark.as_ref().filter(|watermark| watermark.column == *field.name());
            watermark.map(|_| TimeBound::of_source(&table.name))
        });
        let properties =
            Properties { append_only: true, key: None, time: time.collect(), is_static: table.is_bounded() };
        self.add(Relation {
            name: table.name.clone(),
            schema: table.schema.clone(),
            kind: RelationKind::Table(table.clone()),
            properties,
        })?;
        Ok(table)
    }

    /// # Errors
    /// When the name is taken.
    pub fn add_view(&mut self, view: Arc<ViewDefinition>) -> Result<(), SqlError> {
        let mut properties = view.plan.properties.clone();
        // A bound holds for readers only when late rows never got in.
        for bound in &mut properties.time {
            let holds = |bound: &TimeBound| bound.sources().all(|source| view.plan.late_filtered.contains(source));
            if !bound.as_ref().is_some_and(holds) {
                *bound = None;
            }
        }
        self.add(Relation {
            name: view.name.clone(),
            schema: view.plan.schema.clone(),
            kind: RelationKind::View(view),
            properties,
        })
    }

    /// # Errors
    /// When the name is taken.
    pub fn add(&mut self, relation: Relation) -> Result<(), SqlError> {
        if self.relations.contains_key(&relation.name) || self.externals.contains(&relation.name) {
            return Err(twice(&relation.name));
        }
        let provider = RelationProvider { schema: relation.schema.clone() };
        self.context
            .register_table(TableReference::bare(relation.name.as_str()), Arc::new(provider))
            .map_err(|error| SqlError::new(SqlError::PLAN, error.to_string()))?;
        self.relations.insert(relation.name.clone(), relation);
        Ok(())
    }

    /// Takes note of an external table, which views can read when its columns are known.
    ///
    /// # Errors
    /// When the name is taken, or a column has the name of a hidden one.
    pub fn add_external(&mut self, external: &Arc<ExternalTable>) -> Result<(), SqlError> {
        let Some(schema) = &external.columns else {
            if self.relations.contains_key(&external.name) || !self.externals.insert(external.name.clone()) {
                return Err(twice(&external.name));
            }
            return Ok(());
        };
        if schema.field_with_name(LATENESS_COLUMN).is_ok() {
            let message = format!("'{}' has a column '{LATENESS_COLUMN}'", external.name);
            return Err(SqlError::new(SqlError::NAME, message).hint("such names are for the platform's own columns"));
        }
        let time = vec![None; schema.fields().len()];
        self.add(Relation {
            name: external.name.clone(),
            schema: schema.clone(),
            kind: RelationKind::Lake(external.clone()),
            properties: Properties { append_only: false, key: None, time, is_static: false },
        })
    }

    /// Forgets a relation or an external table.
    pub fn remove(&mut self, name: &str) -> Option<Relation> {
        self.externals.remove(name);
        let _ = self.context.deregister_table(TableReference::bare(name));
        self.relations.remove(name)
    }

    /// A query as DataFusion plans it, not optimised.
    ///
    /// # Errors
    /// Unknown names and wrong types, with their place.
    pub fn plan_query(&self, query: &Query, parsed: &Parsed) -> Result<LogicalPlan, SqlError> {
        self.check_names(query, parsed)?;
        self.logical(query).map_err(|error| {
            let found = SqlError::from_datafusion(&error, &parsed.source);
            let location = found.location.clone().or_else(|| parsed.location.clone());
            found.at(location)
        })
    }

    /// A view, checked to be maintainable.
    ///
    /// # Errors
    /// Unknown names, wrong types, operators that cannot be maintained.
    pub fn plan_view(&self, create: &CreateView, parsed: &Parsed) -> Result<Arc<ViewDefinition>, SqlError> {
        let plan = self.plan_incremental(&create.query, parsed)?;
        Ok(Arc::new(ViewDefinition::new(create, parsed, plan)?))
    }

    /// The plan of a maintained query.
    ///
    /// # Errors
    /// As [`plan_view`](Self::plan_view).
    pub fn plan_incremental(&self, query: &Query, parsed: &Parsed) -> Result<Plan, SqlError> {
        let logical = self.plan_query(query, parsed)?;
        let place = |error: SqlError| {
            let location = error.location.clone().or_else(|| parsed.location.clone());
            error.at(location)
        };
        self.incremental(logical, &parsed.source).map_err(place)
    }

    fn incremental(&self, logical: LogicalPlan, source: &Source) -> Result<Plan, SqlError> {
        let failed = |error: DataFusionError| SqlError::from_datafusion(&error, source);
        let logical = limits_as_ranks(logical).map_err(failed)?;
        check_view_shape(&logical)?;
        check_expressions(&logical)?;
        let logical = self.optimise(logical).map_err(failed)?;
        let logical = filters_beside_windows(logical).map_err(failed)?;
        let logical = total_order(logical).map_err(failed)?;
        let lookup = |name: &str| self.relations.get(name).map(|relation| relation.properties.clone());
        let bounding = bounding_sources(&logical, &lookup)?;
        let logical = leave_out_late_rows(logical, &bounding, &self.relations).map_err(failed)?;
        let properties = properties(&logical, &|name| self.lookup(name, &bounding))?;
        let schema = unique_names(&logical)?;
        let mut inputs = BTreeSet::new();
        collect_inputs(&logical, &mut inputs);
        let mut text = format!("{STATE_LAYOUT}\n{}\n{schema:?}", logical.display_indent_schema());
        logical.apply(|node| Ok(unsaid(node, &mut text))).map_err(failed)?;
        for input in &inputs {
            if let Some(relation) = self.relations.get(input) {
                text.push_str(&match &relation.kind {
                    RelationKind::Table(table) => format!("\n{input} {:?} {:?}", table.watermark, table.connector),
                    RelationKind::View(view) => format!("\n{input} {}", view.plan.fingerprint),
                    RelationKind::Lake(table) => format!("\n{input} {} {}", table.place.format, table.place.location),
                    RelationKind::Other => format!("\n{input}"),
                });
            }
        }
        let fingerprint = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()));
        Ok(Plan { logical: Opaque::new(logical), schema, properties, inputs, late_filtered: bounding, fingerprint })
    }

    /// Properties of a relation, whose hidden column takes the last place where late rows are filtered.
    fn lookup(&self, name: &str, late_filtered: &BTreeSet<String>) -> Option<Properties> {
        let mut properties = self.relations.get(name)?.properties.clone();
        if late_filtered.contains(name) {
            properties.time.push(None);
        }
        Some(properties)
    }

    /// Properties of each node of a plan, as the stream engine needs them.
    ///
    /// # Errors
    /// When an operator cannot be maintained.
    pub fn node_properties(&self, plan: &LogicalPlan) -> Result<Properties, SqlError> {
        properties(plan, &|name| self.relations.get(name).map(|relation| relation.properties.clone()))
    }

    /// The column and bound that free an operator's state, if any.
    ///
    /// # Errors
    /// When an operator cannot be maintained.
    pub fn state_bound(&self, plan: &LogicalPlan) -> Result<Option<(usize, TimeBound)>, SqlError> {
        state_bound(plan, &|name| self.relations.get(name).map(|relation| relation.properties.clone()))
    }

    /// What lets rows of a join's sides go one by one, if anything does.
    ///
    /// # Errors
    /// When an operator cannot be maintained.
    pub fn join_retention(&self, join: &Join) -> Result<[Option<Retention>; 2], SqlError> {
        let (left, right) = (self.node_properties(&join.left)?, self.node_properties(&join.right)?);
        Ok(join_retention(join, &left, &right))
    }

    fn check_names(&self, query: &Query, parsed: &Parsed) -> Result<(), SqlError> {
        for name in query_relations(query) {
            if !self.relations.contains_key(&name) {
                let location = parsed.source.find_word(&name, parsed.location.as_ref());
                let unread = if self.externals.contains(&name) {
                    let hint = "give its columns in CREATE EXTERNAL TABLE, or see to it that it can be opened";
                    Some(("a table of the lake whose columns are not known", hint))
                } else if crate::LakeFormat::of(&name).is_some() {
                    let hint = "CREATE EXTERNAL TABLE name STORED AS … LOCATION '…', and read the name";
                    Some(("a table of the lake by its place", hint))
                } else if name == TABLE_AS_OF {
                    Some(("an older version of a table", "leave VERSION or TIMESTAMP AS OF out: a view is of now"))
                } else if ["parquet", "csv", "json"].contains(&name.as_str()) {
                    Some(("files without a definition", "CREATE TABLE … WITH ('connector' = 'file', 'path' = '…')"))
                } else {
                    None
                };
                if let Some((what, hint)) = unread {
                    return Err(SqlError::new(SqlError::NOT_MAINTAINABLE, format!("a view cannot read {what} yet"))
                        .hint(hint)
                        .at(location.or_else(|| parsed.location.clone())));
                }
                let names = self.relations.keys().map(String::as_str);
                let known: Vec<&str> = self.relations.keys().map(String::as_str).collect();
                let all = if known.is_empty() {
                    "CREATE TABLE first".to_string()
                } else {
                    format!("there are: {}", known.join(", "))
                };
                return Err(SqlError::new(SqlError::NAME, format!("table or view '{name}' does not exist"))
                    .hint(suggestion(&name, names).unwrap_or(all))
                    .at(location.or_else(|| parsed.location.clone())));
            }
        }
        Ok(())
    }

    fn logical(&self, query: &Query) -> DataFusionResult<LogicalPlan> {
        let statement = DataFusionStatement::Statement(Box::new(SqlStatement::Query(Box::new(query.clone()))));
        // Planning awaits only the in-memory catalog, which is always ready.
        futures::executor::block_on(self.context.state().statement_to_plan(statement))
    }

    fn optimise(&self, plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
        let mut state = self.context.state();
        // Names that rules make up are numbered from 1 for each plan, or its fingerprint would depend on other plans.
        state.execution_props_mut().alias_generator = Default::default();
        let analysed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
        Optimizer::with_rules(shared_rules()).optimize(analysed, &state, |_, _| {})
    }
}

fn twice(name: &str) -> SqlError {
    SqlError::new(SqlError::DUPLICATE, format!("'{name}' is defined twice")).hint("give one of them another name")
}

/// Rules that keep a plan's meaning for relations that change; rules for limits, sorts and bounded inputs are left out.
fn shared_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    use datafusion::optimizer as o;
    vec![
        Arc::new(o::rewrite_set_comparison::RewriteSetComparison::new()),
        Arc::new(o::optimize_unions::OptimizeUnions::new()),
        Arc::new(o::simplify_expressions::SimplifyExpressions::new()),
        Arc::new(o::replace_distinct_aggregate::ReplaceDistinctWithAggregate::new()),
        Arc::new(o::decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
        Arc::new(o::scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
        Arc::new(o::decorrelate_lateral_join::DecorrelateLateralJoin::new()),
        Arc::new(o::extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
        Arc::new(o::eliminate_duplicated_expr::EliminateDuplicatedExpr::new()),
        Arc::new(o::eliminate_filter::EliminateFilter::new()),
        Arc::new(o::eliminate_cross_join::EliminateCrossJoin::new()),
        Arc::new(o::eliminate_outer_join::EliminateOuterJoin::new()),
        Arc::new(o::push_down_filter::PushDownFilter::new()),
        Arc::new(o::single_distinct_to_groupby::SingleDistinctToGroupBy::new()),
        Arc::new(o::eliminate_group_by_constant::EliminateGroupByConstant::new()),
        Arc::new(o::common_subexpr_eliminate::CommonSubexprEliminate::new()),
        Arc::new(o::optimize_projections::OptimizeProjections::new()),
    ]
}

/// A view's query may not end in an order or a limit, which the optimiser could hide.
fn check_view_shape(plan: &LogicalPlan) -> Result<(), SqlError> {
    match plan {
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => properties(plan, &|_| None).map(|_| ()),
        LogicalPlan::Projection(projection) => check_view_shape(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => check_view_shape(&alias.input),
        _ => Ok(()),
    }
}

/// `ORDER BY o LIMIT n` as the rows whose number in that order is at most n.
fn limits_as_ranks(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let rewritten = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Limit(limit) = &node else { return Ok(Transformed::no(node)) };
        let (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Ok(Transformed::no(node));
        };
        let (sort, shown) = match limit.input.as_ref() {
            LogicalPlan::Sort(sort) => {
                (sort, sort.input.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>())
            }
            LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                LogicalPlan::Sort(sort) => (sort, projection.expr.clone()),
                _ => return Ok(Transformed::no(node)),
            },
            _ => return Ok(Transformed::no(node)),
        };
        let mut number = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number_udwf()), vec![]);
        number.params.order_by.clone_from(&sort.expr);
        let last = lit(skip.saturating_add(fetch) as u64);
        let mut first_rows = col(LIMIT_COLUMN).lt_eq(last);
        if skip > 0 {
            first_rows = first_rows.and(col(LIMIT_COLUMN).gt(lit(skip as u64)));
        }
        let plan = LogicalPlanBuilder::from(sort.input.as_ref().clone())
            .window(vec![Expr::from(number).alias(LIMIT_COLUMN)])?
            .filter(first_rows)?
            .project(shown)?
            .build()?;
        Ok(Transformed::yes(plan))
    })?;
    Ok(rewritten.data)
}

/// Puts a filter below a projection of plain columns that stands between it and a window: the optimiser leaves one there
/// when the query does not show every column of the window's order.
fn filters_beside_windows(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        let LogicalPlan::Filter(filter) = &node else { return Ok(Transformed::no(node)) };
        let LogicalPlan::Projection(projection) = filter.input.as_ref() else { return Ok(Transformed::no(node)) };
        let plain = projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_)));
        if !plain || !matches!(projection.input.as_ref(), LogicalPlan::Window(_)) {
            return Ok(Transformed::no(node));
        }
        let below = LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), projection.input.clone())?);
        let above = Projection::try_new(projection.expr.clone(), Arc::new(below))?;
        Ok(Transformed::yes(LogicalPlan::Projection(above)))
    })?;
    Ok(rewritten.data)
}

/// Makes every order that a result depends on total, so that ties are decided in the same way by batch and stream:
/// ROW_NUMBER by every input column, an aggregate over rows in an order by its arguments.
fn total_order(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        Ok(match node {
            LogicalPlan::Window(window) => Transformed::yes(windows_in_total_order(window)?),
            LogicalPlan::Aggregate(aggregate) => {
                let mut aggr_expr = aggregate.aggr_expr.clone();
                for expr in &mut aggr_expr {
                    let name = expr.schema_name().to_string();
                    if let Some(function) = order_matters(expr) {
                        let arguments = function.params.args.iter();
                        let arguments: Vec<Expr> =
                            arguments.filter(|expr| !matches!(expr, Expr::Literal(_, _))).cloned().collect();
                        order_further(&mut function.params.order_by, &arguments);
                        *expr = named(expr.clone(), name);
                    }
                }
                let schema = aggregate.schema.clone();
                let (input, groups) = (aggregate.input.clone(), aggregate.group_expr.clone());
                let ordered = Aggregate::try_new_with_schema(input, groups, aggr_expr, schema)?;
                Transformed::yes(LogicalPlan::Aggregate(ordered))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(rewritten.data)
}

fn windows_in_total_order(window: Window) -> DataFusionResult<LogicalPlan> {
    let columns: Vec<Expr> = window.input.schema().columns().into_iter().map(Expr::Column).collect();
    let (mut ordered, mut others, mut names) = (vec![], vec![], vec![]);
    for mut expr in window.window_expr.clone() {
        // The column keeps the name that the query's own order gave it.
        let name = expr.schema_name().to_string();
        names.push(name.clone());
        match ties_matter(&mut expr) {
            Some(function) => {
                order_further(&mut function.params.order_by, &columns);
                ordered.push(named(expr, name));
            }
            None => others.push(expr),
        }
    }
    if others.is_empty() || ordered.is_empty() {
        let window_expr = if others.is_empty() { ordered } else { others };
        return Ok(LogicalPlan::Window(Window { window_expr, ..window }));
    }
    // Functions of one node have one order.
    let shown = window.schema.columns().into_iter().map(Expr::Column);
    LogicalPlanBuilder::from(window.input.as_ref().clone()).window(others)?.window(ordered)?.project(shown)?.build()
}

fn order_further(order: &mut Vec<Sort>, by: &[Expr]) {
    for expr in by {
        if !order.iter().any(|sort| sort.expr == *expr) {
            order.push(Sort::new(expr.clone(), true, false));
        }
    }
}

fn named(expr: Expr, name: String) -> Expr {
    if matches!(expr, Expr::Alias(_)) { expr } else { expr.alias(name) }
}

/// The call of an aggregate whose result depends on the order of its rows.
fn order_matters(expr: &mut Expr) -> Option<&mut AggregateFunction> {
    match expr {
        Expr::Alias(alias) => order_matters(&mut alias.expr),
        Expr::AggregateFunction(function) => {
            let names = ["array_agg", "string_agg", "first_value", "last_value"];
            names.contains(&function.func.name()).then_some(function)
        }
        _ => None,
    }
}

/// The call of a window function whose result depends on how ties are decided.
fn ties_matter(expr: &mut Expr) -> Option<&mut WindowFunction> {
    match expr {
        Expr::Alias(alias) => ties_matter(&mut alias.expr),
        Expr::WindowFunction(function) => {
            let frame = &function.params.window_frame;
            let all = frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded();
            let matter = match function.fun.name() {
                "row_number" | "lag" | "lead" | "ntile" => true,
                "rank" | "dense_rank" | "percent_rank" | "cume_dist" | SESSION_START | SESSION_END => false,
                "first_value" | "last_value" | "nth_value" | "array_agg" | "string_agg" => true,
                _ => frame.units == WindowFrameUnits::Rows && !all,
            };
            matter.then_some(function)
        }
        _ => None,
    }
}

/// Scans of `tables` without their late rows, and with the columns they had.
fn leave_out_late_rows(
    plan: LogicalPlan,
    tables: &BTreeSet<String>,
    relations: &BTreeMap<String, Relation>,
) -> DataFusionResult<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let Some(relation) = relations.get(scan.table_name.table()) else { return Ok(Transformed::no(node)) };
        let is_table = matches!(relation.kind, RelationKind::Table(_));
        if !tables.contains(&relation.name) || !is_table {
            return Ok(Transformed::no(node));
        }
        on_time(scan, relation).map(Transformed::yes)
    })?;
    Ok(rewritten.data)
}

fn on_time(scan: &TableScan, relation: &Relation) -> DataFusionResult<LogicalPlan> {
    let mut fields: Vec<Arc<Field>> = relation.schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(LATENESS_COLUMN, DataType::Int64, false)));
    let hidden = fields.len() - 1;
    let source = provider_as_source(Arc::new(RelationProvider { schema: Arc::new(Schema::new(fields)) }));
    let mut projection = scan.projection.clone().unwrap_or_else(|| (0..hidden).collect());
    projection.push(hidden);
    let columns: Vec<Expr> = scan.projected_schema.columns().into_iter().map(Expr::Column).collect();
    LogicalPlanBuilder::scan(scan.table_name.clone(), source, Some(projection))?
        .filter(col(LATENESS_COLUMN).lt_eq(lit(0_i64)))?
        .project(columns)?
        .build()
}

fn collect_inputs(plan: &LogicalPlan, found: &mut BTreeSet<String>) {
    if let LogicalPlan::TableScan(scan) = plan {
        found.insert(scan.table_name.table().to_string());
    }
    for input in plan.inputs() {
        collect_inputs(input, found);
    }
}

/// Adds what the text of a plan leaves out: rows after the fifth, and whether null equals null.
fn unsaid(node: &LogicalPlan, text: &mut String) -> TreeNodeRecursion {
    match node {
        LogicalPlan::Values(values) => text.push_str(&format!("\n{:?}", values.values)),
        LogicalPlan::Join(join) => text.push_str(&format!("\n{:?}", join.null_equality)),
        _ => {}
    }
    TreeNodeRecursion::Continue
}

fn unique_names(plan: &LogicalPlan) -> Result<SchemaRef, SqlError> {
    let mut seen = BTreeSet::new();
    let fields: Vec<Field> =
        plan.schema().fields().iter().map(|field| field.as_ref().clone().with_metadata(Default::default())).collect();
    for field in &fields {
        if !seen.insert(field.name().clone()) {
            return Err(SqlError::new(
                SqlError::DUPLICATE,
                format!("the view has two columns named '{}'", field.name()),
            )
            .hint(format!("rename one: … AS other_{}", field.name())));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The Arrow types of a column list.
pub(crate) fn column_schema(columns: &[ColumnDef], source: &Source) -> Result<Schema, SqlError> {
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let data_type = arrow_type(&column.data_type).ok_or_else(|| {
            SqlError::new(SqlError::TYPE, format!("type {} of column '{}' is not known", column.data_type, column.name))
                .hint("BOOLEAN, INT, BIGINT, REAL, DOUBLE, DECIMAL(p,s), TEXT, BYTEA, DATE, TIME, TIMESTAMP(3)")
                .at(source.location(column.name.span))
        })?;
        let not_null = |option: &ColumnOption| matches!(option, ColumnOption::NotNull | ColumnOption::PrimaryKey(_));
        let nullable = !column.options.iter().any(|option| not_null(&option.option));
        fields.push(Field::new(crate::parse::normalise(&column.name).value, data_type, nullable));
    }
    if fields.is_empty() {
        return Err(SqlError::new(SqlError::SYNTAX, "a table needs at least one column"));
    }
    Ok(Schema::new(fields))
}

fn arrow_type(sql: &SqlType) -> Option<DataType> {
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, ExactNumberInfo};
    let unit = |precision: &Option<u64>| match precision {
        Some(0) => Some(Second),
        Some(1..=3) => Some(Millisecond),
        None | Some(4..=6) => Some(Microsecond),
        Some(7..=9) => Some(Nanosecond),
        _ => None,
    };
    Some(match sql {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) | SqlType::Int2(_) => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) => DataType::Int64,
        SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float(_) | SqlType::Float8 => DataType::Float64,
        SqlType::Decimal(info) | SqlType::Numeric(info) => match info {
            ExactNumberInfo::None => DataType::Decimal128(38, 10),
            ExactNumberInfo::Precision(p) => {
                DataType::Decimal128(u8::try_from(*p).ok().filter(|p| (1..=38).contains(p))?, 0)
            }
            ExactNumberInfo::PrecisionAndScale(p, s) => DataType::Decimal128(
                u8::try_from(*p).ok().filter(|p| (1..=38).contains(p))?,
                i8::try_from(*s).ok().filter(|s| *s >= 0 && i64::from(*s) <= i64::try_from(*p).unwrap_or(0))?,
            ),
        },
        SqlType::Text
        | SqlType::String(_)
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Character(_)
        | SqlType::CharacterVarying(_) => DataType::Utf8,
        SqlType::Bytea | SqlType::Bytes(_) | SqlType::Binary(_) | SqlType::Varbinary(_) => DataType::Binary,
        SqlType::Date => DataType::Date32,
        SqlType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time64(Microsecond),
        SqlType::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Timestamp(unit(precision)?, None)
        }
        SqlType::Timestamp(precision, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            DataType::Timestamp(unit(precision)?, Some("UTC".into()))
        }
        SqlType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            DataType::List(Arc::new(Field::new_list_field(arrow_type(item)?, true)))
        }
        _ => return None,
    })
}

/// A relation's shape, which plans are made over. It cannot be read: `batch` and `stream` put their own in its place.
#[derive(Debug)]
pub struct RelationProvider {
    pub schema: SchemaRef,
}

#[async_trait::async_trait]
impl TableProvider for RelationProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::Internal("a plan's relations are put in place before it runs".into()))
    }
}
