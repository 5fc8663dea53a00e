//! `pg_catalog` over whatever exists at the moment of the statement.
//!
//! Object ids must stay the same from statement to statement (psql's `\d` asks for an id and then by it), so the schema
//! provider that gives them out lives as long as the server and looks at the catalog of the newest session that is still
//! in use: that of the statement that asks, or a newer one. What else the catalog needs in a session, functions and
//! planners, is copied from a template made once.

use super::functions;
use super::relations::{OWNER, Relations};
use crate::{Platform, ServeError};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
};
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{
    PgCatalogSchemaProvider, PgCatalogStaticTables, setup_pg_catalog,
};
use parking_lot::RwLock;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};

/// The name that Postgres clients expect.
const PG_CATALOG: &str = "pg_catalog";

/// Makes the platform's sessions fit for Postgres clients.
pub(super) struct Catalog {
    live: LiveCatalog,
    provider: Arc<dyn SchemaProvider>,
    functions: Vec<ScalarUDF>,
    keywords: Arc<PgCatalogStaticTables>,
}

impl Catalog {
    pub(super) fn new(platform: Arc<dyn Platform>) -> Result<Self, ServeError> {
        let told = |error| ServeError::Catalog(Box::new(error));
        let (database, schema) = default_names(&platform.session());
        let config = SessionConfig::new().with_default_catalog_and_schema(&database, &schema);
        let plain = SessionContext::new_with_config(config);
        let known: HashSet<String> = plain.state().scalar_functions().keys().cloned().collect();
        setup_pg_catalog(&plain, &database, Owner).map_err(ServeError::Catalog)?;
        let state = plain.state();
        let added = state.scalar_functions().iter().filter(|(name, _)| !known.contains(*name));
        let mut functions: Vec<ScalarUDF> = added.map(|(_, function)| function.as_ref().clone()).collect();
        functions.extend(functions::all());
        let keywords = Arc::new(PgCatalogStaticTables::try_new().map_err(told)?);
        let live = LiveCatalog { platform: platform.clone(), in_use: Arc::new(RwLock::new(Vec::new())) };
        let provider = PgCatalogSchemaProvider::try_new(live.clone(), keywords.clone(), Owner);
        let provider = Arc::new(Relations::new(Arc::new(provider.map_err(told)?), platform));
        Ok(Self { live, provider, functions, keywords })
    }

    /// A fresh session with `pg_catalog`. Nothing of it shows in the platform's own sessions.
    pub(super) fn session(&self) -> Result<SessionContext, ServeError> {
        let told = |error| ServeError::Catalog(Box::new(error));
        let session = self.live.platform.session();
        let (database, _) = default_names(&session);
        let mut state = session.state();
        let list: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        for name in CatalogProviderList::catalog_names(&**state.catalog_list()) {
            let Some(catalog) = state.catalog_list().catalog(&name) else { continue };
            let catalog = if name == database { self.with_pg_catalog(&*catalog).map_err(told)? } else { catalog };
            list.register_catalog(name, catalog);
        }
        self.live.is_used(&list);
        state.config_mut().options_mut().catalog.information_schema = true;
        let state = SessionStateBuilder::new_from_existing(state)
            .with_catalog_list(list)
            .with_type_planner(Arc::new(PgOidTypePlanner))
            .build();
        let session = SessionContext::new_with_state(state);
        for function in &self.functions {
            session.register_udf(function.clone());
        }
        session.register_udtf("pg_get_keywords", self.keywords.pg_get_keywords.clone());
        CoerceIntArgsToBigInt::widen(&session);
        Ok(session)
    }

    fn with_pg_catalog(&self, catalog: &dyn CatalogProvider) -> Result<Arc<dyn CatalogProvider>, DataFusionError> {
        let with = MemoryCatalogProvider::new();
        for name in catalog.schema_names() {
            if let Some(schema) = catalog.schema(&name) {
                with.register_schema(&name, schema)?;
            }
        }
        with.register_schema(PG_CATALOG, self.provider.clone())?;
        Ok(Arc::new(with))
    }
}

/// The one role: it owns everything, and whoever connects may do what it may.
#[derive(Clone, Debug)]
struct Owner;

#[async_trait]
impl PgCatalogContextProvider for Owner {
    async fn roles(&self) -> Vec<String> {
        vec![OWNER.to_owned()]
    }

    async fn role(&self, name: &str) -> Option<Role> {
        (name == OWNER).then(|| Role {
            name: OWNER.to_owned(),
            is_superuser: true,
            can_login: true,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: vec![],
            inherited_roles: vec![],
        })
    }
}

fn default_names(session: &SessionContext) -> (String, String) {
    let state = session.state();
    let catalog = &state.config_options().catalog;
    (catalog.default_catalog.clone(), catalog.default_schema.clone())
}

/// The catalogs of the sessions that are in use. They are held weakly: a session holds the rows of all views.
#[derive(Clone)]
struct LiveCatalog {
    platform: Arc<dyn Platform>,
    /// Oldest first. A statement keeps its session until its last row, so the asking one is always among them.
    in_use: Arc<RwLock<Vec<Weak<dyn CatalogProviderList>>>>,
}

impl LiveCatalog {
    fn is_used(&self, list: &Arc<dyn CatalogProviderList>) {
        let mut in_use = self.in_use.write();
        in_use.retain(|list| list.strong_count() > 0);
        in_use.push(Arc::downgrade(list));
    }

    fn list(&self) -> Arc<dyn CatalogProviderList> {
        let newest = self.in_use.read().iter().rev().find_map(Weak::upgrade);
        newest.unwrap_or_else(|| self.platform.session().state().catalog_list().clone())
    }

    fn schema(&self, catalog: &str, schema: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.list().catalog(catalog)?.schema(schema)
    }
}

impl fmt::Debug for LiveCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveCatalog")
    }
}

#[async_trait]
impl CatalogInfo for LiveCatalog {
    async fn catalog_names(&self) -> Result<Vec<String>, DataFusionError> {
        Ok(CatalogProviderList::catalog_names(&*self.list()))
    }

    async fn schema_names(&self, catalog: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        Ok(self.list().catalog(catalog).map(|catalog| catalog.schema_names()))
    }

    async fn table_names(&self, catalog: &str, schema: &str) -> Result<Option<Vec<String>>, DataFusionError> {
        let names = self.schema(catalog, schema).map(|schema| schema.table_names());
        // Ids are given out in this order, and a catalog may list its tables in a random one.
        Ok(names.map(|mut names| {
            names.sort();
            names
        }))
    }

    async fn table_schema(
        &self,
        catalog: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<SchemaRef>, DataFusionError> {
        let Some(schema) = self.schema(catalog, schema) else { return Ok(None) };
        // A table of the lake that cannot be reached must not take the others out of the catalog.
        let found = schema.table(table).await.unwrap_or_else(|error| {
            tracing::warn!(table, %error, "its columns are left out of pg_catalog");
            None
        });
        Ok(found.map(|table| table.schema()))
    }

    /// What the platform maintains is a view, so that `\dv` lists it and `\dt` does not.
    async fn table_type(&self, catalog: &str, schema: &str, table: &str) -> Result<Option<TableType>, DataFusionError> {
        if schema != PG_CATALOG && self.platform.views().iter().any(|view| view.name == table) {
            return Ok(Some(TableType::View));
        }
        let Some(schema) = self.schema(catalog, schema) else { return Ok(None) };
        schema.table_type(table).await
    }
}
