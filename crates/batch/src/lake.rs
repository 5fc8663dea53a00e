//! External tables beside the other relations: opened when a statement names them, and not before.

use crate::functions::{At, OpenLake};
use crate::providers::Unfiltered;
use arrow::datatypes::{Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use rivermere_sql::LakePlace;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The relations of a session and the external tables.
pub(crate) struct WithExternals {
    inner: Arc<dyn SchemaProvider>,
    /// With their places.
    externals: BTreeMap<String, LakePlace>,
    open: Arc<OpenLake>,
}

impl WithExternals {
    pub(crate) fn new(
        inner: Arc<dyn SchemaProvider>,
        externals: BTreeMap<String, LakePlace>,
        open: Arc<OpenLake>,
    ) -> Self {
        Self { inner, externals, open }
    }
}

impl fmt::Debug for WithExternals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithExternals").field("externals", &self.externals).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for WithExternals {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.inner.table_names();
        names.extend(self.externals.keys().cloned());
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.externals.get(name) {
            Some(place) => (self.open)(place.clone(), At::Newest).await.map(Some).map_err(DataFusionError::Plan),
            None => self.inner.table(name).await,
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        match self.externals.contains_key(name) {
            true => Ok(Some(TableType::Base)),
            false => self.inner.table_type(name).await,
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        self.inner.register_table(name, table)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.externals.contains_key(name) || self.inner.table_exist(name)
    }
}

/// A table of the lake in a plan that was made over its columns: opened when the plan is run.
pub(crate) struct Deferred {
    schema: SchemaRef,
    place: LakePlace,
    open: Arc<OpenLake>,
}

impl Deferred {
    pub(crate) fn new(schema: SchemaRef, place: LakePlace, open: Arc<OpenLake>) -> Self {
        Self { schema, place, open }
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("place", &self.place).finish_non_exhaustive()
    }
}

#[async_trait]
impl Unfiltered for Deferred {
    const TYPE: TableType = TableType::Base;

    fn columns(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn read(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let opened = (self.open)(self.place.clone(), At::Newest).await.map_err(DataFusionError::Plan)?;
        let found = opened.schema();
        // By their names: the table may have other columns now, and in another order.
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let fields: Vec<&Field> = projection.unwrap_or(&all).iter().map(|column| self.schema.field(*column)).collect();
        let wanted: Vec<usize> = fields.iter().map(|field| found.index_of(field.name())).collect::<Result<_, _>>()?;
        let rows = opened.scan(session, Some(&wanted), &[], limit).await?;
        // In the types of the plan: values of partitions, for one, come as dictionaries.
        let column = |(index, field): (usize, &&Field)| -> Result<ProjectionExpr> {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
            let expr = cast(column, &rows.schema(), field.data_type().clone())?;
            Ok(ProjectionExpr { expr, alias: field.name().clone() })
        };
        let columns = fields.iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, rows)?))
    }
}
