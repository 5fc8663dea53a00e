//! Azure Blob Storage and Azure Data Lake Storage Gen2.
//!
//! Both are reached by the Blob service's REST API, which knows `If-None-Match` and `If-Match`; the Data Lake's own
//! operations (renaming a folder) are not used. Requests are encrypted for `abfs:` too.
//! <https://learn.microsoft.com/en-us/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations>

use super::address::Address;
use super::endpoint::{self, Endpoint};
use super::environment::Environment;
use super::error::StorageError;
use super::options::{Limits, StorageOptions};
use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use rivermere_base::Disk;
use std::path::Path;
use std::sync::Arc;

const STORAGE: &str = "Azure storage";

pub(super) const OPTIONS: &[&str] = &[
    "account",
    "account_key",
    "sas_token",
    "tenant_id",
    "client_id",
    "client_secret",
    "federated_token_file",
    "authority_host",
    "bearer_token",
    "use_azure_cli",
    "anonymous",
    "endpoint",
    "allow_http",
];

/// Where an option's value is found, and what the client calls it.
const CREDENTIALS: &[(&str, &[&str], AzureConfigKey)] = &[
    (
        "account_key",
        &["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY"],
        AzureConfigKey::AccessKey,
    ),
    ("sas_token", &["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"], AzureConfigKey::SasKey),
    ("tenant_id", &["AZURE_TENANT_ID", "AZURE_STORAGE_TENANT_ID"], AzureConfigKey::AuthorityId),
    ("client_id", &["AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID"], AzureConfigKey::ClientId),
    ("client_secret", &["AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET"], AzureConfigKey::ClientSecret),
    ("federated_token_file", &["AZURE_FEDERATED_TOKEN_FILE"], AzureConfigKey::FederatedTokenFile),
    ("authority_host", &["AZURE_AUTHORITY_HOST"], AzureConfigKey::AuthorityHost),
    ("bearer_token", &["AZURE_STORAGE_TOKEN"], AzureConfigKey::Token),
];

/// What identifies the caller by itself. An option beats the environment: with one of these, variables are not looked at.
const SELF_SUFFICIENT: &[&str] = &["account_key", "sas_token", "client_secret", "federated_token_file", "bearer_token"];

pub(super) fn open(
    address: &Address,
    options: &StorageOptions,
    limits: Limits,
    disk: &dyn Disk,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let place = Place::of(address)?;
    let connection = ConnectionString::of(environment);
    let account = place
        .account
        .or_else(|| options.get("account"))
        .or_else(|| environment.get("AZURE_STORAGE_ACCOUNT_NAME"))
        .or_else(|| environment.get("AZURE_STORAGE_ACCOUNT"))
        .or_else(|| connection.get("AccountName"));
    let Some(account) = account else {
        return Err(address.refuse("names no account, and neither the option 'account' nor AZURE_STORAGE_ACCOUNT does"));
    };
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(place.container)
        .with_account(account)
        .with_disable_tagging(true)
        .with_retry(limits.retry());

    let mut client = limits.client();
    let endpoint = options
        .get("endpoint")
        .or_else(|| environment.get("AZURE_STORAGE_ENDPOINT"))
        .or_else(|| connection.get("BlobEndpoint"));
    let endpoint: Option<Endpoint> = endpoint.map(|given| endpoint::checked(given, options)).transpose()?;
    match (endpoint, place.suffix) {
        (Some(endpoint), _) => {
            client = client.with_allow_http(endpoint.is_http);
            builder = builder.with_endpoint(endpoint.url);
        }
        // Other clouds and Fabric: the Blob service's host is the Data Lake's with another first word.
        (None, Some(suffix)) => builder = builder.with_endpoint(format!("https://{account}.blob.{suffix}")),
        (None, None) => {}
    }
    builder = builder.with_client_options(client);
    builder = if options.flag("anonymous")?.unwrap_or(false) {
        builder.with_skip_signature(true)
    } else {
        add_credentials(builder, options, &connection, disk, environment)?
    };
    let store = builder.build().map_err(|source| StorageError::Client { url: address.shown.clone(), source })?;
    Ok(Arc::new(store))
}

/// What a URL says.
struct Place<'a> {
    container: &'a str,
    account: Option<&'a str>,
    /// Behind `dfs.` or `blob.`.
    suffix: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// `container@account.dfs.core.windows.net`, `container@account`, or `container`.
    fn of(address: &'a Address) -> Result<Self, StorageError> {
        let Some(container) = address.user.as_deref() else {
            if address.host.contains('.') {
                return Err(address.refuse("names an account and no container"));
            }
            return Ok(Self { container: &address.host, account: None, suffix: None });
        };
        let Some((account, domain)) = address.host.split_once('.') else {
            return Ok(Self { container, account: Some(&address.host), suffix: None });
        };
        match domain.strip_prefix("dfs.").or_else(|| domain.strip_prefix("blob.")) {
            Some(suffix) if !suffix.is_empty() && !account.is_empty() && !suffix.contains(':') => {
                Ok(Self { container, account: Some(account), suffix: Some(suffix) })
            }
            _ => Err(address.refuse("names a host that is none of Azure's")),
        }
    }
}

