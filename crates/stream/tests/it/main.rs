//! Laws of the stream engine.

mod joins;
mod law;
mod operators;
mod oracle;
mod ranks;
