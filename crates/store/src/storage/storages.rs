//! All storages of a process.

use super::address::Address;
use super::catalog::{self, CatalogService, CatalogTable};
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
    /// By their base and the options that they are asked with.
    catalogs: Mutex<HashMap<(String, Option<usize>), Arc<CatalogService>>>,
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
        let (none, clients, catalogs) = Default::default();
        let storages = Self { doors, environment, options, none, clients, catalogs };
        for (url, options) in &storages.options {
            match catalog::is_catalog(url) {
                true => options.check_names("a catalog", catalog::OPTIONS)?,
                false => storages.open(url).map(drop)?,
            }
        }
        Ok(storages)
    }

    /// The table of a catalog that a URL names; nothing for a URL of a storage. No request is made yet.
    ///
    /// # Errors
    /// When the URL or an option cannot be used.
    pub fn catalog(&self, url: &str) -> Result<Option<CatalogTable>, StorageError> {
        if !catalog::is_catalog(url) {
            return Ok(None);
        }
        let (base, namespace, table) = catalog::split(url)?;
        let given = self.options.iter().position(|(beginning, _)| begins(url, beginning));
        let key = (base.clone(), given);
        let known = self.catalogs.lock().get(&key).cloned();
        let service = match known {
            Some(service) => service,
            None => {
                let opened = CatalogService::open(base, self.options_of(url), self.doors.rng.clone())?;
                let opened = Arc::new(opened);
                let mut catalogs = self.catalogs.lock();
                if catalogs.len() < MAX_CLIENTS {
                    catalogs.insert(key, opened.clone());
                }
                opened
            }
        };
        Ok(Some(CatalogTable { service, namespace, table, shown: url.to_owned() }))
    }

    /// Those of the longest beginning.
    fn options_of(&self, url: &str) -> &StorageOptions {
        let given = self.options.iter().find(|(beginning, _)| begins(url, beginning));
        given.map_or(&self.none, |(_, options)| options)
    }

    /// See [`Storage::open`].
    ///
    /// # Errors
    /// Like [`Storage::open`].
    pub fn open(&self, url: &str) -> Result<Storage, StorageError> {
        let address = Address::parse(url)?;
        let given = self.options.iter().position(|(beginning, _)| begins(url, beginning));
        let key = (address.bucket(), given);
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
