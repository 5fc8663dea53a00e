//! PostgreSQL's wire protocol.
use crate::endpoint::{Shared, require_loopback};
use crate::{ServeError, Shutdown};
use std::sync::Arc;
use tokio::net::TcpListener;
pub(crate) async fn serve(_shared: Arc<Shared>, listener: TcpListener, shutdown: Shutdown) -> Result<(), ServeError> {
    require_loopback(&listener)?;
    shutdown.asked().await;
    Ok(())
}
