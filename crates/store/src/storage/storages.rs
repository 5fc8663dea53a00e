//! All storages of a process.

use super::address::Address;
use super::catalog::{self, CatalogService, CatalogTable};
use super::metastore::{self, Metastore, MetastoreTable};
use super::{Environment, Storage, StorageError, StorageOptions};
use parking_lot::Mutex;
use rivermere_base::Doors;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Clients that are kept; a process that names more buckets opens the others anew each time.
const MAX_CLIENTS: usize = 256;

/// Opens storages by URL, with the options that were given for the beginning of the URL. Each bucket has one client, and
/// so one limit of connections, for all who use it: connections are tasks of the Tokio runtime that makes a request, so
/// requests belong on one that lives as long as this.
pub struct Storages {
    doors: Doors,
    environment: Environment,
    /// Longest beginnings first.
    options: Vec<(String, StorageOptions)>,
    none: StorageOptions,
    clients: Mutex<HashMap<(String, Option<usize>), Storage>>,
    catalogs: Clients<CatalogService>,
    metastores: Clients<Metastore>,
}

/// By whom they ask, and the options that they ask with.
type Clients<T> = Mutex<HashMap<(String, Option<usize>), Arc<T>>>;

/// A table of a catalog.
#[derive(Clone, Debug)]
pub enum InCatalog {
    /// That hands out an Iceberg table's metadata itself, and makes commits.
    Rest(CatalogTable),
    /// That says where a table is.
    Metastore(MetastoreTable),
}

impl InCatalog {
    /// The URL.
    pub fn shown(&self) -> &str {
        match self {
            Self::Rest(table) => &table.shown,
            Self::Metastore(table) => &table.shown,
        }
    }
}

impl Storages {
    /// `options` are for URLs that begin with a certain one, up to a slash: `s3://bucket`, `s3://bucket/folder`.
    ///
    /// # Errors
    /// When a URL, an option or the credentials cannot be used.
    pub fn new(
        doors: Doors,
        environment: Environment,
        options: impl IntoIterator<Item = (String, StorageOptions)>,
    ) -> Result<Self, StorageError> {
        let options = options.into_iter().map(|(url, options)| (url.trim_end_matches('/').to_owned(), options));
        let mut options: Vec<_> = options.collect();
        options.sort_by_key(|(url, _)| std::cmp::Reverse(url.len()));
        let (none, clients, catalogs, metastores) = Default::default();
        let storages = Self { doors, environment, options, none, clients, catalogs, metastores };
        for (url, options) in &storages.options {
            match metastore::kind(url) {
                Some(kind) => options.check_names(kind.name(), kind.options())?,
                None if catalog::is_catalog(url) => options.check_names("a catalog", catalog::OPTIONS)?,
                None => storages.open(url).map(drop)?,
            }
        }
        Ok(storages)
    }

    /// The table of a catalog that a URL names; nothing for a URL of a storage. No request is made yet.
    ///
    /// # Errors
    /// When the URL or an option cannot be used.
    pub fn catalog(&self, url: &str) -> Result<Option<InCatalog>, StorageError> {
        if let Some(kind) = metastore::kind(url) {
            let named = metastore::split(url, kind)?;
            let key = (format!("{kind:?}://{}", named.host), self.given(url));
            let open = || Metastore::open(&named, self.options_of(url), &self.doors, &self.environment);
            let service = once(&self.metastores, key, open)?;
            let (database, table) = (named.database, named.table);
            return Ok(Some(InCatalog::Metastore(MetastoreTable { service, database, table, shown: url.into() })));
        }
        if !catalog::is_catalog(url) {
            return Ok(None);
        }
        let (base, namespace, table) = catalog::split(url)?;
        let open = || CatalogService::open(base.clone(), self.options_of(url), self.doors.rng.clone());
        let service = once(&self.catalogs, (base.clone(), self.given(url)), open)?;
        Ok(Some(InCatalog::Rest(CatalogTable { service, namespace, table, shown: url.to_owned() })))
    }

