//! `POST /v1/topics/NAME/records`: JSON objects into a topic, as NDJSON, an array or one object.
//!
//! The records keep the bytes they came with. The answer `{"partition": 0, "offset": 41, "count": 3}` is sent after the
//! records are durable; `offset` is that of the first.

use super::App;
use super::answer::json_response;
use crate::ServeError;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;

pub(super) async fn append(
    State(app): State<App>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ServeError> {
    match content_type(&headers).as_str() {
        "application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {}
        other => {
            let found = other.chars().take(100).collect();
            return Err(ServeError::WrongContentType { found, wanted: "application/x-ndjson" });
        }
    }
    let body = read_body(&app, body).await?;
    let records = split(&body, app.shared.limits.append_records)?;
    let count = records.len();
    // Once begun, an append is not cut off by a client that goes away.
    let appended = tokio::spawn(app.shared.platform.append(topic, records));
    let (partition, offset) = appended.await.map_err(|_| ServeError::Ending)??;
    app.shared.counters.records_appended.fetch_add(count as u64, Relaxed);
    Ok(json_response(&json!({"partition": partition, "offset": offset, "count": count})))
}

/// The media type without its parameters; empty when there is none.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The whole body within the limits of size and time.
pub(super) async fn read_body(app: &App, body: Body) -> Result<Bytes, ServeError> {
    let limits = &app.shared.limits;
    let limit = limits.body_bytes;
    match tokio::time::timeout(limits.body_wait, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(body)) => Ok(body),
        // The only other reason is a client that went away, which sees no answer.
        Ok(Err(_)) => Err(ServeError::BodyTooLarge { limit }),
        Err(_) => Err(ServeError::TimedOut(limits.body_wait)),
    }
}

/// Cuts the body into its objects without copying or rewriting them.
fn split(body: &Bytes, limit: usize) -> Result<Vec<Bytes>, ServeError> {
    let mut rest = Cursor { body, at: 0 };
    rest.skip_space();
    let is_array = rest.take(b'[');
    let mut records = Vec::new();
    loop {
        rest.skip_space();
        match rest.peek() {
            None if is_array => return Err(rest.wrong("the array is not closed by ']'")),
            None => break,
            Some(b']') if is_array && records.is_empty() => {
                rest.at += 1;
                break rest.only_space()?;
            }
            _ => {}
        }
        if records.len() >= limit {
            return Err(rest.wrong(&format!("there are more than {limit} records: send them in several requests")));
        }
        records.push(rest.object()?);
        rest.skip_space();
        if is_array {
            if rest.take(b']') {
                break rest.only_space()?;
            }
            if !rest.take(b',') {
                return Err(rest.wrong("',' or ']' was expected after a record"));
            }
        }
    }
    if records.is_empty() { Err(rest.wrong("there is no record")) } else { Ok(records) }
}

struct Cursor<'a> {
    body: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn only_space(&mut self) -> Result<(), ServeError> {
        self.skip_space();
        if self.peek().is_none() { Ok(()) } else { Err(self.wrong("nothing may follow the array")) }
    }

    fn object(&mut self) -> Result<Bytes, ServeError> {
        if self.peek() != Some(b'{') {
            return Err(self.wrong("a record must be a JSON object, which starts with '{'"));
        }
        let text = self.body.get(self.at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let end = self.at + values.byte_offset();
                let record = self.body.slice(self.at..end);
                self.at = end;
                Ok(record)
            }
            Some(Err(error)) => {
                let (line, column) = self.place();
                let column = if error.line() <= 1 { column + error.column().saturating_sub(1) } else { error.column() };
                let text = error.to_string();
                let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
                Err(ServeError::WrongBody { line: line + error.line().saturating_sub(1), column, reason })
            }
            None => Err(self.wrong("there is no record")),
        }
    }

    /// Line and column, counted from 1.
    fn place(&self) -> (usize, usize) {
        let before = self.body.get(..self.at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        (line, column)
    }

    fn wrong(&self, reason: &str) -> ServeError {
        let (line, column) = self.place();
        ServeError::WrongBody { line, column, reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Result<&[&str], &str>) {
        let split = split(&Bytes::copy_from_slice(body.as_bytes()), 3);
        match expected {
            Ok(records) => assert_eq!(split.unwrap(), records, "{body}"),
            Err(reason) => assert_eq!(split.unwrap_err().message(), reason, "{body}"),
        }
    }

    #[test]
    fn one_object_many_lines_or_an_array_keep_their_bytes() {
        check(r#" {"a": 1.10} "#, Ok(&[r#"{"a": 1.10}"#]));
        check("{\"a\":1}\n\r\n{\"a\":2}\n", Ok(&[r#"{"a":1}"#, r#"{"a":2}"#]));
        check(r#"[{"a":[1,{"b":"]"}]} , {} ]"#, Ok(&[r#"{"a":[1,{"b":"]"}]}"#, "{}"]));
        check("{\"a\":\n1}{\"b\":2}", Ok(&["{\"a\":\n1}", "{\"b\":2}"]));
    }

    #[test]
    fn a_broken_body_is_told_with_its_place() {
        let at = |line, column, reason: &str| {
            format!("the body is not what was expected at line {line}, column {column}: {reason}")
        };
        check("", Err(&at(1, 1, "there is no record")));
        check("[]", Err(&at(1, 3, "there is no record")));
        check("{}\n17", Err(&at(2, 1, "a record must be a JSON object, which starts with '{'")));
        check("[{}", Err(&at(1, 4, "',' or ']' was expected after a record")));
        check("[{},", Err(&at(1, 5, "the array is not closed by ']'")));
        check("[{},]", Err(&at(1, 5, "a record must be a JSON object, which starts with '{'")));
        check("[{}] {}", Err(&at(1, 6, "nothing may follow the array")));
        check("{}\n{\"a\" 1}", Err(&at(2, 6, "expected `:`")));
        check("{}{}{}{}", Err(&at(1, 7, "there are more than 3 records: send them in several requests")));
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(split(&Bytes::from(deep), 3).is_err());
    }
}
