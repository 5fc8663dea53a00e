//! Laws of the stream engine.

mod acceptance;
mod aggregates;
mod joins;
mod law;
mod operators;
mod oracle;
mod over;
mod ranks;
mod retention;
mod time;
