//! Laws of the stream engine.

mod aggregates;
mod joins;
mod law;
mod operators;
mod oracle;
mod over;
mod ranks;
mod time;