/// `AZURE_STORAGE_CONNECTION_STRING`: `Name=value;Name=value`.
struct ConnectionString<'a>(Vec<(&'a str, &'a str)>);

impl<'a> ConnectionString<'a> {
    fn of(environment: &'a Environment) -> Self {
        let text = environment.get("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default();
        Self(text.split(';').filter_map(|part| part.split_once('=')).collect())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }
}

/// Azure's default chain: options, environment (a key, a signature, a service principal, a workload identity), managed
/// identity where the platform announces one, the command line's login, and the machine's managed identity at last.
fn add_credentials(
    mut builder: MicrosoftAzureBuilder,
    options: &StorageOptions,
    connection: &ConnectionString<'_>,
    disk: &dyn Disk,
    environment: &Environment,
) -> Result<MicrosoftAzureBuilder, StorageError> {
    let given = SELF_SUFFICIENT.iter().any(|name| options.get(name).is_some());
    let mut found = false;
    for (name, variables, key) in CREDENTIALS {
        let variable = || variables.iter().find_map(|variable| environment.get(variable));
        if let Some(value) = options.get(name).or_else(|| if given { None } else { variable() }) {
            found |= SELF_SUFFICIENT.contains(name);
            builder = builder.with_config(*key, value);
        }
    }
    if given {
        let of_principal = |name| options.get(name).is_some();
        if (of_principal("client_secret") || of_principal("federated_token_file"))
            && !(of_principal("tenant_id") && of_principal("client_id"))
        {
            return Err(StorageError::Credentials {
                storage: STORAGE,
                problem: "client_secret and federated_token_file need tenant_id and client_id beside them".to_owned(),
            });
        }
        return Ok(builder);
    }
    if !found && let Some(key) = connection.get("AccountKey") {
        return Ok(builder.with_access_key(key));
    }
    if !found && let Some(signature) = connection.get("SharedAccessSignature") {
        return Ok(builder.with_config(AzureConfigKey::SasKey, signature));
    }
    let announced = environment.get("IDENTITY_ENDPOINT").or_else(|| environment.get("MSI_ENDPOINT"));
    if let Some(endpoint) = announced {
        builder = builder.with_msi_endpoint(endpoint);
    }
    let signed_in = || {
        let folder = environment.file("AZURE_CONFIG_DIR", ".azure");
        let profile = folder.map(|folder| folder.join("azureProfile.json"));
        profile.is_some_and(|path: std::path::PathBuf| disk.metadata(Path::new(&path)).is_ok())
    };
    let use_cli = match options.flag("use_azure_cli")? {
        Some(asked) => asked,
        None => !found && announced.is_none() && signed_in(),
    };
    Ok(builder.with_use_azure_cli(use_cli))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermere_sim::SimDisk;

    const KEY: (&str, &str) = ("account_key", "aHVudGVyMg==");

    fn opened(url: &str, options: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<String, StorageError> {
        let options = StorageOptions::from_iter(options.iter().copied());
        let environment = Environment::from_iter(variables.iter().copied());
        let limits = Limits::of(&options)?;
        open(&Address::parse(url)?, &options, limits, &SimDisk::new(1), &environment).map(|store| store.to_string())
    }

    #[test]
    fn account_and_container_are_found_in_every_form() {
        let shown = "MicrosoftAzure { account: acc, container: con }";
        for url in [
            "abfss://con@acc.dfs.core.windows.net/x",
            "abfs://con@acc.blob.core.windows.net/x",
            "abfss://con@acc.dfs.core.chinacloudapi.cn/x",
            "az://con@acc/x",
        ] {
            assert_eq!(opened(url, &[KEY], &[]).unwrap(), shown, "{url}");
        }
        assert_eq!(opened("az://con/x", &[KEY, ("account", "acc")], &[]).unwrap(), shown);
        assert_eq!(opened("azure://con", &[KEY], &[("AZURE_STORAGE_ACCOUNT", "acc")]).unwrap(), shown);
        let connection = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=aHVudGVyMg==;EndpointSuffix=x";
        assert_eq!(opened("az://con", &[], &[("AZURE_STORAGE_CONNECTION_STRING", connection)]).unwrap(), shown);
    }

    #[test]
    fn what_lacks_an_account_or_a_container_is_refused() {
        for url in ["az://con/x", "abfss://acc.dfs.core.windows.net/con", "abfss://con@acc.example.com/x"] {
            let error = opened(url, &[KEY], &[]).unwrap_err().to_string();
            assert!(error.starts_with("RM-1111"), "{url}: {error}");
        }
    }

    #[test]
    fn half_a_service_principal_is_refused_without_its_secret() {
        let error = opened("az://c@a/x", &[("client_secret", "hunter2")], &[]).unwrap_err().to_string();
        assert!(error.starts_with("RM-1115") && error.contains("tenant_id") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_repeating_it() {
        let error = opened("az://c@a/x", &[("account_key", "hunter2!")], &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
