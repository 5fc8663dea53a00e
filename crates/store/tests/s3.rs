//! S3, as versitygw speaks it, and MinIO; as moto does where there is no Go to build versitygw with.

use crate::contract::{Promises, assert_contract, assert_refused};
use crate::opened::{doors, open};
use crate::peer::{Peer, tool};
use rivermere_store::{Environment, Storage, StorageOptions};
use std::path::Path;

/// A service with one bucket named `lake`, and whether it looks at signatures.
fn service() -> Option<(Peer, bool)> {
    if std::env::var_os("RIVERMERE_VERSITYGW").is_none()
        && let Some(moto) = std::env::var_os("RIVERMERE_MOTO")
    {
        return Some((Peer::start("moto", Path::new(&moto)), false));
    }
    Some((Peer::start("versitygw", &tool("RIVERMERE_VERSITYGW")?), true))
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_the_contract() {
    let Some((peer, checks_signatures)) = service() else { return };
    keeps_the_contract(&peer, checks_signatures).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn minio_keeps_the_contract() {
    let Some(minio) = tool("RIVERMERE_MINIO") else { return };
    keeps_the_contract(&Peer::start("minio", &minio), true).await;
}

async fn keeps_the_contract(peer: &Peer, checks_signatures: bool) {
    let endpoint = peer.told("endpoint");
    let (id, secret) = (peer.told("access_key_id"), peer.told("secret_access_key"));
    let options = [("endpoint", endpoint), ("access_key_id", id), ("secret_access_key", secret)];

    let storage = open("s3://lake/tables", &options).unwrap();
    assert_contract(&storage, Promises::ALL).await;
    let spark = open("s3a://lake/tables", &options).unwrap();
    spark.prove_create_only(doors().rng.as_ref()).await.unwrap();

    let variables = [("AWS_ENDPOINT_URL_S3", endpoint), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    let environment = Environment::from_iter(variables);
    let storage = Storage::open("s3://lake/tables", &StorageOptions::default(), &doors(), &environment).unwrap();
    storage.prove_create_only(doors().rng.as_ref()).await.unwrap();

    let missing = open("s3://no-such-bucket/tables", &options).unwrap();
    let error = missing.prove_create_only(doors().rng.as_ref()).await.unwrap_err().to_string();
    assert!(error.starts_with("RM-1118") && error.contains("s3://no-such-bucket/tables"), "{error}");
    if checks_signatures {
        let wrong = [("endpoint", endpoint), ("access_key_id", id), ("secret_access_key", "hunter2"), ("retries", "1")];
        assert_refused(&open("s3://lake/tables", &wrong).unwrap(), "hunter2").await;
    }
}
