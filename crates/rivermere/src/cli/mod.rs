//! The command line: words, options, exit codes.
//!
//! | file | word |
//! |---|---|
//! | `demo` | the flights project, installed and run |
//! | `init` | a new project |
//! | `run` | a project, until Ctrl-C |
//! | `sql` | statements against a running process: one-shot or a prompt |
//! | `check` | a project without running it |
//! | `test` | a project's own tests, on a simulated machine |
//! | `topic` | topics, over Kafka's protocol |
//! | `status` | what a running process does |
//!
//! What was asked for goes to stdout, everything said about it to stderr. Exit codes: 0 done, 1 failed, 2 the command
//! line was wrong. A reader that goes away (`| head`) ends a word quietly with 0.

mod address;
mod check;
mod demo;
mod failure;
mod init;
mod instance;
mod options;
mod ports;
mod run;
mod signals;
mod sql;
mod status;
mod table;
mod terminal;
mod test;
mod topic;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;
use options::Options;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  rivermere demo                              a live dashboard over real flights
  rivermere init orders && rivermere run orders
  rivermere test orders                       its tests, with crashes on the way
  rivermere sql -c 'SELECT * FROM delays_by_airport LIMIT 5'
  rivermere topic consume departures --max 3
  rivermere status

A listener's address is a port (0 takes a free one) or ADDRESS:PORT on this machine.
Options win over the environment, that over rivermere.toml.";

/// Events flow in, are kept, become answers while they move, and open lake tables: one binary.
#[derive(Parser)]
#[command(name = "rivermere", version, after_help = EXAMPLES, max_term_width = 100, disable_help_subcommand = true)]
#[command(subcommand_required = true, arg_required_else_help = true, infer_subcommands = false)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    Demo(demo::Demo),
    Init(init::Init),
    Run(run::Run),
    Sql(sql::Sql),
    Check(check::Check),
    Test(test::TestWord),
    Topic(topic::Topic),
    Status(status::StatusWord),
}

/// Runs the word on the command line.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(told) => return usage(told),
    };
    if let Err(error) = rivermere_store::arm_crash_from_environment() {
        return Failure::new(error.to_string()).usage().report();
    }
    let options = &line.options;
    let done = match line.word {
        Word::Demo(word) => word.run(options),
        Word::Init(word) => word.run(),
        Word::Run(word) => word.run(options),
        Word::Sql(word) => word.run(options),
        Word::Check(word) => word.run(),
        Word::Test(word) => word.run(),
        Word::Topic(word) => word.run(options),
        Word::Status(word) => word.run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Help and version are answers (stdout, 0); everything else clap tells is a wrong command line (stderr, 2).
fn usage(mut told: clap::Error) -> ExitCode {
    suggest_word(&mut told);
    // Nothing can be said about a terminal that is gone.
    let _ = told.print();
    match told.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(failure::USAGE),
    }
}

/// Names the word that was meant. Clap does so for longer slips only; short words are swapped letters.
fn suggest_word(told: &mut clap::Error) {
    if told.kind() != ErrorKind::InvalidSubcommand || told.get(ContextKind::SuggestedSubcommand).is_some() {
        return;
    }
    let Some(ContextValue::String(wrong)) = told.get(ContextKind::InvalidSubcommand).cloned() else { return };
    let all = CommandLine::command();
    let before = std::env::args().skip(1).take_while(|word| *word != wrong);
    let parent = before.fold(&all, |parent, word| parent.find_subcommand(&word).unwrap_or(parent));
    let close = |name: &&str| strsim::damerau_levenshtein(name, &wrong) <= 1 + wrong.chars().count() / 4;
    if let Some(name) = parent.get_subcommands().map(clap::Command::get_name).find(close) {
        told.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name.to_owned()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_word_has_examples() {
        for word in CommandLine::command().get_subcommands() {
            let help = word.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n  rivermere "), "{}: {help}", word.get_name());
        }
    }
}
