//! OCI Object Storage: an emulation that verifies signatures, made to agree with Oracle's own SDK.

use crate::contract::{Promises, assert_contract, assert_refused};
use crate::opened::{doors, open};
use crate::peer::{Peer, tool};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rivermere_store::{Environment, Storage, StorageOptions};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn oci_keeps_the_contract() {
    let Some(python) = tool("RIVERMERE_OCI_PYTHON") else { return };
    let peer = Peer::start("oci", &python);
    let (endpoint, config) = (peer.told("endpoint"), peer.told("config"));
    let url = format!("oci://{}@{}/tables", peer.told("bucket"), peer.told("namespace"));
    let options = [("endpoint", endpoint), ("config_file", config)];

    let storage = open(&url, &options).unwrap();
    assert_contract(&storage, Promises::ALL).await;

    let stranger = [("endpoint", endpoint), ("config_file", config), ("profile", "STRANGER"), ("retries", "1")];
    assert_refused(&open(&url, &stranger).unwrap(), "PRIVATE KEY").await;

    let variables = [
        ("OCI_CLI_AUTH", "instance_principal"),
        ("OCI_METADATA_BASE_URL", peer.told("metadata")),
        ("OCI_CLI_REGION", "eu-frankfurt-1"),
    ];
    let options = StorageOptions::from_iter([("endpoint", endpoint), ("federation_endpoint", endpoint)]);
    let instance = Storage::open(&url, &options, &doors(), &Environment::from_iter(variables)).unwrap();
    instance.prove_create_only(doors().rng.as_ref()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn oracles_own_sdk_and_we_read_what_the_other_wrote() {
    let Some(python) = tool("RIVERMERE_OCI_PYTHON") else { return };
    let peer = Peer::start("oci", &python);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oci_sdk.py");
    let sdk = async |what: &str| {
        let mut command = Command::new(&python);
        command.args([script, peer.told("endpoint"), peer.told("config"), peer.told("metadata"), what]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    sdk("write").await;
    let options = [("endpoint", peer.told("endpoint")), ("config_file", peer.told("config"))];
    let storage = open("oci://lake@ns", &options).unwrap();
    let store = storage.store();
    let get = async |name: &str| store.get(&Path::parse(name).unwrap()).await.unwrap().bytes().await.unwrap();
    assert_eq!(get("sdk/a b/ü%20").await, "hello!");
    assert_eq!(get("sdk/large").await.len(), 25 << 20);
    let level = store.list_with_delimiter(Some(&Path::from("sdk/list"))).await.unwrap();
    let prefixes: Vec<_> = level.common_prefixes.iter().map(Path::as_ref).collect();
    assert_eq!(prefixes, ["sdk/list/0", "sdk/list/1", "sdk/list/2"]);

    store.put(&Path::parse("ours/a b/ü%20").unwrap(), "hello".into()).await.unwrap();
    let mut upload = store.put_multipart(&Path::from("ours/large")).await.unwrap();
    for _ in 0..5 {
        upload.put_part(vec![7; 5 << 20].into()).await.unwrap();
    }
    upload.complete().await.unwrap();
    sdk("read").await;
}

#[test]
fn what_is_missing_for_a_signature_is_named() {
    let opened = |variables: &[(&str, &str)], options: &[(&str, &str)]| {
        let options = StorageOptions::from_iter(options.iter().copied());
        let environment = Environment::from_iter(variables.iter().copied());
        Storage::open("oci://b@ns/x", &options, &doors(), &environment).unwrap_err().to_string()
    };
    let error = opened(&[], &[]);
    assert!(error.starts_with("RM-1115") && error.contains("OCI_CLI_TENANCY"), "{error}");
    let error = opened(&[("OCI_CLI_PROFILE", "x")], &[]);
    assert!(error.contains("no profile 'x'"), "{error}");
    let given = [("tenancy", "t"), ("user", "u"), ("fingerprint", "f"), ("key_content", "hunter2")];
    let error = opened(&[], &given);
    assert!(error.starts_with("RM-1115") && error.contains("no PEM text") && !error.contains("hunter2"), "{error}");
    let error = opened(&[], &[("auth", "guess")]);
    assert!(error.starts_with("RM-1113") && error.contains("instance_principal"), "{error}");
    let error = open("oci://ns/x", &[]).unwrap_err().to_string();
    assert!(error.starts_with("RM-1111") && error.contains("oci://bucket@namespace"), "{error}");
}
