//! URLs of storages.
//!
//! A path is taken as it stands, as Hadoop and the AWS command line do: `s3://bucket/a%20b` is an object whose name has a
//! percent sign. Secrets have no place in a URL: a password or a query is refused, and never printed.

use super::error::{StorageError, suggest};
use object_store::path::Path;

/// A kind of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    File,
    S3,
    Azure,
    Hdfs,
    Oci,
}

const SCHEMES: &[(&str, Scheme)] = &[
    ("file", Scheme::File),
    ("s3", Scheme::S3),
    ("s3a", Scheme::S3),
    ("abfss", Scheme::Azure),
    ("abfs", Scheme::Azure),
    ("az", Scheme::Azure),
    ("azure", Scheme::Azure),
    ("hdfs", Scheme::Hdfs),
    ("oci", Scheme::Oci),
];

impl Scheme {
    /// The storage in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "the local disk",
            Self::S3 => "S3",
            Self::Azure => "Azure storage",
            Self::Hdfs => "HDFS",
            Self::Oci => "OCI Object Storage",
        }
    }

    /// How its URLs look.
    pub(super) fn form(self) -> &'static str {
        match self {
            Self::File => "file:///folder/of/table",
            Self::S3 => "s3://bucket/path",
            Self::Azure => "abfss://container@account.dfs.core.windows.net/path or az://container/path",
            Self::Hdfs => "hdfs://namenode:8020/path or hdfs://nameservice/path",
            Self::Oci => "oci://bucket@namespace/path",
        }
    }

    pub(super) fn all() -> String {
        SCHEMES.iter().map(|(name, _)| format!("{name}:")).collect::<Vec<_>>().join(", ")
    }
}

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) scheme: Scheme,
    /// Before the `@`: the container of Azure, the bucket of OCI.
    pub(super) user: Option<String>,
    /// Behind the `@` and before the path: bucket, host and port, or namespace.
    pub(super) host: String,
    pub(super) path: Path,
    /// The URL as it may be printed.
    pub(super) shown: String,
    /// Bytes of the path, with its slash, at the end of `shown`.
    path_length: usize,
}

/// Whether a text is meant as a URL: a file's path has no colon before its first slash.
pub(super) fn is_url(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        // One letter is a drive of Windows, not a scheme.
        scheme.len() > 1
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
    })
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, StorageError> {
        let (name, rest) = url.split_once(':').unwrap_or((url, ""));
        let lower = name.to_ascii_lowercase();
        let Some(&(name, scheme)) = SCHEMES.iter().find(|(known, _)| *known == lower) else {
            let suggestion = suggest(name, SCHEMES.iter().map(|(known, _)| *known));
            let scheme = name.chars().filter(|c| !c.is_control()).take(32).collect();
            return Err(StorageError::UnknownScheme { scheme, suggestion });
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None if scheme == Scheme::File => ("", rest),
            None => return Err(wrong(scheme, name, "has no // behind the colon")),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err(wrong(scheme, name, "holds a password, which belongs into the options"));
            }
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        // A signature of Azure is a query; names may hold a question mark, so only what looks like one is refused.
        if path.contains("?sv=") || path.contains("&sig=") || path.contains("?X-Amz-") {
            return Err(wrong(scheme, name, "holds a signature, which belongs into the options"));
        }
        let shown = format!("{name}://{authority}{path}");
        let refuse = |problem: String| StorageError::Address { url: shown.clone(), problem, form: scheme.form() };
        if scheme == Scheme::File && !(authority.is_empty() || authority == "localhost") {
            return Err(refuse("names a host, or lacks a third slash".to_owned()));
        }
        if scheme == Scheme::File && !path.starts_with('/') {
            return Err(refuse("is not an absolute path".to_owned()));
        }
        if scheme != Scheme::File && host.is_empty() {
            return Err(refuse("names no bucket or host".to_owned()));
        }
        let inner = path.strip_prefix('/').unwrap_or(path);
        if inner.starts_with('/') {
            return Err(refuse("holds two slashes in a row".to_owned()));
        }
        let inner = Path::parse(inner.strip_suffix('/').unwrap_or(inner))
            .map_err(|error| refuse(format!("holds a path that cannot be used ({error})")))?;
        Ok(Self { scheme, user, host: host.to_owned(), path: inner, path_length: path.len(), shown })
    }

    /// What all places in one bucket, container or file system have in common.
    pub(super) fn bucket(&self) -> String {
        let end = self.shown.len().saturating_sub(self.path_length);
        self.shown.get(..end).unwrap_or_default().to_owned()
    }

    pub(super) fn refuse(&self, problem: impl Into<String>) -> StorageError {
        StorageError::Address { url: self.shown.clone(), problem: problem.into(), form: self.scheme.form() }
    }
}

