//! Benchmarks of the whole: `cargo xtask bench`. What they measured is in `RESULTS.md`.

pub mod clock;
pub mod machine;
pub mod options;
pub mod peer;
pub mod platform;
