//! `rivermere demo`: the flights project, installed and run.

use super::failure::Outcome;
use super::options::{Options, listeners};
use super::run::{doors, program};
use super::signals::{Signals, exit_on_next};
use super::terminal::Moving;
use super::{ports, terminal};
use clap::Args;
use parking_lot::Mutex;
use rivermere::demo::replay::Speed;
use rivermere::demo::{self, DemoOptions, Voice};
use rivermere_table::Adopt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  rivermere demo                              20,000 times as fast as it was; Ctrl-C ends it
  rivermere demo --speed max                  as fast as this machine can
  rivermere demo --speed max --once           the whole year, then the figures, then the end
  rivermere demo /tmp/flights --http 0 --kafka 0 --pg 0

Started again in the same folder it goes on where it stopped.";

/// Replay a year of real flights through topics, views, tables and a live page
#[derive(Args, Debug)]
#[command(name = "demo", after_help = EXAMPLES)]
pub struct Demo {
    /// The project's folder; written when there is none [default: flights-demo]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,

    /// How many times faster than it was, or max [default: 20000]
    #[arg(long, value_name = "N|max", value_parser = str::parse::<Speed>)]
    speed: Option<Speed>,

    /// End when the whole year is in every view and table
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub fn run(self, options: &Options) -> Outcome {
        terminal::start_log();
        let wanted = Arc::new(Mutex::new(Vec::new()));
        let (kept, flags) = (wanted.clone(), options.clone());
        let asked = DemoOptions {
            folder: self.folder,
            speed: self.speed.unwrap_or_default(),
            settle: Box::new(move |project| {
                let settings = flags.settings(project, Adopt::Refuse)?;
                kept.lock().extend(listeners(&settings));
                Ok(settings)
            }),
            once: self.once,
            program: program(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut voice = TerminalVoice { failed: None, moving: Moving::new() };
        let done = runtime.block_on(async {
            let mut signals = Signals::new()?;
            let stop = async move {
                signals.next().await;
                terminal::clear_status();
                terminal::tell(
                    "stopping: what is pending goes to the tables (Ctrl-C again ends at once, nothing is lost)",
                );
                exit_on_next(signals);
            };
            demo::run(doors(), asked, &mut voice, stop).await.map_err(|problem| ports::explain(problem, &wanted.lock()))
        });
        terminal::clear_status();
        runtime.shutdown_background();
        match voice.failed {
            Some(error) if done.is_ok() => Err(error.into()),
            _ => done,
        }
    }
}

/// Lines that stay go to stdout, the one that moves to stderr.
struct TerminalVoice {
    /// Why stdout took no more; the demo goes on without it.
    failed: Option<io::Error>,
    moving: Moving,
}

impl Voice for TerminalVoice {
    fn say(&mut self, line: &str) {
        if self.failed.is_some() {
            return;
        }
        let written = terminal::above_status(|| {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())
        });
        self.failed = written.err();
    }

    fn status(&mut self, line: &str) {
        if line.is_empty() { terminal::clear_status() } else { self.moving.show(line) }
    }
}
