//! Relations whose rows are in memory when a scan starts: files, views, and the results of plans.

use super::{Rows, Source, external, rebuilt, table_schema};
use crate::Catalog;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::future::BoxFuture;
use rivermere_base::{Disk, Opaque};
use rivermere_sql::{TableDefinition, ViewDefinition};
use rivermere_stream::read_file;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A table over a file.
#[derive(Debug)]
pub(crate) struct File {
    table: Arc<TableDefinition>,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    schema: SchemaRef,
}

impl File {
    pub(crate) fn new(table: Arc<TableDefinition>, disk: Arc<dyn Disk>, path: PathBuf, with_lateness: bool) -> Self {
        Self { schema: table_schema(&table, with_lateness), table, disk, path }
    }
}

#[async_trait]
impl Source for File {
    const TYPE: TableType = TableType::Base;

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn open(&self, _: &dyn Session, _: &SchemaRef) -> Result<Rows> {
        let (disk, path) = (self.disk.clone(), self.path.clone());
        let (table, schema) = (self.table.clone(), self.schema.clone());
        let read = tokio::task::spawn_blocking(move || read_file(disk.as_ref(), &path, &table, &schema)).await;
        let changes = read.map_err(external)?.map_err(external)?;
        Ok(Rows::Held(changes.into_iter().map(|changes| changes.into_parts().0).collect()))
    }
}

/// A view at its last finished step.
pub(crate) struct View {
    view: Arc<ViewDefinition>,
    catalog: Arc<dyn Catalog>,
}

impl View {
    pub(crate) fn new(view: Arc<ViewDefinition>, catalog: Arc<dyn Catalog>) -> Self {
        Self { view, catalog }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {}", self.view.name)
    }
}

#[async_trait]
impl Source for View {
    const TYPE: TableType = TableType::View;

    fn schema(&self) -> SchemaRef {
        self.view.plan.schema.clone()
    }

    async fn open(&self, _: &dyn Session, _: &SchemaRef) -> Result<Rows> {
        let snapshot = self.catalog.snapshot(&self.view.name);
        let batches = snapshot.map(|snapshot| snapshot.batches().map_err(external)).transpose()?;
        Ok(Rows::Held(batches.unwrap_or_default()))
    }
}

/// The result of a plan whose relations are in place.
#[derive(Debug)]
pub(crate) struct Planned {
    schema: SchemaRef,
    plan: Opaque<LogicalPlan>,
}

impl Planned {
    pub(crate) fn new(schema: SchemaRef, plan: LogicalPlan) -> Self {
        Self { schema, plan: Opaque::new(plan) }
    }
}

#[async_trait]
impl Source for Planned {
    const TYPE: TableType = TableType::View;

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn open(&self, session: &dyn Session, _: &SchemaRef) -> Result<Rows> {
        let batches = run(self.plan.clone(), session.config().clone()).await?;
        let named = batches.iter().map(|batch| rebuilt(&self.schema, batch.columns().to_vec(), batch.num_rows()));
        Ok(Rows::Held(named.collect::<Result<_>>()?))
    }
}

/// Runs a plan as it is, so that the batch answer does not hang on a second optimisation.
fn run(plan: Opaque<LogicalPlan>, config: SessionConfig) -> BoxFuture<'static, Result<Vec<RecordBatch>>> {
    Box::pin(async move {
        let state = SessionStateBuilder::new().with_default_features().with_config(config).build();
        let context = SessionContext::new_with_state(state);
        let state = context.state();
        let physical = state.query_planner().create_physical_plan(&plan, &state).await?;
        datafusion::physical_plan::collect(physical, context.task_ctx()).await
    })
}
