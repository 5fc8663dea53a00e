//! Connections: how many, who is at the other end, what it is told first, and how a statement is cancelled.

use super::catalog::Catalog;
use super::errors::fatal;
use super::handler::Handler;
use crate::endpoint::{Shared, require_loopback};
use crate::metrics::Open;
use crate::{ServeError, Shutdown};
use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ConnectionGuard, ConnectionHandle, ConnectionManager, ErrorHandler, PgWireServerHandlers,
    PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::pgwire::tokio::process_socket;
use futures::Sink;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Time before a listener that cannot accept (out of file handles) tries again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers Postgres clients until the end is asked for; open connections are closed then.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, shutdown: Shutdown) -> Result<(), ServeError> {
    require_loopback(&listener)?;
    let places = Arc::new(Semaphore::new(shared.limits.postgres_connections));
    let cancels = Arc::new(ConnectionManager::new());
    let keys = Arc::new(RandomPidSecretKeyGenerator::default());
    let catalog = Arc::new(Catalog::new(shared.platform.clone())?);
    let handler = Arc::new(Handler::new(shared.clone(), catalog));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.asked() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!("a Postgres connection was not accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let place = places.clone().try_acquire_owned().ok();
        let startup = Startup { has_place: place.is_some(), cancels: cancels.clone(), keys: keys.clone() };
        let open = Open::new(shared.clone(), |counters| &counters.postgres_connections);
        let handlers = Handlers {
            shared: shared.clone(),
            startup: Arc::new(startup),
            handler: handler.clone(),
            cancels: cancels.clone(),
        };
        connections.spawn(async move {
            let _place = (place, open);
            // Ends with the client; a broken socket is its end as well.
            if let Err(error) = process_socket(socket, None, handlers).await {
                tracing::debug!("a Postgres connection broke: {error}");
            }
        });
    }
    connections.shutdown().await;
    Ok(())
}

/// Everything one connection is answered by.
struct Handlers {
    shared: Arc<Shared>,
    startup: Arc<Startup>,
    handler: Arc<Handler>,
    cancels: Arc<ConnectionManager>,
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.handler.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.handler.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.startup.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(DefaultCancelHandler::new(self.cancels.clone()))
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::new(CountErrors(self.shared.clone()))
    }
}

struct CountErrors(Arc<Shared>);

impl ErrorHandler for CountErrors {
    fn on_error<C>(&self, _client: &C, error: &mut PgWireError)
    where
        C: ClientInfo,
    {
        self.0.counters.postgres_errors.fetch_add(1, Relaxed);
        tracing::debug!("told to a Postgres client: {error}");
    }
}

/// Lets anyone in while there is a place: only this machine can knock.
struct Startup {
    has_place: bool,
    cancels: Arc<ConnectionManager>,
    keys: Arc<RandomPidSecretKeyGenerator>,
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let PgWireFrontendMessage::Startup(startup) = &message else {
            return Err(fatal("08P01", "the first message must be a startup message"));
        };
        if !self.has_place {
            return Err(fatal("53300", "too many connections are open"));
        }
        protocol_negotiation(client, startup).await?;
        save_startup_parameters_to_metadata(client, startup);
        let (pid, key) = self.keys.generate(client);
        client.set_pid_and_secret_key(pid, key.clone());
        let (handle, guard) = self.cancels.register(pid, key);
        client.session_extensions().insert::<Arc<ConnectionHandle>>(handle);
        client.session_extensions().insert::<ConnectionGuard>(guard);
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.server_version = super::local::server_version();
        parameters.time_zone = "UTC".into();
        finish_authentication(client, &parameters).await
    }
}
