//! `rivermere sql`: statements against a running process, one after the other or at a prompt.

mod answer;
mod caret;
mod commands;
mod embedded;
mod prompt;
mod split;

use super::failure::{Failure, Outcome};
use super::instance::{Instance, Which, read_instance};
use super::options::Options;
use super::terminal;
use answer::Shown;
use clap::{Args, ValueEnum};
use embedded::Embedded;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::PathBuf;

/// The longest script.
const MAX_SCRIPT_BYTES: u64 = 16 << 20;

const EXAMPLES: &str = "\
Examples:
  rivermere sql                               a prompt; \\? lists what it knows
  rivermere sql -c 'SELECT * FROM delays_by_airport ORDER BY avg_delay DESC LIMIT 5'
  rivermere sql -c 'SELECT COUNT(*) AS n FROM departures' --output json | jq '.[0].n'
  rivermere sql -f report.sql --output csv > report.csv
  echo 'SHOW VIEWS' | rivermere sql flights
  rivermere sql --url http://127.0.0.1:8080

Several statements are separated by semicolons; the first that fails ends the command with exit
code 1. When the project does not run, it is started for the statements and stopped after them.";

/// Run SQL against a project: one-shot, or at a prompt
#[derive(Args, Debug)]
#[command(name = "sql", after_help = EXAMPLES)]
pub struct Sql {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,

    /// Run these statements and end
    #[arg(short, long, value_name = "SQL")]
    command: Option<String>,

    /// Run the statements of a file and end
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,

    /// How rows are written: a table, an array of objects, or RFC 4180 with a header
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,

    #[command(flatten)]
    which: Which,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Csv,
}

/// Statements in a text that is not the terminal's.
struct Script {
    /// What errors call it.
    name: String,
    text: String,
}

impl Sql {
    pub fn run(self, options: &Options) -> Outcome {
        let script = self.script()?;
        terminal::start_log();
        if self.which.url.is_none() && self.is_idle_project(options)? {
            let embedded = Embedded::start(options, &self.folder)?;
            let done = embedded.instance().and_then(|instance| self.answer(&instance, script));
            return embedded.stop(done);
        }
        self.answer(&Instance::find(&self.which, options, &self.folder)?, script)
    }

    fn answer(&self, instance: &Instance, script: Option<Script>) -> Outcome {
        match script {
            Some(script) => run_script(instance, &script, self.output),
            None => prompt::run(instance, self.output),
        }
    }

    /// Whether the folder holds a project that does not run.
    fn is_idle_project(&self, options: &Options) -> Result<bool, Failure> {
        let is_project =
            self.folder.is_file() || self.folder.join("rivermere.toml").is_file() || self.folder.join("sql").is_dir();
        Ok(is_project && read_instance(&options.data_folder(&self.folder)?)?.is_none())
    }

    /// What to run; `None` is the prompt.
    fn script(&self) -> Result<Option<Script>, Failure> {
        if let Some(text) = &self.command {
            return Ok(Some(Script { name: "command".to_owned(), text: text.clone() }));
        }
        if let Some(path) = &self.file {
            let name = path.display().to_string();
            let unreadable = |error| Failure::new(format!("RM-7140: {name} could not be read: {error}"));
            let text = std::fs::File::open(path).map_err(unreadable).and_then(|file| read_text(file, &name))?;
            return Ok(Some(Script { name, text }));
        }
        if io::stdin().is_terminal() {
            return Ok(None);
        }
        Ok(Some(Script { name: "stdin".to_owned(), text: read_text(io::stdin(), "stdin")? }))
    }
}

fn read_text(input: impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = input.take(MAX_SCRIPT_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::new(format!("RM-7140: {name} could not be read: {error}")))?;
    if text.len() as u64 > MAX_SCRIPT_BYTES {
        return Err(Failure::new(format!("RM-7140: {name} has more than {MAX_SCRIPT_BYTES} bytes")));
    }
    Ok(text)
}

fn run_script(instance: &Instance, script: &Script, output: Output) -> Outcome {
    let statements = split::statements(&script.text);
    if statements.is_empty() {
        return Err(Failure::new("RM-7141: there is no statement").hint("for example: rivermere sql -c 'SHOW VIEWS'"));
    }
    let several = statements.len() > 1;
    let mut out = BufWriter::new(io::stdout().lock());
    for statement in statements {
        let done = answer::run(instance, statement.text, output, Shown::All, &mut out);
        if let Err(failure) = done {
            // Rows of earlier statements come before the error.
            out.flush()?;
            let place = several.then(|| format!("{}, statement at line {}", script.name, statement.line));
            return Err(failure.in_statement(place.as_deref()));
        }
    }
    out.flush()?;
    Ok(())
}
