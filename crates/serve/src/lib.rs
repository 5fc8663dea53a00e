//! Serving: every view is one relation for all protocols, HTTP, server-sent events and Postgres wire.
//!
//! The entry noun is [`Endpoint`]. It holds no data of its own: it knows the platform only through the [`Platform`]
//! trait, and what changes something goes to [`Platform::sql`], the one door for statements.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use rivermere_serve::{Platform, ServeError};
//! # async fn example(platform: Arc<dyn Platform>) -> Result<(), ServeError> {
//! use rivermere_serve::{Endpoint, Limits, Shutdown};
//!
//! let endpoint = Endpoint::new(platform, Limits::default())?;
//! let (stop, shutdown) = Shutdown::new();
//! let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(ServeError::Listener)?;
//! let postgres = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(ServeError::Listener)?;
//! let served = tokio::spawn(endpoint.clone().serve_http(http, shutdown.clone()));
//! let spoken = tokio::spawn(endpoint.serve_postgres(postgres, shutdown));
//! stop.stop();
//! # let _ = (served.await, spoken.await);
//! # Ok(())
//! # }
//! ```
//!
//! | folder | protocol |
//! |---|---|
//! | `http/` | `/v1/…`, JSON, NDJSON and CSV, metrics, the embedded pages |
//! | `push/` | changes of a view, status and dashboards as server-sent events |
//! | `pgwire/` | PostgreSQL's protocol 3.0 |
//! | `dashboards` | `dashboards/*.yaml` to the JSON that the page draws |
//!
//! No protocol folder calls another; what they share is in the files beside them.

mod columns;
pub mod dashboards;
mod endpoint;
mod http;
mod limits;
mod metrics;
mod pages;
mod pgwire;
mod platform;
mod problem;
mod push;
mod queries;
mod rows;
mod shutdown;

pub use dashboards::{Chart, Dashboard, DashboardError, Panel};
pub use endpoint::{Endpoint, router};
pub use limits::Limits;
pub use platform::{
    Addresses, CatalogAsk, CatalogRefusal, ChangeFeed, ChangeId, ChangeIdError, ColumnInfo, FeedStart, NodeKind,
    NodeStatus, Platform, ProblemKind, RunState, SinkStatus, Snapshot, SqlOutput, SqlProblem, Status, ViewChange,
    ViewInfo, WatermarkStatus,
};
pub use problem::ServeError;
pub use rows::{RowFormat, write_rows};
pub use shutdown::{Shutdown, Stop};
