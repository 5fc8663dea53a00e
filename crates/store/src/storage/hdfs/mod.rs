//! HDFS, spoken natively: no Java on this side.
//!
//! An object is a file, written beside its place under a hidden name and renamed when it is complete. Create-only is a
//! rename that the name node refuses when the target exists; there is one name node, so that is atomic. Replacing only a
//! certain version has no counterpart in HDFS: [`PutMode::Update`] is refused. A file's contents are acknowledged by every
//! data node of its pipeline; whether they have synced them by then is their setting `dfs.datanode.synconclose`.
//!
//! Configuration comes from `core-site.xml` and `hdfs-site.xml` in `HADOOP_CONF_DIR` (or `HADOOP_HOME/etc/hadoop`), and
//! options whose name has a dot are properties that replace those. The user is the ticket of Kerberos, or
//! `HADOOP_USER_NAME`, or who runs this process.
//! <https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-common/filesystem/filesystem.html>

mod failure;
mod store;
mod upload;

use super::address::Address;
use super::environment::Environment;
use super::error::StorageError;
use super::options::{Limits, StorageOptions};
use super::retry::Patience;
use hdfs_native::ClientBuilder;
use object_store::ObjectStore;
use rivermere_base::Rng;
use std::sync::Arc;
use store::HdfsStore;

pub(super) const OPTIONS: &[&str] = &["config_dir"];

/// Whether an option is a property of Hadoop.
pub(super) fn is_property(option: &str) -> bool {
    option.contains('.')
}

pub(super) fn open(
    address: &Address,
    options: &StorageOptions,
    limits: Limits,
    rng: Arc<dyn Rng>,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    if address.user.is_some() {
        return Err(address.refuse("names a user, who comes from Kerberos or HADOOP_USER_NAME"));
    }
    let mut builder = ClientBuilder::new()
        .with_url(format!("hdfs://{}", address.host))
        .with_config(options.iter().filter(|(name, _)| is_property(name)));
    let home = || environment.get("HADOOP_HOME").map(|home| format!("{home}/etc/hadoop"));
    let folder = options.get("config_dir").or_else(|| environment.get("HADOOP_CONF_DIR")).map(str::to_owned);
    if let Some(folder) = folder.or_else(home) {
        builder = builder.with_config_dir(folder);
    }
    let client = builder
        .build()
        .map_err(|error| StorageError::Client { url: address.shown.clone(), source: failure::generic(error) })?;
    Ok(Arc::new(HdfsStore::new(client, Patience::new(limits, rng.clone()), rng)))
}
