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
use rivermere_store::{
    DiskStore, InCatalog, MetastoreTable, NewTable, NoAnswer, Scheme, Storage, StorageError, Storages,
};
use rivermere_stream::Lakes;
use rivermere_stream::runtime::NeededVersions;
use rivermere_table::{
    Adopt, EditableTable, Location, SinkId, SinkMode, SinkSpec, Table, TableError, TableSink, TableSpec,
    metastore_columns,
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

    pub(super) fn whole(&self, path: &str) -> String {
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
            self.storages.catalog_name(&whole).unwrap_or_else(|| whole.trim_end_matches('/').to_owned())
        };
        place(one) == place(other)
    }

    /// Whether two texts may name the same place, by whatever scheme and host: what must be spared rather too often.
    pub(super) fn may_be_same(&self, one: &str, other: &str) -> bool {
        let is_in_catalog = |path: &str| self.storages.catalog_name(path).is_some();
        match (self.place(one), self.place(other)) {
            // Where a catalog has a table, it alone knows.
            _ if is_in_catalog(one) || is_in_catalog(other) => true,
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
        if view.stored_as.is_none() {
            return Ok(());
        }
        let path = Self::path_of(view);
        match self.storages.catalog(&path)? {
            Some(_) => Ok(()),
            None => self.place(&path).map(drop),
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
    fn in_catalog(&self, place: &LakePlace) -> Result<Option<InCatalog>, TableError> {
        let unfit = |reason: String| TableError::UnfitStorage { location: place.location.clone(), reason };
        let found = self.storages.catalog(&place.location).map_err(|error| unfit(error.to_string()))?;
        match (&found, place.format) {
            (Some(InCatalog::Rest(_)), LakeFormat::Delta | LakeFormat::Hudi) => {
                Err(unfit(format!("a REST catalog of Iceberg has no {} tables", place.format.name())))
            }
            (Some(InCatalog::Metastore(table)), LakeFormat::Iceberg) if !table.has_iceberg() => Err(unfit(
                "Iceberg tables of Unity Catalog are in its REST catalog: name it as iceberg+https://host/…/schema.table".into(),
            )),
            _ => Ok(found),
        }
    }

    /// Where a metastore says that a table of another format than Iceberg is; nothing when it has none of the name.
    async fn described(&self, table: &MetastoreTable, format: LakeFormat) -> Result<Option<Location>, TableError> {
        let Some(described) = table.described().await.map_err(|error| unanswered(table, error))? else {
            return Ok(None);
        };
        // One that says nothing is looked at where it is.
        let found = LakeFormat::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(&described.format));
        match found.filter(|found| *found != format) {
            Some(found) => {
                Err(TableError::OtherFormat { location: table.to_string(), wanted: format.name(), found: found.name() })
            }
            None => self.locate()(&described.location).map(Some),
        }
    }

    /// Tells a metastore of a table of another format than Iceberg, made at `place`.
    async fn register(
        &self,
        table: &MetastoreTable,
        format: LakeFormat,
        place: String,
        schema: &SchemaRef,
    ) -> Result<(), TableError> {
        let failed = |error| unanswered(table, error);
        let new = NewTable {
            format: if format == LakeFormat::Hudi { "HUDI" } else { "DELTA" },
            location: place,
            metadata: None,
            columns: metastore_columns(schema),
        };
        if table.register(&new).await.map_err(failed)? {
            return Ok(());
        }
        // Somebody else did it, or an attempt whose answer was lost.
        let there = table.described().await.map_err(failed)?;
        match there.is_some_and(|there| there.location == new.location.trim_end_matches('/')) {
            true => Ok(()),
            false => Err(TableError::Conflict { location: table.to_string(), attempts: 1 }),
        }
    }

    /// How the files of a catalog's tables are found, by the URLs that it gives.
    fn locate(&self) -> Box<Locate> {
        let lake = self.clone();
        Box::new(move |url| lake.location_of(plain(url)))
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
                let mode = match (view.plan.properties.append_only, view.key()) {
                    (true, _) => SinkMode::Append,
                    (false, key) => SinkMode::Merge { key: key.unwrap_or_default() },
                };
                let properties = view.stored_as.as_ref().map(|stored| stored.properties.clone()).unwrap_or_default();
                let schema = view.plan.schema.clone();
                let spec = SinkSpec { sink_id, schema, mode, adopt: lake.adopt, properties, since };
                let format = view.stored_as.as_ref().map_or(LakeFormat::Delta, |stored| stored.format);
                let path = Self::path_of(&view);
                match lake.in_catalog(&LakePlace::new(format, path.clone()))? {
                    Some(InCatalog::Metastore(table)) if format != LakeFormat::Iceberg => {
                        return lake.sink_in(&table, format, spec).await;
                    }
                    Some(table) => {
                        let sink = IcebergSink::open_in(table, &*lake.locate(), spec).await?;
                        return Ok(Arc::new(sink) as Arc<dyn TableSink>);
                    }
                    None => {}
                }
                let location = lake.proven(&path).await?;
                sink(format, location, spec).await
            })
        })
    }

    /// A place where a table can be written: two commits at a time are told apart.
    async fn proven(&self, path: &str) -> Result<Location, TableError> {
        let refused = |error: StorageError| match error {
            // Nothing that the next try would cure.
            StorageError::NotAtomic { .. } | StorageError::Address { .. } => {
                TableError::UnfitStorage { location: self.whole(path), reason: error.to_string() }
            }
            error => TableError::storage("opening the storage", self.whole(path), error),
        };
        let place = self.place(plain(path)).map_err(refused)?;
        if let Place::Storage(storage) = &place
            && storage.scheme() != Scheme::File
        {
            // Before the first commit: where it does not hold, a second writer's commit would be lost.
            storage.prove_create_only(self.doors.rng.as_ref()).await.map_err(refused)?;
        }
        Ok(self.location(place))
    }

    /// The sink of a table that a metastore says the place of. A new one is told of when it is there.
    async fn sink_in(
        &self,
        table: &MetastoreTable,
        format: LakeFormat,
        spec: SinkSpec,
    ) -> Result<Arc<dyn TableSink>, TableError> {
        if let Some(location) = self.described(table, format).await? {
            // What is there under the name may be anything: nothing is made in its folder.
            let shown = location.to_string();
            return match opened(format, location.clone()).await {
                Err(TableError::Missing { .. }) => Err(TableError::UnfitStorage {
                    location: table.to_string(),
                    reason: format!(
                        "the catalog has a table of that name at '{shown}', which is no {} table",
                        format.name()
                    ),
                }),
                Err(error) => Err(error),
                Ok(_) => sink(format, location, spec).await,
            };
        }
        let place = table.new_location().await.map_err(|error| unanswered(table, error))?;
        let location = self.proven(&place).await?;
        let schema = spec.schema.clone();
        let opened = sink(format, location, spec).await?;
        self.register(table, format, place, &schema).await?;
        Ok(opened)
    }

    pub(super) fn location_of(&self, path: &str) -> Result<Location, TableError> {
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
        let location = match self.in_catalog(place)? {
            Some(InCatalog::Metastore(table)) if place.format != LakeFormat::Iceberg => {
                let missing = || TableError::Missing { location: table.to_string() };
                self.described(&table, place.format).await?.ok_or_else(missing)?
            }
            Some(table) => return Ok(Arc::new(IcebergTable::open_in(table, &*self.locate()).await?)),
            None => self.location_of(&place.location)?,
        };
        opened(place.format, location).await
    }

    /// An Iceberg table, for its catalog.
    pub(super) async fn iceberg(&self, location: &str) -> Result<IcebergTable, TableError> {
        match self.in_catalog(&LakePlace::new(LakeFormat::Iceberg, location.to_owned()))? {
            Some(table) => IcebergTable::open_in(table, &*self.locate()).await,
            None => IcebergTable::open(self.location_of(location)?).await,
        }
    }

    /// Makes a table.
    pub(super) async fn create(
        &self,
        place: &LakePlace,
        spec: &TableSpec,
    ) -> Result<Arc<dyn EditableTable>, TableError> {
        let catalog = match self.in_catalog(place)? {
            Some(InCatalog::Metastore(table)) if place.format != LakeFormat::Iceberg => table,
            Some(table) => return Ok(Arc::new(IcebergTable::create_in(table, &*self.locate(), spec).await?)),
            None => return made(place.format, self.location_of(&place.location)?, spec).await,
        };
        if self.described(&catalog, place.format).await?.is_some() {
            return Err(TableError::Verb {
                location: catalog.to_string(),
                verb: "CREATE EXTERNAL TABLE",
                reason: "there is a table already".into(),
            });
        }
        let url = catalog.new_location().await.map_err(|error| unanswered(&catalog, error))?;
        let table = made(place.format, self.locate()(&url)?, spec).await?;
        self.register(&catalog, place.format, url, &spec.schema).await?;
        Ok(table)
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
                    At::Named(name) => Some(table.version_named(&name).await.map_err(|error| error.to_string())?),
                    At::TimeMs(time) => Some(table.version_at(time).await.map_err(|error| error.to_string())?),
                };
                table.scan(version).await.map_err(|error| error.to_string())
            };
            on(runtime.as_ref(), opened)
        })
    }
}

