//! The listener.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::broker::{Broker, KafkaOptions};
use super::connection;
use crate::Log;

/// How often sessions and rebalances are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Pause after a failed accept, which usually means that the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A Kafka listener in front of a [`Log`].
#[derive(Debug)]
pub struct KafkaServer {
    listener: TcpListener,
    broker: Arc<Broker>,
}

impl KafkaServer {
    /// Binds `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is not of this machine's loopback, because there is no authentication yet, or is taken.
    pub async fn bind(log: Log, addr: SocketAddr, options: KafkaOptions) -> io::Result<Self> {
        if !addr.ip().is_loopback() {
            let detail = format!(
                "RM-2070: the Kafka listener binds 127.0.0.1 only, because it has no authentication; {addr} is refused"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        let listener = TcpListener::bind(addr).await?;
        Ok(Self { listener, broker: Arc::new(Broker::new(log, options)) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` resolves, then drops all connections.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let slots = Arc::new(Semaphore::new(self.broker.options.max_connections));
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = ticks.tick() => self.broker.tick(),
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        let Ok(slot) = slots.clone().try_acquire_owned() else {
                            tracing::warn!(%peer, "RM-2071: too many Kafka connections; this one is closed");
                            continue;
                        };
                        let broker = self.broker.clone();
                        connections.spawn(async move {
                            if let Err(error) = connection::run(socket, broker).await {
                                tracing::debug!(%peer, %error, "a Kafka connection ended");
                            }
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "RM-2072: a Kafka connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}
