//! Where files are that a table's metadata names.
//!
//! Metadata names whole URLs. A table may have been moved, or be reached by another name than its writer's (a bucket behind
//! another scheme, a mounted folder): what is below the table's own location is looked for below ours.

use object_store::path::Path;
use rivermere_table::{Location, TableError};

/// The names of one table.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    ours: Path,
    /// The URL of the whole store, when our place is known by one.
    store: Option<String>,
    /// As the metadata calls the table's folder, without a slash at the end.
    theirs: String,
    shown: String,
}

impl Paths {
    /// `folder` is the table's folder in the store of `location`.
    pub(crate) fn new(location: &Location, folder: &Path, theirs: &str) -> Self {
        let shown = location.to_string();
        let store = shown.trim_end_matches('/').strip_suffix(location.path().as_ref());
        Self {
            ours: folder.clone(),
            store: store.map(|store| plain(store.trim_end_matches('/'))),
            theirs: plain(theirs.trim_end_matches('/')),
            shown,
        }
    }

    /// The file in our store.
    ///
    /// # Errors
    /// When it is in another one.
    pub(crate) fn find(&self, name: &str) -> Result<Path, TableError> {
        let name = plain(name);
        let below = |folder: &str| name.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned);
        let inside = below(&self.theirs).filter(|_| !self.theirs.is_empty());
        let path = match inside {
            Some(inside) => Path::parse(format!("{}/{inside}", self.ours)),
            None => match self.store.as_deref().and_then(below) {
                Some(path) => Path::parse(path),
                None => match moved(&name) {
                    Some(inside) => Path::parse(format!("{}/{inside}", self.ours)),
                    None => {
                        return Err(TableError::UnsupportedFeature {
                            location: self.shown.clone(),
                            feature: format!("the file '{name}', which is in another storage"),
                            hint: "all files of a table must be in the storage that it is opened in",
                        });
                    }
                },
            },
        };
        path.map_err(|error| TableError::storage("reading the name of a file", self.shown.clone(), error))
    }
}

/// One scheme for what Hadoop calls by several, and none for the disk.
fn plain(name: &str) -> String {
    for scheme in ["s3a://", "s3n://"] {
        if let Some(rest) = name.strip_prefix(scheme) {
            return format!("s3://{rest}");
        }
    }
    match name.strip_prefix("file:") {
        Some(rest) => format!("/{}", rest.trim_start_matches('/')),
        None => name.to_owned(),
    }
}

/// Of a table that is somewhere else now: files are below `data` or `metadata`, unless their writer was told otherwise.
fn moved(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').collect();
    let at = parts.iter().rposition(|part| ["data", "metadata"].contains(part))?;
    Some(parts.get(at..)?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use rivermere_store::LocalDisk;
    use std::sync::Arc;

    #[test]
    fn files_are_found_below_the_table_in_its_store_and_where_it_was_moved_to() {
        let at = |path: &str, shown: &str| {
            Location::new(Arc::new(InMemory::new()), Path::from(path), Arc::new(LocalDisk::new())).named(shown)
        };
        let bucket = at("lake/t", "s3://bucket/lake/t");
        let paths = Paths::new(&bucket, bucket.path(), "s3a://bucket/lake/t/");
        let found = |name: &str| paths.find(name).map(String::from).ok();
        assert_eq!(found("s3://bucket/lake/t/data/a=b/x.parquet").as_deref(), Some("lake/t/data/a=b/x.parquet"));
        assert_eq!(found("s3n://bucket/elsewhere/x.parquet").as_deref(), Some("elsewhere/x.parquet"));
        assert_eq!(found("s3://other/x.parquet"), None);
        let disk = at("lake/t", "/home/me/lake/t");
        let paths = Paths::new(&disk, disk.path(), "file:///was/there/t");
        let found = |name: &str| paths.find(name).map(String::from).ok();
        assert_eq!(found("file:/was/there/t/data/x.parquet").as_deref(), Some("lake/t/data/x.parquet"));
        assert_eq!(found("/home/me/other/data/x.parquet").as_deref(), Some("other/data/x.parquet"));
        assert_eq!(found("warehouse/db/t/metadata/m.avro").as_deref(), Some("lake/t/metadata/m.avro"));
    }
}
