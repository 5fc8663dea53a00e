//! A view's plan as nodes of the dataflow.

use crate::arrangement::Arrangement;
use crate::dataflow::{Dataflow, Kind, NodeId};
use crate::error::{Result, StreamError};
use crate::operators::{
    Aggregate, Call, Join, JoinSpec, LateFilter, Map, Operator, Over, OverSpec, TopN, TopNSpec, Unnest,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, NullEquality, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::{NullTreatment, Sort};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{self as logical, Expr, ExprSchemable, LogicalPlan};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_planner::create_window_expr;
use rivermere_base::Changes;
use rivermere_sql::{LATENESS_COLUMN, Planner, ViewDefinition, session_bound, top_n};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The columns of each table that some plan reads.
pub fn needed_columns<'a>(
    views: impl IntoIterator<Item = &'a Arc<ViewDefinition>>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut needed = BTreeMap::new();
    for view in views {
        collect(&view.plan.logical, &mut needed);
    }
    needed
}

fn collect(plan: &LogicalPlan, needed: &mut BTreeMap<String, BTreeSet<String>>) {
    if let LogicalPlan::TableScan(scan) = plan {
        let columns = needed.entry(scan.table_name.table().to_string()).or_default();
        columns.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
    }
    for input in plan.inputs() {
        collect(input, needed);
    }
}

