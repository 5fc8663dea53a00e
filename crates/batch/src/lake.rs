//! External tables beside the other relations: opened when a statement names them, and not before.

use crate::functions::{At, OpenLake};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The relations of a session and the external tables.
pub(crate) struct WithExternals {
    inner: Arc<dyn SchemaProvider>,
    /// With their places.
    externals: BTreeMap<String, String>,
    open: Arc<OpenLake>,
}

impl WithExternals {
    pub(crate) fn new(
        inner: Arc<dyn SchemaProvider>,
        externals: BTreeMap<String, String>,
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
