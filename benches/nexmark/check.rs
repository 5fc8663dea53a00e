//! A query that answers wrongly must not be measured: on a small input, whole windows long, the view's rows must be
//! those of the same plan run as a batch by DataFusion, whatever the size of the steps.

use crate::events::{Step, generate};
use crate::query::{QUERIES, Query};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

const EVENTS: u64 = 20_000;

/// Slow enough that windows close: the events are 40 seconds long.
const EVENTS_PER_SECOND: u64 = 500;

/// Checks every query whose name `wanted` likes.
pub fn check(wanted: impl Fn(&str) -> bool) {
    for (name, sql, _) in QUERIES.iter().filter(|(name, _, _)| wanted(name)) {
        let mut expected: Option<Vec<String>> = None;
        for rows in [16_384, 997] {
            let steps = generate(1, EVENTS, rows, EVENTS_PER_SECOND);
            let mut query = Query::new(name, sql);
            query.run(&steps);
            let answer = expected.get_or_insert_with(|| texts(&batch(&query, &steps)));
            assert!(!answer.is_empty(), "{name} has no rows: nothing would be checked");
            let found = texts(&query.snapshot());
            assert_eq!(found.len(), answer.len(), "{name} in steps of {rows}: other rows than the batch answer");
            assert!(found == *answer, "{name} in steps of {rows}: as many rows as the batch answer, but others");
        }
        println!(
            "  {name}: {} rows, as DataFusion's batch answer, in steps of 16384 and of 997",
            expected.map_or(0, |rows| rows.len())
        );
    }
}

/// The batch answer to the view's plan.
fn batch(query: &Query, steps: &[Step]) -> Vec<RecordBatch> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let plan = LogicalPlan::clone(&query.view.plan.logical).transform_up(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let schema = scan.source.schema();
        let parts: Vec<&RecordBatch> = steps.iter().map(|step| step.table(scan.table_name.table())).collect();
        let events = concat_batches(&parts[0].schema(), parts.iter().copied())?;
        let columns = schema.fields().iter().map(|field| match events.column_by_name(field.name()) {
            Some(column) => column.clone(),
            None => Arc::new(Int64Array::from_value(i64::MIN, events.num_rows())) as ArrayRef,
        });
        let events = RecordBatch::try_new(schema.clone(), columns.collect())?;
        scan.source = provider_as_source(Arc::new(MemTable::try_new(schema, vec![vec![events]])?));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    });
    let plan = plan.expect("scans can be replaced").data;
    let answer = futures::executor::block_on(async {
        let state = context.state();
        let physical = state.query_planner().create_physical_plan(&plan, &state).await?;
        collect(physical, context.task_ctx()).await
    });
    answer.unwrap_or_else(|error| panic!("{}: the batch answer fails: {error}", query.view.name))
}

/// Rows as text, in order.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default();
    let mut rows = vec![];
    for batch in batches {
        let formatters: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("every column can be shown"))
            .collect();
        for row in 0..batch.num_rows() {
            let values: Vec<String> = formatters.iter().map(|formatter| formatter.value(row).to_string()).collect();
            rows.push(values.join("|"));
        }
    }
    rows.sort_unstable();
    rows
}
