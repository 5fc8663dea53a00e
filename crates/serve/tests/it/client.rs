//! A plain HTTP/1.1 client that sends exactly the headers it is given and can read as slowly as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Nothing in these tests takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the body came to its proper end.
    pub whole: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Status, code and hint of an error.
    pub fn error(&self) -> (u16, String, String) {
        let json = self.json();
        let text = |key: &str| json["error"][key].as_str().unwrap_or_default().to_owned();
        (self.status, text("code"), text("hint"))
    }
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], b"")
}

pub fn get_as(address: SocketAddr, path: &str, accept: &str) -> Answer {
    request(address, "GET", path, &[("accept", accept)], b"")
}

pub fn post(address: SocketAddr, path: &str, content_type: &str, body: &str) -> Answer {
    request(address, "POST", path, &[("content-type", content_type)], body.as_bytes())
}

pub fn sql(address: SocketAddr, statement: &str) -> Answer {
    let body = serde_json::json!({ "sql": statement }).to_string();
    post(address, "/v1/sql", "application/json", &body)
}

pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut connection = open(address, method, path, headers, body);
    let (status, headers) = head(&mut connection);
    let (body, whole) = if method == "HEAD" { (Vec::new(), true) } else { read_body(&mut connection, &headers) };
    Answer { status, headers, body, whole }
}

/// Sends a request and leaves the answer unread.
pub fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text += &format!("host: {address}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if method == "POST" {
        text += &format!("content-length: {}\r\n", body.len());
    }
    text += "\r\n";
    stream.write_all(text.as_bytes()).unwrap();
    // A server that refuses by the head need not read the body.
    let _ = stream.write_all(body);
    BufReader::new(stream)
}

pub fn head(connection: &mut BufReader<TcpStream>) -> (u16, BTreeMap<String, String>) {
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { return (status, headers) };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
}

fn read_body(connection: &mut BufReader<TcpStream>, headers: &BTreeMap<String, String>) -> (Vec<u8>, bool) {
    if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
        let mut body = Vec::new();
        loop {
            match chunk(connection) {
                Some(piece) if piece.is_empty() => return (body, true),
                Some(piece) => body.extend(piece),
                None => return (body, false),
            }
        }
    }
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    let whole = connection.read_exact(&mut body).is_ok();
    (body, whole)
}

/// The next piece of a chunked body; `None` when the connection ended without the last one.
fn chunk(connection: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    if connection.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let length = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut piece = vec![0; length + 2];
    connection.read_exact(&mut piece).ok()?;
    piece.truncate(length);
    Some(piece)
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: serde_json::Value,
}

/// Reads an event stream as a browser would.
pub struct Events {
    connection: BufReader<TcpStream>,
    text: Vec<u8>,
}

impl Events {
    pub fn open(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last_event_id.map(|id| ("last-event-id", id)).into_iter().collect();
        let mut connection = open(address, "GET", path, &headers, b"");
        let (status, headers) = head(&mut connection);
        assert_eq!((status, headers["content-type"].as_str()), (200, "text/event-stream"));
        Self { connection, text: Vec::new() }
    }

    /// The next event; `None` when the stream ended. Comments are skipped.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8(block).unwrap()) {
                    return Some(event);
                }
                continue;
            }
            match chunk(&mut self.connection) {
                Some(piece) if !piece.is_empty() => self.text.extend(piece),
                _ => return None,
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data = field("data:")?;
    Some(Event {
        name: field("event:").unwrap_or("message").to_owned(),
        id: field("id:").map(str::to_owned),
        data: serde_json::from_str(data).unwrap(),
    })
}
