//! Azure's Blob service, as Azurite speaks it.

use crate::contract::{Promises, assert_contract, assert_refused};
use crate::opened::{doors, open};
use crate::peer::{Peer, tool};
use rivermere_store::{Environment, Storage, StorageOptions};

#[tokio::test(flavor = "multi_thread")]
async fn azure_keeps_the_contract() {
    let Some(azurite) = tool("RIVERMERE_AZURITE") else { return };
    let peer = Peer::start("azurite", &azurite);
    let (endpoint, account, key) = (peer.told("endpoint"), peer.told("account"), peer.told("account_key"));
    let options = [("endpoint", endpoint), ("account", account), ("account_key", key)];

    let storage = open("az://lake/tables", &options).unwrap();
    assert_contract(&storage, Promises::ALL).await;
    let url = format!("abfss://lake@{account}.dfs.core.windows.net/tables");
    let hadoop = open(&url, &[("endpoint", endpoint), ("account_key", key)]).unwrap();
    hadoop.prove_create_only(doors().rng.as_ref()).await.unwrap();

    let connection = format!("AccountName={account};AccountKey={key};BlobEndpoint={endpoint};");
    let environment = Environment::from_iter([("AZURE_STORAGE_CONNECTION_STRING", connection)]);
    let storage = Storage::open("az://lake/tables", &StorageOptions::default(), &doors(), &environment).unwrap();
    storage.prove_create_only(doors().rng.as_ref()).await.unwrap();

    let wrong = "aHVudGVyMmh1bnRlcjI=";
    let wrong_options = [("endpoint", endpoint), ("account", account), ("account_key", wrong), ("retries", "1")];
    assert_refused(&open("az://lake/tables", &wrong_options).unwrap(), wrong).await;
}
