//! Laws of the stream engine.

mod law;
mod operators;
mod oracle;
