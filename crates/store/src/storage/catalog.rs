//! Catalogs over HTTP, whose tables are named by URLs: `iceberg+https://host/base/namespace.table`.
//!
//! Credentials are options: `token`, a bearer token, or `credential`, `id:secret` of a client that asks for one (OAuth 2.0, RFC 6749,
//! "Client Credentials Grant"), with its `scope`.

use super::asking::{Answer, Asking, NoAnswer};
use super::error::StorageError;
use super::options::{Limits, StorageOptions};
use super::percent::encoded;
use http::Method;
use object_store::client::HttpRequestBody;
use rivermere_base::{Rng, Secret};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

/// What begins the URL of a table of a catalog.
const SCHEME: &str = "iceberg+";
const FORM: &str = "iceberg+https://host/base/namespace.table";
/// The options that catalogs have beside those of every network.
pub(super) const OPTIONS: &[&str] = &["allow_http", "credential", "oauth2_server_uri", "scope", "token", "warehouse"];
const UNAUTHORIZED: u16 = 401;
/// The specification's own: credentials have had their time.
const TIMED_OUT: u16 = 419;

/// A table of a catalog, and who is asked for it.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    pub service: Arc<CatalogService>,
    pub namespace: Vec<String>,
    pub table: String,
    /// The URL.
    pub shown: String,
}

/// A catalog that is asked over HTTP.
pub struct CatalogService {
    asking: Asking,
    /// Without a slash at its end.
    base: String,
    options: StorageOptions,
    token: Mutex<Option<Secret>>,
    prefix: OnceCell<String>,
}

impl fmt::Debug for CatalogService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CatalogService({})", self.base)
    }
}

pub(super) fn is_catalog(url: &str) -> bool {
    url.get(..SCHEME.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME))
}

/// The base of a URL, and the name behind its last slash.
pub(super) fn split(url: &str) -> Result<(String, Vec<String>, String), StorageError> {
    // Without what may be a password.
    let shown = if url.contains('@') { format!("{SCHEME}…") } else { url.to_owned() };
    let wrong = |problem: &str| StorageError::Address { url: shown.clone(), problem: problem.to_owned(), form: FORM };
    let rest = url.get(SCHEME.len()..).unwrap_or_default();
    let (scheme, place) = rest.split_once("://").ok_or_else(|| wrong("has no :// behind the scheme"))?;
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(wrong("is asked by something else than http or https"));
    }
    if place.split('/').next().is_some_and(|host| host.is_empty() || host.contains('@')) {
        return Err(wrong("names no host, or a user, who belongs into the options"));
    }
    let (base, name) = place.rsplit_once('/').ok_or_else(|| wrong("names no table"))?;
    let mut namespace: Vec<String> = name.split('.').map(str::to_owned).collect();
    let table = namespace.pop().unwrap_or_default();
    if table.is_empty() || namespace.is_empty() || namespace.iter().any(String::is_empty) {
        return Err(wrong("names no table in a namespace"));
    }
    Ok((format!("{}://{base}", scheme.to_ascii_lowercase()), namespace, table))
}

