//! The batch answer to the same plan, by DataFusion.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use rivermere_base::Changes;
use rivermere_sql::ViewDefinition;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows as text, with the number of times each is there. Floats are rounded to nine digits.
pub type Multiset = BTreeMap<Vec<String>, i64>;

pub fn multiset(batches: &[RecordBatch]) -> Multiset {
    let mut rows = Multiset::new();
    for batch in batches {
        add(&mut rows, &Changes::inserts(batch.clone()));
    }
    rows
}

pub fn add(rows: &mut Multiset, changes: &Changes) {
    let columns: Vec<Vec<String>> = changes.batch().columns().iter().map(texts).collect();
    for row in 0..changes.num_rows() {
        let key: Vec<String> = columns.iter().map(|column| column[row].clone()).collect();
        *rows.entry(key).or_insert(0) += changes.weight(row);
    }
    rows.retain(|_, count| *count != 0);
}

fn texts(column: &ArrayRef) -> Vec<String> {
    if let Some(floats) = column.as_any().downcast_ref::<Float64Array>() {
        return floats.iter().map(|value| value.map_or("null".into(), round)).collect();
    }
    let options = FormatOptions::default().with_null("null");
    let formatter = ArrayFormatter::try_new(column, &options).unwrap();
    (0..column.len()).map(|row| formatter.value(row).to_string()).collect()
}

fn round(value: f64) -> String {
    let value = if value == 0.0 { 0.0 } else { value };
    format!("{value:.8e}")
}

/// What a view's query answers over the given contents of its inputs: by the plan that the stream engine runs.
pub fn answer(view: &ViewDefinition, contents: &BTreeMap<String, Vec<RecordBatch>>) -> Vec<RecordBatch> {
    run(&view.plan.logical, contents, false)
}

/// What the query as it is written answers, planned and optimised by DataFusion alone.
pub fn plain_answer(query: &LogicalPlan, contents: &BTreeMap<String, Vec<RecordBatch>>) -> Vec<RecordBatch> {
    run(query, contents, true)
}

fn run(plan: &LogicalPlan, contents: &BTreeMap<String, Vec<RecordBatch>>, optimise: bool) -> Vec<RecordBatch> {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    let plan = plan
        .clone()
        .transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
            let schema: SchemaRef = scan.source.schema();
            let batches = contents.get(scan.table_name.table()).cloned().unwrap_or_default();
            let batches = batches.iter().map(|batch| with_columns(batch, &schema)).collect();
            scan.source = provider_as_source(Arc::new(MemTable::try_new(schema, vec![batches])?));
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        })
        .unwrap()
        .data;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let state = context.state();
        let plan = if optimise { state.optimize(&plan).unwrap() } else { plan };
        let physical = state.query_planner().create_physical_plan(&plan, &state).await.unwrap();
        collect(physical, context.task_ctx()).await.unwrap()
    })
}

/// The batch with the columns of `schema`, on time where lateness is asked for.
fn with_columns(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None => Arc::new(Int64Array::from(vec![0; batch.num_rows()])) as ArrayRef,
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

/// The rows of a Z-set, each as often as its weight says.
pub fn integrate(schema: &SchemaRef, changes: &[Changes]) -> Vec<RecordBatch> {
    let all = Changes::concat(schema, changes).unwrap();
    let converter = arrow::row::RowConverter::new(
        schema.fields().iter().map(|field| arrow::row::SortField::new(field.data_type().clone())).collect(),
    )
    .unwrap();
    let rows = converter.convert_columns(all.batch().columns()).unwrap();
    let mut weights: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for row in 0..all.num_rows() {
        *weights.entry(rows.row(row).data().to_vec()).or_default() += all.weight(row);
    }
    let parser = converter.parser();
    let kept: Vec<Vec<u8>> = weights
        .into_iter()
        .flat_map(|(row, weight)| {
            assert!(weight >= 0, "an input row has weight {weight}");
            std::iter::repeat_n(row, weight as usize)
        })
        .collect();
    let columns = converter.convert_rows(kept.iter().map(|row| parser.parse(row))).unwrap();
    vec![RecordBatch::try_new(schema.clone(), columns).unwrap()]
}
