//! Who asks: a user with an API key, or the instance that this runs on.
//!
//! <https://docs.oracle.com/en-us/iaas/Content/API/Concepts/sdkconfig.htm>

use super::super::environment::Environment;
use super::super::error::StorageError;
use super::super::ini::Ini;
use super::super::options::StorageOptions;
use super::STORAGE;
use super::federation::Federation;
use super::key::SigningKey;
use super::requests::Http;
use object_store::Result;
use rivermere_base::{Clock, Disk};
use std::path::PathBuf;
use std::sync::Arc;

/// Who signs the requests.
#[derive(Clone)]
pub(super) enum Identity {
    User(Arc<SigningKey>),
    Instance(Arc<Federation>),
}

impl Identity {
    /// The key of this moment.
    pub(super) async fn key(&self) -> Result<Arc<SigningKey>> {
        match self {
            Self::User(key) => Ok(key.clone()),
            Self::Instance(federation) => federation.key().await,
        }
    }

    /// A key was refused: ask for a new one next time. Whether that can help.
    pub(super) async fn forget(&self) -> bool {
        match self {
            Self::User(_) => false,
            Self::Instance(federation) => federation.forget().await,
        }
    }

    pub(super) fn is_instance(&self) -> bool {
        matches!(self, Self::Instance(_))
    }

    /// The service's endpoint in the region of the instance.
    pub(super) async fn endpoint(&self) -> Result<String> {
        match self {
            Self::User(_) => Err(super::requests::generic("a user is in no region")),
            Self::Instance(federation) => federation.endpoint("objectstorage").await,
        }
    }
}

/// What an instance's identity is made of.
pub(super) struct Setup {
    pub(super) federation: Option<String>,
    pub(super) http: Http,
    pub(super) metadata: Http,
    pub(super) clock: Arc<dyn Clock>,
}

/// The identity and the region that options, environment and configuration file name, in this order.
pub(super) fn find(
    options: &StorageOptions,
    setup: Setup,
    disk: &dyn Disk,
    environment: &Environment,
) -> Result<(Identity, Option<String>), StorageError> {
    let profile = Profile::read(options, disk, environment)?;
    let value = |option: &'static str, variable: &str, key: &str| {
        let found = options.get(option).or_else(|| environment.get(variable)).or_else(|| profile.get(key));
        found.map(str::to_owned)
    };
    let region = value("region", "OCI_CLI_REGION", "region");
    match options.get("auth").or_else(|| environment.get("OCI_CLI_AUTH")).unwrap_or("api_key") {
        "api_key" => {}
        "instance_principal" => {
            let base = environment.get("OCI_METADATA_BASE_URL").map(|base| base.trim_end_matches('/').to_owned());
            return Ok((Identity::Instance(Arc::new(Federation::new(setup, base))), region));
        }
        _ => return Err(StorageError::OptionValue { option: "auth", expected: "api_key or instance_principal" }),
    }
    if profile.get("security_token_file").is_some() && options.get("user").is_none() {
        return Err(credentials(format!(
            "the profile '{}' holds a session token, which is not supported: use one with an API key",
            profile.name
        )));
    }
    let needed = |option: &'static str, variable: &str, key: &str| {
        value(option, variable, key).ok_or_else(|| {
            credentials(format!(
                "no {option}: neither the option nor {variable} nor '{key}' in the profile '{}' of {} is there \
                 (`oci setup config` makes one)",
                profile.name,
                profile.path.as_ref().map_or("~/.oci/config".to_owned(), |path| path.display().to_string())
            ))
        })
    };
    let tenancy = needed("tenancy", "OCI_CLI_TENANCY", "tenancy")?;
    let user = needed("user", "OCI_CLI_USER", "user")?;
    let fingerprint = needed("fingerprint", "OCI_CLI_FINGERPRINT", "fingerprint")?;
    let id = format!("{tenancy}/{user}/{fingerprint}");
    let content = options.get("key_content").or_else(|| environment.get("OCI_CLI_KEY_CONTENT"));
    let key = match content.filter(|_| options.get("key_file").is_none()) {
        Some(pem) => SigningKey::from_pem(id, pem).map_err(|problem| credentials(format!("the key {problem}")))?,
        None => {
            let path = environment.expanded(&needed("key_file", "OCI_CLI_KEY_FILE", "key_file")?);
            let pem = disk.read(&path).map_err(|error| credentials(format!("{}: {error}", path.display())))?;
            SigningKey::from_pem(id, &String::from_utf8_lossy(&pem))
                .map_err(|problem| credentials(format!("the key {} {problem}", path.display())))?
        }
    };
    Ok((Identity::User(Arc::new(key)), region))
}

/// A section of the configuration file; what it lacks is looked up in `DEFAULT`.
struct Profile {
    name: String,
    path: Option<PathBuf>,
    ini: Ini,
}

impl Profile {
    fn read(options: &StorageOptions, disk: &dyn Disk, environment: &Environment) -> Result<Self, StorageError> {
        let named = options.get("profile").or_else(|| environment.get("OCI_CLI_PROFILE"));
        let path = match options.get("config_file") {
            Some(path) => Some(environment.expanded(path)),
            None => environment.file("OCI_CLI_CONFIG_FILE", ".oci/config"),
        };
        let ini = match &path {
            Some(path) => Ini::read(disk, path, STORAGE)?.unwrap_or_default(),
            None => Ini::default(),
        };
        if let Some(name) = named
            && !ini.has(name)
        {
            return Err(credentials(format!("the configuration file has no profile '{name}'")));
        }
        Ok(Self { name: named.unwrap_or("DEFAULT").to_owned(), path, ini })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.ini.get(&self.name, key).or_else(|| self.ini.get("DEFAULT", key))
    }
}

fn credentials(problem: String) -> StorageError {
    StorageError::Credentials { storage: STORAGE, problem }
}
