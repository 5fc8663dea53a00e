//! `rivermere run`: a project, until Ctrl-C.

use super::failure::{Failure, Outcome};
use super::options::{Options, listeners};
use super::signals::{Signals, exit_on_next};
use super::{ports, terminal};
use clap::Args;
use rivermere::quantities::{bytes, count, rate};
use rivermere::{Assembly, Project};
use rivermere_base::{Doors, SeededRng, SystemClock};
use rivermere_serve::{NodeKind, Status};
use rivermere_store::LocalDisk;
use rivermere_table::Adopt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often the moving line moves.
const MOVING: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  rivermere run                               the project in this folder
  rivermere run flights --http 8081
  rivermere run orders.sql --data /tmp/orders
  rivermere run flights --http 0 --kafka 0 --pg 0       on free ports; `status flights` finds it";

/// Run a project until Ctrl-C: topics, views, tables, live page
#[derive(Args, Debug)]
#[command(name = "run", after_help = EXAMPLES)]
pub struct Run {
    /// The project's folder, or one SQL file
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    path: PathBuf,

    /// Write on to lake tables that another pipeline has written, from the rows they have
    #[arg(long)]
    adopt: bool,

    /// Replace the rows of lake tables that another pipeline has written
    #[arg(long, conflicts_with = "adopt")]
    overwrite: bool,
}

impl Run {
    pub fn run(self, options: &Options) -> Outcome {
        terminal::start_log();
        let adopt = match (self.adopt, self.overwrite) {
            (true, _) => Adopt::Adopt,
            (_, true) => Adopt::Overwrite,
            _ => Adopt::Refuse,
        };
        let project = Project::load(&self.path)?;
        let settings = options.settings(&project, adopt)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(async {
            let mut signals = Signals::new()?;
            let wanted = listeners(&settings);
            let assembly = tokio::select! {
                // Whatever was begun is continued at the next start, as after a crash.
                () = signals.next() => return Err(Failure::new("stopped before it was ready").exit(130)),
                started = Assembly::start(doors(), project, settings) => {
                    started.map_err(|problem| ports::explain(problem, &wanted))?
                }
            };
            match introduce(&assembly) {
                Ok(()) => serve(assembly, signals).await,
                // Nobody can read where it is: it ends as cleanly as it would later.
                Err(error) => assembly.stop().await.map_err(Failure::from).and(Err(error.into())),
            }
        });
        runtime.shutdown_background();
        done
    }
}

/// The machine's clock, randomness and disk.
pub fn doors() -> Doors {
    Doors { clock: Arc::new(SystemClock::new()), rng: Arc::new(SeededRng::from_os()), disk: Arc::new(LocalDisk::new()) }
}

/// How a person would call this program.
pub fn program() -> String {
    if std::env::var_os("CARGO").is_some() {
        return "cargo run --".to_owned();
    }
    std::env::args().next().unwrap_or_else(|| "rivermere".to_owned())
}

/// Addresses, and as the last line a command that works.
fn introduce(assembly: &Assembly) -> io::Result<()> {
    let status = assembly.status();
    let mut out = io::stdout().lock();
    writeln!(out, "{} runs; Ctrl-C ends it", terminal::bold(terminal::harmless(&status.name)))?;
    let addresses = &status.addresses;
    for (what, address) in [("page", &addresses.http), ("kafka", &addresses.kafka), ("pg", &addresses.pg)] {
        if let Some(address) = address {
            writeln!(out, "  {what:<6}{address}")?;
        }
    }
    let url = addresses.http.as_deref().unwrap_or_default();
    let view = status.nodes.iter().rfind(|node| node.kind == NodeKind::View);
    let command = match view {
        Some(view) => format!("sql --url {url} -c 'SELECT * FROM {} LIMIT 5'", sql_name(&view.label)),
        None => format!("status --url {url}"),
    };
    writeln!(out, "try: {} {command}", program())?;
    out.flush()
}

/// A name as SQL writes it.
fn sql_name(name: &str) -> String {
    let is_plain = name.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
        && !name.starts_with(|char: char| char.is_ascii_digit());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Shows what happens until a signal or a failure, and stops.
async fn serve(assembly: Assembly, mut signals: Signals) -> Outcome {
    let failure = loop_until_end(&assembly, &mut signals).await;
    terminal::clear_status();
    if failure.is_none() {
        terminal::tell("stopping: what is pending goes to the tables (Ctrl-C again ends at once, nothing is lost)");
    }
    exit_on_next(signals);
    let stopped = assembly.stop().await;
    match (failure, stopped) {
        (Some(failure), _) => Err(failure),
        (None, Err(problem)) => Err(problem.into()),
        (None, Ok(())) => {
            terminal::tell("stopped");
            Ok(())
        }
    }
}

async fn loop_until_end(assembly: &Assembly, signals: &mut Signals) -> Option<Failure> {
    let mut moving = terminal::Moving::new();
    let mut ticks = interval(MOVING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.next() => return None,
            problem = assembly.failed() => {
                return Some(Failure::from(problem).or_hint("mend the cause and start it again: nothing acknowledged is lost"));
            }
            _ = ticks.tick() => moving.show(&status_line(&assembly.status())),
        }
    }
}

fn status_line(status: &Status) -> String {
    let events: f64 = status.nodes.iter().filter(|node| node.kind == NodeKind::Source).map(|node| node.rate).sum();
    format!(
        "{} events/s   lag {}   epoch {}   {}",
        rate(events),
        count(status.lag),
        count(status.epoch),
        bytes(status.rss_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_when_sql_would_read_them_otherwise() {
        assert_eq!(sql_name("delays_by_airport"), "delays_by_airport");
        assert_eq!([sql_name("Delays"), sql_name("1st"), sql_name("a\"b")], ["\"Delays\"", "\"1st\"", "\"a\"\"b\""]);
    }
}
