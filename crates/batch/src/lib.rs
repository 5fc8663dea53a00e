//! Runs a query once, over topics, views and tables; and answers a view's own query from its inputs, which is what the
//! stream engine's answer must equal.
//!
//! The entry noun is [`Query`]: a factory of DataFusion sessions over the relations of a [`Catalog`]. One session serves
//! one statement: it sees topics up to their high watermark and views at the last finished step. Nothing is kept.
//!
//! Table functions: `delta('path')` reads a Delta table of the lake, `delta('path', 3)` its version 3,
//! `table_changes('table', 3)` what changed since; `parquet`, `csv` and `json` read files, `batch('view')` computes a view's
//! query in batch over all its topics.

mod files;
mod functions;
mod lake;
mod providers;

pub use files::{FilesFormat, open_files};
pub use functions::{At, Lake, OpenChanges, OpenFiles, OpenLake};
use providers::{File, Planned, RawTopic, Relation, Topic, View, relation};

use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{TableProvider, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::future::BoxFuture;
use rivermere_base::Disk;
use rivermere_log::Log;
use rivermere_sql::{
    Connector, LakeFormat, LakePlace, TABLE_AS_OF, TableDefinition, ViewDefinition, register_functions,
};
use rivermere_stream::Snapshot;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The relations that queries can read.
pub trait Catalog: Send + Sync + 'static {
    fn tables(&self) -> Vec<Arc<TableDefinition>>;
    fn views(&self) -> Vec<Arc<ViewDefinition>>;
    /// A view's rows at the last finished step.
    fn snapshot(&self, view: &str) -> Option<Snapshot>;
    /// Names of external tables, with their places.
    fn externals(&self) -> BTreeMap<String, LakePlace>;
    /// The place of the table that an external table names, or that a view is stored in.
    fn lake_place(&self, name: &str) -> Option<LakePlace>;
}

/// Makes sessions over a catalog.
#[derive(Clone)]
pub struct Query {
    catalog: Arc<dyn Catalog>,
    log: Log,
    disk: Arc<dyn Disk>,
    project: PathBuf,
    lake: Lake,
}

impl Query {
    /// `project` is where the paths of file tables start; `lake` opens tables and files by their path or URL.
    pub fn new(catalog: Arc<dyn Catalog>, log: Log, disk: Arc<dyn Disk>, project: PathBuf, lake: Lake) -> Self {
        Self { catalog, log, disk, project, lake }
    }

    /// A session for one statement.
    ///
    /// # Errors
    /// When two relations have one name.
    pub fn session(&self) -> Result<SessionContext> {
        let config = SessionConfig::new()
            .with_target_partitions(2)
            .with_information_schema(true)
            .with_default_catalog_and_schema("rivermere", "public")
            .set_bool("datafusion.sql_parser.collect_spans", true)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let mut context = SessionContext::new_with_state(
            SessionStateBuilder::new().with_config(config).with_default_features().build(),
        );
        register_functions(&mut context)?;
        let mut names = std::collections::BTreeSet::new();
        for table in self.catalog.tables() {
            context.register_table(TableReference::bare(table.name.as_str()), self.table(&table, false))?;
            names.insert(table.name.clone());
        }
        for view in self.catalog.views() {
            let provider = relation(View::new(view.clone(), self.catalog.clone()));
            context.register_table(TableReference::bare(view.name.as_str()), Arc::new(provider))?;
            names.insert(view.name.clone());
        }
        for topic in self.log.topics() {
            if !names.contains(topic.name.as_str()) {
                let provider = relation(RawTopic::new(self.log.clone(), topic.name.clone()));
                context.register_table(TableReference::bare(topic.name.as_str()), Arc::new(provider))?;
            }
        }
        if let Some(catalog) = context.catalog("rivermere")
            && let Some(public) = catalog.schema("public")
        {
            let with = lake::WithExternals::new(public, self.catalog.externals(), self.lake.table.clone());
            catalog.register_schema("public", Arc::new(with))?;
        }
        context.register_udtf(TABLE_AS_OF, Arc::new(functions::TableAsOf::new(self.clone())));
        context.register_udtf("table_changes", Arc::new(functions::TableChanges::new(self.clone())));
        for format in LakeFormat::ALL {
            let table = functions::TableByPlace::new(format, self.lake.table.clone());
            context.register_udtf(format.name(), Arc::new(table));
        }
        for name in FilesFormat::NAMES {
            context.register_udtf(name, Arc::new(functions::Files::new(name, self.lake.files.clone())));
        }
        context.register_udtf("batch", Arc::new(functions::Batch::new(self.clone())));
        Ok(context)
    }

    /// The place of a table that has versions.
    pub(crate) fn lake_place(&self, name: &str) -> Option<LakePlace> {
        self.catalog.lake_place(name)
    }

    pub(crate) fn open_lake(
        &self,
        place: LakePlace,
        at: At,
    ) -> BoxFuture<'static, std::result::Result<Arc<dyn TableProvider>, String>> {
        (self.lake.table)(place, at)
    }

    pub(crate) fn open_changes(
        &self,
        place: LakePlace,
        from: At,
        to: At,
    ) -> BoxFuture<'static, std::result::Result<Arc<dyn TableProvider>, String>> {
        (self.lake.changes)(place, from, to)
    }

    fn table(&self, table: &Arc<TableDefinition>, with_lateness: bool) -> Arc<dyn TableProvider> {
        match &table.connector {
            Connector::Topic { .. } => Arc::new(relation(Topic::new(table.clone(), self.log.clone(), with_lateness))),
            Connector::File { path } => {
                let path = self.project.join(path);
                Arc::new(relation(File::new(table.clone(), self.disk.clone(), path, with_lateness)))
            }
        }
    }

    /// A view's query over its topics and files, whatever views are between.
    ///
    /// # Errors
    /// When an input is gone.
    pub fn batch_plan(&self, view: &ViewDefinition) -> Result<LogicalPlan> {
        let tables = self.catalog.tables();
        let views = self.catalog.views();
        let externals = self.catalog.externals();
        let plan = LogicalPlan::clone(&view.plan.logical).transform_up(|node| {
            let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
            let name = scan.table_name.table();
            let provider: Arc<dyn TableProvider> = if let Some(table) = tables.iter().find(|table| table.name == name) {
                self.table(table, true)
            } else if let Some(view) = views.iter().find(|view| view.name == name) {
                Arc::new(relation(Planned::new(view.plan.schema.clone(), self.batch_plan(view)?)))
            } else if let Some(place) = externals.get(name) {
                Arc::new(Relation(lake::Deferred::new(scan.source.schema(), place.clone(), self.lake.table.clone())))
            } else {
                return Err(DataFusionError::Plan(format!("RM-3101: input '{name}' of the view is gone")));
            };
            scan.source = provider_as_source(provider);
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        })?;
        Ok(plan.data)
    }

    /// The view of this name.
    pub fn view(&self, name: &str) -> Option<Arc<ViewDefinition>> {
        self.catalog.views().into_iter().find(|view| view.name == name)
    }
}
