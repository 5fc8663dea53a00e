//! Endpoints that an option or a variable names.

use super::error::StorageError;
use super::options::StorageOptions;

/// A checked endpoint, without a slash at its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) url: String,
    pub(super) is_http: bool,
}

impl Endpoint {
    /// `https://bucket.host` for `https://host`.
    pub(super) fn with_host_prefix(&self, prefix: &str) -> String {
        self.url.replacen("://", &format!("://{prefix}."), 1)
    }
}

/// Accepts https, and http to this machine or where `allow_http` says so.
pub(super) fn checked(given: &str, options: &StorageOptions) -> Result<Endpoint, StorageError> {
    let wrong = StorageError::OptionValue { option: "endpoint", expected: "a URL like https://host:port" };
    let url = given.trim().trim_end_matches('/');
    let (is_http, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(wrong),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() || rest.contains(['@', '?', '#']) || rest.contains(char::is_whitespace) {
        return Err(wrong);
    }
    if is_http && !is_loopback(authority) && !options.flag("allow_http")?.unwrap_or(false) {
        return Err(StorageError::NotEncrypted { endpoint: url.to_owned() });
    }
    Ok(Endpoint { url: url.to_owned(), is_http })
}

/// Whether a host, with or without a port, is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
