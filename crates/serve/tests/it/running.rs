//! An endpoint on free ports, on a runtime of its own.

use crate::memory::Memory;
use rivermere_serve::{Endpoint, Limits, ServeError, Shutdown, Stop};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub struct Running {
    pub memory: Arc<Memory>,
    pub http: SocketAddr,
    pub postgres: SocketAddr,
    stop: Stop,
    runtime: Option<Runtime>,
    served: Vec<JoinHandle<Result<(), ServeError>>>,
}

impl Running {
    pub fn start() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let memory = Memory::new();
        let endpoint = Endpoint::new(memory.clone(), limits).unwrap();
        let (stop, shutdown) = Shutdown::new();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (http, postgres) = (bind(), bind());
        let addresses = (http.local_addr().unwrap(), postgres.local_addr().unwrap());
        let served = vec![
            runtime.spawn(endpoint.clone().serve_http(http, shutdown.clone())),
            runtime.spawn(endpoint.serve_postgres(postgres, shutdown)),
        ];
        Self { memory, http: addresses.0, postgres: addresses.1, stop, runtime: Some(runtime), served }
    }

    /// Asks for the end and waits for it.
    pub fn end(mut self) -> Vec<Result<(), ServeError>> {
        self.stop.stop();
        let served = std::mem::take(&mut self.served);
        let runtime = self.runtime.take().unwrap();
        let ended = runtime.block_on(async {
            let mut ended = Vec::new();
            for server in served {
                ended.push(server.await.unwrap());
            }
            ended
        });
        runtime.shutdown_background();
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
