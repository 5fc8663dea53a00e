//! A plain client of PostgreSQL's protocol, for what psql and psycopg do not send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Wire {
    stream: TcpStream,
    pub process: i32,
    pub key: i32,
    /// Server parameters in the order they were told.
    pub parameters: Vec<(String, String)>,
}

/// A message of the server: its letter and its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(pub char, pub Vec<u8>);

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let mut wire = Self::raw(address);
        wire.send_raw(&startup(&[("user", "anyone"), ("database", "rivermere"), ("application_name", "test")]));
        for Message(letter, body) in wire.until_ready() {
            match letter {
                'K' => {
                    wire.process = i32::from_be_bytes(body[0..4].try_into().unwrap());
                    wire.key = i32::from_be_bytes(body[4..8].try_into().unwrap());
                }
                'S' => {
                    let mut texts =
                        body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
                    wire.parameters.push((texts.next().unwrap(), texts.next().unwrap()));
                }
                _ => {}
            }
        }
        wire
    }

    /// A connection that has said nothing yet.
    pub fn raw(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, process: 0, key: 0, parameters: Vec::new() }
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn send(&mut self, letter: char, body: &[u8]) {
        self.send_raw(&message(letter, body));
    }

    /// The next message; `None` when the server has closed.
    pub fn next(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
            Err(error) => panic!("{error}"),
        }
        let length = u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).unwrap();
        Some(Message(head[0] as char, body))
    }

    /// All messages up to and with the next ReadyForQuery, or up to the end of the connection.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next() {
            let ready = message.0 == 'Z';
            messages.push(message);
            if ready {
                break;
            }
        }
        messages
    }

    /// A simple query, answered.
    pub fn query(&mut self, text: &str) -> Vec<Message> {
        self.send('Q', &[text.as_bytes(), b"\0"].concat());
        self.until_ready()
    }
}

pub fn message(letter: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![letter as u8];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// Parse: a statement without a name.
pub fn parse(text: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [b"\0", text.as_bytes(), b"\0", &(types.len() as u16).to_be_bytes()[..]].concat();
    types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    message('P', &body)
}

/// Bind of the portal without a name: format codes and values of the parameters, format codes of the columns.
pub fn bind(formats: &[u16], values: &[Option<&[u8]>], columns: &[u16]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend((formats.len() as u16).to_be_bytes());
    formats.iter().for_each(|code| body.extend(code.to_be_bytes()));
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        body.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    body.extend((columns.len() as u16).to_be_bytes());
    columns.iter().for_each(|code| body.extend(code.to_be_bytes()));
    message('B', &body)
}

pub fn execute(most: i32) -> Vec<u8> {
    message('E', &[&[0][..], &most.to_be_bytes()].concat())
}

pub fn describe_portal() -> Vec<u8> {
    message('D', b"P\0")
}

pub fn sync() -> Vec<u8> {
    message('S', b"")
}

/// The letters of messages in their order.
pub fn letters(messages: &[Message]) -> String {
    messages.iter().map(|message| message.0).collect()
}

/// The columns of every DataRow.
pub fn rows(messages: &[Message]) -> Vec<Vec<Option<Vec<u8>>>> {
    let row = |body: &[u8]| {
        let mut at = 2;
        let mut columns = Vec::new();
        while at < body.len() {
            let length = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
            at += 4;
            columns.push((length >= 0).then(|| body[at..at + length as usize].to_vec()));
            at += length.max(0) as usize;
        }
        columns
    };
    messages.iter().filter(|message| message.0 == 'D').map(|message| row(&message.1)).collect()
}

/// The columns as text, null as `∅`.
pub fn texts(messages: &[Message]) -> Vec<Vec<String>> {
    let text = |column: Option<Vec<u8>>| column.map_or("∅".into(), |text| String::from_utf8(text).unwrap());
    rows(messages).into_iter().map(|row| row.into_iter().map(text).collect()).collect()
}

/// A field of the first error: `C` the SQLSTATE, `M` the message, `H` the hint.
pub fn error_field(messages: &[Message], field: char) -> Option<String> {
    let error = messages.iter().find(|message| message.0 == 'E')?;
    let fields = error.1.split(|byte| *byte == 0).map(|field| String::from_utf8_lossy(field).into_owned());
    fields.filter(|text| text.starts_with(field)).map(|text| text[1..].to_owned()).next()
}

/// The tags of all completed statements.
pub fn tags(messages: &[Message]) -> Vec<String> {
    let tag = |message: &Message| String::from_utf8_lossy(&message.1[..message.1.len() - 1]).into_owned();
    messages.iter().filter(|message| message.0 == 'C').map(tag).collect()
}
