//! Tables of whatever format: their rows as text, and statements as a platform does them. Other formats' tests use it, too.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use rivermere_base::Changes;
use rivermere_table::{Done, EditableTable, TableError, Verb};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows as sorted text, cells between `=`.
pub fn text(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = Vec::new();
    for batch in batches {
        let columns =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect::<Vec<_>>();
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>();
            lines.push(cells.join("="));
        }
    }
    lines.sort();
    lines
}

/// The rows of a relation, read by a session of its own.
pub async fn collect(provider: Arc<dyn TableProvider>) -> Result<Vec<String>, String> {
    let frame = SessionContext::new().read_table(provider).map_err(|error| error.to_string())?;
    Ok(text(&frame.collect().await.map_err(|error| error.to_string())?))
}

/// Rows with changes.
pub fn changed(rows: Vec<String>, changes: &[Changes]) -> Vec<String> {
    let mut sum = BTreeMap::<String, i64>::new();
    rows.into_iter().for_each(|row| *sum.entry(row).or_default() += 1);
    for part in changes {
        for row in 0..part.num_rows() {
            *sum.entry(text(&[part.batch().slice(row, 1)]).remove(0)).or_default() += part.weight(row);
        }
    }
    assert!(sum.values().all(|count| *count >= 0), "rows went that were not there: {sum:?}");
    sum.into_iter().flat_map(|(row, count)| (0..count).map(move |_| row.clone())).collect()
}

/// As a statement does it: again over the newest version when another writer was quicker.
pub async fn done(table: &dyn EditableTable, session: &SessionContext, verb: Verb) -> Result<Done, TableError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let statement = format!("statement {}", NEXT.fetch_add(1, Ordering::Relaxed));
    loop {
        let base = table.version().await?;
        match table.apply(&session.state(), base, &statement, verb.clone()).await {
            Err(TableError::Conflict { .. }) => {}
            done => return done,
        }
    }
}
