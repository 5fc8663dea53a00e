//! What a browser must not be made to do.

use crate::client::{get, post, request};
use crate::running::Running;

#[test]
fn names_of_other_machines_are_misdirected() {
    let running = Running::start();
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1", ""] {
        let answer = request(running.http, "GET", "/v1/views", &[("host", host)], b"");
        assert_eq!((answer.status, answer.error().1.as_str()), (421, "RM-6009"), "{host}");
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:8080"] {
        assert_eq!(request(running.http, "GET", "/v1/views", &[("host", host)], b"").status, 200, "{host}");
    }
}

#[test]
fn pages_of_other_sites_may_neither_write_nor_read() {
    let running = Running::start();
    let here = format!("http://{}", running.http);
    let body = br#"{"sql": "drop materialized view totals"}"#;
    let send = |headers: &[(&str, &str)]| {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        request(running.http, "POST", "/v1/sql", &all, body).status
    };
    for origin in ["https://evil.example", "null", "http://localhost:1", &format!("https://{}", running.http)] {
        assert_eq!(send(&[("origin", origin)]), 403, "{origin}");
    }
    assert_eq!(send(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]), 403);
    assert_eq!(send(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]), 403);
    assert!(running.memory.statements.lock().is_empty());
    assert_eq!(send(&[("origin", &here), ("sec-fetch-site", "same-origin")]), 200);
    let read = |mode| {
        let headers = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode)];
        request(running.http, "GET", "/", &headers, b"").status
    };
    assert_eq!((read("no-cors"), read("navigate")), (403, 200));
}

#[test]
fn only_types_that_need_permission_across_sites_are_accepted() {
    let running = Running::start();
    for content_type in ["application/x-www-form-urlencoded", "multipart/form-data", "", "text/plain"] {
        let answer = post(running.http, "/v1/topics/departures/records", content_type, "{}");
        assert_eq!(answer.status, 415, "{content_type}");
    }
    assert_eq!(post(running.http, "/v1/sql", "application/x-www-form-urlencoded", "select 1").status, 415);
    assert!(running.memory.topics.lock()["departures"].is_empty());
}

#[test]
fn every_answer_carries_the_safety_headers() {
    let running = Running::start();
    for path in ["/", "/v1/status", "/nothing", "/metrics"] {
        let headers = get(running.http, path).headers;
        assert!(headers["content-security-policy"].contains("default-src 'none'"), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert!(!headers.contains_key("access-control-allow-origin"), "{path}");
    }
}

#[test]
fn the_end_does_not_wait_for_open_streams() {
    let running = Running::start();
    let mut events = crate::client::Events::open(running.http, "/v1/views/totals/changes", None);
    assert_eq!(events.next().unwrap().name, "reset");
    assert!(running.end().iter().all(Result::is_ok));
    assert_eq!(events.next(), None);
}