fn unanswered(table: &MetastoreTable, error: NoAnswer) -> TableError {
    TableError::storage("asking the catalog", table.to_string(), error)
}

/// A file's URL as Java writes it is a path.
fn plain(url: &str) -> &str {
    url.strip_prefix("file:").filter(|rest| !rest.starts_with("//")).unwrap_or(url)
}

async fn opened(format: LakeFormat, location: Location) -> Result<Arc<dyn EditableTable>, TableError> {
    Ok(match format {
        LakeFormat::Delta => Arc::new(DeltaTable::open(location).await?),
        LakeFormat::Iceberg => Arc::new(IcebergTable::open(location).await?),
        LakeFormat::Hudi => Arc::new(HudiTable::open(location).await?),
    })
}

async fn sink(format: LakeFormat, location: Location, spec: SinkSpec) -> Result<Arc<dyn TableSink>, TableError> {
    Ok(match format {
        LakeFormat::Delta => Arc::new(DeltaSink::open(location, spec).await?),
        LakeFormat::Iceberg => Arc::new(IcebergSink::open(location, spec).await?),
        LakeFormat::Hudi => Arc::new(HudiSink::open(location, spec).await?),
    })
}

async fn made(format: LakeFormat, location: Location, spec: &TableSpec) -> Result<Arc<dyn EditableTable>, TableError> {
    Ok(match format {
        LakeFormat::Delta => Arc::new(DeltaTable::create(location, spec).await?),
        LakeFormat::Iceberg => Arc::new(IcebergTable::create(location, spec).await?),
        LakeFormat::Hudi => Arc::new(HudiTable::create(location, spec).await?),
    })
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
