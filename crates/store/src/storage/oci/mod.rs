//! OCI Object Storage by its own API.
//!
//! Requests are signed with RSA-SHA256 as draft-cavage-http-signatures-08 says. A put carries `If-None-Match: *` or
//! `If-Match`; renaming is one request of the service; a copy goes through this process, because the service's own copy is
//! a job that somebody must be allowed to run. <https://docs.oracle.com/en-us/iaas/api/#/en/objectstorage/20160918/>
//!
//! The same buckets can be reached by S3's protocol too: `s3://bucket/path` with the endpoint
//! `https://NAMESPACE.compat.objectstorage.REGION.oraclecloud.com` and a customer secret key.

mod federation;
mod identity;
mod key;
mod requests;
mod store;
mod upload;

use super::address::Address;
use super::endpoint;
use super::environment::Environment;
use super::error::StorageError;
use super::options::{Limits, StorageOptions};
use super::retry::Patience;
use object_store::ObjectStore;
use requests::{Http, Requests};
use rivermere_base::Doors;
use std::sync::Arc;
use store::OciStore;

const STORAGE: &str = "OCI Object Storage";

pub(super) const OPTIONS: &[&str] = &[
    "region",
    "profile",
    "config_file",
    "tenancy",
    "user",
    "fingerprint",
    "key_file",
    "key_content",
    "auth",
    "endpoint",
    "federation_endpoint",
    "allow_http",
];

pub(super) fn open(
    address: &Address,
    options: &StorageOptions,
    limits: Limits,
    doors: &Doors,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let Some(bucket) = address.user.as_deref().filter(|bucket| !bucket.is_empty()) else {
        return Err(address.refuse("names no bucket before an @"));
    };
    let endpoint = options.get("endpoint").map(|given| endpoint::checked(given, options)).transpose()?;
    let federation = options.get("federation_endpoint").map(|given| endpoint::checked(given, options)).transpose()?;
    let may_http = endpoint.as_ref().is_some_and(|endpoint| endpoint.is_http)
        || federation.as_ref().is_some_and(|endpoint| endpoint.is_http);
    let client = |source| StorageError::Client { url: address.shown.clone(), source };
    let patience = Patience::new(limits, doors.rng.clone());
    let http = Http::new(limits.client().with_allow_http(may_http), patience.clone()).map_err(client)?;
    // The instance's own metadata service knows no https; it is asked by a client of its own.
    let metadata = Http::new(limits.client().with_allow_http(true), patience).map_err(client)?;
    let setup = identity::Setup {
        federation: federation.map(|endpoint| endpoint.url),
        http: http.clone(),
        metadata,
        clock: doors.clock.clone(),
    };
    let (identity, region) = identity::find(options, setup, doors.disk.as_ref(), environment)?;
    let place = match (endpoint, region) {
        (Some(endpoint), _) => requests::Place::Endpoint(endpoint.url),
        (None, Some(region)) => requests::Place::Endpoint(format!("https://objectstorage.{region}.oraclecloud.com")),
        (None, None) if identity.is_instance() => requests::Place::OfInstance,
        (None, None) => {
            return Err(StorageError::Credentials {
                storage: STORAGE,
                problem: "no region: set the option 'region', OCI_CLI_REGION, or region in the profile".to_owned(),
            });
        }
    };
    let requests = Requests::new(http, place, identity, doors.clock.clone());
    Ok(Arc::new(OciStore::new(requests, &address.host, bucket)))
}
