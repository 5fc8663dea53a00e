//! Relations that leave filters to whoever reads them.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// What a relation has to say when it takes no filters, which is what DataFusion assumes of one that does not say otherwise.
#[async_trait]
pub(crate) trait Unfiltered: fmt::Debug + Send + Sync + 'static {
    const TYPE: TableType;

    fn columns(&self) -> SchemaRef;

    async fn read(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>>;
}

/// It as DataFusion wants it.
#[derive(Debug)]
pub(crate) struct Relation<R>(pub(crate) R);

impl<R: Unfiltered> TableProvider for Relation<R> {
    fn schema(&self) -> SchemaRef {
        self.0.columns()
    }

    fn table_type(&self) -> TableType {
        R::TYPE
    }

    // Written out, since a future that holds the filters takes the compiler seconds: see `rivermere_base::Opaque`.
    fn scan<'a, 'b, 'c, 'd, 'e>(
        &'a self,
        session: &'b dyn Session,
        projection: Option<&'c Vec<usize>>,
        _: &'d [Expr],
        limit: Option<usize>,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<dyn ExecutionPlan>>> + Send + 'e>>
    where
        'a: 'e,
        'b: 'e,
        'c: 'e,
        'd: 'e,
        Self: 'e,
    {
        self.0.read(session, projection, limit)
    }
}
