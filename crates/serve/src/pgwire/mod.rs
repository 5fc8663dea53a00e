//! PostgreSQL's frontend/backend protocol 3.0 and 3.2 (PostgreSQL documentation, chapter "Frontend/Backend Protocol").
//!
//! Wire messages are pgwire's, Arrow encoding is arrow-pg's, `pg_catalog` is datafusion-pg-catalog's. Ours is how
//! they are joined: every statement gets a *fresh* session of the platform (a view made a moment ago is there, a
//! prepared statement reads today's rows), runs on the pool of [`queries`](crate::queries), and streams.
//!
//! | file | subject |
//! |---|---|
//! | `connection` | startup, server parameters, cancel, limits |
//! | `handler` | simple and extended query |
//! | `statement` | what a text is: a read, a command, or something answered here |
//! | `parameters` | types and values of `$1` |
//! | `local` | SET, SHOW, BEGIN, DECLARE, FETCH, … |
//! | `cursors` | what DECLARE keeps for FETCH |
//! | `prepared` | what PREPARE keeps for EXECUTE |
//! | `catalog` | `pg_catalog` over the live catalog |
//! | `relations` | tables of `pg_catalog` that say more here |
//! | `functions` | functions that clients call |
//! | `rewrites` | statements of clients in words that DataFusion has |
//! | `text` | numbers and times as PostgreSQL writes them |
//! | `split` | several statements in one text |
//! | `errors` | our errors as SQLSTATE, message and hint |
//!
//! Not supported: TLS and authentication (so only loopback is served), COPY, LISTEN, scrolling cursors. BEGIN and
//! COMMIT are accepted and do nothing: each statement stands for itself.

mod catalog;
mod connection;
mod cursors;
mod errors;
mod functions;
mod handler;
mod local;
mod parameters;
mod prepared;
mod relations;
mod rewrites;
mod split;
mod statement;
mod text;

pub(crate) use connection::serve;
