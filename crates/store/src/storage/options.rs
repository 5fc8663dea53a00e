//! Options of a storage: names and values, checked against what the storage has.

use super::address::Scheme;
use super::error::{StorageError, suggest};
use object_store::HeaderValue;
use rivermere_base::Secret;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// What every storage over a network has.
const NETWORK: &[&str] = &["max_connections", "request_timeout_s", "retries", "retry_deadline_s"];

/// The names of the options that storages of a scheme have; `docs/storages.md` says what they mean.
fn known_options(scheme: Scheme) -> impl Iterator<Item = &'static str> {
    let (own, network): (&[&str], &[&str]) = match scheme {
        Scheme::File => (&[], &[]),
        Scheme::S3 => (super::s3::OPTIONS, NETWORK),
        Scheme::Azure => (super::azure::OPTIONS, NETWORK),
        Scheme::Hdfs => (super::hdfs::OPTIONS, NETWORK),
        Scheme::Oci => (super::oci::OPTIONS, NETWORK),
    };
    own.iter().chain(network).copied()
}

/// Options by name. Values are never printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageOptions(BTreeMap<String, Secret>);

impl StorageOptions {
    /// Refuses what storages of this scheme do not have.
    pub(super) fn check(&self, scheme: Scheme) -> Result<(), StorageError> {
        let is_property = |name: &str| scheme == Scheme::Hdfs && super::hdfs::is_property(name);
        self.check_all(scheme.name(), known_options(scheme).collect(), is_property)
    }

    /// Refuses what is not among these, and not among those of every network.
    pub(super) fn check_names(&self, storage: &'static str, own: &[&'static str]) -> Result<(), StorageError> {
        self.check_all(storage, own.iter().chain(NETWORK).copied().collect(), |_| false)
    }

    fn check_all(
        &self,
        storage: &'static str,
        known: Vec<&'static str>,
        is_property: impl Fn(&str) -> bool,
    ) -> Result<(), StorageError> {
        match self.0.keys().find(|name| !is_property(name) && !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(StorageError::UnknownOption {
                storage,
                option: name.clone(),
                suggestion: suggest(name, known.iter().copied()),
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            }),
        }
    }

    /// Adds an option, or replaces its value.
    pub fn set(&mut self, name: impl Into<String>, value: Secret) {
        self.0.insert(name.into(), value);
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    pub(super) fn flag(&self, option: &'static str) -> Result<Option<bool>, StorageError> {
        self.parsed(option, "true or false")
    }

    fn parsed<T: FromStr>(&self, option: &'static str, expected: &'static str) -> Result<Option<T>, StorageError> {
        let parse = |text: &str| text.trim().parse().map_err(|_| StorageError::OptionValue { option, expected });
        self.get(option).map(parse).transpose()
    }

    fn number(&self, option: &'static str, default: u64, most: u64) -> Result<u64, StorageError> {
        let given = self.parsed::<u64>(option, "a whole number")?.unwrap_or(default);
        if given > most {
            return Err(StorageError::OptionValue { option, expected: "a smaller number" });
        }
        Ok(given)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for StorageOptions {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(options: I) -> Self {
        Self(options.into_iter().map(|(name, value)| (name.into(), Secret::new(value))).collect())
    }
}

/// How much is asked of a storage over the network, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Requests at a time.
    pub(super) connections: usize,
    /// For one request with its body.
    pub(super) timeout: Duration,
    /// How often a request is repeated.
    pub(super) retries: usize,
    /// From the first attempt on; no attempt begins later.
    pub(super) deadline: Duration,
}

impl Limits {
    pub(super) fn of(options: &StorageOptions) -> Result<Self, StorageError> {
        let seconds = |option, default| options.number(option, default, 86_400).map(|s| Duration::from_secs(s.max(1)));
        let small = |option, default, most| options.number(option, default, most).map(|n| n as usize);
        Ok(Self {
            connections: small("max_connections", 64, 10_000)?.max(1),
            timeout: seconds("request_timeout_s", 60)?,
            retries: small("retries", 10, 1_000)?,
            deadline: seconds("retry_deadline_s", 180)?,
        })
    }

    /// The same for the clients of `object_store`.
    pub(super) fn retry(&self) -> object_store::RetryConfig {
        object_store::RetryConfig {
            backoff: object_store::BackoffConfig::default(),
            max_retries: self.retries,
            retry_timeout: self.deadline,
        }
    }

    /// The HTTP client's part.
    pub(super) fn client(&self) -> object_store::ClientOptions {
        object_store::ClientOptions::new()
            .with_timeout(self.timeout)
            .with_connect_timeout(Duration::from_secs(5))
            .with_pool_max_idle_per_host(self.connections)
            .with_user_agent(product())
    }
}

fn product() -> HeaderValue {
    HeaderValue::from_static(concat!("rivermere/", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::super::metastore::Kind;
    use super::*;

    #[test]
    fn a_misspelt_option_is_refused_with_the_one_that_was_meant() {
        let options = StorageOptions::from_iter([("acces_key_id", "hunter2")]);
        let error = options.check(Scheme::S3).unwrap_err().to_string();
        assert!(error.starts_with("RM-1112") && error.contains("'access_key_id'"), "{error}");
        assert!(!error.contains("hunter2"));
        assert!(options.check(Scheme::File).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_without_repeating_it() {
        for (name, value) in [("max_connections", "hunter2"), ("retries", "100000"), ("request_timeout_s", "-7")] {
            let error = Limits::of(&StorageOptions::from_iter([(name, value)])).unwrap_err().to_string();
            assert!(error.starts_with("RM-1113") && error.contains(name) && !error.contains(value), "{error}");
        }
    }

    #[test]
    fn every_option_is_documented() {
        let text = include_str!("../../../../docs/storages.md");
        for scheme in [Scheme::S3, Scheme::Azure, Scheme::Hdfs, Scheme::Oci] {
            for option in known_options(scheme) {
                assert!(text.contains(&format!("`{option}`")), "docs/storages.md lacks {option}");
            }
        }
        let text = include_str!("../../../../docs/catalogs.md");
        let kinds = [Kind::Glue, Kind::Hive, Kind::Unity].into_iter().flat_map(Kind::options);
        for option in kinds.chain(super::super::catalog::OPTIONS) {
            assert!(text.contains(option), "docs/catalogs.md lacks {option}");
        }
    }

    #[test]
    fn options_print_no_value() {
        let options = StorageOptions::from_iter([("secret_access_key", "hunter2")]);
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
