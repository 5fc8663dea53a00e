//! The named limit of every queue, body and result of this room.

use std::time::Duration;

/// Limits of one [`Endpoint`](crate::Endpoint). The defaults suit one machine and a handful of people.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// How long a request body may take to arrive.
    pub body_wait: Duration,
    /// Open HTTP connections; later ones wait.
    pub http_connections: usize,
    /// Records of one append.
    pub append_records: usize,
    /// Rows of `GET /v1/views/NAME` when `limit` is not given.
    pub view_rows_default: usize,
    /// Rows of `GET /v1/views/NAME` at most.
    pub view_rows_max: usize,
    /// Rows of one `POST /v1/sql`. A larger result breaks off, so that no reader takes a part for the whole.
    pub sql_rows: usize,
    /// Statements that run at the same time, over all protocols.
    pub concurrent_statements: usize,
    /// How long a statement waits for its turn before it is refused.
    pub statement_wait: Duration,
    /// How long a statement of HTTP may run. Postgres clients set their own `statement_timeout`.
    pub statement_timeout: Duration,
    /// Threads of the pool on which statements run, apart from the threads of the sockets. More than cores, so that the
    /// operating system shares the cores when one statement keeps its threads for long.
    pub query_threads: usize,
    /// Open event streams.
    pub event_streams: usize,
    /// Shortest time between two events of one stream of changes.
    pub push_interval: Duration,
    /// Rows that wait for a client's next event; with more it gets the whole view anew.
    pub push_pending_rows: usize,
    /// Rows of a view that is pushed.
    pub push_view_rows: usize,
    /// Silence after which an event stream sends a comment.
    pub keep_alive: Duration,
    /// Time between two events of the status stream.
    pub status_interval: Duration,
    /// Time between two looks at the dashboards for their stream.
    pub dashboards_interval: Duration,
    /// Open Postgres connections.
    pub postgres_connections: usize,
    /// How long open requests may take to finish after the end was asked for.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 * 1024 * 1024,
            body_wait: Duration::from_secs(60),
            http_connections: 1_024,
            append_records: 100_000,
            view_rows_default: 1_000,
            view_rows_max: 100_000,
            sql_rows: 1_000_000,
            concurrent_statements: 8,
            statement_wait: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(300),
            query_threads: 8,
            event_streams: 256,
            push_interval: Duration::from_millis(50),
            push_pending_rows: 100_000,
            push_view_rows: 100_000,
            keep_alive: Duration::from_secs(15),
            status_interval: Duration::from_secs(1),
            dashboards_interval: Duration::from_millis(500),
            postgres_connections: 100,
            shutdown_grace: Duration::from_secs(3),
        }
    }
}
