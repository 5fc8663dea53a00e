//! Who may ask: only programs of this machine, and of the pages in a browser only our own.
//!
//! There is no authentication yet, so a browser that visits a hostile page must not become its tool:
//! - *DNS rebinding* (a foreign name that resolves to 127.0.0.1) is stopped by the `Host` header, which must name
//!   loopback.
//! - *Cross-site requests* are stopped by `Origin` and `Sec-Fetch-Site`, which a page cannot forge, and by content
//!   types (see `sql` and `topics`) that a page may only send to another site after asking, which we never grant.
//! - *Framing and injected script* are stopped by the Content-Security-Policy.

use crate::ServeError;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

pub(super) async fn check(request: Request, next: Next) -> Response {
    let mut response = match allowed(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    response.headers_mut().extend(HEADERS);
    response
}

fn allowed(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ServeError> {
    let text = |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let host = text(header::HOST).or_else(|| uri.authority().map(ToString::to_string)).unwrap_or_default();
    if !names_loopback(&host) {
        return Err(ServeError::ForeignHost { host: host.chars().take(100).collect() });
    }
    if let Some(origin) = text(header::ORIGIN) {
        let same = origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(&host));
        if !same {
            return Err(ServeError::ForeignOrigin { origin: origin.chars().take(100).collect() });
        }
    }
    let site = text(HeaderName::from_static("sec-fetch-site")).unwrap_or_default();
    let mode = text(HeaderName::from_static("sec-fetch-mode")).unwrap_or_default();
    // A link from elsewhere may open a page; that is all.
    let follows_link = mode == "navigate" && (method == Method::GET || method == Method::HEAD);
    if matches!(site.as_str(), "cross-site" | "same-site") && !follows_link {
        return Err(ServeError::ForeignOrigin { origin: site });
    }
    Ok(())
}

/// `localhost`, 127.0.0.0/8 or `[::1]`, with any port.
fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_pass() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:80", "localhost.:80"] {
            assert!(names_loopback(host), "{host}");
        }
        let foreign =
            ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::1", "[::2]:80"];
        for host in foreign {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
