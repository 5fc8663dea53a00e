//! HDFS: one name node and one data node of Apache Hadoop.

use crate::contract::{Promises, assert_contract};
use crate::opened::{doors, open};
use crate::peer::{Peer, tool};
use object_store::{Error, ObjectStoreExt};
use rivermere_store::{Environment, Storage, StorageOptions};

#[tokio::test(flavor = "multi_thread")]
async fn hdfs_keeps_the_contract() {
    let Some(jars) = tool("RIVERMERE_HDFS") else { return };
    let peer = Peer::start("hdfs", &jars);
    let url = format!("{}/lake/tables", peer.told("endpoint"));
    let storage = open(&url, &[]).unwrap();
    assert_contract(&storage, Promises { update: false, many: 1_100, ..Promises::ALL }).await;

    // A name service of the configuration files, and one of options.
    let environment = Environment::from_iter([("HADOOP_CONF_DIR", peer.told("config_dir"))]);
    let storage = Storage::open("hdfs://lake/lake/files", &StorageOptions::default(), &doors(), &environment).unwrap();
    storage.prove_create_only(doors().rng.as_ref()).await.unwrap();
    let address = peer.told("endpoint").strip_prefix("hdfs://").unwrap();
    let options = [("dfs.ha.namenodes.other", "one"), ("dfs.namenode.rpc-address.other.one", address)];
    open("hdfs://other/lake/options", &options).unwrap().prove_create_only(doors().rng.as_ref()).await.unwrap();

    // Who may not write is told so.
    let kept = open(&format!("{}/kept", peer.told("endpoint")), &[]).unwrap();
    let error = kept.store().put(&kept.path().clone().join("a"), "x".into()).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
}

#[test]
fn a_name_service_that_no_file_knows_is_refused() {
    let error = open("hdfs://nowhere/x", &[]).unwrap_err().to_string();
    assert!(error.starts_with("RM-1116") && error.contains("nowhere"), "{error}");
    let error = open("hdfs://someone@host:1/x", &[]).unwrap_err().to_string();
    assert!(error.starts_with("RM-1111") && error.contains("HADOOP_USER_NAME"), "{error}");
}