pub(crate) struct Compiler<'a> {
    dataflow: &'a mut Dataflow,
    planner: &'a Planner,
    view: &'a str,
    /// Nodes of the view's plan so far: what a query says twice is computed once.
    nodes: HashMap<LogicalPlan, NodeId>,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(dataflow: &'a mut Dataflow, planner: &'a Planner, view: &'a str) -> Self {
        Self { dataflow, planner, view, nodes: HashMap::new() }
    }

    /// Adds a view and all its operators.
    pub(crate) fn view(&mut self, view: &ViewDefinition) -> Result<NodeId> {
        let root = self.node(&view.plan.logical)?;
        let arrangement = Arrangement::new(view.plan.schema.clone(), view.plan.properties.append_only)?;
        Ok(self.dataflow.add(self.view, Kind::View(Box::new(arrangement)), vec![root], view.plan.schema.clone()))
    }

    fn node(&mut self, plan: &LogicalPlan) -> Result<NodeId> {
        if let Some(node) = self.nodes.get(plan) {
            return Ok(*node);
        }
        let node = self.new_node(plan)?;
        self.nodes.insert(plan.clone(), node);
        Ok(node)
    }

    fn new_node(&mut self, plan: &LogicalPlan) -> Result<NodeId> {
        let schema = plan.schema().inner().clone();
        match plan {
            LogicalPlan::TableScan(scan) => {
                let name = scan.table_name.table();
                let input =
                    self.dataflow.relation(name).ok_or_else(|| self.internal(format!("'{name}' has no node")))?;
                let from = self.dataflow.schema(input);
                let mut columns: Vec<Arc<dyn PhysicalExpr>> = vec![];
                for field in schema.fields() {
                    let at = from.index_of(field.name())?;
                    columns.push(Arc::new(PhysicalColumn::new(field.name(), at)));
                }
                Ok(self.operator(Map::project(columns, schema.clone()), vec![input], schema))
            }
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Projection(projection) => {
                let input = match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) => match top_n(filter) {
                        Some(top) if !reads(&projection.expr, &top.rank) && !reads(&top.rest, &top.rank) => {
                            self.top_n(&projection.input, &top, false)?
                        }
                        _ => self.node(&projection.input)?,
                    },
                    input => self.node(input)?,
                };
                let expressions = self.expressions(&projection.expr, projection.input.schema())?;
                Ok(self.operator(Map::project(expressions, schema.clone()), vec![input], schema))
            }
            LogicalPlan::Filter(filter) => match top_n(filter) {
                Some(top) => self.top_n(plan, &top, true),
                None => {
                    let input = self.node(&filter.input)?;
                    let predicate = self.expression(&filter.predicate, filter.input.schema())?;
                    let late = filter.predicate.column_refs().iter().any(|column| column.name == LATENESS_COLUMN);
                    if late {
                        return Ok(self.operator(LateFilter::new(predicate), vec![input], schema));
                    }
                    Ok(self.operator(Map::filter(predicate, schema.clone()), vec![input], schema))
                }
            },
            LogicalPlan::Aggregate(aggregate) => self.aggregate(plan, aggregate),
            LogicalPlan::Join(join) => self.join(plan, join),
            LogicalPlan::Window(window) => self.over(plan, window),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.node(input)).collect::<Result<Vec<_>>>()?;
                Ok(self.dataflow.add(self.view, Kind::Union, inputs, schema))
            }
            LogicalPlan::Unnest(unnest) => {
                let input = self.node(&unnest.input)?;
                let (list, _) = unnest.list_type_columns.first().ok_or_else(|| self.internal("UNNEST of nothing"))?;
                let operator = Unnest::new(*list, unnest.dependency_indices.clone(), schema.clone());
                Ok(self.operator(operator, vec![input], schema))
            }
            LogicalPlan::EmptyRelation(empty) => {
                let rows = usize::from(empty.produce_one_row);
                let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
                let columns =
                    schema.fields().iter().map(|field| arrow::array::new_null_array(field.data_type(), rows)).collect();
                let batch = arrow::array::RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
                Ok(self.dataflow.add(self.view, Kind::Constant(Changes::inserts(batch)), vec![], schema))
            }
            LogicalPlan::Values(values) => {
                let batch = self.values(values, &schema)?;
                Ok(self.dataflow.add(self.view, Kind::Constant(Changes::inserts(batch)), vec![], schema))
            }
            other => Err(self.internal(format!("no operator for {}", other.display()))),
        }
    }

    fn operator(&mut self, operator: impl Operator + 'static, inputs: Vec<NodeId>, schema: SchemaRef) -> NodeId {
        self.dataflow.add(self.view, Kind::Operator(Box::new(operator)), inputs, schema)
    }

    fn internal(&self, message: impl Into<String>) -> StreamError {
        StreamError::Operator { view: self.view.to_string(), message: message.into() }
    }

    fn expression(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?)
    }

    fn expressions(&self, exprs: &[Expr], schema: &DFSchema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        exprs.iter().map(|expr| self.expression(expr, schema)).collect()
    }

    /// A node that gives `input`'s expressions as columns named by their number.
    fn computed(&mut self, input: NodeId, exprs: &[Expr], from: &DFSchema) -> Result<NodeId> {
        let mut fields = vec![];
        for (number, expr) in exprs.iter().enumerate() {
            let (_, field) = expr.to_field(from)?;
            fields.push(Field::new(format!("c{number}"), field.data_type().clone(), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let expressions = self.expressions(exprs, from)?;
        Ok(self.operator(Map::project(expressions, schema.clone()), vec![input], schema))
    }

    fn aggregate(&mut self, plan: &LogicalPlan, aggregate: &logical::Aggregate) -> Result<NodeId> {
        let input_properties = self.planner.node_properties(&aggregate.input)?;
        let input = self.node(&aggregate.input)?;
        let from = aggregate.input.schema().clone();
        let schema = plan.schema().inner().clone();
        let groups = schema.fields().len() - aggregate.aggr_expr.len();
        // Arguments are columns of their own: a group that is left out of a grouping set still has its values there.
        let mut arguments: Vec<Expr> = vec![];
        let mut place = |expr: &Expr| match arguments.iter().position(|column| column == expr) {
            Some(at) => groups + at,
            None => {
                arguments.push(expr.clone());
                groups + arguments.len() - 1
            }
        };
        let mut calls = vec![];
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(function) = unalias(expr) else {
                return Err(self.internal(format!("{expr} is no aggregate")));
            };
            let params = &function.params;
            let all = [logical::lit(1_i64)];
            let given = if params.args.is_empty() { &all } else { params.args.as_slice() };
            let options = |sort: &Sort| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            calls.push(Call {
                udf: function.func.clone(),
                arguments: given.iter().map(&mut place).collect(),
                order: params.order_by.iter().map(|sort| (place(&sort.expr), options(sort))).collect(),
                filter: params.filter.as_ref().map(|filter| place(filter)),
                distinct: params.distinct,
                ignore_nulls: params.null_treatment == Some(NullTreatment::IgnoreNulls),
                expressions: self.expressions(given, &from)?,
                result: expr.to_field(&from)?.1,
            });
        }
        let (mut computed, mut totals) = (vec![], vec![]);
        for mut columns in grouping_columns(aggregate, &schema)? {
            if let Some(total) = columns.iter().map(literal).collect::<Option<Vec<_>>>() {
                totals.push(total);
            }
            columns.extend(arguments.iter().cloned());
            computed.push(self.computed(input, &columns, &from)?);
        }
        let computed = match computed.as_slice() {
            [only] => *only,
            sets => {
                let schema = self.dataflow.schema(sets[0]);
                self.dataflow.add(self.view, Kind::Union, computed, schema)
            }
        };
        let bound = self.planner.state_bound(plan)?;
        let append_only = input_properties.append_only;
        let rows = self.dataflow.schema(computed);
        let totals = total_rows(&rows, &totals)?;
        let operator = Aggregate::new(groups, calls, &rows, schema.clone(), append_only, bound, &totals)
            .map_err(|error| self.of_view(error))?;
        Ok(self.operator(operator, vec![computed], schema))
    }

    fn of_view(&self, error: StreamError) -> StreamError {
        match error {
            StreamError::Operator { view, message } if view.is_empty() => self.internal(message),
            other => other,
        }
    }

    fn join(&mut self, plan: &LogicalPlan, join: &logical::Join) -> Result<NodeId> {
        let properties = [self.planner.node_properties(&join.left)?, self.planner.node_properties(&join.right)?];
        let mut inputs = vec![];
        let mut widths = [0, 0];
        let mut keys = [vec![], vec![]];
        for (side, (input, on)) in [
            (&join.left, join.on.iter().map(|(left, _)| left).collect::<Vec<_>>()),
            (&join.right, join.on.iter().map(|(_, right)| right).collect::<Vec<_>>()),
        ]
        .into_iter()
        .enumerate()
        {
            let node = self.node(input)?;
            let from = input.schema().clone();
            let mut columns: Vec<Expr> = from.columns().into_iter().map(Expr::Column).collect();
            widths[side] = columns.len();
            for key in on {
                keys[side].push(columns.iter().position(|column| column == key).unwrap_or(columns.len()));
                if keys[side].last() == Some(&columns.len()) {
                    columns.push(key.clone());
                }
            }
            inputs.push(self.computed(node, &columns, &from)?);
        }
        // A condition is over the rows of both sides, of which a semi join shows only one's.
        let both = join.left.schema().join(join.right.schema())?;
        let residual = match &join.filter {
            Some(filter) => Some(self.expression(filter, &both)?),
            None => None,
        };
        let mut retention = [None, None];
        for (side, (input, found)) in
            [&join.left, &join.right].into_iter().zip(self.planner.join_retention(join)?).enumerate()
        {
            if let Some(found) = found {
                retention[side] = Some((self.expression(&found.until, input.schema())?, found.bound));
            }
        }
        let spec = JoinSpec {
            kind: join.join_type,
            retention,
            null_aware: join.null_aware,
            widths,
            keys,
            null_equals_null: join.null_equality == NullEquality::NullEqualsNull,
            residual,
            pairs: nullable(both.inner()),
            is_static: [properties[0].is_static, properties[1].is_static],
            append_only: [properties[0].append_only, properties[1].append_only],
            bound: self.planner.state_bound(plan)?,
        };
        let schema = nullable(plan.schema().inner());
        let (left, right) = (self.dataflow.schema(inputs[0]), self.dataflow.schema(inputs[1]));
        let operator = Join::new(spec, [&left, &right], schema.clone())?;
        Ok(self.operator(operator, inputs, schema))
    }

    fn top_n(&mut self, plan: &LogicalPlan, top: &rivermere_sql::TopN, shows_rank: bool) -> Result<NodeId> {
        let input_plan = &top.window.input;
        let append_only_input = self.planner.node_properties(input_plan)?.append_only;
        let input = self.node(input_plan)?;
        let from = input_plan.schema().clone();
        let mut columns: Vec<Expr> = from.columns().into_iter().map(Expr::Column).collect();
        let row_width = columns.len();
        let mut place = |expr: &Expr| match columns.iter().position(|column| column == expr) {
            Some(at) => at,
            None => {
                columns.push(expr.clone());
                columns.len() - 1
            }
        };
        let partition = top.function.params.partition_by.iter().map(&mut place).collect();
        let order = top
            .function
            .params
            .order_by
            .iter()
            .map(|sort| (place(&sort.expr), SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first }))
            .collect();
        let computed = self.computed(input, &columns, &from)?;
        let spec = TopNSpec {
            ranking: top.ranking,
            shows_rank,
            partition,
            order,
            row_width,
            limit: top.limit,
            append_only_input,
            bound: self.planner.state_bound(plan)?,
        };
        let schema = plan.schema().inner().clone();
        let operator = TopN::new(spec, &self.dataflow.schema(computed), schema.clone())?;
        let node = self.operator(operator, vec![computed], schema.clone());
        let Some(rest) = top.rest.iter().cloned().reduce(logical::and) else { return Ok(node) };
        let predicate = self.expression(&rest, &top.window.schema)?;
        Ok(self.operator(Map::filter(predicate, schema.clone()), vec![node], schema))
    }

    fn over(&mut self, plan: &LogicalPlan, window: &logical::Window) -> Result<NodeId> {
        let input = self.node(&window.input)?;
        let from = window.input.schema().clone();
        let mut columns: Vec<Expr> = from.columns().into_iter().map(Expr::Column).collect();
        let row_width = columns.len();
        let mut place = |expr: &Expr| match columns.iter().position(|column| column == expr) {
            Some(at) => at,
            None => {
                columns.push(expr.clone());
                columns.len() - 1
            }
        };
        let Some(Expr::WindowFunction(first)) = window.window_expr.first().map(unalias) else {
            return Err(self.internal("a window without a function"));
        };
        let partition: Vec<usize> = first.params.partition_by.iter().map(&mut place).collect();
        let order = first
            .params
            .order_by
            .iter()
            .map(|sort| (place(&sort.expr), SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first }))
            .collect();
        let computed = self.computed(input, &columns, &from)?;
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let functions = window
            .window_expr
            .iter()
            .map(|expr| create_window_expr(expr, &from, &props, &context))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let sessions = session_bound(window, &self.planner.node_properties(plan)?);
        let bound = self.planner.state_bound(plan)?.filter(|(column, _)| partition.contains(column));
        let spec = OverSpec { partition, order, row_width, functions, bound, sessions };
        let schema = nullable(plan.schema().inner());
        let operator = Over::new(spec, &nullable(from.inner()), &self.dataflow.schema(computed), schema.clone())?;
        Ok(self.operator(operator, vec![computed], schema))
    }

    fn values(&self, values: &logical::Values, schema: &SchemaRef) -> Result<arrow::array::RecordBatch> {
        let empty = DFSchema::empty();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
        let one = arrow::array::RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?;
        let mut rows = vec![];
        for row in &values.values {
            let columns = self
                .expressions(row, &empty)?
                .iter()
                .zip(schema.fields())
                .map(|(expr, field)| {
                    let array = expr.evaluate(&one)?.into_array(1)?;
                    Ok(arrow::compute::cast(&array, field.data_type())?)
                })
                .collect::<Result<Vec<_>>>()?;
            rows.push(arrow::array::RecordBatch::try_new(schema.clone(), columns)?);
        }
        Ok(arrow::compute::concat_batches(schema, &rows)?)
    }
}