    /// One text for all URLs that name the same table of a catalog; nothing for other places. Two that differ may be the same table
    /// all the same, by two names of a host.
    pub fn catalog_name(&self, url: &str) -> Option<String> {
        if let Some(kind) = metastore::kind(url) {
            return metastore::split(url, kind).ok().map(|named| named.normal(&self.environment));
        }
        let (base, namespace, table) = catalog::is_catalog(url).then(|| catalog::split(url).ok()).flatten()?;
        Some(format!("{}/{}.{table}", base.to_ascii_lowercase(), namespace.join(".")))
    }

    /// Which options are a URL's.
    fn given(&self, url: &str) -> Option<usize> {
        self.options.iter().position(|(beginning, _)| begins(url, beginning))
    }

    /// Those of the longest beginning.
    fn options_of(&self, url: &str) -> &StorageOptions {
        self.given(url).and_then(|given| self.options.get(given)).map_or(&self.none, |(_, options)| options)
    }

    /// See [`Storage::open`].
    ///
    /// # Errors
    /// Like [`Storage::open`].
    pub fn open(&self, url: &str) -> Result<Storage, StorageError> {
        let address = Address::parse(url)?;
        let key = (address.bucket(), self.given(url));
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.elsewhere(address));
        }
        let opened = Storage::open(url, self.options_of(url), &self.doors, &self.environment)?;
        let mut clients = self.clients.lock();
        if clients.len() < MAX_CLIENTS {
            clients.insert(key, opened.clone());
        }
        Ok(opened)
    }
}

/// The client of a key, opened by the first who wants it.
fn once<T>(
    clients: &Clients<T>,
    key: (String, Option<usize>),
    open: impl FnOnce() -> Result<T, StorageError>,
) -> Result<Arc<T>, StorageError> {
    if let Some(known) = clients.lock().get(&key) {
        return Ok(known.clone());
    }
    let opened = Arc::new(open()?);
    let mut clients = clients.lock();
    if clients.len() < MAX_CLIENTS {
        clients.insert(key, opened.clone());
    }
    Ok(opened)
}

/// Whether a URL is `beginning`, or below it.
fn begins(url: &str, beginning: &str) -> bool {
    url.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl fmt::Debug for Storages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.options.iter().map(|(url, _)| url)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermere_base::{SeededRng, SystemClock};
    use rivermere_sim::SimDisk;

    fn storages(options: &[(&str, &[(&str, &str)])]) -> Result<Storages, StorageError> {
        let doors = Doors {
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(SeededRng::new(1)),
            disk: Arc::new(SimDisk::new(1)),
        };
        let environment = Environment::from_iter([("AWS_EC2_METADATA_DISABLED", "true")]);
        let options = options
            .iter()
            .map(|(url, options)| ((*url).to_owned(), StorageOptions::from_iter(options.iter().copied())));
        Storages::new(doors, environment, options)
    }

    const KEY: &[(&str, &str)] = &[("access_key_id", "a"), ("secret_access_key", "b")];

    #[test]
    fn options_belong_to_what_begins_with_their_url() {
        let storages = storages(&[("s3://one/", KEY), ("s3://two/folder", &[("anonymous", "true")])]).unwrap();
        for url in ["s3://one", "s3://one/table", "s3://two/folder/x"] {
            storages.open(url).unwrap();
        }
        for url in ["s3://one-more/table", "s3://two/folders", "s3://two"] {
            assert!(storages.open(url).unwrap_err().to_string().starts_with("RM-1115"), "{url}");
        }
    }

    #[test]
    fn a_bucket_has_one_client() {
        let storages = storages(&[("s3://one", KEY)]).unwrap();
        let [a, b] = ["s3://one/a", "s3://one/b"].map(|url| storages.open(url).unwrap());
        assert!(Arc::ptr_eq(&a.store(), &b.store()));
        assert_eq!((a.path().as_ref(), b.path().as_ref(), b.to_string().as_str()), ("a", "b", "s3://one/b"));
    }

    #[test]
    fn wrong_options_are_told_at_once() {
        let error = storages(&[("s3://one", &[("regoin", "x")])]).unwrap_err().to_string();
        assert!(error.starts_with("RM-1112") && error.contains("'region'"), "{error}");
    }
}
