//! Stored views and lake tables, under the data folder.

use futures::future::BoxFuture;
use object_store::path::Path as StorePath;
use rivermere_base::Disk;
use rivermere_batch::OpenLake;
use rivermere_delta::{DeltaSink, DeltaTable, Location};
use rivermere_sql::ViewDefinition;
use rivermere_store::DiskStore;
use rivermere_table::{Adopt, SinkId, SinkMode, SinkSpec, Table, TableError, TableSink};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Lake {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    adopt: Adopt,
}

type Opened = BoxFuture<'static, Result<Arc<dyn TableSink>, TableError>>;

impl Lake {
    pub(super) fn new(disk: Arc<dyn Disk>, root: PathBuf, adopt: Adopt) -> Self {
        Self { disk, root, adopt }
    }

    /// Relative to the data folder; `lake/<view>` when the statement names none.
    pub(super) fn path_of(view: &ViewDefinition) -> String {
        let given = view.stored_as.as_ref().and_then(|stored| stored.location.clone());
        given.unwrap_or_else(|| format!("lake/{}", view.name))
    }

    pub(super) fn shown(&self, view: &ViewDefinition) -> String {
        self.root.join(Self::path_of(view)).display().to_string()
    }

    fn location(&self, path: &str) -> Location {
        // An absolute path is a table elsewhere on the disk.
        let (root, inner) = match path.strip_prefix("file://").unwrap_or(path).strip_prefix('/') {
            Some(absolute) => (PathBuf::from("/"), absolute),
            None => (self.root.clone(), path),
        };
        let shown = root.join(inner).display().to_string();
        Location::new(Arc::new(DiskStore::new(self.disk.clone(), root)), StorePath::from(inner), self.disk.clone())
            .named(shown)
    }

    /// How the committer opens the table of a stored view.
    pub(super) fn opener(&self) -> Box<dyn Fn(Arc<ViewDefinition>, SinkId) -> Opened + Send + Sync> {
        let lake = self.clone();
        Box::new(move |view, sink_id| {
            let lake = lake.clone();
            Box::pin(async move {
                let mode = match (view.plan.properties.append_only, view.key()) {
                    (true, _) => SinkMode::Append,
                    (false, key) => SinkMode::Merge { key: key.unwrap_or_default() },
                };
                let spec = SinkSpec { sink_id, schema: view.plan.schema.clone(), mode, adopt: lake.adopt };
                let sink = DeltaSink::open(lake.location(&Self::path_of(&view)), spec).await?;
                Ok(Arc::new(sink) as Arc<dyn TableSink>)
            })
        })
    }

    /// How `delta('path')` opens a table.
    pub(super) fn reader(&self) -> Arc<OpenLake> {
        let lake = self.clone();
        Arc::new(move |path| {
            let lake = lake.clone();
            Box::pin(async move {
                let table = DeltaTable::open(lake.location(&path)).await.map_err(|error| error.to_string())?;
                table.scan(None).await.map_err(|error| error.to_string())
            })
        })
    }
}
