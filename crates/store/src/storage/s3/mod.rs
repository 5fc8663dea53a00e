//! Amazon S3 and what speaks its protocol.
//!
//! Create-only puts carry `If-None-Match: *`, updates `If-Match`; a create-only copy is a multipart upload that is
//! completed with `If-None-Match: *`.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>

mod credentials;

use super::address::Address;
use super::endpoint;
use super::environment::Environment;
use super::error::StorageError;
use super::options::{Limits, StorageOptions};
use credentials::Profile;
use object_store::ObjectStore;
use object_store::aws::{
    AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider, S3ConditionalPut, S3CopyIfNotExists,
};
use rivermere_base::Disk;
use std::sync::Arc;

pub(super) const OPTIONS: &[&str] = &[
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "profile",
    "anonymous",
    "path_style",
    "allow_http",
    "server_side_encryption",
    "kms_key_id",
];

/// Used where neither options nor environment nor profile name one.
const DEFAULT_REGION: &str = "us-east-1";

pub(super) fn open(
    address: &Address,
    options: &StorageOptions,
    limits: Limits,
    disk: &dyn Disk,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    if address.user.is_some() {
        return Err(address.refuse("holds an @"));
    }
    let bucket = &address.host;
    let profile = Profile::read(options.get("profile"), disk, environment)?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(limits.retry())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_disable_tagging(true);

    builder = builder.with_region(region(options, profile.as_ref(), environment));

    let endpoint = options
        .get("endpoint")
        .or_else(|| environment.get("AWS_ENDPOINT_URL_S3"))
        .or_else(|| environment.get("AWS_ENDPOINT_URL"))
        .or_else(|| profile.as_ref().and_then(Profile::endpoint));
    let path_style = options.flag("path_style")?.unwrap_or(endpoint.is_some());
    builder = builder.with_virtual_hosted_style_request(!path_style);
    let mut client = limits.client();
    if let Some(given) = endpoint {
        let endpoint = endpoint::checked(given, options)?;
        client = client.with_allow_http(endpoint.is_http);
        builder = builder.with_endpoint(if path_style { endpoint.url } else { endpoint.with_host_prefix(bucket) });
    }
    builder = builder.with_client_options(client);

    if let Some(kind) = options.get("server_side_encryption") {
        builder = builder.with_config(encryption_key("aws_server_side_encryption"), kind);
    }
    if let Some(key) = options.get("kms_key_id") {
        builder = builder.with_config(encryption_key("aws_sse_kms_key_id"), key);
    }
    builder = if options.flag("anonymous")?.unwrap_or(false) {
        builder.with_skip_signature(true)
    } else {
        credentials::add(builder, options, profile.as_ref(), environment)?
    };
    let store = builder.build().map_err(|source| StorageError::Client { url: address.shown.clone(), source })?;
    Ok(Arc::new(store))
}

fn region<'a>(options: &'a StorageOptions, profile: Option<&'a Profile>, environment: &'a Environment) -> &'a str {
    options
        .get("region")
        .or_else(|| environment.get("AWS_REGION"))
        .or_else(|| environment.get("AWS_DEFAULT_REGION"))
        .or_else(|| profile.and_then(Profile::region))
        .unwrap_or(DEFAULT_REGION)
}

/// Who asks another service of AWS, and where it is.
pub(super) struct Identity {
    /// Renewed where they have their time.
    pub(super) credentials: AwsCredentialProvider,
    pub(super) region: String,
}

/// The identity that a storage of the same options would have.
pub(super) fn identity(
    given_region: Option<&str>,
    options: &StorageOptions,
    limits: Limits,
    disk: &dyn Disk,
    environment: &Environment,
) -> Result<Identity, StorageError> {
    let profile = Profile::read(options.get("profile"), disk, environment)?;
    let region = given_region.unwrap_or_else(|| region(options, profile.as_ref(), environment)).to_owned();
    // The builder wants a bucket; nobody asks for it.
    let builder = AmazonS3Builder::new()
        .with_bucket_name("none")
        .with_region(region.as_str())
        .with_retry(limits.retry())
        .with_client_options(limits.client());
    let builder = credentials::add(builder, options, profile.as_ref(), environment)?;
    let client =
        builder.build().map_err(|source| StorageError::Client { url: "the credentials of AWS".into(), source })?;
    Ok(Identity { credentials: client.credentials().clone(), region })
}

/// The builder has no method of its own for these.
fn encryption_key(name: &str) -> AmazonS3ConfigKey {
    // The names are `object_store`'s own; a wrong one would end as a bucket that is set twice, which a test would show.
    name.parse().unwrap_or(AmazonS3ConfigKey::Bucket)
}

#[cfg(test)]
mod tests;
