//! An answer that comes after the fsync: awaited in async code, waited for in threads.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use tokio::sync::oneshot;

use crate::LogError;

/// Resolves when the write is durable, or failed. Dropping it does not take the write back.
#[derive(Debug)]
#[must_use = "the write is durable only when this has resolved"]
pub struct Pending<T> {
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Failed(Option<LogError>),
    Waiting(oneshot::Receiver<Result<T, LogError>>),
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

impl<T> Pending<T> {
    pub(crate) fn new() -> (Reply<T>, Self) {
        let (reply, receiver) = oneshot::channel();
        (reply, Self { state: State::Waiting(receiver) })
    }

    pub(crate) fn failed(error: LogError) -> Self {
        Self { state: State::Failed(Some(error)) }
    }

    /// Blocks this thread until the answer is there. Not for async code, which awaits instead.
    pub fn wait(self) -> Result<T, LogError>
    where
        T: Unpin,
    {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(self);
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl<T: Unpin> Future for Pending<T> {
    type Output = Result<T, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(LogError::Closed))),
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|answer| answer.unwrap_or(Err(LogError::Closed)))
            }
        }
    }
}