/// Whether nobody on the way reads what is sent to a URL: it is encrypted, or stays on this machine.
fn is_private(url: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    scheme.eq_ignore_ascii_case("https") || ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

impl CatalogService {
    pub(super) fn open(base: String, options: &StorageOptions, rng: Arc<dyn Rng>) -> Result<Self, StorageError> {
        options.check_names("a catalog", OPTIONS)?;
        let limits = Limits::of(options)?;
        let has_secret = options.get("token").or_else(|| options.get("credential")).is_some();
        let is_allowed = options.flag("allow_http")? == Some(true);
        for endpoint in [Some(base.as_str()), options.get("oauth2_server_uri")].into_iter().flatten() {
            if has_secret && !is_allowed && !is_private(endpoint) {
                return Err(StorageError::NotEncrypted { endpoint: endpoint.to_owned() });
            }
        }
        let is_plain = base.starts_with("http://");
        let asking = Asking::new(limits, is_plain, rng);
        let asking = asking.map_err(|source| StorageError::Client { url: base.clone(), source })?;
        let token = options.get("token").map(|token| Secret::new(token.to_owned()));
        let options = options.clone();
        Ok(Self { asking, base, options, token: Mutex::new(token), prefix: OnceCell::new() })
    }

    /// The option `warehouse`: which of its catalogs a service is asked for.
    fn warehouse(&self) -> Option<&str> {
        self.options.get("warehouse")
    }

    /// Asks for `v1/<prefix>/<path>`, again while a failure may pass.
    ///
    /// # Errors
    /// When there is no answer. An answer that refuses is one.
    pub async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        let url = self.url(path).await?;
        self.asked(Method::GET, &url, None, true).await
    }

    /// Posts JSON to `v1/<prefix>/<path>`, once.
    ///
    /// # Errors
    /// When there is no answer; what was asked for may have been done all the same.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer, NoAnswer> {
        let url = self.url(path).await?;
        self.asked(Method::POST, &url, Some((body, "application/json")), false).await
    }

    /// `GET /v1/config` says what comes before the paths.
    async fn url(&self, path: &str) -> Result<String, NoAnswer> {
        let prefix = self.prefix.get_or_try_init(|| async {
            #[derive(Default, Deserialize)]
            struct Config {
                #[serde(default)]
                overrides: std::collections::BTreeMap<String, String>,
                #[serde(default)]
                defaults: std::collections::BTreeMap<String, String>,
            }
            let query = self.warehouse().map(|name| format!("?warehouse={}", encoded(name))).unwrap_or_default();
            let url = format!("{}/v1/config{query}", self.base);
            let answer = self.asked(Method::GET, &url, None, true).await?;
            if answer.status != 200 {
                return Err(NoAnswer(format!("{url} answers {}: {}", answer.status, message(&answer.body))));
            }
            let config: Config = serde_json::from_slice(&answer.body).map_err(|error| NoAnswer(error.to_string()))?;
            let prefix = config.overrides.get("prefix").or_else(|| config.defaults.get("prefix"));
            Ok(prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default())
        });
        Ok(format!("{}/v1/{}{path}", self.base, prefix.await?))
    }

    async fn asked(
        &self,
        method: Method,
        url: &str,
        body: Option<(Vec<u8>, &'static str)>,
        repeat: bool,
    ) -> Result<Answer, NoAnswer> {
        let answer = self.attempts(&method, url, &body, repeat).await?;
        // A token that was asked for has its time.
        if [UNAUTHORIZED, TIMED_OUT].contains(&answer.status) && self.options.get("credential").is_some() {
            *self.token.lock().await = None;
            return self.attempts(&method, url, &body, repeat).await;
        }
        Ok(answer)
    }

    async fn attempts(
        &self,
        method: &Method,
        url: &str,
        body: &Option<(Vec<u8>, &'static str)>,
        repeat: bool,
    ) -> Result<Answer, NoAnswer> {
        let token = self.token().await?;
        let once = || async { self.once(method, url, body.clone(), token.as_ref()).await };
        if !repeat {
            return once().await;
        }
        self.asking.repeated(|_| false, once).await
    }

    async fn once(
        &self,
        method: &Method,
        url: &str,
        body: Option<(Vec<u8>, &'static str)>,
        token: Option<&Secret>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = http::Request::builder().method(method.clone()).uri(url).header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let body = match body {
            Some((body, kind)) => {
                request = request.header("content-type", kind);
                HttpRequestBody::from(body)
            }
            None => HttpRequestBody::empty(),
        };
        // The error would hold the header.
        let request =
            request.body(body).map_err(|_| NoAnswer(format!("{url} cannot be asked: its token is no text")))?;
        self.asking.once(request).await
    }

    async fn token(&self) -> Result<Option<Secret>, NoAnswer> {
        let mut token = self.token.lock().await;
        let Some(credential) = self.options.get("credential").filter(|_| token.is_none()) else {
            return Ok(token.clone());
        };
        let (id, secret) = credential.split_once(':').unwrap_or(("", credential));
        let own = format!("{}/v1/oauth/tokens", self.base);
        let url = self.options.get("oauth2_server_uri").unwrap_or(&own);
        let scope = self.options.get("scope").unwrap_or("catalog");
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope={}",
            encoded(id),
            encoded(secret),
            encoded(scope)
        );
        let body = Some((form.into_bytes(), "application/x-www-form-urlencoded"));
        let answer = self.once(&Method::POST, url, body, None).await?;
        #[derive(Deserialize)]
        struct Token {
            access_token: String,
        }
        match serde_json::from_slice::<Token>(&answer.body) {
            Ok(Token { access_token }) if answer.status == 200 => *token = Some(Secret::new(access_token)),
            _ => return Err(NoAnswer(format!("{url} gives no token, but {}", answer.status))),
        }
        Ok(token.clone())
    }
}

/// What an answer that refuses says.
pub fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        message: String,
    }
    let text = match serde_json::from_slice::<Told>(body) {
        Ok(Told { error: Inner { message } }) => message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().filter(|char| !char.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermere_base::SeededRng;

    #[test]
    fn urls_of_tables_are_taken_apart_and_others_refused() {
        let (base, namespace, table) = split("iceberg+https://h:8181/api/cat/a.b.t").unwrap();
        assert_eq!(
            (base.as_str(), namespace, table.as_str()),
            ("https://h:8181/api/cat", vec!["a".into(), "b".into()], "t")
        );
        for wrong in ["iceberg+https://h", "iceberg+ftp://h/a.t", "iceberg+https://h/t", "iceberg+https://u:p@h/a.t"] {
            let error = split(wrong).unwrap_err().to_string();
            assert!(error.starts_with("RM-1111"), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_go_over_the_network_in_the_clear_and_misspelt_options_are_refused() {
        let open = |base: &str, options: &[(&str, &str)]| {
            let options = StorageOptions::from_iter(options.iter().copied());
            CatalogService::open(base.to_owned(), &options, Arc::new(SeededRng::new(1)))
        };
        let error = open("http://catalog.example.com", &[("token", "hunter2")]).unwrap_err().to_string();
        assert!(error.starts_with("RM-1114") && !error.contains("hunter2"), "{error}");
        let elsewhere = [("credential", "a:hunter2"), ("oauth2_server_uri", "http://login.example.com/token")];
        let error = open("http://localhost:1", &elsewhere).unwrap_err().to_string();
        assert!(error.starts_with("RM-1114") && error.contains("login") && !error.contains("hunter2"), "{error}");
        let error = split("iceberg+https://me:hunter2@h/a.t").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let error = open("https://h", &[("tokn", "hunter2")]).unwrap_err().to_string();
        assert!(error.starts_with("RM-1112") && error.contains("'token'") && !error.contains("hunter2"), "{error}");
        let opened = open("http://127.0.0.1:1", &[("token", "hunter2")]).unwrap();
        assert!(!format!("{opened:?}").contains("hunter2"));
        open("http://h", &[("credential", "a:b"), ("allow_http", "true")]).unwrap();
    }
}
