//! Which format the client wants: `format=` wins, then the `Accept` header (RFC 9110, section 12.5.1), then JSON.

use crate::problem::similar;
use crate::{RowFormat, ServeError};
use axum::http::{HeaderMap, header};

pub(super) fn format(name: Option<&str>, headers: &HeaderMap) -> Result<RowFormat, ServeError> {
    if let Some(name) = name {
        return RowFormat::from_name(name).ok_or_else(|| {
            let guess = similar(name, ["json", "ndjson", "csv"]);
            ServeError::NoSuchFormat {
                format: guess.map_or(name.to_owned(), |guess| format!("{name}' (not '{guess}')")),
            }
        });
    }
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if accept.iter().all(|value| value.trim().is_empty()) {
        return Ok(RowFormat::Json);
    }
    let mut best: Option<(f32, u8, RowFormat)> = None;
    for range in accept.iter().flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let Some((format, exact)) = parts.next().and_then(offered) else { continue };
        let quality = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0));
        // Of equals the more exact wins, then the first.
        if quality > 0.0 && best.is_none_or(|(known, precision, _)| (quality, exact) > (known, precision)) {
            best = Some((quality, exact, format));
        }
    }
    best.map(|(_, _, format)| format)
        .ok_or_else(|| ServeError::NoSuchFormat { format: accept.join(", ").chars().take(200).collect() })
}

/// The format a media range stands for, and how exactly it was named.
fn offered(range: &str) -> Option<(RowFormat, u8)> {
    Some(match range.to_ascii_lowercase().as_str() {
        "application/json" => (RowFormat::Json, 2),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => (RowFormat::Ndjson, 2),
        "text/csv" => (RowFormat::Csv, 2),
        "application/*" => (RowFormat::Json, 1),
        "text/*" => (RowFormat::Csv, 1),
        "*/*" | "*" => (RowFormat::Json, 0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn check(name: Option<&str>, accept: &str, expected: Option<RowFormat>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        assert_eq!(format(name, &headers).ok(), expected, "{name:?} {accept}");
    }

    #[test]
    fn the_accept_header_is_weighed() {
        check(None, "", Some(RowFormat::Json));
        check(None, "*/*", Some(RowFormat::Json));
        check(None, "text/csv", Some(RowFormat::Csv));
        check(None, "text/html,application/xhtml+xml,*/*;q=0.8", Some(RowFormat::Json));
        check(None, "application/json;q=0.5, application/x-ndjson", Some(RowFormat::Ndjson));
        check(None, "*/*, text/csv", Some(RowFormat::Csv));
        check(None, "text/csv;q=0, */*;q=0.1", Some(RowFormat::Json));
        check(None, "image/png", None);
        check(None, "text/csv;q=nonsense", None);
    }

    #[test]
    fn the_parameter_wins() {
        check(Some("csv"), "application/json", Some(RowFormat::Csv));
        check(Some("xml"), "application/json", None);
    }
}
