//! The demo: a year of real flights replayed through the whole platform.
//!
//! [`run`] is `init flights` ([`template`]) and an ordinary [`Assembly`] over that folder, with a producer beside it
//! ([`replay`]) that speaks Kafka's protocol to the listener like any other client. Nothing in the platform knows that it
//! is a demo: kill it at any moment and start it again, and it goes on where the topics end.
//!
//! What it has to say goes through a [`Voice`], so that it knows no terminal.

pub mod replay;
mod report;
pub mod template;

use crate::{Assembly, Problem, Project, Settings};
use replay::{Progress, ReplayError, Replayer, Speed};
use report::{Meter, Reach};
use rivermere_base::Doors;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use template::Template;

/// Where the demo's project is written when nothing else is said.
pub const DEFAULT_FOLDER: &str = "flights-demo";

/// How often the moving line moves.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// Time after the listeners are there until the first rates are told, so that there are some.
const FIRST_RATES: Duration = Duration::from_millis(1_500);

/// Settles listeners and the data folder once the project is there: flags, environment, `rivermere.toml`, defaults.
pub type Settle = Box<dyn FnOnce(&Project) -> Result<Settings, Problem> + Send>;

/// What `rivermere demo` was asked for.
pub struct DemoOptions {
    /// The project's folder: written when it is missing or empty, continued when the demo is there already.
    /// [`DEFAULT_FOLDER`] when left out.
    pub folder: Option<PathBuf>,
    /// How fast the year goes by.
    pub speed: Speed,
    pub settle: Settle,
    /// End when the whole year is in every view and table, with time, rates and memory; else it is served until `stop`.
    pub once: bool,
    /// How a person would call this program, for the command that is shown: `rivermere`, or `cargo run --`.
    pub program: String,
}

/// Where the demo says what it does.
pub trait Voice: Send {
    /// A line that stays.
    fn say(&mut self, line: &str);
    /// The line that moves: it takes the place of the one before. An empty one takes it away.
    fn status(&mut self, line: &str);
}

/// Runs the demo until `stop` resolves, or until the year is over when it is to run `once`.
///
/// # Errors
/// When the folder holds something else, a listener's address is taken, or the platform fails on the way.
pub async fn run(
    doors: Doors,
    options: DemoOptions,
    voice: &mut dyn Voice,
    stop: impl Future<Output = ()>,
) -> Result<(), Problem> {
    todo!()
}
