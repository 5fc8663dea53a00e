//! Stored views and lake tables, under the data folder or in a storage.

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use futures::future::{BoxFuture, join_all};
use object_store::ObjectStore;
use object_store::path::Path as StorePath;
use rivermere_base::{Doors, Epoch};
use rivermere_batch::{At, Lake as Reading, OpenChanges, OpenFiles, OpenLake, open_files};
use rivermere_delta::{DeltaSink, DeltaTable};
use rivermere_hudi::{HudiSink, HudiTable};
use rivermere_iceberg::{IcebergSink, IcebergTable, Locate};
use rivermere_sql::{ExternalTable, LakeFormat, LakePlace, Parsed, Planner, RelationKind, Statement, ViewDefinition};
use rivermere_store::{CatalogTable, DiskStore, Scheme, Storage, StorageError, Storages};
use rivermere_stream::Lakes;
use rivermere_stream::runtime::NeededVersions;
use rivermere_table::{
    Adopt, EditableTable, Location, SinkId, SinkMode, SinkSpec, Table, TableError, TableSink, TableSpec,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

#[derive(Clone)]
pub(super) struct Lake {
    doors: Doors,
    root: PathBuf,
    /// Where relative places begin, when not in `root`.
    base: Option<Arc<str>>,
    storages: Arc<Storages>,
    adopt: Adopt,
}

type Opened = BoxFuture<'static, Result<Arc<dyn TableSink>, TableError>>;

/// Where a table is.
enum Place {
    /// A folder of the disk: its root, and the path inside.
    Disk(PathBuf, StorePath),
    Storage(Storage),
}

impl Lake {
    /// Relative places are in `root`, or below the URL `base` if there is one.
    pub(super) fn new(doors: Doors, root: PathBuf, base: Option<&str>, storages: Storages, adopt: Adopt) -> Self {
        let base = base.map(|base| base.trim_end_matches('/').into());
        Self { doors, root, base, storages: Arc::new(storages), adopt }
    }

    /// As the statement gives it; `lake/<view>` when it names none.
    fn path_of(view: &ViewDefinition) -> String {
        let given = view.stored_as.as_ref().and_then(|stored| stored.location.clone());
        given.unwrap_or_else(|| format!("lake/{}", view.name))
    }

    /// The whole path or URL of a view's table.
    pub(super) fn shown(&self, view: &ViewDefinition) -> String {
        self.whole(&Self::path_of(view))
    }

    fn whole(&self, path: &str) -> String {
        match &self.base {
            _ if Storage::is_url(path) => path.to_owned(),
            Some(base) if !path.starts_with('/') => format!("{base}/{path}"),
            _ => self.root.join(path).display().to_string(),
        }
    }

    /// Whether two texts name the same place.
    pub(super) fn is_same(&self, one: &str, other: &str) -> bool {
        let place = |path: &str| {
            let whole = self.whole(path.strip_prefix("file://").unwrap_or(path));
            whole.trim_end_matches('/').to_owned()
        };
        place(one) == place(other)
    }

    /// Whether two texts may name the same place, by whatever scheme and host: what must be spared rather too often.
    pub(super) fn may_be_same(&self, one: &str, other: &str) -> bool {
        match (self.place(one), self.place(other)) {
            (Ok(Place::Storage(one)), Ok(Place::Storage(other))) => {
                one.scheme() == other.scheme() && one.path() == other.path()
            }
            _ => self.is_same(one, other),
        }
    }

    /// The versions of a stored view's table from which views read on.
    pub(super) fn needed(&self, lakes: &Lakes) -> Box<NeededVersions> {
        let (lake, lakes) = (self.clone(), lakes.clone());
        Box::new(move |view| {
            let own = Self::path_of(view);
            lakes.needed(|place| lake.may_be_same(place, &own))
        })
    }

    /// The table that a view is stored in although it reads it, itself or by views between: it would feed itself for ever.
    pub(super) fn fed_by_itself(&self, view: &ViewDefinition, planner: &Planner) -> Option<String> {
        view.stored_as.as_ref()?;
        let own = Self::path_of(view);
        let mut inputs: Vec<&String> = view.plan.inputs.iter().collect();
        while let Some(input) = inputs.pop() {
            match planner.relations().get(input).map(|relation| &relation.kind) {
                Some(RelationKind::Lake(table)) if self.is_same(&table.place.location, &own) => {
                    return Some(input.clone());
                }
                Some(RelationKind::View(between)) => inputs.extend(&between.plan.inputs),
                _ => {}
            }
        }
        None
    }

    /// Whether the place of a stored view can be opened at all; no request is made.
    pub(super) fn check(&self, view: &ViewDefinition) -> Result<(), StorageError> {
        match &view.stored_as {
            Some(stored) => {
                let path = Self::path_of(view);
                match stored.format == LakeFormat::Iceberg && self.storages.catalog(&path)?.is_some() {
                    true => Ok(()),
                    false => self.place(&path).map(drop),
                }
            }
            None => Ok(()),
        }
    }

    fn place(&self, path: &str) -> Result<Place, StorageError> {
        // As it stands, like the names of files: nothing in it is encoded or decoded.
        let on_disk = |root: &Path, inside: &str| match StorePath::parse(inside) {
            Ok(inside) => Ok(Place::Disk(root.to_path_buf(), inside)),
            Err(_) => Err(StorageError::Address {
                url: path.to_owned(),
                problem: "goes up, or has an empty part".into(),
                form: "a path below the data folder, or a whole path from the root",
            }),
        };
        if let Some(absolute) = path.strip_prefix("file://").unwrap_or(path).strip_prefix('/') {
            return on_disk(Path::new("/"), absolute);
        }
        match &self.base {
            _ if Storage::is_url(path) => self.storages.open(path).map(Place::Storage),
            Some(base) => self.storages.open(&format!("{base}/{path}")).map(Place::Storage),
            None => on_disk(&self.root, path),
        }
    }

    /// The table of a catalog that a place names; nothing for a place of a storage.
    fn in_catalog(&self, place: &LakePlace) -> Result<Option<CatalogTable>, TableError> {
        if place.format != LakeFormat::Iceberg {
            return Ok(None);
        }
        let refused = |error: StorageError| TableError::UnfitStorage {
            location: place.location.clone(),
            reason: error.to_string(),
        };
        self.storages.catalog(&place.location).map_err(refused)
    }

    /// How the files of a catalog's tables are found, by the URLs that it gives.
    fn locate(&self) -> Box<Locate> {
        let lake = self.clone();
        // As Java writes a file's URL.
        Box::new(move |url| {
            lake.location_of(url.strip_prefix("file:").filter(|rest| !rest.starts_with("//")).unwrap_or(url))
        })
    }

    fn location(&self, place: Place) -> Location {
        let disk = self.doors.disk.clone();
        match place {
            Place::Disk(root, inner) => {
                let shown = root.join(inner.as_ref()).display().to_string();
                let store = Arc::new(DiskStore::new(disk.clone(), root));
                Location::new(store, inner, disk).named(shown)
            }
            Place::Storage(storage) => {
                Location::new(storage.store(), storage.path().clone(), disk).named(storage.to_string())
            }
        }
    }

    /// How the committer opens the table of a stored view.
    pub(super) fn opener(&self) -> Box<dyn Fn(Arc<ViewDefinition>, SinkId, Epoch) -> Opened + Send + Sync> {
        let lake = self.clone();
        Box::new(move |view, sink_id, since| {
            let lake = lake.clone();
            Box::pin(async move {
                let refused = |error: StorageError| match error {
                    // Nothing that the next try would cure.
                    StorageError::NotAtomic { .. } | StorageError::Address { .. } => {
                        TableError::UnfitStorage { location: lake.shown(&view), reason: error.to_string() }
                    }
                    error => TableError::storage("opening the storage", lake.shown(&view), error),
                };
                let mode = match (view.plan.properties.append_only, view.key()) {
                    (true, _) => SinkMode::Append,
                    (false, key) => SinkMode::Merge { key: key.unwrap_or_default() },
                };
                let properties = view.stored_as.as_ref().map(|stored| stored.properties.clone()).unwrap_or_default();
                let schema = view.plan.schema.clone();
                let spec = SinkSpec { sink_id, schema, mode, adopt: lake.adopt, properties, since };
                let format = view.stored_as.as_ref().map_or(LakeFormat::Delta, |stored| stored.format);
                let path = Self::path_of(&view);
                if let Some(table) = lake.in_catalog(&LakePlace::new(format, path.clone()))? {
                    let sink: Arc<dyn TableSink> = Arc::new(IcebergSink::open_in(table, &*lake.locate(), spec).await?);
                    return Ok(sink);
                }
                let place = lake.place(&path).map_err(refused)?;
                if let Place::Storage(storage) = &place
                    && storage.scheme() != Scheme::File
                {
                    // Before the first commit: where it does not hold, a second writer's commit would be lost.
                    storage.prove_create_only(lake.doors.rng.as_ref()).await.map_err(refused)?;
                }
                let sink: Arc<dyn TableSink> = match format {
                    LakeFormat::Delta => Arc::new(DeltaSink::open(lake.location(place), spec).await?),
                    LakeFormat::Iceberg => Arc::new(IcebergSink::open(lake.location(place), spec).await?),
                    LakeFormat::Hudi => Arc::new(HudiSink::open(lake.location(place), spec).await?),
                };
                Ok(sink)
            })
        })
    }

    fn location_of(&self, path: &str) -> Result<Location, TableError> {
        let place = self
            .place(path)
            .map_err(|error| TableError::UnfitStorage { location: path.to_owned(), reason: error.to_string() })?;
        Ok(self.location(place))
    }

    /// The columns of the tables that statements take or make, where there are tables already.
    pub(super) async fn columns_of<'a>(
        &self,
        statements: impl IntoIterator<Item = &'a Parsed>,
    ) -> BTreeMap<String, Result<SchemaRef, TableError>> {
        let externals = statements.into_iter().filter_map(|parsed| match &parsed.statement {
            Statement::CreateExternal(create) => Some(create),
            _ => None,
        });
        let opened = externals.map(|create| async move {
            let columns = async { self.table(&create.place).await?.schema().await };
            (create.name.value.clone(), columns.await)
        });
        join_all(opened).await.into_iter().collect()
    }

    /// How the engine follows tables of the lake. Must be called on the runtime that they are to be read on.
    pub(super) fn followed(&self) -> Lakes {
        let lake = self.clone();
        let open = move |external: Arc<ExternalTable>| -> BoxFuture<'static, Result<Arc<dyn Table>, TableError>> {
            let lake = lake.clone();
            Box::pin(async move {
                let table: Arc<dyn Table> = lake.table(&external.place).await?;
                Ok(table)
            })
        };
        Lakes::new(Handle::current(), Arc::new(open))
    }

    /// A table, for statements about it.
    ///
    /// # Errors
    /// [`TableError::OtherFormat`] when there is one of another format at the place.
    pub(super) async fn table(&self, place: &LakePlace) -> Result<Arc<dyn EditableTable>, TableError> {
        let opened = self.opened(place).await;
        let Err(TableError::Missing { location }) = opened else { return opened };
        if self.in_catalog(place)?.is_some() {
            return Err(TableError::Missing { location });
        }
        for format in LakeFormat::ALL.into_iter().filter(|format| *format != place.format) {
            if self.opened(&LakePlace::new(format, place.location.clone())).await.is_ok() {
                let (wanted, found) = (place.format.name(), format.name());
                return Err(TableError::OtherFormat { location, wanted, found });
            }
        }
        Err(TableError::Missing { location })
    }

    async fn opened(&self, place: &LakePlace) -> Result<Arc<dyn EditableTable>, TableError> {
        if let Some(table) = self.in_catalog(place)? {
            return Ok(Arc::new(IcebergTable::open_in(table, &*self.locate()).await?));
        }
        let location = self.location_of(&place.location)?;
        Ok(match place.format {
            LakeFormat::Delta => Arc::new(DeltaTable::open(location).await?),
            LakeFormat::Iceberg => Arc::new(IcebergTable::open(location).await?),
            LakeFormat::Hudi => Arc::new(HudiTable::open(location).await?),
        })
    }

    /// An Iceberg table, for its catalog.
    pub(super) async fn iceberg(&self, location: &str) -> Result<IcebergTable, TableError> {
        IcebergTable::open(self.location_of(location)?).await
    }

    /// Makes a table.
    pub(super) async fn create(
        &self,
        place: &LakePlace,
        spec: &TableSpec,
    ) -> Result<Arc<dyn EditableTable>, TableError> {
        if let Some(table) = self.in_catalog(place)? {
            return Ok(Arc::new(IcebergTable::create_in(table, &*self.locate(), spec).await?));
        }
        let location = self.location_of(&place.location)?;
        Ok(match place.format {
            LakeFormat::Delta => Arc::new(DeltaTable::create(location, spec).await?),
            LakeFormat::Iceberg => Arc::new(IcebergTable::create(location, spec).await?),
            LakeFormat::Hudi => Arc::new(HudiTable::create(location, spec).await?),
        })
    }

    /// What statements read. Relative paths of files begin in the project's folder, like those of file tables.
    pub(super) fn reading(&self, project: &Path) -> Reading {
        Reading { table: self.reader(), changes: self.change_reader(), files: self.files(project.to_path_buf()) }
    }

    fn change_reader(&self) -> Arc<OpenChanges> {
        let lake = self.clone();
        let runtime = Handle::try_current().ok();
        Arc::new(move |place, from, to| {
            let lake = lake.clone();
            on(runtime.as_ref(), async move { lake.changes(&place, from, to).await })
        })
    }

    fn files(&self, project: PathBuf) -> Arc<OpenFiles> {
        let lake = Self { root: project, base: None, ..self.clone() };
        let runtime = Handle::try_current().ok();
        Arc::new(move |path, format| {
            let lake = lake.clone();
            let opened = async move {
                let (store, path): (Arc<dyn ObjectStore>, _) =
                    match lake.place(&path).map_err(|error| error.to_string())? {
                        Place::Disk(root, inner) => (Arc::new(DiskStore::new(lake.doors.disk.clone(), root)), inner),
                        Place::Storage(storage) => (storage.store(), storage.path().clone()),
                    };
                open_files(store, path, format).await.map_err(|error| error.strip_backtrace())
            };
            on(runtime.as_ref(), opened)
        })
    }

    /// How `delta('path')` and its like open a table. Requests are made on the runtime that this is called on: whoever plans a
    /// statement may do so on one that ends with the planning, and would take the connections of others with it.
    fn reader(&self) -> Arc<OpenLake> {
        let lake = self.clone();
        let runtime = Handle::try_current().ok();
        Arc::new(move |place, at| {
            let lake = lake.clone();
            let opened = async move {
                let table = lake.table(&place).await.map_err(|error| error.to_string())?;
                let version = match at {
                    At::Newest => None,
                    At::Version(version) => Some(version),
                    At::TimeMs(time) => Some(table.version_at(time).await.map_err(|error| error.to_string())?),
                };
                table.scan(version).await.map_err(|error| error.to_string())
            };
            on(runtime.as_ref(), opened)
        })
    }
}

type Answer = Result<Arc<dyn TableProvider>, String>;

/// The same on a runtime, if there is one.
fn on(runtime: Option<&Handle>, opened: impl Future<Output = Answer> + Send + 'static) -> BoxFuture<'static, Answer> {
    match runtime {
        Some(runtime) => {
            let opened = runtime.spawn(opened);
            Box::pin(async move { opened.await.map_err(|error| error.to_string())? })
        }
        None => Box::pin(opened),
    }
}
