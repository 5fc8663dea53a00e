//! Table functions.

use crate::Query;
use crate::providers::{Planned, Scanned};
use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// Opens a Delta table of the lake by its path or URL.
pub type OpenLake = dyn Fn(String) -> BoxFuture<'static, Result<Arc<dyn TableProvider>, String>> + Send + Sync;

fn text_argument(function: &str, args: &[Expr]) -> Result<String> {
    match args {
        [Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _)] => Ok(text.clone()),
        _ => Err(DataFusionError::Plan(format!("RM-3102: {function}('…') takes one text"))),
    }
}

/// `delta('path')`
pub(crate) struct Delta {
    open: Arc<OpenLake>,
}

impl Delta {
    pub(crate) fn new(open: Arc<OpenLake>) -> Self {
        Self { open }
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("delta")
    }
}

impl TableFunctionImpl for Delta {
    fn call(&self, args: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let path = text_argument("delta", args)?;
        let open = (self.open)(path);
        // Planning is synchronous and may run on a Tokio worker, which must not wait: open on a thread of its own.
        let opened = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            runtime.block_on(open)
        })
        .join();
        match opened {
            Ok(Ok(table)) => Ok(table),
            Ok(Err(message)) => Err(DataFusionError::Plan(message)),
            Err(_) => Err(DataFusionError::Internal("opening the table panicked".into())),
        }
    }
}

/// `batch('view')`
pub(crate) struct Batch {
    query: Query,
}

impl Batch {
    pub(crate) fn new(query: Query) -> Self {
        Self { query }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("batch")
    }
}

impl TableFunctionImpl for Batch {
    fn call(&self, args: &[Expr]) -> Result<Arc<dyn TableProvider>> {
        let name = text_argument("batch", args)?;
        let view = self
            .query
            .view(&name)
            .ok_or_else(|| DataFusionError::Plan(format!("RM-3103: view '{name}' does not exist")))?;
        Ok(Arc::new(Scanned(Planned::new(view.plan.schema.clone(), self.query.batch_plan(&view)?))))
    }
}
