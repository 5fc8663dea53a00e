//! The live pages, embedded when the binary is built.
//!
//! `build.rs` leaves the finished files in `OUT_DIR/pages`; here they get their type, an entity tag of their contents
//! and a cache rule: always ask, mostly be told that nothing changed.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use include_dir::{Dir, include_dir};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

static FILES: Dir<'static> = include_dir!("$OUT_DIR/pages");

/// The page at `path`, when there is one. `/` is `index.html`.
pub(crate) fn page(path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let path = path.trim_start_matches('/');
    let file = FILES.get_file(if path.is_empty() { "index.html" } else { path })?;
    let tag = tag(file.contents());
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        // A page that went through compression comes back with a weak tag.
        .any(|value| value.trim().trim_start_matches("W/") == tag || value.trim() == "*");
    let mut response = Response::new(if known { Body::empty() } else { Body::from(file.contents()) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let extension = file.path().extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(extension)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Some(response)
}

fn tag(contents: &[u8]) -> String {
    format!("\"{:016x}\"", BuildHasherDefault::<DefaultHasher>::default().hash_one(contents))
}

fn media_type(extension: &str) -> &'static str {
    match extension {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_page_is_there_and_its_tag_saves_the_second_trip() {
        let first = page("/", &HeaderMap::new()).unwrap();
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let tag = first.headers()[header::ETAG].to_str().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(&format!("\"x\", W/{tag}")).unwrap());
        assert_eq!(page("/", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn paths_outside_of_the_pages_are_nothing() {
        for path in ["/../Cargo.toml", "/assets/../../x", "/assets", "/nothing.js", "//etc/passwd"] {
            assert!(page(path, &HeaderMap::new()).is_none(), "{path}");
        }
    }
}
