//! Push: server-sent events (WHATWG HTML, section 9.2) of a view's changes, the status and the dashboards.
//!
//! Everything is *pulled* by the client's socket: a source makes its next event only when the last one was taken. So a
//! slow client costs no memory: the steps it misses fall out of the platform's bounded buffer, and it gets the whole
//! view anew.

mod changes;
mod net;
mod repeated;

pub(crate) use changes::ChangeStream;
pub(crate) use repeated::Repeated;

use bytes::Bytes;
use std::future::Future;

/// Makes the text of an event stream, piece by piece.
pub(crate) trait EventSource: Send + 'static {
    /// The next piece; `None` ends the stream. A future that is dropped loses nothing but its stream.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// One event. `data` must be one line, as JSON is.
fn event(name: &str, id: Option<&str>, data: &str) -> Bytes {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    format!("event: {name}\n{id}data: {data}\n\n").into()
}

/// Keeps proxies and clients from taking silence for death.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Tells a browser how long to wait before it connects again; also brings the headers on their way.
const HELLO: Bytes = Bytes::from_static(b"retry: 1000\n\n");