fn literal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    }
}

/// Rows that name the groups of totals, which are there without any row; all else is null.
fn total_rows(schema: &SchemaRef, totals: &[Vec<ScalarValue>]) -> Result<arrow::array::RecordBatch> {
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let null = ScalarValue::try_from(field.data_type())?;
        let values = totals.iter().map(|total| total.get(at).unwrap_or(&null).clone());
        match totals {
            [] => Ok(arrow::array::new_empty_array(field.data_type())),
            _ => ScalarValue::iter_to_array(values),
        }
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, datafusion::error::DataFusionError>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(totals.len()));
    Ok(arrow::array::RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// The group columns of each grouping set: nulls where the set leaves one out, and last the number that tells the sets
/// apart. One list of the groups where there are no sets.
fn grouping_columns(aggregate: &logical::Aggregate, schema: &SchemaRef) -> Result<Vec<Vec<Expr>>> {
    let Some(sets) = rivermere_sql::grouping_sets(aggregate) else { return Ok(vec![aggregate.group_expr.clone()]) };
    let all: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let number_type = schema.field(all.len()).data_type();
    let mut columns = vec![];
    for (at, set) in sets.iter().enumerate() {
        let repeated = sets[..at].iter().filter(|other| *other == set).count() as u64;
        let left_out = all.iter().fold(0_u64, |number, expr| number << 1 | u64::from(!set.contains(expr)));
        let number = ScalarValue::UInt64(Some(left_out | repeated << all.len())).cast_to(number_type)?;
        let mut list = vec![];
        for (expr, field) in all.iter().zip(schema.fields()) {
            list.push(match set.contains(expr) {
                true => expr.clone(),
                false => Expr::Literal(ScalarValue::try_from(field.data_type())?, None),
            });
        }
        list.push(Expr::Literal(number, None));
        columns.push(list);
    }
    Ok(columns)
}

/// Outer joins put nulls into any column.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

fn reads(exprs: &[Expr], column: &Column) -> bool {
    exprs.iter().any(|expr| expr.column_refs().contains(column))
}

fn unalias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unalias(&alias.expr),
        other => other,
    }
}

/// The shape of a table's input: the needed columns in the table's order, then the hidden ones.
pub fn table_input_schema(schema: &SchemaRef, needed: &BTreeSet<String>) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> =
        schema.fields().iter().filter(|field| needed.contains(field.name())).cloned().collect();
    fields.push(Arc::new(Field::new(LATENESS_COLUMN, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}
