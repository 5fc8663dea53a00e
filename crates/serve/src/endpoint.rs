//! The entry noun: one platform behind all protocols.

use crate::metrics::Counters;
use crate::queries::QueryPool;
use crate::{Limits, Platform, ServeError, Shutdown, http, pgwire};
use axum::Router;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Serves one [`Platform`]. Clones share threads, limits and counters.
#[derive(Clone)]
pub struct Endpoint(pub(crate) Arc<Shared>);

/// What all protocols share.
pub(crate) struct Shared {
    pub platform: Arc<dyn Platform>,
    pub limits: Limits,
    pub pool: QueryPool,
    pub counters: Counters,
    pub event_streams: Arc<Semaphore>,
}

impl Endpoint {
    /// # Errors
    /// When the threads for statements cannot be started.
    pub fn new(platform: Arc<dyn Platform>, limits: Limits) -> Result<Self, ServeError> {
        let pool = QueryPool::new(&limits)?;
        let event_streams = Arc::new(Semaphore::new(limits.event_streams));
        let counters = Counters::default();
        Ok(Self(Arc::new(Shared { platform, limits, pool, counters, event_streams })))
    }

    /// All HTTP resources, for a listener of the caller. Event streams end when the end is asked for.
    pub fn router(&self, shutdown: Shutdown) -> Router {
        http::router(self.0.clone(), shutdown)
    }

    /// Answers HTTP until the end is asked for, then lets open requests finish for [`Limits::shutdown_grace`].
    ///
    /// # Errors
    /// When the listener is not on a loopback address, or fails.
    pub async fn serve_http(self, listener: TcpListener, shutdown: Shutdown) -> Result<(), ServeError> {
        http::serve(self.0, listener, shutdown).await
    }

    /// Answers Postgres clients until the end is asked for.
    ///
    /// # Errors
    /// When the listener is not on a loopback address, or fails.
    pub async fn serve_postgres(self, listener: TcpListener, shutdown: Shutdown) -> Result<(), ServeError> {
        pgwire::serve(self.0, listener, shutdown).await
    }
}

/// All HTTP resources of a platform with the default limits, for a listener of the caller.
///
/// # Errors
/// When the threads for statements cannot be started.
pub fn router(platform: Arc<dyn Platform>, shutdown: Shutdown) -> Result<Router, ServeError> {
    Ok(Endpoint::new(platform, Limits::default())?.router(shutdown))
}

/// A listener that other machines can reach is refused until there is authentication.
pub(crate) fn require_loopback(listener: &TcpListener) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    if address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(ServeError::NotLoopback(address)) }
}
