//! One connection: requests are read and answered in order.
//!
//! Reading and answering are two tasks, so that a producer's next request joins the commit that is being collected
//! while its last one is synced. An append is started when its request is read; everything else runs when its turn to
//! be answered comes, as in Kafka.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::api::{self, Turn};
use super::broker::Broker;

/// Unanswered requests of one connection.
const MAX_PIPELINED: usize = 128;
/// The read buffer.
const READ_BYTES: usize = 64 << 10;
/// A request of more bytes than this gets memory only as its bytes arrive.
const TRUSTED_BYTES: usize = 2 << 20;

/// What handlers know of the connection.
#[derive(Debug)]
pub(super) struct Client {
    pub broker: Arc<Broker>,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// Wakes this connection's waiting fetch.
    pub appended: Arc<Notify>,
}

pub(super) async fn run(socket: TcpStream, broker: Arc<Broker>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let client = Arc::new(Client {
        local: socket.local_addr()?,
        peer: socket.peer_addr()?,
        appended: Arc::new(Notify::new()),
        broker,
    });
    let (reader, writer) = socket.into_split();
    let (turns, queue) = mpsc::channel(MAX_PIPELINED);
    let answering = tokio::spawn(answer(writer, queue, client.clone()));
    let read = read(reader, turns, &client).await;
    if read.is_err() {
        answering.abort();
    }
    match answering.await {
        Ok(answered) => read.and(answered),
        Err(_) => read,
    }
}

type Queued = (Turn, OwnedSemaphorePermit);

async fn read(mut socket: OwnedReadHalf, turns: mpsc::Sender<Queued>, client: &Arc<Client>) -> io::Result<()> {
    let options = &client.broker.options;
    let in_flight = Arc::new(Semaphore::new(options.max_in_flight_bytes.max(options.max_request_bytes)));
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        let Some(size) = read_size(&mut socket, &mut buffer).await? else { return Ok(()) };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > options.max_request_bytes {
            return Err(invalid("a request exceeds the size limit"));
        }
        let permit = in_flight.clone().acquire_many_owned(size as u32).await;
        let permit = permit.map_err(|_| invalid("the connection is closed"))?;
        while buffer.len() < size {
            let missing = size - buffer.len();
            buffer.reserve(if size <= TRUSTED_BYTES { missing } else { missing.min(buffer.len().max(READ_BYTES)) });
            if socket.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let turn =
            api::begin(client, buffer.split_to(size).freeze()).ok_or_else(|| invalid("a request is malformed"))?;
        // The receiver is gone only when writing failed.
        if turns.send((turn, permit)).await.is_err() {
            return Ok(());
        }
    }
}

async fn read_size(socket: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<Option<i32>> {
    while buffer.len() < 4 {
        buffer.reserve(READ_BYTES);
        if socket.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
    Ok(Some(buffer.get_i32()))
}

async fn answer(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Queued>, client: Arc<Client>) -> io::Result<()> {
    while let Some((turn, permit)) = queue.recv().await {
        let answer = turn.finish(&client).await.ok_or_else(|| invalid("a request is malformed"))?;
        if let Some(pieces) = answer {
            socket.write_all_buf(&mut Framed::new(pieces)).await?;
        }
        drop(permit);
    }
    Ok(())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// An answer with its size in front, written without joining its pieces.
#[derive(Debug)]
struct Framed {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Framed {
    fn new(pieces: Vec<Bytes>) -> Self {
        let size: usize = pieces.iter().map(Bytes::len).sum();
        let mut pieces = VecDeque::from(pieces);
        pieces.push_front(Bytes::copy_from_slice(&(size as u32).to_be_bytes()));
        Self { pieces, left: size + 4 }
    }
}

impl Buf for Framed {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.iter().find(|piece| !piece.is_empty()).map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        self.left = self.left.saturating_sub(count);
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().filter(|piece| !piece.is_empty());
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }
}
