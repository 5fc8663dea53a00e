//! The standard chain of AWS: options, environment, web identity, profile, container, instance.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>. A profile is read when the storage is
//! opened; what a container or an instance gets is renewed by the client.

use super::super::environment::Environment;
use super::super::error::StorageError;
use super::super::ini::Ini;
use super::super::options::StorageOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use rivermere_base::Disk;

const STORAGE: &str = "S3";

/// What the client itself knows how to use: roles of web identities and containers.
const ROLES: &[(&str, AmazonS3ConfigKey)] = &[
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
];

/// What a profile may get its keys from and we do not follow.
const NOT_FOLLOWED: &[&str] = &["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"];

/// A section of the shared files.
#[derive(Debug)]
pub(super) struct Profile {
    name: String,
    /// Whether somebody asked for it by name.
    is_named: bool,
    credentials: Ini,
    config: Ini,
}

impl Profile {
    /// The profile that was asked for, else the default one if there is one.
    pub(super) fn read(
        option: Option<&str>,
        disk: &dyn Disk,
        environment: &Environment,
    ) -> Result<Option<Self>, StorageError> {
        let named = option.or_else(|| environment.get("AWS_PROFILE"));
        let read = |variable, place| match environment.file(variable, place) {
            Some(path) => Ini::read(disk, &path, STORAGE).map(Option::unwrap_or_default),
            None => Ok(Ini::default()),
        };
        let profile = Self {
            name: named.unwrap_or("default").to_owned(),
            is_named: named.is_some(),
            credentials: read("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?,
            config: read("AWS_CONFIG_FILE", ".aws/config")?,
        };
        let exists = profile.credentials.has(&profile.name) || profile.config.has(&profile.config_section());
        match (exists, option) {
            (true, _) => Ok(Some(profile)),
            (false, Some(name)) => Err(credentials_error(format!(
                "there is no profile '{name}' in ~/.aws/credentials or ~/.aws/config: aws configure --profile {name} makes one"
            ))),
            (false, None) => Ok(None),
        }
    }

    fn config_section(&self) -> String {
        if self.name == "default" { self.name.clone() } else { format!("profile {}", self.name) }
    }

    /// The credentials file first, as the SDKs do.
    fn get(&self, name: &str) -> Option<&str> {
        self.credentials.get(&self.name, name).or_else(|| self.config.get(&self.config_section(), name))
    }

    pub(super) fn region(&self) -> Option<&str> {
        self.get("region")
    }

    pub(super) fn endpoint(&self) -> Option<&str> {
        self.get("endpoint_url")
    }

    /// Key, secret and token.
    fn keys(&self) -> Result<Option<Keys<'_>>, StorageError> {
        match (self.get("aws_access_key_id"), self.get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Ok(Some(Keys { id, secret, token: self.get("aws_session_token") })),
            (None, None) => match NOT_FOLLOWED.iter().find(|name| self.get(name).is_some()) {
                Some(name) => Err(credentials_error(format!(
                    "the profile '{profile}' gets its keys by {name}, which is not supported: run \
                     `aws configure export-credentials --profile {profile}` and put what it prints into the environment",
                    profile = self.name
                ))),
                None => Ok(None),
            },
            _ => Err(credentials_error(format!(
                "the profile '{}' holds one of aws_access_key_id and aws_secret_access_key without the other",
                self.name
            ))),
        }
    }
}

struct Keys<'a> {
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
}

impl Keys<'_> {
    fn add(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        let builder = builder.with_access_key_id(self.id).with_secret_access_key(self.secret);
        match self.token {
            Some(token) => builder.with_token(token),
            None => builder,
        }
    }
}

/// Tells the client how to sign.
pub(super) fn add(
    mut builder: AmazonS3Builder,
    options: &StorageOptions,
    profile: Option<&Profile>,
    environment: &Environment,
) -> Result<AmazonS3Builder, StorageError> {
    let given = pair(
        (options.get("access_key_id"), options.get("secret_access_key"), options.get("session_token")),
        "the options hold one of access_key_id and secret_access_key without the other",
    )?;
    if let Some(keys) = given {
        return Ok(keys.add(builder));
    }
    if options.get("profile").is_none() {
        let set = pair(
            (
                environment.get("AWS_ACCESS_KEY_ID"),
                environment.get("AWS_SECRET_ACCESS_KEY"),
                environment.get("AWS_SESSION_TOKEN"),
            ),
            "the environment holds one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY without the other",
        )?;
        if let Some(keys) = set {
            return Ok(keys.add(builder));
        }
    }
    let web_identity = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
    if let Some(profile) = profile
        && (options.get("profile").is_some() || !web_identity)
    {
        match profile.keys() {
            Ok(Some(keys)) => return Ok(keys.add(builder)),
            Ok(None) if profile.is_named => {
                return Err(credentials_error(format!("the profile '{}' holds no keys", profile.name)));
            }
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
    let mut has_role = false;
    for (name, key) in ROLES {
        if let Some(value) = environment.get(name) {
            has_role |= matches!(
                key,
                AmazonS3ConfigKey::WebIdentityTokenFile
                    | AmazonS3ConfigKey::ContainerCredentialsRelativeUri
                    | AmazonS3ConfigKey::ContainerCredentialsFullUri
            );
            builder = builder.with_config(*key, value);
        }
    }
    if !has_role && environment.is_true("AWS_EC2_METADATA_DISABLED") {
        return Err(credentials_error(
            "neither options nor AWS_ACCESS_KEY_ID nor a profile nor a container has any, and the instance is not asked \
             because of AWS_EC2_METADATA_DISABLED"
                .to_owned(),
        ));
    }
    Ok(builder)
}

fn pair<'a>(
    (id, secret, token): (Option<&'a str>, Option<&'a str>, Option<&'a str>),
    half: &str,
) -> Result<Option<Keys<'a>>, StorageError> {
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some(Keys { id, secret, token })),
        (None, None) => Ok(None),
        _ => Err(credentials_error(half.to_owned())),
    }
}

fn credentials_error(problem: String) -> StorageError {
    StorageError::Credentials { storage: STORAGE, problem }
}