/// About a URL that must not be printed.
fn wrong(scheme: Scheme, name: &str, problem: &str) -> StorageError {
    StorageError::Address { url: format!("{name}:…"), problem: problem.to_owned(), form: scheme.form() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (Scheme, Option<String>, String, String) {
        let address = Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        (address.scheme, address.user, address.host, address.path.to_string())
    }

    #[test]
    fn each_storage_has_its_form() {
        let of = |scheme, user: Option<&str>, host: &str, path: &str| {
            (scheme, user.map(str::to_owned), host.to_owned(), path.to_owned())
        };
        assert_eq!(parsed("file:///var/lake/t"), of(Scheme::File, None, "", "var/lake/t"));
        assert_eq!(parsed("file:/var/lake"), of(Scheme::File, None, "", "var/lake"));
        assert_eq!(parsed("s3://bucket"), of(Scheme::S3, None, "bucket", ""));
        assert_eq!(parsed("S3A://bucket/a/b/"), of(Scheme::S3, None, "bucket", "a/b"));
        assert_eq!(
            parsed("abfss://c@a.dfs.core.windows.net/x"),
            of(Scheme::Azure, Some("c"), "a.dfs.core.windows.net", "x")
        );
        assert_eq!(parsed("az://c/x"), of(Scheme::Azure, None, "c", "x"));
        assert_eq!(parsed("oci://b@ns/x"), of(Scheme::Oci, Some("b"), "ns", "x"));
        assert_eq!(parsed("hdfs://nn:8020/x"), of(Scheme::Hdfs, None, "nn:8020", "x"));
    }

    #[test]
    fn a_path_is_taken_as_it_stands() {
        assert_eq!(parsed("s3://b/day=a%20b/ü x").3, "day=a%20b/ü x");
    }

    #[test]
    fn a_misspelt_scheme_is_refused_with_the_one_that_was_meant() {
        for (wrong, meant) in [("s4://b/x", "'s3'"), ("hfds://h/x", "'hdfs'"), ("abfsss://h/x", "'abfss'")] {
            let error = Address::parse(wrong).unwrap_err();
            let (code, error) = (error.code(), error.to_string());
            assert!(error.starts_with(&code.to_string()), "{code} {error}");
            assert!(error.starts_with("RM-1110") && error.contains(meant), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_right_form() {
        let refused =
            ["s3:bucket", "s3:///x", "file://host/x", "file://x", "s3://b//x", "s3://b/../x", "az://", "file:x"];
        for wrong in refused {
            let error = Address::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with("RM-1111") && error.contains("write it as"), "{wrong}: {error}");
        }
    }

    #[test]
    fn secrets_in_a_url_are_refused_and_not_repeated() {
        for wrong in ["s3://key:hunter2@bucket/x", "az://c/x?sv=2024&sig=hunter2", "abfss://u:hunter2@h/x"] {
            let error = Address::parse(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn urls_and_paths_are_told_apart() {
        for url in ["s3://b/x", "file:/x", "s4://b", "hdfs:"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["lake/x", "/lake/x", "C:/lake", "./a:b", "lake/a:b", "", "a_b:c"] {
            assert!(!is_url(path), "{path}");
        }
    }
}
